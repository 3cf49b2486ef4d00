//! A run: from least squares over the last step to the new family.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::augment::TrainingBatch;
use super::checkpoint::{self, State};
use super::engine::{Grads, Workspace};
use super::learngene::{FeatureMaps, MapTarget};
use super::log::{self, Event, LoggedNetwork, RunLog};
use super::model::{Finished, Model};
use super::objective::Objective;
use super::optimizer::{Moments, clipping, cosine};
use super::random::{Purpose, Random};
use super::rounding::Rounding;
use super::settings::{BatchNorms, Quantized, Settings, StitchStart, Trained};
use super::setup::Setup;
use super::teacher::{FeatureTargets, Frozen, Teacher, teacher};
use super::{TrainError, output};
use crate::compile::{ExportOptions, compile_calibrated};
use crate::export;
use crate::family::Family;
use crate::files;
use crate::graph::Batch;
use crate::stitch::{LayerSpec, evaluate};
use crate::study::int8_correct;

/// Whether a run begins or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first step; the folder must not hold a run.
    New,
    /// At the folder's checkpoint, or at the first step if it has none.
    Resume,
}

/// What to train.
#[derive(Debug)]
pub struct Job<'a> {
    /// The family, weights loaded.
    pub family: &'a Family,
    /// All settings.
    pub settings: Settings,
    /// Folder of the run and of the new family; made if it does not exist.
    pub out: PathBuf,
    /// Begin or go on.
    pub start: Start,
    /// Network to learn from.
    pub teacher: Option<Teacher>,
    /// Longest time between two checkpoints.
    pub checkpoint_every: Duration,
    /// Once true, the run writes a checkpoint after its current step and ends with [`TrainError::Stopped`].
    pub stop: &'a AtomicBool,
}

/// What a run would do and need.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Plan {
    /// Networks of the space with the probability of their first draw.
    pub networks: Vec<(LoggedNetwork, f64)>,
    /// Images trained on.
    pub training_images: usize,
    /// Images of a validation.
    pub validation_images: usize,
    /// Steps per epoch.
    pub epoch_steps: u64,
    /// Steps in all.
    pub steps: u64,
    /// Numbers that are trained.
    pub trained_parameters: usize,
    /// Numbers that stay as they are.
    pub frozen_parameters: usize,
    /// Constants of anchors that stay as they are because their files have no place for other values.
    pub unwritable: Vec<String>,
    /// Bytes of images, parameters, moments and gradients, and of the largest step.
    pub memory_bytes: MemoryPlan,
}

/// Bytes a run needs.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct MemoryPlan {
    /// Decoded images.
    pub images: usize,
    /// Parameters, optimizer moments and gradients.
    pub parameters: usize,
    /// Activations of the largest network.
    pub step: usize,
}

/// Where a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Epochs done.
    pub epoch: u32,
    /// Mean loss since the last line of the log.
    pub loss: f64,
    /// Training images per second since the run began or went on, validation left out.
    pub images_per_second: f64,
}

/// Told how a run goes.
pub trait Watch: Sync {
    /// A stage of preparation or validation: name, units done, units in all.
    fn stage(&self, name: &'static str, done: u64, all: u64);
    /// A step was done.
    fn step(&self, progress: Progress);
    /// A validation: epochs done, accuracies before the first step and now.
    fn validation(&self, epoch: u32, before: &[f64], now: &[f64]);
}

/// A finished run.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Outcome {
    /// Networks by id.
    pub networks: Vec<LoggedNetwork>,
    /// Held-out accuracy before the first step.
    pub before: Vec<f64>,
    /// Held-out accuracy after the last one.
    pub after: Vec<f64>,
    /// Draws.
    pub draws: Vec<u64>,
    /// Networks that were not drawn to the end.
    pub dropped: Vec<bool>,
    /// Held-out images.
    pub validation_images: usize,
    /// What ran on them: float networks, or int8 plans where training rounded.
    pub quantized: Quantized,
    /// Steps done.
    pub steps: u64,
}

