//! How long plans take: measured once per load, corrected by every answer.

use std::sync::atomic::{AtomicU32, Ordering};

use stitchkit_runtime::bundle::{Bundle, Plan};
use stitchkit_runtime::select::Predict;

/// A slowdown of 1, in permille.
const NONE: u32 = 1000;
/// Most slowdown that predictions take into account, in permille.
const MOST: u32 = 16_000;
/// An answer moves the slowdown by one part in so many.
const INERTIA: u32 = 8;

/// Predicts from the time of each plan alone on the machine, times how much slower the last answers were. The factor is common
/// to all plans, so that a plan ruled out by a busy machine comes back when others run fast again.
#[derive(Debug)]
pub struct Times {
    plans: Vec<Measured>,
    slowdown_permille: AtomicU32,
}

/// One plan's time.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// [`Plan::stitch`], which tells plans of a bundle apart.
    pub stitch: u32,
    /// Nanoseconds of one inference.
    pub ns: u64,
}

impl Times {
    /// Predictions from these measurements; a plan without one is not chosen under a deadline.
    pub const fn new(plans: Vec<Measured>) -> Self {
        Self { plans, slowdown_permille: AtomicU32::new(NONE) }
    }

    /// How much slower than measured the last answers were, in permille.
    pub fn slowdown_permille(&self) -> u32 {
        self.slowdown_permille.load(Ordering::Relaxed)
    }

    /// Notes that an inference of a plan took so long.
    pub fn note(&self, plan: &Plan<'_>, took_us: u64) {
        if let Some(measured) = self.of(plan) {
            let permille = took_us.saturating_mul(1_000_000) / measured.ns.max(1);
            self.approach(u32::try_from(permille).unwrap_or(MOST));
        }
    }

    /// Notes that nothing could run in time. Without answers the slowdown would never be measured again; so it fades.
    pub fn note_none(&self) {
        self.approach(NONE);
    }

    fn approach(&self, permille: u32) {
        let permille = permille.clamp(NONE, MOST);
        let old = self.slowdown_permille();
        // The last part of the way is taken at once: steps of less than one would never arrive.
        let new = match old.abs_diff(permille) / INERTIA {
            0 => permille,
            step if permille > old => old + step,
            step => old - step,
        };
        // Losing one of two notes made at the same time does no harm.
        self.slowdown_permille.store(new, Ordering::Relaxed);
    }

    fn of(&self, plan: &Plan<'_>) -> Option<&Measured> {
        self.plans.iter().find(|measured| measured.stitch == plan.stitch)
    }
}

impl Predict for Times {
    fn plan_us(&self, _bundle: &Bundle<'_>, plan: &Plan<'_>) -> Option<u64> {
        let ns = self.of(plan)?.ns.saturating_mul(self.slowdown_permille().into());
        Some(ns.div_ceil(1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowdown_follows_answers_within_bounds_and_fades() {
        let times = Times::new(Vec::new());
        let settle = |permille| {
            for _ in 0..200 {
                times.approach(permille);
            }
            times.slowdown_permille()
        };
        assert_eq!(settle(3000), 3000);
        assert_eq!(settle(u32::MAX), MOST);
        assert_eq!(settle(1), NONE, "faster than measured is not counted on");
        times.approach(9000);
        assert_eq!(times.slowdown_permille(), 2000, "one slow answer moves it by an eighth");
        for _ in 0..200 {
            times.note_none();
        }
        assert_eq!(times.slowdown_permille(), NONE);
    }
}
