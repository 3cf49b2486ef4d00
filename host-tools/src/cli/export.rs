//! `stitchkit export`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use serde::Serialize;
use stitchkit::assemble::cache::{self, Cache};
use stitchkit::compile::ExportOptions;
use stitchkit::compile::filters::{FilterOrder, Weave};
use stitchkit::compile::memory::Memories;
use stitchkit::export::{self, Export, ExportError, Fit, Keep, Outcome, Request};
use stitchkit::family::Family;
use stitchkit::fleet::{Assignment, Need};
use stitchkit::quantize::{Method, Options};
use stitchkit::report::results::Results;
use stitchkit::report::table::{Align, Table, grouped, percent};
use stitchkit::stitch::space;
use stitchkit::study::Findings;
use stitchkit_runtime::bundle::{AlignedBytes, Bundle};

use super::boards::{self, BoardOption};
use super::fleet::assignment_table;
use super::stages::Stages;
use super::{LimitsNotMet, Ui, output_file, units};
use stitchkit::report::data::ReportData;

/// Arguments of `stitchkit export`.
///
/// Stitches are ranked on training images; what is left is measured on the evaluation images, and those figures are stored
/// in the bundle. The file appears only when it is complete.
///
/// With --board the bundle gets exactly the plans that these boards will run. If a board cannot be served, all such boards
/// are named with the plan that comes nearest, nothing is written, and the exit code is 3.
#[derive(Debug, clap::Args)]
pub struct Command {
    /// The family: its folder, or its family.toml.
    family: PathBuf,
    /// The bundle to write.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Which stitches the bundle gets.
    #[arg(long, value_enum, default_value = "pareto", conflicts_with = "boards")]
    keep: Keep,
    /// With --keep pareto, also measure stitches that rank at most so many points of accuracy below the one that beats them,
    /// and let the evaluation images decide: even 2,000 ranking images do not tell differences below about half a point.
    #[arg(long, value_name = "POINTS", default_value_t = 100.0 * export::RANK_TOLERANCE, conflicts_with = "boards", value_parser = tolerance)]
    rank_tolerance: f64,
    /// Serve this board; may be repeated. FILE is a board file, and limits may follow it, as in
    /// `m4.toml,latency=30ms,memory=50%`.
    #[arg(long = "board", value_name = "FILE[,LIMITS]")]
    boards: Vec<BoardOption>,
    /// Reserve kept below the boards' time limits, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, requires = "boards", value_parser = clap::value_parser!(u8).range(0..=90))]
    margin: u8,
    /// Lay the plans out for boards with a fast memory of this size beside the main one, e.g. 64KiB: what is touched most lies
    /// there. With --board the smallest fast memory of these boards is the default. Boards without one run such plans too.
    #[arg(long, value_name = "SIZE", alias = "fast-ram-bytes", value_parser = units::bytes)]
    fast_memory: Option<u64>,
    /// Write outputs over inputs, row by row, in plans that take more than this otherwise, e.g. 40KiB; the kernels of these steps
    /// are called more often, and the runtime needs its feature `overlap`. With --board the default is to do so in plans that
    /// more of these boards hold then. `inspect --plan` shows where.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    arena_limit: Option<u64>,
    /// Store the filters of fully connected layers woven in pairs, where a plan does a tenth of its work in such layers: a fifth
    /// fewer instructions for them on a Cortex-M4, M7 or M33, more on other processors that read weights in place. The runtime needs
    /// its feature `woven`.
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    weave: Weave,
    /// Take stitching layers, ranges and ranking from this file, where `stitches --evaluate` or `merge --cache` kept them, if it
    /// holds those of this family; only the kept stitches are then measured.
    #[arg(long, value_name = "FILE", conflicts_with = "boards")]
    cache: Option<PathBuf>,
    /// Also write the kept plans with MACs, float and int8 accuracy as JSON.
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Also write what `stitchkit report` shows of the stitches that were not kept.
    #[arg(long, value_name = "FILE")]
    report_data: Option<PathBuf>,
    /// How activation ranges are chosen: `min-max`, `mse`, or `percentile:99.99`.
    #[arg(long, value_name = "METHOD", default_value = "mse", value_parser = method)]
    calibration: Method,
    /// Noise on features that stitching layers must bear, as a share of their variance: int8 activations have about
    /// 0.001 (30 dB). 0 is plain least squares.
    #[arg(long, value_name = "SHARE", default_value_t = 0.001)]
    stitch_noise: f64,
    /// Golden inputs stored in the bundle, so that a board can verify itself.
    #[arg(long, value_name = "N", default_value_t = 1)]
    golden: usize,
    /// Images for the signal-to-noise report of every step; 0 leaves it out.
    #[arg(long, value_name = "N", default_value_t = 16)]
    noise_images: usize,
    /// Print the signal-to-noise of every step of every plan.
    #[arg(long)]
    show_noise: bool,
}

