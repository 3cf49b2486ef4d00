//! Self-attention, one query of one head at a time.

use crate::kernels::attention::{Attention, Weight, normalise};
use crate::kernels::requantize;

/// See [`attention_queries_s8`](crate::kernels::attention_queries_s8).
pub fn attention(p: &Attention, first: usize, input: &[i8], scratch: &mut [u32], output: &mut [i8]) {
    let channels = usize::from(p.input.c).max(1);
    let weight = Weight::new(p.score_multiplier);
    let tokens = || input.chunks_exact(channels);
    let row = scratch.get_mut(..p.tokens()).unwrap_or(&mut []);
    let outputs = usize::from(p.value_features).max(1);
    let mut results = output.chunks_exact_mut((outputs * usize::from(p.heads)).max(1));
    for token in tokens().skip(first) {
        let Some(result) = results.next() else { return };
        for (head, result) in result.chunks_exact_mut(outputs).enumerate() {
            let query = part(p, 0, head, token);
            let mut highest = i32::MIN;
            let mut keys = tokens();
            for score in row.iter_mut() {
                let sum = dot(query, keys.next().map_or(&[][..], |token| part(p, 1, head, token)));
                highest = highest.max(sum);
                *score = sum as u32;
            }
            let mut sum = 0u32;
            for score in row.iter_mut() {
                *score = weight.of((highest as u32).wrapping_sub(*score));
                sum = sum.wrapping_add(*score);
            }
            let (multiplier, shift) = normalise(p, sum);
            for (feature, y) in result.iter_mut().enumerate() {
                let (mut acc, mut values) = (0i32, tokens());
                for &weight in row.iter() {
                    let value = values.next().and_then(|token| part(p, 2, head, token).get(feature));
                    let product = (weight as i32).wrapping_mul(value.copied().unwrap_or(0).into());
                    acc = acc.wrapping_add(product);
                }
                *y = requantize(acc, multiplier, shift, p.landing);
            }
        }
    }
}

/// The query, key or value of one head and token.
#[inline(always)]
pub fn part<'x>(p: &Attention, part: usize, head: usize, token: &'x [i8]) -> &'x [i8] {
    let features = if part == 2 { p.value_features } else { p.key_features };
    let start = p.channel(part, head);
    token.get(start..start.wrapping_add(usize::from(features))).unwrap_or(&[])
}

#[inline(always)]
fn dot(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).fold(0i32, |sum, (&a, &b)| sum.wrapping_add(i32::from(a) * i32::from(b)))
}
