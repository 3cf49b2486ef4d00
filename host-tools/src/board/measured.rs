//! Measurements of a board joined with the bundle they were taken on.

use stitchkit_runtime::bundle::{Bundle, crc32};
use stitchkit_runtime::profile::{LatencyModel, Work};

use super::protocol::Session;

/// One plan that ran.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredPlan {
    /// Bundle and plan, for people.
    pub name: String,
    /// Picoseconds of a whole inference.
    pub ps: u64,
    /// Its steps, in order.
    pub steps: Vec<MeasuredStep>,
}

/// One step that ran.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredStep {
    /// What it does.
    pub work: Work,
    /// Picoseconds it took.
    pub ps: u64,
    /// The operator and its extents, for people.
    pub name: String,
}

/// Why measurements and bundle do not belong together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// The board ran another bundle.
    #[error(
        "the board ran another bundle ({found} bytes, CRC-32 {crc:#010x}) than the one given; give it with --bundle"
    )]
    OtherBundle {
        /// Length of the board's bundle.
        found: u32,
        /// Its checksum.
        crc: u32,
    },
    /// The board could run no plan.
    #[error("no plan of {bundle} fits the board's memory")]
    NoPlan {
        /// Name of the bundle.
        bundle: String,
    },
    /// A plan was reported in part.
    #[error("the board reported {found} of {expected} steps of plan {plan}")]
    Steps {
        /// The plan.
        plan: u16,
        /// Steps it has.
        expected: usize,
        /// Steps reported.
        found: usize,
    },
}

/// True if this is the bundle that the board ran.
#[must_use]
pub fn is_of(session: &Session, bundle: &[u8]) -> bool {
    session.bundle == (bundle.len() as u32, crc32(bundle))
}

/// Joins what a board reported with the bundle it ran. Of repetitions the fastest counts: what else runs on a board only
/// makes them longer, and adapting is the runtime's.
///
/// # Errors
/// [`MeasureError`].
pub fn join(session: &Session, bytes: &[u8], bundle: &Bundle<'_>) -> Result<Vec<MeasuredPlan>, MeasureError> {
    if !is_of(session, bytes) {
        let (found, crc) = session.bundle;
        return Err(MeasureError::OtherBundle { found, crc });
    }
    let mut plans = Vec::new();
    for (index, plan) in (0u16..).zip(bundle.plans()) {
        let Some(total) = session.plans.get(&index) else { continue };
        let mut steps = Vec::new();
        let expected = bundle.steps_of(&plan).count();
        for (ordinal, placed) in (0u16..).zip(bundle.steps_of(&plan)) {
            let Some(ticks) = session.steps.get(&(index, ordinal)) else {
                return Err(MeasureError::Steps { plan: index, expected, found: steps.len() });
            };
            let (op, work) = (&placed.step.op, Work::of_placed(bundle, &placed));
            let (from, to) = (op.input(), op.output());
            let name = format!("{} {}x{}x{} to {}x{}x{}", op.name(), from.h, from.w, from.c, to.h, to.w, to.c);
            steps.push(MeasuredStep { work, ps: ps(session, ticks), name });
        }
        plans.push(MeasuredPlan {
            name: format!("{} {}", bundle.meta().name, plan.path),
            ps: ps(session, total),
            steps,
        });
    }
    if plans.is_empty() {
        return Err(MeasureError::NoPlan { bundle: bundle.meta().name.to_owned() });
    }
    Ok(plans)
}

fn ps(session: &Session, ticks: &[u64]) -> u64 {
    let least = ticks.iter().min().copied().unwrap_or(0);
    let ps = u128::from(least) * 1_000_000_000_000 / u128::from(session.clock_hz.max(1));
    u64::try_from(ps).unwrap_or(u64::MAX)
}

impl MeasuredPlan {
    /// Picoseconds that a model predicts for the plan.
    #[must_use]
    pub fn predicted_ps(&self, model: &LatencyModel) -> u64 {
        self.steps.iter().fold(0, |sum, step| sum.saturating_add(model.step_ps(&step.work)))
    }

    /// Prediction error in percent of the measured latency; positive if the prediction is too long.
    #[must_use]
    pub fn error_percent(&self, model: &LatencyModel) -> f64 {
        (self.predicted_ps(model) as f64 / self.ps.max(1) as f64 - 1.0) * 100.0
    }
}
