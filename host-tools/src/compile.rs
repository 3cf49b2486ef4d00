//! From chosen candidates to a bundle: integer blocks stored once, an arena layout and a predicted cost for every plan.
//!
//! | module | purpose |
//! |---|---|
//! | [`bundle`] | the whole way from floats to [`BundleParts`](stitchkit_runtime::bundle::write::BundleParts) |
//! | [`merge`] | blocks that always run together become one |
//! | [`pool`] | constants stored once |
//! | [`filters`] | in which order weights are stored |
//! | [`memory`] | arena planner, for one memory and for two |
//! | [`accesses`] | how often each tensor is touched |
//! | [`cost`] | predicted Cortex-M4 instructions |

pub mod accesses;
pub mod bundle;
pub mod cost;
pub mod filters;
pub mod memory;
pub mod merge;
pub mod pool;

pub use bundle::{CompileError, Compiled, ExportOptions, compile, compile_calibrated};
