//! Self-attention in integers: all heads of one layer in a single operator, without a tensor of scores.

#[cfg(any(arm_dsp, portable, target_arch = "x86_64"))]
pub(super) mod blocked;
#[cfg(portable)]
mod portable;

use serde::{Deserialize, Serialize};

use super::isa::Isa;
use super::params::{Landing, Shape, ShapeError};
use super::{check, reference};

/// Fraction bits of the product of a score difference and [`Attention::score_multiplier`], below 1/256 of an octave.
const SCORE_SHIFT: u32 = 20;
/// Queries that share one pass over the keys.
pub(super) const QUERIES: usize = 4;

/// Geometry and scales of multi-head self-attention over one tensor that holds queries, keys and values side by side.
///
/// All three have the zero point 0. Head `h` of a position has its query in the channels from
/// `first[0] + h * pitch[0]` on, its key from `first[1] + h * pitch[1]`, its value from `first[2] + h * pitch[2]`. The output
/// holds the heads' results side by side, `heads * value_features` channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attention {
    /// Extents of the input; every position is a token.
    pub input: Shape,
    /// Number of heads.
    pub heads: u16,
    /// Features of a query and of a key.
    pub key_features: u16,
    /// Features of a value.
    pub value_features: u16,
    /// First channel of the first head's query, key, value.
    pub first: [u16; 3],
    /// Channels from one head to the next, of queries, keys, values.
    pub pitch: [u16; 3],
    /// Octaves per unit of a score, in 2^-28: `round(2^28 * log2(e) * scale of the scores)`. At most
    /// 2^29, so that the farthest difference that is told apart has the weight 0.
    pub score_multiplier: u32,
    /// Scale of the values over scale of the output: multiplier, 0 or in `2^30 .. 2^31`.
    pub multiplier: i32,
    /// Its right shift, 1 to 39.
    pub shift: u8,
    /// Zero point and clamp.
    pub landing: Landing,
}

impl Attention {
    /// Most tokens: the weighted sum of the values stays inside 32 bits.
    pub const MAX_TOKENS: usize = 4095;
    /// Largest [`score_multiplier`](Self::score_multiplier).
    pub const MAX_SCORE_MULTIPLIER: u32 = 1 << 29;
    /// Largest [`shift`](Self::shift).
    pub const MAX_SHIFT: u8 = 39;

    /// Number of tokens.
    #[must_use]
    pub const fn tokens(&self) -> usize {
        self.input.positions()
    }

    /// Extents of the output; channels saturate where they would not fit.
    #[must_use]
    pub const fn output(&self) -> Shape {
        let channels = self.heads as u32 * self.value_features as u32;
        let channels = if channels > u16::MAX as u32 { u16::MAX } else { channels as u16 };
        Shape::new(self.input.h, self.input.w, channels)
    }

    /// Bytes of scratch: four queries' scores, 32 bits each, in rows of a multiple of four.
    #[must_use]
    pub const fn scratch_bytes(&self) -> usize {
        4 * QUERIES * self.tokens().next_multiple_of(4)
    }

    /// Multiply-accumulates: every query with every key, every weight with every value.
    #[must_use]
    pub const fn macs(&self) -> u64 {
        let tokens = self.tokens() as u64;
        let features = self.key_features as u64 + self.value_features as u64;
        tokens.saturating_mul(tokens).saturating_mul(self.heads as u64 * features)
    }

    /// Whether queries, keys and values of all heads lie inside the input's channels, and the sums inside 32 bits.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        let last = u32::from(self.heads.saturating_sub(1));
        let features = [self.key_features, self.key_features, self.value_features];
        let inside = self.first.iter().zip(&self.pitch).zip(features).all(|((&first, &pitch), features)| {
            let end = u64::from(first) + u64::from(last) * u64::from(pitch) + u64::from(features);
            features > 0 && end <= u64::from(self.input.c)
        });
        let channels = u32::from(self.heads) * u32::from(self.value_features);
        self.heads > 0
            && inside
            && channels <= u32::from(u16::MAX)
            && self.key_features < 1 << 15
            && (1..=Self::MAX_TOKENS).contains(&self.tokens())
    }

    /// The first channel of the query, key or value (`part` 0, 1, 2) of a head.
    #[inline(always)]
    pub(super) fn channel(&self, part: usize, head: usize) -> usize {
        let first = self.first.get(part).copied().unwrap_or(0);
        let pitch = self.pitch.get(part).copied().unwrap_or(0);
        usize::from(first).wrapping_add(head.wrapping_mul(usize::from(pitch)))
    }
}

/// Self-attention. Per head and query, with `score[j]` the dot product of the query and key `j`, `d = max(score) - score[j]`
/// and `m` the score multiplier:
///
/// ```text
/// x[j] = (min(d, (2^32 - 1 - 2^19) / m) * m + 2^19) >> 20          octaves below the highest score, in 1/256
/// e[j] = (P[x[j] mod 256] + (4 << n)) >> (n + 3),  n = x[j] / 256   P[i] = round(2^15 * 2^(-i / 256))
/// S    = sum(e[j]),  z = leading zeros of S in 32 bits
/// y    = requantize(sum(e[j] * value[j]), (multiplier << 31) / (S << z), shift + 31 - z, landing)
/// ```
///
/// `scratch` may be overwritten.
///
/// # Errors
/// [`ShapeError::Geometry`] if queries, keys or values leave the input's channels or there are more than
/// [`Attention::MAX_TOKENS`]; a [`ShapeError`] that names the slice whose length does not match; [`ShapeError::Scratch`] if
/// `scratch` is shorter than [`Attention::scratch_bytes`] or not aligned to 4 bytes.
pub fn attention_s8(
    isa: Isa,
    p: &Attention,
    input: &[i8],
    scratch: &mut [u8],
    output: &mut [i8],
) -> Result<(), ShapeError> {
    check::require(p.is_possible(), ShapeError::Geometry)?;
    check::shape(p.output(), output.len(), ShapeError::Output)?;
    run(isa, p, 0, input, scratch, output)
}

