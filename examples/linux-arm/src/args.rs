//! The command line.

mod profile;
mod service;
mod threads;
mod units;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use lexopt::prelude::*;

pub use profile::ProfileArgs;
pub use service::{Framing, PressureSource, ServeArgs, ServiceArgs, Storage, StreamArgs};
pub use threads::ThreadsArgs;

use crate::failure::Failure;
use service::Verb;
use units::{parse_count, parse_margin, parse_size, parse_threads, parse_time};

/// Text of `--help`.
pub const HELP: &str = "\
Run a stitchkit bundle on this machine.

Usage: stitchkit-device BUNDLE --input FILE [OPTIONS]
       stitchkit-device BUNDLE --list | --verify [OPTIONS]
       stitchkit-device serve BUNDLE [OPTIONS]     answer over HTTP; `serve --help` explains
       stitchkit-device stream BUNDLE [OPTIONS]    answer frames of standard input; `stream --help` explains
       stitchkit-device profile BUNDLE [OPTIONS]   report how fast this machine is; `profile --help` explains
       stitchkit-device threads BUNDLE [OPTIONS]   time 1, 2, ... threads side by side; `threads --help` explains

A bundle holds several plans: paths through a family of networks that differ in accuracy, memory and time. Without --plan
the most accurate plan inside the limits runs.

What to do:
  --input FILE     Run the plan on FILE; may be repeated; - is standard input. FILE is an .npy array of uint8 pixels or of
                   int8 values, or raw int8 bytes. Layout is height, width, channels. A file with n times the bytes of one
                   input holds n inputs.
  --pixels         Raw files hold uint8 pixels, not int8 values
  --list           Print the plans and which of them fit
  --verify         Run the bundle's golden vectors through every plan (or the one of --plan) and compare

Limits:
  --memory SIZE    Arena the plan may use, as 64KiB, 2MiB, 500kB or bytes [default: what this machine has free]
  --latency TIME   Time one inference may take, as 30ms, 800us or 2s; the machine is timed first
  --margin PCT     Part of --latency to keep in reserve, in percent [default: 10]
  --plan N         Run plan N, if it meets the limits

How to run:
  --backend NAME   kernels: the step loop in one arena; tract: the same operators in a tract-core graph, if built with
                   feature `tract` [default: kernels]
  --isa NAME       Kernel variant; `reference` is plain scalar code [default: the fastest of this processor]
  --threads N      Threads that share an inference; auto: the processors. Steps too small to gain run on one, and the
                   bytes are the same. With backend kernels [default: 1]
  --repeat N       Run every input N times and print timing [default: 1]
  --json           Print one JSON object instead of text
  -h, --help       Print this help
  -V, --version    Print the version

Output: one line per input with the best class, its label and all int8 logits. Equal bundles and inputs give equal logits
on every machine. Notes go to standard error.

Exit status: 0 success; 1 failure, or --verify found a difference; 2 wrong usage; 3 the limits cannot be met.

Examples:
  stitchkit-device family.stk --list
  stitchkit-device family.stk --input photo.npy --memory 64KiB --latency 30ms
  stitchkit-device family.stk --input frames.raw --pixels --plan 2 --repeat 50 --json
";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Print these parts of the help.
    Help(&'static [&'static str]),
    /// Print the version.
    Version,
    /// Work on a bundle.
    Work(Args),
    /// Answer over HTTP.
    Serve(ServeArgs),
    /// Answer frames of standard input.
    Stream(StreamArgs),
    /// Report how fast this machine is.
    Profile(ProfileArgs),
    /// Time threads side by side.
    Threads(ThreadsArgs),
}

/// What to do with the bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Run inputs.
    Run,
    /// Print the plans.
    List,
    /// Run the golden vectors.
    Verify,
}

/// Which executor runs plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The runtime's step loop.
    Kernels,
    /// The runtime's tract models.
    Tract,
}

impl Backend {
    /// Name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernels => "kernels",
            Self::Tract => "tract",
        }
    }
}

/// What the bytes of a raw file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawFormat {
    /// Quantized values.
    Int8,
    /// Pixels, to be quantized by the bundle's table.
    Pixels,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Lines for people and shell scripts.
    Text,
    /// One JSON object.
    Json,
}

/// A checked command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Args {
    /// Bundle file.
    pub bundle: PathBuf,
    /// What to do.
    pub task: Task,
    /// Input files, in order.
    pub inputs: Vec<PathBuf>,
    /// What raw inputs hold.
    pub raw: RawFormat,
    /// The plan to run, if chosen by hand.
    pub plan: Option<u16>,
    /// Arena limit in bytes, if given.
    pub memory_bytes: Option<u32>,
    /// Deadline of one inference, if given.
    pub latency_us: Option<u64>,
    /// Part of the deadline kept in reserve.
    pub margin_percent: u8,
    /// Executor.
    pub backend: Backend,
    /// Kernel variant, if chosen by hand.
    pub isa: Option<String>,
    /// Threads that share an inference.
    pub threads: NonZeroUsize,
    /// Runs per input, at least 1.
    pub repeat: u32,
    /// Text or JSON.
    pub style: Style,
}

