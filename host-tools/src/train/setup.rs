//! What a run works with and does not change.

use std::borrow::Cow;

use super::TrainError;
use super::augment::{self, TrainingBatch};
use super::learngene::positions_of;
use super::log::LoggedNetwork;
use super::model::{Forms, Model, constants};
use super::norms::AnchorNorms;
use super::positions::Position;
use super::random::epoch_order;
use super::rounding::Rounding;
use super::sampler::Sampler;
use super::settings::{BatchNorms, Quantized, Settings, StitchStart, Trained};
use super::teacher::Teacher;
use crate::family::{Anchor, Dataset, Family, TrainingImages};
use crate::graph::rewrite::Rewriter;
use crate::graph::{Graph, ValueId};
use crate::quantize::equalized;
use crate::stitch::init::Initialization;
use crate::stitch::recalibrate::batch_of;
use crate::stitch::{Candidate, Progress, Space, StitchError, StitchingLayer, learned, space, trained};

/// What a run works with and does not change.
pub struct Setup<'a> {
    /// The family.
    /// Equalized where training rounds.
    pub family: Cow<'a, Family>,
    /// All settings.
    pub settings: &'a Settings,
    /// Networks and stitching layers; of anchors alone if nothing else is trained.
    pub space: Space,
    /// The anchors' files.
    pub rewriters: Vec<Rewriter>,
    /// Where each anchor follows the teacher; empty if none does.
    pub positions: Vec<Vec<Position>>,
    /// Images that choose ranges and solve stitching layers.
    pub calibration: Dataset,
    /// Batch norms of the anchors where they are trained.
    pub norms: Option<AnchorNorms>,
    /// Images trained on.
    pub training: Dataset,
    /// Images of a validation.
    pub held_out: Dataset,
    /// Outputs of every network.
    pub classes: usize,
    /// Steps per epoch.
    pub epoch_steps: u64,
}

impl<'a> Setup<'a> {
    /// Enumerates the space, reads images, and finds where anchors follow the teacher.
    pub fn new(family: &'a Family, settings: &'a Settings, teacher: Option<&Teacher>) -> Result<Self, TrainError> {
        let rewriters =
            family.anchors.iter().map(|anchor| Rewriter::read(&anchor.path)).collect::<Result<Vec<_>, _>>()?;
        let family = match settings.quantized {
            Quantized::Float => Cow::Borrowed(family),
            Quantized::Activations => {
                let writable = |anchor: usize, node, constant| rewriters[anchor].is_writable(node, constant);
                Cow::Owned(equalized(family, &writable)?)
            }
        };
        let mut space = space::enumerate(&family)?;
        if settings.trained == Trained::Anchors {
            space.candidates.retain(|candidate| candidate.layers.is_empty());
            space.layers.clear();
        }
        let positions = match settings.learngene.zip(teacher) {
            Some((learngene, teacher)) => positions_of(&family, teacher, learngene)?,
            None => Vec::new(),
        };
        let training = family.learning_images()?;
        let TrainingImages { calibration, search: mut held_out } = family.training_images()?;
        let norms = match settings.batch_norms {
            BatchNorms::Frozen => None,
            BatchNorms::Trained if calibration.is_empty() => {
                return Err(StitchError::NoImages { task: "measuring batch norms" }.into());
            }
            BatchNorms::Trained => Some(AnchorNorms::new(&family, &batch_of(&family, &calibration))),
        };
        let kept = held_out.len().min(settings.validation_images.max(1));
        held_out.labels.truncate(kept);
        held_out.images.truncate(kept * family.config.input.pixels());
        let classes = family.anchors[0].graph.elements(family.anchors[0].graph.output);
        let epoch_steps = (training.len() / settings.batch).max(1) as u64;
        Ok(Self {
            family,
            settings,
            space,
            rewriters,
            positions,
            calibration,
            norms,
            training,
            held_out,
            classes,
            epoch_steps,
        })
    }

    /// Steps in all.
    pub fn steps(&self) -> u64 {
        self.epoch_steps * u64::from(self.settings.epochs)
    }