/// What a run changes.
struct Runner<'a> {
    setup: &'a Setup<'a>,
    model: Model,
    rounding: Option<Rounding>,
    state: State,
    moments: Vec<Moments>,
    teacher: Option<Frozen>,
    maps: Option<FeatureMaps>,
    features: Option<FeatureTargets>,
    workspace: Workspace,
    grads: Grads,
}

/// What a run would do; nothing is trained or written. The teacher matters where students follow it inside.
///
/// # Errors
/// [`TrainError`] for everything that would keep the run from starting.
pub fn plan(
    family: &Family,
    settings: &Settings,
    teacher: Option<&Teacher>,
    threads: usize,
) -> Result<Plan, TrainError> {
    check(settings, teacher)?;
    let setup = Setup::new(family, settings, teacher)?;
    let model = setup.model(&setup.space.layers.iter().map(LayerSpec::zeros).collect::<Vec<_>>(), None)?;
    let shares = setup.sampler().probabilities();
    let size = |trained: bool| {
        let is = |id: &super::engine::ParamId| {
            (model.params.info(*id).training == super::engine::Training::Trained) == trained
        };
        model.params.ids().filter(is).map(|id| model.params.values(id).len()).sum::<usize>()
    };
    let (trained, frozen) = (size(true) + setup.map_parameters(teacher), size(false));
    let batch = settings.batch.div_ceil(settings.draws);
    let step = model.networks.iter().map(|network| network.program.step_bytes(batch, threads)).max().unwrap_or(0);
    Ok(Plan {
        networks: setup.networks().into_iter().zip(shares).collect(),
        training_images: setup.training.len(),
        validation_images: setup.held_out.len(),
        epoch_steps: setup.epoch_steps,
        steps: setup.steps(),
        trained_parameters: trained,
        frozen_parameters: frozen,
        unwritable: setup.unwritable(),
        memory_bytes: MemoryPlan {
            images: setup.training.images.len() + setup.held_out.images.len(),
            parameters: 4 * (4 * trained + frozen),
            step,
        },
    })
}

/// Trains a family and writes the new one into the job's folder. Steps run in rayon's current pool; the result does not
/// depend on its size.
///
/// # Errors
/// [`TrainError`]; what was done up to the last checkpoint is kept.
pub fn train(job: &Job<'_>, watch: &dyn Watch) -> Result<Outcome, TrainError> {
    check(&job.settings, job.teacher.as_ref())?;
    let io = |source| TrainError::Write { path: job.out.clone(), source };
    std::fs::create_dir_all(&job.out).map_err(io)?;
    let _lock = files::lock(&job.out).map_err(io)?.ok_or_else(|| TrainError::Locked { path: job.out.clone() })?;
    files::clean(&job.out).map_err(io)?;
    let found = checkpoint::read(&job.out).map_err(|reason| refused(job, reason))?;
    if let (Start::New, Some((state, _))) = (job.start, &found) {
        return Err(TrainError::Occupied { path: job.out.clone(), step: state.step });
    }
    let setup = Setup::new(job.family, &job.settings, job.teacher.as_ref())?;
    let mut runner = Runner::start(&setup, job, watch)?;
    let log = match found {
        Some(found) => runner.go_on(job, found)?,
        None => runner.begin(job, watch)?,
    };
    runner.steps(job, &log, watch)?;
    let result = output::TrainedFamily {
        finished: runner.finished()?,
        rewriters: &setup.rewriters,
        model: &runner.model,
        rounding: runner.rounding.as_ref(),
        maps: runner.maps.as_ref(),
        settings: &job.settings,
    };
    result.write(&job.out)?;
    log.add(&Event::Finish { step: runner.state.step }).map_err(io)?;
    Ok(runner.outcome())
}

