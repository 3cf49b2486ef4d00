//! Convolution: four windows at a time are widened to 16 bits in scratch and multiplied with one filter after the other.

use super::columns::Gather;
use super::filters::{Job, PARTIAL, four_windows};
use super::finish::Finish;
use super::instructions::{Halves, dual_multiply_add, even_bytes, odd_bytes, widen_rows};
use super::pack;
use super::pairs::{Pairs, one_window};
use crate::kernels::params::{Add, Conv2d, Landing, Requant, Shape, Window};
use crate::kernels::scales::pre_shift;
use crate::kernels::windows::Windows;

/// Windows per call of the inner loop.
const WINDOWS: usize = 4;
/// Filters per call where values need a [`Finish`].
const CHUNK: usize = 32;

/// Convolution; `scratch` holds [`Conv2d::scratch_bytes`] aligned to 4.
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
    let bits = pre_shift(q, channels, taps).filter(|_| taps >= 4);
    let Ok(quads) = bytemuck::try_cast_slice_mut::<u8, Halves>(scratch) else { return };
    let groups = usize::from(p.groups).max(1);
    let (inputs, outputs) = (usize::from(p.input.c) / groups, (channels / groups).max(1));
    let finish = Finish::new(q.landing, residual);

    let group = |group: usize| Filters {
        q,
        finish,
        taps,
        weights: weights.get(group * outputs * taps..(group + 1) * outputs * taps).unwrap_or(&[]),
        first: group * outputs,
        count: outputs,
        bits,
    };

    if is_vector(p) && quads.len() >= taps / 4 && input.len() >= taps {
        // SAFETY: one row of words that are there, as are the places.
        unsafe { widen_rows::<1>(input.as_ptr(), 0, taps / 4, 1, quads.as_mut_ptr()) };
        return group(0).one(quads, output);
    }
    let mut gather = Gather::new(p, input);
    let mut done = 0;
    if bits.is_some() && gather.is_pointwise() {
        let filters = group(0);
        for pixels in output.chunks_exact_mut(WINDOWS * channels) {
            if !gather.four_points(done, quads) {
                return;
            }
            filters.four(quads, pixels, channels);
            done += WINDOWS;
        }
    }
    let mut windows = Windows::new(&p.window, p.input, p.output);
    for _ in 0..done {
        windows.next();
    }
    for pixels in output.get_mut(done * channels..).unwrap_or(&mut []).chunks_mut(WINDOWS * channels) {
        let is_full = bits.is_some() && pixels.len() == WINDOWS * channels;
        let mut rest = windows;
        for at in 0..groups {
            let (filters, group_inputs) = (group(at), (at * inputs, inputs));
            rest = windows;
            if is_full {
                for at in 0..WINDOWS {
                    let span = rest.next().unwrap_or_default();
                    gather.window(span, group_inputs, quads.get_mut(at..).unwrap_or(&mut []));
                }
                filters.four(quads, pixels, channels);
                continue;
            }
            for pixel in pixels.chunks_exact_mut(channels) {
                gather.lone_window(rest.next().unwrap_or_default(), group_inputs, quads);
                filters.one(quads, pixel);
            }
        }
        windows = rest;
    }
}

/// The one window is the whole input, in whole words.
fn is_vector(p: &Conv2d) -> bool {
    let one = Shape { c: p.output.c, ..Shape::new(1, 1, 0) };
    p.output == one
        && p.input == Shape { c: p.input.c, ..one }
        && p.window == Window::POINT
        && p.groups == 1
        && p.input.c.is_multiple_of(4)
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
    /// See [`pre_shift`]. Without it, and with fewer than four taps, filters are run one by one.
    bits: Option<u32>,
}

