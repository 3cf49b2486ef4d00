//! `stitchkit profile`.

mod device;
mod source;

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::Serialize;
use stitchkit::board::fit::{self, Predicted};
use stitchkit::board::measured::{self, MeasureError, MeasuredPlan};
use stitchkit::board::protocol::Session;
use stitchkit::board::{Board, BoardLimits, HeldOut, Method, Origin, shapes};
use stitchkit::report::table::{Align, Table, grouped};
use stitchkit_runtime::bundle::{AlignedBytes, Bundle};
use stitchkit_runtime::profile::{BoardProfile, LatencyModel, TickUnit};

use super::Ui;
use super::units;
use device::DeviceProgram;
pub use source::Source;

/// Arguments of `stitchkit profile`.
///
/// Runs plans on a board, times every step, fits the latency model to them and writes a board file, which --board of
/// other verbs takes. Plans of --test are predicted but not fitted; without any, every plan is predicted by a fit to the
/// others.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true)
    .args(["qemu", "local", "ssh", "device_binary", "report", "from", "shapes"]))]
pub struct Command {
    /// Build the firmware of --firmware for this emulated board and count its instructions: qemu-m0, qemu-m3, qemu-m4,
    /// qemu-m7, qemu-m33, qemu-m33-nodsp or qemu-m55.
    #[arg(long = "board", value_name = "NAME", conflicts_with_all = ["local", "ssh", "device_binary", "report", "from", "shapes"])]
    qemu: Option<String>,
    /// Measure this machine.
    #[arg(long, conflicts_with_all = ["ssh", "device_binary", "report", "from", "shapes"])]
    local: bool,
    /// Measure a Linux board: start stitchkit-device there through ssh, which asks for whatever it needs to.
    #[arg(long, value_name = "HOST", conflicts_with_all = ["report", "from", "shapes"])]
    ssh: Option<String>,
    /// The stitchkit-device to start, with --ssh on that host, else here [default with --ssh: stitchkit-device].
    #[arg(long, value_name = "PATH", conflicts_with_all = ["report", "from", "shapes"])]
    device_binary: Option<String>,
    /// Words to put before --device-binary, as in \"qemu-aarch64 -L /usr/aarch64-linux-gnu\".
    #[arg(long, value_name = "WORDS", requires = "device_binary", conflicts_with_all = ["qemu", "local", "report", "from", "shapes"])]
    runner: Option<String>,
    /// Read the board's report from a serial line, a file, a pipe, or `-` for standard input; once per bundle.
    #[arg(long = "serial", value_name = "FILE", conflicts_with_all = ["from", "shapes"])]
    report: Vec<PathBuf>,
    /// Take another board's latencies over by the ratio of the clocks.
    #[arg(long, value_name = "BOARD FILE", requires = "clock", conflicts_with = "shapes")]
    from: Option<PathBuf>,
    /// Only write the measuring bundle, to be put on a board.
    #[arg(long, value_name = "FILE")]
    shapes: Option<PathBuf>,
    /// Bits per second of the serial line.
    #[arg(long, default_value_t = 115_200)]
    baud: u32,
    /// Folder of the firmware that emulated boards run.
    #[arg(long, value_name = "FOLDER", default_value = "examples/qemu-cortex-m")]
    firmware: PathBuf,
    /// Fit to the plans of this bundle too, besides those of the measuring bundle.
    #[arg(long = "bundle", value_name = "BUNDLE")]
    bundles: Vec<PathBuf>,
    /// Predict the plans of this bundle, but do not fit to them. What does not run on the board is left out.
    #[arg(long = "test", value_name = "BUNDLE")]
    tests: Vec<PathBuf>,
    /// Where the board file goes.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Name of the board; default: the name of the file.
    #[arg(long)]
    name: Option<String>,
    /// A sentence about the board.
    #[arg(long, default_value = "")]
    description: String,
    /// Clock of the board.
    #[arg(long, value_name = "HZ", value_parser = units::frequency)]
    clock: Option<u64>,
    /// Memory for an arena; default: as reported.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    memory: Option<u64>,
    /// Memory for a bundle; default: as reported.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    flash: Option<u64>,
}

