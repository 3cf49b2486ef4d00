//! The command lines of the verbs that keep running: `serve` and `stream`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use super::units::{parse_count, parse_large_size, parse_margin, parse_size, parse_threads, parse_time, processors};
use super::{Backend, Command, RawFormat, Style, check_threads, parse_backend};
use crate::failure::Failure;

/// Text of `serve --help`.
pub const SERVE_HELP: &str = "\
Answer inferences over HTTP.

Usage: stitchkit-device serve BUNDLE [OPTIONS]

  POST /v1/infer   Body: one input, as uint8 pixels (HWC), as int8 values with ?format=int8, or as an .npy array. Answers JSON:
                   plan, class, top, logits, times. ?deadline_ms=N or the header X-Deadline-Ms picks the most accurate plan
                   that answers in time, counted from the arrival of the request
  GET /v1/plans    The plans and which of them fit
  GET /health      200 while serving; 503 while draining or after the bundle file was changed in place
  GET /metrics     Prometheus text

HTTP:
  --listen ADDR        Address and port; port 0 takes a free one and prints it [default: 127.0.0.1:8077]
  --connections N      Connections held at once; more are answered 503 [default: 32]
  --queue N            Requests that may wait for a worker; more are answered 503 [default: 16]
  --max-body SIZE      Largest request body [default: 1MiB]
  --timeout TIME       Time to send a request, time an idle connection is kept, and time to take an answer [default: 5s]
  --drain TIME         Time that requests under way have to finish after SIGTERM [default: 10s]
  --workers N          Inferences at once, each with an arena of its own [default: the processors, divided
                       by --threads]
";

/// Text of `stream --help`.
pub const STREAM_HELP: &str = "\
Answer frames from standard input, one line of standard output each.

Usage: stitchkit-device stream BUNDLE [OPTIONS]

Framing:
  --framing raw        Frames of exactly one input each, back to back, as `ffmpeg -f rawvideo -pix_fmt rgb24` writes them
                       [default]
  --framing length     Each frame is its length in bytes and its deadline in microseconds (0: none), both 32-bit
                       little-endian, then raw bytes or an .npy array. A frame that is no input is answered by an error
  --max-body SIZE      Longest frame of --framing length; longer ones are skipped and answered by an error [default: 1MiB]
  --json               One JSON object per frame, as `serve` answers it, instead of class, label and logits
";

/// What both verbs share, appended to their help.
pub const SHARED_HELP: &str = "
Input:
  --pixels, --int8     What raw bytes are [default: pixels if the bundle has a pixel table, else int8]

Limits:
  --memory SIZE        Memory for the arenas of all workers together [default: what this machine has free]
  --latency TIME       Deadline of requests that state none [default: none]
  --margin PCT         Part of a deadline to keep in reserve, in percent [default: 10]
  --trace FILE         Write a line of JSON per inference: plan, deadline, predicted and observed time, slowdown. `stitchkit
                       report --html PAGE --trace FILE` plots it

Every answer's time corrects the prediction of the next. If the machine becomes so slow that no plan is expected to meet a
deadline, the fastest runs; a request is refused only if the idle machine would be too slow for it as well.

Memory pressure moves to a smaller plan, and back step by step when it is over:
  --pressure SOURCE    psi: the kernel's pressure stall information, of this control group or of the machine; free: polls free
                       memory; auto: both, as far as they are there; off [default: auto]
  --low-memory SIZE    Free memory that counts as pressure [default: a quarter of what is free at start, at most 32MiB]
  --calm TIME          Quiet time before a step back; doubles, up to 8 times, if pressure returns soon [default: 30s]

Bundle:
  SIGHUP loads the bundle from the same path again. Requests under way finish on the old one. A bundle that is damaged,
  fails its golden vectors or has no plan inside the limits is refused, and the old one keeps serving.
  Replace the file by rename (`mv new.stk family.stk`), never in place: a file that shrinks while it is mapped ends the
  process by SIGBUS. A file changed in place is noticed before the next inference and not used any more.
  --copy               Read the bundle into memory instead of mapping it; then only a reload looks at the file

How to run:
  --backend NAME       kernels, or tract if built with it [default: kernels]
  --isa NAME           Kernel variant [default: the fastest of this processor]
  --threads N          Threads that share an inference, of each worker; auto: the processors. With backend kernels [default: 1]
  -h, --help           Print this help

Exit status: 0 after SIGTERM, SIGINT or the end of the input; 1 failure; 2 wrong usage; 3 no plan meets the limits.
";

/// Where pressure on memory is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PressureSource {
    /// Stall information where the kernel has it, and free memory.
    Auto,
    /// Stall information only.
    Psi,
    /// Free memory only.
    Free,
    /// Not at all.
    Off,
}

/// How the bundle's bytes are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Mapped from the file.
    Mapped,
    /// Copied to the heap.
    Copied,
}

