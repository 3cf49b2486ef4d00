//! Runtime for stitched int8 networks: reads a bundle in place, picks the plan that fits the board,
//! runs it in a caller's arena. `no_std`, no allocation, no panics.
//!
//! Layers, bottom up; each knows only those above it in this list:
//!
//! | module | purpose |
//! |---|---|
//! | [`kernels`] | int8 operators on slices; a scalar reference and ISA variants that equal it bit for bit |
//! | [`storage`] | bytes that are not mapped into memory: SPI NOR flash, any `embedded-storage` driver |
//! | [`bundle`] | the file format: records, checked view, (with `std`) writer |
//! | [`exec`] | the step loop over an arena, with constants in place or streamed from storage |
//! | [`profile`] | a board in numbers: memory, latency of every class of step |
//! | [`select`] | limits and measurements to a plan |
//! | [`board`] | what the runtime asks of a board: a clock, a trigger pin |
//! | [`adapt`] | measured inferences to the next plan |
//! | [`runtime`] | all of it in one value: boot, serve, adapt |
//! | `tract` (feature) | the same plans as tract-core models |
//!
//! Features `op-*`, all on by default, are the operators that are built in ([`bundle::operators`]); `two-memories`, on by default,
//! lets an arena lie in a fast and a main memory ([`exec::Arena`]); `overlap`, on by default, lets steps write their output over
//! their input; `std` brings what hosts need, `threads` (on Linux)
//! `exec::ThreadedExecutor`, which spreads one inference over several threads.
//!
//! ```no_run
//! use stitchkit_runtime::{bundle::Bundle, exec::{AlignedArena, Executor}, select::{Limits, Unmeasured, select}};
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! static BUNDLE: &[u8] = &[]; // 16-byte aligned, in flash
//! let bundle = Bundle::parse(BUNDLE)?;
//! let plan = select(&bundle, Limits { ram_bytes: 64 * 1024, ..Limits::NONE }, Unmeasured)?.plan;
//! let mut arena = AlignedArena::<{ 64 * 1024 }>::new();
//! let mut executor = Executor::new(&bundle, plan, arena.as_mut())?;
//! executor.input()?.fill(0);
//! let logits: &[i8] = executor.run()?;
//! # Ok(()) }
//! ```
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![warn(missing_docs)]

#[cfg(not(target_endian = "little"))]
compile_error!("stitchkit bundles are read in place and are little-endian; this target is big-endian");

#[macro_use]
mod fmt;

pub mod adapt;
pub mod board;
pub mod bundle;
pub mod exec;
pub mod kernels;
pub mod profile;
pub mod runtime;
pub mod select;
pub mod storage;
#[cfg(feature = "tract")]
pub mod tract;
