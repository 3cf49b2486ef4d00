//! Operands from seeds.

use core::ops::Range;

use stitchkit_runtime::kernels::{Conv2d, Shape};

use crate::case::{Bias, Case, Convolution, Norm, Op, Scales, Values};

/// Fills what no operand occupies.
pub(crate) const GUARD: u8 = 0xA5;
/// Least guard bytes between operands.
const GUARD_BYTES: usize = 16;
/// Number of operand slots.
const SLOTS: usize = 9;

/// The operands of one call; slices that the operator does not take are empty.
#[derive(Debug)]
pub struct Operands<'a> {
    /// First input.
    pub input: &'a mut [i8],
    /// Second input of additions.
    pub second: &'a [i8],
    /// Weights, the lookup table, or constant values.
    pub weights: &'a [i8],
    /// Biases.
    pub bias: &'a [i32],
    /// Multipliers.
    pub multiplier: &'a [i32],
    /// Shifts.
    pub shift: &'a [u8],
    /// Exponentials of softmax; gains, then offsets, of a layer norm.
    pub table: &'a [i32],
    /// Scratch, filled with garbage.
    pub scratch: &'a mut [u8],
    /// Output: the residual operand where one is fused, else garbage.
    pub output: &'a mut [i8],
}

/// Lengths in bytes, in the order of the fields of [`Operands`].
fn lengths(case: &Case) -> [usize; SLOTS] {
    let conv = |g: &Conv2d, weights: usize, scratch: usize| {
        let c = usize::from(g.output.c);
        [g.input.len(), 0, weights, 4 * c, 4 * c, c, 0, scratch, g.output.len()]
    };
    match case.op {
        Op::Conv2d(c) | Op::Woven(c) => {
            let g = c.geometry(c.groups);
            conv(&g, g.taps() * usize::from(g.output.c), g.scratch_bytes())
        }
        Op::Depthwise(c) => {
            let g = c.geometry(c.channels);
            conv(&g, g.taps() * usize::from(g.output.c), 0)
        }
        Op::Add(a) => {
            let n = elements(a.shape);
            [n, n, 0, 0, 0, 0, 0, 0, n]
        }
        Op::MaxPool(p) => [elements(p.input), 0, 0, 0, 0, 0, 0, 0, p.geometry().output.len()],
        Op::AvgPool(a) => [elements(a.pool.input), 0, 0, 0, 0, 0, 0, 0, a.pool.geometry().output.len()],
        Op::Lut(n, _) => [usize::from(n), 0, 256, 0, 0, 0, 0, 0, usize::from(n)],
        Op::Softmax(rows, columns, ..) => {
            let n = usize::from(rows) * usize::from(columns);
            [n, 0, 0, 0, 0, 0, 4 * 256, 0, n]
        }
        Op::Transpose(shape, _) => [elements(shape), 0, 0, 0, 0, 0, 0, 0, elements(shape)],
        Op::LayerNorm(Norm { shape: [positions, channels], .. }) => {
            let n = usize::from(positions) * usize::from(channels);
            [n, 0, 0, 0, 0, 0, 8 * usize::from(channels), 0, n]
        }
        Op::Attention(a) => {
            let p = a.operator();
            [p.input.len(), 0, 0, 0, 0, 0, 0, p.scratch_bytes(), p.output().len()]
        }
        Op::Concat(lengths) => {
            let [before, input, after] = lengths.map(usize::from);
            [input, 0, before + after, 0, 0, 0, 0, 0, before + input + after]
        }
        Op::Slice(input, _, output) => [elements(input), 0, 0, 0, 0, 0, 0, 0, elements(output)],
    }
}

fn elements([h, w, c]: [u16; 3]) -> usize {
    Shape::new(h, w, c).len()
}

