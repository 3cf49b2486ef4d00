//! From limits and measurements to a plan.

mod ladder;
mod predict;
mod probe;

pub use ladder::{Ladder, MAX_RUNGS, Rung};
pub use predict::{Predict, Unmeasured};
pub use probe::{ProbeError, Speed, probe, probe_executor, probe_in};

use core::fmt;

use crate::bundle::{Bundle, Footprint, Plan};

/// What an inference may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of arena available, of the main memory where there are two.
    pub ram_bytes: u32,
    /// Bytes of arena available in a faster memory beside it; 0 where there is none. A [`Runtime`](crate::runtime::Runtime)
    /// takes this from its arena.
    pub fast_bytes: u32,
    /// Time one inference may take.
    pub deadline_us: Option<u64>,
    /// Reserve kept below the deadline, in percent of it, because predictions err.
    pub margin_percent: u8,
}

impl Limits {
    /// No limit at all; a margin of 10 % should a deadline be set.
    pub const NONE: Self = Self { ram_bytes: u32::MAX, fast_bytes: 0, deadline_us: None, margin_percent: 10 };

    /// True if what takes `footprint` fits the memory.
    #[must_use]
    pub const fn hold(&self, footprint: Footprint) -> bool {
        footprint.in_main(self.fast_bytes) <= self.ram_bytes
    }

    /// The deadline less its reserve.
    #[must_use]
    pub fn usable_us(&self) -> Option<u64> {
        let reserve = u32::from(self.margin_percent.min(100));
        let rest = |us: u32| us - us / 100 * reserve - us % 100 * reserve / 100;
        // Small processors divide 64 bits in hundreds of instructions.
        self.deadline_us.map(|us| match u32::try_from(us) {
            Ok(us) => rest(us).into(),
            Err(_) => us - us / 100 * u64::from(reserve) - us % 100 * u64::from(reserve) / 100,
        })
    }
}

/// The plan chosen, and what is expected of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Choice {
    /// Index of the plan.
    pub plan: u16,
    /// Bytes of arena it needs.
    pub arena_bytes: u32,
    /// How many of them lie in the fast memory, 0 where there is none.
    pub in_fast_bytes: u32,
    /// Its accuracy, parts per million.
    pub accuracy_ppm: u32,
    /// Predicted time of one inference; `None` where nothing is known about the board.
    pub latency_us: Option<u64>,
}

/// Why no plan fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SelectError {
    /// Every plan needs more memory.
    RamTooSmall {
        /// Least that a plan of the bundle takes, of the main memory where there are two.
        smallest_bytes: u32,
        /// Bytes available there.
        available_bytes: u32,
    },
    /// Plans fit in memory, but none meets the deadline with its margin.
    DeadlineTooShort {
        /// Predicted time of the fastest plan that fits in memory.
        fastest_us: u64,
        /// The deadline less its margin.
        usable_us: u64,
    },
    /// A deadline was given but nothing to predict with.
    SpeedUnknown,
}

impl fmt::Display for SelectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RamTooSmall { smallest_bytes, available_bytes } => {
                write!(f, "the smallest plan needs {smallest_bytes} bytes of arena, {available_bytes} are available")
            }
            Self::DeadlineTooShort { fastest_us, usable_us } => {
                write!(f, "the fastest plan that fits in memory needs {fastest_us} us, {usable_us} us are usable")
            }
            Self::SpeedUnknown => f.write_str("a deadline needs a measured or stated speed"),
        }
    }
}

impl core::error::Error for SelectError {}

/// How a plan stands against limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Verdict {
    /// It meets all limits.
    Fits,
    /// It needs more memory than available.
    TooMuchRam,
    /// It is predicted to miss the deadline with its margin.
    TooSlow,
}

