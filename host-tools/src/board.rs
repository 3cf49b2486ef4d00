//! Board files: what one kind of board offers, as TOML. `stitchkit profile` writes them, `--board FILE` reads them;
//! `examples/boards` holds some, and `docs/adding-a-board.md` describes the keys.

pub mod emulated;
mod file;
pub mod fit;
pub mod measured;
pub mod protocol;
pub mod shapes;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stitchkit_runtime::profile::BoardProfile;

use crate::files;

/// One kind of board.
#[derive(Debug, Clone, PartialEq)]
pub struct Board {
    /// Short name: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Free text for people.
    pub description: String,
    /// The clock that the latencies hold at; `None` where it varies, as on Linux.
    pub clock_hz: Option<u64>,
    /// Memory and latencies, as the device stores them.
    pub profile: BoardProfile,
    /// Bytes available to an arena in a faster memory beside the main one; 0 where there is none.
    pub fast_ram_bytes: u32,
    /// What its application allows an inference.
    pub limits: BoardLimits,
    /// Where the latencies come from.
    pub origin: Origin,
}

/// Limits that a board's application sets, below what the board has. Limits on the command line replace them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardLimits {
    /// Time one inference may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_us: Option<u64>,
    /// Bytes of arena.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram_bytes: Option<u32>,
}

/// Where a board's latencies come from, and how well they predict.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// What was measured.
    pub method: Method,
    /// Kernel variant that ran, e.g. `arm-dsp`.
    pub kernels: String,
    /// What ran where, for people.
    pub how: String,
    /// Steps that the model was fitted to; 0 for none.
    pub steps: u32,
    /// Errors on plans that the fit did not see; `None` if there were none to hold out.
    pub held_out: Option<HeldOut>,
}

/// What a latency stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Time taken on the board itself.
    Timed,
    /// Instructions counted in an emulator, at one instruction per cycle of the board's clock. Real cores stall and take
    /// longer.
    CountedInstructions,
    /// Carried over from another board by the clock.
    Estimated,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timed => "timed on the board",
            Self::CountedInstructions => "instructions counted in an emulator, one per cycle",
            Self::Estimated => "estimated from another board",
        })
    }
}

/// Prediction errors on plans that were left out of the fit, in percent of the measured latency.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// Plans predicted.
    pub plans: u32,
    /// Half of the plans err less.
    pub median_error_percent: f64,
    /// No plan errs more.
    pub worst_error_percent: f64,
}

/// Why a board file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoardFileError {
    /// The file cannot be read.
    #[error("{path}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("{path}: cannot be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The text is no board file.
    #[error("{path}: {}", .problems.join("; "))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything wrong with it: key and what it takes.
        problems: Vec<String>,
    },
}

impl Board {
    /// Reads and checks a board file.
    ///
    /// # Errors
    /// [`BoardFileError`] names the file and every wrong key.
    pub fn read(path: &Path) -> Result<Self, BoardFileError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| BoardFileError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|problems| BoardFileError::Invalid { path: path.to_owned(), problems })
    }

    /// Parses and checks the text of a board file.
    ///
    /// # Errors
    /// Every problem found: a single one for wrong syntax and types, all of them for unknown, missing and wrong values.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        file::parse(text)
    }

    /// The text of the board's file; [`parse`](Self::parse) returns the same board.
    #[must_use]
    pub fn to_text(&self) -> String {
        file::text(self)
    }

    /// Writes the board file, by way of a temporary one in the same folder.
    ///
    /// # Errors
    /// [`BoardFileError::Write`].
    pub fn write(&self, path: &Path) -> Result<(), BoardFileError> {
        files::replace(path, self.to_text().as_bytes())
            .map_err(|source| BoardFileError::Write { path: path.to_owned(), source })
    }
}
