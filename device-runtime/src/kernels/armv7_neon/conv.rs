//! Convolution and fully connected layers.

use super::add::Addition;
use super::finish::Landings;
use super::scan::has_least;
use super::tile::{Tile, adjacent, adjacent_shifted, pairs, pairs_shifted, singles};
use crate::kernels::arm_dsp;
use crate::kernels::gather::{TILE, Taps, Walk};
use crate::kernels::params::{Add, Conv2d, Requant};
use crate::kernels::scales::pre_shift;

/// Filters whose results wait for their addition at a time.
const BLOCK: usize = 64;
/// From how many windows on weights are looked through for -128: it costs half as much as one window's products.
const MANY_WINDOWS: usize = 4;
/// Input bytes that four filters after the other pass over: they stay in the nearest cache.
const NEAR_BYTES: usize = 8192;

/// Convolution; `scratch` holds [`Conv2d::scratch_bytes`]. The processor has the vectors.
pub fn conv2d(
    p: &Conv2d,
    q: &Requant<'_>,
    residual: Option<&Add>,
    input: &[i8],
    weights: &[i8],
    scratch: &mut [u8],
    output: &mut [i8],
) {
    let channels = usize::from(p.output.c).max(1);
    let taps = p.taps();
    let Some(bits) = pre_shift(q, channels, taps).filter(|_| taps != 0) else {
        return arm_dsp::conv2d(p, q, residual, input, weights, scratch, output);
    };
    let has_pairs = p.output.positions() >= MANY_WINDOWS && !has_least(weights);
    let residual = residual.map(Addition::new);
    let mut call = Call { q, residual, weights, taps, bits, has_pairs, tile: Tile::new(Landings::new(q, bits)) };
    if has_pairs && call.residual.is_none() && is_adjacent(p) {
        return call.points(channels, input, output);
    }
    let groups = usize::from(p.groups).max(1);
    let (inputs, outputs) = (usize::from(p.input.c) / groups, channels / groups);
    let mut walk = Walk::new(p, input, scratch);
    for pixels in output.chunks_mut(TILE * channels) {
        let windows = walk.advance(TILE);
        for group in 0..groups {
            walk.find((group * inputs, inputs));
            let places = Places { first: group * outputs, count: outputs, step: channels, windows };
            call.turn(&walk.taps, places, pixels);
        }
    }
}

/// Whether windows are the input's positions, and fill vectors.
fn is_adjacent(p: &Conv2d) -> bool {
    p.is_pointwise() && p.groups == 1 && p.input.c.is_multiple_of(8) && p.output.c >= 4
}

/// Where the results of a turn go: `count` channels from `first` on at the pixels of so many windows.
#[derive(Clone, Copy)]
struct Places {
    first: usize,
    count: usize,
    step: usize,
    windows: usize,
}

struct Call<'a> {
    q: &'a Requant<'a>,
    residual: Option<Addition>,
    weights: &'a [i8],
    taps: usize,
    bits: u32,
    /// Sums of two products fit 16 bits.
    has_pairs: bool,
    tile: Tile,
}

