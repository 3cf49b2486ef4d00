"""Writes .tflite files tensor by tensor and operator by operator, for `peers.py`."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

operators = schema.BuiltinOperator


class Writer:
    """One graph. Tensors are known by their index."""

    def __init__(self, random):
        self.random = random
        self.model, self.graph, self.kinds = schema.ModelT(), schema.SubGraphT(), {}
        self.model.version, self.model.description, self.model.operatorCodes = 3, "", []
        self.model.buffers = [schema.BufferT()]
        self.graph.tensors, self.graph.operators, self.graph.name = [], [], "net"

    def tensor(self, name, shape, kind, scales, zero_point, data=None, axis=0):
        """A tensor, with `data` a constant; of floats without scales."""
        t = schema.TensorT()
        t.name, t.shape, t.type = name, list(shape), kind
        t.quantization = schema.QuantizationParametersT()
        t.quantization.scale, t.quantization.quantizedDimension = scales, axis
        t.quantization.zeroPoint = [zero_point] * len(scales)
        t.buffer = 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            t.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(t)
        return len(self.graph.tensors) - 1

    def operator(self, kind, options_kind, options, inputs, output, version):
        """Appends an operator; returns its output."""
        if kind not in self.kinds:
            code = schema.OperatorCodeT()
            code.builtinCode = kind
            code.deprecatedBuiltinCode = min(kind, 127)
            code.version = version
            self.kinds[kind] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = self.kinds[kind], inputs, [output]
        op.builtinOptionsType, op.builtinOptions = options_kind, options
        self.graph.operators.append(op)
        return output

    def write(self, path, start, end):
        """The file, from the tensor `start` to `end`."""
        self.graph.inputs, self.graph.outputs = [start], [end]
        self.model.subgraphs = [self.graph]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        with open(path, "wb") as file:
            file.write(builder.Output())
