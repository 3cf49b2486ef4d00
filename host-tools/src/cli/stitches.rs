//! `stitchkit stitches`.

use std::path::PathBuf;

use anyhow::bail;
use serde::{Deserialize, Serialize};
use stitchkit::assemble::cache::{self, Cache};
use stitchkit::compile::ExportOptions;
use stitchkit::family::{Dataset, Family};
use stitchkit::report::scatter::{Axes, Point, plot};
use stitchkit::report::table::{Align, Table, grouped, percent};
use stitchkit::shard::{self, Header, Kind, Part, Shard, Whole};
use stitchkit::stitch::adapter::Adapter;
use stitchkit::stitch::init::{self, CrossingFit, Initialization};
use stitchkit::stitch::rank::{self, Agreement, Promise};
use stitchkit::stitch::space::{
    self,
    figures::{Count, Figures, Ledger},
};
use stitchkit::stitch::{Candidate, Space, evaluate, trained};
use stitchkit::study::{Settings, Study, study, study_part};

use super::Ui;
use super::assemble::CACHE_NAME;
use super::output_file;
use super::stages::Stages;

/// Arguments of `stitchkit stitches`.
#[derive(Debug, clap::Args)]
pub struct Command {
    /// The family: its folder, or its family.toml.
    family: PathBuf,
    /// Fit the stitching layers and say which stitches they promise to be good; no stitched network runs.
    #[arg(long)]
    rank: bool,
    /// The same, and measure all stitches on the ranking images, as float or, without a value, as int8 networks. What was
    /// found in int8 is kept where `assemble` looks for it.
    #[arg(long, value_enum, value_name = "ARITHMETIC", num_args = 0..=1, require_equals = true,
        default_missing_value = "int8")]
    evaluate: Option<Arithmetic>,
    /// Where results are kept between calls; `none` keeps nothing. Default: family.cache.json beside family.toml.
    #[arg(long, value_name = "FILE", requires = "evaluate")]
    cache: Option<PathBuf>,
    /// Measure on every N-th ranking image from the I-th on, and write JSON lines that `stitchkit merge` joins.
    #[arg(long, value_name = "I/N", requires = "evaluate")]
    shard: Option<Shard>,
    /// Where --shard writes; default: standard output.
    #[arg(long, value_name = "FILE", requires = "shard")]
    out: Option<PathBuf>,
    /// Convention: our multiply-accumulates, or the papers' FLOPs and parameters.
    #[arg(long, value_enum, default_value_t)]
    count: Count,
}

/// Arithmetic of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Arithmetic {
    /// Float networks alone: also for operators without an int8 form.
    Float,
    /// Float and int8.
    Int8,
}