/// Everything that is wrong with settings, at once.
fn check(settings: &Settings, teacher: Option<&Teacher>) -> Result<(), TrainError> {
    let share = |value: f64| (0.0..=1.0).contains(&value);
    let follows = settings.learngene.is_some();
    let alone = settings.trained == Trained::Anchors;
    let rules = [
        (settings.epochs > 0, "--epochs must be at least 1"),
        (settings.draws > 0, "--draws must be at least 1"),
        (settings.batch >= settings.draws, "--batch must be at least --draws"),
        (settings.anchor_rate >= 0.0 && settings.stitch_rate >= 0.0, "learning rates must not be negative"),
        (share(settings.final_rate), "--final-rate must be from 0 to 1"),
        (share(settings.sampler.anchor_share), "--anchor-share must be from 0 to 1"),
        (share(settings.sampler.floor), "--floor must be from 0 to 1"),
        (share(settings.distillation.share), "--teacher-share must be from 0 to 1"),
        (settings.distillation.temperature > 0.0, "--temperature must be above 0"),
        (settings.distillation.features >= 0.0, "--match-features must not be negative"),
        ((0.0..1.0).contains(&settings.augmentation.label_smoothing), "--label-smoothing must be from 0 to below 1"),
        (settings.augmentation.mixup >= 0.0, "--mixup must not be negative"),
        (settings.learngene.is_none_or(|learngene| learngene.weight >= 0.0), "--map-weight must not be negative"),
        (
            !follows || teacher.is_some(),
            "--learngene needs a teacher: `[teacher]` in family.toml, or --teacher MODEL.onnx",
        ),
        (
            !follows || matches!(settings.trained, Trained::All | Trained::Anchors),
            "--learngene trains anchors: --train all or anchors",
        ),
        (
            settings.batch_norms == BatchNorms::Frozen || settings.quantized == Quantized::Float,
            "--qat pins ranges, which batch norms that are trained would move; train them first, then --qat",
        ),
        (settings.norm_images > 1, "--norm-images must be at least 2"),
        (
            !alone || settings.quantized == Quantized::Float,
            "--qat rounds whole families; train the stitches first, then --qat",
        ),
        (
            !alone || settings.stitch_start == StitchStart::LeastSquares,
            "--train anchors has no stitching layers; give --stitch-start to the run that trains all",
        ),
        (settings.trained != Trained::Lora || settings.rank > 0, "--train lora needs a --rank of at least 1"),
    ];
    let wrong: Vec<String> = rules.iter().filter(|(holds, _)| !holds).map(|(_, text)| (*text).to_owned()).collect();
    if wrong.is_empty() { Ok(()) } else { Err(TrainError::Settings(wrong)) }
}

fn refused(job: &Job<'_>, reason: String) -> TrainError {
    TrainError::Checkpoint { path: job.out.join(checkpoint::FILE_NAME), reason }
}

impl<'a> Runner<'a> {
    fn start(setup: &'a Setup<'a>, job: &Job<'_>, watch: &dyn Watch) -> Result<Self, TrainError> {
        let images = &setup.calibration;
        let fitted = setup.start_layers(images, &|done, all| watch.stage("fitting stitches", done, all))?;
        let rounding = match setup.settings.quantized {
            Quantized::Float => None,
            Quantized::Activations => {
                export::check_operators(&setup.family).map_err(Box::new)?;
                Some(Rounding::new(&setup.family, &setup.space.candidates, &fitted.layers, images)?)
            }
        };
        let mut model = setup.model(&fitted.layers, rounding.as_ref())?;
        let networks = setup.space.candidates.iter().map(|candidate| candidate.path.clone()).collect();
        let sampler = setup.sampler();
        let state = State::new(setup.settings.clone(), networks, sampler, vec![0.0; setup.space.candidates.len()]);
        let follows = setup.settings.learngene.is_some();
        let alone = job.teacher.as_ref().filter(|_| !follows);
        let teacher = alone.map(|source| teacher(&setup.family, &source.graph, &[])).transpose()?;
        let maps = job.teacher.as_ref().filter(|_| follows).map(|source| {
            let (noise, params) = (setup.settings.stitch_noise, &mut model.params);
            FeatureMaps::new(&setup.family, source, &setup.positions, images, noise, params)
        });
        let maps = maps.transpose()?;
        let features = match setup.settings.distillation.features > 0.0 {
            true => Some(FeatureTargets::new(&setup.family, &setup.space.candidates)?),
            false => None,
        };
        let grads = Grads::new(&model.params);
        let moments = vec![Moments::default(); model.params.len()];
        let workspace = Workspace::new();
        Ok(Self { setup, model, rounding, state, moments, teacher, maps, features, workspace, grads })
    }

