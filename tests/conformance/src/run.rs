//! From a case to a hash.

use core::fmt;

use stitchkit_runtime::kernels::{
    Conv2d, Isa, Landing, LayerNorm, Requant, Shape, ShapeError, add_in_place_s8, add_s8, attention_s8, avg_pool_s8,
    concat_s8, conv2d_s8, depthwise_s8, layer_norm_s8, lut_in_place_s8, lut_s8, max_pool_s8, slice_s8, softmax_s8,
    transpose_s8, woven_s8,
};

use crate::case::{Case, Form, Op};
use crate::cases;
use crate::generate::{GUARD, Operands, buffer_bytes, operands, ranges};

/// Why a case gave no hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaseError {
    /// The buffer is too small or not 16-byte aligned.
    Buffer {
        /// Bytes the case needs.
        need_bytes: usize,
    },
    /// The kernel refused its arguments.
    Refused(ShapeError),
    /// The kernel wrote outside its output and scratch.
    WroteOutside,
}

impl fmt::Display for CaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buffer { need_bytes } => write!(f, "needs an aligned buffer of {need_bytes} bytes"),
            Self::Refused(error) => write!(f, "refused: {error}"),
            Self::WroteOutside => f.write_str("wrote outside its output and scratch"),
        }
    }
}

impl core::error::Error for CaseError {}

/// 32-bit FNV-1a over the bytes of `values`.
#[must_use]
pub fn fnv1a(values: &[i8]) -> u32 {
    values.iter().fold(0x811c_9dc5, |hash, &value| (hash ^ u32::from(value as u8)).wrapping_mul(0x0100_0193))
}

/// Generates the operands of `case` in `buffer`, runs the kernel of `isa` and returns the hash of its output.
///
/// # Errors
/// [`CaseError`] if the buffer is too small, the kernel refuses, or bytes outside its slices changed.
pub fn run_case(case: &Case, isa: Isa, buffer: &mut [u8]) -> Result<u32, CaseError> {
    let need_bytes = buffer_bytes(case);
    let mut operands = operands(case, buffer).ok_or(CaseError::Buffer { need_bytes })?;
    let hash = fnv1a(execute(case, isa, &mut operands).map_err(CaseError::Refused)?);
    let occupied = ranges(case);
    let is_free = |at: &usize| !occupied.iter().any(|range| range.contains(at));
    let untouched = (0..buffer.len()).filter(is_free).all(|at| buffer[at] == GUARD);
    if untouched { Ok(hash) } else { Err(CaseError::WroteOutside) }
}

/// Runs the kernel of `isa` on `operands` of `case`; returns where the result lies.
///
/// # Errors
/// What the kernel says.
pub fn execute<'a>(case: &Case, isa: Isa, operands: &'a mut Operands<'_>) -> Result<&'a [i8], ShapeError> {
    let Operands { input, second, weights, table, scratch, output, .. } = operands;
    let requant = |landing: Landing| Requant {
        bias: operands.bias,
        multiplier: operands.multiplier,
        shift: operands.shift,
        landing,
    };
    match &case.op {
        Op::Conv2d(c) => {
            let geometry: Conv2d = c.geometry(c.groups);
            conv2d_s8(isa, &geometry, &requant(c.landing), c.residual.as_ref(), input, weights, scratch, output)?;
        }
        Op::Woven(c) => {
            let geometry = c.geometry(c.groups);
            woven_s8(isa, &geometry, &requant(c.landing), input, weights, scratch, output)?;
        }
        Op::Depthwise(c) => {
            let geometry = c.geometry(c.channels);
            depthwise_s8(isa, &geometry, &requant(c.landing), c.residual.as_ref(), input, weights, output)?;
        }
        Op::Add(a) if a.form == Form::InPlace => {
            add_in_place_s8(isa, &a.add, input, second)?;
            return Ok(input);
        }
        Op::Add(a) => add_s8(isa, &a.add, input, second, output)?,
        Op::MaxPool(p) => max_pool_s8(isa, &p.geometry(), input, output)?,
        Op::AvgPool(a) => {
            let geometry = a.pool.geometry();
            avg_pool_s8(isa, &geometry, a.input_zero_point, a.multiplier, a.shift, a.landing, input, output)?;
        }
        Op::Lut(_, Form::InPlace) => {
            lut_in_place_s8(weights, input)?;
            return Ok(input);
        }
        Op::Lut(_, Form::Apart) => lut_s8(weights, input, output)?,
        Op::Softmax(rows, columns, ..) => softmax_s8(Shape::new(1, *rows, *columns), table, input, output)?,
        Op::Transpose([h, w, c], perm) => transpose_s8(Shape::new(*h, *w, *c), *perm, input, output)?,
        Op::LayerNorm(norm) => {
            let [positions, channels] = norm.shape;
            let (gain, offset) = table.split_at(usize::from(channels));
            let constants = LayerNorm { gain, offset, epsilon: norm.epsilon, shift: norm.shift, landing: norm.landing };
            layer_norm_s8(Shape::new(1, positions, channels), &constants, input, output)?;
        }
        Op::Attention(attention) => attention_s8(isa, &attention.operator(), input, scratch, output)?,
        Op::Concat([before, ..]) => concat_s8(usize::from(*before), weights, input, output)?,
        Op::Slice(from, first, to) => {
            let shape = |&[h, w, c]: &[u16; 3]| Shape::new(h, w, c);
            slice_s8(shape(from), *first, shape(to), input, output)?;
        }
    }
    Ok(output)
}

/// How many cases passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Cases whose hash equals the golden one.
    pub passed: u32,
    /// The others.
    pub failed: u32,
}

/// Runs every case with `isa` in `buffer` and calls `failure` for each that does not give its golden hash.
pub fn run_all(isa: Isa, buffer: &mut [u8], mut failure: impl FnMut(&Case, u32, Result<u32, CaseError>)) -> Tally {
    let mut tally = Tally::default();
    for (case, golden) in cases() {
        let result = run_case(case, isa, buffer);
        if result == Ok(golden) {
            tally.passed += 1;
        } else {
            tally.failed += 1;
            failure(case, golden, result);
        }
    }
    tally
}
