//! The self check: tract runs the model, our executor the graph, on one seeded random input.

use tract_onnx::tract_hir::internal::*;

use super::super::forward::pointwise::transposed_order;
use super::super::{Batch, Graph, forward};
use super::ImportError;
use super::guard::guarded;
use super::lower::EndAxes;
use super::source::Source;

/// Largest difference relative to the span of the outputs.
const TOLERANCE: f32 = 1e-3;
const SEED: u64 = 0x5EED_0F1A_57B0_77E5;

/// Compares the graph with tract's own execution of the file.
pub fn against_tract(source: &Source, graph: &Graph, ends: &EndAxes) -> Result<(), ImportError> {
    let failed = |detail: String| ImportError::Tract { path: source.path.clone(), detail };
    let model = source.whole_model().map_err(failed)?;
    let input = random(graph.input_shape.iter().product());
    let theirs = guarded(|| run(model, source, &reordered(&input, &graph.input_shape, &ends.input))).map_err(failed)?;
    let batch = Batch { n: 1, shape: graph.input_shape.clone(), data: input };
    let ours = reordered(&forward(graph, &batch).data, graph.shape(graph.output), &ends.output);
    if ours.len() != theirs.len() {
        return Err(failed(format!("it returns {} numbers, the imported graph {}", theirs.len(), ours.len())));
    }
    let range = span(&theirs);
    let difference = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let comparable = ours.iter().chain(&theirs).all(|value| value.is_finite());
    if !comparable || difference > TOLERANCE * range {
        return Err(ImportError::Mismatch { path: source.path.clone(), difference, range });
    }
    Ok(())
}

/// Distance of the extremes; the largest magnitude where all outputs are (nearly) the same.
fn span(values: &[f32]) -> f32 {
    let top = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let bottom = values.iter().copied().fold(f32::INFINITY, f32::min);
    let magnitude = top.abs().max(bottom.abs());
    (top - bottom).max(1e-2 * magnitude).max(1e-6)
}

/// A stored tensor in ONNX order.
fn reordered(stored: &[f32], shape: &[usize], axes: &[usize]) -> Vec<f32> {
    let mut perm: Vec<usize> = (0..axes.len()).collect();
    perm.sort_unstable_by_key(|&stored| axes[stored]);
    transposed_order(shape, &perm).into_iter().map(|at| stored[at]).collect()
}

fn run(model: InferenceModel, source: &Source, input: &[f32]) -> TractResult<Vec<f32>> {
    let runnable = model.into_typed()?.into_runnable()?;
    let input = Tensor::from_shape(&source.input_dims, input)?;
    let outputs = runnable.run(tvec!(input.into()))?;
    let first = outputs.first().context("the model returns nothing")?;
    Ok(first.cast_to::<f32>()?.to_plain_array_view::<f32>()?.iter().copied().collect())
}

/// Uniform values in -1..1 (splitmix64).
fn random(count: usize) -> Vec<f32> {
    let mut state = SEED;
    (0..count)
        .map(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (mixed >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        })
        .collect()
}
