//! Fully connected layers and softmax.

use tract_onnx::pb::NodeProto;

use super::super::{Dense, Op, Weights};
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
        let (shape, mut weights) = self.weights(node, 1)?.ok_or("it has no weights")?;
        let &[rows, columns] = shape.as_slice() else {
            return Err(format!("its weights have the shape {shape:?}; a matrix is expected").into());
        };
        let (outputs, inputs) = if attributes.int("transB", 0) != 0 {
            (rows, columns)
        } else {
            weights = weights.map(move |weights| transposed(weights, rows, columns));
            (columns, rows)
        };
        let (alpha, beta) = (attributes.float("alpha", 1.0), attributes.float("beta", 1.0));
        if alpha != 1.0 {
            weights = weights.map(move |weights| weights.iter().map(|weight| weight * alpha).collect());
        }
        let bias = match self.weights(node, 2)? {
            None => Weights::filler(outputs, 0.0),
            Some((_, bias)) if bias.len() == 1 => bias.spread(outputs),
            Some((shape, bias)) if bias.len() == outputs && shape.last() == Some(&outputs) => bias,
            Some((shape, _)) => {
                return Err(format!("its bias of shape {shape:?} does not fit {outputs} outputs").into());
            }
        };
        let bias = if beta == 1.0 { bias } else { bias.map(move |bias| bias.iter().map(|bias| bias * beta).collect()) };
        self.dense(node, held, inputs, outputs, weights, bias)
    }

    /// Product with a constant matrix on the right, or of two activations.
    pub fn mat_mul(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let constant = |i: usize| node.input.get(i).is_some_and(|name| self.source.is_constant(name));
        if !constant(1) {
            return self.product(node);
        }
        let held = self.held(node, 0)?;
        let (shape, weights) = self.weights(node, 1)?.ok_or("it has no weights")?;
        let (&[rows, columns], true) = (
            shape.get(shape.len().saturating_sub(2)..).unwrap_or_default(),
            shape.iter().rev().skip(2).all(|&extent| extent == 1) && shape.len() <= held.dims.len(),
        ) else {
            return Err(format!("its constant has the shape {shape:?}; a matrix is expected").into());
        };
        let weights = weights.map(move |weights| transposed(weights, rows, columns));
        self.dense(node, held, rows, columns, weights, Weights::filler(columns, 0.0))
    }

    /// Products of the last two axes of two tensors.
    fn product(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let (a, b) = (self.tensor(node, 0)?, self.tensor(node, 1)?);
        let rank = a.dims.len().max(b.dims.len());
        if a.dims.len() < 2 || b.dims.len() < 2 {
            return Err(format!("a product of tensors of the shapes {:?} and {:?}", a.dims, b.dims).into());
        }
        let (a, b) = (a.with_rank(rank), b.with_rank(rank));
        let leading = |i: usize| a.dims[i] == b.dims[i] || a.dims[i] == 1 || b.dims[i] == 1;
        if a.dims[rank - 1] != b.dims[rank - 2] || !(0..rank - 2).all(leading) {
            return Err(format!("a product of tensors of the shapes {:?} and {:?}", a.dims, b.dims).into());
        }
        let mut dims: Vec<usize> = a.dims.iter().zip(&b.dims).map(|(&a, &b)| a.max(b)).collect();
        (dims[rank - 2], dims[rank - 1]) = (a.dims[rank - 2], b.dims[rank - 1]);
        let outer: Vec<usize> = (0..rank - 2).filter(|&axis| axis > 0 || dims[0] > 1).collect();
        let order = |last: [usize; 2]| [outer.as_slice(), &last].concat();
        let transpose_b = b.axes.last() == Some(&(rank - 2));
        let a = self.arranged(node, a, &order([rank - 2, rank - 1]));
        let b_order = if transpose_b { [rank - 1, rank - 2] } else { [rank - 2, rank - 1] };
        let b = self.arranged(node, b, &order(b_order));
        let axes = order([rank - 2, rank - 1]);
        self.emit(node, DraftOp::Op(Op::MatMul { transpose_b }), vec![a.id, b.id], dims, axes)
    }

    /// `weights` are `[out][in]` and act on the last ONNX axis.
    fn dense(
        &mut self,
        node: &NodeProto,
        held: Held,
        inputs: usize,
        outputs: usize,
        weights: Weights,
        bias: Weights,
    ) -> Result<Held, Fault> {
        let held = self.unpadded(held)?;
        let last = held.dims.len() - 1;
        if held.dims[last] != inputs {
            return Err(format!("its weights take {inputs} features, its input has the shape {:?}", held.dims).into());
        }
        let held = self.with_last(node, held, last);
        let op = Op::Dense(Dense { out_features: outputs, weights, bias });
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
        if over + 1 != rank {
            return Err(format!("axis {over} of a rank-{rank} tensor; only the last axis is supported").into());
        }
        let held = self.with_last(node, held, over);
        self.emit(node, DraftOp::Op(Op::Softmax), vec![held.id], held.dims, held.axes)
    }
}

fn transposed(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| matrix[row * columns + column])).collect()
}
