//! The command line of the verb `profile`.

use std::path::PathBuf;

use lexopt::prelude::*;

use super::Command;
use super::units::{parse_count, parse_size};
use crate::failure::Failure;

/// Text of `profile --help`.
pub const PROFILE_HELP: &str = "\
Report how fast this machine runs a bundle, step by step, for `stitchkit profile`.

Usage: stitchkit-device profile BUNDLE [OPTIONS]

`stitchkit profile --ssh HOST --out host.toml` sends a measuring bundle, starts this on HOST, and writes the board file. By
hand: make the bundle with `stitchkit profile --shapes shapes.stk`, run this verb on it, keep what it prints, and give that
to `stitchkit profile --serial FILE`. BUNDLE - is standard input.

  --memory SIZE    Memory for an arena, as reported and as used [default: what this machine has free]
  --isa NAME       Kernel variant [default: the fastest of this processor]
  --repeat N       Runs of every plan; the host takes the fastest [default: 15]
  -h, --help       Print this help
";

/// The command line of `profile`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileArgs {
    /// Bundle file, or `-`.
    pub bundle: PathBuf,
    /// Memory for an arena in bytes, if given.
    pub memory_bytes: Option<u32>,
    /// Kernel variant, if chosen by hand.
    pub isa: Option<String>,
    /// Runs of every plan, at least 1.
    pub repeat: u32,
}

/// Reads what follows the verb.
///
/// # Errors
/// [`Failure::Usage`] names the option and what it takes.
pub fn parse(mut parser: lexopt::Parser) -> Result<Command, Failure> {
    let mut args = ProfileArgs { bundle: PathBuf::new(), memory_bytes: None, isa: None, repeat: 15 };
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help(&[PROFILE_HELP])),
            Value(path) if args.bundle.as_os_str().is_empty() => args.bundle = path.into(),
            Long("memory") => args.memory_bytes = Some(parser.value()?.parse_with(parse_size)?),
            Long("isa") => args.isa = Some(parser.value()?.string()?),
            Long("repeat") => args.repeat = parser.value()?.parse_with(parse_count)?,
            other => return Err(other.unexpected().into()),
        }
    }
    if args.bundle.as_os_str().is_empty() {
        return Err(Failure::Usage("which bundle? Its path follows the verb".into()));
    }
    Ok(Command::Profile(args))
}
