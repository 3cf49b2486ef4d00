//! x86-64 with AVX2.
//!
//! Convolution widens two windows to 16 bits in scratch and multiplies them with four filters at a time; sums stay in
//! 32 bits and are exact.

mod attention;

pub use attention::attention;

use core::arch::x86_64::*;

use super::columns::{Run, for_each_run};
use super::isa::avx2_is_present;
use super::params::{Add, Channel, Conv2d, Requant};
use super::reference;
use super::windows::{Span, Windows};

/// Filters multiplied at once.
const FILTERS: usize = 4;
/// Taps, or channels of a depthwise convolution, per vector.
const LANES: usize = 16;

/// Convolution; `scratch` holds [`Conv2d::scratch_bytes`] aligned to 4. Without AVX2 it runs the reference.
pub fn conv2d(
    p: &Conv2d,
    q: &Requant<'_>,
    residual: Option<&Add>,
    input: &[i8],
    weights: &[i8],
    scratch: &mut [u8],
    output: &mut [i8],
) {
    let scratch = bytemuck::try_cast_slice_mut(scratch);
    let (true, Ok(columns)) = (avx2_is_present(), scratch) else {
        return reference::conv2d(p, q, residual, input, weights, output);
    };
    // SAFETY: AVX2 is present.
    unsafe { conv2d_avx2(p, q, residual, input, weights, columns, output) }
}

/// Depthwise convolution. Without AVX2 it runs the reference.
pub fn depthwise(p: &Conv2d, q: &Requant<'_>, residual: Option<&Add>, input: &[i8], weights: &[i8], output: &mut [i8]) {
    if !avx2_is_present() {
        return reference::depthwise(p, q, residual, input, weights, output);
    }
    // SAFETY: AVX2 is present.
    unsafe { depthwise_avx2(p, q, residual, input, weights, output) }
}

#[target_feature(enable = "avx2")]
fn conv2d_avx2(
    p: &Conv2d,
    q: &Requant<'_>,
    residual: Option<&Add>,
    input: &[i8],
    weights: &[i8],
    columns: &mut [i16],
    output: &mut [i8],
) {
    let taps = p.taps().max(1);
    let groups = usize::from(p.groups).max(1);
    let channels = usize::from(p.output.c).max(1);
    let (inputs, outputs) = (usize::from(p.input.c) / groups, (channels / groups).max(1));
    // A single position has scratch for one window only; then no second one is read.
    let Some((first, second)) = columns.split_at_mut_checked(taps.next_multiple_of(4)) else { return };
    let (Some(first), second) = (first.get_mut(..taps), second.get_mut(..taps).unwrap_or_default()) else { return };

    let mut windows = Windows::new(&p.window, p.input, p.output);
    for pair in output.chunks_mut(2 * channels) {
        let Some(left) = windows.next() else { return };
        let right = if pair.len() > channels { windows.next() } else { None };
        let Some((left_pixel, right_pixel)) = pair.split_at_mut_checked(channels) else { return };
        for (group, filters) in weights.chunks_exact(outputs * taps).enumerate() {
            widen(p, left, (group * inputs, inputs), input, first);
            if let Some(right) = right {
                widen(p, right, (group * inputs, inputs), input, second);
            }
            let columns = Columns::new(first, if right.is_some() { second } else { first });
            let mut o = group * outputs;
            for filters in filters.chunks(FILTERS * taps) {
                let sums = columns.times(filters);
                for (channel, [left, right]) in q.channels().skip(o).zip(sums).take(filters.len() / taps) {
                    store(q, channel, residual, left, left_pixel.get_mut(o));
                    store(q, channel, residual, right, right_pixel.get_mut(o));
                    o += 1;
                }
            }
        }
    }
}

/// Requantizes one sum into its place, which does not exist for the missing half of a last, odd pair.
#[inline(always)]
fn store(q: &Requant<'_>, channel: Channel, residual: Option<&Add>, sum: i32, place: Option<&mut i8>) {
    let Some(place) = place else { return };
    let y = channel.requantize(channel.bias.wrapping_add(sum), q.landing);
    *place = match residual {
        Some(add) => add.apply(y, *place),
        None => y,
    };
}

