//! What the firmware of every board here does: a camera-like loop whose deadline changes while it runs.
//!
//! Each frame has a deadline from a [`Schedule`]. When it changes, the runtime chooses again among the plans of the bundle and
//! the loop switches; no weight is copied. A trigger pin is high exactly while a plan runs, for a current probe or a logic
//! analyser. Frames are the bundle's golden vectors, so every frame also checks the board; a bundle without any gets a moving
//! pattern.
//!
//! A board brings a [`Clock`](stitchkit_runtime::board::Clock), an `OutputPin`, memory, and a [`Report`].
#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

#[cfg(feature = "cycle-counter")]
pub mod clock;
mod frames;
mod run;
mod schedule;

pub use run::{Board, Fault, Frame, Outcome, Report, run};
pub use schedule::{Deadline, Schedule};

/// A value on a 16-byte boundary.
#[repr(C, align(16))]
pub struct Aligned<T>(pub T);

/// Declares the bundle of `STITCHKIT_BUNDLE`, in flash on a 16-byte boundary and in a section of its own, as a `static` named
/// `BUNDLE`.
#[macro_export]
macro_rules! bundle_in_flash {
    () => {
        #[unsafe(link_section = ".bundle")]
        static BUNDLE: $crate::Aligned<[u8; include_bytes!(env!("STITCHKIT_BUNDLE")).len()]> =
            $crate::Aligned(*include_bytes!(env!("STITCHKIT_BUNDLE")));
    };
}

/// Implements [`Report`] for a new type `Log` that writes one defmt line per frame.
#[macro_export]
macro_rules! report_by_defmt {
    () => {
        struct Log;

        impl $crate::Report for Log {
            fn frame(&mut self, frame: &$crate::Frame<'_>) {
                defmt::info!(
                    "frame {}: {}, plan {} ({=str}), predicted {} us, took {} us, class {}, {}",
                    frame.number,
                    frame.deadline,
                    frame.plan,
                    frame.path,
                    frame.predicted_us,
                    frame.took_us,
                    frame.class,
                    frame.outcome
                );
            }
        }
    };
}
