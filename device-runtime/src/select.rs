//! From limits and measurements to a plan.

mod probe;

pub use probe::{ProbeError, Speed, probe};

use core::fmt;

use heapless::Vec;

use crate::bundle::{Bundle, Plan};

/// What an inference may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of arena available.
    pub ram_bytes: u32,
    /// Time one inference may take.
    pub deadline_us: Option<u64>,
    /// Reserve kept below the deadline, in percent of it, because predictions err.
    pub margin_percent: u8,
}

impl Limits {
    /// No limit at all; a margin of 10 % should a deadline be set.
    pub const NONE: Self = Self { ram_bytes: u32::MAX, deadline_us: None, margin_percent: 10 };

    /// The deadline less its reserve.
    #[must_use]
    pub fn usable_us(&self) -> Option<u64> {
        let reserve = u64::from(self.margin_percent.min(100));
        self.deadline_us.map(|us| us - us / 100 * reserve - us % 100 * reserve / 100)
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
    /// Its accuracy, parts per million.
    pub accuracy_ppm: u32,
    /// Predicted time of one inference; `None` without a speed.
    pub latency_us: Option<u64>,
}

/// Why no plan fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SelectError {
    /// Every plan needs more memory.
    RamTooSmall {
        /// Smallest arena in the bundle.
        smallest_bytes: u32,
        /// Bytes available.
        available_bytes: u32,
    },
    /// Plans fit in memory, but none meets the deadline with its margin.
    DeadlineTooShort {
        /// Predicted time of the fastest plan that fits in memory.
        fastest_us: u64,
        /// The deadline less its margin.
        usable_us: u64,
    },
    /// A deadline was given but no speed to predict with.
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

/// Judges one plan.
#[must_use]
pub fn judge(plan: &Plan<'_>, limits: Limits, speed: Option<Speed>) -> Verdict {
    if plan.arena_bytes > limits.ram_bytes {
        return Verdict::TooMuchRam;
    }
    match (limits.usable_us(), speed) {
        (Some(usable), Some(speed)) if speed.predict_us(plan.cost) > usable => Verdict::TooSlow,
        (Some(_), None) => Verdict::TooSlow,
        _ => Verdict::Fits,
    }
}

/// The most accurate plan inside the limits; of equally accurate ones the cheapest.
///
/// # Errors
/// [`SelectError`] with the nearest miss.
pub fn select(bundle: &Bundle<'_>, limits: Limits, speed: Option<Speed>) -> Result<Choice, SelectError> {
    if limits.deadline_us.is_some() && speed.is_none() {
        return Err(SelectError::SpeedUnknown);
    }
    let mut best: Option<(u16, Plan<'_>)> = None;
    for (index, plan) in bundle.plans().enumerate() {
        if judge(&plan, limits, speed) != Verdict::Fits {
            continue;
        }
        if best.is_none_or(|(_, held)| is_better(&plan, &held)) {
            best = Some((index as u16, plan));
        }
    }
    let Some((index, plan)) = best else {
        let miss = nearest_miss(bundle, limits, speed);
        warning!("select: no plan fits {} bytes: {}", limits.ram_bytes, miss);
        return Err(miss);
    };
    let choice = Choice {
        plan: index,
        arena_bytes: plan.arena_bytes,
        accuracy_ppm: plan.accuracy_ppm,
        latency_us: speed.map(|s| s.predict_us(plan.cost)),
    };
    info!("select: {} of {} plans, {} bytes usable", choice, bundle.plan_count(), limits.ram_bytes);
    Ok(choice)
}

/// More accurate, or as accurate and cheaper.
fn is_better(plan: &Plan<'_>, held: &Plan<'_>) -> bool {
    (plan.accuracy_ppm, core::cmp::Reverse(plan.cost)) > (held.accuracy_ppm, core::cmp::Reverse(held.cost))
}

fn nearest_miss(bundle: &Bundle<'_>, limits: Limits, speed: Option<Speed>) -> SelectError {
    let smallest_bytes = bundle.plans().map(|p| p.arena_bytes).min().unwrap_or(0);
    if smallest_bytes > limits.ram_bytes {
        return SelectError::RamTooSmall { smallest_bytes, available_bytes: limits.ram_bytes };
    }
    let in_memory = bundle.plans().filter(|p| p.arena_bytes <= limits.ram_bytes);
    let fastest = in_memory.map(|p| p.cost).min().unwrap_or(0);
    SelectError::DeadlineTooShort {
        fastest_us: speed.map_or(0, |s| s.predict_us(fastest)),
        usable_us: limits.usable_us().unwrap_or(0),
    }
}

/// Most plans that [`ladder`] keeps.
pub const MAX_LADDER: usize = 32;

/// The plans worth switching between under a memory limit: by rising cost, each more accurate than the one before.
/// Holds the first [`MAX_LADDER`].
#[must_use]
pub fn ladder(bundle: &Bundle<'_>, ram_bytes: u32) -> Vec<u16, MAX_LADDER> {
    let mut rungs = Vec::new();
    let mut reached = None;
    for (index, plan) in bundle.plans().enumerate() {
        if plan.arena_bytes > ram_bytes || reached.is_some_and(|ppm| plan.accuracy_ppm <= ppm) {
            continue;
        }
        reached = Some(plan.accuracy_ppm);
        if rungs.push(index as u16).is_err() {
            break;
        }
    }
    rungs
}