/// The part of [`attention_s8`] that `output` has rows for, from token `first` on.
///
/// # Errors
/// As [`attention_s8`]; [`ShapeError::Output`] if `output` is not whole rows, or they reach beyond the last token.
pub fn attention_queries_s8(
    isa: Isa,
    p: &Attention,
    first: usize,
    input: &[i8],
    scratch: &mut [u8],
    output: &mut [i8],
) -> Result<(), ShapeError> {
    check::require(p.is_possible(), ShapeError::Geometry)?;
    let width = usize::from(p.output().c).max(1);
    let end = first.checked_add(output.len() / width).ok_or(ShapeError::Output)?;
    check::require(output.len().is_multiple_of(width) && end <= p.tokens(), ShapeError::Output)?;
    run(isa, p, first, input, scratch, output)
}

fn run(
    isa: Isa,
    p: &Attention,
    first: usize,
    input: &[i8],
    scratch: &mut [u8],
    output: &mut [i8],
) -> Result<(), ShapeError> {
    check::shape(p.input, input.len(), ShapeError::Input)?;
    let scratch = scratch.get_mut(..p.scratch_bytes()).ok_or(ShapeError::Scratch)?;
    let scratch: &mut [u32] = bytemuck::try_cast_slice_mut(scratch).map_err(|_| ShapeError::Scratch)?;
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Vnni if super::isa::avx2_is_present() => {
            super::avx2::attention(p, first, input, scratch, output)
        }
        #[cfg(portable)]
        Isa::Portable => portable::attention(p, first, input, scratch, output),
        #[cfg(neon)]
        Isa::Neon | Isa::NeonDot | Isa::NeonI8mm => {
            super::neon::attention(super::isa::neon_level(isa), p, first, input, scratch, output)
        }
        #[cfg(arm_dsp)]
        Isa::ArmDsp => super::arm_dsp::attention(p, first, input, scratch, output),
        #[cfg(arm_neon)]
        Isa::ArmNeon => super::arm_dsp::attention(p, first, input, scratch, output),
        #[cfg(arm_mve)]
        Isa::ArmMve => super::arm_dsp::attention(p, first, input, scratch, output),
        _ => reference::attention(p, first, input, scratch, output),
    }
    Ok(())
}

/// `P[i] = round(2^15 * 2^(-i / 256))`.
pub(super) static OCTAVE: [u16; 256] = octave();

const fn octave() -> [u16; 256] {
    // round(2^62 * 2^(-1/256)): 256 products leave an error far below the last bit of an entry.
    const STEP: u128 = 4_599_216_278_082_138_665;
    let mut table = [0; 256];
    let (mut value, mut at) = (1u128 << 62, 0);
    while at < table.len() {
        table[at] = ((value + (1 << 46)) >> 47) as u16;
        value = (value * STEP) >> 62;
        at += 1;
    }
    table
}

/// The weight of keys by how far their score is below the highest.
#[derive(Clone, Copy)]
pub(super) struct Weight {
    multiplier: u32,
    farthest: u32,
}

impl Weight {
    pub(super) fn new(score_multiplier: u32) -> Self {
        let farthest = (u32::MAX - (1 << (SCORE_SHIFT - 1))).checked_div(score_multiplier).unwrap_or(0);
        Self { multiplier: score_multiplier, farthest }
    }

    #[cfg(neon)]
    pub(super) const fn multiplier(self) -> u32 {
        self.multiplier
    }

    /// 0 to 4096, which is the weight of the highest score.
    #[inline(always)]
    pub(super) fn of(self, below: u32) -> u32 {
        let product = below.min(self.farthest).wrapping_mul(self.multiplier);
        let octaves = product.wrapping_add(1 << (SCORE_SHIFT - 1)) >> SCORE_SHIFT;
        let whole = (octaves >> 8) & 15;
        let part = u32::from(OCTAVE[(octaves & 255) as usize]);
        part.wrapping_add(4 << whole) >> (whole + 3)
    }
}

/// How a sum of weighted values becomes an output: multiplier and shift for [`requantize`](super::requantize), given the sum
/// of the weights.
#[inline(always)]
pub(super) fn normalise(p: &Attention, weights: u32) -> (i32, u8) {
    let zeros = weights.leading_zeros().min(31);
    let scale = u64::from((weights << zeros).max(1));
    let multiplier = (u64::from(p.multiplier.unsigned_abs()) << 31) / scale;
    (multiplier.min(i32::MAX as u64) as i32, p.shift.wrapping_add(31).wrapping_sub(zeros as u8))
}

#[cfg(test)]
mod tests;
