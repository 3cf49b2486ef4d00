//! Depthwise 3x3 convolution, row by row: four channels of a strip of three input rows are widened to 16 bits on the stack,
//! padding included, and rows are kept while windows move down.

use super::finish::Finish;
use super::group::{Group, Source};
use super::instructions::{Halves, even_bytes, odd_bytes, widen_column};
use super::pack;
use super::plane::Plane;
use super::walk::{Walk, rows_of_windows};
use crate::kernels::params::{Conv2d, Requant};

/// Input columns of a strip.
pub const STRIP: usize = 26;

/// Strips of one input row each, or one after the other the rows of a plane: a whole input with its padding, if that fits.
pub type Strips = [[Halves; STRIP]; 3];

/// Values of four channels at the windows of a row, before they are finished.
pub type Values = [i8; 4 * STRIP];

/// 3x3, undilated, stride 1 or 2 in both directions, at least four channels.
pub fn suits(p: &Conv2d) -> bool {
    let w = &p.window;
    w.kernel == [3, 3] && w.dilation == [1, 1] && (w.stride == [1, 1] || w.stride == [2, 2]) && p.input.c >= 4
}

/// Every whole group of four channels of a convolution that [`suits`]. `bits` is its [`pre_shift`](crate::kernels::scales::pre_shift).
pub fn depthwise(
    p: &Conv2d,
    q: &Requant<'_>,
    finish: &Finish<'_>,
    bits: u32,
    input: &[i8],
    weights: &[i8],
    output: &mut [i8],
) {
    let channels = usize::from(p.input.c).max(1);
    let stride = if p.window.stride[0] == 2 { 2 } else { 1 };
    let width = usize::from(p.output.w);
    let tile = (STRIP - 3) / stride + 1;
    let pad = pack::word([p.pad_value; 4]);
    let pad = [even_bytes(pad), odd_bytes(pad)];
    let mut strips: Strips = [[pad; STRIP]; 3];
    let mut values = [0; 4 * STRIP];
    let source = Source { q, bits, weights, channels };
    let mut group = Group::default();
    if let Some(plane) = Plane::new(p, finish) {
        return plane.run(&source, input, pad, &mut strips, &mut values, output);
    }
    for left in (0..width).step_by(tile) {
        let count = tile.min(width - left);
        let columns = (count - 1) * stride + 3;
        let before = usize::from(p.window.pad[1]);
        // Columns of the strip that lie inside the input; the others keep the padding from here on.
        let from = before.saturating_sub(left * stride).min(columns);
        let to = (usize::from(p.input.w) + before).saturating_sub(left * stride).clamp(from, columns);
        strips.as_flattened_mut().fill(pad);
        let column = (left * stride + from).saturating_sub(before);
        let strip = Strip { p, input, finish, pad, left, count, from, inside: to - from, column };
        for first in (0..channels & !3).step_by(4) {
            if source.load(first, &mut group).is_none() {
                return;
            }
            strip.run(&group, first, &mut strips, &mut values, output);
        }
    }
}

/// Output columns whose windows fit a strip.
struct Strip<'a> {
    p: &'a Conv2d,
    input: &'a [i8],
    finish: &'a Finish<'a>,
    pad: Halves,
    /// First output column, and how many.
    left: usize,
    count: usize,
    /// First column of the strip that is inside the input, how many are, and the input column of the first.
    from: usize,
    inside: usize,
    column: usize,
}

impl Strip<'_> {
    /// Four channels from `first` on, in every row.
    #[inline(never)]
    fn run(&self, group: &Group, first: usize, strips: &mut Strips, values: &mut Values, output: &mut [i8]) {
        let channels = usize::from(self.p.input.c).max(1);
        let stride = if self.p.window.stride[0] == 2 { 2 } else { 1 };
        let direct = self.finish.is_nothing();
        let height = usize::from(self.p.input.h);
        let row_bytes = usize::from(self.p.input.w) * channels;
        let start = self.column * channels + first;
        let reach = self.inside.saturating_sub(1) * channels + 4;
        let places_start = self.left * channels + first;
        let places_end = places_start + (self.count - 1) * channels + 4;
        let row_places = usize::from(self.p.output.w) * channels;

        let base = strips.as_mut_ptr().cast::<Halves>();
        let mut slots = [base, base.wrapping_add(STRIP), base.wrapping_add(2 * STRIP)];
        let mut kept = 0;
        let mut row = 0usize.wrapping_sub(self.p.window.pad[0].into());
        for places in output.chunks_exact_mut(row_places.max(1)) {
            for slot in slots.iter().skip(kept) {
                let slot = slot.wrapping_add(self.from);
                let values = if row < height { self.input.get(row * row_bytes + start..) } else { None };
                row = row.wrapping_add(1);
                match values.filter(|values| values.len() >= reach) {
                    _ if self.inside == 0 => {}
                    // SAFETY: the values reach to the last column's four channels, the slot to its strip's end.
                    Some(values) => unsafe { widen_column(values.as_ptr(), channels, self.inside, slot) },
                    // SAFETY: the columns inside lie within the strip.
                    None => unsafe { core::slice::from_raw_parts_mut(slot, self.inside) }.fill(self.pad),
                }
            }
            let Some(places) = places.get_mut(places_start..places_end) else { return };
            let (to, step) = if direct { (places.as_mut_ptr(), channels) } else { (values.as_mut_ptr(), 4) };
            let end = slots[0].wrapping_add(self.count * stride);
            let advance = stride * size_of::<Halves>();
            let walk = Walk { to, step, end, advance, rows: 1, strip_skip: 0, to_skip: 0, strip_step: 0 };
            // SAFETY: the strips hold the columns of `count` windows, and `to` leads over `count` places of four bytes.
            unsafe { rows_of_windows(group, &slots, &walk) };
            if !direct {
                self.finish.store_fours(values.as_chunks().0, places, channels);
            }
            let [a, b, c] = slots;
            (slots, kept) = if stride == 1 { ([b, c, a], 2) } else { ([c, a, b], 1) };
        }
    }
}
