//! The settings of a run as options.

use stitchkit::family::Family;
use stitchkit::train::augment::{Augmentation, Flip};
use stitchkit::train::optimizer::Method;
use stitchkit::train::sampler::{DropRule, Rule, SamplerSettings};
use stitchkit::train::settings::{
    BatchNorms, Distillation, Learngene, Positions, Quantized, Settings, StitchBiases, StitchStart, TeacherLabels,
    Trained,
};

/// Rank of low-rank updates when none is given.
const DEFAULT_RANK: usize = 8;
/// Validations in a row after which a beaten network is dropped.
const DROP_VALIDATIONS: u32 = 2;

/// Options that become [`Settings`].
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Passes over the training images.
    #[arg(long, value_name = "N", default_value_t = 10)]
    epochs: u32,
    /// Images per step.
    #[arg(long, value_name = "N", default_value_t = 64)]
    batch: usize,
    /// Networks drawn per step; each gets its part of the batch, their gradients are added.
    #[arg(long, value_name = "N", default_value_t = 4)]
    draws: usize,
    /// Seed of everything random; it is in the run log.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// What is trained.
    #[arg(long, value_enum, value_name = "WHAT", default_value = "all")]
    train: Trained,
    /// Rank of low-rank updates of stitching layers, whose least-squares weights then stay frozen; 0 trains the weights
    /// themselves. With `--train lora` 8 if not given.
    #[arg(long, value_name = "R")]
    rank: Option<usize>,
    /// Give every crossing a bias of its own where positions share a stitching layer.
    #[arg(long)]
    stitch_biases: bool,

    /// Which network a step trains.
    #[arg(long, value_enum, value_name = "RULE", default_value = "uniform", help_heading = "Sampling")]
    sampler: Rule,
    /// Groups of similar cost for `resource` and `shift`.
    #[arg(long, value_name = "N", default_value_t = 12, help_heading = "Sampling")]
    groups: usize,
    /// Least share of draws that the anchors together get.
    #[arg(long, value_name = "SHARE", default_value_t = 0.25, help_heading = "Sampling")]
    anchor_share: f64,
    /// Share of draws that `shift` spreads over all groups alike.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, help_heading = "Sampling")]
    floor: f64,
    /// Stop drawing a stitch that a cheaper network beat by so many points in two validations in a row.
    #[arg(long, value_name = "POINTS", help_heading = "Sampling")]
    drop_dominated: Option<f64>,

    /// Update rule.
    #[arg(long, value_enum, value_name = "METHOD", default_value = "adam-w", help_heading = "Learning")]
    optimizer: Method,
    /// Largest learning rate of anchors.
    #[arg(long, value_name = "RATE", default_value_t = 5e-5, help_heading = "Learning")]
    anchor_rate: f64,
    /// Largest learning rate of stitching layers.
    #[arg(long, value_name = "RATE", default_value_t = 5e-4, help_heading = "Learning")]
    stitch_rate: f64,
    /// Weight decay, of weights but not of biases.
    #[arg(long, value_name = "DECAY", default_value_t = 1e-4, help_heading = "Learning")]
    weight_decay: f64,
    /// Epochs in which the learning rate rises; may be a fraction. Then it falls along a cosine.
    #[arg(long, value_name = "EPOCHS", default_value_t = 2.0, help_heading = "Learning")]
    warm_up: f64,
    /// Share of the largest learning rate at the end.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, help_heading = "Learning")]
    final_rate: f64,
    /// Largest norm of all gradients together; 0 for none.
    #[arg(long, value_name = "NORM", default_value_t = 5.0, help_heading = "Learning")]
    clip: f64,
    /// Share of each label that is spread over all classes.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, help_heading = "Learning")]
    label_smoothing: f64,
    /// Mix pairs of images, with a share drawn from a beta distribution of this parameter; 0 mixes nothing. Crops and flips
    /// are those of `[training]` in family.toml.
    #[arg(long, value_name = "ALPHA", default_value_t = 0.0, help_heading = "Learning")]
    mixup: f64,

    /// Share of the teacher, where there is one, in the loss; the labels have the rest.
    #[arg(long, value_name = "SHARE", default_value_t = 0.9, help_heading = "Distillation")]
    teacher_share: f64,
    /// Which answers of the teacher count.
    #[arg(long, value_enum, value_name = "KIND", default_value = "soft", help_heading = "Distillation")]
    teacher_labels: TeacherLabels,
    /// Softening of soft answers.
    #[arg(long, value_name = "T", default_value_t = 2.0, help_heading = "Distillation")]
    temperature: f64,
    /// Weight of the distance between a stitch's features and those of the anchor it enters, at the cut and before the
    /// classifier.
    #[arg(long, value_name = "WEIGHT", default_value_t = 0.0, help_heading = "Distillation")]
    match_features: f64,

    /// Let every student (an anchor drawn alone) follow the teacher inside as well, by affine maps of the teacher's features
    /// that are learned with it: at its last block, after each third of its blocks, or at all cuts. Where blocks have
    /// attention, what that gives is followed too. The maps are written to maps.safetensors.
    #[arg(long, value_enum, value_name = "WHERE", help_heading = "Distillation")]
    learngene: Option<Positions>,
    /// Weight of the distance of features beside that of the answers, which has 1; both are within --teacher-share.
    #[arg(long, value_name = "WEIGHT", default_value_t = 0.3, help_heading = "Distillation")]
    map_weight: f64,
    /// What stitching layers start from: least squares (or the family's own trained layers), or the maps that --learngene
    /// wrote into the family's folder, by their pseudo-inverse or, as in the paper, transposed.
    #[arg(long, value_enum, value_name = "RULE", default_value = "least-squares", help_heading = "Learning")]
    stitch_start: StitchStart,

    /// Batch norms: folded with their statistics, or trained, every network with statistics of its own, which `export` gets
    /// per crossing. Where exporters folded them into convolutions these are normalised.
    #[arg(long, value_enum, value_name = "RULE", default_value = "frozen", help_heading = "Learning")]
    batch_norm: BatchNorms,
    /// Images that are normalised together with --batch-norm trained.
    #[arg(long, value_name = "N", default_value_t = 32, help_heading = "Learning")]
    norm_images: usize,

    /// Round activations and weights in training as the bundle will, and validate the int8 plans. Best on a family that was
    /// trained in float before; `export` takes exactly the ranges trained with.
    #[arg(long)]
    qat: bool,
    /// Noise on features that least-squares stitching layers must bear, as `export` takes it.
    #[arg(long, value_name = "SHARE", default_value_t = 0.001)]
    stitch_noise: f64,
    /// Held-out images of a validation, at most.
    #[arg(long, value_name = "N", default_value_t = 2000)]
    validation_images: usize,
}

