//! `stitchkit select`.

use std::path::PathBuf;

use serde::Serialize;
use stitchkit_runtime::bundle::{Bundle, Plan};
use stitchkit_runtime::select::{Predict, Verdict, judge};

use super::Ui;
use super::bundle_file::BundleFile;
use super::plan_choice::{LimitOptions, Rule, arena_text};
use stitchkit::report::table::{Align, Table, percent, ppm_share};

/// Arguments of `stitchkit select`.
///
/// Applies the rule the device applies: the most accurate plan inside the limits, the cheapest of equals.
#[derive(Debug, clap::Args)]
pub struct Command {
    /// The bundle.
    bundle: PathBuf,
    #[command(flatten)]
    limits: LimitOptions,
}

#[derive(Serialize)]
struct Report {
    plan: Option<u16>,
    path: Option<String>,
    arena_bytes: Option<u32>,
    /// How many of them lie in the fast memory.
    in_fast_bytes: Option<u32>,
    accuracy: Option<f64>,
    predicted_latency_us: Option<u64>,
    reason: String,
    plans: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    id: u16,
    path: String,
    accuracy: f64,
    arena_bytes: u32,
    fast_bytes: u32,
    predicted_latency_us: Option<u64>,
    verdict: &'static str,
}

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        let file = BundleFile::read(&self.bundle)?;
        let loaded = file.load()?;
        let bundle = loaded.bundle;
        let Rule { limits, latency } = self.limits.rule(&bundle)?;
        let choice = stitchkit_runtime::select::select(&bundle, limits, &latency);
        let chosen = choice.as_ref().ok().map(|c| c.plan);
        let rows: Vec<Row> = (0..bundle.plan_count())
            .filter_map(|id| bundle.plan(id).map(|plan| (id, plan)))
            .map(|(id, plan)| {
                let verdict = verdict(chosen, id, judge(&bundle, &plan, limits, &latency));
                row(id, &plan, latency.plan_us(&bundle, &plan), verdict)
            })
            .collect();
        let plan = chosen.and_then(|id| bundle.plan(id));
        let report = Report {
            plan: chosen,
            path: plan.map(|p| p.path.to_owned()),
            arena_bytes: plan.map(|p| p.arena_bytes),
            in_fast_bytes: choice.as_ref().ok().map(|c| c.in_fast_bytes),
            accuracy: plan.map(|p| ppm_share(p.accuracy_ppm)),
            predicted_latency_us: choice.as_ref().ok().and_then(|c| c.latency_us),
            reason: match &choice {
                Ok(_) => "the most accurate plan inside the limits".to_owned(),
                Err(error) => error.to_string(),
            },
            plans: rows,
        };
        ui.print(&report, || text(&report, &bundle))?;
        choice.map(|_| ()).map_err(|e| super::LimitsNotMet(e.to_string()).into())
    }
}

fn row(id: u16, plan: &Plan<'_>, predicted_latency_us: Option<u64>, verdict: &'static str) -> Row {
    Row {
        id,
        path: plan.path.to_owned(),
        accuracy: ppm_share(plan.accuracy_ppm),
        arena_bytes: plan.arena_bytes,
        fast_bytes: plan.fast_bytes,
        predicted_latency_us,
        verdict,
    }
}

fn verdict(chosen: Option<u16>, id: u16, verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fits if chosen == Some(id) => "chosen",
        Verdict::Fits => "fits, less accurate or costlier",
        Verdict::TooMuchRam => "needs more memory",
        Verdict::TooSlow => "too slow",
    }
}

fn text(report: &Report, bundle: &Bundle<'_>) -> String {
    let mut table = Table::new(&[
        ("plan", Align::Right),
        ("accuracy", Align::Right),
        ("arena B", Align::Right),
        ("predicted us", Align::Right),
        ("verdict", Align::Left),
        ("path", Align::Left),
    ]);
    for row in &report.plans {
        let latency = row.predicted_latency_us.map_or("-".to_owned(), |us| us.to_string());
        table.row([
            row.id.to_string(),
            percent(row.accuracy),
            arena_text(row.arena_bytes.to_string(), row.fast_bytes),
            latency,
            row.verdict.to_owned(),
            row.path.clone(),
        ]);
    }
    let head = match report.plan {
        Some(id) => format!("plan {id} of {}: {}\n", bundle.meta().name, report.reason),
        None => format!("no plan of {}: {}\n", bundle.meta().name, report.reason),
    };
    head + &table.to_string()
}
