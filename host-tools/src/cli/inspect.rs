//! `stitchkit inspect`.

use std::fmt::Write;
use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;
use stitchkit::compile::accesses::Accesses;
use stitchkit::report::sizes::{self, BundleBytes, PlanBytes};
use stitchkit::report::table::{Align, Table, grouped, percent, ppm_share};
use stitchkit_runtime::bundle::{Bundle, Plan};

use super::Ui;
use super::bundle_file::BundleFile;
use super::plan_choice::existing_plan;

/// Arguments of `stitchkit inspect`.
#[derive(Debug, clap::Args)]
pub struct Command {
    /// The bundle.
    bundle: PathBuf,
    /// Also list the steps of this plan.
    #[arg(long, value_name = "ID")]
    plan: Option<u16>,
}

#[derive(Serialize)]
struct Report {
    name: String,
    labels: Vec<String>,
    input_shape: [u16; 3],
    output_shape: [u16; 3],
    bundle_bytes: u64,
    distinct_weight_bytes: u64,
    bundle_to_weights: f64,
    separate_models_bytes: u64,
    saved_bytes: i64,
    blocks: u16,
    /// What a runtime for this bundle alone is built with.
    runtime_features: Vec<String>,
    plans: Vec<PlanRow>,
}

#[derive(Serialize)]
struct PlanRow {
    id: u16,
    stitch: u32,
    path: String,
    macs: u64,
    params: u64,
    arena_bytes: u32,
    arena_lower_bound_bytes: u32,
    /// How many of the arena's first bytes were laid out for a fast memory.
    fast_bytes: u32,
    /// Share of all bytes that an inference loads from and stores to its arena, that lie there.
    fast_access_share: f64,
    weight_bytes: u64,
    own_weight_bytes: u64,
    shared_weight_bytes: u64,
    table_bytes: u64,
    steps: usize,
    cost: u64,
    accuracy: f64,
    accuracy_float: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    step_list: Option<Vec<StepRow>>,
}

#[derive(Serialize)]
struct StepRow {
    ordinal: usize,
    block: String,
    op: &'static str,
    input: [u16; 3],
    output: [u16; 3],
    macs: u64,
    output_offset: usize,
    scratch_bytes: usize,
    in_place: bool,
    over_input: bool,
    woven: bool,
    output_in_fast: bool,
    scratch_in_fast: bool,
}

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        let file = BundleFile::read(&self.bundle)?;
        let loaded = file.load()?;
        let bundle = loaded.bundle;
        let detailed = self.plan.map(|id| existing_plan(&bundle, id)).transpose()?;
        let bytes = sizes::measure(&bundle);
        let report = report(&bundle, &bytes, detailed);
        ui.print(&report, || text(&report))
    }
}

fn report(bundle: &Bundle<'_>, bytes: &BundleBytes, detailed: Option<u16>) -> Report {
    let meta = bundle.meta();
    let bundle_bytes = bundle.len_bytes() as u64;
    let plans = bundle
        .plans()
        .zip(&bytes.plans)
        .enumerate()
        .map(|(id, (plan, size))| plan_row(bundle, id as u16, &plan, size, detailed == Some(id as u16)))
        .collect();
    Report {
        name: meta.name.to_owned(),
        labels: meta.labels.lines().map(str::to_owned).collect(),
        input_shape: [meta.input.h, meta.input.w, meta.input.c],
        output_shape: [meta.output.h, meta.output.w, meta.output.c],
        bundle_bytes,
        distinct_weight_bytes: bytes.distinct_weight_bytes,
        bundle_to_weights: bundle_bytes as f64 / bytes.distinct_weight_bytes.max(1) as f64,
        separate_models_bytes: bytes.separate_models_bytes,
        saved_bytes: bytes.separate_models_bytes as i64 - bundle_bytes as i64,
        blocks: bundle.block_count(),
        runtime_features: runtime_features(bundle),
        plans,
    }
}

fn runtime_features(bundle: &Bundle<'_>) -> Vec<String> {
    let is_divided = bundle.plans().any(|plan| plan.fast_bytes > 0);
    bundle.features().into_iter().chain(is_divided.then(|| "two-memories".to_owned())).collect()
}

fn plan_row(bundle: &Bundle<'_>, id: u16, plan: &Plan<'_>, size: &PlanBytes, detailed: bool) -> PlanRow {
    PlanRow {
        id,
        stitch: plan.stitch,
        path: plan.path.to_owned(),
        macs: plan.macs,
        params: plan.params,
        arena_bytes: plan.arena_bytes,
        arena_lower_bound_bytes: plan.arena_lower_bound_bytes,
        fast_bytes: plan.fast_bytes,
        fast_access_share: fast_access_share(bundle, plan),
        weight_bytes: size.weight_bytes,
        own_weight_bytes: size.own_weight_bytes,
        shared_weight_bytes: size.shared_weight_bytes,
        table_bytes: size.table_bytes,
        steps: bundle.steps_of(plan).count(),
        cost: plan.cost,
        accuracy: ppm_share(plan.accuracy_ppm),
        accuracy_float: ppm_share(plan.float_accuracy_ppm),
        step_list: detailed.then(|| step_rows(bundle, plan)),
    }
}