    /// Validates least squares and begins the log.
    fn begin(&mut self, job: &Job<'_>, watch: &dyn Watch) -> Result<RunLog, TrainError> {
        let io = |source| TrainError::Write { path: job.out.join(log::FILE_NAME), source };
        let log = RunLog::create(&job.out).map_err(io)?;
        log.add(&Event::Start {
            schema_version: log::SCHEMA_VERSION,
            family: self.setup.family.config.name.clone(),
            settings: Box::new(self.setup.settings.clone()),
            networks: self.setup.networks(),
            training_images: self.setup.training.len(),
            validation_images: self.setup.held_out.len(),
            steps: self.setup.steps(),
        })
        .map_err(io)?;
        self.state.before = self.accuracy(watch)?;
        self.validated(self.state.before.clone());
        watch.validation(0, &self.state.before, &self.state.before);
        log.add(&self.validation_line(0)).map_err(io)?;
        self.save(job)?;
        Ok(log)
    }

    /// Takes over a checkpoint.
    fn go_on(
        &mut self,
        job: &Job<'_>,
        (state, mut file): (State, crate::safetensors::Tensors),
    ) -> Result<RunLog, TrainError> {
        let differences = state.settings.differences(self.setup.settings);
        if !differences.is_empty() {
            let names = differences.join(", ");
            return Err(refused(
                job,
                format!("it was written with other settings ({names}); repeat the ones of its run"),
            ));
        }
        if state.networks != self.state.networks {
            return Err(refused(job, "it belongs to another stitching space".to_owned()));
        }
        self.moments =
            checkpoint::restore(&state, &mut file, &mut self.model.params).map_err(|reason| refused(job, reason))?;
        self.state = state;
        let io = |source| TrainError::Write { path: job.out.join(log::FILE_NAME), source };
        let log = RunLog::resume(&job.out, self.state.step).map_err(io)?;
        log.add(&Event::Resume { step: self.state.step }).map_err(io)?;
        Ok(log)
    }

    fn steps(&mut self, job: &Job<'_>, log: &RunLog, watch: &dyn Watch) -> Result<(), TrainError> {
        let io = |source| TrainError::Write { path: job.out.join(log::FILE_NAME), source };
        let (mut saved, mut trained, mut images) = (Instant::now(), Duration::ZERO, 0);
        while self.state.step < self.setup.steps() {
            let began = Instant::now();
            images += self.step()?;
            trained += began.elapsed();
            let images_per_second = images as f64 / trained.as_secs_f64().max(1e-9);
            let epoch = (self.state.step / self.setup.epoch_steps) as u32;
            watch.step(Progress {
                step: self.state.step,
                steps: self.setup.steps(),
                epoch,
                loss: self.state.sums.losses.iter().sum::<f64>()
                    / self.state.sums.draws.iter().sum::<u64>().max(1) as f64,
                images_per_second,
            });
            let ends_epoch = self.state.step.is_multiple_of(self.setup.epoch_steps);
            if ends_epoch {
                let accuracy = self.accuracy(watch)?;
                self.validated(accuracy);
                log.add(&self.progress_line(epoch, images_per_second)).map_err(io)?;
                log.add(&self.validation_line(epoch)).map_err(io)?;
                watch.validation(epoch, &self.state.before, &self.state.last);
            }
            let stops = job.stop.load(Ordering::Relaxed) && self.state.step < self.setup.steps();
            if ends_epoch || stops || saved.elapsed() >= job.checkpoint_every {
                self.save(job)?;
                saved = Instant::now();
            }
            if stops {
                return Err(TrainError::Stopped { path: job.out.clone(), step: self.state.step });
            }
        }
        Ok(())
    }

