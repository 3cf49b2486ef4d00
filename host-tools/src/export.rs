//! The main job: from a family to the bytes of its bundle.
//!
//! Steps: enumerate, initialise stitching layers by least squares, rank the float candidates, quantize all of them, rank the
//! integer ones on accuracy, work and memory, keep the Pareto front, and measure what is left on the evaluation images.
//! Ranking uses training images only.

use serde::{Deserialize, Serialize};
use stitchkit_runtime::bundle::{AlignedBytes, Bundle};

use crate::compile::cost;
use crate::compile::filters::FilterOrder;
use crate::compile::memory::Memories;
use crate::compile::{CompileError, Compiled, ExportOptions};
use crate::family::{DataError, Dataset, Family};
use crate::fleet::{self, Assignment, FleetError, Need};
use crate::infer::InferError;
use crate::quantize::noise::StepNoise;
use crate::report::work::PlanWork;
use crate::stitch::init::CrossingFit;
use crate::stitch::pareto::{self, Score};
use crate::stitch::{Candidate, Space, StitchError, evaluate, space};
use crate::study::{self, Findings, Settings, Study, study};

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

/// [`Request::rank_tolerance`] unless said otherwise.
pub const RANK_TOLERANCE: f64 = 0.005;

/// Choices of an export.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which candidates the bundle gets.
    pub keep: Keep,
    /// With [`Keep::Pareto`], how far below a rival, as a share of the ranking images, a candidate may be ranked and still be
    /// measured on the evaluation images, which then decide. A small set of ranking images cannot tell neighbours apart.
    pub rank_tolerance: f64,
    /// Ranges and golden vectors.
    pub options: ExportOptions,
    /// Noise that stitching layers must bear, see [`crate::stitch::init::least_squares`].
    pub stitch_noise: f64,
    /// Images per plan for the signal-to-noise report; 0 for none.
    pub noise_images: usize,
    /// Memories that the plans are laid out for.
    pub memories: Memories,
    /// The order of weights.
    pub filters: FilterOrder,
}

impl Request {
    /// What the study of the candidates depends on.
    #[must_use]
    pub const fn settings(&self) -> Settings {
        Settings { options: self.options, stitch_noise: self.stitch_noise }
    }
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
    /// Boards that no plan serves.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The new bundle does not run.
    #[error(transparent)]
    Infer(#[from] InferError),
}

/// What became of one candidate.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// Share of the evaluation images of which the float and the int8 network say the same class, if kept.
    #[serde(default)]
    pub agreement: Option<f64>,
    /// Id of a candidate that beats it, if it was dropped for that.
    pub beaten_by: Option<u32>,
    /// True if the bundle holds it.
    pub kept: bool,
    /// Signal-to-noise of every step, if kept and asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub noise: Vec<StepNoise>,
}

/// How well a stitching layer fits.
#[derive(Debug, Clone, Serialize)]
pub struct Fit {
    /// Stitching layer.
    pub layer: usize,
    /// Residual of the least squares over the spread of the target.
    pub relative_residual: f64,
    /// The same with the layer as it is, which several positions may share.
    pub layer_residual: f64,
    /// Linear CKA of the features left and those replaced, 0 to 1.
    pub similarity: f64,
}

