"""Writes timm models as ONNX anchors for stitchkit.

    pip install timm onnx onnxscript onnxruntime
    python recipe.py deit_tiny_patch16_224 --out deit-ti.onnx
    python recipe.py resnet18 --checkpoint mine.pth --out resnet18.onnx
    python recipe.py deit3_large_patch16_224 --structure --out deit3-l.structure.onnx

Weights are random unless --checkpoint (a state dict) or --pretrained (timm's own) is given. Counting needs no weights:
--structure replaces every large weight and index table by a ConstantOfShape node, so that the file holds the graph alone.
It is still a valid ONNX model. --strip does the same to a model that was exported before.

Batch norms stay in the file, so that the papers' operation counts can be taken from it; stitchkit folds them.
"""

import argparse
import pathlib
import tempfile

import numpy
import onnx
import timm
import torch
from onnx import helper, numpy_helper

LARGEST_KEPT_FLOATS = 64
LARGEST_KEPT_INTEGERS = 1024


def export(model, size, arguments, path):
    image = torch.zeros(1, 3, size, size)
    options = {"input_names": ["image"], "output_names": ["logits"], "opset_version": arguments.opset}
    symbolic = arguments.batch == "symbolic"
    if arguments.exporter == "dynamo":
        shapes = ({0: torch.export.Dim("batch", min=1, max=1024)},) if symbolic else None
        torch.onnx.export(model, (image,), str(path), dynamo=True, external_data=True, optimize=False,
                          dynamic_shapes=shapes, **options)
        return
    torch.onnx.export(
        model, (image,), str(path), dynamo=False, do_constant_folding=arguments.fold,
        training=torch.onnx.TrainingMode.PRESERVE, dynamic_axes={"image": {0: "batch"}} if symbolic else None, **options,
    )


def is_large(tensor):
    count = 1
    for extent in tensor.dims:
        count *= extent
    limits = {onnx.TensorProto.FLOAT: LARGEST_KEPT_FLOATS, onnx.TensorProto.INT64: LARGEST_KEPT_INTEGERS}
    return tensor.data_type in limits and count > limits[tensor.data_type]


def filled(tensor, name, fill):
    """The extents of a tensor, and a node that makes one of them full of one number. Parameters are filled with a number
    that is not zero, by which stitchkit tells them from masks and tables."""
    dims = numpy_helper.from_array(numpy.array(tensor.dims, dtype="int64"), f"{name}s")
    value = helper.make_tensor("value", tensor.data_type, [1], [fill])
    return dims, helper.make_node("ConstantOfShape", [f"{name}s"], [name], value=value)


def strip(model):
    """The graph without its large weights and index tables, equal constants once, names shortened, no metadata."""
    graph = model.graph
    names = {graph.input[0].name: graph.input[0].name, graph.output[0].name: graph.output[0].name}

    def short(name):
        if name == "":
            return name
        return names.setdefault(name, f"t{len(names)}")

    used = {name for node in graph.node for name in node.input}
    kept, fills, nodes, known = [], [], [], {}
    for tensor in graph.initializer:
        if tensor.name not in used:
            continue
        name = short(tensor.name)
        if not is_large(tensor):
            kept.append(numpy_helper.from_array(numpy_helper.to_array(tensor), name))
            continue
        dims, fill = filled(tensor, name, 0.01 if tensor.data_type == onnx.TensorProto.FLOAT else 0)
        kept.append(dims)
        fills.append(fill)
    for node in graph.node:
        value = node.attribute[0].t if node.op_type == "Constant" and node.attribute[0].HasField("t") else None
        if value is not None and is_large(value):
            dims, fill = filled(value, short(node.output[0]), 0)
            kept.append(dims)
            nodes.append(fill)
            continue
        if node.op_type == "Constant" and node.output[0] not in names:
            same = known.setdefault(node.attribute[0].SerializeToString(), node.output[0])
            if same != node.output[0]:
                names[node.output[0]] = short(same)
                continue
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.ClearField("metadata_props")
        copy.ClearField("doc_string")
        copy.name = ""
        del copy.input[:], copy.output[:]
        copy.input.extend(short(name) for name in node.input)
        copy.output.extend(short(name) for name in node.output)
        nodes.append(copy)
    stripped = helper.make_graph(fills + nodes, "structure", list(graph.input), list(graph.output), kept)
    return helper.make_model(stripped, opset_imports=model.opset_import, ir_version=model.ir_version)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a name from timm.list_models(); with --strip an ONNX file")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--exporter", choices=["torchscript", "dynamo"], default="torchscript")
    parser.add_argument("--batch", choices=["symbolic", "1"], help="default: symbolic for torchscript, 1 for dynamo")
    parser.add_argument("--fold", action="store_true",
                        help="let the torchscript exporter fold constants, batch norms included")
    parser.add_argument("--opset", type=int, default=18)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--checkpoint", type=pathlib.Path, help="state dict to load")
    parser.add_argument("--pretrained", action="store_true", help="download timm's weights")
    parser.add_argument("--structure", action="store_true", help="write the graph without weights")
    parser.add_argument("--strip", action="store_true", help="MODEL is an ONNX file; write its graph without weights")
    arguments = parser.parse_args()
    arguments.batch = arguments.batch or ("1" if arguments.exporter == "dynamo" else "symbolic")
    if arguments.strip:
        onnx.save(strip(onnx.load(arguments.model)), arguments.out)
        return

    torch.manual_seed(0)
    model = timm.create_model(arguments.model, pretrained=arguments.pretrained, num_classes=arguments.classes).eval()
    if arguments.checkpoint:
        state = torch.load(arguments.checkpoint, map_location="cpu", weights_only=True)
        model.load_state_dict(state.get("model", state))
    if not arguments.structure:
        export(model, arguments.size, arguments, arguments.out)
        return
    with tempfile.TemporaryDirectory() as folder:
        whole = pathlib.Path(folder) / "model.onnx"
        export(model, arguments.size, arguments, whole)
        onnx.save(strip(onnx.load(whole)), arguments.out)


if __name__ == "__main__":
    main()
