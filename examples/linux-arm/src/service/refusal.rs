//! Why an inference was not answered by logits.

use std::fmt;

use stitchkit_runtime::select::SelectError;

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The body is no input of the bundle.
    Input(String),
    /// No plan meets the deadline, however soon it starts.
    Deadline(SelectError),
    /// A plan would have met the deadline, but the request waited too long.
    Late(SelectError),
    /// Too many requests wait already.
    Busy,
    /// The bundle file was changed in place; only a reload helps.
    Changed,
    /// The inference failed.
    Failed(String),
}

impl Refusal {
    /// All kinds, as they appear in metrics and answers.
    pub const KINDS: [&'static str; 6] = ["input", "deadline", "late", "busy", "bundle_changed", "internal"];

    /// Its name in metrics and answers.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Input(_) => "input",
            Self::Deadline(_) => "deadline",
            Self::Late(_) => "late",
            Self::Busy => "busy",
            Self::Changed => "bundle_changed",
            Self::Failed(_) => "internal",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(text) => write!(f, "the body {text}"),
            Self::Deadline(error) => error.fmt(f),
            Self::Late(error) => write!(f, "waited too long: {error}"),
            Self::Busy => f.write_str("too many requests are waiting"),
            Self::Changed => f.write_str("the bundle file was changed in place; replace it by rename and send SIGHUP"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}
