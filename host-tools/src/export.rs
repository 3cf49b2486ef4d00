//! The main job: from a family to the bytes of its bundle.
//!
//! Steps: enumerate, initialise stitching layers by least squares, rank the float candidates, quantize all of them, rank the
//! integer ones on accuracy, work and memory, keep the Pareto front, and measure what is left on the evaluation images.
//! Ranking uses training images only.

use std::sync::Arc;

use serde::Serialize;
use stitchkit_runtime::bundle::AlignedBytes;

use crate::compile::{CompileError, Compiled, ExportOptions, compile};
use crate::family::{DataError, Dataset, Family};
use crate::infer::{self, Backend, InferError, Loaded};
use crate::quantize::noise::StepNoise;
use crate::stitch::pareto::{self, Score};
use crate::stitch::{Candidate, StitchError, evaluate, init, space};

/// Which candidates a bundle gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Those that no other candidate beats on accuracy, MACs and arena together.
    Pareto,
    /// The anchors alone.
    Anchors,
    /// Every candidate, dominated or not; for study.
    All,
}

/// Choices of an export.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// Which candidates the bundle gets.
    pub keep: Keep,
    /// Ranges and golden vectors.
    pub options: ExportOptions,
    /// Noise that stitching layers must bear, see [`init::least_squares`].
    pub stitch_noise: f64,
    /// Images per plan for the signal-to-noise report; 0 for none.
    pub noise_images: usize,
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// Operations without an int8 kernel.
    #[error(
        "{} operation(s) of the anchors have no int8 kernel, so the family can be counted and stitched but not exported; \
         replace them in the model:\n  {}", .nodes.len(), .nodes.join("\n  ")
    )]
    NoKernel {
        /// Anchor, operator and node, one line each.
        nodes: Vec<String>,
    },
    /// The space cannot be enumerated or evaluated.
    #[error(transparent)]
    Stitch(#[from] StitchError),
    /// Images cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A plan cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The new bundle does not run.
    #[error(transparent)]
    Infer(#[from] InferError),
}

/// What became of one candidate.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Id in the enumeration.
    pub id: u32,
    /// Path through the anchors.
    pub path: String,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Weights and biases.
    pub params: u64,
    /// Arena of its plan.
    pub arena_bytes: u32,
    /// Float accuracy on the ranking images.
    pub search_accuracy_float: f64,
    /// int8 accuracy on the ranking images.
    pub search_accuracy: f64,
    /// Float accuracy on the evaluation images, if kept.
    pub accuracy_float: Option<f64>,
    /// int8 accuracy on the evaluation images, if kept.
    pub accuracy: Option<f64>,
    /// Id of a candidate that beats it, if it was dropped for that.
    pub beaten_by: Option<u32>,
    /// True if the bundle holds it.
    pub kept: bool,
    /// Signal-to-noise of every step, if kept and asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub noise: Vec<StepNoise>,
}

/// How well a stitching layer fits.
#[derive(Debug, Clone, Serialize)]
pub struct Fit {
    /// Stitching layer.
    pub layer: usize,
    /// Residual of the least squares over the spread of the target.
    pub relative_residual: f64,
}

/// A finished export.
#[derive(Debug, Clone)]
pub struct Export {
    /// Bytes of the bundle.
    pub bytes: Vec<u8>,
    /// All candidates by id.
    pub outcomes: Vec<Outcome>,
    /// All least-squares fits.
    pub fits: Vec<Fit>,
    /// Images that ranked, and images that evaluated.
    pub images: (usize, usize),
}

