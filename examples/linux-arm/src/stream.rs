//! Frames on standard input, answers on standard output.

mod frames;

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use crate::answer::{self, Answer};
use crate::args::{StreamArgs, Style};
use crate::failure::Failure;
use crate::json;
use crate::log;
use crate::service::{Engine, Question, Refusal, Service, View, Watcher};
use frames::{Frame, Frames};

/// Answers frames until the input ends; each answer is written before the next frame is read.
///
/// # Errors
/// [`Failure`] if the bundle cannot be used, or the input ends inside a frame.
pub fn run(args: &StreamArgs, output: &mut impl Write) -> Result<(), Failure> {
    let service = Arc::new(Service::new(args.service.clone())?);
    Watcher::new(service.clone())?.spawn(|| {})?;
    let mut frames = Frames::new(std::io::stdin().lock(), args.max_frame_bytes);
    let mut number = 0;
    // A frame read while a new load came is answered by that.
    let mut pending = None;
    loop {
        let view = service.view();
        let file = &view.generation.file;
        let bundle = view.generation.parse().map_err(|refusal| Failure::at(file.path(), refusal))?;
        let mut engine = Engine::new(&service, &view, &bundle);
        loop {
            let frame = match pending.take() {
                Some(frame) => frame,
                None => match frames.next(args.framing, bundle.meta().input.len()).map_err(input_failure)? {
                    Some(frame) => frame,
                    None => return Ok(()),
                },
            };
            if service.version() != view.version {
                pending = Some(frame);
                break;
            }
            let result = ask(&mut engine, frame, &args.service.raw);
            write(args.style, number, &result, output)?;
            check(&result, &view)?;
            number += 1;
        }
    }
}

fn ask(engine: &mut Engine<'_>, frame: Frame, raw: &Option<crate::args::RawFormat>) -> Result<Answer, Refusal> {
    let Frame { body, deadline_us } = frame;
    let body = body.map_err(|bytes| Refusal::Input(format!("has {bytes} bytes, more than --max-body allows")))?;
    engine.answer(&Question { body, raw: *raw, arrived: Instant::now(), deadline_us })
}

/// Ends the stream where going on makes no sense.
fn check(result: &Result<Answer, Refusal>, view: &View) -> Result<(), Failure> {
    match result {
        Err(refusal @ (Refusal::Changed | Refusal::Failed(_))) => {
            Err(Failure::at(view.generation.file.path(), refusal))
        }
        _ => Ok(()),
    }
}

/// One line per frame, so that lines and frames can be matched.
fn write(style: Style, number: u64, result: &Result<Answer, Refusal>, output: &mut impl Write) -> Result<(), Failure> {
    match (style, result) {
        (Style::Json, Ok(answer)) => writeln!(output, "{}", answer.json())?,
        (Style::Json, Err(refusal)) => {
            let error = json::object([
                ("schema_version", "1".into()),
                ("error", json::string(refusal.kind())),
                ("message", json::string(&refusal.to_string())),
            ]);
            writeln!(output, "{error}")?;
        }
        (Style::Text, Ok(answer)) => {
            let (class, label) = answer.top.first().map_or((0, ""), |(class, label, _)| (*class, label));
            writeln!(output, "{}", answer::fields(class, label, &answer.logits))?;
        }
        (Style::Text, Err(refusal)) => {
            log!("frame {number}: {refusal}");
            writeln!(output, "-\t{}\t", refusal.kind())?;
        }
    }
    Ok(output.flush()?)
}

fn input_failure(error: std::io::Error) -> Failure {
    Failure::Failed(format!("standard input: {error}"))
}
