//! Everything a board reports about itself, in order.

use core::fmt;

use crate::board::{Clock, ClockError, check_clock};
use crate::bundle::{Bundle, crc32};
use crate::exec::ExecError;
#[cfg(not(feature = "std"))]
use crate::exec::Executor;
#[cfg(feature = "std")]
use crate::exec::Prepared;
use crate::kernels::Isa;

use super::probe::{ClassProbeError, probe_classes, weight_byte_ps};
use super::record::{RECORD_VERSION, Record, TickUnit};
use super::trace::trace;
use super::{BoardProfile, LatencyModel};

/// How a board measures itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measuring<'a> {
    /// What the board calls itself, without spaces.
    pub board: &'a str,
    /// What its ticks stand for.
    pub unit: TickUnit,
    /// Kernel variant to run.
    pub isa: Isa,
    /// Runs of every plan; of several the host takes the fastest.
    pub repetitions: u32,
}

/// Why a board cannot report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ReportError {
    /// The clock failed its self-test.
    Clock(ClockError),
    /// A plan could not run.
    Exec(ExecError),
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clock(error) => error.fmt(f),
            Self::Exec(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ReportError {}

/// Runs every plan of `bundle` that fits `arena`, then the board's own probe, and gives `sink` the lines of a report, the
/// first and the last included. `bytes` are those that `bundle` was parsed from. `free_bytes` is asked after the plans have
/// run, when the stack has been as deep as it gets, for the bytes free for an arena and for a bundle. With feature `std` plans run
/// with packed weights.
///
/// # Errors
/// [`ReportError`]; the report then lacks its end, which its reader notices.
pub fn report(
    (bytes, bundle): (&[u8], &Bundle<'_>),
    measuring: Measuring<'_>,
    arena: &mut [u8],
    clock: &mut impl Clock,
    free_bytes: impl FnOnce() -> (u32, u32),
    sink: &mut impl FnMut(Record<'_>),
) -> Result<(), ReportError> {
    check_clock(clock).map_err(ReportError::Clock)?;
    sink(Record::Start { version: RECORD_VERSION });
    sink(Record::Board(measuring.board));
    sink(Record::Kernels(measuring.isa.name()));
    sink(Record::Clock { hz: clock.hz(), unit: measuring.unit });
    let len_bytes = bundle.len_bytes();
    let crc = crc32(bytes.get(..len_bytes).unwrap_or_default());
    sink(Record::Bundle { bytes: len_bytes as u32, crc, plans: bundle.plan_count() });
    #[cfg(feature = "std")]
    let mut prepared = Prepared::new(bundle, measuring.isa);
    for plan in 0..bundle.plan_count() {
        let fits = bundle.plan(plan).is_some_and(|plan| plan.arena_bytes as usize <= arena.len());
        if !fits {
            continue;
        }
        #[cfg(feature = "std")]
        let executor = prepared.executor(plan, arena);
        #[cfg(not(feature = "std"))]
        let executor = Executor::with_isa(bundle, plan, arena, measuring.isa);
        let mut executor = executor.map_err(ReportError::Exec)?;
        for _ in 0..measuring.repetitions.max(1) {
            trace(&mut executor, clock, sink).map_err(ReportError::Exec)?;
        }
    }
    let (ram_bytes, flash_bytes) = free_bytes();
    sink(Record::Memory { ram_bytes, flash_bytes });
    own_profile(bundle, measuring.isa, arena, clock, (ram_bytes, flash_bytes), sink);
    sink(Record::End);
    Ok(())
}

/// What a product would find out at start. Not inlined: its stack is in use only here.
#[inline(never)]
fn own_profile(
    bundle: &Bundle<'_>,
    isa: Isa,
    arena: &mut [u8],
    clock: &mut impl Clock,
    (ram_bytes, flash_bytes): (u32, u32),
    sink: &mut impl FnMut(Record<'_>),
) {
    let start = clock.now();
    match own_model(bundle, isa, arena, clock) {
        Ok(model) => {
            let ticks = clock.now().wrapping_sub(start);
            let mut buffer = [0; BoardProfile::MAX_BYTES];
            let profile = BoardProfile { ram_bytes, flash_bytes, model };
            if let Some(postcard) = profile.to_bytes(&mut buffer) {
                sink(Record::Profile { ticks, postcard });
            }
        }
        Err(error) => sink(Record::NoProfile(error)),
    }
}

fn own_model(
    bundle: &Bundle<'_>,
    isa: Isa,
    arena: &mut [u8],
    clock: &mut impl Clock,
) -> Result<LatencyModel, ClassProbeError> {
    let weight_byte_ps = weight_byte_ps(bundle.weights(), arena, clock)?;
    let mut model = probe_classes(isa, bundle.weights(), arena, clock)?;
    model.weight_byte_ps = weight_byte_ps;
    Ok(model)
}
