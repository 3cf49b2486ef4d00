//! Depthwise convolution: 3x3 in strips of sixteen channels, other kernels by the DSP variant.

use super::finish::Finish;
use super::strips::{CHANNELS, COLUMNS, Constants, Rows, Strip, Walk, interleave, row_of_windows};
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
    let mut strip = Strip([[[pad, pad, pad, 0]; CHANNELS]; COLUMNS]);
    for left in (0..width).step_by(tile) {
        let count = tile.min(width - left);
        let columns = (count - 1) * stride + 3;
        let before = usize::from(w.pad[1]);
        // Columns inside the input; the others keep the padding from here on.
        let from = before.saturating_sub(left * stride).min(columns);
        let to = (usize::from(p.input.w) + before).saturating_sub(left * stride).clamp(from, columns);
        strip.0.as_flattened_mut().fill([pad, pad, pad, 0]);
        let column = (left * stride + from).saturating_sub(before);
        let tile = Tile { p, input, finish, bits, left, count, from, inside: to - from, column };
        for first in (0..channels).step_by(CHANNELS) {
            let lanes = CHANNELS.min(channels - first);
            let Some(constants) = constants(q, bits, weights, channels, first, lanes) else { return };
            tile.run(&constants, first, lanes, q, &mut strip, output);
        }
    }
}

/// Constants of `lanes` channels from `first` on.
#[inline(never)]
fn constants(
    q: &Requant<'_>,
    bits: u32,
    weights: &[i8],
    channels: usize,
    first: usize,
    lanes: usize,
) -> Option<Constants> {
    let mut constants = Constants { weights: [[[0; 4]; CHANNELS]; 4], scales: [[[0; 4]; 3]; CHANNELS / 4] };
    let row = |row: usize| weights.get(row * 3 * channels + first..).filter(|row| row.len() >= 2 * channels + lanes);
    let from = [row(0)?.as_ptr(), row(1)?.as_ptr(), row(2)?.as_ptr()];
    let rows = Rows { from, step: [channels; 3], to: constants.weights.as_mut_ptr(), lanes, count: 3 };
    // SAFETY: each row reaches to the last of its three columns; there are four places.
    unsafe { interleave(&rows) };
    for (at, scales) in constants.scales.iter_mut().enumerate().take(lanes / 4) {
        let first = first + 4 * at;
        let shift = q.shift.get(first..)?.first_chunk::<4>()?.map(|shift| 32 - bits as i32 - i32::from(shift));
        *scales = [*q.bias.get(first..)?.first_chunk::<4>()?, *q.multiplier.get(first..)?.first_chunk::<4>()?, shift];
    }
    Some(constants)
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
        constants: &Constants,
        first: usize,
        lanes: usize,
        q: &Requant<'_>,
        strip: &mut Strip,
        output: &mut [i8],
    ) {
        let channels = usize::from(self.p.input.c).max(1);
        let [row_stride, stride] = self.p.window.stride.map(usize::from);
        let height = usize::from(self.p.input.h);
        let row_bytes = usize::from(self.p.input.w) * channels;
        let start = self.column * channels + first;
        let reach = self.inside.saturating_sub(1) * channels + lanes;
        let places_start = self.left * channels + first;
        let places_end = places_start + (self.count - 1) * channels + lanes;
        let direct = self.finish.is_nothing();
        let pad = [self.p.pad_value; CHANNELS];
        let mut values = [[0i8; CHANNELS]; COLUMNS];
        let mut top = 0usize.wrapping_sub(self.p.window.pad[0].into());
        for places in output.chunks_exact_mut((usize::from(self.p.output.w) * channels).max(1)) {
            let mut rows = Rows {
                from: [pad.as_ptr(); 3],
                step: [0; 3],
                to: strip.0.as_mut_ptr().wrapping_add(self.from),
                lanes,
                count: self.inside,
            };
            for (at, (from, step)) in rows.from.iter_mut().zip(&mut rows.step).enumerate() {
                let row = top.wrapping_add(at);
                let values = if row < height { self.input.get(row * row_bytes + start..) } else { None };
                if let Some(values) = values.filter(|values| values.len() >= reach) {
                    (*from, *step) = (values.as_ptr(), channels);
                }
            }
            top = top.wrapping_add(row_stride);
            if self.inside != 0 {
                // SAFETY: rows inside the input reach to their last column, those outside repeat `pad`.
                unsafe { interleave(&rows) };
            }
            let Some(places) = places.get_mut(places_start..places_end) else { return };
            let mut walk = Walk {
                strip,
                strip_step: stride * size_of::<[[i8; 4]; CHANNELS]>(),
                to: if direct { places.as_mut_ptr() } else { values.as_mut_ptr().cast() },
                step: if direct { channels } else { CHANNELS },
                groups: lanes / 4,
                count: self.count,
                zero_point: q.landing.zero_point.into(),
                bits: self.bits,
            };
            // SAFETY: the strip holds the columns of `count` windows, and `to` leads over as many places of `lanes` bytes.
            unsafe { row_of_windows(&mut walk, constants) };
            if !direct {
                for (place, values) in places.chunks_mut(channels).zip(&mut values).take(self.count) {
                    self.finish.store(values.get_mut(..lanes).unwrap_or(&mut []), place);
                }
            }
        }
    }
}
