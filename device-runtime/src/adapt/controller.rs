//! Which plan runs next.

use heapless::Vec;

use super::Record;
use super::slowdown::{Factor, MOST_HOLD, Outcome, Slowdown};
use crate::bundle::Footprint;
use crate::select::{Ladder, Limits, MAX_RUNGS, Rung, SelectError};

/// Largest penalty of a plan, times 1.
const MOST_PENALTY: u32 = 4;

/// Chooses a plan for every inference; see the [module](super) for the law. Needs no bundle and no clock: it can be simulated.
#[derive(Debug, Clone)]
pub struct Controller {
    steps: Vec<Step, MAX_RUNGS>,
    limits: Limits,
    slowdown: Slowdown,
    /// Most microseconds that a plan may be expected to take without slowdown.
    budget_us: u32,
    current: u8,
    /// The step that ran before the current one, if that has not run yet.
    came_from: Option<u8>,
    last_outcome: Outcome,
    /// Inferences since penalties were last reduced.
    since_relief: u16,
    inference: u32,
}

/// A rung and what experience adds to it.
#[derive(Debug, Clone, Copy)]
struct Step {
    rung: Rung,
    penalty: Factor,
    /// Predicted time with penalty.
    expected_us: u32,
}

impl Controller {
    /// Starts on the plan that the predictions choose.
    ///
    /// # Errors
    /// [`SelectError`] if no plan fits in memory, or none is predicted to meet the deadline.
    pub fn new(ladder: &Ladder, limits: Limits) -> Result<Self, SelectError> {
        let mut steps = Vec::new();
        for rung in ladder.rungs() {
            // As long as the ladder at most.
            let _ = steps.push(Step { rung: *rung, penalty: Factor::ONE, expected_us: rung.latency_us });
        }
        let mut controller = Self {
            steps,
            limits,
            slowdown: Slowdown::new(),
            budget_us: u32::MAX,
            current: 0,
            came_from: None,
            last_outcome: Outcome::Met,
            since_relief: 0,
            inference: 0,
        };
        controller.set_limits(limits)?;
        controller.came_from = None;
        controller.ensure_predicted()?;
        Ok(controller)
    }

    /// The plan of the next inference.
    #[must_use]
    pub fn rung(&self) -> Rung {
        const NOTHING: Footprint = Footprint { arena_bytes: u32::MAX, fast_bytes: 0 };
        const NONE: Rung = Rung { plan: 0, footprint: NOTHING, accuracy_ppm: 0, latency_us: 0 };
        self.steps.get(usize::from(self.current)).map_or(NONE, |step| step.rung)
    }

    /// The fastest plan in memory.
    #[must_use]
    pub fn fastest_rung(&self) -> Rung {
        self.steps.get(usize::from(self.fastest())).map_or_else(|| self.rung(), |step| step.rung)
    }

    /// Whether `before` and then the plan of the next inference are expected to meet the deadline together.
    #[must_use]
    pub fn has_time_after(&self, before: u16) -> bool {
        let both_us = self.expected_us(before).saturating_add(self.expected_us(self.rung().plan));
        self.limits.deadline_us.is_none() || both_us <= self.budget_us
    }

    /// The limits in force.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// How much slower than predicted the board is at present.
    #[must_use]
    pub const fn slowdown(&self) -> Factor {
        self.slowdown.level()
    }

    /// Predicted time of the next inference with all corrections.
    #[must_use]
    pub fn predicted_us(&self) -> u32 {
        let expected_us = self.steps.get(usize::from(self.current)).map_or(0, |step| step.expected_us);
        self.slowdown.level().scale_us(expected_us)
    }

    /// Changes the limits from the next inference on. If no plan is predicted to meet a deadline, the fastest runs.
    ///
    /// # Errors
    /// [`SelectError::RamTooSmall`] if no plan fits in memory; then the limits stay as they were.
    pub fn set_limits(&mut self, limits: Limits) -> Result<(), SelectError> {
        let in_main = |step: &Step| step.rung.footprint.in_main(limits.fast_bytes);
        let smallest_bytes = self.steps.iter().map(in_main).min().unwrap_or(u32::MAX);
        if smallest_bytes > limits.ram_bytes {
            return Err(SelectError::RamTooSmall { smallest_bytes, available_bytes: limits.ram_bytes });
        }
        self.limits = limits;
        self.choose();
        Ok(())
    }

    /// Takes the measured time of the inference that just ran and chooses the next plan.
    pub fn observe(&mut self, observed_us: u64) -> Record {
        let observed_us = u32::try_from(observed_us).unwrap_or(u32::MAX);
        let record = self.record(self.rung().plan, self.predicted_us(), observed_us);
        self.learn(observed_us);
        self.relieve();
        self.choose();
        record
    }

