#!/usr/bin/env python3
"""Networks for comparing runtimes, and a runner for the other ones.

    peers.py make FOLDER                  write ResNet-8, MobileNetV2 0.35 (96x96) and DeiT-Ti, with random weights:
                                          NAME/NAME.onnx and a family.toml for stitchkit, NAME.int8.onnx, NAME.int8.tflite
    peers.py run ort|litert MODEL COUNT   run COUNT inferences on one thread; print their processor time in seconds

`make` needs numpy, onnx, onnxruntime and ai-edge-litert; `run` numpy and the runtime. All three files of a network have the same layers
in the same order; weights and scales of the .tflite are drawn again, which changes no instruction.
"""

import os
import sys
import time

import numpy as np

IMAGES = 32


def resnet8():
    """MLPerf Tiny's image classification network: layers as (kind, inputs, parameters)."""
    net = Net((32, 32, 3))
    x = net.conv(net.input, 3, 1, 16, "relu")
    for channels, stride in [(16, 1), (32, 2), (64, 2)]:
        y = net.conv(x, 3, stride, channels, "relu")
        y = net.conv(y, 3, 1, channels, None)
        if stride != 1:
            x = net.conv(x, 1, stride, channels, None)
        x = net.add(y, x, "relu")
    net.dense(net.mean(x), 10)
    return net


def mobilenetv2():
    """MobileNetV2 of width 0.35 over 96x96 images, 10 classes."""
    net = Net((96, 96, 3))
    x = net.conv(net.input, 3, 2, 16, "relu6")
    x = net.conv(net.depthwise(x, 1), 1, 1, 8, None)
    channels = 8
    for factor, to, repeats, stride in [
        (6, 8, 2, 2), (6, 16, 3, 2), (6, 24, 4, 2), (6, 32, 3, 1), (6, 56, 3, 2), (6, 112, 1, 1),
    ]:
        for i in range(repeats):
            y = net.conv(x, 1, 1, channels * factor, "relu6")
            y = net.depthwise(y, stride if i == 0 else 1)
            y = net.conv(y, 1, 1, to, None)
            x = net.add(x, y, None) if (i > 0) else y
            channels = to
    x = net.conv(x, 1, 1, 1280, "relu6")
    net.dense(net.mean(x), 10)
    return net


def deit_ti():
    """DeiT-Ti over 224x224 images, 1000 classes."""
    import peers_vit

    return peers_vit.Vit()


NETWORKS = {"resnet8": resnet8, "mobilenetv2": mobilenetv2, "deit-ti": deit_ti}


