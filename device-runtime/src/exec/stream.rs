//! The step loop for bundles in storage: constants are read step by step, in pieces that fit a small window.
//!
//! A step whose constants exceed the window is cut into ranges of output channels, each loaded and computed by itself; the
//! result is the same to the byte. Every constant of the plan is read exactly once per run, and nothing else is.
//!
//! With a [`Source`] that overlaps, the window is split in halves, and one half is filled while the other computes. With
//! any other the whole window serves one piece at a time, so that pieces are as large as they can be.

mod cut;
mod load;
mod part;
mod pieces;

use core::fmt;

use super::dispatch::run_with;
use super::{ARENA_ALIGN, ExecError, NoObserver, Observer, Regions, StepReport, check_alignment, input_of};
use crate::bundle::{Bundle, Plan, Route, StreamedBundle};
use crate::kernels::{Isa, ShapeError};
use crate::storage::{Source, StorageError};
use load::{Loaded, load, loaded};
use pieces::{Piece, Pieces};

/// Why a plan cannot run from storage, or did not. A run that failed can be repeated: fill the input again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum StreamError {
    /// As with a bundle in memory.
    Exec(ExecError),
    /// The constants of a step could not be read.
    Storage {
        /// Step, as index in the bundle.
        step: u16,
        /// What went wrong.
        error: StorageError,
    },
    /// The window does not hold the constants of a single output channel of some step.
    WindowTooSmall {
        /// Bytes the plan needs at least.
        need_bytes: u32,
        /// Bytes given.
        have_bytes: u32,
    },
    /// The window does not start on a 16-byte boundary.
    WindowMisaligned,
    /// What was read for a step is no table of multipliers, shifts or exponentials: storage is damaged or misread.
    Constants {
        /// Step, as index in the bundle.
        step: u16,
    },
}

impl From<ExecError> for StreamError {
    fn from(error: ExecError) -> Self {
        Self::Exec(error)
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exec(error) => error.fmt(f),
            Self::Storage { step, error } => write!(f, "step {step}: {error}"),
            Self::WindowTooSmall { need_bytes, have_bytes } => {
                write!(f, "the plan needs a window of {need_bytes} bytes, {have_bytes} given")
            }
            Self::WindowMisaligned => write!(f, "the window must start on a {ARENA_ALIGN}-byte boundary"),
            Self::Constants { step } => write!(f, "step {step}: the constants read are damaged"),
        }
    }
}

impl core::error::Error for StreamError {}

/// What streaming a plan takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct StreamNeeds {
    /// Smallest window that the plan runs in.
    pub least_window_bytes: u32,
    /// Window from which on no step is cut.
    pub whole_window_bytes: u32,
    /// Bytes read per inference, whatever the window.
    pub read_bytes: u64,
}

/// The memory of a [`StreamExecutor`].
#[derive(Debug)]
pub struct StreamMemory<'a> {
    /// Activations: as large as the plan's `arena_bytes`, on a 16-byte boundary.
    pub arena: &'a mut [u8],
    /// Constants on their way: see [`StreamExecutor::needs`], on a 16-byte boundary.
    pub window: &'a mut [u8],
}

/// Runs one plan at a time of a bundle in storage.
#[derive(Debug)]
pub struct StreamExecutor<'a, 'b, S> {
    bundle: &'a StreamedBundle<'b>,
    source: S,
    plan: Plan<'b>,
    index: u16,
    memory: StreamMemory<'a>,
    isa: Isa,
}

impl<'a, 'b, S: Source> StreamExecutor<'a, 'b, S> {
    /// Prepares plan `plan` with the fastest kernels of this processor. Reads nothing.
    ///
    /// # Errors
    /// [`StreamError::WindowTooSmall`], [`StreamError::WindowMisaligned`], or [`StreamError::Exec`] for what the arena lacks.
    pub fn new(
        bundle: &'a StreamedBundle<'b>,
        source: S,
        plan: u16,
        memory: StreamMemory<'a>,
    ) -> Result<Self, StreamError> {
        Self::with_isa(bundle, source, plan, memory, Isa::best())
    }

