//! Convolution: three windows of int8 taps at a time, two filters per turn; a single position takes four filters per turn.

use super::filters::{Block, CHUNK, Landings, Sums, WINDOWS, copy_rows, land, one_window, three_windows};
use super::finish::Finish;
use crate::kernels::columns::{self, for_each_run};
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
    let groups = usize::from(p.groups).max(1);
    let (inputs, outputs) = (usize::from(p.input.c) / groups, (channels / groups).max(1));
    let mut run = Run {
        p,
        gather: Gather::new(p, input),
        finish: Finish::new(q.landing, residual),
        bits,
        sums: [[0; CHUNK]; WINDOWS],
        values: [0; WINDOWS * CHUNK],
        scratch: bytemuck::cast_slice_mut(scratch),
    };
    for group in 0..groups {
        for from in (0..outputs).step_by(CHUNK) {
            let count = CHUNK.min(outputs - from);
            let first = group * outputs + from;
            let Some(filters) = Filters::new(q, taps, weights, first, count) else { return };
            run.all_positions(&filters, (group * inputs, inputs), output);
        }
    }
}

/// Filters and tables of adjacent output channels, at most [`CHUNK`].
struct Filters<'a> {
    taps: usize,
    weights: &'a [i8],
    bias: &'a [i32],
    multiplier: &'a [i32],
    shift: &'a [u8],
    zero_point: i8,
    /// First output channel, and how many.
    first: usize,
    count: usize,
}

impl<'a> Filters<'a> {
    fn new(q: &Requant<'a>, taps: usize, weights: &'a [i8], first: usize, count: usize) -> Option<Self> {
        let range = first..first + count;
        Some(Self {
            taps,
            weights: weights.get(first * taps..(first + count) * taps)?,
            bias: q.bias.get(range.clone())?,
            multiplier: q.multiplier.get(range.clone())?,
            shift: q.shift.get(range)?,
            zero_point: q.landing.zero_point,
            first,
            count,
        })
    }
}

/// One convolution.
struct Run<'a> {
    p: &'a Conv2d,
    gather: Gather<'a>,
    finish: Finish<'a>,
    /// See [`pre_shift`].
    bits: u32,
    sums: Sums,
    values: [i8; WINDOWS * CHUNK],
    scratch: &'a mut [i8],
}

impl Run<'_> {
    /// The outputs of `filters` at every position.
    fn all_positions(&mut self, filters: &Filters<'_>, group: (usize, usize), output: &mut [i8]) {
        let channels = usize::from(self.p.output.c).max(1);
        let taps = filters.taps;
        let per_turn = if self.p.output.positions() == 1 { 4 } else { 2 };
        let direct = self.finish.is_nothing();
        let is_whole = filters.count == channels;
        let mut block = Block {
            windows: [core::ptr::null(); WINDOWS],
            weights: filters.weights.as_ptr(),
            taps,
            turns: 0,
            sums: core::ptr::null_mut(),
            filter_step: taps,
        };
        let spare = self.values.as_mut_ptr();
        let mut landings = Landings {
            sums: self.sums.as_ptr().cast(),
            bias: filters.bias.as_ptr(),
            multiplier: filters.multiplier.as_ptr(),
            shift: filters.shift.as_ptr(),
            places: core::array::from_fn(|window| spare.wrapping_add(window * filters.count)),
            zero_point: filters.zero_point.into(),
            bits: self.bits,
            count: filters.count,
            high: 32 - self.bits,
        };
        let points = self.gather.points();
        let mut windows = Windows::new(&self.p.window, self.p.input, self.p.output);
        for (turn, pixels) in output.chunks_mut(WINDOWS * channels).enumerate() {
            let positions = pixels.len() / channels;
            if let Some(points) = points.filter(|_| positions == WINDOWS) {
                let from = points.as_ptr().wrapping_add(turn * WINDOWS * taps);
                block.windows = [from, from.wrapping_add(taps), from.wrapping_add(2 * taps)];
            } else {
                if points.is_some() {
                    windows.by_ref().take(turn * WINDOWS).for_each(|_| {});
                }
                // Windows that do not exist repeat the last; their results are not kept.
                let mut last = filters.weights.as_ptr();
                for (at, place) in block.windows.iter_mut().enumerate() {
                    if at < positions {
                        let column = self.scratch.get_mut(at * taps..).unwrap_or(&mut []);
                        last = self.gather.window(windows.next().unwrap_or_default(), group, column);
                    }
                    *place = last;
                }
            }
            self.sum(&mut block, filters, per_turn);
            if direct && positions == WINDOWS {
                let first = pixels.as_mut_ptr().wrapping_add(filters.first);
                landings.places = [first, first.wrapping_add(channels), first.wrapping_add(2 * channels)];
                // SAFETY: tables and places hold `count` entries: the pixels are whole ones.
                unsafe { land(&landings) };
                continue;
            }
            landings.places = core::array::from_fn(|window| spare.wrapping_add(window * filters.count));
            // SAFETY: as above; three times `count` values fit.
            unsafe { land(&landings) };
            if is_whole {
                let len = pixels.len();
                self.finish.store(self.values.get_mut(..len).unwrap_or(&mut []), pixels);
                continue;
            }
            for (pixel, values) in
                pixels.chunks_exact_mut(channels).zip(self.values.chunks_exact_mut(filters.count.max(1)))
            {
                self.finish.store(values, pixel.get_mut(filters.first..).unwrap_or(&mut []));
            }
        }
    }

    /// Sums of all filters over the windows of `block`.
    #[inline(always)]
    fn sum(&mut self, block: &mut Block, filters: &Filters<'_>, per_turn: usize) {
        let sums = self.sums.as_mut_ptr().cast::<i32>();
        block.weights = filters.weights.as_ptr();
        block.turns = filters.count / per_turn;
        block.sums = sums;
        let rest = filters.count % per_turn;
        // SAFETY: windows and filters have `taps` bytes each, and the sums have room for `CHUNK` filters.
        unsafe {
            if block.turns != 0 {
                if per_turn == 4 { one_window(block) } else { three_windows(block) }
            }
            // What is left is taken filter by filter, each standing for both of its turn. The places behind a window's
            // last filter are spare: a chunk with a rest is not full.
            for at in filters.count - rest..filters.count {
                block.weights = filters.weights.as_ptr().wrapping_add(at * filters.taps);
                block.turns = 1;
                block.filter_step = 0;
                block.sums = sums.wrapping_add(at);
                three_windows(block);
                block.filter_step = filters.taps;
            }
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

    /// The input, if windows are its positions one after the other.
    fn points(&self) -> Option<&'a [i8]> {
        let w = &self.p.window;
        let adjacent = w.kernel == [1, 1] && w.stride == [1, 1] && w.pad == [0, 0] && self.p.groups == 1;
        (adjacent && self.p.input.positions() == self.p.output.positions()).then_some(self.input)
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
                columns::Run::Pad(len) => len,
                columns::Run::Inside(taps) => taps.len(),
            };
            let Some((now, later)) = core::mem::take(&mut rest).split_at_mut_checked(len) else { return };
            rest = later;
            match run {
                columns::Run::Pad(_) => now.fill(self.p.pad_value),
                // SAFETY: one row of as many bytes as `now` has, which are not none.
                columns::Run::Inside(taps) if len != 0 => unsafe {
                    copy_rows(taps.as_ptr(), 0, len, 1, now.as_mut_ptr())
                },
                columns::Run::Inside(_) => {}
            }
        });
    }
}
