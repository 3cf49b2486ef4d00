#!/usr/bin/env python3
"""Writes the operator test cases of the onnx package as one tar for `stitchkit operators --cases`.

    pip install onnx
    python tests/onnx_cases.py --out cases.tar            every case of the default domain
    python tests/onnx_cases.py --out tests/onnx-cases.tar --small --operators "$(stitchkit operators --names)"

Each file of the tar is the case's model, with the values of its inputs as initializers and its expected outputs as
initializers named expected/OUTPUT. --small keeps what is stored in this repository: for every operator the smallest
cases, at most 8 of them.
"""
import argparse
import collections
import io
import tarfile
import warnings

import numpy
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

LARGEST_SMALL_BYTES = 2500
MOST_PER_OPERATOR = 8


def with_data(case):
    """The model with its first data set inside; None where a value is not a tensor."""
    inputs, outputs = case.data_sets[0]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    model.graph.ClearField("value_info")
    model.ClearField("producer_name")
    names = [info.name for info in model.graph.input], [f"expected/{info.name}" for info in model.graph.output]
    for name, value in zip(names[0] + names[1], list(inputs) + list(outputs)):
        if not isinstance(value, (numpy.ndarray, numpy.generic)) or value.dtype == object:
            return None
        model.graph.initializer.append(numpy_helper.from_array(numpy.asarray(value), name))
    return model


def small(files, operators):
    """For every operator its smallest cases, in the order of their names."""
    taken = collections.Counter()
    kept = {}
    for name, (used, data) in sorted(files.items(), key=lambda item: len(item[1][1])):
        if len(data) > LARGEST_SMALL_BYTES or not used <= operators or "_expanded" in name:
            continue
        if any(taken[op] < MOST_PER_OPERATOR for op in used):
            taken.update(used)
            kept[name] = (used, data)
    return kept


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--operators", default="", help="with --small: the operators to keep, with spaces between")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    files = {}
    for case in load_model_tests(kind="node"):
        used = {node.op_type for node in case.model.graph.node}
        if any(node.domain not in ("", "ai.onnx") for node in case.model.graph.node) or not case.data_sets:
            continue
        model = with_data(case)
        if model is not None:
            files[case.name.removeprefix("test_")] = used, model.SerializeToString(deterministic=True)
    if arguments.small:
        files = small(files, set(arguments.operators.split()))
    with tarfile.open(arguments.out, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            info = tarfile.TarInfo(name)
            info.size = len(files[name][1])
            tar.addfile(info, io.BytesIO(files[name][1]))
    print(f"{len(files)} cases in {arguments.out}")


if __name__ == "__main__":
    main()