    /// As [`observe`](Self::observe), of an inference that ran plan `before` first, and the current one only if `answered`
    /// says so. Work that both share counts twice in what was expected, which is on the safe side.
    pub fn observe_after(&mut self, before: u16, answered: u16, observed_us: u64) -> Record {
        let observed_us = u32::try_from(observed_us).unwrap_or(u32::MAX);
        let rest_us = if answered == before { 0 } else { self.expected_us(self.rung().plan) };
        let expected_us = self.expected_us(before).saturating_add(rest_us);
        let record = self.record(answered, self.slowdown.level().scale_us(expected_us), observed_us);
        self.came_from = None;
        self.slowdown.observe(Factor::ratio(observed_us, expected_us), self.last_outcome);
        self.relieve();
        self.choose();
        record
    }

    /// What happened, counted.
    fn record(&mut self, plan: u16, predicted_us: u32, observed_us: u32) -> Record {
        let missed = self.limits.deadline_us.is_some_and(|deadline_us| u64::from(observed_us) > deadline_us);
        let (inference, deadline_us) = (self.inference, self.limits.deadline_us);
        self.inference = inference.wrapping_add(1);
        self.last_outcome = if missed { Outcome::Missed } else { Outcome::Met };
        Record { inference, deadline_us, plan, predicted_us, observed_us, slowdown: self.slowdown.level(), missed }
    }

    /// Predicted time of a plan with its penalty, without slowdown; 0 if it is none of the ladder's.
    fn expected_us(&self, plan: u16) -> u32 {
        self.steps.iter().find(|step| step.rung.plan == plan).map_or(0, |step| step.expected_us)
    }

    /// A deadline without predictions cannot be kept, nor one that every plan is predicted to miss.
    fn ensure_predicted(&self) -> Result<(), SelectError> {
        let Some(usable_us) = self.limits.usable_us() else { return Ok(()) };
        match u64::from(self.rung().latency_us) {
            0 => Err(SelectError::SpeedUnknown),
            fastest_us if fastest_us > usable_us => Err(SelectError::DeadlineTooShort { fastest_us, usable_us }),
            _ => Ok(()),
        }
    }

    /// Tells a slowdown of everything from a plan that is slower than predicted.
    fn learn(&mut self, observed_us: u32) {
        let came_from = self.came_from.take().and_then(|index| self.steps.get(usize::from(index)).copied());
        let Some(step) = self.steps.get_mut(usize::from(self.current)) else { return };
        let ratio = Factor::ratio(observed_us, step.expected_us);
        let moved_to_slower = came_from.is_some_and(|from| from.rung.latency_us < step.rung.latency_us);
        let before = self.slowdown.newest();
        let is_comparable = moved_to_slower && self.slowdown.is_settled();
        let worse = ratio.less_an_eighth() > before;
        let better = ratio < before.less_an_eighth() && step.penalty > Factor::ONE;
        if is_comparable && (worse || better) {
            let most = Factor::ratio(MOST_PENALTY, 1);
            step.penalty = step.penalty.times(ratio, before).clamp(Factor::ONE, most);
            step.expected_us = step.penalty.scale_us(step.rung.latency_us);
            // Should the load have risen just then, the next inference will say so.
            self.slowdown.observe(ratio, Outcome::Met);
        } else {
            self.slowdown.observe(ratio, self.last_outcome);
        }
    }

    /// From time to time halves what is held against plans that do not run.
    fn relieve(&mut self) {
        self.since_relief += 1;
        if self.since_relief < MOST_HOLD {
            return;
        }
        self.since_relief = 0;
        for (index, step) in (0..).zip(self.steps.iter_mut()) {
            if index != self.current && step.penalty > Factor::ONE {
                step.penalty = step.penalty.halfway_to_one();
                step.expected_us = step.penalty.scale_us(step.rung.latency_us);
            }
        }
    }

    fn choose(&mut self) {
        self.budget_us =
            self.limits.usable_us().map_or(u32::MAX, |usable_us| self.slowdown.level().unscale_us(usable_us));
        let next = match self.last_outcome {
            Outcome::Met => self.best(),
            Outcome::Missed => self.fastest(),
        };
        if next != self.current {
            self.came_from = self.came_from.or(Some(self.current));
            self.current = next;
        }
    }

    /// The most accurate step within memory and budget, else the fastest in memory.
    fn best(&self) -> u8 {
        let fits = |step: &Step| self.limits.hold(step.rung.footprint) && step.expected_us <= self.budget_us;
        let found = self.steps.iter().rposition(fits);
        found.map_or_else(|| self.fastest(), |index| index as u8)
    }

    #[cfg(test)]
    pub(super) fn has_no_penalty(&self) -> bool {
        self.steps.iter().all(|step| step.penalty == Factor::ONE)
    }

    fn fastest(&self) -> u8 {
        let in_memory = (0..).zip(&self.steps).filter(|(_, step)| self.limits.hold(step.rung.footprint));
        in_memory.min_by_key(|(_, step)| step.rung.latency_us).map_or(self.current, |(index, _)| index)
    }
}
