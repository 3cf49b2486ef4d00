//! Element-wise operators: sums, affine maps by constants, batch norms, and clamps.

use tract_onnx::pb::NodeProto;

use super::super::{Arithmetic, ChannelMap, Op, Origin, Weights};
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
    /// Two tensors, one of which may be constant.
    Both,
}

/// What an affine map was in the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Constants,
    BatchNorm,
}

impl Lowerer<'_> {
    pub fn add(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        match self.binary(node)? {
            Binary::Right(held, shift) | Binary::Left(shift, held) => {
                self.affine(node, held, Operand::Scalar(1.0), shift, Source::Constants)
            }
            Binary::Both => self.two(node, Arithmetic::Add),
        }
    }

    pub fn sub(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        match self.binary(node)? {
            Binary::Right(held, shift) => {
                self.affine(node, held, Operand::Scalar(1.0), shift.map(|value| -value), Source::Constants)
            }
            Binary::Left(shift, held) => self.affine(node, held, Operand::Scalar(-1.0), shift, Source::Constants),
            Binary::Both => self.two(node, Arithmetic::Sub),
        }
    }

    pub fn mul(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        match self.binary(node)? {
            Binary::Right(held, scale) | Binary::Left(scale, held) => {
                self.affine(node, held, scale, Operand::Scalar(0.0), Source::Constants)
            }
            Binary::Both => self.two(node, Arithmetic::Mul),
        }
    }

    pub fn div(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        match self.binary(node)? {
            Binary::Right(held, scale) => {
                self.affine(node, held, scale.map(|value| 1.0 / value), Operand::Scalar(0.0), Source::Constants)
            }
            _ => self.two(node, Arithmetic::Div),
        }
    }

    /// `-x`.
    pub fn neg(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let held = self.unpadded(self.held(node, 0)?)?;
        self.affine(node, held, Operand::Scalar(-1.0), Operand::Scalar(0.0), Source::Constants)
    }

    fn two(&mut self, node: &NodeProto, arithmetic: Arithmetic) -> Result<Held, Fault> {
        let (a, b) = (self.tensor(node, 0)?, self.tensor(node, 1)?);
        self.arithmetic(node, arithmetic, a, b)
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
        self.affine(node, held, per_channel(scale), per_channel(shift), Source::BatchNorm)
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
        for (constant, tensor) in [(1, 0), (0, 1)] {
            if !node.input.get(constant).is_some_and(|name| self.source.is_constant(name)) {
                continue;
            }
            let held = self.unpadded(self.held(node, tensor)?)?;
            return Ok(match self.operand(node, constant, &held)? {
                None => Binary::Both,
                Some(operand) if constant == 1 => Binary::Right(held, operand),
                Some(operand) => Binary::Left(operand, held),
            });
        }
        Ok(Binary::Both)
    }

    /// A constant operand that is one number or one per channel; `None` if it is a tensor of another kind.
    fn operand(&self, node: &NodeProto, position: usize, held: &Held) -> Result<Option<Operand>, Fault> {
        let extents = self.source.extents(&node.input[position]).unwrap_or_default();
        let (rank, count) = (held.dims.len(), extents.iter().product::<usize>());
        if extents.len() > rank || self.source.constant(&node.input[position]).is_none() {
            return Ok(None);
        }
        let axes: Vec<usize> = (0..extents.len()).filter(|&axis| extents[axis] != 1).collect();
        let offset = rank - extents.len();
        let channel = if rank == 4 && held.axes == super::lower::HWC { 1 } else { *held.axes.last().unwrap_or(&0) };
        match axes.as_slice() {
            [] if count == 1 => {
                let (_, values) = self.floats(node, position)?.ok_or("its constant operand is missing")?;
                Ok(Some(Operand::Scalar(values[0])))
            }
            &[axis]
                if extents[axis] == held.dims[axis + offset]
                    && (axis + offset == channel || rank <= 2 || axis + offset + 1 == rank) =>
            {
                let (_, values) = self.floats(node, position)?.ok_or("its constant operand is missing")?;
                Ok(Some(Operand::PerIndex { axis: axis + offset, values }))
            }
            _ => Ok(None),
        }
    }

    /// `x * scale + shift`; both operands scalar or along one common axis.
    fn affine(
        &mut self,
        node: &NodeProto,
        held: Held,
        scale: Operand,
        shift: Operand,
        source: Source,
    ) -> Result<Held, Fault> {
        let held = self.unpadded(held)?;
        let axis = match (&scale, &shift) {
            (Operand::PerIndex { axis, .. }, _) | (_, Operand::PerIndex { axis, .. }) => *axis,
            _ => *held.axes.last().ok_or("its input has no axis beside the batch")?,
        };
        let held = if axis == 1 && held.dims.len() == 4 && held.dims[0] == 1 && held.axes.last() != Some(&1) {
            self.arranged(node, held, &super::lower::HWC)
        } else {
            self.with_last(node, held, axis)
        };
        let channels = held.dims[axis];
        let origin = |operand: &Operand| Origin {
            is_absent: matches!(operand, Operand::Scalar(_)),
            has_norm: source == Source::BatchNorm,
            ..Origin::default()
        };
        let spread = |operand: Operand| {
            let origin = origin(&operand);
            let values = match operand {
                Operand::Scalar(value) => vec![value; channels],
                Operand::PerIndex { values, .. } => values,
            };
            Weights::from(values).with_origin(origin)
        };
        let map = ChannelMap { scale: spread(scale), shift: spread(shift) };
        let on_map = held.dims.len() == 4 && held.axes == super::lower::HWC;
        self.emit(node, DraftOp::Affine { map, on_map }, vec![held.id], held.dims, held.axes)
    }
}