class Net:
    """A list of layers over values that are known by their index; shapes are (height, width, channels)."""

    def __init__(self, shape):
        self.shapes = [shape]
        self.layers = []
        self.input = 0
        self.random = np.random.default_rng(1)

    def _put(self, layer, shape):
        self.layers.append(layer)
        self.shapes.append(shape)
        return len(self.shapes) - 1

    def _window(self, x, kernel, stride):
        """Output extents and padding (before, after) per axis, as TensorFlow's SAME."""
        extents, pads = [], []
        for n in self.shapes[x][:2]:
            out = -(-n // stride)
            total = max((out - 1) * stride + kernel - n, 0)
            extents.append(out)
            pads.append((total // 2, total - total // 2))
        return extents, pads

    def _weights(self, *shape):
        fan_in = np.prod(shape[1:])
        return (self.random.standard_normal(shape) * (2 / fan_in) ** 0.5).astype(np.float32)

    def conv(self, x, kernel, stride, channels, act):
        (h, w), pads = self._window(x, kernel, stride)
        weights = self._weights(channels, kernel, kernel, self.shapes[x][2])
        bias = (self.random.standard_normal(channels) * 0.1).astype(np.float32)
        return self._put(("conv", [x], weights, bias, stride, pads, act), (h, w, channels))

    def depthwise(self, x, stride):
        (h, w), pads = self._window(x, 3, stride)
        channels = self.shapes[x][2]
        weights = self._weights(channels, 3, 3, 1)
        bias = (self.random.standard_normal(channels) * 0.1).astype(np.float32)
        return self._put(("depthwise", [x], weights, bias, stride, pads, "relu6"), (h, w, channels))

    def add(self, a, b, act):
        return self._put(("add", [a, b], act), self.shapes[a])

    def mean(self, x):
        return self._put(("mean", [x]), (1, 1, self.shapes[x][2]))

    def dense(self, x, classes):
        weights = self._weights(classes, self.shapes[x][2])
        bias = (self.random.standard_normal(classes) * 0.1).astype(np.float32)
        return self._put(("dense", [x], weights, bias), (1, 1, classes))

    def to_onnx(self, path):
        to_onnx(self, path)

    def to_int8_tflite(self, path):
        to_int8_tflite(self, path)

    def macs(self):
        total = 0
        for layer, (h, w, c) in zip(self.layers, self.shapes[1:]):
            if layer[0] in ("conv", "depthwise", "dense"):
                total += h * w * c * int(np.prod(layer[2].shape[1:]))
        return total


def to_onnx(net, path):
    """Float ONNX, NCHW."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, tensors = [], []
    names = ["input"]

    def constant(name, value):
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    for i, layer in enumerate(net.layers):
        kind, inputs = layer[0], [names[x] for x in layer[1]]
        out = f"{kind}_{i}"
        act = None
        if kind in ("conv", "depthwise"):
            _, _, weights, bias, stride, ((top, bottom), (left, right)), act = layer
            w = constant(f"{out}_w", weights.transpose(0, 3, 1, 2))
            b = constant(f"{out}_b", bias)
            y = node("Conv", [*inputs, w, b], out, kernel_shape=list(weights.shape[1:3]), strides=[stride, stride],
                     pads=[top, left, bottom, right], group=len(bias) if kind == "depthwise" else 1)
        elif kind == "add":
            act = layer[2]
            y = node("Add", inputs, out)
        elif kind == "mean":
            y = node("Flatten", [node("GlobalAveragePool", inputs, out)], f"{out}_flat")
        else:
            y = node("Gemm", [*inputs, constant(f"{out}_w", layer[2]), constant(f"{out}_b", layer[3])], out, transB=1)
        if act == "relu":
            y = node("Relu", [y], f"{out}_relu")
        elif act == "relu6":
            low, high = constant(f"{out}_0", np.float32(0)), constant(f"{out}_6", np.float32(6))
            y = node("Clip", [y, low, high], f"{out}_relu6")
        names.append(y)
    h, w, c = net.shapes[0]
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, c, h, w])],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, [1, net.shapes[-1][2]])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def to_int8_onnx(net, float_path, path, images):
    """ONNX Runtime's own static quantization: int8 activations, int8 weights per channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.left = [{"input": x[None].transpose(0, 3, 1, 2).astype(np.float32) / 255} for x in images]

        def get_next(self):
            return self.left.pop() if self.left else None

    quantize_static(float_path, path, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QInt8, weight_type=QuantType.QInt8)


def to_int8_tflite(net, path):
    """The layers with int8 weights and plausible scales, drawn here."""
    from peers_tflite import Writer, operators, schema

    writer = Writer(net.random)
    tensor, operator = writer.tensor, writer.operator

    def constants(name, layer, kernel_shape, axis):
        """Weights and biases of a layer over an input of scale 0.05."""
        channels = kernel_shape[axis]
        weights = net.random.integers(-127, 128, kernel_shape, dtype=np.int8)
        scales = [0.02 / np.prod(layer[2].shape[1:]) ** 0.5] * channels
        bias = net.random.integers(-1000, 1000, channels, dtype=np.int32)
        return [tensor(f"{name}_w", kernel_shape, schema.TensorType.INT8, scales, 0, weights, axis),
                tensor(f"{name}_b", [channels], schema.TensorType.INT32, [0.05 * s for s in scales], 0, bias)]

    act_codes = {None: schema.ActivationFunctionType.NONE, "relu": schema.ActivationFunctionType.RELU,
                 "relu6": schema.ActivationFunctionType.RELU6}
    int8 = schema.TensorType.INT8
    names = [tensor("input", [1, *net.shapes[0]], int8, [0.05], 0)]
    for i, (layer, shape) in enumerate(zip(net.layers, net.shapes[1:])):
        kind, inputs = layer[0], [names[x] for x in layer[1]]
        act = layer[6] if kind in ("conv", "depthwise") else layer[2] if kind == "add" else None
        flat = kind in ("mean", "dense")
        zero_point = -128 if act else 0
        if kind == "mean":
            zero_point = writer.graph.tensors[inputs[0]].quantization.zeroPoint[0]
        out = tensor(f"{kind}_{i}", [1, shape[2]] if flat else [1, *shape], int8, [0.05], zero_point)
        if kind in ("conv", "depthwise"):
            depthwise = kind == "depthwise"
            options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
            options.padding, options.strideW, options.strideH = schema.Padding.SAME, layer[4], layer[4]
            options.dilationWFactor = options.dilationHFactor = 1
            options.fusedActivationFunction = act_codes[act]
            o, h, w, c = layer[2].shape
            if depthwise:
                options.depthMultiplier = 1
                inputs += constants(f"{kind}_{i}", layer, (1, h, w, o), 3)
                operator(operators.DEPTHWISE_CONV_2D, schema.BuiltinOptions.DepthwiseConv2DOptions, options, inputs, out, 3)
            else:
                inputs += constants(f"{kind}_{i}", layer, (o, h, w, c), 0)
                operator(operators.CONV_2D, schema.BuiltinOptions.Conv2DOptions, options, inputs, out, 3)
        elif kind == "add":
            options = schema.AddOptionsT()
            options.fusedActivationFunction = act_codes[act]
            operator(operators.ADD, schema.BuiltinOptions.AddOptions, options, inputs, out, 2)
        elif kind == "mean":
            options = schema.ReducerOptionsT()
            options.keepDims = False
            axes = tensor(f"{kind}_{i}_axes", [2], schema.TensorType.INT32, [], 0, np.array([1, 2], np.int32))
            operator(operators.MEAN, schema.BuiltinOptions.ReducerOptions, options, [*inputs, axes], out, 2)
        else:
            options = schema.FullyConnectedOptionsT()
            # Per tensor: what interpreters of any age take.
            weights = net.random.integers(-127, 128, layer[2].shape, dtype=np.int8)
            bias = net.random.integers(-1000, 1000, len(layer[3]), dtype=np.int32)
            inputs += [tensor(f"{kind}_{i}_w", layer[2].shape, int8, [0.002], 0, weights),
                       tensor(f"{kind}_{i}_b", bias.shape, schema.TensorType.INT32, [0.0001], 0, bias)]
            operator(operators.FULLY_CONNECTED, schema.BuiltinOptions.FullyConnectedOptions, options, inputs, out, 4)
        names.append(out)
    writer.write(path, names[0], names[-1])


def to_family(net, name, folder, images):
    """A family of one network for `stitchkit export`."""
    np.savez(f"{folder}/images.npz", x=images, y=np.zeros(len(images), np.uint8) + np.arange(len(images), dtype=np.uint8) % 10)
    h, w, c = net.shapes[0]
    with open(f"{folder}/family.toml", "w") as file:
        file.write(f'''schema = 1
name = "{name}"
description = "{name} with random weights, for counting instructions"

[input]
shape = [{h}, {w}, {c}]
layout = "nchw"
scale = 0.00392156862745098
mean = [0.0, 0.0, 0.0]
std = [1.0, 1.0, 1.0]

[[anchors]]
name = "{name}"
model = "{name}.onnx"
cuts = []

[calibration]
data = "images.npz"
images = {len(images) // 2}

[evaluation]
data = "images.npz"
''')


def make(folder):
    for name, network in NETWORKS.items():
        net = network()
        family = f"{folder}/{name}"
        os.makedirs(family, exist_ok=True)
        images = net.random.integers(0, 256, (IMAGES, *net.shapes[0]), dtype=np.uint8)
        net.to_onnx(f"{family}/{name}.onnx")
        to_int8_onnx(net, f"{family}/{name}.onnx", f"{folder}/{name}.int8.onnx", images)
        net.to_int8_tflite(f"{folder}/{name}.int8.tflite")
        to_family(net, name, family, images)
        print(f"{name} {net.macs()}")


def run(engine, model, count):
    if engine == "ort":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        shape = session.get_inputs()[0].shape
        inputs = {"input": np.random.default_rng(1).random(shape, dtype=np.float32)}
        def infer():
            session.run(None, inputs)
    else:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model, num_threads=1)
        interpreter.allocate_tensors()
        detail = interpreter.get_input_details()[0]
        values = np.random.default_rng(1).integers(-128, 128, detail["shape"], dtype=np.int8)
        def infer():
            interpreter.set_tensor(detail["index"], values)
            interpreter.invoke()
    infer()
    start = time.process_time()
    for _ in range(count):
        infer()
    print(f"seconds {time.process_time() - start:.6f}")


def main(args):
    if len(args) == 2 and args[0] == "make":
        make(args[1])
    elif len(args) == 4 and args[0] == "run":
        run(args[1], args[2], int(args[3]))
    else:
        sys.exit(__doc__)


main(sys.argv[1:])
