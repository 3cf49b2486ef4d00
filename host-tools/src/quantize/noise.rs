//! How far an integer plan's activations are from the float ones, step by step.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use stitchkit_runtime::bundle::{AlignedBytes, Bundle, Quant};
use stitchkit_runtime::exec::{ExecError, Executor, StepReport};

use super::pieces::Pieces;
use super::scale::to_real;
use crate::graph::{Batch, ValueId, forward_observe};

/// Signal and error of one step's output over some images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepNoise {
    /// Name of the float node.
    pub name: String,
    /// Signal-to-noise ratio in decibels: mean square of the float values over mean square of the differences. Infinite
    /// where they agree exactly.
    pub snr_db: f64,
    /// Largest difference, in units of the step's scale.
    pub largest_error_steps: f64,
}

/// What a step of a plan stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct StepSource {
    /// Name of the float node.
    pub name: String,
    /// Piece and value it computes.
    pub value: (usize, ValueId),
    /// Quantization of its output.
    pub quant: Quant,
}

/// Runs plan `plan` and its float twin on quantized inputs and the same images in floats, and compares every step.
///
/// `images` holds normalised HWC values. Errors of earlier steps count in later ones, as they do on the device.
///
/// # Errors
/// [`ExecError`] if the plan does not exist.
pub fn measure(
    bundle: &Bundle<'_>,
    plan: u16,
    route: &[usize],
    sources: &[StepSource],
    pieces: &Pieces,
    inputs: &[Vec<i8>],
    images: &[Vec<f32>],
) -> Result<Vec<StepNoise>, ExecError> {
    let arena_bytes = bundle.plan(plan).map_or(0, |p| p.arena_bytes as usize);
    let mut arena = AlignedBytes::new(arena_bytes);
    let mut executor = Executor::new(bundle, plan, arena.as_mut_slice())?;
    let mut sums = vec![Sums::default(); sources.len()];
    for (input, image) in inputs.iter().zip(images) {
        let float = float_values(pieces, route, image);
        executor.input()?.copy_from_slice(input);
        executor.run_observed(&mut |report: StepReport<'_>| {
            let ordinal = usize::from(report.ordinal);
            let (Some(source), Some(sums)) = (sources.get(ordinal), sums.get_mut(ordinal)) else { return };
            if let Some(values) = float.get(&source.value) {
                sums.add(source.quant, report.output, values);
            }
        })?;
    }
    Ok(sources.iter().zip(sums).map(|(source, sums)| sums.noise(source)).collect())
}

fn float_values(pieces: &Pieces, route: &[usize], image: &[f32]) -> HashMap<(usize, ValueId), Vec<f32>> {
    let mut values = HashMap::new();
    let mut data = image.to_vec();
    for &piece in route {
        let graph = &pieces.pieces[piece].graph;
        let batch = Batch { n: 1, shape: graph.input_shape.clone(), data };
        forward_observe(graph, &batch, &mut |value, seen| {
            values.insert((piece, value), seen.to_vec());
        });
        data = values.get(&(piece, graph.output)).cloned().unwrap_or_default();
    }
    values
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    signal: f64,
    noise: f64,
    largest_steps: f64,
}

impl Sums {
    fn add(&mut self, quant: Quant, integer: &[i8], float: &[f32]) {
        for (&q, &f) in integer.iter().zip(float) {
            let error = to_real(quant, q) - f64::from(f);
            self.signal += f64::from(f) * f64::from(f);
            self.noise += error * error;
            self.largest_steps = self.largest_steps.max(error.abs() / f64::from(quant.scale));
        }
    }

    fn noise(self, source: &StepSource) -> StepNoise {
        let snr_db = if self.noise == 0.0 { f64::INFINITY } else { 10.0 * (self.signal / self.noise).log10() };
        StepNoise { name: source.name.clone(), snr_db, largest_error_steps: self.largest_steps }
    }
}
