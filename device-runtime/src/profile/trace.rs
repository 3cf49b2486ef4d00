//! Timing plans and their steps.

use crate::board::Clock;
use crate::exec::{ExecError, Executor, Observer, StepReport};

use super::record::Record;

/// Runs the executor's plan on an input of zeros: once to warm up, once for [`Record::Plan`], once for a
/// [`Record::Step`] per step. Time that `sink` takes is not counted.
///
/// # Errors
/// [`ExecError`] as [`Executor::run`] gives it.
pub fn trace(
    executor: &mut Executor<'_, '_>,
    clock: &mut impl Clock,
    sink: &mut impl FnMut(Record<'_>),
) -> Result<(), ExecError> {
    let plan = executor.plan_index();
    executor.input()?.fill(0);
    executor.run()?;
    let overhead = reading_ticks(clock);
    executor.input()?.fill(0);
    let start = clock.now();
    executor.run()?;
    let ticks = clock.now().wrapping_sub(start);
    sink(Record::Plan { plan, ticks: ticks.saturating_sub(overhead) });
    executor.input()?.fill(0);
    let mut steps = Steps { plan, clock, sink, overhead, start: 0 };
    steps.start = steps.clock.now();
    executor.run_observed(&mut steps)?;
    Ok(())
}

/// Least ticks between two readings of the clock.
pub(super) fn reading_ticks(clock: &mut impl Clock) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..8 {
        let start = clock.now();
        least = least.min(clock.now().wrapping_sub(start));
    }
    least
}

/// Reports from the end of one step to the end of the next.
struct Steps<'a, C, S> {
    plan: u16,
    clock: &'a mut C,
    sink: &'a mut S,
    overhead: u64,
    start: u64,
}

impl<C: Clock, S: FnMut(Record<'_>)> Observer for Steps<'_, C, S> {
    fn after(&mut self, report: StepReport<'_>) {
        let ticks = self.clock.now().wrapping_sub(self.start).saturating_sub(self.overhead);
        (self.sink)(Record::Step { plan: self.plan, ordinal: report.ordinal, ticks });
        self.start = self.clock.now();
    }
}
