//! `stitchkit assemble`.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{anyhow, bail};
use serde::Serialize;
use stitchkit::assemble::cache::Cache;
use stitchkit::assemble::{self, Assembly, Contender, Order, Prefer};
use stitchkit::compile::ExportOptions;
use stitchkit::compile::filters::FilterOrder;
use stitchkit::family::Family;
use stitchkit::fleet::Need;
use stitchkit::fleet::limits::{Excess, Limits};
use stitchkit::report::table::{Align, Table, grouped, percent};
use stitchkit::study::Settings;
use stitchkit_runtime::profile::LatencyModel;

use super::boards::{self, BoardOption};
use super::stages::Stages;
use super::{LimitsNotMet, Ui, output_file, units};

/// Name of the cache file beside `family.toml`.
pub const CACHE_NAME: &str = "family.cache.json";

/// Arguments of `stitchkit assemble`.
///
/// Tries every stitch of the family, on every image size asked for, cut down to the classes asked for, and writes the bundle
/// of the best one inside the limits. Nothing is trained. The first call runs the networks on the family's images, as
/// export does; what it found is kept in a file, and later calls with other limits take a moment.
/// If nothing is inside the limits, the nearest miss is named and the exit code is 3.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stitchkit assemble models/cifar10-resnet --latency 30ms --memory 64KiB --clock 168MHz --out b.stk
  stitchkit assemble models/cifar10-resnet --board m4.toml,latency=1s --classes cat,dog,bird --out pets.stk
  stitchkit assemble models/cifar10-resnet --memory 24KiB --input-sizes 32,24 --out small.stk")]
pub struct Command {
    /// The family: its folder, or its family.toml.
    family: PathBuf,
    /// The bundle to write; without it only the choice is printed.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Time one inference may take, e.g. 30ms.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    latency: Option<Duration>,
    /// Arena bytes available, e.g. 64KiB.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    memory: Option<u64>,
    /// Bytes available to the bundle, e.g. 200KiB.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    flash: Option<u64>,
    /// Least share of right answers in int8, 0 to 1, on ranking and evaluation images.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    min_accuracy: Option<f64>,
    /// The board; its memory and latencies count, and limits may follow, as in `m4.toml,latency=30ms,memory=50%`.
    #[arg(long, value_name = "FILE[,LIMITS]", conflicts_with = "clock")]
    board: Option<BoardOption>,
    /// Without a board: predict latencies for a Cortex-M4 at this clock, one instruction per cycle.
    #[arg(long, value_name = "HZ", value_parser = units::frequency, default_value = "100MHz")]
    clock: u64,
    /// Reserve kept below the time limit, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=90))]
    margin: u8,
    /// Classes to tell apart, by label (by index where the family names none); the others are cut off.
    #[arg(long, value_name = "LABELS", value_delimiter = ',')]
    classes: Vec<String>,
    /// Sizes of square images to try, e.g. `32,24,16`, or `24x32` for rows x columns. Without it, the family's own.
    #[arg(long, value_name = "SIZES", value_delimiter = ',', value_parser = size)]
    input_sizes: Vec<[usize; 2]>,
    /// Most times a path may change anchors. Above 1, paths are composed of the crossings that the family has.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    crossings: u32,
    /// Which of the networks inside the limits is best.
    #[arg(long, value_enum, default_value = "accuracy")]
    prefer: Prefer,
    /// Where results are kept between calls; `none` keeps nothing. Default: family.cache.json beside family.toml.
    #[arg(long, value_name = "FILE")]
    cache: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report<'a> {
    family: &'a str,
    limits: Limits,
    paths: u64,
    options: &'a [Contender],
    chosen: Option<ChosenRow<'a>>,
    nearest_miss: Option<MissRow<'a>>,
}

#[derive(Serialize)]
struct ChosenRow<'a> {
    #[serde(flatten)]
    option: &'a Contender,
    /// On the evaluation images.
    evaluated: f64,
    evaluated_float: f64,
    evaluation_images: usize,
    golden: bool,
    bundle: Option<String>,
}