#[derive(Serialize)]
struct Report {
    family: String,
    bundle: String,
    bundle_bytes: usize,
    search_images: usize,
    evaluation_images: usize,
    stitches: Vec<Outcome>,
    fits: Vec<Fit>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    boards: Vec<Assignment>,
}

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        output_file::check(&self.out)?;
        for path in self.report_data.iter().chain(&self.results) {
            output_file::check(path)?;
        }
        let boards = boards::read_all(&self.boards, self.margin)?;
        export::check_operators(&Family::load_structure(&self.family)?)?;
        let family = Family::load(&self.family)?;
        ui.note(format!("{}: {} anchors", family.config.name, family.anchors.len()));
        let request = Request {
            keep: self.keep,
            rank_tolerance: self.rank_tolerance / 100.0,
            options: ExportOptions {
                quantization: Options { method: self.calibration, ..Options::default() },
                golden_inputs: self.golden,
            },
            stitch_noise: self.stitch_noise,
            noise_images: self.noise_images,
            memories: self.memories(&boards),
            filters: self.filters(&boards),
        };
        let stages = Stages::new(ui);
        let watch = |stage, done, all| stages.show(stage, done, all);
        let (export, assignments) = match boards.is_empty() {
            true => {
                (export::export_known(&family, &request, self.known(&family, &request)?.as_ref(), &watch)?, Vec::new())
            }
            false => export::export_for(&family, &request, &boards, &watch).map_err(limits_not_met)?,
        };
        stages.finish();
        if let Some(path) = &self.report_data {
            let data = ReportData::of_export(&family, &export, &boards)?;
            output_file::write(path, &serde_json::to_vec(&data)?)?;
        }
        output_file::write(&self.out, &export.bytes)?;
        self.note_arenas(&export, ui);
        if let Some(path) = &self.results {
            let bytes = AlignedBytes::copy_of(&export.bytes);
            let results = Results::of(&Bundle::parse(bytes.as_slice())?);
            output_file::write(path, results.to_text()?.as_bytes())?;
        }
        let report = report(&family, &self.out, export, assignments);
        ui.print(&report, || text(&report, self.show_noise))
    }
}

impl Command {
    /// The memories of all boards.
    fn memories(&self, boards: &[Need]) -> Memories {
        let given = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        let common = Memories::of(boards.iter().map(Need::memories));
        Memories {
            fast_bytes: self.fast_memory.map_or(common.fast_bytes, given),
            main_bytes: self.arena_limit.map_or(common.main_bytes, |bytes| vec![given(bytes)]),
        }
    }

    /// The order of weights that suits all boards, unless another is asked for.
    fn filters(&self, boards: &[Need]) -> FilterOrder {
        self.weave.order(boards.iter().map(|board| board.filters))
    }

    /// Says which kept plans exceed the arena limit all the same.
    fn note_arenas(&self, export: &Export, ui: &Ui) {
        let Some(limit) = self.arena_limit else { return };
        let kept = || export.outcomes.iter().filter(|outcome| outcome.kept);
        let above = kept().filter(|outcome| u64::from(outcome.arena_bytes) > limit).count();
        if above > 0 {
            let (all, limit) = (kept().count(), grouped(limit));
            ui.note(format!("{above} of {all} plans take more than {limit} bytes even with outputs over inputs"));
        }
    }

