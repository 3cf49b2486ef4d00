"""Writes vit.onnx: a vision transformer of 16 tokens, width 16, 2 blocks and 2 heads with random weights.

Its gradients by PyTorch are in oracle.json; both are remade by
    python vit.py && python ../../../../../tests/train-oracle.py TRAIN_BENCH --store oracle.json vit.onnx ...
"""
import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

TOKENS, WIDTH, HEADS, DEPTH, CLASSES = 16, 16, 2, 2, 5
rng = np.random.default_rng(7)
nodes, constants = [], []


def constant(name, values):
    constants.append(numpy_helper.from_array(np.asarray(values), name))
    return name


def weights(name, *shape, fan_in=1):
    return constant(name, (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32))


def node(op, inputs, name, **attributes):
    nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
    return name


def dense(x, name, fan_in, out):
    product = node("MatMul", [x, weights(name + ".w", fan_in, out, fan_in=fan_in)], name + "/mm")
    return node("Add", [product, weights(name + ".b", out, fan_in=9)], name)


def norm(x, name):
    scale = constant(name + ".scale", (1 + 0.2 * rng.standard_normal(WIDTH)).astype(np.float32))
    return node("LayerNormalization", [x, scale, weights(name + ".shift", WIDTH, fan_in=9)], name, axis=-1, epsilon=1e-6)


def gelu(x, name):
    half, one, root = (constant(f"{name}.{n}", np.float32(v)) for n, v in (("h", 0.5), ("1", 1), ("r", np.sqrt(2))))
    erf = node("Erf", [node("Div", [x, root], name + "/div")], name + "/erf")
    product = node("Mul", [x, node("Add", [erf, one], name + "/add")], name + "/mul")
    return node("Mul", [product, half], name)


def attention(x, name):
    qkv = dense(x, name + "/qkv", WIDTH, 3 * WIDTH)
    shape = constant(name + ".split", np.array([1, TOKENS, 3, HEADS, WIDTH // HEADS], np.int64))
    moved = node("Transpose", [node("Reshape", [qkv, shape], name + "/r")], name + "/t", perm=[2, 0, 3, 1, 4])
    parts = [node("Gather", [moved, constant(f"{name}.{i}", np.int64(i))], f"{name}/{p}", axis=0) for i, p in enumerate("qkv")]
    factor = constant(name + ".factor", np.float32((WIDTH // HEADS) ** -0.5))
    q = node("Mul", [parts[0], factor], name + "/qs")
    k = node("Transpose", [parts[1]], name + "/kt", perm=[0, 1, 3, 2])
    shares = node("Softmax", [node("MatMul", [q, k], name + "/scores")], name + "/shares", axis=-1)
    mixed = node("Transpose", [node("MatMul", [shares, parts[2]], name + "/mix")], name + "/ot", perm=[0, 2, 1, 3])
    flat = constant(name + ".flat", np.array([1, TOKENS, WIDTH], np.int64))
    return dense(node("Reshape", [mixed, flat], name + "/of"), name + "/proj", WIDTH, WIDTH)


x = node("Conv", ["input", weights("patch.w", WIDTH, 3, 4, 4, fan_in=48), weights("patch.b", WIDTH, fan_in=9)], "patch", strides=[4, 4])
x = node("Reshape", [x, constant("patch.s", np.array([1, WIDTH, TOKENS], np.int64))], "patch/r")
x = node("Transpose", [x], "patch/t", perm=[0, 2, 1])
x = node("Add", [x, weights("positions", 1, TOKENS, WIDTH, fan_in=4)], "embedded")
for block in range(DEPTH):
    name = f"b{block}"
    x = node("Add", [x, attention(norm(x, name + "/n1"), name + "/attn")], name + "/sum1")
    hidden = gelu(dense(norm(x, name + "/n2"), name + "/fc1", WIDTH, 4 * WIDTH), name + "/gelu")
    x = node("Add", [x, dense(hidden, name + "/fc2", 4 * WIDTH, WIDTH)], name + "/sum2")
x = norm(x, "norm")
x = node("ReduceMean", [x], "mean", axes=[1], keepdims=0)
dense(x, "logits", WIDTH, CLASSES)
float_tensor = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
graph = helper.make_graph(nodes, "vit", [float_tensor("input", [1, 3, 16, 16])], [float_tensor("logits", [1, CLASSES])], constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
checker.check_model(model)
save(model, "vit.onnx")
