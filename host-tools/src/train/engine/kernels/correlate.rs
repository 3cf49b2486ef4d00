//! Convolution, and its gradient with respect to the input, on padded copies: one kernel for both.
//!
//! The gradient of a strided convolution is a sum of unstrided ones, one per phase of the stride, each with some of the taps.

use super::padded::Padded;
use super::simd::{LANES, Lanes, dispatch};

/// One kernel tap: what it reads relative to an output's first element, and which tap of the weights it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tap {
    /// Rows and columns from the first element under the kernel.
    pub offset: [usize; 2],
    /// Tap of the weights, rows first.
    pub index: usize,
}

/// Outputs that share a list of taps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// Taps in the order of the packed weights.
    pub taps: Vec<Tap>,
    /// First output row and column.
    pub start: [usize; 2],
    /// Distance of output rows and columns.
    pub step: [usize; 2],
    /// Output rows and columns.
    pub count: [usize; 2],
}

/// A correlation of a padded copy with packed weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correlation {
    /// The copy it reads.
    pub input: Padded,
    /// Distance of the elements read by neighbouring outputs.
    pub stride: [usize; 2],
    /// Output rows and columns.
    pub output: [usize; 2],
    /// Output channels.
    pub channels: usize,
    /// Groups of outputs; together they cover every output once.
    pub phases: Vec<Phase>,
}

impl Correlation {
    /// Blocks of 16 output channels.
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(LANES)
    }

    /// Elements of the packed weights: per phase, block of outputs, block of inputs and tap the valid input channels, each
    /// with 16 outputs.
    pub fn packed_len(&self) -> usize {
        self.phases.iter().map(|phase| phase.taps.len()).sum::<usize>() * self.blocks() * self.input.channels * LANES
    }

    /// Calls `visit(packed, tap, input, output, lanes)` for each run of `lanes` packed weights, which belong to one tap and
    /// input channel and to the outputs from `output` on.
    pub fn each_run(&self, mut visit: impl FnMut(usize, usize, usize, usize, usize)) {
        let mut packed = 0;
        for phase in &self.phases {
            for block in 0..self.blocks() {
                let lanes = (self.channels - block * LANES).min(LANES);
                for from in 0..self.input.blocks() {
                    for tap in &phase.taps {
                        for channel in 0..self.input.valid(from) {
                            visit(packed, tap.index, from * LANES + channel, block * LANES, lanes);
                            packed += LANES;
                        }
                    }
                }
            }
        }
    }
}

/// What happens to sums before they are stored.
#[derive(Debug, Clone, Copy)]
pub struct Epilogue<'a> {
    /// Start of the sums, one per output channel; empty for zeros.
    pub bias: &'a [f32],
    /// Added to the sums, same layout as the output.
    pub residual: Option<&'a [f32]>,
    /// Whether the output's old values are added.
    pub accumulate: bool,
    /// Clamp at the end.
    pub clip: Option<(f32, f32)>,
}

dispatch! {
    /// Computes one sample: channels `first ..` of an HWC output whose pixels are `pixel` elements apart.
    ///
    /// # Panics
    /// When a slice is too short.
    pub fn correlate(
        job: &Correlation,
        copy: &[f32],
        packed: &[f32],
        epilogue: &Epilogue<'_>,
        pixel: usize,
        first: usize,
        output: &mut [f32],
    ) = correlate_lanes
}

#[inline(always)]
unsafe fn correlate_lanes<L: Lanes>(
    job: &Correlation,
    copy: &[f32],
    packed: &[f32],
    epilogue: &Epilogue<'_>,
    pixel: usize,
    first: usize,
    output: &mut [f32],
) {
    assert!(copy.len() >= job.input.len() && packed.len() >= job.packed_len());
    let needed = (job.output[0] * job.output[1]).checked_sub(1).map_or(0, |last| last * pixel + first + job.channels);
    assert!(output.len() >= needed && epilogue.residual.is_none_or(|residual| residual.len() >= needed));
    assert!(epilogue.bias.is_empty() || epilogue.bias.len() >= job.channels);
    let mut weights = packed.as_ptr();
    for phase in &job.phases {
        let block_len = phase.taps.len() * job.input.channels * LANES;
        let mut block = 0;
        while block < job.blocks() {
            let wide = L::BLOCKS == 2 && block + 2 <= job.blocks();
            let walk = Walk { job, phase, copy: copy.as_ptr(), weights, block_len, epilogue, pixel, first, block };
            // SAFETY: the asserts above; `Walk` stays inside the geometry it is given.
            unsafe {
                if wide {
                    walk.rows::<L, 2>(output.as_mut_ptr())
                } else {
                    walk.rows::<L, 1>(output.as_mut_ptr())
                }
                weights = weights.add(block_len * if wide { 2 } else { 1 });
            }
            block += if wide { 2 } else { 1 };
        }
    }
}

