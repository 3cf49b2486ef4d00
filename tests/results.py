#!/usr/bin/env python3
"""Compares the results of an export with committed ones.

    results.py COMMITTED NEW

Float arithmetic that rounds in another order moves a few answers, and with them which of two nearly equal plans is kept:
accuracies may differ by 0.3 points, and up to a fifth of the plans may be in one file alone. What does not depend on floats,
MACs, parameters and arena of a path, must be equal.
"""
import json
import sys

EXACT = ("macs", "params", "arena_bytes")
ACCURACIES = ("accuracy_float", "accuracy_int8")

old, new = ({p["path"]: p for p in json.load(open(path))["plans"]} for path in sys.argv[1:3])
wrong = [f"{path}: {key} {old[path][key]}, now {new[path][key]}"
         for path in old.keys() & new.keys() for key in EXACT if old[path][key] != new[path][key]]
wrong += [f"{path}: {key} {100 * old[path][key]:.2f} %, now {100 * new[path][key]:.2f} %"
          for path in old.keys() & new.keys() for key in ACCURACIES if abs(old[path][key] - new[path][key]) > 0.003]
lone = sorted(old.keys() ^ new.keys())
if len(lone) > len(old) // 5:
    wrong += [f"{path}: only in {sys.argv[1 if path in old else 2]}" for path in lone]
print(f"{len(old)} plans committed, {len(new)} now, {len(lone)} of them in one file alone")
sys.exit("\n".join(wrong) or 0)
