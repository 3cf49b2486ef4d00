//! Convolution: three windows of int8 taps at a time, two filters per turn; a single position takes four filters per turn.

use super::filters::{Block, CHUNK, Landings, Sums, WINDOWS, copy_rows, land, one_window, three_windows};
use super::finish::Finish;
use crate::kernels::columns::{Run, for_each_run};
use crate::kernels::params::{Add, Conv2d, Requant};
use crate::kernels::reference;
use crate::kernels::scales::pre_shift;
use crate::kernels::windows::{Span, Windows};

/// Convolution; `scratch` holds [`Conv2d::scratch_bytes`].
pub fn conv2d(
    p: &Conv2d,
    q: &Requant<'_>,
    residual: Option<&Add>,
    input: &[i8],
    weights: &[i8],
    scratch: &mut [u8],
    output: &mut [i8],
) {
    let taps = p.taps();
    let channels = usize::from(p.output.c).max(1);
    let Some(bits) = pre_shift(q, channels, taps).filter(|_| taps != 0) else {
        return reference::conv2d(p, q, residual, input, weights, output);
    };
    let scratch: &mut [i8] = bytemuck::cast_slice_mut(scratch);
    let groups = usize::from(p.groups).max(1);
    let (inputs, outputs) = (usize::from(p.input.c) / groups, (channels / groups).max(1));
    let finish = Finish::new(q.landing, residual);
    let mut gather = Gather::new(p, input);
    let mut sums: Sums = [[0; CHUNK]; WINDOWS];

    let mut windows = Windows::new(&p.window, p.input, p.output);
    for pixels in output.chunks_mut(WINDOWS * channels) {
        let count = pixels.len() / channels;
        let spans: [_; WINDOWS] = core::array::from_fn(|_| windows.next().unwrap_or_default());
        for group in 0..groups {
            let Some(weights) = weights.get(group * outputs * taps..(group + 1) * outputs * taps) else { return };
            let mut at = [core::ptr::null(); WINDOWS];
            let columns = scratch.chunks_exact_mut(taps.max(1));
            for ((at, &span), column) in at.iter_mut().zip(&spans).zip(columns).take(count) {
                *at = gather.window(span, (group * inputs, inputs), column);
            }
            // Windows that do not exist repeat the first; their results go nowhere.
            let windows = core::array::from_fn(|window| if window < count { at[window] } else { at[0] });
            let filters = Filters { q, finish, taps, weights, first: group * outputs, count: outputs, bits };
            filters.run(windows, count, &mut sums, pixels, channels);
        }
    }
}

/// Finds the taps of windows, or copies them together.
struct Gather<'a> {
    p: &'a Conv2d,
    input: &'a [i8],
    kernel: [usize; 2],
    row_pitch: usize,
    row_step: usize,
    row_taps: usize,
    /// Rows of windows inside the input are adjacent in memory.
    has_rows: bool,
}

impl<'a> Gather<'a> {
    fn new(p: &'a Conv2d, input: &'a [i8]) -> Self {
        let kernel = p.window.kernel.map(usize::from);
        let row_pitch = usize::from(p.input.w) * usize::from(p.input.c);
        Self {
            p,
            input,
            kernel,
            row_pitch,
            row_step: usize::from(p.window.dilation[0]) * row_pitch,
            row_taps: kernel[1] * usize::from(p.input.c),
            has_rows: p.groups == 1 && p.window.dilation[1] == 1,
        }
    }

    /// Where the taps of one window and group are: in the input, or in `column`, which has room for them.
    #[inline(always)]
    fn window(&mut self, window: (Span, Span), group: (usize, usize), column: &mut [i8]) -> *const i8 {
        let (rows, columns) = window;
        if self.has_rows && rows.count == self.kernel[0] && columns.count == self.kernel[1] {
            let start = rows.start * self.row_pitch + columns.start * usize::from(self.p.input.c);
            let end = start + (self.kernel[0] - 1) * self.row_step + self.row_taps;
            if let Some(from) = self.input.get(start..end) {
                if self.kernel[0] == 1 {
                    return from.as_ptr();
                }
                if column.len() >= self.kernel[0] * self.row_taps {
                    // SAFETY: `from` spans all rows, and the column has room for them.
                    unsafe {
                        copy_rows(from.as_ptr(), self.row_step, self.row_taps, self.kernel[0], column.as_mut_ptr());
                    }
                    return column.as_ptr();
                }
            }
        }
        self.runs(window, group, column);
        column.as_ptr()
    }