/// One phase and one or two blocks of output channels.
struct Walk<'a> {
    job: &'a Correlation,
    phase: &'a Phase,
    copy: *const f32,
    weights: *const f32,
    block_len: usize,
    epilogue: &'a Epilogue<'a>,
    pixel: usize,
    first: usize,
    block: usize,
}

impl Walk<'_> {
    #[inline(always)]
    unsafe fn rows<L: Lanes, const N: usize>(&self, output: *mut f32) {
        let [rows, columns] = self.phase.count;
        for y in 0..rows {
            let mut x = 0;
            // SAFETY: every tile lies inside the phase's outputs.
            unsafe {
                if L::ROWS >= 16 && N == 1 {
                    while x + 16 <= columns {
                        self.strided::<L, 16, N>(output, y, x);
                        x += 16;
                    }
                }
                if L::ROWS >= 16 {
                    while x + 8 <= columns {
                        self.strided::<L, 8, N>(output, y, x);
                        x += 8;
                    }
                }
                while x + 4 <= columns {
                    self.strided::<L, 4, N>(output, y, x);
                    x += 4;
                }
                while x < columns {
                    self.strided::<L, 1, N>(output, y, x);
                    x += 1;
                }
            }
        }
    }

    /// Chooses the tile with the stride as a constant, so that a pixel's address is a displacement.
    #[inline(always)]
    unsafe fn strided<L: Lanes, const R: usize, const N: usize>(&self, output: *mut f32, y: usize, x: usize) {
        // SAFETY: the caller's.
        unsafe {
            match self.job.stride[1] {
                1 => self.tile::<L, R, N>(output, y, x, LANES),
                2 => self.tile::<L, R, N>(output, y, x, 2 * LANES),
                stride => self.tile::<L, R, N>(output, y, x, stride * LANES),
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize, const N: usize>(&self, output: *mut f32, y: usize, x: usize, step: usize) {
        let (job, input) = (self.job, &self.job.input);
        // SAFETY: `Correlation` promises that all taps of all outputs lie inside the copy; see `super::geometry`.
        unsafe {
            let mut sums = [[L::splat(0.0); N]; R];
            let start = self.copy.add(y * job.stride[0] * input.row() + x * step);
            let mut weights = self.weights;
            for from in 0..input.blocks() {
                let valid = input.valid(from);
                for tap in &self.phase.taps {
                    let mut at = start.add(tap.offset[0] * input.row() + from * input.block() + tap.offset[1] * LANES);
                    for _ in 0..valid {
                        let factors: [L; N] = std::array::from_fn(|n| L::load(weights.add(n * self.block_len)));
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let value = L::splat(*at.add(r * step));
                            for (sum, factor) in sums.iter_mut().zip(factors) {
                                *sum = value.fma(factor, *sum);
                            }
                        }
                        at = at.add(1);
                        weights = weights.add(LANES);
                    }
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                let row = self.phase.start[0] + y * self.phase.step[0];
                let column = self.phase.start[1] + (x + r) * self.phase.step[1];
                let at = (row * job.output[1] + column) * self.pixel + self.first;
                self.finish::<L, N>(sums, output, at);
            }
        }
    }

    #[inline(always)]
    unsafe fn finish<L: Lanes, const N: usize>(&self, sums: [L; N], output: *mut f32, pixel: usize) {
        for (n, mut sum) in sums.into_iter().enumerate() {
            let channel = (self.block + n) * LANES;
            let lanes = (self.job.channels - channel).min(LANES);
            let at = pixel + channel;
            // SAFETY: `at .. at + lanes` is inside the output and the residual, `channel ..` inside the bias.
            unsafe {
                let get = |from: *const f32| {
                    if lanes == LANES { L::load(from) } else { L::load_first(from, lanes) }
                };
                if !self.epilogue.bias.is_empty() {
                    sum = sum.add(get(self.epilogue.bias.as_ptr().add(channel)));
                }
                if let Some(residual) = self.epilogue.residual {
                    sum = sum.add(get(residual.as_ptr().add(at)));
                }
                if self.epilogue.accumulate {
                    sum = sum.add(get(output.add(at)));
                }
                if let Some((lo, hi)) = self.epilogue.clip {
                    sum = L::splat(hi).min(L::splat(lo).max(sum));
                }
                if lanes == LANES { sum.store(output.add(at)) } else { sum.store_first(output.add(at), lanes) }
            }
        }
    }
}
