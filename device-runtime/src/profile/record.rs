//! What a board reports about itself: one record per line of text, for a console, a serial line or a pipe.
//!
//! Every line starts with `@`, so that a log may run in between. `host-tools/docs/adding-a-board.md` lists the lines.

use core::fmt;

use super::probe::ClassProbeError;

/// Version of the lines; a host refuses others.
pub const RECORD_VERSION: u16 = 2;

/// What a tick stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TickUnit {
    /// Time that passed on the board.
    Time,
    /// Instructions counted by an emulator.
    Instructions,
}

impl TickUnit {
    /// Name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Instructions => "instructions",
        }
    }
}

/// One line. `Display` writes it without a line end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record<'a> {
    /// The first line.
    Start {
        /// [`RECORD_VERSION`].
        version: u16,
    },
    /// What the board calls itself.
    Board(&'a str),
    /// The kernel variant in use.
    Kernels(&'a str),
    /// How ticks are to be read.
    Clock {
        /// Ticks per second.
        hz: u32,
        /// What they count.
        unit: TickUnit,
    },
    /// What the board has free.
    Memory {
        /// Bytes for an arena.
        ram_bytes: u32,
        /// Bytes for a bundle.
        flash_bytes: u32,
    },
    /// The bundle that the following steps and plans belong to.
    Bundle {
        /// Its length.
        bytes: u32,
        /// CRC-32 over all of it.
        crc: u32,
        /// Its plans.
        plans: u16,
    },
    /// Ticks of one step, decoding its record included.
    Step {
        /// Plan.
        plan: u16,
        /// Position in the plan, from 0.
        ordinal: u16,
        /// Ticks taken.
        ticks: u64,
    },
    /// Ticks of one inference that was not observed step by step.
    Plan {
        /// Plan.
        plan: u16,
        /// Ticks taken.
        ticks: u64,
    },
    /// The board's own [`BoardProfile`](super::BoardProfile), as postcard, and what finding it out took.
    Profile {
        /// Ticks taken.
        ticks: u64,
        /// [`BoardProfile::to_bytes`](super::BoardProfile::to_bytes).
        postcard: &'a [u8],
    },
    /// Why there is no profile of its own; a line that readers skip.
    NoProfile(ClassProbeError),
    /// The last line.
    End,
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Start { version } => write!(f, "@stitchkit {version}"),
            Self::Board(name) => write!(f, "@board {name}"),
            Self::Kernels(name) => write!(f, "@kernels {name}"),
            Self::Clock { hz, unit } => write!(f, "@clock {hz} {}", unit.name()),
            Self::Memory { ram_bytes, flash_bytes } => write!(f, "@memory {ram_bytes} {flash_bytes}"),
            Self::Bundle { bytes, crc, plans } => write!(f, "@bundle {bytes} {crc} {plans}"),
            Self::Step { plan, ordinal, ticks } => write!(f, "@step {plan} {ordinal} {ticks}"),
            Self::Plan { plan, ticks } => write!(f, "@plan {plan} {ticks}"),
            Self::Profile { ticks, postcard } => {
                write!(f, "@profile {ticks} ")?;
                postcard.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::NoProfile(error) => write!(f, "not measured by itself: {error}"),
            Self::End => f.write_str("@end"),
        }
    }
}
