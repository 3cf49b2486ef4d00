"""Gradients of the training engine against PyTorch autograd, on ONNX networks.

usage: train-oracle.py TRAIN_BENCH [--store FILE] MODEL.onnx...

TRAIN_BENCH is the built example of host-tools. Both sides run the same three inputs and the same linear loss; batch norms are
folded into the convolutions before them, as at import. Fails if an output differs by more than 1e-4 or a gradient by more
than 1e-3, relative to the largest of its tensor. --store writes samples of PyTorch's gradients for the tests that run
without it.
"""
import argparse
import json
import math
import subprocess
import sys

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper


def pattern(count):
    return ((np.arange(count, dtype=np.int64) * 7919 % 2003).astype(np.float32) / np.float32(1001.5)) - np.float32(1)


def attributes(node):
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def fold_norms(graph, constants):
    """Removes batch norms by scaling the convolutions before them; everything else stays."""
    producers = {name: node for node in graph.node for name in node.output}
    kept, renamed = [], {}
    for node in graph.node:
        if node.op_type != "BatchNormalization":
            kept.append(node)
            continue
        conv = producers[node.input[0]]
        scale, shift, mean, variance = (constants[name].astype(np.float64) for name in node.input[1:5])
        factor = scale / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
        weights = constants[conv.input[1]].astype(np.float64)
        bias = constants[conv.input[2]].astype(np.float64) if len(conv.input) > 2 else 0.0
        constants[conv.input[1]] = (weights * factor.reshape(-1, 1, 1, 1)).astype(np.float32)
        name = conv.output[0] + "/bias"
        constants[name] = ((bias - mean) * factor + shift).astype(np.float32)
        del conv.input[2:]
        conv.input.append(name)
        renamed[node.output[0]] = conv.output[0]
    for node in kept:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
    return kept


def run(nodes, values):
    """Executes ONNX nodes with torch."""
    for node in nodes:
        a, x = attributes(node), [values[name] if name else None for name in node.input]
        op = node.op_type
        ints = lambda t: [int(v) for v in t.detach().reshape(-1).tolist()]
        if op == "Constant":
            y = torch.from_numpy(numpy_helper.to_array(a["value"]).copy())
        elif op == "Conv":
            top, left, bottom, right = a.get("pads", [0] * 4)
            padded = F.pad(x[0], (left, right, top, bottom))
            bias = x[2] if len(x) > 2 else None
            y = F.conv2d(padded, x[1], bias, a.get("strides", 1), 0, a.get("dilations", 1), a.get("group", 1))
        elif op == "Gemm":
            y = x[0] @ (x[1].T if a.get("transB") else x[1]) + x[2]
        elif op == "MatMul":
            y = x[0] @ x[1]
        elif op in ("Add", "Mul", "Sub", "Div"):
            y = {"Add": torch.add, "Mul": torch.mul, "Sub": torch.sub, "Div": torch.div}[op](x[0], x[1])
        elif op == "Relu":
            y = F.relu(x[0])
        elif op == "Clip":
            y = torch.clamp(x[0], float(x[1]), float(x[2]))
        elif op == "Erf":
            y = torch.erf(x[0])
        elif op == "GlobalAveragePool":
            y = x[0].mean((2, 3), keepdim=True)
        elif op in ("MaxPool", "AveragePool"):
            assert not any(a.get("pads", [0])), "padded pools are not shipped"
            pool = F.max_pool2d if op == "MaxPool" else F.avg_pool2d
            y = pool(x[0], a["kernel_shape"], a.get("strides", 1))
        elif op == "Flatten":
            y = x[0].flatten(1)
        elif op == "Reshape":
            y = x[0].reshape([x[0].shape[0]] + ints(x[1])[1:])
        elif op == "Transpose":
            y = x[0].permute(a["perm"])
        elif op == "Gather":
            y = x[0].select(a["axis"], int(x[1]))
        elif op == "Softmax":
            y = F.softmax(x[0], a.get("axis", -1))
        elif op == "LayerNormalization":
            y = F.layer_norm(x[0], x[1].shape, x[1], x[2], a.get("epsilon", 1e-5))
        elif op == "ReduceMean":
            y = x[0].mean(ints(x[1]) if len(x) > 1 else a["axes"], keepdim=bool(a.get("keepdims", 1)))
        else:
            sys.exit(f"{op} is not known to this script")
        values[node.output[0]] = y
    return y