    /// Prepares plan `plan` with the kernels of `isa`.
    ///
    /// # Errors
    /// As [`StreamExecutor::new`].
    pub fn with_isa(
        bundle: &'a StreamedBundle<'b>,
        source: S,
        plan: u16,
        memory: StreamMemory<'a>,
        isa: Isa,
    ) -> Result<Self, StreamError> {
        check_alignment(memory.arena)?;
        check_alignment(memory.window).map_err(|_| StreamError::WindowMisaligned)?;
        let record = check_memory::<S>(bundle.bundle(), plan, &memory)?;
        Ok(Self { bundle, source, plan: record, index: plan, memory, isa })
    }

    /// What plan `plan` takes with this kind of source; `None` if the bundle has no such plan.
    #[must_use]
    pub fn needs(bundle: &Bundle<'_>, plan: u16) -> Option<StreamNeeds> {
        Some(pieces::needs(bundle, &bundle.plan(plan)?, S::OVERLAPS))
    }

    /// Makes plan `plan` the current one. On error the current plan stays.
    ///
    /// # Errors
    /// As [`StreamExecutor::new`].
    pub fn switch(&mut self, plan: u16) -> Result<(), StreamError> {
        self.plan = check_memory::<S>(self.bundle.bundle(), plan, &self.memory)?;
        self.index = plan;
        Ok(())
    }

    /// Index of the current plan.
    #[must_use]
    pub const fn plan_index(&self) -> u16 {
        self.index
    }

    /// The current plan.
    #[must_use]
    pub const fn plan(&self) -> &Plan<'b> {
        &self.plan
    }

    /// The source, for instance to verify the bundle between two runs.
    pub const fn source(&mut self) -> &mut S {
        &mut self.source
    }

    /// Where the int8 input goes, HWC. Running overwrites it: fill it before every run.
    ///
    /// # Errors
    /// [`ExecError::Changed`] if the records were modified after they were checked.
    pub fn input(&mut self) -> Result<&mut [i8], StreamError> {
        Ok(input_of(self.bundle.bundle(), &Route::from(&self.plan), Regions::whole(self.memory.arena))?)
    }

    /// Runs the plan; returns the int8 output, quantized as [`Plan::output_quant`] says.
    ///
    /// # Errors
    /// [`StreamError::Storage`] or [`StreamError::Constants`] if storage fails; [`StreamError::Exec`] only if the records were
    /// modified after they were checked.
    pub fn run(&mut self) -> Result<&[i8], StreamError> {
        self.run_observed(&mut NoObserver)
    }

    /// Runs the plan and shows every step's output to `observer`. With a source that overlaps, the time of a step includes
    /// that of loading what follows.
    ///
    /// # Errors
    /// As [`StreamExecutor::run`].
    pub fn run_observed(&mut self, observer: &mut impl Observer) -> Result<&[i8], StreamError> {
        let mut run = Run { isa: self.isa, memory: Regions::whole(self.memory.arena), observer, last: 0..0, steps: 0 };
        if S::OVERLAPS {
            run.with_halves(self.bundle, &mut self.source, &self.plan, self.memory.window)?;
        } else {
            run.with_window(self.bundle, &mut self.source, &self.plan, self.memory.window)?;
        }
        let (last, steps) = (run.last, run.steps);
        if usize::from(steps).checked_mul(8) != Some(self.plan.layout.len()) {
            return Err(ExecError::Changed.into());
        }
        self.memory.arena.get(last).map(bytemuck::cast_slice).ok_or(ExecError::Changed.into())
    }
}

/// A run in progress.
struct Run<'r, O> {
    isa: Isa,
    memory: Regions<'r>,
    observer: &'r mut O,
    /// Where the output of the last step that ended lies.
    last: core::ops::Range<usize>,
    /// Steps that ended.
    steps: u16,
}

