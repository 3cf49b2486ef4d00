//! Everything that decides how a run goes. A resumed run has to have the same settings.

use serde::{Deserialize, Serialize};

use super::augment::Augmentation;
use super::optimizer::Method;
use super::sampler::{DropRule, SamplerSettings};

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Trained {
    /// Anchors and stitching layers.
    All,
    /// Anchors alone: no stitch is drawn, and stitching layers start anew from the trained anchors afterwards.
    Anchors,
    /// Stitching layers; anchors stay as they are.
    Stitches,
    /// Low-rank updates and biases of stitching layers (LoSA); anchors and least-squares weights stay as they are.
    Lora,
    /// Biases of stitching layers alone.
    Biases,
}

/// Whether each crossing has a bias of its own even where positions share a stitching layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StitchBiases {
    /// A shared layer has one bias.
    Shared,
    /// Every crossing has its own.
    PerCrossing,
}

/// What a teacher says is used in this way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TeacherLabels {
    /// Its distribution over classes, softened.
    Soft,
    /// The class it says.
    Hard,
}

/// Learning from a teacher.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distillation {
    /// Share of the teacher in the loss, 0 to 1; the labels have the rest.
    pub share: f64,
    /// Which answers of the teacher count.
    pub labels: TeacherLabels,
    /// Softening of soft labels.
    pub temperature: f64,
    /// Weight of the distance to the entered anchor's own features, at the cut and before its classifier; 0 leaves it out.
    pub features: f64,
}

/// Whether activations and weights are rounded in training as the bundle will round them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantized {
    /// Plain floats.
    Float,
    /// Activations with the ranges that export will pin.
    Activations,
}

/// What becomes of batch norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BatchNorms {
    /// They stay folded into the layers before them, with their statistics; behind crossings, what was measured anew there is
    /// trained.
    Frozen,
    /// Networks are normalised with the statistics of their own images, and measured anew before validation and at the end.
    Trained,
}

/// Where students follow the teacher inside. Blocks are matched by their share of the depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// After the last block.
    End,
    /// After a third, two thirds and all of the blocks.
    Thirds,
    /// At every cut.
    All,
}

/// Following the teacher inside, by affine maps of its features that are learned with the students (Learngene Pool).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Learngene {
    /// Where.
    pub positions: Positions,
    /// Weight of the distance of features beside that of logits.
    pub weight: f64,
}

/// What stitching layers start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum StitchStart {
    /// Least squares, or the layers that the family names.
    #[default]
    LeastSquares,
    /// The learned maps of both ends: back to the teacher's features, then on to those of the entered student.
    Maps,
    /// The learned map of the student that is left, transposed, where the entered one is as wide as the teacher.
    Transposed,
}

/// All settings of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Passes over the training images.
    pub epochs: u32,
    /// Images per step.
    pub batch: usize,
    /// Networks drawn per step; each gets its part of the batch.
    pub draws: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Update rule.
    pub method: Method,
    /// Largest learning rate of anchors.
    pub anchor_rate: f64,
    /// Largest learning rate of stitching layers.
    pub stitch_rate: f64,
    /// Weight decay, of weights but not of biases.
    pub decay: f64,
    /// Epochs in which the rate rises; may be a fraction.
    pub warm_up: f64,
    /// Share of the largest rate at which the cosine ends.
    pub final_rate: f64,
    /// Largest norm of all gradients together; 0 for none.
    pub clip: f64,
    /// Variation of images.
    pub augmentation: Augmentation,
    /// Which network is drawn.
    pub sampler: SamplerSettings,
    /// When networks are not drawn any more.
    pub drop: Option<DropRule>,
    /// What is trained.
    pub trained: Trained,
    /// Rank of low-rank updates of stitching layers; 0 trains their weights as they are.
    pub rank: usize,
    /// Biases of shared layers.
    pub biases: StitchBiases,
    /// Learning from a teacher.
    pub distillation: Distillation,
    /// Following the teacher inside; only students on their own do.
    #[serde(default)]
    pub learngene: Option<Learngene>,
    /// What stitching layers start from.
    #[serde(default)]
    pub stitch_start: StitchStart,
    /// Batch norms.
    pub batch_norms: BatchNorms,
    /// Images that are normalised together, at least, where batch norms are trained.
    pub norm_images: usize,
    /// Rounding in training.
    pub quantized: Quantized,
    /// Noise that least-squares stitching layers must bear, see [`crate::stitch::init::least_squares`].
    pub stitch_noise: f64,
    /// Held-out images of a validation, at most.
    pub validation_images: usize,
}

impl Settings {
    /// Names of the settings in which two runs differ.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (Ok(serde_json::Value::Object(mine)), Ok(serde_json::Value::Object(theirs))) =
            (serde_json::to_value(self), serde_json::to_value(other))
        else {
            return Vec::new();
        };
        mine.into_iter().filter(|(key, value)| theirs.get(key) != Some(value)).map(|(key, _)| key).collect()
    }
}