/// Reads the command line.
///
/// # Errors
/// [`Failure::Usage`] names the option and what it takes.
pub fn parse(mut parser: lexopt::Parser) -> Result<Command, Failure> {
    let mut args = Args {
        bundle: PathBuf::new(),
        task: Task::Run,
        inputs: Vec::new(),
        raw: RawFormat::Int8,
        plan: None,
        memory_bytes: None,
        latency_us: None,
        margin_percent: 10,
        backend: Backend::Kernels,
        isa: None,
        threads: NonZeroUsize::MIN,
        repeat: 1,
        style: Style::Text,
    };
    let mut is_first = true;
    while let Some(argument) = parser.next()? {
        let may_be_verb = std::mem::take(&mut is_first);
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help(&[HELP])),
            Short('V') | Long("version") => return Ok(Command::Version),
            Value(word) if may_be_verb && word == "serve" => return service::parse(Verb::Serve, parser),
            Value(word) if may_be_verb && word == "stream" => return service::parse(Verb::Stream, parser),
            Value(word) if may_be_verb && word == "profile" => return profile::parse(parser),
            Value(word) if may_be_verb && word == "threads" => return threads::parse(parser),
            Value(path) if args.bundle.as_os_str().is_empty() => args.bundle = path.into(),
            Long("input") => args.inputs.push(parser.value()?.into()),
            Long("pixels") => args.raw = RawFormat::Pixels,
            Long("list") => args.task = Task::List,
            Long("verify") => args.task = Task::Verify,
            Long("plan") => args.plan = Some(parser.value()?.parse()?),
            Long("memory") => args.memory_bytes = Some(parser.value()?.parse_with(parse_size)?),
            Long("latency") => args.latency_us = Some(parser.value()?.parse_with(parse_time)?),
            Long("margin") => args.margin_percent = parser.value()?.parse_with(parse_margin)?,
            Long("backend") => args.backend = parser.value()?.parse_with(parse_backend)?,
            Long("isa") => args.isa = Some(parser.value()?.string()?),
            Long("threads") => args.threads = parser.value()?.parse_with(parse_threads)?,
            Long("repeat") => args.repeat = parser.value()?.parse_with(parse_count)?,
            Long("json") => args.style = Style::Json,
            other => return Err(other.unexpected().into()),
        }
    }
    check(args).map(Command::Work)
}

fn check(args: Args) -> Result<Args, Failure> {
    if args.bundle.as_os_str().is_empty() {
        return Err(Failure::Usage("which bundle? Its path is the first argument".into()));
    }
    check_threads(args.backend, args.threads)?;
    match (args.task, args.inputs.is_empty()) {
        (Task::Run, true) => Err(Failure::Usage("nothing to do: give --input FILE, --list or --verify".into())),
        (Task::List | Task::Verify, false) => {
            Err(Failure::Usage("--input goes with neither --list nor --verify".into()))
        }
        _ => Ok(args),
    }
}

fn check_threads(backend: Backend, threads: NonZeroUsize) -> Result<(), Failure> {
    match backend {
        Backend::Tract if threads.get() > 1 => Err(Failure::Usage("--threads goes with --backend kernels".into())),
        _ => Ok(()),
    }
}

fn parse_backend(text: &str) -> Result<Backend, String> {
    match text {
        "kernels" => Ok(Backend::Kernels),
        "tract" if cfg!(feature = "tract") => Ok(Backend::Tract),
        "tract" => Err("this binary was built without feature `tract`".into()),
        _ => Err("backends are kernels and tract".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, Failure> {
        parse(lexopt::Parser::from_args(line.split_whitespace()))
    }

    #[test]
    fn a_full_line_is_understood() {
        let line = "family.stk --input a.npy --input - --memory=64KiB --latency 30ms --margin 20% --repeat 5 --threads 2 --json";
        let Ok(Command::Work(args)) = parsed(line) else { panic!("refused") };
        assert_eq!(args.bundle, PathBuf::from("family.stk"));
        assert_eq!(args.inputs, [PathBuf::from("a.npy"), PathBuf::from("-")]);
        assert_eq!((args.memory_bytes, args.latency_us, args.margin_percent), (Some(65_536), Some(30_000), 20));
        assert_eq!((args.repeat, args.style, args.task), (5, Style::Json, Task::Run));
        assert_eq!(args.threads.get(), 2);
    }

    #[test]
    fn lines_that_make_no_sense_are_usage_errors() {
        let lines = [
            "",
            "b",
            "b --input",
            "b c --list",
            "b --list --input x",
            "b --plan -1 --list",
            "b --repeat 0 --input x",
            "b --threads 0 --list",
            "b --threads few --list",
            "threads",
            "threads b --rounds 0",
            "b --margin 100 --input x",
            "b --backend gpu --list",
            "b --frobnicate",
        ];
        for line in lines {
            assert!(matches!(parsed(line), Err(Failure::Usage(_))), "{line}");
        }
    }

    #[test]
    fn help_and_version_need_no_bundle() {
        assert_eq!(parsed("--help").ok(), Some(Command::Help(&[HELP])));
        assert_eq!(parsed("b --version").ok(), Some(Command::Version));
    }
}
