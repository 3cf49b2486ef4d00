//! The whole device side in one value: a bundle, an arena, and the plan that serves best at the moment.
//!
//! ```no_run
//! use stitchkit_runtime::board::SystemClock;
//! use stitchkit_runtime::bundle::Check;
//! use stitchkit_runtime::exec::AlignedArena;
//! use stitchkit_runtime::profile::LatencyModel;
//! use stitchkit_runtime::runtime::Runtime;
//! use stitchkit_runtime::select::Limits;
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! static BUNDLE: &[u8] = &[]; // 16-byte aligned, in flash
//! let mut arena = AlignedArena::<{ 64 * 1024 }>::new();
//! let limits = Limits { deadline_us: Some(30_000), ..Limits::NONE };
//! let (mut runtime, report) = Runtime::boot(BUNDLE, Check::Full, arena.as_mut(), limits, LatencyModel::CORTEX_M4)?;
//! println!("plan {} of {:?}", report.choice().plan, report.verdicts());
//! let mut clock = SystemClock::default();
//! loop {
//!     runtime.input()?.fill(0); // the next image
//!     let answer = runtime.run(&mut clock)?; // measures, corrects, and chooses the plan of the next inference
//!     println!("{:?} {}", answer.logits, answer.record);
//! #   return Ok(());
//! }
//! # }
//! ```

mod boot;

pub use boot::{BootError, BootReport, MAX_VERDICTS};

use core::ops::Range;

use crate::adapt::{Controller, Record};
use crate::board::{Clock, ticks_to_us};
use crate::bundle::{Bundle, Check, Footprint, Route};
use crate::exec::{self, Arena, Cascade, ExecError, NoObserver};
use crate::kernels::Isa;
use crate::select::{Limits, Predict, Rung};

/// Serves inferences with the most accurate plan that memory and deadline allow, and adapts it after each one.
///
/// Lifetimes: `'a` of the arena, `'b` of the bundle's bytes.
#[derive(Debug)]
pub struct Runtime<'a, 'b> {
    bundle: Bundle<'b>,
    controller: Controller,
    /// The plan that `route` belongs to.
    plan: u16,
    route: Route<'b>,
    /// The lead that a cheap plan's answer must have to be taken; `None`: the chosen plan runs alone.
    least_lead: Option<u8>,
    /// The fastest plan before the chosen one, while there is time and memory for both.
    cascade: Option<Cascade<'b>>,
    arena: Arena<'a>,
    isa: Isa,
}

/// The answer to one inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'m> {
    /// Output of plan `record.plan`, int8.
    pub logits: &'m [i8],
    /// What the inference took, and was expected to take.
    pub record: Record,
}

impl<'a, 'b> Runtime<'a, 'b> {
    /// From bytes in flash to a plan ready to run: parses and checks the bundle, predicts the latency of every plan once, and
    /// chooses. The arena, a slice or an [`Arena`] in two memories, is the memory limit, unless `limits` is tighter.
    ///
    /// # Errors
    /// [`BootError`] if the bundle is refused, the arena is misaligned, or no plan meets the limits.
    pub fn boot(
        bytes: &'b [u8],
        check: Check,
        arena: impl Into<Arena<'a>>,
        limits: Limits,
        predict: impl Predict,
    ) -> Result<(Self, BootReport), BootError> {
        let bundle = Bundle::parse_with(bytes, check).map_err(BootError::Bundle)?;
        Self::start(bundle, arena, limits, predict)
    }

    /// As [`Runtime::boot`], with a bundle that is parsed already, for instance to [`probe`](crate::select::probe) the board.
    ///
    /// # Errors
    /// [`BootError::Arena`] or [`BootError::Select`].
    pub fn start(
        bundle: Bundle<'b>,
        arena: impl Into<Arena<'a>>,
        limits: Limits,
        predict: impl Predict,
    ) -> Result<(Self, BootReport), BootError> {
        let arena = arena.into();
        arena.check_alignment().map_err(BootError::Arena)?;
        exec::check_in_place(&bundle).map_err(BootError::Arena)?;
        let limits = within(limits, &arena);
        let (ladder, verdicts) = boot::survey(&bundle, limits, predict);
        let controller = Controller::new(&ladder, limits).map_err(|miss| boot::refused(&bundle, limits, miss))?;
        let rung = controller.rung();
        let route = bundle.route(rung.plan).ok_or(BootError::Arena(ExecError::Changed))?;
        let report = BootReport::new(&bundle, limits, rung, verdicts);
        let isa = Isa::best();
        let (plan, least_lead, cascade) = (rung.plan, None, None);
        Ok((Self { bundle, controller, plan, route, least_lead, cascade, arena, isa }, report))
    }

    /// Where the int8 input of the next inference goes, HWC. Fill it after limits were set and before [`Runtime::run`]: each
    /// plan has its own place for it, and running overwrites it.
    ///
    /// # Errors
    /// [`ExecError::ArenaTooSmall`] while the arena is given back, [`ExecError::Changed`] if the bundle was modified.
    pub fn input(&mut self) -> Result<&mut [i8], ExecError> {
        self.check_arena()?;
        let (route, footprint) = match &self.cascade {
            Some(cascade) => (cascade.input_route(), cascade.footprint()),
            None => (&self.route, self.route.footprint()),
        };
        exec::input_of(&self.bundle, route, self.arena.regions(footprint))
    }