    /// One step: every draw's forward and backward pass, then the update. Returns the images seen.
    fn step(&mut self) -> Result<usize, TrainError> {
        let settings = self.setup.settings;
        self.grads.clear();
        let mut images = 0;
        for draw in 0..settings.draws {
            images += self.pass(draw)?;
        }
        self.model.project(&mut self.grads);
        let ids = self.model.updated(&self.grads);
        let (factor, norm) = clipping(ids.iter().map(|&id| self.grads.get(id)), settings.clip);
        let warm_up = (settings.warm_up * self.setup.epoch_steps as f64).round() as u64;
        let share = cosine(self.state.step, warm_up, self.setup.steps(), settings.final_rate);
        for id in ids {
            let rate = self.model.rate(id, settings, share);
            if factor != 1.0 {
                self.grads.get_mut(id).iter_mut().for_each(|g| *g *= factor);
            }
            let values = self.model.params.values_mut(id);
            self.moments[id.0].update(settings.method, values, self.grads.get(id), rate);
        }
        self.model.merge();
        self.state.step += 1;
        self.state.sums.steps += 1;
        self.state.sums.norms += norm;
        Ok(images)
    }

    /// Draws a network and adds its gradients. Returns the images seen.
    fn pass(&mut self, draw: usize) -> Result<usize, TrainError> {
        let (setup, settings) = (self.setup, self.setup.settings);
        let number = self.state.step * settings.draws as u64 + draw as u64;
        let drawn = self.state.sampler.draw(&mut Random::new(settings.seed, Purpose::Draw, number));
        let TrainingBatch { images, targets: labels } = setup.batch(self.state.step, draw);
        if images.n == 0 {
            return Ok(0);
        }
        let candidate = &setup.space.candidates[drawn];
        let answers: Option<Vec<Batch>> = match &mut self.maps {
            Some(maps) => Some(maps.answer(&images)),
            None => self.teacher.as_mut().map(|teacher| teacher.answer(&images)),
        };
        let weight = 1.0 / settings.batch.min(setup.training.len()) as f64;
        let student = self.maps.as_ref().zip(answers.as_deref()).filter(|_| candidate.legs.len() == 1);
        let targets: Vec<MapTarget> = student.map_or_else(Vec::new, |(maps, answers)| {
            let share = settings.distillation.share * settings.learngene.map_or(0.0, |learngene| learngene.weight);
            maps.targets(candidate.legs[0].anchor, answers, share * weight, &self.model.params, &mut self.workspace)
        });
        let features = self.features.as_mut().map(|targets| targets.of(&setup.family, candidate, &images));
        let objective = Objective {
            targets: &labels,
            classes: setup.classes,
            teacher: answers.as_ref().and_then(|answers| answers.first()),
            features: features.as_deref().unwrap_or_default(),
            maps: &targets,
            distillation: settings.distillation,
            weight,
        };
        let program = &self.model.networks[drawn].program;
        let loss = program.step(&self.model.params, &images, &objective, &mut self.workspace, &mut self.grads);
        let loss = loss / (weight * images.n as f64);
        if !loss.is_finite() {
            return Err(TrainError::Diverged { step: self.state.step, path: candidate.path.clone(), loss });
        }
        if let Some((maps, answers)) = student {
            let (params, workspace) = (&self.model.params, &mut self.workspace);
            maps.step(candidate.legs[0].anchor, answers, targets, params, workspace, &mut self.grads);
        }
        self.state.sums.losses[drawn] += loss;
        self.state.sums.draws[drawn] += 1;
        Ok(images.n)
    }

