//! Failures and the exit status each one ends in.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// Why the program ends without success.
#[derive(Debug)]
pub enum Failure {
    /// The command line makes no sense: status 2.
    Usage(String),
    /// No plan meets the limits: status 3.
    Limits(String),
    /// Anything else: status 1.
    Failed(String),
    /// The reader of standard output went away: nothing to say, status 1.
    OutputClosed,
}

impl Failure {
    /// Something wrong with a file.
    pub fn at(path: &Path, error: impl Display) -> Self {
        Self::Failed(format!("{}: {error}", path.display()))
    }

    /// Something wrong without a file to name.
    pub fn because(error: impl Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// What to tell the user, if anything.
    pub fn message(&self) -> Option<String> {
        match self {
            Self::Usage(text) => Some(format!("{text}\nTry `stitchkit-device --help`.")),
            Self::Limits(text) | Self::Failed(text) => Some(text.clone()),
            Self::OutputClosed => None,
        }
    }

    /// The exit status.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Limits(_) => ExitCode::from(3),
            Self::Failed(_) | Self::OutputClosed => ExitCode::from(1),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Failed(format!("standard output: {error}")),
        }
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}