    /// Runs the plan on the input, measures it on `clock`, and chooses the plan of the next inference.
    ///
    /// # Errors
    /// As [`Runtime::input`], and [`ExecError::Kernel`] if the bundle was modified.
    pub fn run(&mut self, clock: &mut impl Clock) -> Result<Answer<'_>, ExecError> {
        self.check_arena()?;
        let start = clock.now();
        let footprint = self.footprint();
        let (answered, output) = self.infer()?;
        let elapsed_us = ticks_to_us(clock.now().wrapping_sub(start), clock.hz());
        let record = match &self.cascade {
            Some(cascade) => self.controller.observe_after(cascade.cheap(), answered, elapsed_us),
            None => self.controller.observe(elapsed_us),
        };
        self.follow()?;
        let logits = self.arena.regions(footprint).take(&output).ok_or(ExecError::Changed)?;
        Ok(Answer { logits, record })
    }

    /// Changes the deadline from the next inference on; `None` for none. If no plan is expected to meet it, the fastest runs.
    ///
    /// # Errors
    /// [`ExecError::Changed`] if the bundle was modified after it was checked.
    pub fn set_deadline(&mut self, deadline_us: Option<u64>) -> Result<(), ExecError> {
        let limits = Limits { deadline_us, ..self.controller.limits() };
        // Memory is as before, so the limits cannot be refused.
        let _ = self.controller.set_limits(limits);
        self.follow()
    }

    /// From the next inference on the fastest plan in memory runs first, and the chosen one only where the best logit leads
    /// the second by fewer than `least_lead` int8 steps; `None` runs the chosen plan alone. Where the arena or the deadline
    /// has no room for both plans, the chosen one runs alone as well. See [`Cascade`] for what they share, and `stitchkit
    /// eval --cascade` for what a lead is worth.
    ///
    /// # Errors
    /// [`ExecError::Changed`] if the bundle was modified after it was checked.
    pub fn answer_early(&mut self, least_lead: Option<u8>) -> Result<(), ExecError> {
        self.least_lead = least_lead;
        self.follow()
    }

    /// Gives the arena back, to be split, grown or used for something else. Nothing runs until [`Runtime::use_arena`].
    #[must_use = "this is the arena"]
    pub fn release_arena(&mut self) -> Arena<'a> {
        core::mem::take(&mut self.arena)
    }

    /// Takes an arena of any size that some plan fits in, and chooses the plan for it: it is the new memory limit.
    ///
    /// # Errors
    /// [`BootError::Arena`] if it is misaligned, [`BootError::Select`] if no plan fits. The runtime then stays without arena.
    pub fn use_arena(&mut self, arena: impl Into<Arena<'a>>) -> Result<(), BootError> {
        let arena = arena.into();
        arena.check_alignment().map_err(BootError::Arena)?;
        let limits = within(Limits { ram_bytes: u32::MAX, ..self.controller.limits() }, &arena);
        self.controller.set_limits(limits).map_err(BootError::Select)?;
        self.arena = arena;
        self.follow().map_err(BootError::Arena)
    }

    /// The plan of the next inference.
    #[must_use]
    pub fn rung(&self) -> Rung {
        self.controller.rung()
    }

    /// What the adaptation knows.
    #[must_use]
    pub const fn controller(&self) -> &Controller {
        &self.controller
    }

    /// The bundle.
    #[must_use]
    pub const fn bundle(&self) -> &Bundle<'b> {
        &self.bundle
    }

    /// Runs the plan, or the cascade in force; returns the plan that answered and where its logits lie.
    fn infer(&mut self) -> Result<(u16, Range<usize>), ExecError> {
        match (&self.cascade, self.least_lead) {
            (Some(cascade), Some(lead)) => {
                let arena = self.arena.one_piece(cascade.arena_bytes());
                exec::run_cascade(self.isa, &self.bundle, cascade, arena, lead)
            }
            _ => {
                let steps = self.bundle.steps_on(&self.route);
                let mut memory = self.arena.regions(self.route.footprint());
                let output = exec::run_steps(self.isa, &self.bundle, steps, &mut memory, &mut NoObserver)?;
                Ok((self.plan, output))
            }
        }
    }

    /// Exchanges the route if another plan was chosen. Copies no weights.
    fn follow(&mut self) -> Result<(), ExecError> {
        let plan = self.controller.rung().plan;
        if plan != self.plan {
            self.route = self.bundle.route(plan).ok_or(ExecError::Changed)?;
            self.plan = plan;
        }
        if self.least_lead.is_some() || self.cascade.is_some() {
            self.follow_early();
        }
        Ok(())
    }

    /// Keeps, makes or drops the cascade that leads to the chosen plan.
    #[inline(never)]
    fn follow_early(&mut self) {
        let cheap = self.controller.fastest_rung().plan;
        if self.least_lead.is_none() || cheap == self.plan || !self.controller.has_time_after(cheap) {
            self.cascade = None;
            return;
        }
        let arena_bytes = self.arena_bytes();
        let suits = |held: &Cascade<'_>| {
            (held.cheap(), held.costly()) == (cheap, self.plan) && held.arena_bytes() <= arena_bytes
        };
        if !self.cascade.as_ref().is_some_and(suits) {
            self.cascade = Cascade::new(&self.bundle, cheap, self.plan, arena_bytes).ok();
        }
    }

    /// Bytes of arena in one piece at present, as far as the limits allow.
    fn arena_bytes(&self) -> u32 {
        let limits = self.controller.limits();
        self.arena.main_bytes().min(limits.ram_bytes).max(limits.fast_bytes)
    }

    /// What the next inference takes.
    fn footprint(&self) -> Footprint {
        self.cascade.as_ref().map_or(self.route.footprint(), Cascade::footprint)
    }

    fn check_arena(&self) -> Result<(), ExecError> {
        self.arena.check_size(self.footprint())
    }
}

/// `limits` that also end with the arena.
fn within(limits: Limits, arena: &Arena<'_>) -> Limits {
    Limits { ram_bytes: limits.ram_bytes.min(arena.main_bytes()), fast_bytes: arena.fast_bytes(), ..limits }
}