/// Writes the taps of one window and group as 16-bit values.
#[inline(always)]
fn widen(p: &Conv2d, window: (Span, Span), group: (usize, usize), input: &[i8], column: &mut [i16]) {
    let mut rest = column;
    for_each_run(p, window, group, input, |run| {
        let len = match run {
            Run::Pad(len) => len,
            Run::Inside(taps) => taps.len(),
        };
        let Some((part, tail)) = core::mem::take(&mut rest).split_at_mut_checked(len) else { return };
        match run {
            Run::Pad(_) => part.fill(i16::from(p.pad_value)),
            Run::Inside(taps) => part.iter_mut().zip(taps).for_each(|(wide, &x)| *wide = i16::from(x)),
        }
        rest = tail;
    });
}

/// Two columns of taps: whole vectors, and a last vector for the taps that do not fill one.
struct Columns<'a> {
    blocks: [&'a [[i16; LANES]]; 2],
    last: [[i16; LANES]; 2],
    taps: usize,
}

impl<'a> Columns<'a> {
    #[inline(always)]
    fn new(left: &'a [i16], right: &'a [i16]) -> Self {
        let (left_blocks, left_rest) = left.as_chunks();
        let (right_blocks, right_rest) = right.as_chunks();
        let blocks = [left_blocks, right_blocks];
        Self { blocks, last: [Self::at_end(left_rest), Self::at_end(right_rest)], taps: left.len() }
    }

    /// `rest` at the end of a vector of zeros, to meet the last 16 weights of a filter.
    #[inline(always)]
    fn at_end(rest: &[i16]) -> [i16; LANES] {
        let mut last = [0; LANES];
        last.iter_mut().rev().zip(rest.iter().rev()).for_each(|(last, &x)| *last = x);
        last
    }

    /// The last 16 weights of a filter, with zeros before a filter shorter than that.
    #[inline(always)]
    fn last_weights(filter: &[i8]) -> [i8; LANES] {
        filter.last_chunk().copied().unwrap_or_else(|| {
            let mut last = [0; LANES];
            last.iter_mut().rev().zip(filter.iter().rev()).for_each(|(last, &w)| *last = w);
            last
        })
    }

    /// Products with up to [`FILTERS`] filters, `[filter][column]`; absent filters repeat the first.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn times(&self, filters: &[i8]) -> [[i32; 2]; FILTERS] {
        let filter = |i: usize| {
            let start = i * self.taps;
            filters.get(start..start + self.taps).or(filters.get(..self.taps)).unwrap_or(&[])
        };
        let filters = [filter(0), filter(1), filter(2), filter(3)];
        let mut sums = [[_mm256_setzero_si256(); FILTERS]; 2];

        let [w0, w1, w2, w3] = filters.map(|filter| filter.as_chunks::<LANES>().0);
        let weights = w0.iter().zip(w1).zip(w2.iter().zip(w3));
        for ((left, right), ((w0, w1), (w2, w3))) in self.blocks[0].iter().zip(self.blocks[1]).zip(weights) {
            Self::accumulate(&mut sums, [left, right], [w0, w1, w2, w3]);
        }
        if !self.taps.is_multiple_of(LANES) {
            let last = filters.map(Self::last_weights);
            Self::accumulate(&mut sums, [&self.last[0], &self.last[1]], last.each_ref());
        }

        let [left, right] = sums.map(|sums| Self::horizontal(sums));
        [[left[0], right[0]], [left[1], right[1]], [left[2], right[2]], [left[3], right[3]]]
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn accumulate(sums: &mut [[__m256i; FILTERS]; 2], x: [&[i16; LANES]; 2], w: [&[i8; LANES]; FILTERS]) {
        let x = x.map(|x| load_16(x));
        for (f, w) in w.into_iter().enumerate() {
            let w = load_8(w);
            sums[0][f] = _mm256_add_epi32(sums[0][f], _mm256_madd_epi16(x[0], w));
            sums[1][f] = _mm256_add_epi32(sums[1][f], _mm256_madd_epi16(x[1], w));
        }
    }

