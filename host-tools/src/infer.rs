//! Running bundles on the host: one inference, a trace of every step, accuracy over a data set.

pub mod cascade;

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use stitchkit_runtime::bundle::{AlignedBytes, Bundle, BundleError};
use stitchkit_runtime::exec::{ExecError, Executor, Prepared, StepReport};
use stitchkit_runtime::kernels::Isa;
use stitchkit_runtime::tract::{SharedBytes, TractError, TractFamily, TractPlan};

use crate::stitch::evaluate::{argmax, equal};

/// What executes a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// The bare step loop, as on a microcontroller.
    Kernels,
    /// A tract-core model whose operators call the same kernels, as on Linux-class ARM.
    Tract,
}

/// Why an inference did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InferError {
    /// The bytes are no bundle.
    #[error("the bundle cannot be used")]
    Bundle(#[from] BundleError),
    /// The executor refused.
    #[error("the plan cannot run")]
    Exec(#[from] ExecError),
    /// tract refused.
    #[error("the plan cannot run in tract")]
    Tract(#[from] TractError),
    /// The input has the wrong length.
    #[error("the input has {found} values, the bundle takes {expected}")]
    InputLength {
        /// Values given.
        found: usize,
        /// Values the bundle takes.
        expected: usize,
    },
    /// The bundle has no tables from pixel to int8.
    #[error("the bundle holds no pixel tables, so images cannot be quantized for it")]
    NoPixelTables,
    /// An npy file of int8 values could not be read.
    #[error("cannot read {path}")]
    Npy {
        /// The file.
        path: String,
        /// What the reader said.
        source: ndarray_npy::ReadNpyError,
    },
}

/// A checked bundle with the bytes it views, which tract's models keep alive.
#[derive(Debug, Clone, Copy)]
pub struct Loaded<'a> {
    /// The checked view.
    pub bundle: Bundle<'a>,
    bytes: &'a Arc<AlignedBytes>,
}

impl<'a> Loaded<'a> {
    /// Checks the bytes.
    ///
    /// # Errors
    /// [`BundleError`] if they are no bundle.
    pub fn new(bytes: &'a Arc<AlignedBytes>) -> Result<Self, BundleError> {
        Ok(Self { bundle: Bundle::parse(bytes.as_slice())?, bytes })
    }
}

/// Executes one plan again and again.
#[derive(Debug)]
pub struct Runner<'a> {
    bundle: Bundle<'a>,
    plan: u16,
    engine: Engine<'a>,
}

#[derive(Debug)]
enum Engine<'a> {
    /// Weights as they lie in the bundle.
    InPlace {
        arena: AlignedBytes,
        isa: Isa,
    },
    Packed {
        arena: AlignedBytes,
        prepared: Box<Prepared<'a>>,
    },
    Tract(Box<TractPlan>),
}

impl<'a> Runner<'a> {
    /// Prepares a plan for a backend.
    ///
    /// # Errors
    /// [`InferError`] if the plan does not exist or tract refuses it.
    pub fn new(loaded: Loaded<'a>, plan: u16, backend: Backend) -> Result<Self, InferError> {
        match backend {
            Backend::Kernels => Self::packed(&Prepared::new(&loaded.bundle, Isa::best()), plan),
            Backend::Tract => {
                let family = TractFamily::with_isa(Arc::clone(loaded.bytes) as SharedBytes, Isa::best())?;
                let engine = Engine::Tract(Box::new(family.plan(plan)?));
                Ok(Self { bundle: loaded.bundle, plan, engine })
            }
        }
    }

    /// Prepares a plan for the step loop with packed weights; shares what `prepared` has packed.
    ///
    /// # Errors
    /// As [`Runner::new`].
    pub fn packed(prepared: &Prepared<'a>, plan: u16) -> Result<Self, InferError> {
        let bundle = *prepared.bundle();
        let arena = arena(&bundle, plan)?;
        let mut prepared = prepared.clone();
        prepared.add(plan)?;
        Ok(Self { bundle, plan, engine: Engine::Packed { arena, prepared: Box::new(prepared) } })
    }

    /// Prepares a plan for the step loop with the kernels of `isa` and weights as they lie in the bundle.
    ///
    /// # Errors
    /// As [`Runner::new`].
    pub fn with_isa(loaded: Loaded<'a>, plan: u16, isa: Isa) -> Result<Self, InferError> {
        let arena = arena(&loaded.bundle, plan)?;
        Ok(Self { bundle: loaded.bundle, plan, engine: Engine::InPlace { arena, isa } })
    }

    /// One inference; returns the int8 output.
    ///
    /// # Errors
    /// [`InferError::InputLength`] if `input` is not of the bundle's input length.
    pub fn run(&mut self, input: &[i8]) -> Result<Vec<i8>, InferError> {
        if let Engine::Tract(plan) = &mut self.engine {
            return Ok(plan.run(input)?);
        }
        let mut executor = self.executor()?;
        copy_input(executor.input()?, input)?;
        Ok(executor.run()?.to_vec())
    }

    /// One inference; returns every step's output.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn trace(&mut self, input: &[i8]) -> Result<Trace, InferError> {
        let mut steps = Vec::new();
        let mut observer = |report: StepReport<'_>| steps.push(report.output.to_vec());
        if let Engine::Tract(plan) = &mut self.engine {
            plan.run_observed(input, &mut observer)?;
            return Ok(Trace { steps });
        }
        let mut executor = self.executor()?;
        copy_input(executor.input()?, input)?;
        executor.run_observed(&mut observer)?;
        Ok(Trace { steps })
    }

    /// The step loop; `NoSuchPlan` if this is a runner of tract's, which has none.
    fn executor(&mut self) -> Result<Executor<'_, 'a>, ExecError> {
        match &mut self.engine {
            Engine::InPlace { arena, isa } => Executor::with_isa(&self.bundle, self.plan, arena.as_mut_slice(), *isa),
            Engine::Packed { arena, prepared } => prepared.executor(self.plan, arena.as_mut_slice()),
            Engine::Tract(_) => Err(ExecError::NoSuchPlan { plan: self.plan, plans: 0 }),
        }
    }
}