impl Options {
    /// The settings, with the crops and flips of the family.
    pub fn settings(&self, family: &Family, has_teacher: bool) -> Settings {
        let default_rank = if self.train == Trained::Lora { DEFAULT_RANK } else { 0 };
        Settings {
            epochs: self.epochs,
            batch: self.batch,
            draws: self.draws,
            seed: self.seed,
            method: self.optimizer,
            anchor_rate: self.anchor_rate,
            stitch_rate: self.stitch_rate,
            decay: self.weight_decay,
            warm_up: self.warm_up,
            final_rate: self.final_rate,
            clip: self.clip,
            augmentation: Augmentation {
                crop_padding: family.config.training.crop_padding,
                border: family.config.training.border,
                flip: if family.config.training.flip { Flip::Horizontal } else { Flip::Never },
                mixup: self.mixup,
                label_smoothing: self.label_smoothing,
            },
            sampler: SamplerSettings {
                rule: self.sampler,
                groups: self.groups,
                anchor_share: self.anchor_share,
                floor: self.floor,
            },
            drop: self.drop_dominated.map(|points| DropRule { margin: points / 100.0, validations: DROP_VALIDATIONS }),
            trained: self.train,
            rank: self.rank.unwrap_or(default_rank),
            biases: if self.stitch_biases { StitchBiases::PerCrossing } else { StitchBiases::Shared },
            distillation: Distillation {
                share: if has_teacher { self.teacher_share } else { 0.0 },
                labels: self.teacher_labels,
                temperature: self.temperature,
                features: self.match_features,
            },
            learngene: self.learngene.map(|positions| Learngene { positions, weight: self.map_weight }),
            stitch_start: self.stitch_start,
            batch_norms: self.batch_norm,
            norm_images: self.norm_images,
            quantized: if self.qat { Quantized::Activations } else { Quantized::Float },
            stitch_noise: self.stitch_noise,
            validation_images: self.validation_images,
        }
    }
}