impl Filters<'_> {
    /// The call for `count` filters from `from` on, each place being the first of its window; `None` if a table is short.
    #[inline(always)]
    fn job(&self, from: usize, count: usize, quads: &[Halves], places: [*mut i8; WINDOWS]) -> Option<Job> {
        let channels = self.first + from..self.first + from + count;
        let weights = self.weights.get(from * self.taps..(from + count) * self.taps)?;
        let rest = self.taps % 4;
        let whole = self.taps / 4;
        Some(Job {
            multiplier_end: self.q.multiplier.get(channels.clone())?.as_ptr_range().end,
            shift_end: self.q.shift.get(channels.clone())?.as_ptr_range().end,
            index: -(count as isize),
            zero_point: self.q.landing.zero_point.into(),
            scale: self.bits? as i32 - 32,
            bias_end: self.q.bias.get(channels)?.as_ptr_range().end,
            columns: quads.as_ptr(),
            rounds: whole / 4,
            tail: whole % 4 + if rest == 0 { 0 } else { PARTIAL },
            adjust: rest as isize - 4,
            weights: weights.as_ptr(),
            out_end: places.map(|place| place.wrapping_add(count)),
        })
    }

    /// All outputs of the group at four positions.
    #[inline(always)]
    fn four(&self, quads: &[Halves], pixels: &mut [i8], channels: usize) {
        if quads.len() < WINDOWS * self.taps.div_ceil(4) || pixels.len() < WINDOWS * channels {
            return;
        }
        if self.finish.is_nothing() {
            let first = pixels.as_mut_ptr().wrapping_add(self.first);
            let places = core::array::from_fn(|window| first.wrapping_add(window * channels));
            if let Some(mut job) = self.job(0, self.count, quads, places) {
                // SAFETY: `job` checked tables and weights, the first lines the columns; the places are `count` outputs in
                // each of four pixels.
                unsafe { four_windows(&mut job) };
            }
            return;
        }
        for from in (0..self.count).step_by(CHUNK) {
            let count = CHUNK.min(self.count - from);
            let mut values = [[0i8; CHUNK]; WINDOWS];
            let first = values.as_mut_ptr().cast::<i8>();
            let places = core::array::from_fn(|window| first.wrapping_add(window * CHUNK));
            let Some(mut job) = self.job(from, count, quads, places) else { return };
            // SAFETY: as above, with places in `values`.
            unsafe { four_windows(&mut job) };
            for (pixel, values) in pixels.chunks_exact_mut(channels).zip(&values) {
                let held = pixel.get_mut(self.first + from..).unwrap_or(&mut []);
                self.finish.store(values.get(..count).unwrap_or(&[]), held);
            }
        }
    }

    /// All outputs of the group at one position.
    #[inline(never)]
    fn one(&self, quads: &[Halves], pixel: &mut [i8]) {
        let Some(held) = pixel.get_mut(self.first..self.first + self.count) else { return };
        let mut done = 0;
        if self.finish.adds() {
            for held in held.chunks_mut(CHUNK) {
                let mut values = [0; CHUNK];
                let Some(values) = values.get_mut(..held.len()) else { return };
                let Some(count) = self.pairs(done, quads, values) else { break };
                self.finish.store(values.get(..count).unwrap_or(&[]), held);
                done += count;
            }
        } else if let Some(count) = self.pairs(0, quads, held) {
            self.finish.clamp(held.get_mut(..count).unwrap_or(&mut []));
            done = count;
        }
        for (at, place) in held.iter_mut().enumerate().skip(done) {
            let Some(value) = self.value(at, quads) else { return };
            self.finish.store(&[value], core::slice::from_mut(place));
        }
    }

    /// Saturated outputs from `from` on, as many as are made two at a time; how many those are.
    #[inline(never)]
    fn pairs(&self, from: usize, quads: &[Halves], held: &mut [i8]) -> Option<usize> {
        let (count, taps, bits) = (held.len() & !1, self.taps, self.bits?);
        if !taps.is_multiple_of(8) || count == 0 {
            return None;
        }
        let weights = self.weights.get(from * taps..(from + count) * taps)?;
        if !weights.as_ptr().addr().is_multiple_of(4) {
            return None;
        }
        let channels = self.first + from..self.first + from + count;
        let held = held.get_mut(..count)?;
        let pairs = Pairs {
            multiplier: self.q.multiplier.get(channels.clone())?.as_ptr(),
            shift: self.q.shift.get(channels.clone())?.as_ptr(),
            out: held.as_mut_ptr(),
            bias: self.q.bias.get(channels)?.as_ptr(),
            out_end: held.as_ptr_range().end,
            scale: (bits as i32 - 32).wrapping_mul(0x101),
            zero_point: self.q.landing.zero_point.into(),
            taps,
            columns: quads.get(..taps / 4)?.as_ptr(),
            weights: weights.as_ptr(),
            bits,
        };
        // SAFETY: tables, places, columns and weights are as long as `count` and `taps` say, and on word boundaries.
        unsafe { one_window(&pairs) };
        Some(count)
    }

    /// The saturated output of one filter.
    fn value(&self, at: usize, quads: &[Halves]) -> Option<i8> {
        let filter = self.weights.get(at * self.taps..(at + 1) * self.taps)?;
        let channel = self.q.channel(self.first + at)?;
        let saturated = Landing { lo: i8::MIN, hi: i8::MAX, ..self.q.landing };
        Some(channel.requantize(channel.bias.wrapping_add(sum(quads, filter)), saturated))
    }
}

/// Sum of products of one filter and one window.
fn sum(quads: &[Halves], filter: &[i8]) -> i32 {
    let (words, rest) = filter.as_chunks::<4>();
    let mut few = [0; 4];
    let last = match (rest, filter.last_chunk()) {
        ([], _) => None,
        (_, Some(last)) => Some(last),
        // Fewer than four taps lie at the end of their quad, as in the window.
        _ => {
            few.iter_mut().rev().zip(rest.iter().rev()).for_each(|(place, &w)| *place = w);
            Some(&few)
        }
    };
    words.iter().chain(last).zip(quads).fold(0, |sum, (&word, &[x02, x13])| {
        let word = pack::word(word);
        dual_multiply_add(x13, odd_bytes(word), dual_multiply_add(x02, even_bytes(word), sum))
    })
}