/// An arena of the size that the plan needs.
fn arena(bundle: &Bundle<'_>, plan: u16) -> Result<AlignedBytes, ExecError> {
    let record = bundle.plan(plan).ok_or(ExecError::NoSuchPlan { plan, plans: bundle.plan_count() })?;
    Ok(AlignedBytes::new(record.arena_bytes as usize))
}

fn copy_input(to: &mut [i8], from: &[i8]) -> Result<(), InferError> {
    if to.len() != from.len() {
        return Err(InferError::InputLength { found: from.len(), expected: to.len() });
    }
    to.copy_from_slice(from);
    Ok(())
}

/// Every step's output of one inference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    steps: Vec<Vec<i8>>,
}

impl Trace {
    /// Output of the last step.
    #[must_use]
    pub fn output(&self) -> &[i8] {
        self.steps.last().map_or(&[], Vec::as_slice)
    }

    /// Outputs in order of execution.
    #[must_use]
    pub fn steps(&self) -> &[Vec<i8>] {
        &self.steps
    }

    /// Step, element, own value and other value of the first difference; a missing step counts as different.
    #[must_use]
    pub fn first_difference(&self, other: &Self) -> Option<(usize, usize, i8, i8)> {
        for (step, (mine, theirs)) in self.steps.iter().zip(&other.steps).enumerate() {
            if let Some(element) = mine.iter().zip(theirs).position(|(a, b)| a != b) {
                return Some((step, element, mine[element], theirs[element]));
            }
        }
        (self.steps.len() != other.steps.len()).then_some((self.steps.len().min(other.steps.len()), 0, 0, 0))
    }
}

/// `count` inputs of `len` uniformly drawn int8 values; the same for the same seed.
#[must_use]
pub fn random_inputs(len: usize, count: usize, seed: u64) -> Vec<Vec<i8>> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as i8
    };
    (0..count).map(|_| (0..len).map(|_| next()).collect()).collect()
}

/// Reads an npy file of `len` int8 values in any shape; `None` if the file is no npy file of int8.
///
/// # Errors
/// [`InferError::InputLength`] if the file holds int8 values of another count.
pub fn read_quantized(path: &Path, len: usize) -> Result<Option<Vec<i8>>, InferError> {
    if path.extension().is_none_or(|e| e != "npy") {
        return Ok(None);
    }
    let Ok(values) = ndarray_npy::read_npy::<_, ndarray::ArrayD<i8>>(path) else { return Ok(None) };
    if values.len() != len {
        return Err(InferError::InputLength { found: values.len(), expected: len });
    }
    Ok(Some(values.iter().copied().collect()))
}

/// Quantizes interleaved images with the bundle's pixel tables.
///
/// # Errors
/// [`InferError::NoPixelTables`] if it has none, [`InferError::InputLength`] if the pixels are not whole images.
pub fn quantize_images(bundle: &Bundle<'_>, pixels: &[u8]) -> Result<Vec<i8>, InferError> {
    let len = bundle.meta().input.len();
    if !pixels.len().is_multiple_of(len) {
        return Err(InferError::InputLength { found: pixels.len() % len, expected: len });
    }
    let mut inputs = vec![0i8; pixels.len()];
    let done = pixels
        .par_chunks_exact(len)
        .zip(inputs.par_chunks_exact_mut(len))
        .all(|(image, input)| bundle.quantize_pixels(image, input));
    if done { Ok(inputs) } else { Err(InferError::NoPixelTables) }
}

/// The class of the largest logit of every one of quantized `inputs`, on all cores. `progress` is told of finished images.
///
/// # Errors
/// [`InferError`] of the first inference that fails.
pub fn answers(
    loaded: Loaded<'_>,
    plan: u16,
    backend: Backend,
    inputs: &[i8],
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<u16>, InferError> {
    const CHUNK: usize = 32;
    let len = loaded.bundle.meta().input.len();
    let mut answers = vec![0; inputs.len() / len];
    let mut prepared = Prepared::new(&loaded.bundle, Isa::best());
    if backend == Backend::Kernels {
        prepared.add(plan)?;
    }
    let make = || match backend {
        Backend::Kernels => Runner::packed(&prepared, plan),
        Backend::Tract => Runner::new(loaded, plan, backend),
    };
    inputs.par_chunks(CHUNK * len).zip(answers.par_chunks_mut(CHUNK)).try_for_each_init(
        || None,
        |runner, (images, answers)| {
            let runner = match runner {
                Some(runner) => runner,
                none => none.insert(make()?),
            };
            for (image, answer) in images.chunks_exact(len).zip(answers.iter_mut()) {
                *answer = argmax(&runner.run(image)?) as u16;
            }
            progress(answers.len() as u64);
            Ok::<(), InferError>(())
        },
    )?;
    Ok(answers)
}

/// Number of quantized `inputs` whose top class is their label, on all cores. `progress` is told of finished images.
///
/// # Errors
/// [`InferError`] of the first inference that fails.
pub fn count_correct(
    loaded: Loaded<'_>,
    plan: u16,
    backend: Backend,
    inputs: &[i8],
    labels: &[u16],
    progress: &(dyn Fn(u64) + Sync),
) -> Result<usize, InferError> {
    Ok(equal(&answers(loaded, plan, backend, inputs, progress)?, labels))
}
