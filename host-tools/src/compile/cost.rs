//! Predicted Cortex-M4 instructions of a step. They rank plans and give a first guess of their latency; a board corrects them
//! with its own measurement.

use stitchkit_runtime::profile::{LatencyModel, Work};

use super::filters::FilterOrder;
use crate::quantize::integer::Kernel;

/// Predicted instructions of one step by [`LatencyModel::CORTEX_M4`].
#[must_use]
pub fn instructions(work: &Work) -> u64 {
    LatencyModel::CORTEX_M4.step_ps(work) / 1000
}

/// The work of one step with filters in this order.
#[must_use]
pub fn work(kernel: &Kernel, filters: FilterOrder) -> Work {
    let work = Work::of(&kernel.outline());
    if filters.weights(kernel).is_some() { work.woven() } else { work }
}