    /// The sum of each vector's lanes.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn horizontal([a, b, c, d]: [__m256i; FILTERS]) -> [i32; FILTERS] {
        let halves = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
        let sum = _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
        bytemuck::cast(sum)
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_16(values: &[i16; LANES]) -> __m256i {
    // SAFETY: reads the 32 bytes of the array; the load has no alignment requirement.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}

/// Sixteen bytes, sign-extended to 16 bits.
#[target_feature(enable = "avx2")]
#[inline]
fn load_8(values: &[i8; LANES]) -> __m256i {
    // SAFETY: reads the 16 bytes of the array; the load has no alignment requirement.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(values.as_ptr().cast()) })
}

#[target_feature(enable = "avx2")]
fn depthwise_avx2(
    p: &Conv2d,
    q: &Requant<'_>,
    residual: Option<&Add>,
    input: &[i8],
    weights: &[i8],
    output: &mut [i8],
) {
    let channels = usize::from(p.output.c).max(1);
    for (window, pixel) in Windows::new(&p.window, p.input, p.output).zip(output.chunks_exact_mut(channels)) {
        let (blocks, rest) = pixel.as_chunks_mut::<LANES>();
        let first_left = blocks.len() * LANES;
        for (block, places) in blocks.iter_mut().enumerate() {
            let sums = depthwise_sums(p, window, block * LANES, input, weights);
            for ((channel, sum), place) in q.channels().skip(block * LANES).zip(sums).zip(places) {
                store(q, channel, residual, sum, Some(place));
            }
        }
        for (c, place) in rest.iter_mut().enumerate() {
            let sum = reference::depthwise_sum(p, window, first_left + c, input, weights);
            if let Some(channel) = q.channels().nth(first_left + c) {
                store(q, channel, residual, sum, Some(place));
            }
        }
    }
}

/// Sums of sixteen channels from `first` on, bias excluded.
#[target_feature(enable = "avx2")]
#[inline]
fn depthwise_sums(
    p: &Conv2d,
    (rows, columns): (Span, Span),
    first: usize,
    input: &[i8],
    weights: &[i8],
) -> [i32; LANES] {
    let [kernel_rows, kernel_columns] = p.window.kernel.map(usize::from);
    let [row_step, column_step] = p.window.dilation.map(usize::from);
    let channels = usize::from(p.input.c);
    let width = usize::from(p.input.w);
    let pad = [p.pad_value; LANES];

    let mut sums = [_mm256_setzero_si256(); 2];
    let mut taps = weights.chunks_exact(channels.max(1)).map(|tap| tap.get(first..).and_then(|w| w.first_chunk()));
    for row in 0..kernel_rows {
        let row_inside = row.wrapping_sub(rows.first);
        let start = (rows.start + row_inside.wrapping_mul(row_step)).wrapping_mul(width).wrapping_add(columns.start);
        for column in 0..kernel_columns {
            let column_inside = column.wrapping_sub(columns.first);
            let Some(Some(w)) = taps.next() else { continue };
            let inside = row_inside < rows.count && column_inside < columns.count;
            let position = start.wrapping_add(column_inside.wrapping_mul(column_step));
            let at = if inside { position * channels + first } else { usize::MAX };
            let x = input.get(at..).and_then(|x| x.first_chunk()).unwrap_or(&pad);
            let product = _mm256_mullo_epi16(load_8(x), load_8(w));
            sums[0] = _mm256_add_epi32(sums[0], _mm256_cvtepi16_epi32(_mm256_castsi256_si128(product)));
            sums[1] = _mm256_add_epi32(sums[1], _mm256_cvtepi16_epi32(_mm256_extracti128_si256(product, 1)));
        }
    }
    bytemuck::cast(sums)
}
