//! Running inputs.

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use stitchkit_runtime::bundle::Bundle;
use stitchkit_runtime::select::{Choice, Limits, Predict, SelectError, Speed, Verdict, judge, select};

use super::{how, limits, limits_json, percent, speed, time};
use crate::args::{Args, Style};
use crate::bundle_file::BundleFile;
use crate::failure::Failure;
use crate::runner::{Runner, find};
use crate::{answer, input, json};

/// Selects a plan, runs all inputs through it and prints the logits.
///
/// # Errors
/// [`Failure::Limits`] if no plan meets the limits, [`Failure::Failed`] for unreadable inputs.
pub fn run(args: &Args, file: &Arc<BundleFile>, bundle: &Bundle<'_>, output: &mut impl Write) -> Result<(), Failure> {
    let limits = limits(args);
    let speed = speed(args, bundle, &limits)?;
    let choice = choose(args, bundle, limits, speed)?;
    let mut runner = Runner::new(how(args)?, file, bundle, choice.plan)?;
    check_memory(&runner, limits)?;
    let header = header(args, bundle, &choice, &runner)?;
    let mut results = Vec::new();
    let mut times_us = Vec::new();
    if args.style == Style::Text {
        eprintln!("{}", describe(&choice, &header));
    }
    for path in &args.inputs {
        let values = input::load(path, args.raw, bundle)?;
        for one in values.chunks_exact(bundle.meta().input.len()) {
            let logits = repeat(&mut runner, one, args.repeat, &mut times_us)?;
            match args.style {
                Style::Text => writeln!(output, "{}", answer::line(bundle, &logits))?,
                Style::Json => results.push(result_json(bundle, &logits)),
            }
        }
    }
    let timing = Timing::of(&mut times_us);
    if args.style == Style::Json {
        let mut fields = header;
        fields.push(("limits", limits_json(&limits, speed)));
        fields.push(("predicted_us", json::optional(choice.latency_us)));
        fields.push(("timing", timing.json()));
        fields.push(("results", json::array(results)));
        writeln!(output, "{}", json::object(fields))?;
    } else if args.repeat > 1 {
        eprintln!("{}", timing.text());
    }
    Ok(())
}

/// The plan asked for if it meets the limits, else the best one.
fn choose(args: &Args, bundle: &Bundle<'_>, limits: Limits, speed: Option<Speed>) -> Result<Choice, Failure> {
    let Some(index) = args.plan else {
        return select(bundle, limits, speed).map_err(|error| match error {
            SelectError::SpeedUnknown => Failure::Failed(error.to_string()),
            _ => Failure::Limits(error.to_string()),
        });
    };
    let plan = find(bundle, index)?;
    let latency_us = speed.plan_us(bundle, &plan);
    match judge(bundle, &plan, limits, speed) {
        Verdict::Fits => Ok(Choice {
            plan: index,
            arena_bytes: plan.arena_bytes,
            in_fast_bytes: 0,
            accuracy_ppm: plan.accuracy_ppm,
            latency_us,
        }),
        Verdict::TooMuchRam => Err(Failure::Limits(format!(
            "plan {index} needs {} bytes of arena, {} are available",
            plan.arena_bytes, limits.ram_bytes
        ))),
        Verdict::TooSlow => Err(Failure::Limits(format!(
            "plan {index} is predicted to take {} us, {} us are usable",
            latency_us.unwrap_or(u64::MAX),
            limits.usable_us().unwrap_or(0)
        ))),
    }
}

/// Holds the backend to the memory limit: tract keeps its tensors outside the plan's arena and may need more than it.
fn check_memory(runner: &Runner<'_>, limits: Limits) -> Result<(), Failure> {
    let need = runner.activation_bytes()?;
    if need <= u64::from(limits.ram_bytes) {
        return Ok(());
    }
    let available = limits.ram_bytes;
    Err(Failure::Limits(format!("this backend needs {need} bytes for activations, {available} are available")))
}

/// What runs, for the JSON report.
fn header(
    args: &Args,
    bundle: &Bundle<'_>,
    choice: &Choice,
    runner: &Runner<'_>,
) -> Result<Vec<(&'static str, String)>, Failure> {
    let plan = find(bundle, choice.plan)?;
    Ok(vec![
        ("bundle", json::string(bundle.meta().name)),
        ("plan", choice.plan.to_string()),
        ("path", json::string(plan.path)),
        ("accuracy_ppm", plan.accuracy_ppm.to_string()),
        ("backend", json::string(args.backend.name())),
        ("isa", json::string(how(args)?.isa.name())),
        ("threads", args.threads.to_string()),
        ("activation_bytes", runner.activation_bytes()?.to_string()),
        ("thread_scratch_bytes", runner.thread_scratch_bytes().to_string()),
        ("output_scale", plan.output_quant.scale.to_string()),
        ("output_zero_point", plan.output_quant.zero_point.to_string()),
    ])
}

/// What runs, for people.
fn describe(choice: &Choice, header: &[(&'static str, String)]) -> String {
    let value = |name| header.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value.trim_matches('"'));
    let predicted = choice.latency_us.map_or(String::new(), |us| format!(", predicted {}", time(us)));
    let threads = match value("threads") {
        "1" => String::new(),
        count => format!(", {count} threads"),
    };
    format!(
        "plan {} ({}): accuracy {}, {} bytes of activations{predicted}; backend {}, kernels {}{threads}",
        choice.plan,
        value("path"),
        percent(choice.accuracy_ppm),
        value("activation_bytes"),
        value("backend"),
        value("isa"),
    )
}

/// Runs one input `count` times, notes each run's time and returns the logits.
fn repeat(runner: &mut Runner<'_>, input: &[i8], count: u32, times_us: &mut Vec<u64>) -> Result<Vec<i8>, Failure> {
    let mut logits = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        runner.run(input, &mut logits)?;
        times_us.push(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    Ok(logits)
}

fn result_json(bundle: &Bundle<'_>, logits: &[i8]) -> String {
    let (class, label) = answer::best(bundle, logits);
    json::object([
        ("class", class.to_string()),
        ("label", json::string(label)),
        ("logits", json::array(logits.iter().map(i8::to_string))),
    ])
}

/// Times over all runs.
struct Timing {
    runs: usize,
    min_us: Option<u64>,
    median_us: Option<u64>,
    max_us: Option<u64>,
}

impl Timing {
    fn of(times_us: &mut [u64]) -> Self {
        times_us.sort_unstable();
        Self {
            runs: times_us.len(),
            min_us: times_us.first().copied(),
            median_us: times_us.get(times_us.len() / 2).copied(),
            max_us: times_us.last().copied(),
        }
    }

    fn json(&self) -> String {
        json::object([
            ("runs", self.runs.to_string()),
            ("min_us", json::optional(self.min_us)),
            ("median_us", json::optional(self.median_us)),
            ("max_us", json::optional(self.max_us)),
        ])
    }

    fn text(&self) -> String {
        let part = |us: Option<u64>| us.map_or_else(|| "-".into(), time);
        let [min, median, max] = [self.min_us, self.median_us, self.max_us].map(part);
        format!("{} runs: fastest {min}, median {median}, slowest {max}", self.runs)
    }
}
