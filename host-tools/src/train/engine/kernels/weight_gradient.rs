//! Gradient of a convolution with respect to its weights, on padded copies of its input and its output's gradient.

use super::correlate::Correlation;
use super::padded::Padded;
use super::simd::{LANES, Lanes, dispatch};

/// Bytes of both copies that are walked for all weights before going on to further rows.
const STRIP_BYTES: usize = 24 << 10;

dispatch! {
    /// Adds one sample's gradient to `sums`, which has the order of the correlation's packed weights. `forward` has a single
    /// phase; `gradient` is a copy of the output's gradient as `gradient_shape` says.
    ///
    /// # Panics
    /// When a slice is too short.
    pub fn weight_gradient(
        forward: &Correlation,
        copy: &[f32],
        gradient_shape: &Padded,
        gradient: &[f32],
        sums: &mut [f32],
    ) = weight_gradient_lanes
}

#[inline(always)]
unsafe fn weight_gradient_lanes<L: Lanes>(
    forward: &Correlation,
    copy: &[f32],
    gradient_shape: &Padded,
    gradient: &[f32],
    sums: &mut [f32],
) {
    assert!(forward.phases.len() == 1 && gradient_shape.map == forward.output);
    assert!(copy.len() >= forward.input.len() && gradient.len() >= gradient_shape.len());
    assert!(sums.len() >= forward.packed_len() && gradient_shape.channels == forward.channels);
    let row_bytes = 4 * (forward.input.row() * forward.stride[0] + gradient_shape.row());
    let strip = (STRIP_BYTES / row_bytes.max(1)).max(1);
    for start in (0..forward.output[0]).step_by(strip) {
        let rows = [start, (start + strip).min(forward.output[0])];
        let strip = Strip { forward, copy: copy.as_ptr(), gradient_shape, gradient: gradient.as_ptr(), rows };
        // SAFETY: the asserts above.
        unsafe { strip.run::<L>(sums.as_mut_ptr()) };
    }
}

struct Strip<'a> {
    forward: &'a Correlation,
    copy: *const f32,
    gradient_shape: &'a Padded,
    gradient: *const f32,
    rows: [usize; 2],
}

impl Strip<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self, sums: *mut f32) {
        let forward = self.forward;
        let input = &forward.input;
        let block_len = forward.phases[0].taps.len() * input.channels * LANES;
        let mut block = 0;
        // SAFETY: the walk follows the order of the packed weights, whose length was asserted.
        unsafe {
            let mut sums = sums;
            while block < forward.blocks() {
                let wide = L::BLOCKS == 2 && block + 2 <= forward.blocks();
                if wide {
                    self.block::<L, 2>(block, block_len, sums);
                } else {
                    self.block::<L, 1>(block, block_len, sums);
                }
                let count = if wide { 2 } else { 1 };
                sums = sums.add(block_len * count);
                block += count;
            }
        }
    }

    #[inline(always)]
    unsafe fn block<L: Lanes, const N: usize>(&self, block: usize, block_len: usize, sums: *mut f32) {
        let input = &self.forward.input;
        let mut sums = sums;
        for from in 0..input.blocks() {
            let valid = input.valid(from);
            for tap in &self.forward.phases[0].taps {
                let start = tap.offset[0] * input.row() + from * input.block() + tap.offset[1] * LANES;
                let mut channel = 0;
                // SAFETY: `channel + rows of the tile <= valid`.
                unsafe {
                    if L::ROWS >= 16 && N == 1 {
                        while channel + 16 <= valid {
                            self.strided::<L, 16, N>(block, start + channel, block_len, sums);
                            (channel, sums) = (channel + 16, sums.add(16 * LANES));
                        }
                    }
                    if L::ROWS >= 16 {
                        while channel + 8 <= valid {
                            self.strided::<L, 8, N>(block, start + channel, block_len, sums);
                            (channel, sums) = (channel + 8, sums.add(8 * LANES));
                        }
                    }
                    while channel + 4 <= valid {
                        self.strided::<L, 4, N>(block, start + channel, block_len, sums);
                        (channel, sums) = (channel + 4, sums.add(4 * LANES));
                    }
                    while channel + 3 <= valid {
                        self.strided::<L, 3, N>(block, start + channel, block_len, sums);
                        (channel, sums) = (channel + 3, sums.add(3 * LANES));
                    }
                    while channel < valid {
                        self.strided::<L, 1, N>(block, start + channel, block_len, sums);
                        (channel, sums) = (channel + 1, sums.add(LANES));
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn strided<L: Lanes, const R: usize, const N: usize>(
        &self,
        block: usize,
        start: usize,
        block_len: usize,
        sums: *mut f32,
    ) {
        // SAFETY: the caller's.
        unsafe {
            match self.forward.stride[1] {
                1 => self.tile::<L, R, N>(block, start, LANES, block_len, sums),
                stride => self.tile::<L, R, N>(block, start, stride * LANES, block_len, sums),
            }
        }
    }

    /// `R` input channels of one tap and `16 N` output channels.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize, const N: usize>(
        &self,
        block: usize,
        start: usize,
        step: usize,
        block_len: usize,
        sums: *mut f32,
    ) {
        let (forward, shape) = (self.forward, self.gradient_shape);
        // SAFETY: rows and columns are those of the output; `Correlation` promises that their taps lie inside the copy.
        unsafe {
            let mut tile: [[L; N]; R] =
                std::array::from_fn(|r| std::array::from_fn(|n| L::load(sums.add(n * block_len + r * LANES))));
            for y in self.rows[0]..self.rows[1] {
                let mut at = self.copy.add(start + y * forward.stride[0] * forward.input.row());
                let row = (shape.before[0] + y) * shape.row() + block * shape.block() + shape.before[1] * LANES;
                let mut gradient = self.gradient.add(row);
                for _ in 0..forward.output[1] {
                    let factors: [L; N] = std::array::from_fn(|n| L::load(gradient.add(n * shape.block())));
                    for (r, tile) in tile.iter_mut().enumerate() {
                        let value = L::splat(*at.add(r));
                        for (sum, factor) in tile.iter_mut().zip(factors) {
                            *sum = value.fma(factor, *sum);
                        }
                    }
                    at = at.add(step);
                    gradient = gradient.add(LANES);
                }
            }
            for (r, tile) in tile.into_iter().enumerate() {
                for (n, sum) in tile.into_iter().enumerate() {
                    sum.store(sums.add(n * block_len + r * LANES));
                }
            }
        }
    }
}
