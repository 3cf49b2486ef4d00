//! Looking at a run from outside.

use crate::bundle::PlacedStep;

/// A step that has just run.
#[derive(Debug, Clone)]
pub struct StepReport<'a> {
    /// Position in the plan, from 0.
    pub ordinal: u16,
    /// The step and where its tensors lie.
    pub placed: &'a PlacedStep,
    /// Its int8 output.
    pub output: &'a [i8],
}

/// Called around every step of [`Executor::run_observed`](super::Executor::run_observed).
pub trait Observer {
    /// Called before a step runs.
    fn before(&mut self, _placed: &PlacedStep) {}
    /// Called after a step ran.
    fn after(&mut self, report: StepReport<'_>);
}

/// Observes nothing and costs nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn after(&mut self, _report: StepReport<'_>) {}
}

impl<F: FnMut(StepReport<'_>)> Observer for F {
    fn after(&mut self, report: StepReport<'_>) {
        self(report);
    }
}
