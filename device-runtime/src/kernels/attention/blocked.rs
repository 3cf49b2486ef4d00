//! Attention with four queries at a time: they share one pass over the keys and one over the values.

use super::{Attention, QUERIES, Weight, normalise};
use crate::kernels::requantize;

/// The keys, or the values, of one head: the same channels of every token.
#[derive(Clone, Copy)]
pub struct Lane<'x> {
    input: &'x [i8],
    /// Channels of a token.
    pitch: usize,
    /// First channel, and how many.
    first: usize,
    features: usize,
}

impl<'x> Lane<'x> {
    fn new(p: &Attention, input: &'x [i8], part: usize, head: usize) -> Self {
        let features = if part == 2 { p.value_features } else { p.key_features };
        let (pitch, features) = (usize::from(p.input.c).max(1), usize::from(features));
        Self { input, pitch, first: p.channel(part, head), features }
    }

    /// The features of one token; none if there is no such token.
    #[inline(always)]
    pub fn token(&self, at: usize) -> &'x [i8] {
        let start = at.wrapping_mul(self.pitch).wrapping_add(self.first);
        self.input.get(start..start.wrapping_add(self.features)).unwrap_or(&[])
    }

    /// The features of every token in turn.
    #[inline(always)]
    pub fn tokens(&self) -> impl Iterator<Item = &'x [i8]> + use<'x> {
        let Self { input, pitch, first, features } = *self;
        let mut start = first;
        core::iter::from_fn(move || {
            let token = input.get(start..start.wrapping_add(features));
            start = start.wrapping_add(pitch);
            token
        })
    }

    /// At most `most` features from `from` on.
    #[inline(always)]
    pub fn part(&self, from: usize, most: usize) -> Self {
        let features = self.features.saturating_sub(from).min(most);
        Self { first: self.first.wrapping_add(from), features, ..*self }
    }
}

/// One row of scratch per query.
pub type Rows<'s> = [&'s mut [u32]; QUERIES];

/// Attention of the queries from `first` on, as many as `output` has rows for, by two functions: `score` writes the dot products of the queries with all keys, one row per query; `mix` returns
/// the sums of at most `FEATURES` features of all values, weighted by the rows' pairs of weights.
#[inline(always)]
pub fn attention<const FEATURES: usize>(
    p: &Attention,
    first: usize,
    input: &[i8],
    scratch: &mut [u32],
    output: &mut [i8],
    score: impl Fn([&[i8]; QUERIES], Lane<'_>, &mut Rows<'_>),
    mix: impl Fn(Lane<'_>, &Rows<'_>) -> [[i32; FEATURES]; QUERIES],
) {
    let tokens = p.tokens();
    let weight = Weight::new(p.score_multiplier);
    let features = usize::from(p.value_features);
    let width = features.wrapping_mul(usize::from(p.heads)).max(1);
    let mut rows = scratch.chunks_exact_mut(tokens.next_multiple_of(4).max(1));
    let mut rows: Rows<'_> = core::array::from_fn(|_| rows.next().unwrap_or_default());
    for head in 0..usize::from(p.heads) {
        let [queries, keys, values] = [0, 1, 2].map(|part| Lane::new(p, input, part, head));
        for (block, results) in output.chunks_mut(width.saturating_mul(QUERIES).max(1)).enumerate() {
            // Beyond the last query the last one is repeated.
            let start = first.wrapping_add(block.wrapping_mul(QUERIES));
            let query = |i: usize| queries.token(start.wrapping_add(i).min(tokens.wrapping_sub(1)));
            score(core::array::from_fn(query), keys, &mut rows);
            let mut scales = [(0, 0); QUERIES];
            for (row, scale) in rows.iter_mut().zip(&mut scales) {
                *scale = normalise(p, weigh(weight, row, tokens));
            }
            for from in (0..features).step_by(FEATURES) {
                let sums = mix(values.part(from, FEATURES), &rows);
                let start = head.wrapping_mul(features).wrapping_add(from);
                let end = start.wrapping_add(FEATURES.min(features.wrapping_sub(from)));
                for ((result, sums), (multiplier, shift)) in results.chunks_exact_mut(width).zip(sums).zip(scales) {
                    for (y, sum) in result.get_mut(start..end).unwrap_or_default().iter_mut().zip(sums) {
                        *y = requantize(sum, multiplier, shift, p.landing);
                    }
                }
            }
        }
    }
}

/// Turns one query's scores into weights, two to a word, the earlier one in the low half; returns the sum of the weights.
#[inline(always)]
fn weigh(weight: Weight, row: &mut [u32], tokens: usize) -> u32 {
    let scores = row.get(..tokens).unwrap_or(&[]);
    let highest = scores.iter().fold(i32::MIN, |highest, &score| highest.max(score as i32)) as u32;
    let mut sum = 0u32;
    for pair in 0..tokens.div_ceil(2) {
        let of = |at: usize| match row.get(at) {
            Some(&score) if at < tokens => weight.of(highest.wrapping_sub(score)),
            _ => 0,
        };
        let (first, second) = (of(2 * pair), of(2 * pair + 1));
        sum = sum.wrapping_add(first).wrapping_add(second);
        if let Some(place) = row.get_mut(pair) {
            *place = first | (second << 16);
        }
    }
    sum
}
