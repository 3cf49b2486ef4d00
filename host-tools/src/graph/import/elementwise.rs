//! Functions of one tensor, arithmetic on two, and layer norms.

use tract_onnx::pb::NodeProto;

use super::super::{Arithmetic, ChannelMap, Function, Op, Origin, Weights};
use super::attributes::{Attributes, axis};
use super::draft::DraftOp;
use super::lower::{Fault, Held, Lowerer, plain};

impl Lowerer<'_> {
    /// A function named by the node.
    pub fn unary(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let attributes = Attributes(node);
        let function = match node.op_type.as_str() {
            "Gelu" if attributes.text("approximate", "none") == "tanh" => Function::GeluTanh,
            "Gelu" => Function::Gelu,
            "Silu" | "Swish" if attributes.float("alpha", 1.0) != 1.0 => {
                return Err("a swish with a slope other than 1".into());
            }
            "Silu" | "Swish" => Function::Silu,
            "HardSwish" => Function::HardSwish,
            "HardSigmoid" => {
                Function::HardSigmoid { alpha: attributes.float("alpha", 0.2), beta: attributes.float("beta", 0.5) }
            }
            "LeakyRelu" => Function::LeakyRelu { slope: attributes.float("alpha", 0.01) },
            "Sigmoid" => Function::Sigmoid,
            "Tanh" => Function::Tanh,
            "Erf" => Function::Erf,
            "Exp" => Function::Exp,
            "Sqrt" => Function::Sqrt,
            "Reciprocal" => Function::Reciprocal,
            "Abs" => Function::Abs,
            _ => {
                let power = self.constant(node, 1)?.filter(|power| power.len() == 1);
                let power = power.ok_or("its exponent is not a single number")?.cast_to_scalar::<f32>();
                Function::Power(power.map_err(|error| error.to_string())?)
            }
        };
        let held = self.unpadded(self.held(node, 0)?)?;
        self.emit(node, DraftOp::Op(Op::Unary(function)), vec![held.id], held.dims, held.axes)
    }

    /// Largest or smallest of two tensors.
    pub fn extreme(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        if node.input.len() != 2 {
            return Err(format!("it has {} operands; two are supported", node.input.len()).into());
        }
        let (a, b) = (self.tensor(node, 0)?, self.tensor(node, 1)?);
        let arithmetic = if node.op_type == "Max" { Arithmetic::Max } else { Arithmetic::Min };
        self.arithmetic(node, arithmetic, a, b)
    }

    /// An operand that may be constant.
    pub fn tensor(&mut self, node: &NodeProto, operand: usize) -> Result<Held, Fault> {
        let Some((dims, values)) = self.weights_if_constant(node, operand)? else {
            return self.unpadded(self.held(node, operand)?);
        };
        let name = node.input[operand].clone();
        let origin = Origin { made_from: Some(self.source.parameters_behind(&name)), ..values.origin };
        let (axes, values) = (plain(&dims), values.with_origin(origin));
        let shape = axes.iter().map(|&axis| dims[axis]).collect();
        let id = self.push(name.clone(), name, DraftOp::Op(Op::Constant(values)), Vec::new(), shape);
        Ok(Held { id, dims, axes, pad: [0; 4] })
    }

    /// Arithmetic under the broadcasting rules.
    pub fn arithmetic(&mut self, node: &NodeProto, op: Arithmetic, a: Held, b: Held) -> Result<Held, Fault> {
        let rank = a.dims.len().max(b.dims.len());
        let (a, b) = (a.with_rank(rank), b.with_rank(rank));
        let mut dims = Vec::with_capacity(rank);
        for (&x, &y) in a.dims.iter().zip(&b.dims) {
            if x != y && x != 1 && y != 1 {
                return Err(format!("it combines tensors of the shapes {:?} and {:?}", a.dims, b.dims).into());
            }
            dims.push(x.max(y));
        }
        let fuller = if a.dims == dims { &a } else { &b };
        let missing = (0..rank).filter(|axis| !fuller.axes.contains(axis) && dims[*axis] > 1);
        let axes: Vec<usize> = missing.chain(fuller.axes.iter().copied()).collect();
        let (same, (a, b)) = (a.dims == b.dims, (self.arranged(node, a, &axes), self.arranged(node, b, &axes)));
        let op = if same && op == Arithmetic::Add { Op::Add } else { Op::Binary(op) };
        self.emit(node, DraftOp::Op(op), vec![a.id, b.id], dims, axes)
    }

    /// Layer norm over the last axis.
    pub fn layer_norm(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let attributes = Attributes(node);
        let held = self.unpadded(self.held(node, 0)?)?;
        let rank = held.dims.len();
        if axis(attributes.int("axis", -1), rank)? + 1 != rank {
            return Err("a layer norm over several axes; only the last axis is supported".into());
        }
        let held = self.with_last(node, held, rank - 1);
        let channels = held.dims[rank - 1];
        let mut constants = [Weights::filler(channels, 1.0), Weights::filler(channels, 0.0)];
        for (i, constant) in constants.iter_mut().enumerate() {
            if let Some((_, values)) = self.weights_if_constant(node, i + 1)? {
                if values.len() != channels {
                    return Err(format!("{} factors or offsets for {channels} channels", values.len()).into());
                }
                *constant = values;
            } else if node.input.get(i + 1).is_some_and(|name| !name.is_empty()) {
                return Err("its factors depend on the input".into());
            }
        }
        let [scale, shift] = constants;
        let op = Op::LayerNorm { affine: ChannelMap { scale, shift }, epsilon: attributes.float("epsilon", 1e-5) };
        self.emit(node, DraftOp::Op(op), vec![held.id], held.dims, held.axes)
    }
}
