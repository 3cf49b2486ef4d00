//! Predicted Cortex-M4 instructions of a step. They rank plans and give a first guess of their latency; a board corrects them
//! with its own measurement.

use stitchkit_runtime::bundle::Op;
use stitchkit_runtime::profile::{LatencyModel, Work};

/// Predicted instructions of one step by [`LatencyModel::CORTEX_M4`].
#[must_use]
pub fn instructions(op: &Op) -> u64 {
    LatencyModel::CORTEX_M4.step_ps(&Work::of(op)) / 1000
}