const EXAMPLES: &str = "\
Examples:
  stitchkit profile --board qemu-m4 --test cifar10.stk --out qemu-m4.toml
  stitchkit profile --local --out laptop.toml
  stitchkit profile --ssh pi@raspberrypi --out pi.toml
  stitchkit profile --device-binary ./stitchkit-device --runner \"qemu-aarch64 -L /usr/aarch64-linux-gnu\"
  stitchkit profile --serial /dev/ttyACM0 --baud 115200 --out my-board.toml
  stitchkit profile --from qemu-m4.toml --clock 168MHz --memory 120KiB --flash 960KiB --out stm32f405.toml";

#[derive(Serialize)]
struct Report {
    board: String,
    method: String,
    kernels: String,
    clock_hz: u32,
    memory_bytes: Option<(u32, u32)>,
    fitted_plans: usize,
    fitted_steps: usize,
    held_out_plans: Vec<Predicted>,
    held_out: Option<HeldOut>,
    /// Predictions by what the board found out by itself.
    own_probe: Option<OwnProbe>,
    written: Option<PathBuf>,
}

#[derive(Serialize)]
struct OwnProbe {
    ticks: u64,
    errors: Option<HeldOut>,
    plans: Vec<Predicted>,
}

/// A bundle to be measured, and whether its plans are fitted or predicted.
struct Measuring {
    name: String,
    bytes: AlignedBytes,
    use_for: Use,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Fit,
    /// A board that cannot run it does without.
    FitIfPossible,
    Test,
}

