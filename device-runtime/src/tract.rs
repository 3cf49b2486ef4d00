//! The plans of a bundle as tract-core models, for Linux-class ARM and hosts.
//!
//! Every step becomes one node whose operator calls the same [`kernels`](crate::kernels) as the step loop of
//! [`exec`](crate::exec), on plain `i8` tensors. tract contributes the graph, the order of evaluation and the lifetime of
//! activations; its own quantized operators appear nowhere, so both executors return the same bytes. No optimizer runs:
//! a plan is ready as soon as its nodes are wired and its convolutions' weights packed. Operators refer to the bundle's bytes, and
//! plans share them with what they have packed, so weights exist once there and once packed, however many plans are built.
//!
//! ```no_run
//! use stitchkit_runtime::{bundle::AlignedBytes, tract::TractFamily};
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! let file = std::fs::read("family.stk")?;
//! let family = TractFamily::new(AlignedBytes::copy_of(&file))?;
//! let mut plan = family.plan(0)?;
//! let logits: Vec<i8> = plan.run(&vec![0; family.input_len()])?;
//! # Ok(()) }
//! ```

mod constants;
mod op;
mod plan;
#[cfg(test)]
mod tests;

pub use plan::TractPlan;

use core::fmt;
use std::boxed::Box;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use crate::bundle::{Block, Bundle, BundleError, PlacedStep, Plan};
use crate::kernels::{Isa, Shape};
use constants::PreparedStep;

/// Bytes of a bundle that several plans share: a memory map, an aligned buffer, a static.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Why a plan cannot be built as a tract model, or did not run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TractError {
    /// The bytes are not a valid bundle.
    Bundle(BundleError),
    /// The bundle has no plan of this index.
    NoSuchPlan {
        /// Index asked for.
        plan: u16,
        /// Plans present.
        plans: u16,
    },
    /// The input does not have the elements the bundle asks for.
    InputLength {
        /// Elements the bundle takes.
        need: usize,
        /// Elements given.
        have: usize,
    },
    /// The bytes changed after they were checked.
    Changed,
    /// tract refused the model or failed while running it; the text is tract's.
    Tract(String),
}

impl fmt::Display for TractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundle(error) => error.fmt(f),
            Self::NoSuchPlan { plan, plans } => write!(f, "no plan {plan}: the bundle holds {plans}"),
            Self::InputLength { need, have } => write!(f, "the input needs {need} bytes, {have} given"),
            Self::Changed => f.write_str("the bundle changed after it was checked"),
            Self::Tract(text) => write!(f, "tract: {text}"),
        }
    }
}

impl core::error::Error for TractError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Bundle(error) => Some(error),
            _ => None,
        }
    }
}

impl From<BundleError> for TractError {
    fn from(error: BundleError) -> Self {
        Self::Bundle(error)
    }
}

/// A checked bundle whose steps are ready to be wired into models. Plans built from it share operators and weights.
pub struct TractFamily {
    input: Shape,
    output: Shape,
    steps: Vec<Arc<PreparedStep>>,
    blocks: Vec<BlockSteps>,
    plans: Vec<PlanSteps>,
}

/// A block, without its bundle's lifetime.
struct BlockSteps {
    name: Box<str>,
    first_step: usize,
    steps: usize,
}

/// A plan, without its bundle's lifetime.
struct PlanSteps {
    blocks: Box<[u16]>,
    placed: Arc<[PlacedStep]>,
}

impl TractFamily {
    /// Checks `bytes` as [`Bundle::parse`] does and prepares every step for the fastest kernels of this processor.
    ///
    /// # Errors
    /// [`TractError::Bundle`] if the bytes are no valid bundle.
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Self, TractError> {
        Self::with_isa(Arc::new(bytes), Isa::best())
    }

    /// As [`TractFamily::new`], on bytes that are shared already and with the kernels of `isa`.
    ///
    /// # Errors
    /// As [`TractFamily::new`].
    pub fn with_isa(bytes: SharedBytes, isa: Isa) -> Result<Self, TractError> {
        let view: &[u8] = (*bytes).as_ref();
        let bundle = Bundle::parse(view)?;
        let prepare =
            |index| PreparedStep::locate(&bytes, &bundle, index, isa).map(Arc::new).ok_or(TractError::Changed);
        let block = |index| bundle.block(index).map(|b| BlockSteps::of(&b)).ok_or(TractError::Changed);
        Ok(Self {
            input: bundle.meta().input,
            output: bundle.meta().output,
            steps: (0..bundle.step_count()).map(prepare).collect::<Result<_, _>>()?,
            blocks: (0..bundle.block_count()).map(block).collect::<Result<_, _>>()?,
            plans: bundle.plans().map(|plan| PlanSteps::of(&bundle, &plan)).collect(),
        })
    }

    /// Builds plan `index`: wires its nodes, packs weights that no plan before has packed, runs no optimizer.
    ///
    /// # Errors
    /// [`TractError::NoSuchPlan`]; [`TractError::Tract`] if tract refuses the model.
    pub fn plan(&self, index: u16) -> Result<TractPlan, TractError> {
        let plans = self.plan_count();
        let record = self.plans.get(usize::from(index)).ok_or(TractError::NoSuchPlan { plan: index, plans })?;
        plan::build(self, index, record)
    }

    /// Number of plans.
    #[must_use]
    pub fn plan_count(&self) -> u16 {
        u16::try_from(self.plans.len()).unwrap_or(u16::MAX)
    }

    /// Elements of the int8 input, HWC.
    #[must_use]
    pub const fn input_len(&self) -> usize {
        self.input.len()
    }

    /// Elements of the int8 output.
    #[must_use]
    pub const fn output_len(&self) -> usize {
        self.output.len()
    }
}

impl fmt::Debug for TractFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TractFamily")
            .field("input", &self.input)
            .field("output", &self.output)
            .field("steps", &self.steps.len())
            .field("plans", &self.plans.len())
            .finish_non_exhaustive()
    }
}

impl BlockSteps {
    fn of(block: &Block<'_>) -> Self {
        Self { name: block.name.into(), first_step: usize::from(block.first_step), steps: usize::from(block.steps) }
    }
}

impl PlanSteps {
    fn of(bundle: &Bundle<'_>, plan: &Plan<'_>) -> Self {
        let (blocks, _) = plan.blocks.as_chunks();
        Self {
            blocks: blocks.iter().map(|pair| u16::from_le_bytes(*pair)).collect(),
            placed: bundle.steps_of(plan).collect(),
        }
    }
}
