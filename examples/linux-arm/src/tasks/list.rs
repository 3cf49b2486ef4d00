//! Printing the plans.

use std::io::Write;

use stitchkit_runtime::bundle::{Bundle, Plan};
use stitchkit_runtime::select::{Limits, Predict, Speed, Verdict, judge, select};

use super::{limits, limits_json, percent, speed, time};
use crate::args::{Args, Style};
use crate::failure::Failure;
use crate::json;

/// Prints every plan, whether it meets the limits, and which one would run.
///
/// # Errors
/// [`Failure::Failed`] if the machine's speed cannot be measured.
pub fn list(args: &Args, bundle: &Bundle<'_>, output: &mut impl Write) -> Result<(), Failure> {
    let limits = limits(args);
    let speed = speed(args, bundle, &limits)?;
    let chosen = select(bundle, limits, speed).ok().map(|choice| choice.plan);
    match args.style {
        Style::Text => print_text(bundle, limits, speed, chosen, output),
        Style::Json => print_json(args, bundle, limits, speed, chosen, output),
    }
}

fn verdict(bundle: &Bundle<'_>, plan: &Plan<'_>, limits: Limits, predict: impl Predict) -> &'static str {
    match judge(bundle, plan, limits, predict) {
        Verdict::Fits => "fits",
        Verdict::TooMuchRam => "too much memory",
        Verdict::TooSlow => "too slow",
    }
}

fn print_text(
    bundle: &Bundle<'_>,
    limits: Limits,
    speed: Option<Speed>,
    chosen: Option<u16>,
    output: &mut impl Write,
) -> Result<(), Failure> {
    let meta = bundle.meta();
    let (h, w, c) = (meta.input.h, meta.input.w, meta.input.c);
    writeln!(output, "{}: {} bytes, input {h} x {w} x {c}", meta.name, bundle.len_bytes())?;
    match limits.ram_bytes {
        u32::MAX => writeln!(output, "memory: 4 GiB or more")?,
        bytes => writeln!(output, "memory: {bytes} bytes may be used")?,
    }
    writeln!(output, "plan  arena bytes        MACs  accuracy  predicted  limits           path")?;
    for (index, plan) in (0..).zip(bundle.plans()) {
        let mark = if chosen == Some(index) { '*' } else { ' ' };
        let predicted = speed.plan_us(bundle, &plan).map_or_else(|| "-".into(), time);
        writeln!(
            output,
            "{index:>4}{mark} {:>11} {:>11}  {:>8}  {predicted:>9}  {:<15}  {}",
            plan.arena_bytes,
            plan.macs,
            percent(plan.accuracy_ppm),
            verdict(bundle, &plan, limits, speed),
            plan.path,
        )?;
    }
    match chosen {
        Some(index) => writeln!(output, "* plan {index} runs under these limits")?,
        None => writeln!(output, "no plan meets these limits")?,
    }
    Ok(())
}

fn print_json(
    args: &Args,
    bundle: &Bundle<'_>,
    limits: Limits,
    speed: Option<Speed>,
    chosen: Option<u16>,
    output: &mut impl Write,
) -> Result<(), Failure> {
    let plans = (0..).zip(bundle.plans()).map(|(index, plan)| plan_json(bundle, index, &plan, limits, speed));
    let report = json::object([
        ("bundle", json::string(bundle.meta().name)),
        ("bytes", bundle.len_bytes().to_string()),
        ("input_bytes", bundle.meta().input.len().to_string()),
        ("threads", args.threads.to_string()),
        ("limits", limits_json(&limits, speed)),
        ("chosen", json::optional(chosen)),
        ("plans", json::array(plans)),
    ]);
    writeln!(output, "{report}")?;
    Ok(())
}

/// One plan, and how it stands against the limits, as a JSON object.
pub fn plan_json(bundle: &Bundle<'_>, index: u16, plan: &Plan<'_>, limits: Limits, predict: impl Predict) -> String {
    json::object([
        ("plan", index.to_string()),
        ("path", json::string(plan.path)),
        ("arena_bytes", plan.arena_bytes.to_string()),
        ("macs", plan.macs.to_string()),
        ("params", plan.params.to_string()),
        ("cost", plan.cost.to_string()),
        ("accuracy_ppm", plan.accuracy_ppm.to_string()),
        ("predicted_us", json::optional(predict.plan_us(bundle, plan))),
        ("verdict", json::string(verdict(bundle, plan, limits, &predict))),
    ])
}
