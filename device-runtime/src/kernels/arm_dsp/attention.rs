//! Self-attention with dual multiply-accumulates: pairs of features for the scores, pairs of tokens for the sums.

use super::instructions::{Halves, dual_multiply_add, even_bytes, odd_bytes};
use super::pack;
use crate::kernels::attention::Attention;
use crate::kernels::attention::blocked::{self, Lane, Rows};

/// Words of four features that are widened at once.
const WORDS: usize = 16;
/// Features summed at once.
const FEATURES: usize = 4;

/// Self-attention of the queries from `first` on; `scratch` holds [`Attention::scratch_bytes`].
pub fn attention(p: &Attention, first: usize, input: &[i8], scratch: &mut [u32], output: &mut [i8]) {
    blocked::attention(p, first, input, scratch, output, score, mix);
}

#[inline(never)]
fn score(queries: [&[i8]; 4], keys: Lane<'_>, rows: &mut Rows<'_>) {
    for from in (0..queries[0].len()).step_by(4 * WORDS) {
        let mut wide = [[[0; 2]; 4]; WORDS];
        for (i, query) in queries.iter().enumerate() {
            for (word, place) in words(query.get(from..).unwrap_or(&[])).zip(&mut wide) {
                place[i] = widened(word);
            }
        }
        score_part(&wide, keys.part(from, 4 * WORDS), rows, from == 0);
    }
}

/// Adds the products with some features of every key to the rows, or writes them if these are the first.
#[inline(always)]
fn score_part(queries: &[[Halves; 4]; WORDS], keys: Lane<'_>, rows: &mut Rows<'_>, is_first: bool) {
    let [r0, r1, r2, r3] = rows;
    let scores = r0.iter_mut().zip(r1.iter_mut()).zip(r2.iter_mut().zip(r3.iter_mut()));
    for (key, ((s0, s1), (s2, s3))) in keys.tokens().zip(scores) {
        let mut sums = [0i32; 4];
        for (word, queries) in words(key).zip(queries) {
            let [even, odd] = widened(word);
            for (sum, query) in sums.iter_mut().zip(queries) {
                *sum = dual_multiply_add(odd, query[1], dual_multiply_add(even, query[0], *sum));
            }
        }
        for (score, sum) in [s0, s1, s2, s3].into_iter().zip(sums) {
            *score = if is_first { sum as u32 } else { score.wrapping_add(sum as u32) };
        }
    }
}

#[inline(always)]
fn widened(word: u32) -> Halves {
    [even_bytes(word), odd_bytes(word)]
}

/// Values four by four; the last word is filled up with zeros.
#[inline(always)]
fn words(values: &[i8]) -> impl Iterator<Item = u32> {
    let (whole, rest) = values.as_chunks::<4>();
    let last = (!rest.is_empty()).then(|| first_word(rest));
    whole.iter().map(|&word| pack::word(word)).chain(last)
}

#[inline(always)]
fn first_word(values: &[i8]) -> u32 {
    match values.first_chunk() {
        Some(&word) => pack::word(word),
        None => values.iter().rev().fold(0, |word, &value| word << 8 | u32::from(value as u8)),
    }
}

#[inline(never)]
fn mix(values: Lane<'_>, rows: &Rows<'_>) -> [[i32; FEATURES]; 4] {
    let [r0, r1, r2, r3] = rows;
    let [a, b] = mix_two(values, [r0, r1]);
    let [c, d] = mix_two(values, [r2, r3]);
    [a, b, c, d]
}

#[inline(always)]
fn mix_two(values: Lane<'_>, [first, second]: [&[u32]; 2]) -> [[i32; FEATURES]; 2] {
    let mut sums = [[0i32; FEATURES]; 2];
    let mut values = values.tokens();
    for (&first, &second) in first.iter().zip(second) {
        let Some(value) = values.next() else { break };
        let [a_even, a_odd] = widened(first_word(value));
        let [b_even, b_odd] = widened(values.next().map_or(0, first_word));
        let low = |a: u32, b: u32| a & 0xFFFF | b << 16;
        let high = |a: u32, b: u32| a >> 16 | b & 0xFFFF_0000;
        let pairs = [low(a_even, b_even), low(a_odd, b_odd), high(a_even, b_even), high(a_odd, b_odd)];
        for (sums, weights) in sums.iter_mut().zip([first, second]) {
            for (sum, pair) in sums.iter_mut().zip(pairs) {
                *sum = dual_multiply_add(weights, pair, *sum);
            }
        }
    }
    sums
}
