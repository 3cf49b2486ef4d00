//! What the verbs print through: JSON or text, progress on a terminal only.

use std::io::{IsTerminal, Write, stderr, stdout};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::OutputOptions;

/// Version of the JSON documents; raised when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// The way out of a verb.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    options: OutputOptions,
}

#[derive(Serialize)]
struct Document<'a, T> {
    schema_version: u32,
    #[serde(flatten)]
    body: &'a T,
}

impl Ui {
    pub(super) const fn new(options: OutputOptions) -> Self {
        Self { options }
    }

    /// Prints `body` as JSON if asked for, else the text that `text` makes.
    pub fn print<T: Serialize>(&self, body: &T, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        let output = if self.options.json {
            let document = Document { schema_version: SCHEMA_VERSION, body };
            serde_json::to_string_pretty(&document).context("cannot write JSON")? + "\n"
        } else {
            text()
        };
        match stdout().write_all(output.as_bytes()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.context("cannot write to standard output"),
        }
    }

    /// A line for people on standard error; silent with `--quiet` or `--json`.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.options.quiet && !self.options.json {
            eprintln!("{}", text.as_ref());
        }
    }

    /// A warning on standard error, printed in any mode.
    pub fn warn(&self, text: impl AsRef<str>) {
        eprintln!("warning: {}", text.as_ref());
    }

    /// A progress bar of `length` units; hidden when standard error is no terminal or with `--quiet`.
    pub fn bar(&self, length: u64, what: &'static str) -> ProgressBar {
        let hidden = self.options.quiet || !stderr().is_terminal();
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(length), target).with_message(what);
        let style = ProgressStyle::with_template("{msg:24} {wide_bar} {pos}/{len} {per_sec} eta {eta}");
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }
}
