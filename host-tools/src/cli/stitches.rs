//! `stitchkit stitches`.

use std::path::PathBuf;

use serde::Serialize;
use stitchkit::family::Family;
use stitchkit::report::table::{Align, Table, grouped};
use stitchkit::stitch::Candidate;
use stitchkit::stitch::space::{
    self,
    figures::{Count, Figures, Ledger},
};

use super::Ui;

/// Arguments of `stitchkit stitches`.
#[derive(Debug, clap::Args)]
pub struct Command {
    /// The family: its folder, or its family.toml.
    family: PathBuf,
    /// Convention: our multiply-accumulates, or the papers' FLOPs and parameters.
    #[arg(long, value_enum, default_value_t)]
    count: Count,
}

#[derive(Serialize)]
struct Report {
    family: String,
    count: Count,
    anchors: Vec<AnchorRow>,
    stitching_layers: usize,
    stitches: Vec<Row>,
}

#[derive(Serialize)]
struct AnchorRow {
    name: String,
    macs: u64,
    params: u64,
    cuts: Vec<CutRow>,
}

#[derive(Serialize)]
struct CutRow {
    tensor: String,
    shape: Vec<usize>,
    stage: usize,
}

#[derive(Serialize)]
struct Row {
    id: u32,
    path: String,
    /// Multiply-accumulates or FLOPs, as `count` says.
    macs: u64,
    params: u64,
    weight_bytes: u64,
    activation_bytes: u64,
    layers: Vec<usize>,
}

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        let family = Family::load_structure(&self.family)?;
        let space = space::enumerate(&family)?;
        for warning in &space.warnings {
            ui.warn(warning);
        }
        let cut =
            |c: &stitchkit::family::Cut| CutRow { tensor: c.tensor.clone(), shape: c.shape.clone(), stage: c.stage };
        let anchors = family.anchors.iter().map(|a| AnchorRow {
            name: a.name.clone(),
            macs: a.macs,
            params: a.params,
            cuts: a.cuts.iter().map(cut).collect(),
        });
        let mut ledger = Ledger::new(&family);
        let mut rows = Vec::with_capacity(space.candidates.len());
        for candidate in &space.candidates {
            rows.push(row(candidate, ledger.figures(candidate, self.count)?));
        }
        let report = Report {
            family: family.config.name.clone(),
            anchors: anchors.collect(),
            stitching_layers: space.layers.len(),
            count: self.count,
            stitches: rows,
        };
        ui.print(&report, || text(&report))
    }
}

fn row(candidate: &Candidate, figures: Figures) -> Row {
    Row {
        id: candidate.id,
        path: candidate.path.clone(),
        macs: figures.operations,
        params: figures.params,
        weight_bytes: figures.weight_bytes,
        activation_bytes: figures.activation_bytes,
        layers: candidate.layers.clone(),
    }
}

fn text(report: &Report) -> String {
    let operations = if report.count == Count::Macs { "MACs" } else { "FLOPs" };
    let mut table = Table::new(&[
        ("id", Align::Right),
        (operations, Align::Right),
        ("params", Align::Right),
        ("weight B", Align::Right),
        ("activation B", Align::Right),
        ("path", Align::Left),
    ]);
    for row in &report.stitches {
        table.row([
            row.id.to_string(),
            grouped(row.macs),
            grouped(row.params),
            grouped(row.weight_bytes),
            grouped(row.activation_bytes),
            row.path.clone(),
        ]);
    }
    let head = format!(
        "{}: {} anchors, {} stitches, {} stitching layers\n",
        report.family,
        report.anchors.len(),
        report.stitches.len() - report.anchors.len(),
        report.stitching_layers
    );
    head + &table.to_string()
}