/// What all runs together gave.
#[derive(Default)]
struct Measured {
    fitted: Vec<MeasuredPlan>,
    tested: Vec<MeasuredPlan>,
    sessions: Vec<Session>,
}

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        if let Some(path) = &self.shapes {
            std::fs::write(path, shapes::bundle()?).with_context(|| format!("cannot write {}", path.display()))?;
            ui.note(format!("{} is to be put on the board", path.display()));
            return Ok(());
        }
        if let Some(path) = &self.from {
            return self.estimate(ui, &Board::read(path)?);
        }
        let measured = self.measure(ui)?;
        let session = measured.sessions.first().context("the board reported nothing")?;
        let prior = fit::prior(&session.kernels);
        let all: Vec<&MeasuredPlan> = measured.fitted.iter().collect();
        let own = measured.sessions.iter().find_map(|session| session.own);
        let mut model = *prior;
        model.weight_byte_ps = own.map_or(0, |(own, _)| own.model.weight_byte_ps);
        let model = fit::fit(&all, &model);
        let held_out_plans = if measured.tested.is_empty() {
            fit::leave_one_out(&measured.fitted, prior)
        } else {
            fit::predict(&measured.tested, &model)
        };
        let held_out = fit::summary(&held_out_plans);
        let fitted_steps = measured.fitted.iter().map(|plan| plan.steps.len()).sum();
        let written = self.write(session, model, fitted_steps, held_out)?;
        let own_probe = own.map(|(own, ticks)| {
            let plans = if measured.tested.is_empty() { &measured.fitted } else { &measured.tested };
            let plans = fit::predict(plans, &own.model);
            OwnProbe { ticks, errors: fit::summary(&plans), plans }
        });
        let report = Report {
            board: session.board.clone(),
            method: method(session).to_string(),
            kernels: session.kernels.clone(),
            clock_hz: session.clock_hz,
            memory_bytes: session.memory,
            fitted_plans: measured.fitted.len(),
            fitted_steps,
            held_out_plans,
            held_out,
            own_probe,
            written,
        };
        ui.print(&report, || text(&report))
    }

    /// Runs every bundle on the board.
    fn measure(&self, ui: &Ui) -> anyhow::Result<Measured> {
        let bundles = self.bundles()?;
        let mut measured = Measured::default();
        let source = self.source()?;
        let reports: Vec<Session> = match &source {
            Source::Reports { paths, baud } => {
                paths.iter().map(|path| source::read_report(path, *baud)).collect::<anyhow::Result<_>>()?
            }
            _ => Vec::new(),
        };
        for bundle in &bundles {
            let session = match &source {
                Source::Reports { .. } => {
                    let of_it = reports.iter().find(|s| measured::is_of(s, bundle.bytes.as_slice()));
                    let Some(session) = of_it else { continue };
                    session.clone()
                }
                other => {
                    ui.note(format!("measuring {}", bundle.name));
                    let session = other.run(bundle.bytes.as_slice());
                    let session = session.with_context(|| format!("{} cannot be measured", bundle.name));
                    match (session, bundle.use_for) {
                        (Ok(session), _) => session,
                        (Err(error), Use::Test | Use::FitIfPossible) => {
                            ui.note(format!("left out: {error:#}"));
                            continue;
                        }
                        (Err(error), Use::Fit) => return Err(error),
                    }
                }
            };
            let view = Bundle::parse(bundle.bytes.as_slice())?;
            let plans = match (measured::join(&session, bundle.bytes.as_slice(), &view), bundle.use_for) {
                (Err(error @ MeasureError::NoPlan { .. }), Use::Test) => {
                    ui.note(format!("left out: {error}"));
                    continue;
                }
                (Err(error), Use::FitIfPossible) => {
                    ui.note(format!("left out: {error}"));
                    continue;
                }
                (plans, _) => plans.with_context(|| format!("{} cannot be used", bundle.name))?,
            };
            match bundle.use_for {
                Use::Fit | Use::FitIfPossible => measured.fitted.extend(plans),
                Use::Test => measured.tested.extend(plans),
            }
            measured.sessions.push(session);
        }
        if measured.fitted.is_empty() {
            bail!(
                "no report belongs to a bundle to fit; a board must run the bundle of `stitchkit profile --shapes FILE`, \
                 or one given with --bundle"
            );
        }
        if measured.tested.is_empty() && !self.tests.is_empty() {
            bail!("no bundle of --test was measured: {}", measured_none(&source));
        }
        Ok(measured)
    }

    fn bundles(&self) -> anyhow::Result<Vec<Measuring>> {
        let mut bundles = vec![Measuring {
            name: "the measuring bundle".to_owned(),
            bytes: AlignedBytes::copy_of(&shapes::bundle()?),
            use_for: Use::Fit,
        }];
        // Boards with an operating system have the memory.
        if self.local || self.ssh.is_some() || self.device_binary.is_some() {
            let bytes = AlignedBytes::copy_of(&shapes::large_bundle()?);
            let name = "the bundle of larger steps".to_owned();
            bundles.push(Measuring { name, bytes, use_for: Use::FitIfPossible });
        }
        let named = self.bundles.iter().map(|path| (path, Use::Fit));
        for (path, use_for) in named.chain(self.tests.iter().map(|path| (path, Use::Test))) {
            let read = std::fs::read(path).with_context(|| format!("cannot read bundle {}", path.display()))?;
            let bytes = AlignedBytes::copy_of(&read);
            Bundle::parse(bytes.as_slice()).with_context(|| format!("{} cannot be used", path.display()))?;
            bundles.push(Measuring { name: path.display().to_string(), bytes, use_for });
        }
        Ok(bundles)
    }

    fn source(&self) -> anyhow::Result<Source> {
        if let Some(name) = &self.qemu {
            return Source::emulated(name, &self.firmware);
        }
        if self.local {
            return Ok(Source::Local);
        }
        if self.ssh.is_some() || self.device_binary.is_some() {
            let program = self.device_binary.clone().unwrap_or_else(|| "stitchkit-device".to_owned());
            let runner = self.runner.iter().flat_map(|words| words.split_whitespace()).map(str::to_owned).collect();
            return Ok(Source::Device(DeviceProgram { ssh: self.ssh.clone(), program, runner }));
        }
        Ok(Source::Reports { paths: self.report.clone(), baud: self.baud })
    }

    /// The name given, or that of the file.
    fn board_name(&self, path: &std::path::Path) -> anyhow::Result<String> {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
        self.name.clone().or(stem).context("give the board a --name")
    }

    fn bytes(given: Option<u64>, reported: Option<u32>) -> u32 {
        given.map_or(reported.unwrap_or(u32::MAX), |bytes| u32::try_from(bytes).unwrap_or(u32::MAX)).max(1)
    }

    fn write(
        &self,
        session: &Session,
        model: LatencyModel,
        steps: usize,
        held_out: Option<HeldOut>,
    ) -> anyhow::Result<Option<PathBuf>> {
        let Some(path) = &self.out else { return Ok(None) };
        // Counted instructions hold at any clock; another one than the emulator's scales them.
        let counted = session.unit == TickUnit::Instructions;
        let emulated_hz = u64::from(session.clock_hz);
        let clock_hz = if counted { Some(self.clock.unwrap_or(emulated_hz)) } else { self.clock };
        let model = match clock_hz {
            Some(hz) if counted => model.scaled(emulated_hz, hz),
            _ => model,
        };
        let profile = BoardProfile {
            ram_bytes: Self::bytes(self.memory, session.memory.map(|(ram, _)| ram)),
            flash_bytes: Self::bytes(self.flash, session.memory.map(|(_, flash)| flash)),
            model,
        };
        let origin = Origin {
            method: method(session),
            kernels: session.kernels.clone(),
            how: format!("stitchkit profile on {}", session.board),
            steps: steps as u32,
            held_out,
        };
        let board = Board {
            name: self.board_name(path)?,
            description: self.description.clone(),
            clock_hz,
            profile,
            fast_ram_bytes: 0,
            limits: BoardLimits::default(),
            origin,
        };
        board.write(path)?;
        Ok(Some(path.clone()))
    }

    /// Writes the board file of another board with the same core at another clock.
    fn estimate(&self, ui: &Ui, other: &Board) -> anyhow::Result<()> {
        let path = self.out.as_ref().context("--from needs --out, the file to write")?;
        let from_hz = other.clock_hz.context("the board file of --from has no clock_hz to scale from")?;
        let hz = self.clock.filter(|&hz| hz > 0).context("--clock must be at least 1Hz")?;
        let board = Board {
            name: self.board_name(path)?,
            description: self.description.clone(),
            clock_hz: Some(hz),
            profile: BoardProfile {
                ram_bytes: Self::bytes(self.memory, Some(other.profile.ram_bytes)),
                flash_bytes: Self::bytes(self.flash, Some(other.profile.flash_bytes)),
                model: other.profile.model.scaled(from_hz, hz),
            },
            fast_ram_bytes: 0,
            limits: BoardLimits::default(),
            origin: Origin {
                method: Method::Estimated,
                how: format!(
                    "latencies of {} ({}) at {hz} Hz; not measured on silicon, where cores stall and take longer",
                    other.name, other.origin.method
                ),
                held_out: None,
                ..other.origin.clone()
            },
        };
        board.write(path)?;
        ui.note(format!("{} written", path.display()));
        Ok(())
    }
}