/// Where the operands lie: apart, 32-bit ones and the scratch on 16-byte boundaries, the others off them by the case's skew.
pub(crate) fn ranges(case: &Case) -> [Range<usize>; SLOTS] {
    const WORDS: [bool; SLOTS] = [false, false, false, true, true, false, true, true, false];
    let skew = usize::from(case.skew % 16);
    let mut at = GUARD_BYTES;
    let mut slot = 0;
    lengths(case).map(|len| {
        // Neighbouring operands differ in alignment too.
        let start = at + if WORDS[slot] { 0 } else { skew * (1 + slot % 3) % 16 };
        slot += 1;
        at = (start + len).next_multiple_of(16) + GUARD_BYTES;
        start..start + len
    })
}

/// Bytes of buffer that `case` needs.
#[must_use]
pub fn buffer_bytes(case: &Case) -> usize {
    let [.., last] = ranges(case);
    last.end + GUARD_BYTES
}

/// Generates the operands of `case` in `buffer`; `None` if it is shorter than [`buffer_bytes`] or not 16-byte aligned.
pub fn operands<'a>(case: &Case, buffer: &'a mut [u8]) -> Option<Operands<'a>> {
    if buffer.len() < buffer_bytes(case) || buffer.as_ptr().align_offset(16) != 0 {
        return None;
    }
    buffer.fill(GUARD);
    let slots = buffer.get_disjoint_mut(ranges(case)).ok()?;
    let [input, second, weights, bias, multiplier, shift, table, scratch, output] = slots;
    let mut fill = Fill { rng: Rng::new(case.seed) };
    let input: &mut [i8] = bytemuck::cast_slice_mut(input);
    let second: &mut [i8] = bytemuck::cast_slice_mut(second);
    let weights: &mut [i8] = bytemuck::cast_slice_mut(weights);
    let bias: &mut [i32] = bytemuck::cast_slice_mut(bias);
    let multiplier: &mut [i32] = bytemuck::cast_slice_mut(multiplier);
    let table: &mut [i32] = bytemuck::cast_slice_mut(table);
    let output: &mut [i8] = bytemuck::cast_slice_mut(output);
    fill.activations(Values::Random, output);
    fill.garbage(case, scratch);
    match case.op {
        Op::Conv2d(c) | Op::Woven(c) | Op::Depthwise(c) => {
            fill.activations(c.values, input);
            fill.weights(c.values, weights);
            let taps = weights.len() / bias.len().max(1);
            fill.scales(c.scales, taps, multiplier, shift);
            let is_depthwise = matches!(case.op, Op::Depthwise(_));
            fill.bias(&c, is_depthwise, taps, weights, bias);
        }
        Op::Add(a) => {
            fill.activations(a.values, input);
            fill.activations(a.values, second);
        }
        Op::AvgPool(a) => fill.activations(a.values, input),
        Op::Softmax(_, _, ratio, values) => {
            fill.activations(values, input);
            geometric(ratio, table);
        }
        Op::Lut(..) => {
            fill.activations(Values::Random, input);
            fill.activations(Values::Random, weights);
        }
        Op::MaxPool(_) | Op::Transpose(..) | Op::Slice(..) => fill.activations(Values::Random, input),
        Op::LayerNorm(norm) => {
            fill.activations(norm.values, input);
            fill.gains(&norm, table);
        }
        Op::Attention(attention) => fill.activations(attention.values, input),
        Op::Concat(_) => {
            fill.activations(Values::Random, input);
            fill.activations(Values::Random, weights);
        }
    }
    Some(Operands { input, second, weights, bias, multiplier, shift, table, scratch, output })
}

/// `table[d]` is about `65536 * (ratio / 65536)^d`, the shape of the exponentials that softmax reads.
fn geometric(ratio: u32, table: &mut [i32]) {
    let mut value = 1u64 << 32;
    for entry in table {
        *entry = (value >> 16) as i32;
        value = (value * u64::from(ratio)) >> 16;
    }
}

struct Fill {
    rng: Rng,
}

impl Fill {
    /// Draws as many values as two windows of taps take, whatever scratch the kernels ask for: the operands that follow do
    /// not depend on it. What they do not reach of the scratch stays as it is.
    fn garbage(&mut self, case: &Case, scratch: &mut [u8]) {
        let Op::Conv2d(c) = case.op else { return };
        let draws = 4 * c.geometry(c.groups).taps().next_multiple_of(4);
        for at in 0..draws {
            let value = self.rng.next_i8();
            if let Some(place) = scratch.get_mut(at) {
                *place = value as u8;
            }
        }
    }