/// What was found out by running things.
#[derive(Default)]
struct Results {
    fits: Vec<CrossingFit>,
    float: Vec<f64>,
    int8: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
struct Report {
    family: String,
    count: Count,
    anchors: Vec<AnchorRow>,
    stitching_layers: usize,
    stitches: Vec<Row>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    positions: Vec<PositionRow>,
    /// How well the promise of stitches predicts the order of their float accuracy.
    #[serde(skip_serializing_if = "Option::is_none", skip_deserializing)]
    agreement: Option<AgreementRow>,
}

/// One position and its least squares.
#[derive(Serialize, Deserialize)]
struct PositionRow {
    layer: usize,
    from_anchor: String,
    from_tensor: String,
    to_anchor: String,
    to_tensor: String,
    /// What the position needs beside an affine map; empty if nothing.
    adapter: String,
    relative_residual: f64,
    layer_residual: f64,
    similarity: f64,
}

#[derive(Serialize)]
struct AgreementRow {
    stitches: usize,
    explained: Option<Agreement>,
    similarity: Option<Agreement>,
    score: Option<Agreement>,
}

#[derive(Serialize, Deserialize)]
struct AnchorRow {
    name: String,
    macs: u64,
    params: u64,
    cuts: Vec<CutRow>,
}

#[derive(Serialize, Deserialize)]
struct CutRow {
    tensor: String,
    shape: Vec<usize>,
    stage: usize,
}

#[derive(Serialize, Deserialize)]
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
    #[serde(skip_serializing_if = "Option::is_none", skip_deserializing)]
    promise: Option<Promise>,
    weight_bytes: u64,
    activation_bytes: u64,
    layers: Vec<usize>,
}

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        if self.shard.is_some() && self.evaluate != Some(Arithmetic::Int8) {
            bail!("--shard divides --evaluate=int8");
        }
        self.out.as_deref().map(output_file::check).transpose()?;
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
        let part = self.shard.map(|shard| part(shard, &family, &space, ui)).transpose()?;
        let results = match &part {
            Some((_, study)) => Results { fits: study.fits.clone(), ..Results::default() },
            None => self.results(&family, &space, ui)?,
        };
        let mut ledger = Ledger::new(&family);
        let mut rows = Vec::with_capacity(space.candidates.len());
        for (index, candidate) in space.candidates.iter().enumerate() {
            rows.push(row(candidate, ledger.figures(candidate, self.count)?, &results, index));
        }
        let report = Report {
            family: family.config.name.clone(),
            anchors: anchors.collect(),
            stitching_layers: space.layers.len(),
            count: self.count,
            agreement: agreement_of(&rows),
            stitches: rows,
            positions: results.fits.iter().map(|fit| position(&family, fit)).collect(),
        };
        match part {
            Some((shard, study)) => self.write_part(shard, study, &family, &space, &report),
            None => ui.print(&report, || text(&report)),
        }
    }

    /// Writes the counts of right answers on a part of the ranking images.
    fn write_part(
        &self,
        shard: Shard,
        study: Study,
        family: &Family,
        space: &Space,
        report: &Report,
    ) -> anyhow::Result<()> {
        let count = |(id, &(float, int8)): (u32, &(usize, usize))| shard::Count {
            id,
            correct: int8,
            correct_float: Some(float),
        };
        let counts: Vec<shard::Count> = (0u32..).zip(study.findings.correct()).map(count).collect();
        let findings = study.findings.with_counts(Vec::new(), 0);
        let is_first = shard.index == 1;
        let exact = exact(report);
        let report = serde_json::to_value(report)?;
        let header = Header {
            schema_version: shard::VERSION,
            kind: Kind::Stitches,
            shard,
            subject: shard::digest(&[&report.to_string(), &serde_json::to_string(&findings)?]),
            images: study.search_images,
            counts: counts.len(),
            report,
            exact,
            key: is_first.then(|| cache::key(family, &space.candidates, &settings())),
            findings: is_first.then_some(findings),
        };
        output_file::write_part(self.out.as_deref(), &Part { name: String::new(), header, counts })
    }

    fn results(&self, family: &Family, space: &Space, ui: &Ui) -> anyhow::Result<Results> {
        match self.evaluate {
            Some(Arithmetic::Int8) => self.study(family, space, ui),
            Some(Arithmetic::Float) => {
                let (fitted, images) = fitted(family, space, ui)?;
                let bar = ui.bar(images.len() as u64, "ranking, float");
                let found = evaluate::accuracy(family, &space.candidates, &fitted.layers, &images, &|done, _| {
                    bar.set_position(done);
                })?;
                bar.finish_and_clear();
                let float = found.iter().map(|accuracy| accuracy.share()).collect();
                Ok(Results { fits: fitted.fits, float, int8: Vec::new() })
            }
            None if self.rank => Ok(Results { fits: fitted(family, space, ui)?.0.fits, ..Results::default() }),
            None => Ok(Results::default()),
        }
    }

    /// Float and int8 accuracy of every stitch on the ranking images.
    fn study(&self, family: &Family, space: &Space, ui: &Ui) -> anyhow::Result<Results> {
        let settings = settings();
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
        let (float, int8) = study.accuracy.into_iter().unzip();
        Ok(Results { fits: study.fits, float, int8 })
    }
}

/// What `export` and `assemble` take by default.
fn settings() -> Settings {
    Settings { options: ExportOptions { golden_inputs: 1, ..ExportOptions::default() }, stitch_noise: 0.001 }
}