/// Judges one plan. With a deadline and no prediction, a plan is too slow.
#[must_use]
pub fn judge(bundle: &Bundle<'_>, plan: &Plan<'_>, limits: Limits, predict: impl Predict) -> Verdict {
    if !limits.hold(plan.footprint()) {
        return Verdict::TooMuchRam;
    }
    if limits.deadline_us.is_none() {
        return Verdict::Fits;
    }
    judge_predicted(plan, limits, predict.plan_us(bundle, plan))
}

/// As [`judge`], with the prediction made already.
pub(crate) fn judge_predicted(plan: &Plan<'_>, limits: Limits, predicted_us: Option<u64>) -> Verdict {
    if !limits.hold(plan.footprint()) {
        return Verdict::TooMuchRam;
    }
    let Some(usable_us) = limits.usable_us() else { return Verdict::Fits };
    match predicted_us {
        Some(us) if us <= usable_us => Verdict::Fits,
        _ => Verdict::TooSlow,
    }
}

/// The most accurate plan inside the limits; of equally accurate ones the cheapest.
///
/// `predict` is a measured [`Speed`], a fitted [`LatencyModel`](crate::profile::LatencyModel), an `Option` of either, or
/// [`Unmeasured`].
///
/// # Errors
/// [`SelectError`] with the nearest miss.
pub fn select(bundle: &Bundle<'_>, limits: Limits, predict: impl Predict) -> Result<Choice, SelectError> {
    let mut best: Option<(u16, Plan<'_>)> = None;
    for (index, plan) in (0..).zip(bundle.plans()) {
        if judge(bundle, &plan, limits, &predict) != Verdict::Fits {
            continue;
        }
        if best.is_none_or(|(_, held)| is_better(&plan, &held)) {
            best = Some((index, plan));
        }
    }
    let Some((index, plan)) = best else {
        let miss = nearest_miss(bundle, limits, &predict);
        warning!("select: no plan fits {} bytes: {}", limits.ram_bytes, miss);
        return Err(miss);
    };
    let choice = Choice {
        plan: index,
        arena_bytes: plan.arena_bytes,
        in_fast_bytes: plan.footprint().in_fast(limits.fast_bytes),
        accuracy_ppm: plan.accuracy_ppm,
        latency_us: predict.plan_us(bundle, &plan),
    };
    info!("select: {} of {} plans, {} bytes usable", choice, bundle.plan_count(), limits.ram_bytes);
    Ok(choice)
}

/// More accurate, or as accurate and cheaper.
fn is_better(plan: &Plan<'_>, held: &Plan<'_>) -> bool {
    (plan.accuracy_ppm, core::cmp::Reverse(plan.cost)) > (held.accuracy_ppm, core::cmp::Reverse(held.cost))
}

fn nearest_miss(bundle: &Bundle<'_>, limits: Limits, predict: &impl Predict) -> SelectError {
    let smallest_bytes = bundle.plans().map(|p| p.footprint().in_main(limits.fast_bytes)).min().unwrap_or(0);
    if smallest_bytes > limits.ram_bytes {
        return SelectError::RamTooSmall { smallest_bytes, available_bytes: limits.ram_bytes };
    }
    let in_memory = bundle.plans().filter(|p| limits.hold(p.footprint()));
    match (in_memory.filter_map(|p| predict.plan_us(bundle, &p)).min(), limits.usable_us()) {
        (Some(fastest_us), Some(usable_us)) => SelectError::DeadlineTooShort { fastest_us, usable_us },
        _ => SelectError::SpeedUnknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_margin_is_kept_below_the_deadline() {
        let limits = |deadline_us, margin_percent| Limits { deadline_us, margin_percent, ..Limits::NONE };
        assert_eq!(limits(Some(1000), 10).usable_us(), Some(900));
        assert_eq!(limits(Some(7), 0).usable_us(), Some(7));
        assert_eq!(limits(Some(u64::MAX), 100).usable_us(), Some(0));
        assert_eq!(limits(None, 10).usable_us(), None);
    }
}