impl<O: Observer> Run<'_, O> {
    /// Loads and computes one piece after the other.
    fn with_window<'b>(
        &mut self,
        bundle: &StreamedBundle<'b>,
        source: &mut impl Source,
        plan: &Plan<'b>,
        window: &mut [u8],
    ) -> Result<(), StreamError> {
        let mut pieces = Pieces::new(bundle.bundle(), plan, window.len());
        while let Some(piece) = pieces.next()? {
            if piece.has_constants() {
                load(bundle, source, &piece, window, || ())?;
            }
            self.compute(bundle, &piece, window)?;
        }
        Ok(())
    }

    /// Computes each piece while the constants of the next that has any are loaded.
    fn with_halves<'b>(
        &mut self,
        bundle: &StreamedBundle<'b>,
        source: &mut impl Source,
        plan: &Plan<'b>,
        window: &mut [u8],
    ) -> Result<(), StreamError> {
        let half = pieces::half_bytes(window.len());
        let Some((mut front, back)) = window.split_at_mut_checked(half) else { return Ok(()) };
        let Some(mut back) = back.get_mut(..half) else { return Ok(()) };
        let mut ahead = Pieces::new(bundle.bundle(), plan, half);
        let mut pieces = Pieces::new(bundle.bundle(), plan, half);
        if let Some(first) = ahead.next_with_constants()? {
            load(bundle, source, &first, front, || ())?;
        }
        while let Some(piece) = pieces.next()? {
            if !piece.has_constants() {
                self.compute(bundle, &piece, &mut [])?;
                continue;
            }
            match ahead.next_with_constants()? {
                Some(next) => load(bundle, source, &next, back, || self.compute(bundle, &piece, front))??,
                None => self.compute(bundle, &piece, front)?,
            }
            core::mem::swap(&mut front, &mut back);
        }
        Ok(())
    }

    /// Computes one piece whose constants lie in `window`.
    fn compute(&mut self, bundle: &StreamedBundle<'_>, piece: &Piece, window: &mut [u8]) -> Result<(), StreamError> {
        let placed = &piece.placed;
        if piece.is_first() {
            self.observer.before(placed);
        }
        let Loaded { constants, staging } = loaded(bundle.bundle(), piece, window)?;
        let done = if piece.is_whole() {
            run_with(self.isa, placed, &constants, &mut self.memory)
        } else {
            part::run_part(self.isa, piece, &constants, staging, &mut self.memory)
        };
        done.map_err(|error: ShapeError| ExecError::Kernel { step: placed.index, error })?;
        if piece.is_last() {
            let output = self.memory.get(&placed.output).ok_or(ExecError::Changed)?;
            self.observer.after(StepReport { ordinal: self.steps, placed, output });
            self.steps = self.steps.saturating_add(1);
            self.last = placed.output.clone();
        }
        Ok(())
    }
}

fn check_memory<'b, S: Source>(
    bundle: &Bundle<'b>,
    plan: u16,
    memory: &StreamMemory<'_>,
) -> Result<Plan<'b>, StreamError> {
    let plans = bundle.plan_count();
    let record = bundle.plan(plan).ok_or(ExecError::NoSuchPlan { plan, plans })?;
    let have_bytes = u32::try_from(memory.arena.len()).unwrap_or(u32::MAX);
    if have_bytes < record.arena_bytes {
        return Err(ExecError::ArenaTooSmall { need_bytes: record.arena_bytes, have_bytes }.into());
    }
    let need_bytes = pieces::needs(bundle, &record, S::OVERLAPS).least_window_bytes;
    let have_bytes = u32::try_from(memory.window.len()).unwrap_or(u32::MAX);
    if have_bytes < need_bytes {
        return Err(StreamError::WindowTooSmall { need_bytes, have_bytes });
    }
    Ok(record)
}