/// A study with a part of the ranking images.
fn part(shard: Shard, family: &Family, space: &Space, ui: &Ui) -> anyhow::Result<(Shard, Study)> {
    let stages = Stages::new(ui);
    let watch = |stage, done, all| stages.show(stage, done, all);
    let study = study_part(family, space, settings(), shard, &watch)?;
    stages.finish();
    Ok((shard, study))
}

/// The bits of the report's measured numbers, which its text form may change in the last place: of every stitch, then of every
/// position.
fn exact(report: &Report) -> Vec<Vec<u64>> {
    let bits = |numbers: [f64; 3]| numbers.map(f64::to_bits).to_vec();
    let of_row = |row: &Row| row.promise.map_or(Vec::new(), |p| bits([p.explained, p.similarity, p.score]));
    let of_position = |row: &PositionRow| bits([row.relative_residual, row.layer_residual, row.similarity]);
    report.stitches.iter().map(of_row).chain(report.positions.iter().map(of_position)).collect()
}

/// Puts the numbers of [`exact`] back.
fn restore(report: &mut Report, exact: &[Vec<u64>]) {
    let (rows, positions) = exact.split_at(report.stitches.len().min(exact.len()));
    for (row, bits) in report.stitches.iter_mut().zip(rows) {
        if let [explained, similarity, score] = bits[..] {
            let [explained, similarity, score] = [explained, similarity, score].map(f64::from_bits);
            row.promise = Some(Promise { explained, similarity, score });
        }
    }
    for (row, bits) in report.positions.iter_mut().zip(positions) {
        if let [relative, layer, similarity] = bits[..] {
            [row.relative_residual, row.layer_residual, row.similarity] =
                [relative, layer, similarity].map(f64::from_bits);
        }
    }
}

/// Prints what one run over all images would have printed.
pub fn print_whole(ui: &Ui, whole: &Whole) -> anyhow::Result<()> {
    let mut report: Report = serde_json::from_value(whole.header.report.clone())?;
    restore(&mut report, &whole.header.exact);
    let share = |correct: usize| correct as f64 / whole.header.images.max(1) as f64;
    for (row, count) in report.stitches.iter_mut().zip(&whole.counts) {
        row.accuracy = Some(share(count.correct));
        row.accuracy_float = count.correct_float.map(share);
    }
    report.agreement = agreement_of(&report.stitches);
    ui.print(&report, || text(&report))
}

/// Stitching layers, fitted on the calibration images unless the family has trained ones, with the fits of all positions; and
/// the images that rank.
fn fitted(family: &Family, space: &Space, ui: &Ui) -> anyhow::Result<(Initialization, Dataset)> {
    let images = family.training_images()?;
    let bar = ui.bar(images.calibration.len() as u64, "fitting stitches");
    let mut found = init::least_squares(family, space, &images.calibration, 0.0, &|done, _| bar.set_position(done))?;
    let stored = trained::stored(family, space)?;
    let is_solved: Vec<bool> = stored.iter().map(Option::is_none).collect();
    for (layer, stored) in found.layers.iter_mut().zip(stored) {
        *layer = stored.unwrap_or_else(|| layer.clone());
    }
    trained::recalibrate_solved(family, space, &mut found.layers, &is_solved, &images.calibration)?;
    bar.finish_and_clear();
    Ok((found, images.search))
}

fn position(family: &Family, fit: &CrossingFit) -> PositionRow {
    let cut = |(anchor, cut): (usize, usize)| &family.anchors[anchor].cuts[cut];
    let (from, to) = (cut(fit.crossing.from), cut(fit.crossing.to));
    PositionRow {
        layer: fit.layer,
        from_anchor: family.anchors[fit.crossing.from.0].name.clone(),
        from_tensor: from.tensor.clone(),
        to_anchor: family.anchors[fit.crossing.to.0].name.clone(),
        to_tensor: to.tensor.clone(),
        adapter: Adapter::between(&from.shape, &to.shape).map_or_else(String::new, |adapter| adapter.describe()),
        relative_residual: fit.relative_residual,
        layer_residual: fit.layer_residual,
        similarity: fit.similarity,
    }
}

