//! `stitchkit run`.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::Serialize;
use stitchkit::family::load_image;
use stitchkit::infer::{self, Backend};
use stitchkit_runtime::bundle::{Bundle, Plan};

use super::Ui;
use super::bundle_file::BundleFile;
use super::plan_choice::{BackendOption, LimitOptions, existing_plan};

/// Arguments of `stitchkit run`.
///
/// Without --plan the plan that fits --memory and --latency runs; without limits, the most accurate one.
#[derive(Debug, clap::Args)]
pub struct Command {
    /// The bundle.
    bundle: PathBuf,
    /// Image (png, jpg) or array (npy: u8 pixels HWC, or i8 already quantized) of the bundle's input size.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Run this plan.
    #[arg(long, value_name = "ID", conflicts_with_all = ["memory", "latency"])]
    plan: Option<u16>,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    backend: BackendOption,
    /// How many classes to show.
    #[arg(long, value_name = "N", default_value_t = 3)]
    top: usize,
}

#[derive(Serialize)]
struct Report {
    plan: u16,
    path: String,
    backend: Backend,
    arena_bytes: u32,
    /// int8 outputs; real value = (logit - zero_point) * scale.
    logits: Vec<i8>,
    scale: f32,
    zero_point: i8,
    top: Vec<Top>,
}

#[derive(Serialize)]
struct Top {
    class: usize,
    label: Option<String>,
    value: f32,
}

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        let file = BundleFile::read(&self.bundle)?;
        let loaded = file.load()?;
        let bundle = loaded.bundle;
        let id = match self.plan {
            Some(id) => existing_plan(&bundle, id)?,
            None => self.limits.choose(&bundle)?.plan,
        };
        let plan = bundle.plan(id).context("the chosen plan does not decode")?;
        let input = read_input(&bundle, &self.input)?;
        let logits = infer::Runner::new(loaded, id, self.backend.backend)?.run(&input)?;
        let report = Report {
            plan: id,
            path: plan.path.to_owned(),
            backend: self.backend.backend,
            arena_bytes: plan.arena_bytes,
            top: top(&bundle, &plan, &logits, self.top),
            logits,
            scale: plan.output_quant.scale,
            zero_point: plan.output_quant.zero_point,
        };
        ui.print(&report, || text(&report))
    }
}

/// Reads an input file and quantizes it with the bundle's own pixel tables.
fn read_input(bundle: &Bundle<'_>, path: &std::path::Path) -> anyhow::Result<Vec<i8>> {
    let shape = bundle.meta().input;
    let mut input = vec![0; shape.len()];
    if let Some(values) = infer::read_quantized(path, shape.len())? {
        return Ok(values);
    }
    let pixels = load_image(path, [shape.h.into(), shape.w.into(), shape.c.into()])?;
    if !bundle.quantize_pixels(&pixels, &mut input) {
        bail!("the bundle has no pixel tables; give an npy file of {} int8 values instead", shape.len());
    }
    Ok(input)
}

fn top(bundle: &Bundle<'_>, plan: &Plan<'_>, logits: &[i8], count: usize) -> Vec<Top> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by_key(|&class| (std::cmp::Reverse(logits[class]), class));
    let labels: Vec<&str> = bundle.meta().labels.lines().collect();
    let quant = plan.output_quant;
    let value = |class: usize| (f32::from(logits[class]) - f32::from(quant.zero_point)) * quant.scale;
    let entry = |class: usize| Top { class, label: labels.get(class).map(|l| (*l).to_owned()), value: value(class) };
    order.into_iter().take(count).map(entry).collect()
}

fn text(report: &Report) -> String {
    let mut text = format!("plan {} ({}), {} bytes of arena\n", report.plan, report.path, report.arena_bytes);
    for top in &report.top {
        let label = top.label.clone().unwrap_or_else(|| format!("class {}", top.class));
        let _ = writeln!(text, "{:>9.3}  {label}", top.value);
    }
    text
}