    #[inline(never)]
    fn runs(&self, window: (Span, Span), group: (usize, usize), column: &mut [i8]) {
        let mut rest = column;
        for_each_run(self.p, window, group, self.input, |run| {
            let len = match run {
                Run::Pad(len) => len,
                Run::Inside(taps) => taps.len(),
            };
            let Some((now, later)) = core::mem::take(&mut rest).split_at_mut_checked(len) else { return };
            rest = later;
            match run {
                Run::Pad(_) => now.fill(self.p.pad_value),
                // SAFETY: one row of as many bytes as `now` has, which are not none.
                Run::Inside(taps) if len != 0 => unsafe { copy_rows(taps.as_ptr(), 0, len, 1, now.as_mut_ptr()) },
                Run::Inside(_) => {}
            }
        });
    }
}

/// The filters of one group.
struct Filters<'a> {
    q: &'a Requant<'a>,
    finish: Finish<'a>,
    taps: usize,
    weights: &'a [i8],
    /// Output channel of the first.
    first: usize,
    count: usize,
    /// See [`pre_shift`].
    bits: u32,
}

impl Filters<'_> {
    /// All outputs of the group at the first `positions` windows; `pixels` holds as many.
    #[inline(always)]
    fn run(
        &self,
        windows: [*const i8; WINDOWS],
        positions: usize,
        sums: &mut Sums,
        pixels: &mut [i8],
        channels: usize,
    ) {
        let direct = self.finish.is_nothing();
        let mut values = [[0i8; CHUNK]; WINDOWS];
        for from in (0..self.count).step_by(CHUNK) {
            let count = CHUNK.min(self.count - from);
            self.sum(windows, positions, from, count, sums);
            let spare = values.as_mut_ptr().cast::<i8>();
            let start = self.first + from;
            let places = core::array::from_fn(|window| {
                let place = pixels.get_mut(window * channels + start..window * channels + start + count);
                match place {
                    Some(place) if direct => place.as_mut_ptr(),
                    _ => spare.wrapping_add(window * CHUNK),
                }
            });
            let range = start..start + count;
            let (Some(bias), Some(multiplier), Some(shift)) = (
                self.q.bias.get(range.clone()),
                self.q.multiplier.get(range.clone()),
                self.q.shift.get(range),
            ) else {
                return;
            };
            let landings = Landings {
                sums: sums.as_ptr().cast(),
                bias: bias.as_ptr(),
                multiplier: multiplier.as_ptr(),
                shift: shift.as_ptr(),
                places,
                zero_point: self.q.landing.zero_point.into(),
                bits: self.bits,
                count,
                high: 32 - self.bits,
            };
            // SAFETY: tables and places hold `count` entries.
            unsafe { land(&landings) };
            if !direct {
                for (pixel, values) in pixels.chunks_exact_mut(channels).zip(&mut values) {
                    let held = pixel.get_mut(start..).unwrap_or(&mut []);
                    self.finish.store(values.get_mut(..count).unwrap_or(&mut []), held);
                }
            }
        }
    }

    /// Sums of `count` filters from `from` on.
    #[inline(always)]
    fn sum(&self, windows: [*const i8; WINDOWS], positions: usize, from: usize, count: usize, sums: &mut Sums) {
        let taps = self.taps;
        let Some(weights) = self.weights.get(from * taps..(from + count) * taps) else { return };
        let per_turn = if positions == 1 { 4 } else { 2 };
        let mut block = Block {
            windows,
            weights: weights.as_ptr(),
            taps,
            turns: count / per_turn,
            sums: sums.as_mut_ptr().cast(),
            filter_step: taps,
        };
        let rest = count % per_turn;
        // SAFETY: windows and filters have `taps` bytes each, and the sums have room for `CHUNK` filters.
        unsafe {
            if block.turns != 0 {
                if per_turn == 4 { one_window(&mut block) } else { three_windows(&mut block) }
            }
            // What is left is taken filter by filter, each standing for all of its turn.
            for at in count - rest..count {
                block.weights = weights.as_ptr().wrapping_add(at * taps);
                block.turns = 1;
                block.filter_step = 0;
                // The places behind a window's last filter are spare, and a chunk with a rest is not full.
                block.sums = sums.as_mut_ptr().cast::<i32>().wrapping_add(at);
                three_windows(&mut block);
            }
        }
    }
}
