//! Self-attention: four queries share one pass over the keys and one over the values.

use core::arch::x86_64::*;

use super::{LANES, load_8};
use crate::kernels::attention::blocked::{self, Lane, Rows};
use crate::kernels::attention::{Attention, QUERIES};
use crate::kernels::isa::avx2_is_present;
use crate::kernels::reference;

/// Features of queries that are held in registers at once.
const FEATURES: usize = 4 * LANES;

/// Self-attention of the queries from `first` on; `scratch` holds [`Attention::scratch_bytes`]. Without AVX2 it runs the
/// reference.
pub fn attention(p: &Attention, first: usize, input: &[i8], scratch: &mut [u32], output: &mut [i8]) {
    if !avx2_is_present() {
        return reference::attention(p, first, input, scratch, output);
    }
    // SAFETY: AVX2 is present.
    let score = |queries: [&[i8]; QUERIES], keys: Lane<'_>, rows: &mut Rows<'_>| unsafe { score(queries, keys, rows) };
    // SAFETY: likewise.
    let mix = |values: Lane<'_>, rows: &Rows<'_>| unsafe { mix(values, rows) };
    blocked::attention(p, first, input, scratch, output, score, mix);
}

/// Dot products of every key with the queries, one row per query.
#[target_feature(enable = "avx2")]
fn score(queries: [&[i8]; QUERIES], keys: Lane<'_>, rows: &mut Rows<'_>) {
    let features = queries[0].len();
    for from in (0..features).step_by(FEATURES) {
        let queries = queries.map(|query| {
            let rest = query.get(from..).unwrap_or(&[]);
            rest.get(..FEATURES).unwrap_or(rest)
        });
        let keys = keys.part(from, FEATURES);
        let is_first = from == 0;
        match queries[0].len().div_ceil(LANES) {
            1 => score_part::<1>(queries, keys, rows, is_first),
            2 => score_part::<2>(queries, keys, rows, is_first),
            3 => score_part::<3>(queries, keys, rows, is_first),
            _ => score_part::<4>(queries, keys, rows, is_first),
        }
    }
}

/// [`score`] over at most `BLOCKS` vectors of features; all but the first part add to what the rows hold.
#[target_feature(enable = "avx2")]
#[inline]
fn score_part<const BLOCKS: usize>(queries: [&[i8]; QUERIES], keys: Lane<'_>, rows: &mut Rows<'_>, is_first: bool) {
    let queries: [[__m256i; BLOCKS]; QUERIES] = queries.map(|query| core::array::from_fn(|at| block(query, at)));
    for (at, key) in keys.tokens().enumerate() {
        let mut sums = [_mm256_setzero_si256(); QUERIES];
        for i in 0..BLOCKS {
            let key = block(key, i);
            for (sum, query) in sums.iter_mut().zip(&queries) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(query[i], key));
            }
        }
        for (row, sum) in rows.iter_mut().zip(super::Columns::horizontal(sums)) {
            if let Some(score) = row.get_mut(at) {
                *score = if is_first { sum as u32 } else { score.wrapping_add(sum as u32) };
            }
        }
    }
}

/// The `at`-th sixteen values, widened; zeros after the last value.
#[target_feature(enable = "avx2")]
#[inline]
fn block(values: &[i8], at: usize) -> __m256i {
    let rest = values.get(at * LANES..).unwrap_or(&[]);
    match rest.first_chunk() {
        Some(whole) => load_8(whole),
        None => {
            let mut padded = [0; LANES];
            padded.iter_mut().zip(rest).for_each(|(to, &from)| *to = from);
            load_8(&padded)
        }
    }
}

/// Sums of at most sixteen features of every value, weighted by each query's row of paired weights.
#[target_feature(enable = "avx2")]
fn mix(values: Lane<'_>, rows: &Rows<'_>) -> [[i32; LANES]; QUERIES] {
    let mut values = values.tokens();
    let mut sums = [[_mm256_setzero_si256(); 2]; QUERIES];
    let mut pair = 0;
    while let Some(first) = values.next() {
        let (a, b) = (block(first, 0), block(values.next().unwrap_or(&[]), 0));
        let halves = [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)];
        for (sums, row) in sums.iter_mut().zip(rows) {
            let weights = _mm256_set1_epi32(row.get(pair).copied().unwrap_or(0) as i32);
            for (sum, half) in sums.iter_mut().zip(halves) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(half, weights));
            }
        }
        pair += 1;
    }
    // Interleaving works on halves of 128 bits: values 0 to 3 and 8 to 11, then 4 to 7 and 12 to 15.
    sums.map(|[low, high]| {
        let first = _mm256_permute2x128_si256(low, high, 0x20);
        let second = _mm256_permute2x128_si256(low, high, 0x31);
        bytemuck::cast([first, second])
    })
}