impl Call<'_> {
    /// A 1x1 convolution of adjacent positions.
    #[inline(never)]
    fn points(&mut self, channels: usize, input: &[i8], output: &mut [i8]) {
        let most = (NEAR_BYTES / self.taps).max(TILE) & !1;
        for (windows, pixels) in input.chunks(most * self.taps).zip(output.chunks_mut(most * channels)) {
            let count = windows.len() / self.taps;
            self.each_quad(channels, |call, first, quads| {
                call.tile.set_filters(call.weights, call.q, call.taps, (first, quads));
                call.tile.place = pixels.as_mut_ptr().wrapping_add(first);
                (call.tile.step, call.tile.turns) = (channels, count / 2);
                (call.tile.len, call.tile.input) = (call.taps, windows.as_ptr());
                // SAFETY: the processor has the vectors, the filters with their tables exist, and so many windows and pixels.
                unsafe {
                    match (count / 2, call.bits) {
                        (0, _) => {}
                        (_, 0) => adjacent(&mut call.tile),
                        _ => adjacent_shifted(&mut call.tile),
                    }
                }
                if count.is_multiple_of(2) {
                    return;
                }
                let last = [windows.as_ptr().wrapping_add((count - 1) * call.taps); TILE];
                call.tile.set_filters(call.weights, call.q, call.taps, (first, quads));
                call.tile.place = pixels.as_mut_ptr().wrapping_add((count - 1) * channels + first);
                (call.tile.rows, call.tile.row_count, call.tile.turns) = (&raw const last, 1, 1);
                // SAFETY: as above.
                unsafe { singles(&mut call.tile) };
            });
        }
    }

    /// Calls `visit` with the first of `count` filters, at least four, and the number of quads; then, if there are more, with
    /// the last quad, of which some have been visited.
    #[inline(always)]
    fn each_quad(&mut self, count: usize, mut visit: impl FnMut(&mut Self, usize, usize)) {
        visit(self, 0, count / 4);
        if !count.is_multiple_of(4) {
            visit(self, count - 4, 1);
        }
    }

    /// The filters of one group over the windows of a turn.
    #[inline(always)]
    fn turn(&mut self, taps: &Taps, places: Places, pixels: &mut [i8]) {
        if places.count < 4 || self.taps < 8 {
            self.few(taps, places, pixels);
        } else if self.residual.is_some() {
            self.added(taps, places, pixels);
        } else {
            let to = pixels.as_mut_ptr().wrapping_add(places.first);
            self.filters(taps, (places.first, places.count), places.windows, (to, places.step));
        }
    }

    /// `count` filters, at least four, from `first` on; their results to `to` and every `step` bytes.
    #[inline(always)]
    fn filters(&mut self, taps: &Taps, (first, count): (usize, usize), windows: usize, (to, step): (*mut i8, usize)) {
        let pairs_of_windows = if self.has_pairs { windows / 2 } else { 0 };
        self.tile.step = step;
        self.each_quad(count, |call, at, quads| {
            if pairs_of_windows != 0 {
                call.tile.set_filters(call.weights, call.q, call.taps, (first + at, quads));
                call.tile.set_windows(taps, 0);
                (call.tile.place, call.tile.turns) = (to.wrapping_add(at), pairs_of_windows);
                // SAFETY: the processor has the vectors. Filters and tables of `quads` quads exist, as do their places, and
                // `taps` says where the windows are.
                unsafe { if call.bits == 0 { pairs(&mut call.tile) } else { pairs_shifted(&mut call.tile) } };
            }
            let done = 2 * pairs_of_windows;
            if done < windows {
                call.tile.set_filters(call.weights, call.q, call.taps, (first + at, quads));
                call.tile.set_windows(taps, done);
                (call.tile.place, call.tile.turns) = (to.wrapping_add(done * step + at), windows - done);
                // SAFETY: as above.
                unsafe { singles(&mut call.tile) };
            }
        });
    }

    /// With a residual addition: results wait beside until they are added.
    #[inline(never)]
    fn added(&mut self, taps: &Taps, places: Places, pixels: &mut [i8]) {
        let mut beside = [[0i8; BLOCK]; TILE];
        let mut at = 0;
        while at < places.count {
            // No block has less than four filters.
            let left = places.count - at;
            let count = if left > BLOCK && left < BLOCK + 4 { BLOCK / 2 } else { left.min(BLOCK) };
            let first = places.first + at;
            self.filters(taps, (first, count), places.windows, (beside.as_mut_ptr().cast(), BLOCK));
            let pixels = pixels.chunks_exact_mut(places.step).take(places.windows);
            for (pixel, result) in pixels.zip(&beside) {
                if let (Some(held), Some(result), Some(add)) =
                    (pixel.get_mut(first..first + count), result.get(..count), &self.residual)
                {
                    add.to_second(result, held);
                }
            }
            at += count;
        }
    }

    /// Groups of less than four filters, and filters of less than eight taps: one filter at a time, from copies.
    #[inline(never)]
    fn few(&mut self, taps: &Taps, places: Places, pixels: &mut [i8]) {
        let rows: [*const i8; TILE] = taps.tails.each_ref().map(|tail| tail.as_ptr());
        for o in places.first..places.first + places.count {
            let filter = self.weights.get(o * self.taps..(o + 1) * self.taps).unwrap_or(&[]);
            let Some(channel) = self.q.channel(o) else { return };
            let (bias, multiplier, shift) = ([channel.bias; 4], [channel.multiplier; 4], [channel.shift; 4]);
            let q = Requant { bias: &bias, multiplier: &multiplier, shift: &shift, landing: self.q.landing };
            let mut tail = [0i8; 8];
            let mut results = [[0i8; 4]; TILE];
            let tile = &mut self.tile;
            if self.taps < 8 {
                // Zeros, then all taps, as in the tails of the windows.
                tail.iter_mut().rev().zip(filter.iter().rev()).for_each(|(to, &w)| *to = w);
                tile.set_filters(&tail, &q, 8, (0, 1));
                (tile.rows, tile.row_count, tile.len) = (&raw const rows, 1, 8);
            } else {
                tile.set_filters(filter, &q, self.taps, (0, 1));
                tile.set_windows(taps, 0);
            }
            tile.taps = 0;
            (tile.place, tile.step, tile.turns) = (results.as_mut_ptr().cast(), 4, places.windows);
            // SAFETY: the processor has the vectors. The same filter is taken four times, with four copies of its tables, and
            // the windows are those of `taps`.
            unsafe { singles(tile) };
            for (pixel, [result, ..]) in pixels.chunks_exact_mut(places.step).zip(&results).take(places.windows) {
                let Some(place) = pixel.get_mut(o) else { continue };
                match &self.residual {
                    Some(add) => add.to_second(&[*result], core::slice::from_mut(place)),
                    None => *place = *result,
                }
            }
        }
    }
}
