//! Convolution: four windows at a time are widened to 16 bits in scratch and multiplied with one filter after the other.

use super::columns::{Copy, Gather, point};
use super::filters::{Job, PARTIAL, four_windows};
use super::finish::Finish;
use super::instructions::{Halves, dual_multiply_add, even_bytes, odd_bytes};
use super::pack;
#[cfg(feature = "woven")]
use super::pairs::one_window_woven;
use super::pairs::{Pairs, one_window};
use crate::kernels::params::{Add, Conv2d, Landing, Requant, Window};
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
    let mut filters = Filters { q, finish, taps, weights, first: 0, count: outputs, bits, job: None };
    if channels == output.len() && p.window == Window::POINT && groups == 1 && taps.is_multiple_of(4) {
        // A vector: nothing but this is left to do.
        point(input, 0, taps, quads);
        return filters.one(quads, output);
    }
    let gather = Gather::new(p, input);
    for group in 0..groups {
        filters.first = group * outputs;
        filters.weights = weights.get(filters.first * taps..).unwrap_or(&[]);
        every_window(&gather, &mut filters, (group * inputs, inputs), quads, output);
    }
}

/// A fully connected layer [whose filters can be woven](Conv2d::can_be_woven) and are; `scratch` as for [`conv2d`]. False, with
/// nothing written, if shifts or the place of the weights do not suit.
#[cfg(feature = "woven")]
pub fn woven(p: &Conv2d, q: &Requant<'_>, input: &[i8], weights: &[i8], scratch: &mut [u8], output: &mut [i8]) -> bool {
    let (taps, count) = (p.taps(), usize::from(p.output.c));
    let Ok(quads) = bytemuck::try_cast_slice_mut::<u8, Halves>(scratch) else { return false };
    let finish = Finish::new(q.landing, None);
    let bits = pre_shift(q, count, taps);
    let filters = Filters { q, finish, taps, weights, first: 0, count, bits, job: None };
    point(input, 0, taps, quads);
    let is_done = filters.pairs(one_window_woven, 0, quads, output).is_some();
    filters.finish.clamp(output);
    is_done
}

/// All windows with the filters of one group, whose first input channel and number of input channels is `inputs`.
#[inline(always)]
fn every_window(
    gather: &Gather<'_>,
    filters: &mut Filters<'_>,
    inputs: (usize, usize),
    quads: &mut [Halves],
    output: &mut [i8],
) {
    let channels = usize::from(gather.p.output.c).max(1);
    let is_pointwise = gather.is_pointwise();
    let mut values: Values = [0; _];
    let mut windows = Windows::new(&gather.p.window, gather.p.input, gather.p.output);
    let mut position = 0;
    if filters.finish.is_nothing() {
        filters.prepare(0, filters.count);
    }
    for pixels in output.chunks_mut(WINDOWS * channels) {
        if filters.bits.is_some() && pixels.len() == WINDOWS * channels {
            if is_pointwise {
                gather.four_points(position, quads);
            } else {
                for at in 0..WINDOWS {
                    let window = windows.pass();
                    let quads = quads.get_mut(at..).unwrap_or(&mut []);
                    gather.window(window, inputs, &mut values, quads);
                }
            }
            filters.four(quads, pixels, channels, &mut values);
            position += WINDOWS;
            continue;
        }
        for pixel in pixels.chunks_exact_mut(channels) {
            if is_pointwise {
                point(gather.input, position, filters.taps, quads);
            } else {
                gather.lone_window(windows.pass(), inputs, quads);
            }
            filters.one(quads, pixel);
            position += 1;
        }
    }
}

/// All pairs of filters over one window.
type PairLoop = unsafe extern "C" fn(&Pairs);

/// The values of four windows; before that, a window on its way to them.
type Values = Copy;

const _: () = assert!(size_of::<Values>() == WINDOWS * CHUNK);

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
    /// The call for the filters at hand, once it [is prepared](Self::prepare).
    job: Option<Job>,
}