#[derive(Serialize)]
struct MissRow<'a> {
    #[serde(flatten)]
    option: &'a Contender,
    reason: String,
}

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        self.out.as_deref().map(output_file::check).transpose()?;
        let family = Family::load(&self.family)?;
        let order = self.order(&family)?;
        let variants = self.variants(family.clone(), &order)?;
        let mut cache = match self.cache.as_deref() {
            Some(path) if path.as_os_str() == "none" => Cache::none(),
            Some(path) => Cache::open(path),
            None => Cache::open(&family.folder.join(CACHE_NAME)),
        };
        let settings =
            Settings { options: ExportOptions { golden_inputs: 1, ..ExportOptions::default() }, stitch_noise: 0.001 };
        let stages = Stages::new(ui);
        let watch = |stage, done, all| stages.show(stage, done, all);
        let assembly = assemble::assemble(variants, &order, settings, &mut cache, &watch)?;
        stages.finish();
        if let Err(error) = cache.save() {
            ui.warn(format!("results are not kept for the next call: {error}"));
        }
        if let (Some(out), Some(chosen)) = (&self.out, &assembly.bundle) {
            output_file::write(out, &chosen.bytes)?;
        }
        let report = self.report(&family, &order, &assembly);
        ui.print(&report, || text(&report, &order))?;
        match report.nearest_miss {
            None => Ok(()),
            Some(miss) => Err(anyhow!(LimitsNotMet(format!("no network meets the limits; {}", miss.reason)))),
        }
    }

    fn order(&self, family: &Family) -> anyhow::Result<Order> {
        let mut need = match &self.board {
            Some(board) => boards::read_all(std::slice::from_ref(board), self.margin)?.remove(0),
            None => Need {
                board: format!("Cortex-M4 at {} MHz", self.clock as f64 / 1e6),
                limits: Limits::NONE,
                fast_ram_bytes: 0,
                filters: FilterOrder::Woven,
                model: at_clock(self.clock)?,
                clock_hz: Some(self.clock),
            },
        };
        let smaller = |own: Option<u64>, wanted: Option<u64>| match (own, wanted) {
            (Some(own), Some(wanted)) => Some(own.min(wanted)),
            (own, wanted) => own.or(wanted),
        };
        let limits = &mut need.limits;
        limits.margin_percent = self.margin;
        limits.ram_bytes = smaller(limits.ram_bytes, self.memory);
        limits.flash_bytes = smaller(limits.flash_bytes, self.flash);
        limits.deadline_us = smaller(limits.deadline_us, self.latency.map(|t| t.as_micros() as u64));
        limits.min_accuracy = self.min_accuracy;
        let [rows, columns, _] = family.config.input.shape;
        let sizes = if self.input_sizes.is_empty() { vec![[rows, columns]] } else { self.input_sizes.clone() };
        Ok(Order { need, prefer: self.prefer, crossings: self.crossings, sizes })
    }

    fn variants(&self, family: Family, order: &Order) -> anyhow::Result<Vec<Family>> {
        let family = if self.classes.is_empty() { family } else { family.with_classes(&self.classes)? };
        let own = family.config.input.shape;
        let (mut variants, mut problems) = (Vec::new(), Vec::new());
        for &[rows, columns] in &order.sizes {
            match [rows, columns] == own[..2] {
                true => variants.push(family.clone()),
                false => match family.with_input_size(rows, columns) {
                    Ok(variant) => variants.push(variant),
                    Err(problem) => problems.push(problem.to_string()),
                },
            }
        }
        match problems.as_slice() {
            [] => Ok(variants),
            problems => bail!("{}", problems.join("\n")),
        }
    }

    fn report<'a>(&self, family: &'a Family, order: &Order, assembly: &'a Assembly) -> Report<'a> {
        let chosen = assembly.bundle.as_ref().map(|chosen| ChosenRow {
            option: &assembly.options[chosen.option],
            evaluated: chosen.accuracy,
            evaluated_float: chosen.accuracy_float,
            evaluation_images: chosen.evaluation_images,
            golden: chosen.golden,
            bundle: self.out.as_ref().map(|out| out.display().to_string()),
        });
        let nearest_miss = assembly.miss.as_ref().map(|(option, excesses)| {
            let option = &assembly.options[*option];
            let reasons: Vec<String> = excesses.iter().map(Excess::to_string).collect();
            let [rows, columns] = option.input;
            let reason = format!("`{}` on {rows}x{columns} comes nearest, but {}", option.path, reasons.join(", and "));
            MissRow { option, reason }
        });
        Report {
            family: &family.config.name,
            limits: order.need.limits,
            paths: assembly.paths,
            options: &assembly.options,
            chosen,
            nearest_miss,
        }
    }
}

