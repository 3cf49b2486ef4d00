//! One inference on several threads: steps that are large enough are cut into parts that compute some of the output each, with
//! the same kernels and so the same bytes.
//!
//! A step ends when all of its parts are done. Parts that no other thread has begun are computed by the thread that runs the
//! step: where the processors are busy with something else, an inference takes as long as on one thread.

mod gain;
mod piece;

use std::boxed::Box;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::vec::Vec;

use rayon_core::{ThreadPool, ThreadPoolBuilder};

use super::dispatch::{Constants, run_with};
use super::prepared::{Call, Store};
use super::{ExecError, NoObserver, Observer, Regions, StepReport, check_in_place, input_of};
use crate::bundle::{AlignedBytes, Bundle, PlacedStep, Plan, Route};
use crate::kernels::{Drawn, Isa, ShapeError};
use piece::Piece;

/// Threads that share the steps of an inference. They sleep while there is nothing to do. Clones are the same threads, which end
/// with the last clone.
#[derive(Debug, Clone)]
pub struct Threads {
    /// `None`: the caller's alone.
    pool: Option<Arc<ThreadPool>>,
}

/// The operating system gives no more threads.
#[derive(Debug)]
pub struct NoThreads(Box<dyn std::error::Error + Send + Sync>);

impl fmt::Display for NoThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no threads: {}", self.0)
    }
}

impl std::error::Error for NoThreads {}

impl Threads {
    /// `count` threads, or with one the caller's own.
    ///
    /// # Errors
    /// [`NoThreads`].
    pub fn new(count: NonZeroUsize) -> Result<Self, NoThreads> {
        if count.get() == 1 {
            return Ok(Self { pool: None });
        }
        let builder = ThreadPoolBuilder::new().num_threads(count.get()).thread_name(|at| format!("inference {at}"));
        let pool = builder.build().map_err(|error| NoThreads(error.into()))?;
        Ok(Self { pool: Some(Arc::new(pool)) })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.pool.as_ref().map_or(1, |pool| pool.current_num_threads())
    }

    /// Does `work` on one of the threads. Inferences do so by themselves; a loop of short ones that is inside as a whole does not
    /// change threads at each.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

/// Runs one plan at a time of a bundle on [`Threads`], in an arena of its own on the heap. The bytes are those of
/// [`Executor`](super::Executor).
#[derive(Debug)]
pub struct ThreadedExecutor<'a, 'b> {
    bundle: &'a Bundle<'b>,
    index: u16,
    route: Route<'b>,
    arena: AlignedBytes,
    isa: Isa,
    /// Packed weights of the plans that were current.
    store: Store,
    threads: Threads,
    /// What a part of a step takes at least, in multiply-accumulates of a matrix product.
    least_work: u64,
    /// Whether the plan is worth more than one thread.
    is_shared: bool,
    /// Scratch of every thread but the first, which has the plan's.
    rooms: Vec<AlignedBytes>,
}

impl<'a, 'b> ThreadedExecutor<'a, 'b> {
    /// Prepares plan `plan` with the fastest kernels of this processor.
    ///
    /// # Errors
    /// [`ExecError::NoSuchPlan`] or [`ExecError::NotInPlace`].
    pub fn new(bundle: &'a Bundle<'b>, plan: u16, threads: &Threads) -> Result<Self, ExecError> {
        Self::with_isa(bundle, plan, threads, Isa::best())
    }

    /// Prepares plan `plan` with the kernels of `isa`.
    ///
    /// # Errors
    /// As [`ThreadedExecutor::new`].
    pub fn with_isa(bundle: &'a Bundle<'b>, plan: u16, threads: &Threads, isa: Isa) -> Result<Self, ExecError> {
        check_in_place(bundle)?;
        let route = route_of(bundle, plan)?;
        let steps = (0..bundle.step_count()).filter_map(|index| bundle.step(index));
        let scratch_bytes = steps.map(|step| step.op.scratch_bytes()).max().unwrap_or(0);
        let rooms = (1..threads.count()).map(|_| AlignedBytes::new(scratch_bytes)).collect();
        let arena = AlignedBytes::new(route.arena_bytes() as usize);
        let (threads, least_work) = (threads.clone(), gain::least_work(isa));
        let mut store = Store::new(bundle, isa);
        store.add(bundle, plan)?;
        let made = Self { bundle, index: plan, route, arena, isa, store, threads, least_work, is_shared: false, rooms };
        Ok(Self { is_shared: made.gains(), ..made })
    }

    /// Cuts convolutions only into parts of at least `macs` multiply-accumulates, and uses one thread for plans that have few
    /// such parts. The default was found by measurement; 0 cuts every step that can be.
    pub fn share_from(&mut self, macs: u64) {
        self.least_work = macs;
        self.is_shared = self.gains();
    }

