//! Layer norm and attention from their definitions, see [`super::wide`].

use stitchkit_conformance::Norm;
use stitchkit_runtime::kernels::{Attention, Landing};

use super::wide::land;

pub fn layer_norm(norm: &Norm, input: &[i8], table: &[i32]) -> Vec<i8> {
    let channels = usize::from(norm.shape[1]);
    let (gains, offsets) = table.split_at(channels);
    let row = |row: &[i8]| -> Vec<i8> {
        let wide: Vec<i128> = row.iter().map(|&x| x.into()).collect();
        let (count, sum) = (channels as i128, wide.iter().sum::<i128>());
        let squares: i128 = wide.iter().map(|x| x * x).sum();
        let variance = (count * squares - sum * sum + i128::from(norm.epsilon)).max(1) as u128;
        let k = (64 - (128 - variance.leading_zeros())) / 2;
        let root = (variance << (2 * k)).isqrt();
        let reciprocal = ((1u128 << 62) / root) as i128;
        let channel = |(i, x): (usize, &i128)| {
            let z = ((count * x - sum) * reciprocal).div_euclid(1 << (46 - k));
            let half = (1i128 << norm.shift) / 2;
            let value = z * i128::from(gains[i]) + i128::from(offsets[i]) * 65_536 + half;
            clamp(value.div_euclid(1 << norm.shift), norm.landing)
        };
        wide.iter().enumerate().map(channel).collect()
    };
    input.chunks(channels).flat_map(row).collect()
}

fn clamp(value: i128, landing: Landing) -> i8 {
    (value + i128::from(landing.zero_point)).clamp(landing.lo.into(), landing.hi.into()) as i8
}

pub fn attention(p: &Attention, input: &[i8]) -> Vec<i8> {
    let (channels, tokens) = (usize::from(p.input.c), p.tokens());
    let value = |part: usize, head: usize, token: usize, feature: usize| {
        let first = usize::from(p.first[part]) + head * usize::from(p.pitch[part]);
        i128::from(input[token * channels + first + feature])
    };
    let mut output = Vec::new();
    for query in 0..tokens {
        for head in 0..usize::from(p.heads) {
            let score = |key: usize| -> i128 {
                (0..usize::from(p.key_features)).map(|f| value(0, head, query, f) * value(1, head, key, f)).sum()
            };
            let scores: Vec<i128> = (0..tokens).map(score).collect();
            let highest = scores.iter().copied().max().unwrap_or(0);
            let weights: Vec<i128> = scores.iter().map(|score| weight(highest - score, p.score_multiplier)).collect();
            let sum: i128 = weights.iter().sum();
            let zeros = (sum as u32).leading_zeros();
            let multiplier = (i128::from(p.multiplier) << 31) / (sum << zeros);
            for feature in 0..usize::from(p.value_features) {
                let mixed = (0..tokens).map(|key| weights[key] * value(2, head, key, feature)).sum();
                output.push(land(mixed, multiplier as i32, p.shift + 31 - zeros as u8, p.landing));
            }
        }
    }
    output
}

fn weight(below: i128, multiplier: u32) -> i128 {
    let multiplier = i128::from(multiplier);
    let farthest = if multiplier == 0 { 0 } else { ((1i128 << 32) - 1 - (1 << 19)) / multiplier };
    let octaves = (below.min(farthest) * multiplier + (1 << 19)) >> 20;
    let (whole, part) = (octaves / 256, octaves % 256);
    let power = (32768.0 * (-(part as f64) / 256.0).exp2()).round() as i128;
    (power + (4 << whole)) >> (whole + 3)
}
