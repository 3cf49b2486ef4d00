//! The supported operators, and what to say about others.

use tract_onnx::pb::NodeProto;

use super::lower::{Fault, Held, Lowerer};

/// Lowers one node.
pub type Lowering<'s> = fn(&mut Lowerer<'s>, &NodeProto) -> Result<Held, Fault>;

/// The lowering of every supported operator.
pub fn operator<'s>(node: &NodeProto) -> Option<Lowering<'s>> {
    if !matches!(node.domain.as_str(), "" | "ai.onnx") {
        return None;
    }
    let lowering: Lowering<'s> = match node.op_type.as_str() {
        "Add" => Lowerer::add,
        "AveragePool" => Lowerer::average_pool,
        "BatchNormalization" => Lowerer::batch_norm,
        "Cast" => Lowerer::cast,
        "Clip" => Lowerer::clip,
        "Concat" => Lowerer::concat,
        "Conv" => Lowerer::conv,
        "Div" => Lowerer::div,
        "Expand" => Lowerer::expand,
        "Flatten" => Lowerer::flatten,
        "Gather" => Lowerer::gather,
        "Gemm" => Lowerer::gemm,
        "GlobalAveragePool" => Lowerer::global_average_pool,
        "GlobalMaxPool" => Lowerer::global_max_pool,
        "Dropout" | "Identity" => Lowerer::identity,
        "LayerNormalization" => Lowerer::layer_norm,
        "MatMul" => Lowerer::mat_mul,
        "Max" | "Min" => Lowerer::extreme,
        "MaxPool" => Lowerer::max_pool,
        "Mul" => Lowerer::mul,
        "Neg" => Lowerer::neg,
        "Pad" => Lowerer::pad,
        "ReduceMean" => Lowerer::reduce_mean,
        "Relu" => Lowerer::relu,
        "Reshape" => Lowerer::reshape,
        "Abs" | "Erf" | "Exp" | "Gelu" | "HardSigmoid" | "HardSwish" | "LeakyRelu" | "Pow" | "Reciprocal"
        | "Sigmoid" | "Silu" | "Sqrt" | "Swish" | "Tanh" => Lowerer::unary,
        "Slice" => Lowerer::slice,
        "Softmax" => Lowerer::softmax,
        "Split" => Lowerer::split,
        "Squeeze" => Lowerer::squeeze,
        "Sub" => Lowerer::sub,
        "Transpose" => Lowerer::transpose,
        "Unsqueeze" => Lowerer::unsqueeze,
        _ => return None,
    };
    Some(lowering)
}

/// The reason for refusing an operator that [`operator`] does not know.
pub fn unknown_operator(node: &NodeProto) -> Fault {
    let reason = match node.op_type.as_str() {
        "QuantizeLinear"
        | "DequantizeLinear"
        | "QLinearConv"
        | "QLinearMatMul"
        | "ConvInteger"
        | "MatMulInteger"
        | "DynamicQuantizeLinear" => "the model is quantized already; export the float model, stitchkit quantizes it",
        "If" | "Loop" | "Scan" => "control flow is not supported; export a network without data-dependent branches",
        _ if !matches!(node.domain.as_str(), "" | "ai.onnx") => {
            return Fault::Unsupported(format!(
                "operators of the domain `{}` are not supported; inline model-local functions at export",
                node.domain
            ));
        }
        _ => "this operator is not supported",
    };
    Fault::Unsupported(reason.into())
}
