//! The step loop: runs a plan's kernels one after another in a caller's arena.

mod arena;
mod cascade;
mod confidence;
mod dispatch;
mod observe;
mod over;
#[cfg(feature = "std")]
mod prepared;
mod regions;
mod stream;
#[cfg(feature = "threads")]
mod threads;

pub(crate) use arena::check_alignment;
pub use arena::{AlignedArena, Arena};
pub(crate) use cascade::run_cascade;
pub use cascade::{Cascade, CascadeError, CascadeExecutor, EarlyAnswer};
pub use confidence::{Top, top};
pub use dispatch::run_step;
pub(crate) use dispatch::value_bytes;
pub use observe::{NoObserver, Observer, StepReport};
#[cfg(feature = "std")]
pub use prepared::Prepared;
pub(crate) use regions::Regions;
pub use stream::{StreamError, StreamExecutor, StreamMemory, StreamNeeds};
#[cfg(feature = "threads")]
pub use threads::{NoThreads, ThreadedExecutor, Threads};

use core::fmt;
use core::ops::Range;

use crate::bundle::{Bundle, PlacedStep, Plan, Route, Steps};
use crate::kernels::{Isa, ShapeError};

/// Alignment the arena must have, in bytes.
pub const ARENA_ALIGN: usize = 16;

/// Why a plan cannot run, or did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ExecError {
    /// The bundle has no plan of this index.
    NoSuchPlan {
        /// Index asked for.
        plan: u16,
        /// Plans present.
        plans: u16,
    },
    /// The arena is smaller than the plan's header says.
    ArenaTooSmall {
        /// Bytes the plan needs, of the main memory where there are two.
        need_bytes: u32,
        /// Bytes given.
        have_bytes: u32,
    },
    /// The arena does not start on a 16-byte boundary.
    ArenaMisaligned,
    /// A kernel refused its arguments: the bundle changed after it was checked.
    Kernel {
        /// Step, as index in the bundle.
        step: u16,
        /// What the kernel said.
        error: ShapeError,
    },
    /// The bundle's weights are in storage, not in memory: use [`StreamExecutor`].
    NotInPlace,
    /// A record no longer decodes: the bundle changed after it was checked.
    Changed,
}

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchPlan { plan, plans } => write!(f, "no plan {plan}: the bundle holds {plans}"),
            Self::ArenaTooSmall { need_bytes, have_bytes } => {
                write!(f, "the plan needs an arena of {need_bytes} bytes, {have_bytes} given")
            }
            Self::ArenaMisaligned => write!(f, "the arena must start on a {ARENA_ALIGN}-byte boundary"),
            Self::Kernel { step, error } => write!(f, "step {step}: {error}"),
            Self::NotInPlace => f.write_str("the bundle's weights are in storage, not in memory"),
            Self::Changed => f.write_str("the bundle changed after it was checked"),
        }
    }
}

impl core::error::Error for ExecError {}

/// Runs one plan at a time of a bundle in an arena. Switching plans copies nothing. `Prepared` (feature `std`) makes executors
/// that run faster, with weights packed for the processor.
#[derive(Debug)]
pub struct Executor<'a, 'b> {
    bundle: &'a Bundle<'b>,
    index: u16,
    route: Route<'b>,
    arena: Arena<'a>,
    isa: Isa,
    /// Packed weights to run with.
    #[cfg(feature = "std")]
    store: Option<&'a mut prepared::Store>,
}

impl<'a, 'b> Executor<'a, 'b> {
    /// Prepares plan `plan` with the fastest kernels of this processor.
    ///
    /// # Errors
    /// [`ExecError::NoSuchPlan`], [`ExecError::ArenaTooSmall`], [`ExecError::ArenaMisaligned`] or [`ExecError::NotInPlace`].
    pub fn new(bundle: &'a Bundle<'b>, plan: u16, arena: &'a mut [u8]) -> Result<Self, ExecError> {
        Self::with_isa(bundle, plan, arena, Isa::best())
    }

    /// Prepares plan `plan` with the kernels of `isa`; without feature `variants` with the fastest ones, whatever `isa` is.
    ///
    /// # Errors
    /// As [`Executor::new`].
    pub fn with_isa(bundle: &'a Bundle<'b>, plan: u16, arena: &'a mut [u8], isa: Isa) -> Result<Self, ExecError> {
        Self::with_arena(bundle, plan, arena.into(), isa)
    }

    /// As [`Executor::with_isa`], in an arena that may lie in two memories. The result is the same.
    ///
    /// # Errors
    /// As [`Executor::new`].
    pub fn with_arena(bundle: &'a Bundle<'b>, plan: u16, arena: Arena<'a>, isa: Isa) -> Result<Self, ExecError> {
        arena.check_alignment()?;
        check_in_place(bundle)?;
        let route = find_route(bundle, plan, &arena)?;
        Ok(Self {
            bundle,
            index: plan,
            route,
            arena,
            isa,
            #[cfg(feature = "std")]
            store: None,
        })
    }

