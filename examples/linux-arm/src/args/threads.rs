//! The command line of the verb `threads`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use lexopt::prelude::*;

use super::units::{parse_count, parse_threads, processors};
use super::{Command, Style};
use crate::failure::Failure;

/// Text of `threads --help`.
pub const THREADS_HELP: &str = "\
Time one inference on 1, 2, ... threads side by side, to find out what --threads gains on this machine.

Usage: stitchkit-device threads BUNDLE [OPTIONS]

Prints elapsed and processor time of one inference and the speedup over one thread. The counts take turns, round by round; of
each the fastest inference counts, so that a busy machine does little harm.

  --plan N         Time plan N; may be repeated [default: the costliest]
  --threads N      Most threads; auto: the processors [default: auto]
  --rounds N       Rounds, of 5 ms or more for each count [default: 20]
  --isa NAME       Kernel variant [default: the fastest of this processor]
  --share-from N   Cut convolutions into parts of at least N multiply-accumulates [default: as an inference does]
  --json           Print one JSON object per plan instead of a table
  -h, --help       Print this help
";

/// The command line of `threads`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadsArgs {
    /// Bundle file.
    pub bundle: PathBuf,
    /// Plans; empty: the costliest.
    pub plans: Vec<u16>,
    /// Most threads.
    pub most: NonZeroUsize,
    /// Rounds, at least 1.
    pub rounds: u32,
    /// Kernel variant, if chosen by hand.
    pub isa: Option<String>,
    /// Least multiply-accumulates of a part, if chosen by hand.
    pub share_from: Option<u64>,
    /// Text or JSON.
    pub style: Style,
}

/// Reads what follows the verb.
///
/// # Errors
/// [`Failure::Usage`] names the option and what it takes.
pub fn parse(mut parser: lexopt::Parser) -> Result<Command, Failure> {
    let mut args = ThreadsArgs {
        bundle: PathBuf::new(),
        plans: Vec::new(),
        most: processors(),
        rounds: 20,
        isa: None,
        share_from: None,
        style: Style::Text,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help(&[THREADS_HELP])),
            Value(path) if args.bundle.as_os_str().is_empty() => args.bundle = path.into(),
            Long("plan") => args.plans.push(parser.value()?.parse()?),
            Long("threads") => args.most = parser.value()?.parse_with(parse_threads)?,
            Long("rounds") => args.rounds = parser.value()?.parse_with(parse_count)?,
            Long("isa") => args.isa = Some(parser.value()?.string()?),
            Long("share-from") => args.share_from = Some(parser.value()?.parse()?),
            Long("json") => args.style = Style::Json,
            other => return Err(other.unexpected().into()),
        }
    }
    if args.bundle.as_os_str().is_empty() {
        return Err(Failure::Usage("which bundle? Its path follows the verb".into()));
    }
    Ok(Command::Threads(args))
}
