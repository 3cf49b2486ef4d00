//! A bundle kept running: the load in use, the memory limit in force, and what happened so far. `serve` and `stream` answer
//! with it.
//!
//! Threads that answer take a [`View`] and use it until [`Service::version`] changes; so a reload or a move under memory
//! pressure never touches an inference under way.

mod engine;
mod generation;
mod metrics;
mod pilot;
mod pressure;
mod refusal;
mod times;
mod trace;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use engine::{Engine, Question};
pub use generation::Generation;
pub use metrics::Metrics;
pub use refusal::Refusal;
pub use watch::{Watcher, signal_pipe};

use crate::args::ServiceArgs;
use crate::failure::Failure;
use crate::machine;
use crate::runner::How;
use trace::Trace;

/// A bundle kept running.
#[derive(Debug)]
pub struct Service {
    args: ServiceArgs,
    how: How,
    /// Arena of one worker, without pressure.
    ram_bytes: u32,
    state: Mutex<State>,
    /// Counts changes of `state`.
    version: AtomicU64,
    /// What happened so far.
    pub metrics: Metrics,
    /// Where every inference is noted.
    pub trace: Trace,
}

#[derive(Debug)]
struct State {
    generation: Arc<Generation>,
    /// Steps down from the largest plan; see [`Generation::rung`].
    level: usize,
}

/// What answers use until the version changes.
#[derive(Debug, Clone)]
pub struct View {
    /// The state's version.
    pub version: u64,
    /// The load in use.
    pub generation: Arc<Generation>,
    /// Arena that one worker may use.
    pub ram_bytes: u32,
    /// The plan of requests without a deadline of their own.
    pub plan: u16,
}

impl Service {
    /// Loads the bundle and checks it as a reload would.
    ///
    /// # Errors
    /// [`Failure::Limits`] if no plan meets the limits, [`Failure::Failed`] for a bundle that cannot be used.
    pub fn new(args: ServiceArgs) -> Result<Self, Failure> {
        let how = How::new(args.backend, args.isa.as_deref(), args.threads)?;
        let free = || machine::free_memory_bytes().map_or(u32::MAX, |bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
        let ram_bytes = args.memory_bytes.unwrap_or_else(free) / args.workers.max(1);
        let generation = Arc::new(Generation::load(&args, how, ram_bytes, None)?);
        let trace = Trace::open(args.trace.as_deref())?;
        let state = Mutex::new(State { generation, level: 0 });
        Ok(Self { args, how, ram_bytes, state, version: AtomicU64::new(1), metrics: Metrics::default(), trace })
    }

    /// The command line.
    pub const fn args(&self) -> &ServiceArgs {
        &self.args
    }

    /// How plans are run.
    pub const fn how(&self) -> How {
        self.how
    }

    /// Changes with every reload and every move under memory pressure.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// What to answer with now.
    pub fn view(&self) -> View {
        let state = self.lock();
        let rung = state.generation.rung(state.level);
        let generation = state.generation.clone();
        View { version: self.version(), generation, ram_bytes: rung.ram_bytes, plan: rung.plan }
    }

    /// Steps down at present, and most that there are.
    pub fn level(&self) -> (usize, usize) {
        let state = self.lock();
        (state.level, state.generation.lowest_level())
    }

    /// Moves to a level of memory use and returns the plan that now runs.
    pub fn set_level(&self, level: usize) -> u16 {
        self.change(|state| state.level = level)
    }

    /// Loads the bundle from its path again. On error the load in use stays.
    ///
    /// # Errors
    /// As [`Service::new`].
    pub fn reload(&self) -> Result<(), Failure> {
        let before = self.lock().generation.clone();
        let loaded = Generation::load(&self.args, self.how, self.ram_bytes, Some(&before));
        self.metrics.count_reload(loaded.as_ref().err());
        let generation = Arc::new(loaded?);
        self.change(|state| state.generation = generation);
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut State)) -> u16 {
        let mut state = self.lock();
        let before = state.generation.rung(state.level).plan;
        change(&mut state);
        state.level = state.level.min(state.generation.lowest_level());
        let now = state.generation.rung(state.level).plan;
        if now != before {
            self.metrics.switches.fetch_add(1, Ordering::Relaxed);
        }
        self.version.fetch_add(1, Ordering::Release);
        now
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
