"""DeiT-Ti for comparing runtimes, with random weights: 224x224, patches of 16x16, a class token, 12 blocks of width 192 with 3 heads.

Queries, keys and values come of a layer each. `peers.py` uses this; it has the methods of its `Net` that are not about convolutions.
"""

import numpy as np

SIDE, PATCH, WIDTH, HEADS, DEPTH, HIDDEN, CLASSES = 224, 16, 192, 3, 12, 768, 1000
PATCHES = (SIDE // PATCH) ** 2
TOKENS = PATCHES + 1
FEATURES = WIDTH // HEADS
EPSILON = 1e-6


class Vit:
    """The weights; those of linear layers are `[inputs, outputs]`."""

    def __init__(self):
        self.random = np.random.default_rng(1)
        self.shapes = [(SIDE, SIDE, 3)]
        self.patch = self.linear(PATCH * PATCH * 3, WIDTH)
        self.token, self.positions = self.normal(1, 1, WIDTH), self.normal(1, TOKENS, WIDTH)
        self.blocks = [self.block() for _ in range(DEPTH)]
        self.norm, self.head = self.layer_norm(), self.linear(WIDTH, CLASSES)

    def normal(self, *shape):
        return self.random.standard_normal(shape).astype(np.float32)

    def linear(self, inputs, outputs):
        return self.normal(inputs, outputs) / np.float32(inputs**0.5), 0.1 * self.normal(outputs)

    def layer_norm(self):
        return 1 + 0.1 * self.normal(WIDTH), 0.1 * self.normal(WIDTH)

    def block(self):
        names = ["q", "k", "v", "proj"]
        layers = {name: self.linear(WIDTH, WIDTH) for name in names}
        layers |= {"up": self.linear(WIDTH, HIDDEN), "down": self.linear(HIDDEN, WIDTH)}
        return layers | {"norm1": self.layer_norm(), "norm2": self.layer_norm()}

    def to_onnx(self, path):
        to_onnx(self, path)

    def to_int8_tflite(self, path):
        to_int8_tflite(self, path)

    def macs(self):
        linear = TOKENS * DEPTH * (4 * WIDTH * WIDTH + 2 * WIDTH * HIDDEN)
        attention = DEPTH * 2 * TOKENS * TOKENS * WIDTH
        return PATCHES * self.patch[0].size + linear + attention + self.head[0].size


def to_onnx(net, path):
    """Float ONNX."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, tensors = [], []

    def constant(name, value):
        tensors.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def node(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def linear(x, name, weights):
        y = node("MatMul", [x, constant(f"{name}_w", weights[0])], f"{name}_product")
        return node("Add", [y, constant(f"{name}_b", weights[1])], name)

    def layer_norm(x, name, weights):
        gain, offset = constant(f"{name}_gain", weights[0]), constant(f"{name}_offset", weights[1])
        return node("LayerNormalization", [x, gain, offset], name, axis=-1, epsilon=EPSILON)

    def heads(x, name, order):
        x = node("Reshape", [x, "heads"], f"{name}_heads")
        return node("Transpose", [x], f"{name}_turned", perm=order)

    constant("heads", np.array([1, TOKENS, HEADS, FEATURES], np.int64))
    constant("joined", np.array([1, TOKENS, WIDTH], np.int64))
    scale, half = constant("scale", np.float32(FEATURES**-0.5)), constant("half", np.float32(0.5))
    root, one = constant("root", np.float32(2**0.5)), constant("one", np.float32(1))
    filters = net.patch[0].reshape(PATCH, PATCH, 3, WIDTH).transpose(3, 2, 0, 1)
    x = node("Conv", ["input", constant("patch_w", filters), constant("patch_b", net.patch[1])], "patch",
             kernel_shape=[PATCH, PATCH], strides=[PATCH, PATCH])
    x = node("Reshape", [x, constant("flat", np.array([1, WIDTH, PATCHES], np.int64))], "patches")
    x = node("Transpose", [x], "tokens", perm=[0, 2, 1])
    x = node("Concat", [constant("class", net.token), x], "with_class", axis=1)
    x = node("Add", [x, constant("positions", net.positions)], "embedded")
    for i, block in enumerate(net.blocks):
        y = layer_norm(x, f"{i}_norm1", block["norm1"])
        q, k, v = (linear(y, f"{i}_{name}", block[name]) for name in "qkv")
        q, k, v = heads(q, f"{i}_q", [0, 2, 1, 3]), heads(k, f"{i}_k", [0, 2, 3, 1]), heads(v, f"{i}_v", [0, 2, 1, 3])
        scores = node("Mul", [node("MatMul", [q, k], f"{i}_scores"), scale], f"{i}_scaled")
        y = node("MatMul", [node("Softmax", [scores], f"{i}_softmax", axis=-1), v], f"{i}_mixed")
        y = node("Transpose", [y], f"{i}_back", perm=[0, 2, 1, 3])
        y = linear(node("Reshape", [y, "joined"], f"{i}_joined"), f"{i}_proj", block["proj"])
        x = node("Add", [x, y], f"{i}_attended")
        y = linear(layer_norm(x, f"{i}_norm2", block["norm2"]), f"{i}_up", block["up"])
        erf = node("Erf", [node("Div", [y, root], f"{i}_div")], f"{i}_erf")
        y = node("Mul", [node("Mul", [y, node("Add", [erf, one], f"{i}_plus")], f"{i}_twice"), half], f"{i}_gelu")
        x = node("Add", [x, linear(y, f"{i}_down", block["down"])], f"{i}_out")
    x = node("Gather", [layer_norm(x, "norm", net.norm), constant("first", np.array(0, np.int64))], "chosen", axis=1)
    node("Gemm", [x, constant("head_w", net.head[0].T), constant("head_b", net.head[1])], "logits", transB=1)
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def to_int8_tflite(net, path):
    """All linear layers, products of matrices, softmax, GELU and sums in int8; layer norms in float between DEQUANTIZE and
    QUANTIZE, since LiteRT has none in int8 and converters leave them so. Scales are plausible, weights drawn here."""
    from peers_tflite import Writer, operators, schema

    writer = Writer(net.random)
    int8, float32, int32 = schema.TensorType.INT8, schema.TensorType.FLOAT32, schema.TensorType.INT32
    options = schema.BuiltinOptions

    def values(name, shape, scale=0.05, zero_point=0):
        return writer.tensor(name, shape, int8, [scale], zero_point)

    def linear(x, name, tokens, weights):
        inputs, outputs = weights[0].shape
        scales = [0.02 / inputs**0.5] * outputs
        kernel = writer.random.integers(-127, 128, (outputs, inputs), dtype=np.int8)
        bias = writer.random.integers(-1000, 1000, outputs, dtype=np.int32)
        w = writer.tensor(f"{name}_w", kernel.shape, int8, scales, 0, kernel)
        b = writer.tensor(f"{name}_b", bias.shape, int32, [0.05 * scale for scale in scales], 0, bias)
        how = schema.FullyConnectedOptionsT()
        how.keepNumDims = len(tokens) > 1
        out = values(name, [*tokens, outputs])
        return writer.operator(operators.FULLY_CONNECTED, options.FullyConnectedOptions, how, [x, w, b], out, 5)

    def sum_of(a, b, name, shape):
        return writer.operator(operators.ADD, options.AddOptions, schema.AddOptionsT(), [a, b], values(name, shape), 2)

    def layer_norm(x, name, weights):
        def floats(part, shape=tokens):
            return writer.tensor(f"{name}_{part}", shape, float32, [], 0)

        def apply(kind, part, inputs, shape=tokens, how=(options.NONE, None)):
            return writer.operator(kind, *how, inputs, floats(part, shape), 1)

        mean = schema.ReducerOptionsT()
        mean.keepDims = True
        mean = (options.ReducerOptions, mean)
        add, mul = (options.AddOptions, schema.AddOptionsT()), (options.MulOptions, schema.MulOptionsT())
        sub = (options.SubOptions, schema.SubOptionsT())
        constant = lambda part, value: writer.tensor(f"{name}_{part}", value.shape, float32, [], 0, value)
        x = apply(operators.DEQUANTIZE, "in", [x])
        average = apply(operators.MEAN, "mean", [x, axis], [1, TOKENS, 1], mean)
        x = apply(operators.SUB, "centred", [x, average], how=sub)
        square = apply(operators.MUL, "square", [x, x], how=mul)
        variance = apply(operators.MEAN, "variance", [square, axis], [1, TOKENS, 1], mean)
        variance = apply(operators.ADD, "raised", [variance, epsilon], [1, TOKENS, 1], add)
        x = apply(operators.MUL, "scaled", [x, apply(operators.RSQRT, "root", [variance], [1, TOKENS, 1])], how=mul)
        x = apply(operators.MUL, "gained", [x, constant("gain", weights[0])], how=mul)
        x = apply(operators.ADD, "shifted", [x, constant("offset", weights[1])], how=add)
        return writer.operator(operators.QUANTIZE, options.QuantizeOptions, schema.QuantizeOptionsT(), [x],
                               values(name, tokens), 2)

    def reshape(x, name, shape):
        how = schema.ReshapeOptionsT()
        how.newShape = shape
        sizes = writer.tensor(f"{name}_shape", [len(shape)], int32, [], 0, np.array(shape, np.int32))
        return writer.operator(operators.RESHAPE, options.ReshapeOptions, how, [x, sizes], values(name, shape), 1)

    def transpose(x, name, order, shape):
        how = (options.TransposeOptions, schema.TransposeOptionsT())
        return writer.operator(operators.TRANSPOSE, *how, [x, orders[order]], values(name, shape), 2)

    def product(a, b, name, shape, scale, is_turned):
        how = schema.BatchMatMulOptionsT()
        how.adjY = is_turned
        out = values(name, shape, scale)
        return writer.operator(operators.BATCH_MATMUL, options.BatchMatMulOptions, how, [a, b], out, 2)

    def attention(x, i, block):
        split, turned = [1, TOKENS, HEADS, FEATURES], [1, HEADS, TOKENS, FEATURES]
        q, k, v = (linear(x, f"{i}_{name}", [1, TOKENS], block[name]) for name in "qkv")
        q, k, v = (transpose(reshape(y, f"{i}_{n}_heads", split), f"{i}_{n}_turned", "heads", turned)
                   for y, n in zip((q, k, v), "qkv"))
        scores = product(q, k, f"{i}_scores", [1, HEADS, TOKENS, TOKENS], 0.1, True)
        how = schema.SoftmaxOptionsT()
        how.beta = FEATURES**-0.5
        shares = writer.tensor(f"{i}_softmax", [1, HEADS, TOKENS, TOKENS], int8, [1 / 256], -128)
        shares = writer.operator(operators.SOFTMAX, options.SoftmaxOptions, how, [scores], shares, 2)
        y = transpose(product(shares, v, f"{i}_mixed", turned, 0.05, False), f"{i}_back", "heads", split)
        return linear(reshape(y, f"{i}_joined", tokens), f"{i}_proj", [1, TOKENS], block["proj"])

    tokens = [1, TOKENS, WIDTH]
    axis = writer.tensor("axis", [1], int32, [], 0, np.array([2], np.int32))
    orders = {"heads": writer.tensor("order", [4], int32, [], 0, np.array([0, 2, 1, 3], np.int32))}
    epsilon = writer.tensor("epsilon", [1], float32, [], 0, np.array([EPSILON], np.float32))
    start = values("input", [1, SIDE, SIDE, 3])
    how = schema.Conv2DOptionsT()
    how.padding, how.strideW, how.strideH = schema.Padding.VALID, PATCH, PATCH
    how.dilationWFactor = how.dilationHFactor = 1
    kernel = writer.random.integers(-127, 128, (WIDTH, PATCH, PATCH, 3), dtype=np.int8)
    scales = [0.0007] * WIDTH
    w = writer.tensor("patch_w", kernel.shape, int8, scales, 0, kernel)
    b = writer.tensor("patch_b", [WIDTH], int32, [0.05 * scale for scale in scales], 0, np.zeros(WIDTH, np.int32))
    grid = values("patch", [1, SIDE // PATCH, SIDE // PATCH, WIDTH])
    x = writer.operator(operators.CONV_2D, options.Conv2DOptions, how, [start, w, b], grid, 3)
    x = reshape(x, "patches", [1, PATCHES, WIDTH])
    drawn = lambda shape: writer.random.integers(-127, 128, shape, dtype=np.int8)
    token = writer.tensor("class", [1, 1, WIDTH], int8, [0.05], 0, drawn((1, 1, WIDTH)))
    how = schema.ConcatenationOptionsT()
    how.axis = 1
    x = writer.operator(operators.CONCATENATION, options.ConcatenationOptions, how, [token, x],
                        values("with_class", tokens), 2)
    positions = writer.tensor("positions", tokens, int8, [0.05], 0, drawn(tokens))
    x = sum_of(x, positions, "embedded", tokens)
    for i, block in enumerate(net.blocks):
        y = attention(layer_norm(x, f"{i}_norm1", block["norm1"]), i, block)
        x = sum_of(x, y, f"{i}_attended", tokens)
        y = linear(layer_norm(x, f"{i}_norm2", block["norm2"]), f"{i}_up", [1, TOKENS], block["up"])
        y = writer.operator(operators.GELU, options.GeluOptions, schema.GeluOptionsT(), [y],
                            values(f"{i}_gelu", [1, TOKENS, HIDDEN]), 2)
        x = sum_of(x, linear(y, f"{i}_down", [1, TOKENS], block["down"]), f"{i}_out", tokens)
    x = layer_norm(x, "norm", net.norm)
    bounds = [writer.tensor(f"slice{j}", [3], int32, [], 0, np.array(v, np.int32)) for j, v in enumerate(([0, 0, 0], [1, 1, WIDTH]))]
    x = writer.operator(operators.SLICE, options.SliceOptions, schema.SliceOptionsT(), [x, *bounds],
                        values("chosen", [1, 1, WIDTH]), 2)
    x = linear(reshape(x, "class_token", [1, WIDTH]), "logits", [1], net.head)
    writer.write(path, start, x)
