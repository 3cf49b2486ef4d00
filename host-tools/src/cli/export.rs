//! `stitchkit export`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use serde::Serialize;
use stitchkit::compile::ExportOptions;
use stitchkit::export::{self, Export, Fit, Keep, Outcome, Request};
use stitchkit::family::Family;
use stitchkit::quantize::{Method, Options};
use stitchkit::report::table::{Align, Table, grouped, percent};

use super::Ui;

/// Arguments of `stitchkit export`.
///
/// Stitches are ranked on training images; what is left is measured on the evaluation images, and those figures are stored
/// in the bundle. The file appears only when it is complete.
#[derive(Debug, clap::Args)]
pub struct Command {
    /// The family: its folder, or its family.toml.
    family: PathBuf,
    /// The bundle to write.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Which stitches the bundle gets.
    #[arg(long, value_enum, default_value = "pareto")]
    keep: Keep,
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
}

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        if self.out.is_dir() {
            bail!("{} is a folder; --out names the file to write", self.out.display());
        }
        if !folder_of(&self.out).is_dir() {
            bail!("the folder of {} does not exist", self.out.display());
        }
        export::check_operators(&Family::load_structure(&self.family)?)?;
        let family = Family::load(&self.family)?;
        ui.note(format!("{}: {} anchors", family.config.name, family.anchors.len()));
        let request = Request {
            keep: self.keep,
            options: ExportOptions {
                quantization: Options { method: self.calibration, ..Options::default() },
                golden_inputs: self.golden,
            },
            stitch_noise: self.stitch_noise,
            noise_images: self.noise_images,
        };
        let stages = Stages::new(ui);
        let export = export::export(&family, request, &|stage, done, all| stages.show(stage, done, all))?;
        stages.finish();
        write_atomically(&self.out, &export.bytes)?;
        let report = report(&family, &self.out, export);
        ui.print(&report, || text(&report, self.show_noise))
    }
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

/// One progress bar after the other.
struct Stages<'a> {
    ui: &'a Ui,
    current: Mutex<Option<(&'static str, ProgressBar)>>,
}

impl<'a> Stages<'a> {
    fn new(ui: &'a Ui) -> Self {
        Self { ui, current: Mutex::new(None) }
    }

    fn show(&self, stage: &'static str, done: u64, all: u64) {
        let Ok(mut current) = self.current.lock() else { return };
        match current.as_ref() {
            Some((name, bar)) if *name == stage => bar.set_position(done),
            _ => {
                if let Some((_, bar)) = current.take() {
                    bar.finish_and_clear();
                }
                let bar = self.ui.bar(all, stage);
                bar.set_position(done);
                *current = Some((stage, bar));
            }
        }
    }

    fn finish(&self) {
        if let Ok(Some((_, bar))) = self.current.lock().map(|mut c| c.take()) {
            bar.finish_and_clear();
        }
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes beside the target and renames, so that no half-written bundle is ever seen.
fn write_atomically(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = folder_of(path);
    let cannot = || format!("cannot write {}", path.display());
    let mut file =
        tempfile::Builder::new().prefix(".stitchkit-").suffix(".stk.tmp").tempfile_in(folder).with_context(cannot)?;
    file.write_all(bytes).with_context(cannot)?;
    file.as_file().sync_all().with_context(cannot)?;
    file.persist(path).with_context(cannot)?;
    Ok(())
}

fn report(family: &Family, out: &Path, export: Export) -> Report {
    Report {
        family: family.config.name.clone(),
        bundle: out.display().to_string(),
        bundle_bytes: export.bytes.len(),
        search_images: export.images.0,
        evaluation_images: export.images.1,
        stitches: export.outcomes,
        fits: export.fits,
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
            match s.beaten_by {
                Some(id) => format!("beaten by {id}"),
                None if s.kept => "kept".to_owned(),
                None => String::new(),
            },
            s.path.clone(),
        ]);
    }
    text += &table.to_string();
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
