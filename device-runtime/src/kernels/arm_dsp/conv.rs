//! Convolution: four windows at a time are widened to 16 bits in scratch and multiplied with one filter after the other.

use super::columns::Gather;
use super::filters::{Job, PARTIAL, four_windows, one_window};
use super::finish::Finish;
use super::instructions::{Halves, dual_multiply_add, even_bytes, odd_bytes};
use super::pack;
use crate::kernels::params::{Add, Channel, Conv2d, Requant};
use crate::kernels::reference;
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
    let (Some(bits), true) = (pre_shift(q, channels, taps), taps >= 4) else {
        return reference::conv2d(p, q, residual, input, weights, output);
    };
    let Ok(quads) = bytemuck::try_cast_slice_mut::<u8, Halves>(scratch) else { return };
    let groups = usize::from(p.groups).max(1);
    let (inputs, outputs) = (usize::from(p.input.c) / groups, (channels / groups).max(1));
    let finish = Finish::new(q.landing, residual);

    let mut gather = Gather::new(p, input);
    let group = |group: usize| Filters {
        q,
        finish,
        taps,
        weights: weights.get(group * outputs * taps..(group + 1) * outputs * taps).unwrap_or(&[]),
        first: group * outputs,
        count: outputs,
        bits,
    };

    let mut done = 0;
    if gather.is_pointwise() {
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
        let count = pixels.len() / channels;
        let spans: [_; WINDOWS] = core::array::from_fn(|_| windows.next().unwrap_or_default());
        for (at, filters) in (0..groups).map(|at| (at, group(at))) {
            let group_inputs = (at * inputs, inputs);
            if count == WINDOWS {
                for (at, &span) in spans.iter().enumerate() {
                    gather.window::<WINDOWS>(span, group_inputs, quads.get_mut(at..).unwrap_or(&mut []));
                }
                filters.four(quads, pixels, channels);
                continue;
            }
            for (&span, pixel) in spans.iter().zip(pixels.chunks_exact_mut(channels)) {
                gather.window::<1>(span, group_inputs, quads);
                filters.one(quads, pixel);
            }
        }
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
            scale: self.bits as i32 - 32,
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
        let aligned = self.taps.is_multiple_of(8) && self.weights.as_ptr().addr().is_multiple_of(4);
        let pairs = if aligned && quads.len() >= self.taps / 4 { self.count & !1 } else { 0 };
        if self.finish.is_nothing() && pairs != 0 {
            self.pairs(0, pairs, quads, held.as_mut_ptr());
        } else {
            for from in (0..pairs).step_by(CHUNK) {
                let count = CHUNK.min(pairs - from);
                let mut values = [0i8; CHUNK];
                self.pairs(from, count, quads, values.as_mut_ptr());
                let held = held.get_mut(from..).unwrap_or(&mut []);
                self.finish.store(values.get(..count).unwrap_or(&[]), held);
            }
        }
        let filters = self.weights.chunks_exact(self.taps.max(1));
        let channels = self.q.channels().skip(self.first);
        for ((filter, channel), place) in filters.zip(channels).zip(held).skip(pairs) {
            let acc = channel.bias.wrapping_add(sum(quads, filter));
            self.finish.store(&[self.land(channel, acc)], core::slice::from_mut(place));
        }
    }

    /// An even number of outputs from `from` on to `place`, which has room for them.
    #[inline(always)]
    fn pairs(&self, from: usize, count: usize, quads: &[Halves], place: *mut i8) {
        let Some(mut job) = self.job(from, count, quads, [place; WINDOWS]) else { return };
        job.rounds = self.taps / 32;
        job.tail = self.taps % 32 / 8;
        job.adjust = self.taps as isize;
        // SAFETY: as in `four`, for one window; the caller made sure of alignment and an even count.
        unsafe { one_window(&mut job) };
    }

    fn land(&self, channel: Channel, acc: i32) -> i8 {
        let saturated = crate::kernels::params::Landing { lo: i8::MIN, hi: i8::MAX, ..self.q.landing };
        channel.requantize(acc, saturated)
    }
}

/// Sum of products of one filter and one window.
fn sum(quads: &[Halves], filter: &[i8]) -> i32 {
    let (words, rest) = filter.as_chunks::<4>();
    let last = if rest.is_empty() { None } else { filter.last_chunk::<4>() };
    words.iter().chain(last).zip(quads).fold(0, |sum, (&word, &[x02, x13])| {
        let word = pack::word(word);
        dual_multiply_add(x13, odd_bytes(word), dual_multiply_add(x02, even_bytes(word), sum))
    })
}