    /// Makes plan `plan` the current one; decodes no more of its record than running it takes. With packed weights the plan is
    /// packed unless it is. On error the current plan
    /// stays.
    ///
    /// # Errors
    /// [`ExecError::NoSuchPlan`] or [`ExecError::ArenaTooSmall`].
    pub fn switch(&mut self, plan: u16) -> Result<(), ExecError> {
        let route = find_route(self.bundle, plan, &self.arena)?;
        #[cfg(feature = "std")]
        if let Some(store) = &mut self.store {
            store.add(self.bundle, plan)?;
        }
        (self.route, self.index) = (route, plan);
        Ok(())
    }

    /// Index of the current plan.
    #[must_use]
    pub const fn plan_index(&self) -> u16 {
        self.index
    }

    /// The current plan; `None` only if the bundle was modified after it was checked.
    #[must_use]
    pub fn plan(&self) -> Option<Plan<'b>> {
        self.bundle.plan(self.index)
    }

    /// The bundle.
    #[must_use]
    pub const fn bundle(&self) -> &'a Bundle<'b> {
        self.bundle
    }

    /// Where the int8 input goes, HWC. Running overwrites it: fill it before every run.
    ///
    /// # Errors
    /// [`ExecError::Changed`] if the bundle was modified after it was checked.
    pub fn input(&mut self) -> Result<&mut [i8], ExecError> {
        input_of(self.bundle, &self.route, self.arena.regions(self.route.footprint()))
    }

    /// Runs the plan; returns the int8 output, quantized as [`Plan::output_quant`] says.
    ///
    /// # Errors
    /// [`ExecError::Kernel`] or [`ExecError::Changed`], only if the bundle was modified after it was checked.
    pub fn run(&mut self) -> Result<&[i8], ExecError> {
        self.run_observed(&mut NoObserver)
    }

    /// Runs the plan and shows every step's output to `observer`.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn run_observed(&mut self, observer: &mut impl Observer) -> Result<&[i8], ExecError> {
        let steps = self.bundle.steps_on(&self.route);
        let mut memory = self.arena.regions(self.route.footprint());
        #[cfg(feature = "std")]
        if let Some(store) = &mut self.store {
            let output = run_steps(&mut **store, self.bundle, steps, &mut memory, observer)?;
            return memory.take(&output).map(|output| &*output).ok_or(ExecError::Changed);
        }
        let output = run_steps(self.isa, self.bundle, steps, &mut memory, observer)?;
        memory.take(&output).map(|output| &*output).ok_or(ExecError::Changed)
    }
}

/// Refuses the records of a streamed bundle: their constants are elsewhere.
pub(crate) fn check_in_place(bundle: &Bundle<'_>) -> Result<(), ExecError> {
    if bundle.is_in_place() { Ok(()) } else { Err(ExecError::NotInPlace) }
}

/// Where a route takes its input in `memory`.
pub(crate) fn input_of<'m>(
    bundle: &Bundle<'_>,
    route: &Route<'_>,
    memory: Regions<'m>,
) -> Result<&'m mut [i8], ExecError> {
    let start = route.input_offset() as usize;
    let end = start.checked_add(bundle.meta().input.len()).ok_or(ExecError::Changed)?;
    memory.take(&(start..end)).ok_or(ExecError::Changed)
}

/// Runs all of `steps`; returns where the last output lies.
pub(crate) fn run_steps(
    mut runner: impl dispatch::StepRunner,
    bundle: &Bundle<'_>,
    mut steps: Steps<'_>,
    memory: &mut Regions<'_>,
    observer: &mut impl Observer,
) -> Result<Range<usize>, ExecError> {
    let mut last = 0..0;
    let mut ordinal = 0u16;
    let mut placed = PlacedStep::default();
    while steps.advance(&mut placed).map_err(|_| ExecError::Changed)? {
        observer.before(&placed);
        runner.run(bundle, &placed, memory).map_err(|error| ExecError::Kernel { step: placed.index, error })?;
        let output = memory.get(&placed.output).ok_or(ExecError::Changed)?;
        observer.after(StepReport { ordinal, placed: &placed, output });
        ordinal = ordinal.saturating_add(1);
        last = placed.output.clone();
    }
    Ok(last)
}

fn find_route<'b>(bundle: &Bundle<'b>, plan: u16, arena: &Arena<'_>) -> Result<Route<'b>, ExecError> {
    let route = bundle.route(plan).ok_or(ExecError::NoSuchPlan { plan, plans: bundle.plan_count() })?;
    arena.check_size(route.footprint())?;
    Ok(route)
}
