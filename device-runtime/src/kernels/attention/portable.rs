//! Plain Rust: two queries at a time, so that every key read is used twice; the compiler finds vectors where there are any.

use super::Attention;
use super::blocked::{self, Lane, Rows};

/// Features summed at once: as many as registers hold.
const FEATURES: usize = if cfg!(target_pointer_width = "64") { 16 } else { 4 };

/// Self-attention of the queries from `first` on; `scratch` holds [`Attention::scratch_bytes`].
pub fn attention(p: &Attention, first: usize, input: &[i8], scratch: &mut [u32], output: &mut [i8]) {
    blocked::attention(p, first, input, scratch, output, score, mix);
}

fn score(queries: [&[i8]; 4], keys: Lane<'_>, rows: &mut Rows<'_>) {
    let [q0, q1, q2, q3] = queries;
    let [r0, r1, r2, r3] = rows;
    score_two([q0, q1], keys, [r0, r1]);
    score_two([q2, q3], keys, [r2, r3]);
}

#[inline]
fn score_two(queries: [&[i8]; 2], keys: Lane<'_>, [first, second]: [&mut [u32]; 2]) {
    for ((key, first), second) in keys.tokens().zip(first).zip(second) {
        let [mut a, mut b] = [0i32; 2];
        for ((&key, &x), &y) in key.iter().zip(queries[0]).zip(queries[1]) {
            a = a.wrapping_add(i32::from(key) * i32::from(x));
            b = b.wrapping_add(i32::from(key) * i32::from(y));
        }
        (*first, *second) = (a as u32, b as u32);
    }
}

fn mix(values: Lane<'_>, rows: &Rows<'_>) -> [[i32; FEATURES]; 4] {
    rows.each_ref().map(|row| {
        let mut sums = [0i32; FEATURES];
        let mut values = values.tokens();
        for &pair in row.iter() {
            let weights = [(pair & 0xFFFF) as i32, (pair >> 16) as i32];
            for weight in weights {
                let Some(value) = values.next() else { return sums };
                for (sum, &value) in sums.iter_mut().zip(value) {
                    *sum = sum.wrapping_add(weight.wrapping_mul(i32::from(value)));
                }
            }
        }
        sums
    })
}