/// Why no bundle to be predicted was measured.
fn measured_none(source: &Source) -> &'static str {
    match source {
        Source::Reports { .. } => "no report belongs to one; give the board's report of it with --serial as well",
        _ => "none runs on this board",
    }
}

fn method(session: &Session) -> Method {
    match session.unit {
        TickUnit::Instructions => Method::CountedInstructions,
        TickUnit::Time => Method::Timed,
    }
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "{}: {}, kernels {}, {} plans and {} steps fitted\n",
        report.board, report.method, report.kernels, report.fitted_plans, report.fitted_steps
    );
    if let Some((ram, flash)) = report.memory_bytes {
        let _ =
            writeln!(text, "free: {} bytes for an arena, {} for a bundle", grouped(ram.into()), grouped(flash.into()));
    }
    let mut table = Table::new(&[
        ("measured us", Align::Right),
        ("predicted us", Align::Right),
        ("error", Align::Right),
        ("plan not seen by the fit", Align::Left),
    ]);
    for row in &report.held_out_plans {
        table.row([
            format!("{:.1}", row.measured_us),
            format!("{:.1}", row.predicted_us),
            format!("{:+.1} %", row.error_percent),
            row.plan.clone(),
        ]);
    }
    text += &table.to_string();
    let errors = |held_out: &HeldOut| {
        let HeldOut { plans, median_error_percent, worst_error_percent } = held_out;
        format!("median error {median_error_percent:.1} %, worst {worst_error_percent:.1} % over {plans} plans")
    };
    if let Some(held_out) = &report.held_out {
        let _ = writeln!(text, "prediction of unseen plans: {}", errors(held_out));
    }
    if let Some(OwnProbe { ticks, errors: Some(own), .. }) = &report.own_probe {
        let _ = writeln!(text, "the board's own probe, {} ticks: {}", grouped(*ticks), errors(own));
    }
    if let Some(path) = &report.written {
        let _ = writeln!(text, "{} written", path.display());
    }
    text
}