/// Told what is going on: stage, units done, units in all.
pub type Watch<'a> = &'a (dyn Fn(&'static str, u64, u64) + Sync);

/// Refuses families with operations that the device runtime does not have; the structure of the anchors is enough.
///
/// # Errors
/// [`ExportError::NoKernel`] with every such node.
pub fn check_operators(family: &Family) -> Result<(), ExportError> {
    let nodes = family.float_only_nodes();
    if nodes.is_empty() { Ok(()) } else { Err(ExportError::NoKernel { nodes }) }
}

/// Does the main job.
///
/// # Errors
/// [`ExportError`] from whichever step failed; nothing is written.
pub fn export(family: &Family, request: Request, watch: Watch<'_>) -> Result<Export, ExportError> {
    check_operators(family)?;
    let space = space::enumerate(family)?;
    let images = family.training_images()?;
    let evaluation = family.evaluation_images(None)?;
    let fitted = init::least_squares(family, &space, &images.calibration, request.stitch_noise, &|done, all| {
        watch("fitting stitches", done, all)
    })?;
    let candidates = &space.candidates;
    let layers = &fitted.layers;
    let float = evaluate::accuracy(family, candidates, layers, &images.search, &|done, all| {
        watch("ranking, float", done, all);
    })?;
    let mut compiled = compile(family, candidates, layers, &images.calibration, &request.options)?;
    let int8 = int8_accuracy(&compiled, &images.search, "ranking, int8", watch)?;
    let mut outcomes: Vec<Outcome> = candidates
        .iter()
        .zip(&float)
        .map(|(candidate, float)| outcome(candidate, &compiled, float.share(), &int8))
        .collect();
    choose(&mut outcomes, family.anchors.len(), request.keep);

    let kept = kept_ids(&outcomes);
    compiled.retain(&kept)?;
    measure(family, candidates, layers, &mut compiled, &evaluation, &mut outcomes, watch)?;
    if request.keep == Keep::Pareto {
        drop_dominated(&mut outcomes);
        compiled.retain(&kept_ids(&outcomes))?;
    }
    record(&mut compiled, &mut outcomes, &images.calibration, request.noise_images)?;
    let fits = fitted.fits.iter().map(|f| Fit { layer: f.layer, relative_residual: f.relative_residual }).collect();
    let bytes = compiled.write().map_err(CompileError::from)?;
    Ok(Export { bytes, outcomes, fits, images: (images.search.len(), evaluation.len()) })
}

fn outcome(candidate: &Candidate, compiled: &Compiled, float: f64, int8: &[(u32, f64)]) -> Outcome {
    let plan = compiled.parts().plans.iter().find(|p| p.stitch == candidate.id);
    Outcome {
        id: candidate.id,
        path: candidate.path.clone(),
        macs: candidate.macs,
        params: candidate.params,
        arena_bytes: plan.map_or(0, |p| p.arena_bytes),
        search_accuracy_float: float,
        search_accuracy: share_of(int8, candidate.id),
        accuracy_float: None,
        accuracy: None,
        beaten_by: None,
        kept: false,
        noise: Vec::new(),
    }
}

fn share_of(shares: &[(u32, f64)], id: u32) -> f64 {
    shares.iter().find(|(stitch, _)| *stitch == id).map_or(0.0, |(_, share)| *share)
}

fn kept_ids(outcomes: &[Outcome]) -> Vec<u32> {
    outcomes.iter().filter(|o| o.kept).map(|o| o.id).collect()
}

/// Marks what the bundle gets, by the ranking images.
fn choose(outcomes: &mut [Outcome], anchors: usize, keep: Keep) {
    let scores: Vec<Score<2>> = outcomes
        .iter()
        .map(|o| Score { accuracy: o.search_accuracy, costs: [o.macs, u64::from(o.arena_bytes)] })
        .collect();
    for index in 0..outcomes.len() {
        let rival = pareto::rival(&scores, index);
        outcomes[index].kept = match keep {
            Keep::All => true,
            Keep::Anchors => index < anchors,
            Keep::Pareto => rival.is_none(),
        };
        if keep == Keep::Pareto {
            outcomes[index].beaten_by = rival.map(|r| outcomes[r].id);
        }
    }
}

/// A plan that the evaluation shows to be dominated is not shipped either.
fn drop_dominated(outcomes: &mut [Outcome]) {
    let kept: Vec<usize> = (0..outcomes.len()).filter(|&i| outcomes[i].kept).collect();
    let score = |&i: &usize| Score {
        accuracy: outcomes[i].accuracy.unwrap_or(0.0),
        costs: [outcomes[i].macs, u64::from(outcomes[i].arena_bytes)],
    };
    let scores: Vec<Score<2>> = kept.iter().map(score).collect();
    for (position, &index) in kept.iter().enumerate() {
        if let Some(rival) = pareto::rival(&scores, position) {
            outcomes[index].kept = false;
            outcomes[index].beaten_by = Some(outcomes[kept[rival]].id);
        }
    }
}

/// Float and int8 accuracy of the kept candidates on the evaluation images.
fn measure(
    family: &Family,
    candidates: &[Candidate],
    layers: &[crate::stitch::StitchingLayer],
    compiled: &mut Compiled,
    evaluation: &Dataset,
    outcomes: &mut [Outcome],
    watch: Watch<'_>,
) -> Result<(), ExportError> {
    let kept: Vec<Candidate> =
        candidates.iter().zip(outcomes.iter()).filter(|(_, o)| o.kept).map(|(c, _)| c.clone()).collect();
    let float =
        evaluate::accuracy(family, &kept, layers, evaluation, &|done, all| watch("evaluating, float", done, all))?;
    let int8 = int8_accuracy(compiled, evaluation, "evaluating, int8", watch)?;
    for (candidate, float) in kept.iter().zip(float) {
        let outcome = &mut outcomes[candidate.id as usize];
        outcome.accuracy_float = Some(float.share());
        outcome.accuracy = Some(share_of(&int8, candidate.id));
    }
    Ok(())
}

/// Writes the accuracies into the bundle, and measures noise.
fn record(
    compiled: &mut Compiled,
    outcomes: &mut [Outcome],
    images: &Dataset,
    noise_images: usize,
) -> Result<(), ExportError> {
    for outcome in outcomes.iter_mut().filter(|o| o.kept) {
        let (int8, float) = (outcome.accuracy.unwrap_or(0.0), outcome.accuracy_float.unwrap_or(0.0));
        compiled.set_accuracy(outcome.id, int8, float);
    }
    if noise_images == 0 {
        return Ok(());
    }
    let order: Vec<u32> = compiled.parts().plans.iter().map(|p| p.stitch).collect();
    for (plan, id) in order.iter().enumerate() {
        outcomes[*id as usize].noise = compiled.noise(plan as u16, images, noise_images)?;
    }
    Ok(())
}

/// Accuracy of every plan, by stitch id.
fn int8_accuracy(
    compiled: &Compiled,
    images: &Dataset,
    stage: &'static str,
    watch: Watch<'_>,
) -> Result<Vec<(u32, f64)>, ExportError> {
    let bytes = Arc::new(AlignedBytes::copy_of(&compiled.write().map_err(CompileError::from)?));
    let loaded = Loaded::new(&bytes).map_err(InferError::from)?;
    let inputs = infer::quantize_images(&loaded.bundle, &images.images)?;
    let all = u64::from(loaded.bundle.plan_count()) * images.len() as u64;
    let done = std::sync::atomic::AtomicU64::new(0);
    let progress = |n: u64| watch(stage, done.fetch_add(n, std::sync::atomic::Ordering::Relaxed) + n, all);
    let mut shares = Vec::new();
    for (id, plan) in (0u16..).zip(&compiled.parts().plans) {
        let correct = infer::count_correct(loaded, id, Backend::Kernels, &inputs, &images.labels, &progress)?;
        shares.push((plan.stitch, correct as f64 / images.len() as f64));
    }
    Ok(shares)
}
