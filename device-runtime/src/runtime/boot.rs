//! Why a plan was chosen at boot, or none.

use core::fmt;

use heapless::Vec;

use crate::bundle::{Bundle, BundleError};
use crate::exec::ExecError;
use crate::select::{Choice, Ladder, Limits, Predict, Rung, SelectError, Verdict, judge_predicted};

/// Most plans that a [`BootReport`] judges; further ones are only counted.
pub const MAX_VERDICTS: usize = 64;

/// Why the device cannot serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum BootError {
    /// The bundle is damaged or not for this runtime.
    Bundle(BundleError),
    /// The arena is misaligned.
    Arena(ExecError),
    /// No plan meets the limits.
    Select(SelectError),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundle(error) => error.fmt(f),
            Self::Arena(error) => error.fmt(f),
            Self::Select(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for BootError {}

/// The choice made at boot and how every plan stood.
#[derive(Debug, Clone)]
pub struct BootReport {
    choice: Choice,
    verdicts: Verdicts,
}

type Verdicts = Vec<Verdict, MAX_VERDICTS>;

/// Surveys the plans: the ladder of those worth switching between, and a verdict on each.
pub(super) fn survey(bundle: &Bundle<'_>, limits: Limits, predict: impl Predict) -> (Ladder, Verdicts) {
    let mut verdicts = Verdicts::new();
    let ladder = Ladder::survey(bundle, predict, |plan, predicted_us| {
        // A full list takes no further verdict.
        let _ = verdicts.push(judge_predicted(plan, limits, predicted_us));
    });
    (ladder, verdicts)
}

impl BootReport {
    pub(super) fn new(bundle: &Bundle<'_>, limits: Limits, rung: Rung, verdicts: Verdicts) -> Self {
        let Rung { plan, footprint, accuracy_ppm, latency_us } = rung;
        let latency_us = (latency_us > 0).then_some(u64::from(latency_us));
        let in_fast_bytes = footprint.in_fast(limits.fast_bytes);
        let choice = Choice { plan, arena_bytes: footprint.arena_bytes, in_fast_bytes, accuracy_ppm, latency_us };
        info!("boot: {} of {} plans, {} bytes usable", choice, bundle.plan_count(), limits.ram_bytes);
        let report = Self { choice, verdicts };
        report.log();
        report
    }

    /// The plan chosen, and what is expected of it.
    #[must_use]
    pub const fn choice(&self) -> Choice {
        self.choice
    }

    /// How each of the first [`MAX_VERDICTS`] plans stands against the limits, by plan.
    #[must_use]
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    fn log(&self) {
        for (plan, verdict) in self.verdicts.iter().enumerate() {
            info!("boot: plan {}: {}", plan, verdict);
        }
    }
}

/// The error for a refusal, logged with the limits that caused it.
pub(super) fn refused(bundle: &Bundle<'_>, limits: Limits, miss: SelectError) -> BootError {
    warning!("boot: none of {} plans fits {} bytes: {}", bundle.plan_count(), limits.ram_bytes, miss);
    BootError::Select(miss)
}
