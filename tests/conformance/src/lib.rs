//! Kernel conformance: cases as data that run on any processor and must give the same bytes everywhere.
//!
//! A [`Case`] names an operator, its geometry and how its operands are generated from a seed. [`run_case`] generates them
//! in a caller's buffer, runs the kernel of one [`Isa`] and returns the FNV-1a hash of the output, to be compared with
//! the golden hash that [`cases`] lists. No case needs more than [`LARGEST_CASE_BYTES`], so a board with 16 KB of memory runs them all.
//!
//! Every operand lies between guard bytes and may start on an odd address, and scratch and output start out as
//! garbage: a kernel that writes outside its slices, expects alignment or relies on zeroed memory shows.
#![no_std]

mod case;
mod cases;
mod generate;
mod golden;
pub mod nor;
mod run;

pub use case::{
    Addition, Attending, Average, Bias, Case, Convolution, Form, HeadOrder, Norm, Op, Pooling, Scales, Values,
};
pub use cases::{CASES, cases};
pub use generate::{Operands, buffer_bytes, operands};
pub use run::{CaseError, Tally, execute, fnv1a, run_all, run_case};

pub use stitchkit_runtime::kernels::Isa;

/// Bytes of buffer that hold any case.
pub const LARGEST_CASE_BYTES: usize = 10 * 1024;
