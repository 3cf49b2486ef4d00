#!/usr/bin/env bash
# From nothing to a bundle: exports the digits family, shows it, and classifies a picture with three memory limits.
set -euo pipefail
cd "$(dirname "$0")/.."
tests/setup.sh host
cargo build --release -p stitchkit
stitchkit="${CARGO_TARGET_DIR:-target}/release/stitchkit"
run() { printf '\n$ stitchkit %s\n' "$*"; "$stitchkit" "$@"; }
run stitches models/digits
run export models/digits --out digits.stk
run inspect digits.stk
run eval digits.stk --data models/digits/digits.npz
run run digits.stk --input models/digits/sample.png
run select digits.stk --memory 5KiB
run verify digits.stk
