//! `stitchkit stitches`.

use std::path::PathBuf;

use serde::Serialize;
use stitchkit::assemble::cache::{self, Cache};
use stitchkit::compile::ExportOptions;
use stitchkit::family::Family;
use stitchkit::report::scatter::{Axes, Point, plot};
use stitchkit::report::table::{Align, Table, grouped, percent};
use stitchkit::stitch::space::{
    self,
    figures::{Count, Figures, Ledger},
};
use stitchkit::stitch::{Candidate, Space};
use stitchkit::study::{Settings, study};

use super::Ui;
use super::assemble::CACHE_NAME;
use super::stages::Stages;

/// Arguments of `stitchkit stitches`.
#[derive(Debug, clap::Args)]
pub struct Command {
    /// The family: its folder, or its family.toml.
    family: PathBuf,
    /// Fit the stitching layers, quantize, and measure all stitches on the ranking images; what was found is kept where
    /// `assemble` looks for it.
    #[arg(long)]
    evaluate: bool,
    /// Where results are kept between calls; `none` keeps nothing. Default: family.cache.json beside family.toml.
    #[arg(long, value_name = "FILE", requires = "evaluate")]
    cache: Option<PathBuf>,
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
    /// Share of right answers on the ranking images, int8 and float.
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy_float: Option<f64>,
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
        let accuracy = if self.evaluate { self.accuracies(&family, &space, ui)? } else { Vec::new() };
        let mut ledger = Ledger::new(&family);
        let mut rows = Vec::with_capacity(space.candidates.len());
        for (index, candidate) in space.candidates.iter().enumerate() {
            rows.push(row(candidate, ledger.figures(candidate, self.count)?, accuracy.get(index).copied()));
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

    /// Float and int8 accuracy of every stitch on the ranking images.
    fn accuracies(&self, family: &Family, space: &Space, ui: &Ui) -> anyhow::Result<Vec<(f64, f64)>> {
        let settings =
            Settings { options: ExportOptions { golden_inputs: 1, ..ExportOptions::default() }, stitch_noise: 0.001 };
        let mut cache = match self.cache.as_deref() {
            Some(path) if path.as_os_str() == "none" => Cache::none(),
            Some(path) => Cache::open(path),
            None => Cache::open(&family.folder.join(CACHE_NAME)),
        };
        let key = cache::key(family, &space.candidates, &settings);
        let known = cache.get(&key).map(|entry| entry.findings.clone());
        let stages = Stages::new(ui);
        let watch = |stage, done, all| stages.show(stage, done, all);
        let study = study(family, space, &space.candidates, settings, known.as_ref(), &watch)?;
        stages.finish();
        cache.put(&key, &study.findings);
        if let Err(error) = cache.save() {
            ui.warn(format!("results are not kept for the next call: {error}"));
        }
        Ok(study.accuracy)
    }
}

/// `accuracy`: float, then int8.
fn row(candidate: &Candidate, figures: Figures, accuracy: Option<(f64, f64)>) -> Row {
    Row {
        id: candidate.id,
        path: candidate.path.clone(),
        macs: figures.operations,
        params: figures.params,
        weight_bytes: figures.weight_bytes,
        activation_bytes: figures.activation_bytes,
        layers: candidate.layers.clone(),
        accuracy: accuracy.map(|(_, int8)| int8),
        accuracy_float: accuracy.map(|(float, _)| float),
    }
}

fn text(report: &Report) -> String {
    let operations = if report.count == Count::Macs { "MACs" } else { "FLOPs" };
    let is_evaluated = report.stitches.iter().any(|row| row.accuracy.is_some());
    let mut columns = vec![("id", Align::Right), (operations, Align::Right), ("params", Align::Right)];
    columns.extend([("weight B", Align::Right), ("activation B", Align::Right)]);
    if is_evaluated {
        columns.extend([("float", Align::Right), ("int8", Align::Right)]);
    }
    columns.push(("path", Align::Left));
    let mut table = Table::new(&columns);
    for row in &report.stitches {
        let numbers = [row.macs, row.params, row.weight_bytes, row.activation_bytes].map(grouped);
        let mut cells = vec![row.id.to_string()];
        cells.extend(numbers);
        cells.extend([row.accuracy_float, row.accuracy].into_iter().flatten().map(percent));
        cells.push(row.path.clone());
        table.row(cells);
    }
    let head = format!(
        "{}: {} anchors, {} stitches, {} stitching layers\n",
        report.family,
        report.anchors.len(),
        report.stitches.len() - report.anchors.len(),
        report.stitching_layers
    );
    let mut text = head + &table.to_string();
    if is_evaluated {
        text += &format!("\n{}", accuracy_plot(report));
    }
    text
}

/// Accuracy against MACs: `A` is an anchor, `o` a stitch.
fn accuracy_plot(report: &Report) -> String {
    let is_anchor = |row: &Row| (row.id as usize) < report.anchors.len();
    let point = |row: &Row| {
        let mark = if is_anchor(row) { 'A' } else { 'o' };
        Some(Point { x: row.macs as f64, y: row.accuracy? * 100.0, mark })
    };
    let (anchors, stitches): (Vec<&Row>, Vec<&Row>) = report.stitches.iter().partition(|row| is_anchor(row));
    let points: Vec<Point> = stitches.into_iter().chain(anchors).filter_map(point).collect();
    let axes = Axes {
        x: "MACs, log scale (A anchor, o stitch)",
        y: "int8 accuracy on ranking images, %",
        columns: 64,
        rows: 14,
    };
    plot(&points, &axes)
}
