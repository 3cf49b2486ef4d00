//! Fully connected layers and softmax.

use tract_onnx::pb::NodeProto;

use super::super::{Dense, Op};
use super::attributes::{Attributes, axis};
use super::draft::DraftOp;
use super::lower::{Fault, Held, Lowerer};

impl Lowerer<'_> {
    /// `alpha * x * B + beta * C` on vectors.
    pub fn gemm(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let attributes = Attributes(node);
        if attributes.int("transA", 0) != 0 {
            return Err("it transposes its first operand".into());
        }
        let held = self.held(node, 0)?;
        if held.dims.len() != 2 {
            return Err(format!("its input has rank {}; vectors are expected", held.dims.len()).into());
        }
        let (shape, mut weights) = self.floats(node, 1)?.ok_or("it has no weights")?;
        let &[rows, columns] = shape.as_slice() else {
            return Err(format!("its weights have the shape {shape:?}; a matrix is expected").into());
        };
        let (outputs, inputs) = if attributes.int("transB", 0) != 0 {
            (rows, columns)
        } else {
            weights = transposed(&weights, rows, columns);
            (columns, rows)
        };
        let alpha = attributes.float("alpha", 1.0);
        weights.iter_mut().for_each(|weight| *weight *= alpha);
        let bias = match self.floats(node, 2)? {
            None => vec![0.0; outputs],
            Some((_, bias)) if bias.len() == 1 => vec![bias[0] * attributes.float("beta", 1.0); outputs],
            Some((shape, bias)) if bias.len() == outputs && shape.last() == Some(&outputs) => {
                bias.iter().map(|bias| bias * attributes.float("beta", 1.0)).collect()
            }
            Some((shape, _)) => {
                return Err(format!("its bias of shape {shape:?} does not fit {outputs} outputs").into());
            }
        };
        self.dense(node, held, inputs, outputs, weights, bias)
    }

    /// Product with a constant matrix on the right.
    pub fn mat_mul(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let constant = |i: usize| node.input.get(i).is_some_and(|name| self.source.constant(name).is_some());
        if !constant(1) {
            return Err("a product of two tensors (attention) or a constant on the left; only x * constant".into());
        }
        let held = self.held(node, 0)?;
        let (shape, weights) = self.floats(node, 1)?.ok_or("it has no weights")?;
        let (&[rows, columns], true) = (
            shape.get(shape.len().saturating_sub(2)..).unwrap_or_default(),
            shape.iter().rev().skip(2).all(|&extent| extent == 1) && shape.len() <= held.dims.len(),
        ) else {
            return Err(format!("its constant has the shape {shape:?}; a matrix is expected").into());
        };
        let weights = transposed(&weights, rows, columns);
        self.dense(node, held, rows, columns, weights, vec![0.0; columns])
    }

    /// `weights` are `[out][in]` and act on the last ONNX axis.
    fn dense(
        &mut self,
        node: &NodeProto,
        held: Held,
        inputs: usize,
        outputs: usize,
        weights: Vec<f32>,
        bias: Vec<f32>,
    ) -> Result<Held, Fault> {
        let held = self.unpadded(held)?;
        let last = held.dims.len() - 1;
        if last == 0 || held.dims[last] != inputs {
            return Err(format!("its weights take {inputs} features, its input has the shape {:?}", held.dims).into());
        }
        let held = self.with_last(node, held, last);
        let op = Op::Dense(Dense { out_features: outputs, weights: weights.into(), bias: bias.into() });
        let mut dims = held.dims;
        dims[last] = outputs;
        self.emit(node, DraftOp::Op(op), vec![held.id], dims, held.axes)
    }

    /// Softmax over the last axis.
    pub fn softmax(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let held = self.held(node, 0)?;
        let held = self.unpadded(held)?;
        let rank = held.dims.len();
        let default = if self.source.opset < 13 { 1 } else { -1 };
        let over = axis(Attributes(node).int("axis", default), rank)?;
        if over + 1 != rank || over == 0 {
            return Err(format!("axis {over} of a rank-{rank} tensor; only the last axis is supported").into());
        }
        let held = self.with_last(node, held, over);
        self.emit(node, DraftOp::Op(Op::Softmax), vec![held.id], held.dims, held.axes)
    }
}

fn transposed(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| matrix[row * columns + column])).collect()
}
