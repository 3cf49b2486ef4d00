//! 3x3 depthwise convolution, eight channels at a time; other kernels run without vectors.

use super::finish::Landings;
use super::scan::has_least;
use super::strip::{Filters, Lines, Tables, sliding, strided};
use crate::kernels::arm_dsp;
use crate::kernels::params::{Add, Conv2d, Requant};
use crate::kernels::scales::pre_shift;

/// Channels of a strip.
const LANES: usize = 8;

/// Depthwise convolution. The processor has the vectors.
pub fn depthwise(p: &Conv2d, q: &Requant<'_>, residual: Option<&Add>, input: &[i8], weights: &[i8], output: &mut [i8]) {
    let channels = usize::from(p.output.c);
    let bits = pre_shift(q, channels, p.taps()).filter(|_| residual.is_none() && fits(p) && !has_least(weights));
    let Some(bits) = bits else {
        return arm_dsp::depthwise(p, q, residual, input, weights, output);
    };
    let call = Call { p, q, channels, landings: Landings::new(q, bits), input, weights };
    for at in (0..channels).step_by(LANES) {
        // Some of the last channels may be computed twice.
        call.channels(at.min(channels - LANES), output);
    }
}

/// Whether strips can compute it: at most one column of a window is outside the input, and none of the others.
fn fits(p: &Conv2d) -> bool {
    let w = &p.window;
    let last = usize::from(p.output.w.saturating_sub(1)) * usize::from(w.stride[1]);
    w.kernel == [3, 3]
        && w.dilation == [1, 1]
        && w.pad[1] <= 1
        && p.input.w >= 3
        && last + 2 <= usize::from(p.input.w) + usize::from(w.pad[1])
        && usize::from(p.output.c) >= LANES
}

/// Which columns of a window are inside the input.
#[derive(Clone, Copy)]
enum Side {
    /// All but the first.
    Left,
    /// All but the last.
    Right,
}

struct Call<'a> {
    p: &'a Conv2d,
    q: &'a Requant<'a>,
    channels: usize,
    landings: Landings,
    input: &'a [i8],
    weights: &'a [i8],
}