impl Fit {
    fn of(fit: &CrossingFit) -> Self {
        let &CrossingFit { layer, relative_residual, layer_residual, similarity, .. } = fit;
        Self { layer, relative_residual, layer_residual, similarity }
    }
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
    /// What the plan of each candidate does, by id, kept or not.
    pub works: Vec<PlanWork>,
    /// The stitch of each plan, in the order of the bundle.
    pub plans: Vec<u32>,
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
pub fn export(family: &Family, request: &Request, watch: Watch<'_>) -> Result<Export, ExportError> {
    export_known(family, request, None, watch)
}

/// [`export`] that takes layers, ranges and ranking from `known` findings, and only measures the kept candidates on the
/// evaluation images. Findings of another family or of other settings are ignored.
///
/// # Errors
/// As [`export`].
pub fn export_known(
    family: &Family,
    request: &Request,
    known: Option<&Findings>,
    watch: Watch<'_>,
) -> Result<Export, ExportError> {
    let (space, study) = study_all(family, request, known, watch)?;
    let mut outcomes = outcomes(&study);
    choose(&mut outcomes, family.anchors.len(), request.keep, request.rank_tolerance);
    let works = works(&study);
    let mut compiled = study.compiled;
    compiled.retain(&kept_ids(&outcomes))?;
    let evaluation = family.evaluation_images(None)?;
    measure(family, &space.candidates, &study.layers, &mut compiled, &evaluation, &mut outcomes, watch)?;
    if request.keep == Keep::Pareto {
        drop_dominated(&mut outcomes);
        compiled.retain(&kept_ids(&outcomes))?;
    }
    let found = Found {
        outcomes,
        works,
        fits: study.fits.iter().map(Fit::of).collect(),
        images: (study.search_images, evaluation.len()),
    };
    finish(compiled, found, &study.calibration, request)
}

/// The main job for boards: keeps exactly the plans that some board runs. Every board gets the plan that the device's rule
/// picks from the finished bundle, the most accurate one inside its limits.
///
/// # Errors
/// [`ExportError::Fleet`] names every board that no plan fits, with the nearest miss; otherwise as [`export`].
pub fn export_for(
    family: &Family,
    request: &Request,
    boards: &[Need],
    watch: Watch<'_>,
) -> Result<(Export, Vec<Assignment>), ExportError> {
    let (space, study) = study_all(family, request, None, watch)?;
    let mut outcomes = outcomes(&study);
    choose(&mut outcomes, family.anchors.len(), Keep::Pareto, 0.0);
    let works = works(&study);
    let mut compiled = study.compiled;
    for (outcome, (_, int8)) in outcomes.iter().zip(&study.accuracy) {
        compiled.set_accuracy(outcome.id, *int8, 0.0);
    }
    // Ranking images choose; evaluation images only report, and settle which of the chosen a board takes.
    keep(&mut outcomes, &fleet::picks(&fleet::assign_compiled(&compiled, boards)?)?);
    compiled.retain(&kept_ids(&outcomes))?;
    let evaluation = family.evaluation_images(None)?;
    measure(family, &space.candidates, &study.layers, &mut compiled, &evaluation, &mut outcomes, watch)?;
    record_accuracy(&mut compiled, &outcomes);
    keep(&mut outcomes, &fleet::picks(&fleet::assign_compiled(&compiled, boards)?)?);
    compiled.retain(&kept_ids(&outcomes))?;
    let found = Found {
        outcomes,
        works,
        fits: study.fits.iter().map(Fit::of).collect(),
        images: (study.search_images, evaluation.len()),
    };
    let export = finish(compiled, found, &study.calibration, request)?;
    let bytes = AlignedBytes::copy_of(&export.bytes);
    let assignments = fleet::assign_whole(&Bundle::parse(bytes.as_slice()).map_err(CompileError::from)?, boards);
    fleet::picks(&assignments)?;
    Ok((export, assignments))
}

fn study_all(
    family: &Family,
    request: &Request,
    known: Option<&Findings>,
    watch: Watch<'_>,
) -> Result<(Space, Study), ExportError> {
    check_operators(family)?;
    let space = space::enumerate(family)?;
    let mut study = study(family, &space, &space.candidates, request.settings(), known, watch)?;
    study.compiled.lay_out_for(&request.memories)?;
    study.compiled.order_filters(request.filters)?;
    Ok((space, study))
}

fn keep(outcomes: &mut [Outcome], stitches: &[u32]) {
    for outcome in outcomes {
        outcome.kept = stitches.contains(&outcome.id);
        outcome.beaten_by = outcome.beaten_by.filter(|_| !outcome.kept);
    }
}

/// What an export knows besides the compiled plans.
struct Found {
    outcomes: Vec<Outcome>,
    works: Vec<PlanWork>,
    fits: Vec<Fit>,
    images: (usize, usize),
}

/// Writes noise and accuracies, and the bundle's bytes.
fn finish(
    mut compiled: Compiled,
    found: Found,
    calibration: &Dataset,
    request: &Request,
) -> Result<Export, ExportError> {
    let Found { mut outcomes, works, fits, images } = found;
    record_accuracy(&mut compiled, &outcomes);
    record_noise(&compiled, &mut outcomes, calibration, request.noise_images)?;
    let bytes = compiled.write().map_err(CompileError::from)?;
    let plans = compiled.parts().plans.iter().map(|plan| plan.stitch).collect();
    Ok(Export { bytes, outcomes, fits, works, plans, images })
}

/// What the plan of every candidate does.
fn works(study: &Study) -> Vec<PlanWork> {
    let (pieces, blocks) = study.compiled.pieces();
    let work = |route: &Vec<usize>| {
        let steps = route.iter().flat_map(|&piece| &blocks[piece].steps);
        PlanWork::of(steps.map(|step| cost::work(&step.kernel, study.compiled.stored_filters())))
    };
    pieces.routes.iter().map(work).collect()
}

/// What is known of every candidate after ranking; nothing is kept yet.
fn outcomes(study: &Study) -> Vec<Outcome> {
    let outcome = |(candidate, (float, int8)): (&Candidate, &(f64, f64))| {
        let plan = study.compiled.parts().plans.iter().find(|p| p.stitch == candidate.id);
        Outcome {
            id: candidate.id,
            path: candidate.path.clone(),
            macs: candidate.macs,
            params: candidate.params,
            arena_bytes: plan.map_or(0, |p| p.arena_bytes),
            search_accuracy_float: *float,
            search_accuracy: *int8,
            accuracy_float: None,
            agreement: None,
            accuracy: None,
            beaten_by: None,
            kept: false,
            noise: Vec::new(),
        }
    };
    study.candidates.iter().zip(&study.accuracy).map(outcome).collect()
}

fn kept_ids(outcomes: &[Outcome]) -> Vec<u32> {
    outcomes.iter().filter(|o| o.kept).map(|o| o.id).collect()
}

/// Marks what the bundle gets, by the ranking images.
fn choose(outcomes: &mut [Outcome], anchors: usize, keep: Keep, tolerance: f64) {
    let scores: Vec<Score<2>> = outcomes
        .iter()
        .map(|o| Score { accuracy: o.search_accuracy, costs: [o.macs, u64::from(o.arena_bytes)] })
        .collect();
    for index in 0..outcomes.len() {
        let rival = pareto::rival_beyond(&scores, index, tolerance);
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
        evaluate::answers(family, &kept, layers, evaluation, &|done, all| watch("evaluating, float", done, all))?;
    let int8 = study::int8_answers(compiled, evaluation, "evaluating, int8", watch)?;
    let same = |a: &[u16], b: &[u16]| evaluate::equal(a, b) as f64 / a.len().max(1) as f64;
    for (candidate, float) in kept.iter().zip(&float) {
        let int8 = int8.iter().find(|(stitch, _)| *stitch == candidate.id).map_or(&[][..], |(_, answers)| answers);
        let outcome = &mut outcomes[candidate.id as usize];
        outcome.accuracy_float = Some(same(float, &evaluation.labels));
        outcome.accuracy = Some(same(&evaluation.labels, int8));
        outcome.agreement = Some(same(float, int8));
    }
    Ok(())
}

/// Writes the accuracies of the kept candidates into their plans.
fn record_accuracy(compiled: &mut Compiled, outcomes: &[Outcome]) {
    for outcome in outcomes.iter().filter(|o| o.kept) {
        let (int8, float) = (outcome.accuracy.unwrap_or(0.0), outcome.accuracy_float.unwrap_or(0.0));
        compiled.set_accuracy(outcome.id, int8, float);
    }
}

/// Measures the signal-to-noise of the kept candidates.
fn record_noise(
    compiled: &Compiled,
    outcomes: &mut [Outcome],
    images: &Dataset,
    noise_images: usize,
) -> Result<(), ExportError> {
    if noise_images == 0 {
        return Ok(());
    }
    let order: Vec<u32> = compiled.parts().plans.iter().map(|p| p.stitch).collect();
    for (plan, id) in order.iter().enumerate() {
        outcomes[*id as usize].noise = compiled.noise(plan as u16, images, noise_images)?;
    }
    Ok(())
}
