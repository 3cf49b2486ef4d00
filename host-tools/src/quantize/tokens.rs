//! Integer forms of the operators of transformers.

use std::f64::consts::LOG2_E;

use stitchkit_runtime::bundle::Quant;
use stitchkit_runtime::kernels::{Attention, LAYER_NORM_MAX_CHANNELS, Pool2d, Shape, Window as KernelWindow};

use super::integer::Kernel;
use super::lower::{LowerError, Site};
use super::scale::{Factor, Range, add_parameters, landing, to_int8};
use crate::graph::{self, ChannelMap, Op};

/// Largest magnitude of a layer norm's gains and offsets: their sum with a rounding half stays inside 64 bits by far.
const LARGEST_GAIN: f64 = (1u32 << 30) as f64;

/// The quantization of a constant tensor that is added to another: its own range.
#[must_use]
pub fn constant_quant(values: &[f32]) -> Quant {
    let range = values.iter().fold(Range::ZERO, |range, &value| Range::new(range.lo.min(value), range.hi.max(value)));
    range.centred_quant()
}

impl Site<'_> {
    /// The values of the inputs that are constant tensors, with their position among the inputs.
    pub(super) fn constants(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.node.inputs.iter().enumerate().filter_map(|(at, &input)| match &self.graph.producer(input)?.op {
            Op::Constant(values) => Some((at, &**values)),
            _ => None,
        })
    }

    /// Addition of a constant tensor, quantized by itself.
    pub(super) fn add_constant(&self) -> Result<Kernel, LowerError> {
        let values = self.constants().next().map_or(&[][..], |(_, values)| values);
        let quant = constant_quant(values);
        let (lo, hi) = self.unit.clip;
        let add = add_parameters(self.from[0], quant, self.unit.quant, lo, hi).ok_or_else(|| self.scale_error())?;
        let constants = values.iter().map(|&value| to_int8(quant, f64::from(value))).collect();
        Ok(Kernel::AddConstant { shape: self.output, add, constants })
    }

    pub(super) fn layer_norm(&self, affine: &ChannelMap, epsilon: f32) -> Result<Kernel, LowerError> {
        let (shape, from, to) = (self.input, self.from[0], self.unit.quant);
        if shape.c > LAYER_NORM_MAX_CHANNELS {
            return Err(LowerError::LayerNorm { node: self.node.name.clone(), channels: shape.c.into() });
        }
        let steps = |values: &[f32]| -> Vec<f64> {
            values.iter().map(|&value| f64::from(value) / f64::from(to.scale)).collect()
        };
        let table = [steps(&affine.scale), steps(&affine.shift)].concat();
        let largest = table.iter().fold(0f64, |largest, value| largest.max(value.abs()));
        if !largest.is_finite() || largest >= LARGEST_GAIN {
            return Err(self.scale_error());
        }
        let bits = (LARGEST_GAIN / largest.max(1.0)).log2().floor();
        let table = table.iter().map(|value| (value * bits.exp2()).round() as i32).collect();
        let channels = f64::from(shape.c);
        let added = (channels * channels * f64::from(epsilon) / f64::from(from.scale).powi(2)).round();
        Ok(Kernel::LayerNorm {
            shape,
            table,
            epsilon: (added as u64).min((1 << 62) - 1),
            shift: 16 + bits as u8,
            landing: landing(to, self.unit.clip.0, self.unit.clip.1),
        })
    }

    pub(super) fn attention(&self, float: &graph::Attention) -> Result<Kernel, LowerError> {
        let Quant { scale, zero_point } = self.from[0];
        let too_large = || LowerError::Attention { node: self.node.name.clone(), tokens: self.input.positions() };
        let narrow = |extent: usize| u16::try_from(extent).map_err(|_| too_large());
        let narrow_all = |[a, b, c]: [usize; 3]| Ok([narrow(a)?, narrow(b)?, narrow(c)?]);
        let score_scale = f64::from(scale) * f64::from(scale) * f64::from(float.scale);
        let score_multiplier = (score_scale * LOG2_E * f64::from(1 << 28)).round();
        let factor = Factor::from_real(f64::from(scale) / f64::from(self.unit.quant.scale));
        let factor = factor.filter(|factor| factor.shift <= Attention::MAX_SHIFT).ok_or_else(|| self.scale_error())?;
        if zero_point != 0 || score_multiplier > f64::from(Attention::MAX_SCORE_MULTIPLIER) {
            return Err(self.scale_error());
        }
        let attention = Attention {
            input: self.input,
            heads: narrow(float.heads)?,
            key_features: narrow(float.key_features)?,
            value_features: narrow(float.value_features)?,
            first: narrow_all(float.first)?,
            pitch: narrow_all(float.pitch)?,
            score_multiplier: score_multiplier as u32,
            multiplier: factor.multiplier,
            shift: factor.shift,
            landing: landing(self.unit.quant, self.unit.clip.0, self.unit.clip.1),
        };
        if attention.is_possible() { Ok(Kernel::Attention(attention)) } else { Err(too_large()) }
    }

    /// Constant tokens before and after a tensor.
    pub(super) fn concat(&self, axis: usize) -> Result<Kernel, LowerError> {
        let wrong = || LowerError::Concat { node: self.node.name.clone() };
        let outer = self.node.shape.get(..axis).ok_or_else(wrong)?;
        let tensors = self.node.inputs.len() - self.constants().count();
        let is_last = axis + 1 == self.node.shape.len();
        if tensors != 1 || is_last || outer.iter().any(|&extent| extent != 1) {
            return Err(wrong());
        }
        let channels = usize::from(self.input.c);
        let tensor = self.node.inputs.iter().position(|&input| !self.graph.is_constant(input)).unwrap_or(0);
        let quantized =
            |values: &[f32]| values.iter().map(|&v| to_int8(self.unit.quant, v.into())).collect::<Vec<i8>>();
        let sides = |is_wanted: &dyn Fn(usize) -> bool| -> Vec<i8> {
            self.constants().filter(|(at, _)| is_wanted(*at)).flat_map(|(_, values)| quantized(values)).collect()
        };
        let (before, after) = (sides(&|at| at < tensor), sides(&|at| at > tensor));
        let tokens = |values: &[i8]| u16::try_from(values.len() / channels.max(1)).map_err(|_| wrong());
        let input = Shape::new(1, u16::try_from(self.input.positions()).map_err(|_| wrong())?, self.input.c);
        let (first, last) = (tokens(&before)?, tokens(&after)?);
        Ok(Kernel::Concat { input, before: first, after: last, constants: [before, after].concat() })
    }

    pub(super) fn slice(&self, axis: usize, start: usize) -> Result<Kernel, LowerError> {
        let wrong = || LowerError::Shape { node: self.node.name.clone(), shape: self.node.shape.clone() };
        let mut first = [0; 3];
        let place = (3 + axis).checked_sub(self.node.shape.len()).and_then(|axis| first.get_mut(axis));
        *place.ok_or_else(wrong)? = u16::try_from(start).map_err(|_| wrong())?;
        Ok(Kernel::Slice { input: self.input, first, output: self.output })
    }

    /// The mean over an axis with nothing but channels behind it.
    pub(super) fn mean(&self, axis: usize) -> Result<Kernel, LowerError> {
        let wrong = || LowerError::Window { node: self.node.name.clone() };
        let outer = self.node.shape.get(..axis).ok_or_else(wrong)?;
        if axis + 2 != self.node.shape.len() || outer.iter().any(|&extent| extent != 1) {
            return Err(wrong());
        }
        // A window has at most 255 columns; more tokens are taken as rows and columns.
        let tokens = self.input.positions();
        let rows = (1..=255).find(|rows| tokens.is_multiple_of(*rows) && tokens / rows <= 255).ok_or_else(wrong)?;
        let columns = tokens / rows;
        let kernel = [rows as u8, columns as u8];
        let input = Shape::new(rows as u16, columns as u16, self.input.c);
        let window = KernelWindow { kernel, ..KernelWindow::POINT };
        self.mean_of(Pool2d { input, output: Shape::new(1, 1, self.input.c), window })
    }
}