impl Filters<'_> {
    /// Prepares calls for `count` filters from `from` on; there is none if a table is short.
    #[inline(never)]
    fn prepare(&mut self, from: usize, count: usize) {
        self.job = self.job_for(from, count);
    }

    #[inline(always)]
    fn job_for(&self, from: usize, count: usize) -> Option<Job> {
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
            columns: core::ptr::null(),
            rounds: whole / 4,
            tail: whole % 4 + if rest == 0 { 0 } else { PARTIAL },
            adjust: rest as isize - 4,
            weights: weights.as_ptr(),
            out_end: [core::ptr::null_mut(); WINDOWS],
        })
    }

    /// The first `count` outputs at four positions, each `step` places from the one before; those of the filters that were
    /// prepared for as many.
    #[inline(never)]
    fn run(&mut self, count: usize, quads: &[Halves], places: &mut [i8], step: usize) {
        let is_whole = quads.len() >= WINDOWS * self.taps.div_ceil(4) && places.len() >= (WINDOWS - 1) * step + count;
        let Some(job) = self.job.as_mut().filter(|_| is_whole) else { return };
        let end = places.as_mut_ptr().wrapping_add(count);
        job.index = -(count as isize);
        job.columns = quads.as_ptr();
        job.out_end =
            [end, end.wrapping_add(step), end.wrapping_add(2 * step), end.wrapping_add(2 * step).wrapping_add(step)];
        // SAFETY: tables and weights were checked when the call was prepared, columns and places just now.
        unsafe { four_windows(job) };
    }

    /// All outputs of the group at four positions, which are prepared if values need no [`Finish`]. `values` is overwritten.
    #[inline(always)]
    fn four(&mut self, quads: &[Halves], pixels: &mut [i8], channels: usize, values: &mut Values) {
        if self.finish.is_nothing() {
            return self.run(self.count, quads, pixels.get_mut(self.first..).unwrap_or(&mut []), channels);
        }
        let mut from = self.first;
        let end = from + self.count;
        while from < end {
            let count = (end - from).min(CHUNK);
            self.prepare(from - self.first, count);
            self.run(count, quads, values, CHUNK);
            for (pixel, values) in pixels.chunks_exact_mut(channels).zip(values.chunks_exact(CHUNK)) {
                let held = pixel.get_mut(from..).unwrap_or(&mut []);
                self.finish.store(values.get(..count).unwrap_or(&[]), held);
            }
            from += count;
        }
    }

    /// All outputs of the group at one position.
    #[inline(never)]
    fn one(&self, quads: &[Halves], pixel: &mut [i8]) {
        let Some(held) = pixel.get_mut(self.first..self.first + self.count) else { return };
        if !self.finish.adds() {
            self.saturated(0, quads, held);
            return self.finish.clamp(held);
        }
        let mut done = 0;
        for held in held.chunks_mut(CHUNK) {
            let mut values = [0; CHUNK];
            let Some(values) = values.get_mut(..held.len()) else { return };
            self.saturated(done, quads, values);
            self.finish.store(values, held);
            done += held.len();
        }
    }

    /// Saturated outputs of the filters from `from` on.
    #[inline(never)]
    fn saturated(&self, from: usize, quads: &[Halves], values: &mut [i8]) {
        let mut at = from + self.pairs(one_window, from, quads, values).unwrap_or(0);
        while let Some(value) = values.get_mut(at - from) {
            *value = self.value(at, quads).unwrap_or(0);
            at += 1;
        }
    }

    /// Saturated outputs from `from` on, as many as `run` makes two at a time; how many those are.
    #[inline(always)]
    fn pairs(&self, run: PairLoop, from: usize, quads: &[Halves], held: &mut [i8]) -> Option<usize> {
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
        unsafe { run(&pairs) };
        Some(count)
    }

    /// The saturated output of one filter.
    fn value(&self, at: usize, quads: &[Halves]) -> Option<i8> {
        let filter = self.weights.get(at * self.taps..(at + 1) * self.taps)?;
        let channel = self.q.channel(self.first + at)?;
        let saturated = Landing { lo: i8::MIN, hi: i8::MAX, ..self.q.landing };
        Some(channel.requantize_once(channel.bias.wrapping_add(sum(quads, filter)), saturated))
    }
}

/// Sum of products of one filter and one window.
fn sum(quads: &[Halves], filter: &[i8]) -> i32 {
    let (words, rest) = filter.as_chunks::<4>();
    // Taps that do not fill a quad lie at its end, as in the window.
    let last = rest.iter().fold(0, |word, &w| word >> 8 | u32::from(w as u8) << 24);
    let add = |sum, word, &[x02, x13]: &Halves| {
        dual_multiply_add(x13, odd_bytes(word), dual_multiply_add(x02, even_bytes(word), sum))
    };
    let sum = words.iter().zip(quads).fold(0, |sum, (&word, quad)| add(sum, pack::word(word), quad));
    quads.get(words.len()).map_or(sum, |quad| add(sum, last, quad))
}
