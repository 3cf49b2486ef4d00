//! Element-wise operators: sums, affine maps by constants, batch norms, and clamps.

use tract_onnx::pb::NodeProto;

use super::super::Op;
use super::attributes::Attributes;
use super::draft::DraftOp;
use super::lower::{Fault, Held, Lowerer};

/// A constant that acts on a tensor.
enum Operand {
    Scalar(f32),
    /// One value per index of an ONNX axis.
    PerIndex {
        axis: usize,
        values: Vec<f32>,
    },
}

impl Operand {
    fn map(self, f: impl Fn(f32) -> f32) -> Self {
        match self {
            Self::Scalar(value) => Self::Scalar(f(value)),
            Self::PerIndex { axis, values } => Self::PerIndex { axis, values: values.into_iter().map(f).collect() },
        }
    }
}

/// Which operand of a binary operator is the constant.
enum Binary {
    /// `tensor op constant`.
    Right(Held, Operand),
    /// `constant op tensor`.
    Left(Operand, Held),
    /// Two tensors.
    Both(Held, Held),
}

impl Lowerer<'_> {
    pub fn add(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let (a, b) = match self.binary(node)? {
            Binary::Right(held, shift) | Binary::Left(shift, held) => {
                return self.affine(node, held, Operand::Scalar(1.0), shift);
            }
            Binary::Both(a, b) => (a, b),
        };
        if a.dims != b.dims {
            return Err(
                format!("it adds tensors of the shapes {:?} and {:?}; they must be equal", a.dims, b.dims).into()
            );
        }
        let b = self.arranged(node, b, &a.axes);
        self.emit(node, DraftOp::Op(Op::Add), vec![a.id, b.id], a.dims, a.axes)
    }

    pub fn sub(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        match self.binary(node)? {
            Binary::Right(held, shift) => self.affine(node, held, Operand::Scalar(1.0), shift.map(|value| -value)),
            Binary::Left(shift, held) => self.affine(node, held, Operand::Scalar(-1.0), shift),
            Binary::Both(..) => Err("a difference of two tensors; only constants can be subtracted".into()),
        }
    }

    pub fn mul(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        match self.binary(node)? {
            Binary::Right(held, scale) | Binary::Left(scale, held) => {
                self.affine(node, held, scale, Operand::Scalar(0.0))
            }
            Binary::Both(..) => Err("a product of two tensors (gating, attention); only constant factors".into()),
        }
    }

    pub fn div(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        match self.binary(node)? {
            Binary::Right(held, scale) => self.affine(node, held, scale.map(|value| 1.0 / value), Operand::Scalar(0.0)),
            _ => Err("a division by a tensor; only constant divisors are supported".into()),
        }
    }

    /// `(x - mean) / sqrt(variance + epsilon) * scale + offset` per channel, constants of inference.
    pub fn batch_norm(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let attributes = Attributes(node);
        if attributes.int("training_mode", 0) != 0 {
            return Err("a batch norm in training mode; export the model after eval()".into());
        }
        let held = self.held(node, 0)?;
        let channels = *held.dims.get(1).ok_or("its input has no channel axis")?;
        let mut constants = Vec::with_capacity(4);
        for operand in 1..5 {
            let (_, values) = self.floats(node, operand)?.ok_or("it lacks one of scale, offset, mean, variance")?;
            if values.len() != channels {
                return Err(format!("operand {operand} has {} values for {channels} channels", values.len()).into());
            }
            constants.push(values);
        }
        let epsilon = f64::from(attributes.float("epsilon", 1e-5));
        let factors: Vec<f64> = constants[0]
            .iter()
            .zip(&constants[3])
            .map(|(&g, &v)| f64::from(g) / (f64::from(v) + epsilon).sqrt())
            .collect();
        let centered = constants[1].iter().zip(&constants[2]).zip(&factors);
        let shift = centered.map(|((&offset, &mean), factor)| (f64::from(offset) - f64::from(mean) * factor) as f32);
        let (scale, shift) = (factors.iter().map(|&factor| factor as f32).collect(), shift.collect());
        let per_channel = |values| Operand::PerIndex { axis: 1, values };
        self.affine(node, held, per_channel(scale), per_channel(shift))
    }

    pub fn relu(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        self.clamped(node, 0.0, f32::INFINITY)
    }

    pub fn clip(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let mut bounds = [f32::NEG_INFINITY, f32::INFINITY];
        for (i, name) in ["min", "max"].into_iter().enumerate() {
            bounds[i] = Attributes(node).float(name, bounds[i]);
            if let Some(tensor) = self.constant(node, 1 + i)? {
                let cast = tensor.cast_to_scalar::<f32>();
                bounds[i] = cast.map_err(|_| format!("its {name} is not a single number"))?;
            }
        }
        let [lo, hi] = bounds;
        if lo.is_nan() || hi.is_nan() || lo > hi {
            return Err(format!("its bounds {lo} and {hi} are not an interval").into());
        }
        self.clamped(node, lo, hi)
    }

    fn clamped(&mut self, node: &NodeProto, lo: f32, hi: f32) -> Result<Held, Fault> {
        let held = self.held(node, 0)?;
        let held = self.unpadded(held)?;
        self.emit(node, DraftOp::Op(Op::Clip { lo, hi }), vec![held.id], held.dims, held.axes)
    }

    fn binary(&self, node: &NodeProto) -> Result<Binary, Fault> {
        let is_constant = |i: usize| node.input.get(i).is_some_and(|name| self.source.constant(name).is_some());
        if is_constant(1) {
            let held = self.unpadded(self.held(node, 0)?)?;
            let operand = self.operand(node, 1, &held)?;
            return Ok(Binary::Right(held, operand));
        }
        if is_constant(0) {
            let held = self.unpadded(self.held(node, 1)?)?;
            let operand = self.operand(node, 0, &held)?;
            return Ok(Binary::Left(operand, held));
        }
        Ok(Binary::Both(self.unpadded(self.held(node, 0)?)?, self.unpadded(self.held(node, 1)?)?))
    }

    /// A constant operand under the broadcasting rules; it must not change the tensor's shape.
    fn operand(&self, node: &NodeProto, position: usize, held: &Held) -> Result<Operand, Fault> {
        let (shape, values) = self.floats(node, position)?.ok_or("its constant operand is missing")?;
        let rank = held.dims.len();
        let axes: Vec<usize> = (0..shape.len()).filter(|&axis| shape[axis] != 1).collect();
        if shape.len() > rank {
            return Err(format!("its constant of shape {shape:?} has a higher rank than the tensor").into());
        }
        match axes.as_slice() {
            [] => Ok(Operand::Scalar(values.first().copied().unwrap_or(0.0))),
            &[axis] if shape[axis] == held.dims[axis + rank - shape.len()] => {
                Ok(Operand::PerIndex { axis: axis + rank - shape.len(), values })
            }
            _ => Err(format!(
                "its constant of shape {shape:?} on a tensor of shape {:?}; only one number or one per channel",
                held.dims
            )
            .into()),
        }
    }

    /// `x * scale + shift`; both operands scalar or along one common axis.
    fn affine(&mut self, node: &NodeProto, held: Held, scale: Operand, shift: Operand) -> Result<Held, Fault> {
        let held = self.unpadded(held)?;
        let axis = match (&scale, &shift) {
            (Operand::PerIndex { axis, .. }, _) | (_, Operand::PerIndex { axis, .. }) => *axis,
            _ => *held.axes.last().ok_or("its input has no axis beside the batch")?,
        };
        let held = if axis == 1 && held.dims.len() == 4 {
            self.arranged(node, held, &super::lower::HWC)
        } else {
            self.with_last(node, held, axis)
        };
        let channels = held.dims[axis];
        let spread = |operand| match operand {
            Operand::Scalar(value) => vec![value; channels],
            Operand::PerIndex { values, .. } => values,
        };
        let op = DraftOp::Affine { scale: spread(scale), shift: spread(shift) };
        self.emit(node, op, vec![held.id], held.dims, held.axes)
    }
}