impl Call<'_> {
    /// Weights and biases of the channels from `at` on.
    fn filters(&self, at: usize) -> Filters {
        let mut filters = Filters { weights: [[[0; LANES]; 3]; 3], bias: [0; LANES] };
        let taps = self.weights.chunks_exact(self.channels).filter_map(|all| all.get(at..)?.first_chunk());
        filters.weights.as_flattened_mut().iter_mut().zip(taps).for_each(|(to, from)| *to = *from);
        if let Some(bias) = self.q.bias.get(at..).and_then(|bias| bias.first_chunk()) {
            filters.bias = *bias;
        }
        filters
    }

    /// Multipliers and shifts of the channels from `at` on.
    fn tables(&self, at: usize) -> Tables {
        let mut tables = Tables { multiplier: [0; LANES], shift: [0; LANES], landings: self.landings };
        if let Some(multiplier) = self.q.multiplier.get(at..).and_then(|multiplier| multiplier.first_chunk()) {
            tables.multiplier = *multiplier;
        }
        let base = self.landings.shift_base();
        let shifts = self.q.shift.get(at..).unwrap_or(&[]);
        tables.shift.iter_mut().zip(shifts).for_each(|(to, &shift)| *to = base - i32::from(shift));
        tables
    }

    /// Filters for a window that reaches over a side, to be read with the columns of the nearest window inside: weights move over by
    /// one, and the column outside counts in the bias.
    fn moved(&self, filters: &Filters, side: Side) -> Filters {
        let mut moved = Filters { weights: [[[0; LANES]; 3]; 3], bias: filters.bias };
        let pad = i32::from(self.p.pad_value);
        for (to, &[a, b, c]) in moved.weights.iter_mut().zip(&filters.weights) {
            let outside = match side {
                Side::Left => {
                    *to = [b, c, [0; LANES]];
                    a
                }
                Side::Right => {
                    *to = [[0; LANES], a, b];
                    c
                }
            };
            for (bias, w) in moved.bias.iter_mut().zip(outside) {
                *bias = bias.wrapping_add(i32::from(w) * pad);
            }
        }
        moved
    }

    /// The channels from `at` on, of which there are enough, of all pixels.
    fn channels(&self, at: usize, output: &mut [i8]) {
        let w = &self.p.window;
        let (stride, width) = (usize::from(w.stride[1]), usize::from(self.p.input.w));
        let outputs = usize::from(self.p.output.w);
        // Outputs whose first column is inside, and those whose last one is.
        let has_left = w.pad[1] == 1;
        let has_right = outputs.saturating_sub(1) * stride + 2 == width + usize::from(w.pad[1]);
        let first = usize::from(has_left);
        let inner = outputs.saturating_sub(first + usize::from(has_right));
        let (middle, tables) = (self.filters(at), self.tables(at));
        let [left, right] = [(has_left, Side::Left), (has_right, Side::Right)]
            .map(|(has, side)| if has { self.moved(&middle, side) } else { middle });
        let pad = [self.p.pad_value; LANES];
        for (y, row) in output.chunks_exact_mut((outputs * self.channels).max(1)).enumerate() {
            let mut lines = self.lines(y, at, &pad, row);
            // SAFETY: the processor has the vectors. The columns and outputs that are asked for exist, with eight channels from
            // `at` on.
            unsafe {
                if has_left {
                    strided(&left, &lines, &tables);
                    lines.advance(stride - 1, 1);
                }
                if inner != 0 {
                    lines.count = inner;
                    let run = if stride == 1 { sliding } else { strided };
                    run(&middle, &lines, &tables);
                }
                if has_right {
                    // From the first output past the left side; backward where there is none between.
                    lines.advance((width - 3).wrapping_sub(first * (stride - 1)), (outputs - 1).wrapping_sub(first));
                    lines.count = 1;
                    strided(&right, &lines, &tables);
                }
            }
        }
    }

    /// One output of output row `y` over the first columns; `pad` stands for rows outside the input.
    #[inline(always)]
    fn lines(&self, y: usize, at: usize, pad: &[i8; LANES], row: &mut [i8]) -> Lines {
        let top = y as i32 * i32::from(self.p.window.stride[0]) - i32::from(self.p.window.pad[0]);
        let pitch = usize::from(self.p.input.w) * self.channels;
        let from = self.input.as_ptr().wrapping_offset(top as isize * pitch as isize).wrapping_add(at);
        let back = (isize::from(self.p.window.stride[1]) - 3) * self.channels as isize;
        let mut lines = Lines {
            rows: [from, from.wrapping_add(pitch), from.wrapping_add(2 * pitch)],
            steps: [self.channels; 3],
            advances: [back; 3],
            place: row.as_mut_ptr().wrapping_add(at),
            step: self.channels,
            count: 1,
        };
        if top < 0 || top + 2 >= i32::from(self.p.input.h) {
            self.pad_rows(&mut lines, top, pad);
        }
        lines
    }

    /// Replaces the rows outside the input, `top` and those after it.
    #[inline(never)]
    fn pad_rows(&self, lines: &mut Lines, top: i32, pad: &[i8; LANES]) {
        let rows = lines.rows.iter_mut().zip(&mut lines.steps).zip(&mut lines.advances);
        for (y, ((row, step), advance)) in (top..).zip(rows) {
            if y < 0 || y >= i32::from(self.p.input.h) {
                (*row, *step, *advance) = (pad.as_ptr(), 0, 0);
            }
        }
    }
}

impl Lines {
    /// Goes on by so many columns and outputs.
    #[inline(always)]
    fn advance(&mut self, columns: usize, outputs: usize) {
        self.rows
            .iter_mut()
            .zip(self.steps)
            .for_each(|(row, step)| *row = row.wrapping_add(columns.wrapping_mul(step)));
        self.place = self.place.wrapping_add(outputs.wrapping_mul(self.step));
    }
}