    /// What the cache knows of this family.
    fn known(&self, family: &Family, request: &Request) -> anyhow::Result<Option<Findings>> {
        let Some(path) = &self.cache else { return Ok(None) };
        let key = cache::key(family, &space::enumerate(family)?.candidates, &request.settings());
        Ok(Cache::open(path).get(&key).map(|entry| entry.findings.clone()))
    }
}

/// Boards that cannot be served are limits not met; everything else stays what it is.
fn limits_not_met(error: ExportError) -> anyhow::Error {
    match error {
        ExportError::Fleet(fleet) => anyhow!(LimitsNotMet(format!("{fleet}\nnothing was written"))),
        other => other.into(),
    }
}

fn tolerance(text: &str) -> Result<f64, String> {
    let points = text.parse::<f64>().ok().filter(|points| (0.0..=100.0).contains(points));
    points.ok_or_else(|| "points of accuracy lie between 0 and 100".to_owned())
}

fn method(text: &str) -> Result<Method, String> {
    match text.split_once(':') {
        None if text == "min-max" => Ok(Method::MinMax),
        None if text == "mse" => Ok(Method::Mse),
        Some(("percentile", share)) => match share.parse::<f32>() {
            Ok(share) if share > 50.0 && share <= 100.0 => Ok(Method::Percentile(share)),
            _ => Err("a percentile lies above 50 and up to 100, as in `percentile:99.99`".to_owned()),
        },
        _ => Err("use `min-max`, `mse` or `percentile:99.99`".to_owned()),
    }
}

fn report(family: &Family, out: &Path, export: Export, boards: Vec<Assignment>) -> Report {
    Report {
        family: family.config.name.clone(),
        bundle: out.display().to_string(),
        bundle_bytes: export.bytes.len(),
        search_images: export.images.0,
        evaluation_images: export.images.1,
        stitches: export.outcomes,
        fits: export.fits,
        boards,
    }
}

fn text(report: &Report, show_noise: bool) -> String {
    let mut text = String::new();
    let kept = report.stitches.iter().filter(|s| s.kept).count();
    let _ = writeln!(
        text,
        "{}: {} of {} candidates in {} ({} bytes); ranked on {} training images, measured on {} evaluation images\n",
        report.family,
        kept,
        report.stitches.len(),
        report.bundle,
        grouped(report.bundle_bytes as u64),
        report.search_images,
        report.evaluation_images
    );
    let mut table = Table::new(&[
        ("stitch", Align::Right),
        ("MACs", Align::Right),
        ("arena B", Align::Right),
        ("rank float", Align::Right),
        ("rank int8", Align::Right),
        ("float", Align::Right),
        ("int8", Align::Right),
        ("same", Align::Right),
        ("", Align::Left),
        ("path", Align::Left),
    ]);
    let share = |accuracy: Option<f64>| accuracy.map_or("-".to_owned(), percent);
    for s in &report.stitches {
        table.row([
            s.id.to_string(),
            grouped(s.macs),
            grouped(s.arena_bytes.into()),
            percent(s.search_accuracy_float),
            percent(s.search_accuracy),
            share(s.accuracy_float),
            share(s.accuracy),
            share(s.agreement),
            match s.beaten_by {
                Some(id) => format!("beaten by {id}"),
                None if s.kept => "kept".to_owned(),
                None => String::new(),
            },
            s.path.clone(),
        ]);
    }
    text += &table.to_string();
    if !report.boards.is_empty() {
        let _ = write!(text, "\n{}", assignment_table(&report.boards));
    }
    for s in report.stitches.iter().filter(|s| !s.noise.is_empty()) {
        if show_noise {
            let _ = writeln!(text, "\nsignal to noise of {}:", s.path);
            for step in &s.noise {
                let _ = writeln!(
                    text,
                    "{:>7.1} dB  largest error {:>6.1} steps  {}",
                    step.snr_db, step.largest_error_steps, step.name
                );
            }
        }
    }
    text
}