/// Over the stitches that were measured.
fn agreement_of(rows: &[Row]) -> Option<AgreementRow> {
    let known: Vec<(Promise, f64)> = rows.iter().filter_map(|row| Some((row.promise?, row.accuracy_float?))).collect();
    let accuracy: Vec<f64> = known.iter().map(|(_, accuracy)| *accuracy).collect();
    let of = |part: fn(&Promise) -> f64| {
        rank::agreement(&known.iter().map(|(promise, _)| part(promise)).collect::<Vec<_>>(), &accuracy)
    };
    let [explained, similarity, score] = [of(|p| p.explained), of(|p| p.similarity), of(|p| p.score)];
    (!known.is_empty()).then_some(AgreementRow { stitches: known.len(), explained, similarity, score })
}

fn row(candidate: &Candidate, figures: Figures, results: &Results, index: usize) -> Row {
    Row {
        id: candidate.id,
        path: candidate.path.clone(),
        macs: figures.operations,
        params: figures.params,
        weight_bytes: figures.weight_bytes,
        activation_bytes: figures.activation_bytes,
        layers: candidate.layers.clone(),
        accuracy: results.int8.get(index).copied(),
        accuracy_float: results.float.get(index).copied(),
        promise: rank::promise(candidate, &results.fits),
    }
}

fn text(report: &Report) -> String {
    let operations = if report.count == Count::Macs { "MACs" } else { "FLOPs" };
    let has = |part: fn(&Row) -> bool| report.stitches.iter().any(part);
    let (float, int8) = (has(|row| row.accuracy_float.is_some()), has(|row| row.accuracy.is_some()));
    let promise = has(|row| row.promise.is_some());
    let mut columns = vec!["id", operations, "params", "weight B", "activation B"];
    columns.extend(["explained", "CKA", "score"].into_iter().filter(|_| promise));
    columns.extend(float.then_some("float").into_iter().chain(int8.then_some("int8")));
    let columns: Vec<(&str, Align)> = columns.into_iter().map(|name| (name, Align::Right)).collect();
    let mut table = Table::new(&[columns.as_slice(), &[("path", Align::Left)]].concat());
    for row in &report.stitches {
        let numbers = [row.macs, row.params, row.weight_bytes, row.activation_bytes].map(grouped);
        let mut cells = vec![row.id.to_string()];
        cells.extend(numbers);
        if promise {
            let of = |part: fn(&Promise) -> f64| row.promise.as_ref().map_or("-".into(), |p| format!("{:.3}", part(p)));
            cells.extend([of(|p| p.explained), of(|p| p.similarity), of(|p| p.score)]);
        }
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
    if float {
        text += &format!("\n{}", accuracy_plot(report));
    }
    if let Some(found) = &report.agreement {
        text += &agreement_text(found);
    }
    text
}

fn agreement_text(found: &AgreementRow) -> String {
    let mut text =
        format!("\nrank correlation with the float accuracy of {} stitches (Spearman, Kendall):", found.stitches);
    for (name, agreement) in [("score", found.score), ("explained", found.explained), ("CKA", found.similarity)] {
        let numbers = agreement.map_or("none".to_owned(), |it| format!("{:.2}, {:.2}", it.spearman, it.kendall));
        text += &format!("  {name} {numbers}");
    }
    text + "\n"
}

/// Accuracy against MACs: `A` is an anchor, `o` a stitch.
fn accuracy_plot(report: &Report) -> String {
    let is_anchor = |row: &Row| (row.id as usize) < report.anchors.len();
    let point = |row: &Row| {
        let mark = if is_anchor(row) { 'A' } else { 'o' };
        Some(Point { x: row.macs as f64, y: row.accuracy.or(row.accuracy_float)? * 100.0, mark })
    };
    let (anchors, stitches): (Vec<&Row>, Vec<&Row>) = report.stitches.iter().partition(|row| is_anchor(row));
    let int8 = report.stitches.iter().any(|row| row.accuracy.is_some());
    let points: Vec<Point> = stitches.into_iter().chain(anchors).filter_map(point).collect();
    let axes = Axes {
        x: "MACs, log scale (A anchor, o stitch)",
        y: if int8 { "int8 accuracy on ranking images, %" } else { "float accuracy on ranking images, %" },
        columns: 64,
        rows: 14,
    };
    plot(&points, &axes)
}
