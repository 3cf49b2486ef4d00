//! Self-attention in floats.

use super::super::Attention;

/// Sums that grow side by side, so that the compiler can use vectors.
const LANES: usize = 8;

/// Attention over samples of `tokens` x `channels`.
pub fn run(p: &Attention, channels: usize, tokens: usize, input: &[f32], output: &mut [f32]) {
    let width = p.heads * p.value_features;
    let mut weights = vec![0.0; tokens];
    for (sample, out) in input.chunks_exact(channels * tokens).zip(output.chunks_exact_mut(width * tokens)) {
        for (query, out) in out.chunks_exact_mut(width).enumerate() {
            for (head, out) in out.chunks_exact_mut(p.value_features).enumerate() {
                let part = |part: usize, token: usize| {
                    let features = if part == 2 { p.value_features } else { p.key_features };
                    &sample[token * channels + p.first[part] + head * p.pitch[part]..][..features]
                };
                for (key, weight) in weights.iter_mut().enumerate() {
                    *weight = dot(part(0, query), part(1, key)) * p.scale;
                }
                soften(&mut weights);
                out.fill(0.0);
                for (key, weight) in weights.iter().enumerate() {
                    out.iter_mut().zip(part(2, key)).for_each(|(out, value)| *out += weight * value);
                }
            }
        }
    }
}

/// Softmax in place.
fn soften(scores: &mut [f32]) {
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - top).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