    fn finished(&self) -> Result<Finished, TrainError> {
        self.model.finished(&self.setup.family, &self.setup.space, &self.setup.calibration)
    }

    /// Held-out accuracy of every network, of its int8 plan where training rounds.
    fn accuracy(&self, watch: &dyn Watch) -> Result<Vec<f64>, TrainError> {
        let Finished { family, candidates, layers } = self.finished()?;
        if let Some(rounding) = &self.rounding {
            let options = ExportOptions { golden_inputs: 0, ..ExportOptions::default() };
            let ranges = rounding.calibration();
            let compiled = compile_calibrated(&family, &candidates, &layers, ranges, &self.setup.calibration, &options);
            let compiled = compiled.map_err(|error| Box::new(error.into()))?;
            let watch = |_: &'static str, done, all| watch.stage("validating, int8", done, all);
            let correct = int8_correct(&compiled, &self.setup.held_out, "", &watch).map_err(Box::new)?;
            let share = |id: u32| correct.iter().find(|(stitch, _)| *stitch == id).map_or(0.0, |(_, n)| *n as f64);
            let images = self.setup.held_out.len() as f64;
            return Ok(candidates.iter().map(|candidate| share(candidate.id) / images).collect());
        }
        let progress = |done, all| watch.stage("validating", done, all);
        let found = evaluate::accuracy(&family, &candidates, &layers, &self.setup.held_out, &progress)?;
        Ok(found.into_iter().map(evaluate::Accuracy::share).collect())
    }

    fn validated(&mut self, accuracy: Vec<f64>) {
        self.state.sampler.validated(&accuracy, self.setup.settings.drop.filter(|_| self.state.step > 0));
        self.state.last = accuracy;
    }

    fn validation_line(&self, epoch: u32) -> Event {
        let dropped = (0u32..).zip(self.state.sampler.dropped()).filter(|(_, dropped)| **dropped);
        Event::Validation {
            step: self.state.step,
            epoch,
            accuracy: self.state.last.clone(),
            dropped: dropped.map(|(id, _)| id).collect(),
        }
    }

    /// The line of an epoch; its sums begin anew.
    fn progress_line(&mut self, epoch: u32, images_per_second: f64) -> Event {
        let count = self.state.networks.len();
        let empty = checkpoint::Sums { losses: vec![0.0; count], draws: vec![0; count], ..Default::default() };
        let sums = std::mem::replace(&mut self.state.sums, empty);
        let mean = |(loss, &draws): (&f64, &u64)| (draws > 0).then(|| loss / draws as f64);
        let settings = self.setup.settings;
        let warm_up = (settings.warm_up * self.setup.epoch_steps as f64).round() as u64;
        Event::Progress {
            step: self.state.step,
            epoch,
            losses: sums.losses.iter().zip(&sums.draws).map(mean).collect(),
            draws: self.state.sampler.counts().to_vec(),
            rate: cosine(self.state.step.saturating_sub(1), warm_up, self.setup.steps(), settings.final_rate),
            gradient_norm: sums.norms / sums.steps.max(1) as f64,
            images_per_second,
        }
    }

    fn save(&self, job: &Job<'_>) -> Result<(), TrainError> {
        checkpoint::write(&job.out, &self.state, &self.model.params, &self.moments)
            .map_err(|source| TrainError::Write { path: job.out.join(checkpoint::FILE_NAME), source })
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            networks: self.setup.networks(),
            before: self.state.before.clone(),
            after: self.state.last.clone(),
            draws: self.state.sampler.counts().to_vec(),
            dropped: self.state.sampler.dropped().to_vec(),
            validation_images: self.setup.held_out.len(),
            quantized: self.setup.settings.quantized,
            steps: self.state.step,
        }
    }
}