    /// All networks over shared parameters. `layers` are the values stitching layers start from.
    pub fn model(&self, layers: &[StitchingLayer], rounding: Option<&Rounding>) -> Result<Model, TrainError> {
        let writable = |anchor: usize, node, constant| self.rewriters[anchor].is_writable(node, constant);
        let values = |positions: &Vec<Position>| positions.iter().map(|position| position.student).collect();
        let followed: Vec<Vec<ValueId>> = self.positions.iter().map(values).collect();
        let forms = Forms { rounding, norms: self.norms.as_ref() };
        Model::new(&self.family, &self.space, layers, self.settings, &followed, &writable, forms)
    }

    /// The sampler before the first draw.
    pub fn sampler(&self) -> Sampler {
        let sampler = Sampler::new(&self.space.candidates, self.settings.sampler);
        match self.settings.trained {
            Trained::All | Trained::Anchors => sampler,
            Trained::Stitches | Trained::Lora | Trained::Biases => sampler.without_anchors(),
        }
    }

    /// What stitching layers start from.
    pub fn start_layers(&self, images: &Dataset, progress: Progress<'_>) -> Result<Initialization, StitchError> {
        let noise = self.settings.stitch_noise;
        let rule = match self.settings.stitch_start {
            StitchStart::LeastSquares => return trained::layers(&self.family, &self.space, images, noise, progress),
            StitchStart::Maps => learned::Rule::Inverse,
            StitchStart::Transposed => learned::Rule::Transposed,
        };
        learned::layers(&self.family, &self.space, rule, images, noise, progress)
    }

    /// Networks by id, for the log.
    pub fn networks(&self) -> Vec<LoggedNetwork> {
        let logged = |candidate: &Candidate| LoggedNetwork {
            id: candidate.id,
            path: candidate.path.clone(),
            macs: candidate.macs,
            is_anchor: candidate.layers.is_empty(),
        };
        self.space.candidates.iter().map(logged).collect()
    }

    /// The batch of one draw of a step: its part of the step's images.
    pub fn batch(&self, step: u64, draw: usize) -> TrainingBatch {
        let (settings, epoch) = (self.settings, step / self.epoch_steps);
        let order = epoch_order(self.training.len(), settings.seed, epoch);
        let start = (step % self.epoch_steps) as usize * settings.batch;
        let images = &order[start..(start + settings.batch).min(order.len())];
        let part = images.len().div_ceil(settings.draws);
        let chosen = images.chunks(part.max(1)).nth(draw).unwrap_or_default();
        let number = step * settings.draws as u64 + draw as u64;
        let input = &self.family.config.input;
        augment::batch(&self.training, chosen, self.classes, input, &settings.augmentation, settings.seed, number)
    }

    /// Numbers of all maps of a teacher's features.
    pub fn map_parameters(&self, teacher: Option<&Teacher>) -> usize {
        let channels = |graph: &Graph, value| graph.shape(value).last().copied().unwrap_or(1);
        let of_anchor = |(anchor, positions): (&Anchor, &Vec<Position>)| {
            let size = |position: &Position| {
                let inputs = teacher.map_or(0, |teacher| channels(&teacher.graph, position.teacher));
                (inputs + 1) * channels(&anchor.graph, position.student)
            };
            positions.iter().map(size).sum::<usize>()
        };
        self.family.anchors.iter().zip(&self.positions).map(of_anchor).sum()
    }

    /// Constants of anchors that cannot be written back.
    pub fn unwritable(&self) -> Vec<String> {
        let of_anchor = |(anchor, rewriter): (&Anchor, &Rewriter)| {
            let lost = constants(&anchor.graph).filter(|(node, constant, weights)| {
                !rewriter.is_writable(*node, *constant)
                    && (!weights.origin.is_absent || weights.origin.has_norm)
                    && weights.len() > 1
            });
            let name = |node: usize| format!("{}: `{}`", anchor.name, anchor.graph.nodes[node].name);
            let mut names: Vec<String> = lost.map(|(node, ..)| name(node)).collect();
            names.dedup();
            names
        };
        self.family.anchors.iter().zip(&self.rewriters).flat_map(of_anchor).collect()
    }
}