def oracle(path, shape):
    """Outputs and the gradients of all float constants, as (values, gradient)."""
    graph = onnx.load(path).graph
    constants = {i.name: numpy_helper.to_array(i).copy() for i in graph.initializer}
    nodes = fold_norms(graph, constants)
    values = {}
    for name, array in constants.items():
        values[name] = torch.from_numpy(array.copy())
        if array.dtype == np.float32:
            values[name].requires_grad_(True)
    x = torch.from_numpy(pattern(3 * math.prod(shape))).reshape(3, *shape)
    values[graph.input[0].name] = x.permute(0, 3, 1, 2) if len(shape) == 3 else x
    outputs = run(nodes, values)
    (outputs.flatten() * torch.from_numpy(pattern(outputs.numel()))).sum().backward()
    leaves = [values[name] for name in constants if values[name].grad is not None]
    return outputs.detach().numpy().ravel(), [(v.detach().numpy(), v.grad.numpy()) for v in leaves]


def layouts(array):
    """The orders in which the engine may keep a constant."""
    yield array
    if array.ndim == 4:
        yield array.transpose(0, 2, 3, 1)
    if array.ndim == 2:
        yield array.T


def match(param, leaves):
    """PyTorch's gradient of the constant that has the parameter's values; the nearest one where several do."""
    ours, gradient = np.array(param["values"], np.float32), np.array(param["gradient"], np.float32)
    found = []
    for values, theirs in leaves:
        if values.size == ours.size:
            for order, (v, g) in enumerate(zip(layouts(values), layouts(theirs))):
                if np.allclose(v.ravel(), ours, rtol=1e-5, atol=1e-6):
                    found.append((float(np.abs(g.ravel() - gradient).max()), g.ravel()))
    return min(found, key=lambda f: f[0])[1] if found else None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--store")
    arguments = parser.parse_args()
    stored, failed = {}, False
    for path in arguments.models:
        ours = json.loads(subprocess.run([arguments.bench, "gradients", path], check=True, capture_output=True).stdout)
        outputs, leaves = oracle(path, ours["input_shape"])
        off = float(np.abs(outputs - np.array(ours["outputs"])).max())
        worst, matched = 0.0, 0
        stored[path.split("/")[-1]] = entry = {"outputs": [float(f"{v:.7g}") for v in outputs], "gradients": {}}
        for param in ours["params"]:
            theirs = match(param, leaves)
            if theirs is None:
                # Fillers (a bias the file does not have) and constants made by folding have no counterpart.
                continue
            matched += 1
            largest = float(np.abs(theirs).max())
            worst = max(worst, float(np.abs(theirs - np.array(param["gradient"])).max()) / max(largest, 1e-6))
            step = max(1, theirs.size // 8)
            entry["gradients"][param["name"]] = {
                "largest": largest,
                "step": step,
                "samples": [float(f"{v:.7g}") for v in theirs[::step]],
            }
        bad = worst > 1e-3 or off > 1e-4 * max(1.0, float(np.abs(outputs).max())) or matched < len(ours["params"]) * 0.7
        failed |= bad
        print(f"{path}: outputs within {off:.1e}, {matched} of {len(ours['params'])} gradients within {worst:.1e}", "FAILED" if bad else "")
    if arguments.store:
        with open(arguments.store, "w") as file:
            json.dump(stored, file, separators=(",", ":"))
            file.write("\n")
    sys.exit(failed)


main()
