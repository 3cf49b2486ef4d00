//! How long plans take on the idle machine, measured once per load.

use std::sync::atomic::{AtomicU32, Ordering};

use stitchkit_runtime::adapt::Factor;
use stitchkit_runtime::bundle::{Bundle, Plan};
use stitchkit_runtime::select::Predict;

/// Predicts the time of each plan alone on the machine, and knows how much slower answers were last.
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
        Self { plans, slowdown_permille: AtomicU32::new(1000) }
    }

    /// How much slower than measured the thread that answered last finds the machine, in permille.
    pub fn slowdown_permille(&self) -> u32 {
        self.slowdown_permille.load(Ordering::Relaxed)
    }

    /// Notes how much slower than measured a thread finds the machine.
    pub fn note(&self, slowdown: Factor) {
        self.slowdown_permille.store(slowdown.thousandths(), Ordering::Relaxed);
    }
}

impl Predict for Times {
    fn plan_us(&self, _bundle: &Bundle<'_>, plan: &Plan<'_>) -> Option<u64> {
        let measured = self.plans.iter().find(|measured| measured.stitch == plan.stitch)?;
        Some(measured.ns.div_ceil(1000))
    }
}
