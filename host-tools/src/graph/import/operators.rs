//! The supported operators, and what to say about others.

use tract_onnx::pb::NodeProto;

use super::lower::{Fault, Held, Lowerer};

/// Lowers one node.
pub type Lowering<'s> = fn(&mut Lowerer<'s>, &NodeProto) -> Result<Held, Fault>;

/// The operators that networks may hold, by name. Constants and what is computed from them alone may be of any.
pub const NAMES: [&str; 48] = [
    "Abs",
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "Conv",
    "Div",
    "Dropout",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Gather",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LayerNormalization",
    "LeakyRelu",
    "MatMul",
    "Max",
    "MaxPool",
    "Min",
    "Mul",
    "Neg",
    "Pad",
    "Pow",
    "Reciprocal",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Silu",
    "Slice",
    "Softmax",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Swish",
    "Tanh",
    "Transpose",
    "Unsqueeze",
];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_operator_has_a_lowering_and_no_other() {
        let node = |op: &str| NodeProto { op_type: op.into(), ..NodeProto::default() };
        assert!(NAMES.iter().all(|name| operator(&node(name)).is_some()) && NAMES.is_sorted());
        let source = include_str!("operators.rs");
        let arms = source.split("match node.op_type.as_str() {").nth(1).and_then(|rest| rest.split("_ =>").next());
        let listed = arms.unwrap().split('"').skip(1).step_by(2).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(listed, NAMES.into_iter().collect());
    }
}
