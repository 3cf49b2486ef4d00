//! `stitchkit eval`.

mod cascade;

use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use stitchkit::family::DataSource;
use stitchkit::family::data::{DataError, Listing, shuffled};
use stitchkit::infer::{self, Backend};
use stitchkit::report::table::{Align, Table, percent, ppm_share};
use stitchkit::shard::{self, Header, Kind, Part, Shard, Whole};
use stitchkit_runtime::bundle::crc32;

use super::Ui;
use super::bundle_file::BundleFile;
use super::output_file;
use super::plan_choice::{BackendOption, existing_plan};

/// Arguments of `stitchkit eval`.
#[derive(Debug, clap::Args)]
pub struct Command {
    /// The bundle.
    bundle: PathBuf,
    /// Labelled images: a folder with one folder per class, a tar of such folders, or an npz with arrays x and y.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Sub-folder of the data, or suffix of the npz arrays (x_test, y_test). Default: `test` where there is one.
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Measure only this plan; may be repeated.
    #[arg(long = "plan", value_name = "ID")]
    plans: Vec<u16>,
    /// Measure a cascade instead: plan CHEAP answers where its best logit leads the second by at least THRESHOLD int8 steps,
    /// elsewhere plan COSTLY goes on from the blocks both share. Reports accuracy against average cost.
    #[arg(long, value_name = "CHEAP,COSTLY[,THRESHOLD...]", value_parser = cascade::parse, conflicts_with = "plans")]
    cascade: Option<cascade::CascadeOption>,
    /// Use only the first N images of a seeded shuffle.
    #[arg(long, value_name = "N")]
    images: Option<usize>,
    /// Measure on every N-th image from the I-th on, and write JSON lines that `stitchkit merge` joins.
    #[arg(long, value_name = "I/N", conflicts_with = "cascade")]
    shard: Option<Shard>,
    /// Where --shard writes; default: standard output.
    #[arg(long, value_name = "FILE", requires = "shard")]
    out: Option<PathBuf>,
    #[command(flatten)]
    backend: BackendOption,
}

#[derive(Serialize, Deserialize)]
struct Report {
    backend: Backend,
    plans: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    id: u16,
    path: String,
    accuracy: f64,
    correct: usize,
    images: usize,
    /// Float accuracy stored at export.
    accuracy_float: f64,
}

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        self.out.as_deref().map(output_file::check).transpose()?;
        let file = BundleFile::read(&self.bundle)?;
        let loaded = file.load()?;
        let bundle = loaded.bundle;
        let meta = bundle.meta();
        let shape = [meta.input.h.into(), meta.input.w.into(), meta.input.c.into()];
        let labels: Vec<String> = meta.labels.lines().map(str::to_owned).collect();
        let source = DataSource { path: self.data.clone(), split: self.split.clone() };
        let listing = open(source, shape, &labels)?;
        let chosen = match self.images.filter(|&limit| limit < listing.len()) {
            Some(limit) => shuffled(listing.len(), 1)[..limit].to_vec(),
            None => (0..listing.len()).collect(),
        };
        let all_images = chosen.len();
        let chosen = self.shard.map_or_else(|| chosen.clone(), |shard| shard.select(&chosen));
        let dataset = listing.load(&chosen)?;
        let ids: Vec<u16> = match self.plans.is_empty() {
            true => (0..bundle.plan_count()).collect(),
            false => self.plans.iter().map(|&id| existing_plan(&bundle, id)).collect::<Result<_, _>>()?,
        };
        let inputs = infer::quantize_images(&bundle, &dataset.images)?;
        if let Some(option) = &self.cascade {
            existing_plan(&bundle, option.cheap)?;
            existing_plan(&bundle, option.costly)?;
            let bar = ui.bar(dataset.len() as u64, "evaluating the cascade");
            let report = cascade::measure(&bundle, option, &inputs, &dataset.labels, &|n| bar.inc(n))?;
            bar.finish_and_clear();
            return ui.print(&report, || cascade::text(&report));
        }
        let bar = ui.bar((ids.len() * dataset.len()) as u64, "evaluating int8");
        let mut rows = Vec::new();
        for id in ids {
            let plan = bundle.plan(id).context("plan does not decode")?;
            let correct =
                infer::count_correct(loaded, id, self.backend.backend, &inputs, &dataset.labels, &|n| bar.inc(n))?;
            rows.push(Row {
                id,
                path: plan.path.to_owned(),
                accuracy: correct as f64 / dataset.len().max(1) as f64,
                correct,
                images: dataset.len(),
                accuracy_float: ppm_share(plan.float_accuracy_ppm),
            });
        }
        bar.finish_and_clear();
        let report = Report { backend: self.backend.backend, plans: rows };
        match self.shard {
            Some(shard) => self.write_part(shard, report, all_images, &file),
            None => ui.print(&report, || text(&report)),
        }
    }

    /// Writes the counts of a part of the images.
    fn write_part(&self, shard: Shard, mut report: Report, all_images: usize, file: &BundleFile) -> anyhow::Result<()> {
        let images = report.plans.first().map_or(0, |row| row.images);
        let mut counts = Vec::new();
        for row in &mut report.plans {
            counts.push(shard::Count { id: row.id.into(), correct: row.correct, correct_float: None });
            (row.accuracy, row.correct, row.images) = (0.0, 0, 0);
        }
        let report = serde_json::to_value(report)?;
        let header = Header {
            schema_version: shard::VERSION,
            kind: Kind::Eval,
            shard,
            subject: shard::digest(&[&report.to_string(), &crc32(file.bytes()).to_string(), &all_images.to_string()]),
            images,
            counts: counts.len(),
            report,
            exact: Vec::new(),
            key: None,
            findings: None,
        };
        output_file::write_part(self.out.as_deref(), &Part { name: String::new(), header, counts })
    }
}

/// Prints what one run over all images would have printed.
pub fn print_whole(ui: &Ui, whole: &Whole) -> anyhow::Result<()> {
    let mut report: Report = serde_json::from_value(whole.header.report.clone())?;
    let images = whole.header.images;
    for (row, count) in report.plans.iter_mut().zip(&whole.counts) {
        row.accuracy = count.correct as f64 / images.max(1) as f64;
        (row.correct, row.images) = (count.correct, images);
    }
    ui.print(&report, || text(&report))
}

/// Opens the data; without a split named, the data as a whole or else its `test` part.
fn open(mut source: DataSource, shape: [usize; 3], labels: &[String]) -> Result<Listing, DataError> {
    let whole = Listing::open(&source, shape, labels);
    if whole.is_ok() || source.split.is_some() {
        return whole;
    }
    source.split = Some("test".to_owned());
    Listing::open(&source, shape, labels).or(whole)
}

fn text(report: &Report) -> String {
    let mut table = Table::new(&[
        ("plan", Align::Right),
        ("int8", Align::Right),
        ("float at export", Align::Right),
        ("images", Align::Right),
        ("path", Align::Left),
    ]);
    for row in &report.plans {
        table.row([
            row.id.to_string(),
            percent(row.accuracy),
            percent(row.accuracy_float),
            row.images.to_string(),
            row.path.clone(),
        ]);
    }
    table.to_string()
}
