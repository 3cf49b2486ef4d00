//! Arena planner: where each tensor of a plan lies, and how little memory any layout could need.
//!
//! Offset assignment is dynamic storage allocation, which is NP-hard; plans are short, so first fit over several orders
//! (as in "Efficient Memory Management for Deep Neural Net Inference", Pisarchyk and Lee 2020) followed by a bounded search
//! over orders nearly always meets the lower bound.

mod divided;
mod overlap;
mod problem;
mod search;

pub use divided::{Memories, plan_in};

use stitchkit_runtime::bundle::{Clearance, InPlace, Placement};

use super::accesses::Accesses;
use overlap::{Overlap, Solved};
use problem::Problem;

/// Alignment of every tensor and scratch area, in bytes.
pub const ALIGN_BYTES: u32 = 4;

/// What the planner knows of a step. Value 0 is the plan's input, value `i + 1` the output of step `i`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlatStep {
    /// Values it reads, one or two.
    pub inputs: Vec<usize>,
    /// Bytes of its output.
    pub output_bytes: u32,
    /// Bytes it needs besides, while it runs.
    pub scratch_bytes: u32,
    /// How its output may share memory with an input.
    pub in_place: InPlace,
    /// How far from its input its output must start to be written over it; `None` if both must lie apart.
    pub clearance: Option<Clearances>,
    /// How often its places are touched.
    pub accesses: Accesses,
}

/// How far from its input a step's output must start to be written over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clearances {
    /// In a few large parts.
    pub coarse: Clearance,
    /// In the smallest parts that are worth calling the kernel for.
    pub fine: Clearance,
}

/// Where everything lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Offset of the plan's input.
    pub input_offset: u32,
    /// Output and scratch of every step.
    pub placements: Vec<Placement>,
    /// Bytes of the arena, a multiple of [`ALIGN_BYTES`].
    pub arena_bytes: u32,
    /// No layout of these steps in this order, with outputs over inputs as here or not at all, can need less in one memory.
    pub lower_bound_bytes: u32,
    /// How many of the arena's first bytes are meant for a fast memory; see [`plan_in`].
    pub fast_bytes: u32,
}

/// Why steps cannot be laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// A step reads a value that does not exist yet.
    #[error("step {step} reads value {value}, which is not computed before it")]
    Order {
        /// The step.
        step: usize,
        /// The value.
        value: usize,
    },
    /// A step overwrites its second input, which is read again later or by the step itself.
    #[error("step {step} overwrites value {value}, which is still needed")]
    Overwritten {
        /// The step.
        step: usize,
        /// The value.
        value: usize,
    },
    /// The tensors do not fit 32-bit offsets.
    #[error("the plan needs more than 4 GiB of memory")]
    TooLarge,
}

/// Assigns offsets in one memory of any size.
///
/// # Errors
/// [`MemoryError`] if the steps are inconsistent or beyond 32 bits.
pub fn plan(input_bytes: u32, steps: &[FlatStep]) -> Result<Layout, MemoryError> {
    Ok(Solved::new(input_bytes, steps, Overlap::Never)?.arranged().1)
}

/// Most bytes in use during any one step: scratch, inputs, output and everything read later. A value that takes over an
/// input's memory counts once, one that may be written over an input as far as it reaches out of it. Independent of where
/// anything lies.
///
/// # Errors
/// As [`plan`].
pub fn lower_bound_bytes(input_bytes: u32, steps: &[FlatStep]) -> Result<u32, MemoryError> {
    Problem::new(input_bytes, steps, |step| steps[step].clearance.map(|c| c.fine))?.lower_bound()
}

#[cfg(test)]
mod tests;