    /// Makes plan `plan` the current one. The arena grows if it must, and never shrinks. On error the current plan stays.
    ///
    /// # Errors
    /// [`ExecError::NoSuchPlan`].
    pub fn switch(&mut self, plan: u16) -> Result<(), ExecError> {
        let route = route_of(self.bundle, plan)?;
        self.store.add(self.bundle, plan)?;
        (self.route, self.index) = (route, plan);
        let need = self.route.arena_bytes() as usize;
        if need > self.arena.as_slice().len() {
            self.arena = AlignedBytes::new(need);
        }
        self.is_shared = self.gains();
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

    /// Bytes of scratch beside the arena.
    #[must_use]
    pub fn scratch_bytes(&self) -> usize {
        self.rooms.iter().map(|room| room.as_slice().len()).sum()
    }

    /// Where the int8 input goes, HWC. Running overwrites it: fill it before every run.
    ///
    /// # Errors
    /// [`ExecError::Changed`] if the bundle was modified after it was checked.
    pub fn input(&mut self) -> Result<&mut [i8], ExecError> {
        input_of(self.bundle, &self.route, Regions::whole(self.arena.as_mut_slice()))
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
    /// As [`ThreadedExecutor::run`].
    pub fn run_observed(&mut self, observer: &mut (impl Observer + Send)) -> Result<&[i8], ExecError> {
        let output = if self.is_shared {
            let threads = self.threads.clone();
            threads.enter(|| self.run_steps(observer))?
        } else {
            self.run_steps(observer)?
        };
        self.arena.as_slice().get(output).map(bytemuck::cast_slice).ok_or(ExecError::Changed)
    }

    fn run_steps(&mut self, observer: &mut impl Observer) -> Result<Range<usize>, ExecError> {
        let mut steps = self.bundle.steps_on(&self.route);
        let (mut last, mut ordinal, mut placed) = (0..0, 0u16, PlacedStep::default());
        while steps.advance(&mut placed).map_err(|_| ExecError::Changed)? {
            observer.before(&placed);
            self.run_step(&placed).map_err(|error| ExecError::Kernel { step: placed.index, error })?;
            let output = self.arena.as_slice().get(placed.output.clone()).ok_or(ExecError::Changed)?;
            observer.after(StepReport { ordinal, placed: &placed, output: bytemuck::cast_slice(output) });
            ordinal = ordinal.saturating_add(1);
            last = placed.output.clone();
        }
        Ok(last)
    }

    fn gains(&self) -> bool {
        let steps = self.bundle.steps_on(&self.route).map(|placed| placed.step.op);
        gain::is_shared(steps, self.least_work, self.threads.count())
    }

    fn run_step(&mut self, placed: &PlacedStep) -> Result<(), ShapeError> {
        let constants = Constants::in_place(self.bundle, placed.index, &placed.step.op)?;
        let mut memory = Regions::whole(self.arena.as_mut_slice());
        let threads = if self.is_shared { self.threads.count() } else { 1 };
        let parts = gain::parts(&placed.step.op, self.least_work, threads);
        if let Some(Call { conv, image, input, output }) = self.store.packed(placed, &mut memory)? {
            let drawn = conv.draw(input, image)?;
            // A single position is cut along its channels, in place.
            if parts < 2 || drawn.windows() > 1 || self.bundle.is_woven(placed.index) {
                return share_windows(&drawn, 0, output, parts);
            }
        }
        if parts < 2 || placed.is_over_input() {
            return run_with(self.isa, placed, &constants, &mut memory);
        }
        let arena = bytemuck::cast_slice_mut(self.arena.as_mut_slice());
        let (piece, scratch) = Piece::of(placed, constants, arena)?;
        let parts = parts.min(piece.most_parts());
        let others = self.rooms.get_mut(..parts.saturating_sub(1)).ok_or(ShapeError::Scratch)?;
        share(self.isa, piece, bytemuck::cast_slice_mut(scratch), others)
    }
}

/// Computes a piece on this thread and one more for every element of `others`, their scratch.
fn share(isa: Isa, piece: Piece<'_>, own: &mut [u8], others: &mut [AlignedBytes]) -> Result<(), ShapeError> {
    if others.is_empty() {
        return piece.run(isa, own);
    }
    let parts = others.len() + 1;
    let [first, second] = piece.split(parts / 2, parts)?;
    let (left, right) = others.split_at_mut(parts / 2 - 1);
    let Some((theirs, right)) = right.split_first_mut() else { return Err(ShapeError::Scratch) };
    let (first, second) =
        rayon_core::join(|| share(isa, first, own, left), || share(isa, second, theirs.as_mut_slice(), right));
    first.and(second)
}

/// Computes the windows from `first` on that `output` holds, in up to `parts` parts.
fn share_windows(drawn: &Drawn<'_>, first: usize, output: &mut [i8], parts: usize) -> Result<(), ShapeError> {
    let (granule, channels) = (drawn.granule().max(1), drawn.channels().max(1));
    let windows = output.len() / channels;
    let share = windows * (parts / 2) / parts.max(1);
    // Tiles have eight windows.
    let share = share - share % granule.next_multiple_of(if granule == 1 { 8 } else { 1 });
    if share == 0 {
        return drawn.run(first, output);
    }
    let (ours, theirs) = output.split_at_mut_checked(share * channels).ok_or(ShapeError::Output)?;
    let (ours, theirs) = rayon_core::join(
        || share_windows(drawn, first, ours, parts / 2),
        || share_windows(drawn, first + share, theirs, parts - parts / 2),
    );
    ours.and(theirs)
}

fn route_of<'b>(bundle: &Bundle<'b>, plan: u16) -> Result<Route<'b>, ExecError> {
    bundle.route(plan).ok_or(ExecError::NoSuchPlan { plan, plans: bundle.plan_count() })
}
