//! Depthwise convolution: 3x3 in strips of sixteen channels, other kernels by the DSP variant.

use super::finish::Finish;
use super::strips::{CHANNELS, COLUMNS, Rows, Strip, Walk, Weights, interleave, row_of_wide_windows, row_of_windows};
use crate::kernels::arm_dsp;
use crate::kernels::params::{Add, Conv2d, Requant};
use crate::kernels::scales::pre_shift;

/// Depthwise convolution.
pub fn depthwise(p: &Conv2d, q: &Requant<'_>, residual: Option<&Add>, input: &[i8], weights: &[i8], output: &mut [i8]) {
    let w = &p.window;
    let channels = usize::from(p.output.c).max(1);
    let suits = w.kernel == [3, 3] && w.dilation == [1, 1] && w.stride[1] <= 2 && channels.is_multiple_of(4);
    let Some(bits) = pre_shift(q, channels, p.taps()).filter(|_| suits) else {
        return arm_dsp::depthwise(p, q, residual, input, weights, output);
    };
    let stride = if w.stride[1] == 2 { 2 } else { 1 };
    let width = usize::from(p.output.w);
    // The last window of a strip may read one word behind its columns.
    let tile = (COLUMNS - 4) / stride + 1;
    let finish = Finish::new(q.landing, residual);
    let pad = p.pad_value;
    let mut strip = Strip([[[0; 4]; CHANNELS]; COLUMNS]);
    let mut turned = Weights([[[0; 4]; CHANNELS]; 4]);
    for left in (0..width).step_by(tile) {
        let count = tile.min(width - left);
        let columns = (count - 1) * stride + 3;
        let before = usize::from(w.pad[1]);
        // Columns inside the input; the others keep the padding.
        let from = before.saturating_sub(left * stride).min(columns);
        let to = (usize::from(p.input.w) + before).saturating_sub(left * stride).clamp(from, columns);
        for (_, column) in strip.0.iter_mut().enumerate().filter(|(at, _)| !(from..to).contains(at)) {
            column.fill([pad, pad, pad, 0]);
        }
        let column = (left * stride + from).saturating_sub(before);
        let tile = Tile { p, input, finish, bits, left, count, from, inside: to - from, column };
        for first in (0..channels).step_by(CHANNELS) {
            let lanes = CHANNELS.min(channels - first);
            if turn(weights, channels, first, lanes, &mut turned).is_none() {
                return;
            }
            tile.run(&turned, first, lanes, q, &mut strip, output);
        }
    }
}

/// Brings the weights of `lanes` channels from `first` on into the order of a strip; `None` if there are too few.
fn turn(weights: &[i8], channels: usize, first: usize, lanes: usize, to: &mut Weights) -> Option<()> {
    let from = weights.get(first..)?.get(..8 * channels + lanes)?.as_ptr();
    let row = |row: usize| from.wrapping_add(3 * row * channels);
    let from = [row(0), row(1), row(2)];
    let rows = Rows { from, step: [channels; 3], to: to.0.as_mut_ptr(), lanes, count: 3 };
    // SAFETY: the weights reach to the last of nine taps; there are four places.
    unsafe { interleave(&rows) };
    Some(())
}

/// Output columns whose windows fit a strip.
struct Tile<'a> {
    p: &'a Conv2d,
    input: &'a [i8],
    finish: Finish<'a>,
    bits: u32,
    /// First output column, and how many.
    left: usize,
    count: usize,
    /// First column of the strip inside the input, how many are, and the input column of the first.
    from: usize,
    inside: usize,
    column: usize,
}

impl Tile<'_> {
    /// `lanes` channels from `first` on, in every row.
    #[inline(never)]
    fn run(
        &self,
        weights: &Weights,
        first: usize,
        lanes: usize,
        q: &Requant<'_>,
        strip: &mut Strip,
        output: &mut [i8],
    ) {
        let channels = usize::from(self.p.input.c).max(1);
        let [row_stride, stride] = self.p.window.stride.map(usize::from);
        let row_bytes = (usize::from(self.p.input.w) * channels).max(1);
        let start = self.column * channels + first;
        let reach = self.inside.saturating_sub(1) * channels + lanes;
        let places_start = self.left * channels + first;
        let places_end = places_start + (self.count - 1) * channels + lanes;
        let end = first + lanes;
        let (Some(bias), Some(multiplier), Some(shift)) =
            (q.bias.get(first..end), q.multiplier.get(first..end), q.shift.get(first..end))
        else {
            return;
        };
        // Rows from here on are inside the input.
        let inside = match self.input.len().checked_sub(start + reach) {
            Some(rest) if self.inside != 0 => (rest / row_bytes + 1).min(self.p.input.h.into()),
            _ => 0,
        };
        let from = self.input.as_ptr().wrapping_add(start);
        let pad = [self.p.pad_value; CHANNELS];
        let direct = self.finish.is_nothing();
        let mut values = [[0i8; CHANNELS]; COLUMNS];
        let to = strip.0.as_mut_ptr();
        let mut walk = Walk {
            strip: to.wrapping_sub(stride),
            to: values.as_mut_ptr().cast(),
            weights,
            bias: bias.as_ptr(),
            shift: shift.as_ptr(),
            multiplier: multiplier.as_ptr(),
            columns: Walk::COLUMNS,
            groups: lanes / 4,
            count: self.count,
            zero_point: q.landing.zero_point.into(),
            bits: self.bits,
            step: if direct { channels } else { CHANNELS },
        };
        let mut rows = Rows { from: [from; 3], step: [channels; 3], to, lanes, count: self.inside };
        rows.to = to.wrapping_add(self.from);
        let mut top = 0usize.wrapping_sub(self.p.window.pad[0].into());
        for places in output.chunks_exact_mut((usize::from(self.p.output.w) * channels).max(1)) {
            for (at, (row, step)) in rows.from.iter_mut().zip(&mut rows.step).enumerate() {
                let index = top.wrapping_add(at);
                (*row, *step) = match index < inside {
                    true => (from.wrapping_add(index * row_bytes), channels),
                    false => (pad.as_ptr(), 0),
                };
            }
            top = top.wrapping_add(row_stride);
            if self.inside != 0 {
                // SAFETY: rows inside the input reach to their last column, those outside repeat `pad`.
                unsafe { interleave(&rows) };
            }
            let Some(places) = places.get_mut(places_start..places_end) else { return };
            if direct {
                walk.to = places.as_mut_ptr();
            }
            let mut now = walk;
            // SAFETY: the strip holds the columns of `count` windows, and `to` leads over as many places of `lanes` bytes.
            unsafe { if stride == 1 { row_of_windows(&mut now) } else { row_of_wide_windows(&mut now) } }
            if !direct {
                for (place, values) in places.chunks_mut(channels).zip(&mut values).take(self.count) {
                    self.finish.store(values.get_mut(..lanes).unwrap_or(&mut []), place);
                }
            }
        }
    }
}
