//! Measuring a board's speed by running the cheapest plan.

use core::fmt;

use crate::board::{Clock, ClockError, check_clock, ticks_to_us};
use crate::bundle::Bundle;
use crate::exec::{Arena, ExecError, Executor};
use crate::kernels::Isa;

/// How fast a board works through [`Plan::cost`](crate::bundle::Plan::cost).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Speed {
    /// Cost units per second: instructions per second of a Cortex-M4 that would be as fast.
    pub cost_per_second: u64,
}

impl Speed {
    /// Predicted time for `cost` units, rounded up and saturating.
    #[must_use]
    pub fn predict_us(self, cost: u64) -> u64 {
        let per_second = self.cost_per_second.max(1);
        let whole = (cost / per_second).saturating_mul(1_000_000);
        whole.saturating_add((cost % per_second).saturating_mul(1_000_000).div_ceil(per_second))
    }
}

/// Why a speed could not be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ProbeError {
    /// The clock failed its self-test.
    Clock(ClockError),
    /// The probe could not run.
    Exec(ExecError),
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clock(error) => error.fmt(f),
            Self::Exec(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ProbeError {}

/// Ticks below which a measurement is repeated, because the clock's resolution would show.
const ENOUGH_TICKS: u64 = 256;
/// Most repetitions.
const MOST_RUNS: u32 = 1024;

/// Times the cheapest plan that fits `arena` on `clock` and returns the speed it implies.
///
/// # Errors
/// [`ProbeError`] if the clock does not run or no plan fits the arena.
pub fn probe(bundle: &Bundle<'_>, arena: &mut [u8], clock: &mut impl Clock) -> Result<Speed, ProbeError> {
    probe_in(bundle, arena.into(), clock)
}

/// As [`probe`], in an arena that may lie in two memories.
///
/// # Errors
/// As [`probe`].
pub fn probe_in(bundle: &Bundle<'_>, arena: Arena<'_>, clock: &mut impl Clock) -> Result<Speed, ProbeError> {
    check_clock(clock).map_err(ProbeError::Clock)?;
    let fits = |index: &u16| bundle.route(*index).is_some_and(|route| arena.check_size(route.footprint()).is_ok());
    let plan = (0..bundle.plan_count()).find(fits).unwrap_or(0);
    let mut executor = Executor::with_arena(bundle, plan, arena, Isa::best()).map_err(ProbeError::Exec)?;
    time(&mut executor, clock)
}

/// As [`probe`], with the plan and the kernels of `executor`: for products that run packed weights.
///
/// # Errors
/// [`ProbeError`] if the clock does not run.
pub fn probe_executor(executor: &mut Executor<'_, '_>, clock: &mut impl Clock) -> Result<Speed, ProbeError> {
    check_clock(clock).map_err(ProbeError::Clock)?;
    time(executor, clock)
}

fn time(executor: &mut Executor<'_, '_>, clock: &mut impl Clock) -> Result<Speed, ProbeError> {
    run_once(executor)?;
    let start = clock.now();
    let mut runs = 0u32;
    let mut ticks = 0;
    while ticks < ENOUGH_TICKS && runs < MOST_RUNS {
        run_once(executor)?;
        runs += 1;
        ticks = clock.now().wrapping_sub(start);
    }
    let cost = executor.plan().map_or(0, |plan| plan.cost);
    let work = cost.saturating_mul(u64::from(runs));
    let elapsed_us = ticks_to_us(ticks, clock.hz()).max(1);
    let speed = Speed { cost_per_second: work.saturating_mul(1_000_000) / elapsed_us };
    info!("probe: plan {} ran {} times in {} us: {}", executor.plan_index(), runs, elapsed_us, speed);
    Ok(speed)
}

fn run_once(executor: &mut Executor<'_, '_>) -> Result<(), ProbeError> {
    executor.input().map_err(ProbeError::Exec)?.fill(0);
    executor.run().map_err(ProbeError::Exec)?;
    Ok(())
}
