//! `stitchkit stitches`.

use std::path::PathBuf;

use serde::Serialize;
use stitchkit::family::Family;
use stitchkit::report::table::{Align, Table, grouped};
use stitchkit::stitch::space;

use super::Ui;

/// Arguments of `stitchkit stitches`.
#[derive(Debug, clap::Args)]
pub struct Command {
    /// The family: its folder, or its family.toml.
    family: PathBuf,
}

#[derive(Serialize)]
struct Report {
    family: String,
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
    macs: u64,
    params: u64,
}

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        let family = Family::load(&self.family)?;
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
        let rows = space.candidates.iter();
        let rows = rows.map(|c| Row { id: c.id, path: c.path.clone(), macs: c.macs, params: c.params });
        let report = Report {
            family: family.config.name.clone(),
            anchors: anchors.collect(),
            stitching_layers: space.layers.len(),
            stitches: rows.collect(),
        };
        ui.print(&report, || text(&report))
    }
}

fn text(report: &Report) -> String {
    let mut table =
        Table::new(&[("id", Align::Right), ("MACs", Align::Right), ("params", Align::Right), ("path", Align::Left)]);
    for row in &report.stitches {
        table.row([row.id.to_string(), grouped(row.macs), grouped(row.params), row.path.clone()]);
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