fn step_rows(bundle: &Bundle<'_>, plan: &Plan<'_>) -> Vec<StepRow> {
    let rows = bundle.steps_of(plan).enumerate().map(|(ordinal, placed)| {
        let (input, output) = (placed.step.op.input(), placed.step.op.output());
        StepRow {
            ordinal,
            block: bundle.block(placed.block).map_or(String::new(), |b| b.name.to_owned()),
            op: placed.step.op.name(),
            input: [input.h, input.w, input.c],
            output: [output.h, output.w, output.c],
            macs: placed.step.op.macs(),
            output_offset: placed.output.start,
            scratch_bytes: placed.scratch.len(),
            in_place: placed.inputs.contains(&placed.output),
            over_input: placed.is_over_input(),
            woven: bundle.is_woven(placed.index),
            output_in_fast: is_in_fast(plan, &placed.output),
            scratch_in_fast: is_in_fast(plan, &placed.scratch),
        }
    });
    rows.collect()
}

fn is_in_fast(plan: &Plan<'_>, range: &Range<usize>) -> bool {
    !range.is_empty() && range.end <= plan.fast_bytes as usize
}

/// Share of the bytes touched in the arena that lie in the part laid out for a fast memory.
fn fast_access_share(bundle: &Bundle<'_>, plan: &Plan<'_>) -> f64 {
    let (mut all, mut fast) = (0, 0);
    for placed in bundle.steps_of(plan) {
        let Accesses { inputs: [first, second], output, scratch } = Accesses::of(&placed.step.op);
        let places = [&placed.inputs[0], &placed.inputs[1], &placed.output, &placed.scratch];
        for (range, bytes) in places.into_iter().zip([first, second, output, scratch]) {
            all += bytes;
            fast += if is_in_fast(plan, range) { bytes } else { 0 };
        }
    }
    fast as f64 / all.max(1) as f64
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let [h, w, c] = report.input_shape;
    let _ =
        writeln!(text, "{}: {} plans, input {h}x{w}x{c}, {} blocks", report.name, report.plans.len(), report.blocks);
    let _ = writeln!(
        text,
        "{} bytes, {:.3} of the {} bytes of distinct weights; separate models would take {} bytes (saved: {} bytes, {})",
        grouped(report.bundle_bytes),
        report.bundle_to_weights,
        grouped(report.distinct_weight_bytes),
        grouped(report.separate_models_bytes),
        report.saved_bytes,
        percent(report.saved_bytes as f64 / report.separate_models_bytes.max(1) as f64),
    );
    let _ = writeln!(text, "runtime features: {}", report.runtime_features.join(", "));
    text.push('\n');
    let mut table = Table::new(&[
        ("plan", Align::Right),
        ("int8", Align::Right),
        ("float", Align::Right),
        ("MACs", Align::Right),
        ("params", Align::Right),
        ("arena B", Align::Right),
        ("bound B", Align::Right),
        ("weights own", Align::Right),
        ("shared", Align::Right),
        ("steps", Align::Right),
        ("path", Align::Left),
    ]);
    for plan in &report.plans {
        table.row([
            plan.id.to_string(),
            percent(plan.accuracy),
            percent(plan.accuracy_float),
            grouped(plan.macs),
            grouped(plan.params),
            grouped(plan.arena_bytes.into()),
            grouped(plan.arena_lower_bound_bytes.into()),
            grouped(plan.own_weight_bytes),
            grouped(plan.shared_weight_bytes),
            plan.steps.to_string(),
            plan.path.clone(),
        ]);
    }
    text += &table.to_string();
    if report.plans.iter().any(|plan| plan.fast_bytes > 0) {
        let _ = write!(text, "\nlaid out for a fast memory beside the main one:\n{}", division_table(&report.plans));
    }
    for plan in &report.plans {
        if let Some(steps) = &plan.step_list {
            let _ = writeln!(text, "\nsteps of plan {}:", plan.id);
            text += &step_table(steps).to_string();
        }
    }
    text
}

fn division_table(plans: &[PlanRow]) -> Table {
    let mut table = Table::new(&[
        ("plan", Align::Right),
        ("fast B", Align::Right),
        ("main B", Align::Right),
        ("accesses to fast", Align::Right),
        ("path", Align::Left),
    ]);
    for plan in plans {
        table.row([
            plan.id.to_string(),
            grouped(plan.fast_bytes.into()),
            grouped(plan.arena_bytes.saturating_sub(plan.fast_bytes).into()),
            percent(plan.fast_access_share),
            plan.path.clone(),
        ]);
    }
    table
}

/// What is special about the places of a step.
fn remarks(step: &StepRow) -> String {
    let known = [
        (step.in_place, "in place"),
        (step.over_input, "over its input"),
        (step.woven, "woven"),
        (step.output_in_fast, "output fast"),
        (step.scratch_in_fast, "scratch fast"),
    ];
    let holding: Vec<&str> = known.into_iter().filter(|(holds, _)| *holds).map(|(_, text)| text).collect();
    holding.join(", ")
}

fn step_table(steps: &[StepRow]) -> Table {
    let mut table = Table::new(&[
        ("step", Align::Right),
        ("op", Align::Left),
        ("input", Align::Left),
        ("output", Align::Left),
        ("MACs", Align::Right),
        ("at", Align::Right),
        ("scratch", Align::Right),
        ("", Align::Left),
        ("block", Align::Left),
    ]);
    let shape = |[h, w, c]: [u16; 3]| format!("{h}x{w}x{c}");
    for step in steps {
        table.row([
            step.ordinal.to_string(),
            step.op.to_owned(),
            shape(step.input),
            shape(step.output),
            grouped(step.macs),
            step.output_offset.to_string(),
            step.scratch_bytes.to_string(),
            remarks(step),
            step.block.clone(),
        ]);
    }
    table
}
