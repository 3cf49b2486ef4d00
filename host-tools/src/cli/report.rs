//! `stitchkit report`.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use serde::Serialize;
use stitchkit::compile::ExportOptions;
use stitchkit::compile::filters::FilterOrder;
use stitchkit::compile::memory::Memories;
use stitchkit::export::{self, Keep, Request};
use stitchkit::family::{FILE_NAME, Family};
use stitchkit::fleet::Need;
use stitchkit::quantize::Options;
use stitchkit::report::data::{ReportData, SCHEMA_VERSION};
use stitchkit::report::table::grouped;
use stitchkit::report::trace::Trace;
use stitchkit::report::training::TrainingData;
use stitchkit::report::{bundle_data, page};

use super::boards::{self, BoardOption};
use super::bundle_file::BundleFile;
use super::stages::Stages;
use super::{Ui, output_file};

/// Arguments of `stitchkit report`.
///
/// One page that loads nothing and works without a network: accuracy against multiply-accumulates, memory and predicted
/// latency, the path of every network through the anchors, sortable tables, and adaptation traces.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stitchkit report models/digits --html digits.html
  stitchkit export models/digits --out d.stk --report-data d.json && stitchkit report d.json --board m4.toml --html d.html")]
pub struct Command {
    /// A family (its networks are evaluated first, as export does), a bundle (only what it holds is shown), or what
    /// `export --report-data` wrote.
    source: PathBuf,
    /// The page to write.
    #[arg(long, value_name = "FILE")]
    html: PathBuf,
    /// Predict latencies for this board and mark the network it runs; may be repeated. FILE is a board file, and limits may
    /// follow it, as in `m4.toml,latency=30ms,memory=50%`.
    #[arg(long = "board", value_name = "FILE[,LIMITS]")]
    boards: Vec<BoardOption>,
    /// Reserve kept below the boards' time limits, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=90))]
    margin: u8,
    /// Plot an adaptation trace (JSON lines, one per inference); may be repeated.
    #[arg(long = "trace", value_name = "FILE")]
    traces: Vec<PathBuf>,
    /// Plot the training run of this log; default: run.log.jsonl in the family's folder, if it is there.
    #[arg(long, value_name = "FILE")]
    training: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    html: String,
    html_bytes: usize,
    networks: usize,
    kept: usize,
    boards: usize,
    traces: usize,
}

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        output_file::check(&self.html)?;
        let boards = boards::read_all(&self.boards, self.margin)?;
        let traces = self.traces.iter().map(|path| read_trace(path)).collect::<anyhow::Result<Vec<_>>>()?;
        let mut data = read(&self.source, ui)?;
        // Boards of an earlier export give way to those asked for now.
        if !boards.is_empty() {
            data.boards.clear();
        }
        add(&mut data, &boards, traces);
        if let Some(path) = self.training.clone().or_else(|| run_log(&self.source)) {
            data.training = Some(read_training(&path)?);
        }
        let html = page::render(&data)?;
        output_file::write(&self.html, html.as_bytes())?;
        let report = Report {
            html: self.html.display().to_string(),
            html_bytes: html.len(),
            networks: data.networks.len(),
            kept: data.networks.iter().filter(|n| n.plan.is_some()).count(),
            boards: data.boards.len(),
            traces: data.traces.len(),
        };
        ui.print(&report, || {
            format!(
                "{}: {} networks, {} of them in the bundle; {} bytes\n",
                report.html,
                report.networks,
                report.kept,
                grouped(report.html_bytes as u64)
            )
        })
    }
}

fn add(data: &mut ReportData, boards: &[Need], traces: Vec<Trace>) {
    data.add_boards(boards);
    data.traces.extend(traces);
}

fn read(source: &Path, ui: &Ui) -> anyhow::Result<ReportData> {
    if source.is_dir() || source.extension().is_some_and(|e| e == "toml") {
        return evaluate(source, ui);
    }
    let bytes = std::fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
    if !bytes.starts_with(b"{") {
        let file = BundleFile::read(source)?;
        return Ok(bundle_data::of_bundle(&file.load()?.bundle));
    }
    let data: ReportData = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is not what `export --report-data` writes", source.display()))?;
    if data.schema_version != SCHEMA_VERSION {
        bail!(
            "{}: schema_version {}, this program reads {SCHEMA_VERSION}; export again",
            source.display(),
            data.schema_version
        );
    }
    let networks = data.networks.len();
    if data.boards.iter().any(|board| board.latency_us.len() != networks) {
        bail!("{}: a board has not one latency for each of the {networks} networks", source.display());
    }
    Ok(data)
}

fn evaluate(source: &Path, ui: &Ui) -> anyhow::Result<ReportData> {
    let family = Family::load(source)?;
    let request = Request {
        keep: Keep::Pareto,
        rank_tolerance: export::RANK_TOLERANCE,
        options: ExportOptions { quantization: Options::default(), golden_inputs: 1 },
        stitch_noise: 0.001,
        noise_images: 16,
        memories: Memories::ONE,
        filters: FilterOrder::Apart,
    };
    let stages = Stages::new(ui);
    let export = export::export(&family, &request, &|stage, done, all| stages.show(stage, done, all))?;
    stages.finish();
    Ok(ReportData::of_export(&family, &export, &[])?)
}

/// The log that a training run left in a family's folder.
fn run_log(source: &Path) -> Option<PathBuf> {
    let folder = if source.is_dir() { source } else { source.parent().filter(|_| source.ends_with(FILE_NAME))? };
    Some(folder.join("run.log.jsonl")).filter(|path| path.is_file())
}

fn read_training(path: &Path) -> anyhow::Result<TrainingData> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    TrainingData::of_log(&text).map_err(|reason| anyhow!("{}: {reason}", path.display()))
}

fn read_trace(path: &Path) -> anyhow::Result<Trace> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Trace::parse(&name, &text).with_context(|| path.display().to_string())
}