    fn activations(&mut self, values: Values, out: &mut [i8]) {
        for value in out {
            let random = self.rng.next_i8();
            *value = match values {
                Values::Random => random,
                Values::Small => random.rem_euclid(7) - 3,
                Values::Highest | Values::Lowest => -128,
                Values::Equal(value) => value,
                Values::Rails => [-128, 127][usize::from(random < 0)],
            };
        }
    }

    fn weights(&mut self, values: Values, out: &mut [i8]) {
        self.activations(values, out);
        for weight in out {
            *weight = match values {
                Values::Highest => -127,
                Values::Lowest => 127,
                _ => (*weight).max(-127),
            };
        }
    }

    /// Gains such that most outputs lie inside int8, and offsets of a quarter of that; or any numbers at all.
    fn gains(&mut self, norm: &Norm, table: &mut [i32]) {
        let typical = 6 + u32::from(norm.shift.saturating_sub(16));
        let channels = table.len() / 2;
        for (at, entry) in table.iter_mut().enumerate() {
            let random = self.rng.next_u32() as i32;
            *entry = match norm.scales {
                Scales::Largest(_) => [i32::MIN, i32::MAX][usize::from(random < 0)],
                Scales::SomeZero if at % 3 == 0 => 0,
                _ => random >> (31 - typical.min(31)) >> if at < channels { 0 } else { 1 },
            };
        }
    }

    fn scales(&mut self, scales: Scales, taps: usize, multiplier: &mut [i32], shift: &mut [u8]) {
        // A sum of `taps` random products is about 5400 * sqrt(taps).
        let typical = 36 + (taps.ilog2() / 2) as u8;
        for (channel, (multiplier, shift)) in multiplier.iter_mut().zip(shift).enumerate() {
            let normalised = (1 << 30) | (self.rng.next_u32() >> 2) as i32;
            let random = self.rng.next_u32() >> 8;
            (*multiplier, *shift) = match scales {
                Scales::Typical => (normalised, typical + (random % 3) as u8),
                Scales::Shifts(least, most) => (normalised, least + (random % u32::from(most - least + 1)) as u8),
                Scales::Ties => (1 << 30, 31 + (random % 4) as u8),
                Scales::SomeZero if channel % 3 == 0 => (0, typical),
                Scales::SomeZero => (normalised, typical),
                Scales::Largest(shift) => (i32::MAX, shift),
            };
        }
    }

    /// `weights` are OHWI, or HWC if the convolution is depthwise.
    fn bias(&mut self, conv: &Convolution, is_depthwise: bool, taps: usize, weights: &[i8], bias: &mut [i32]) {
        let channels = bias.len();
        for (channel, bias) in bias.iter_mut().enumerate() {
            let random = self.rng.next_u32();
            let weight = |tap: usize| match is_depthwise {
                true => weights[tap * channels + channel],
                false => weights[channel * taps + tap],
            };
            let reach: i32 = (0..taps).map(|tap| i32::from(weight(tap).unsigned_abs()) * 128).sum();
            let most = (1 << 30) - 1 - reach;
            *bias = match conv.bias {
                // A sum of `taps` random products is about 5400 * sqrt(taps).
                Bias::Typical => (random as i32 >> (18 - taps.ilog2() / 2)) % most,
                Bias::Zero => 0,
                Bias::Extreme if random & 0x100 == 0 => most,
                Bias::Extreme => -most,
            };
        }
    }
}

/// Marsaglia's 32-bit xorshift (13, 17, 5).
struct Rng(u32);

impl Rng {
    fn new(seed: u32) -> Self {
        let mut rng = Self(seed.wrapping_mul(0x9E37_79B9) | 1);
        for _ in 0..4 {
            rng.next_u32();
        }
        rng
    }

    fn next_u32(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    fn next_i8(&mut self) -> i8 {
        (self.next_u32() >> 24) as i8
    }
}