/// What both verbs need to keep a bundle running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceArgs {
    /// Bundle file.
    pub bundle: PathBuf,
    /// How its bytes are held.
    pub storage: Storage,
    /// What raw inputs hold; `None`: pixels if the bundle can take them.
    pub raw: Option<RawFormat>,
    /// Bytes for all arenas, if given.
    pub memory_bytes: Option<u32>,
    /// Deadline of requests without one.
    pub latency_us: Option<u64>,
    /// Part of a deadline kept in reserve.
    pub margin_percent: u8,
    /// Inferences at once; 0 until the command line is read.
    pub workers: u32,
    /// Threads that share an inference.
    pub threads: NonZeroUsize,
    /// Executor.
    pub backend: Backend,
    /// Kernel variant, if chosen by hand.
    pub isa: Option<String>,
    /// Where pressure is read.
    pub pressure: PressureSource,
    /// Free memory that counts as pressure, if given.
    pub low_memory_bytes: Option<u64>,
    /// Quiet time before a step back.
    pub calm: Duration,
    /// File for a line per inference, if wanted.
    pub trace: Option<PathBuf>,
}

/// The command line of `serve`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeArgs {
    /// What keeps the bundle running.
    pub service: ServiceArgs,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Most connections.
    pub connections: u32,
    /// Most waiting requests.
    pub queue: u32,
    /// Largest request body, in bytes.
    pub max_body_bytes: u64,
    /// Time for each phase of a connection.
    pub timeout: Duration,
    /// Time to finish after SIGTERM.
    pub drain: Duration,
}

/// Where one frame of the stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After one input.
    Raw,
    /// After the length that precedes it.
    Length,
}

/// The command line of `stream`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamArgs {
    /// What keeps the bundle running.
    pub service: ServiceArgs,
    /// Where frames end.
    pub framing: Framing,
    /// Longest frame, in bytes.
    pub max_frame_bytes: u64,
    /// Lines or JSON.
    pub style: Style,
}

/// A verb of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// HTTP.
    Serve,
    /// Standard input and output.
    Stream,
}

/// Reads what follows the verb.
///
/// # Errors
/// [`Failure::Usage`] names the option and what it takes.
pub fn parse(verb: Verb, mut parser: lexopt::Parser) -> Result<Command, Failure> {
    let mut serve = defaults();
    let mut stream = (Framing::Raw, Style::Text);
    while let Some(argument) = parser.next()? {
        let name = match argument {
            Short('h') => "help".to_owned(),
            Long(name) => name.to_owned(),
            Value(path) if serve.service.bundle.as_os_str().is_empty() => {
                serve.service.bundle = path.into();
                continue;
            }
            other => return Err(other.unexpected().into()),
        };
        let known = match (verb, name.as_str()) {
            (Verb::Serve, "help") => return Ok(Command::Help(&[SERVE_HELP, SHARED_HELP])),
            (Verb::Stream, "help") => return Ok(Command::Help(&[STREAM_HELP, SHARED_HELP])),
            (_, "max-body") => {
                serve.max_body_bytes = parser.value()?.parse_with(parse_large_size)?;
                true
            }
            (Verb::Serve, name) => {
                serve_option(&mut serve, name, &mut parser)? || shared_option(&mut serve.service, name, &mut parser)?
            }
            (Verb::Stream, name) => {
                stream_option(&mut stream, name, &mut parser)? || shared_option(&mut serve.service, name, &mut parser)?
            }
        };
        if !known {
            return Err(Failure::Usage(format!("invalid option '--{name}'")));
        }
    }
    if serve.service.bundle.as_os_str().is_empty() {
        return Err(Failure::Usage("which bundle? Its path follows the verb".into()));
    }
    check_threads(serve.service.backend, serve.service.threads)?;
    if serve.service.workers == 0 {
        let workers = processors().get().div_ceil(serve.service.threads.get());
        serve.service.workers = u32::try_from(workers).unwrap_or(u32::MAX);
    }
    let (framing, style) = stream;
    Ok(match verb {
        Verb::Serve => Command::Serve(serve),
        Verb::Stream => Command::Stream(StreamArgs {
            service: ServiceArgs { workers: 1, ..serve.service },
            framing,
            max_frame_bytes: serve.max_body_bytes,
            style,
        }),
    })
}

fn defaults() -> ServeArgs {
    let service = ServiceArgs {
        bundle: PathBuf::new(),
        storage: Storage::Mapped,
        raw: None,
        memory_bytes: None,
        latency_us: None,
        margin_percent: 10,
        workers: 0,
        threads: NonZeroUsize::MIN,
        backend: Backend::Kernels,
        isa: None,
        pressure: PressureSource::Auto,
        low_memory_bytes: None,
        calm: Duration::from_secs(30),
        trace: None,
    };
    ServeArgs {
        service,
        listen: SocketAddr::from(([127, 0, 0, 1], 8077)),
        connections: 32,
        queue: 16,
        max_body_bytes: 1 << 20,
        timeout: Duration::from_secs(5),
        drain: Duration::from_secs(10),
    }
}