/// The Cortex-M4 model at a clock, one instruction per cycle.
fn at_clock(hertz: u64) -> anyhow::Result<LatencyModel> {
    if hertz == 0 {
        bail!("a clock of 0 Hz");
    }
    Ok(LatencyModel::CORTEX_M4.scaled(1_000_000_000, hertz))
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share lies between 0 and 1, as in 0.8".to_owned()),
    }
}

fn size(text: &str) -> Result<[usize; 2], String> {
    let (rows, columns) = text.split_once('x').unwrap_or((text, text));
    match (rows.parse(), columns.parse()) {
        (Ok(rows @ 1..=4096), Ok(columns @ 1..=4096)) => Ok([rows, columns]),
        _ => Err(format!("`{text}` is no image size; use 24 or 24x32, up to 4096")),
    }
}

fn text(report: &Report<'_>, order: &Order) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} for {}: {} networks measured, {} paths\n",
        report.family,
        order.need.board,
        report.options.len(),
        grouped(report.paths)
    );
    let mut table = Table::new(&[
        ("input", Align::Left),
        ("int8", Align::Right),
        ("MACs", Align::Right),
        ("predicted us", Align::Right),
        ("arena B", Align::Right),
        ("bundle B", Align::Right),
        ("", Align::Left),
        ("path", Align::Left),
    ]);
    let chosen = report.chosen.as_ref().map(|c| std::ptr::from_ref(c.option));
    for option in report.options {
        let [rows, columns] = option.input;
        let verdict = match option.excesses.as_slice() {
            [] if chosen == Some(std::ptr::from_ref(option)) => "chosen".to_owned(),
            [] => "fits".to_owned(),
            excesses => excesses.iter().map(name).collect::<Vec<_>>().join(", "),
        };
        table.row([
            format!("{rows}x{columns}"),
            percent(option.figures.accuracy),
            grouped(option.macs),
            grouped(option.figures.latency_us),
            grouped(option.figures.ram_bytes),
            grouped(option.figures.flash_bytes),
            verdict,
            option.path.clone(),
        ]);
    }
    text += &table.to_string();
    if let Some(chosen) = &report.chosen {
        let _ = writeln!(
            text,
            "\n{}: {} in int8, {} in float on {} evaluation images",
            chosen.option.path,
            percent(chosen.evaluated),
            percent(chosen.evaluated_float),
            chosen.evaluation_images
        );
        if !chosen.golden {
            text += "golden vectors were left out to fit the flash; the board cannot verify itself\n";
        }
        if let Some(bundle) = &chosen.bundle {
            let _ = writeln!(text, "{bundle}: {} bytes", grouped(chosen.option.figures.flash_bytes));
        }
    }
    text
}

fn name(excess: &Excess) -> &'static str {
    match excess {
        Excess::Memory { .. } => "memory",
        Excess::Flash { .. } => "flash",
        Excess::Latency { .. } => "too slow",
        Excess::Accuracy { .. } => "accuracy",
    }
}