fn serve_option(args: &mut ServeArgs, name: &str, parser: &mut lexopt::Parser) -> Result<bool, Failure> {
    match name {
        "listen" => args.listen = parser.value()?.parse()?,
        "connections" => args.connections = parser.value()?.parse_with(parse_few)?,
        "queue" => args.queue = parser.value()?.parse_with(parse_few)?,
        "workers" => args.service.workers = parser.value()?.parse_with(parse_few)?,
        "timeout" => args.timeout = duration(parser)?,
        "drain" => args.drain = duration(parser)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn stream_option(args: &mut (Framing, Style), name: &str, parser: &mut lexopt::Parser) -> Result<bool, Failure> {
    match name {
        "framing" => args.0 = parser.value()?.parse_with(parse_framing)?,
        "json" => args.1 = Style::Json,
        _ => return Ok(false),
    }
    Ok(true)
}

fn shared_option(args: &mut ServiceArgs, name: &str, parser: &mut lexopt::Parser) -> Result<bool, Failure> {
    match name {
        "copy" => args.storage = Storage::Copied,
        "pixels" => args.raw = Some(RawFormat::Pixels),
        "int8" => args.raw = Some(RawFormat::Int8),
        "memory" => args.memory_bytes = Some(parser.value()?.parse_with(parse_size)?),
        "latency" => args.latency_us = Some(parser.value()?.parse_with(parse_time)?),
        "margin" => args.margin_percent = parser.value()?.parse_with(parse_margin)?,
        "backend" => args.backend = parser.value()?.parse_with(parse_backend)?,
        "isa" => args.isa = Some(parser.value()?.string()?),
        "threads" => args.threads = parser.value()?.parse_with(parse_threads)?,
        "pressure" => args.pressure = parser.value()?.parse_with(parse_pressure)?,
        "low-memory" => args.low_memory_bytes = Some(parser.value()?.parse_with(parse_large_size)?),
        "calm" => args.calm = duration(parser)?,
        "trace" => args.trace = Some(parser.value()?.into()),
        _ => return Ok(false),
    }
    Ok(true)
}

/// A time of at least a millisecond: sockets take no timeout of zero.
fn duration(parser: &mut lexopt::Parser) -> Result<Duration, Failure> {
    let us = parser.value()?.parse_with(parse_time)?;
    if !(1000..=86_400_000_000).contains(&us) {
        return Err(Failure::Usage("times are from 1ms to 86400s".into()));
    }
    Ok(Duration::from_micros(us))
}

/// A count of threads or places.
fn parse_few(text: &str) -> Result<u32, String> {
    parse_count(text).ok().filter(|&count| count <= 1024).ok_or_else(|| "takes a whole number from 1 to 1024".into())
}

fn parse_framing(text: &str) -> Result<Framing, String> {
    match text {
        "raw" => Ok(Framing::Raw),
        "length" => Ok(Framing::Length),
        _ => Err("framings are raw and length".into()),
    }
}

fn parse_pressure(text: &str) -> Result<PressureSource, String> {
    match text {
        "auto" => Ok(PressureSource::Auto),
        "psi" => Ok(PressureSource::Psi),
        "free" => Ok(PressureSource::Free),
        "off" => Ok(PressureSource::Off),
        _ => Err("sources are auto, psi, free and off".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, Failure> {
        super::super::parse(lexopt::Parser::from_args(line.split_whitespace()))
    }

    #[test]
    fn options_go_to_their_verb() {
        let line = "serve b.stk --listen 0.0.0.0:0 --queue 3 --memory 64KiB --calm 200ms --pressure free --copy --int8";
        let Ok(Command::Serve(args)) = parsed(line) else { panic!("refused") };
        assert_eq!((args.queue, args.service.memory_bytes, args.service.calm.as_millis()), (3, Some(65_536), 200));
        assert_eq!((args.service.pressure, args.service.storage), (PressureSource::Free, Storage::Copied));
        assert_eq!(args.service.raw, Some(RawFormat::Int8));
        assert_eq!((args.service.workers as usize, args.service.threads.get()), (processors().get(), 1));
        let Ok(Command::Serve(args)) = parsed("serve b --threads auto") else { panic!("refused") };
        assert_eq!((args.service.workers, args.service.threads), (1, processors()));
        let Ok(Command::Stream(args)) = parsed("stream b.stk --framing length --json") else { panic!("refused") };
        assert_eq!((args.framing, args.style, args.service.workers), (Framing::Length, Style::Json, 1));
    }

    #[test]
    fn senseless_lines_are_usage_errors() {
        let lines = [
            "serve",
            "serve b c",
            "serve b --framing raw",
            "serve b --queue 0",
            "serve b --queue 9999",
            "serve b --listen nowhere",
            "serve b --timeout 0ms",
            "serve b --pressure high",
            "stream b --listen 127.0.0.1:1",
            "stream b --input x",
        ];
        for line in lines {
            assert!(matches!(parsed(line), Err(Failure::Usage(_))), "{line}");
        }
    }

    #[test]
    fn each_verb_has_a_help_of_its_own() {
        for (line, says) in [("serve --help", "POST /v1/infer"), ("stream -h", "--framing")] {
            let Ok(Command::Help(parts)) = parsed(line) else { panic!("no help") };
            assert!(parts.concat().contains(says));
        }
    }
}
