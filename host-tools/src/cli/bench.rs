//! `stitchkit bench`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;
use stitchkit::bench::baseline::{Baseline, Change};
use stitchkit::bench::models::Model;
use stitchkit::bench::peers::{self, Peer};
use stitchkit::bench::{self, BenchError, Case, linux, microflow, table};
use stitchkit::board::emulated::{self, EMULATED, Emulated, Firmware};
use stitchkit::compile::filters::{FilterOrder, Weave};
use stitchkit::compile::memory::Memories;
use stitchkit::report::table::{Align, Table, grouped};
use stitchkit_runtime::bundle::{AlignedBytes, Bundle};

use super::plan_choice::existing_plan;
use super::ui::SCHEMA_VERSION;
use super::{LimitsNotMet, Ui, output_file, units};

/// Arguments of `stitchkit bench`.
///
/// Builds a firmware for every emulated board with every model, or with plans of a bundle, and counts what one inference
/// takes: instructions in all and per step, bytes of arena, stack (in use, and at most by its bound) and code. Prints a Markdown table beside stored figures of
/// TensorFlow Lite Micro and microflow. Instructions are not cycles; two runs agree to the instruction.
///
/// A case that does not fit a board is named and left out; if none fits, the exit code is 3.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Command {
    /// Boards: qemu-m0, qemu-m3, qemu-m4, qemu-m7, qemu-m33, qemu-m33-nodsp, qemu-m55; default: all. qemu-m0's code is counted
    /// on a Cortex-M3, which takes as many instructions for it and has more than 16 KB of memory.
    #[arg(long = "board", value_name = "NAME")]
    boards: Vec<String>,
    /// Models of the MLPerf Tiny shapes, with random weights; default: all.
    #[arg(long = "model", value_name = "MODEL", conflicts_with = "bundle")]
    models: Vec<Model>,
    /// Count plans of this bundle instead.
    #[arg(long, value_name = "BUNDLE")]
    bundle: Option<PathBuf>,
    /// A plan of --bundle; default: all.
    #[arg(long = "plan", value_name = "ID", requires = "bundle")]
    plans: Vec<u16>,
    /// Lay models out with outputs over inputs, row by row, if they take more than this otherwise, as `export` does.
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["bundle", "check", "update"], value_parser = units::bytes)]
    arena_limit: Option<u64>,
    /// Whether models have woven filters, as `export` stores them; `auto` for boards that gain.
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto", conflicts_with_all = ["bundle", "check", "update"])]
    weave: Weave,
    /// A line per step too.
    #[arg(long)]
    steps: bool,
    /// Count nothing; take the figures from this file, as --update writes it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["boards", "models", "bundle", "arena_limit", "steps", "check", "update"])]
    from: Option<PathBuf>,
    /// Fail if a figure is more than 2 % above that of this file (10 % if another compiler made the file's figures).
    #[arg(long, value_name = "FILE", conflicts_with = "update")]
    check: Option<PathBuf>,
    /// Write the figures to this file, beside those of other cases in it.
    #[arg(long, value_name = "FILE")]
    update: Option<PathBuf>,
    /// Fill the blocks of this Markdown file between `<!-- bench:summary -->` or `<!-- bench:cases -->` and
    /// `<!-- bench:end -->`.
    #[arg(long, value_name = "FILE")]
    markdown: Vec<PathBuf>,
    /// More figures of other engines, as host-tools/src/bench/peers.toml.
    #[arg(long, value_name = "FILE")]
    peers: Vec<PathBuf>,
    /// Build microflow from its crate and count it too, on networks with the same layers, in place of its stored figures. A
    /// build takes a minute or more; narrow it down with --board and --model.
    #[arg(long, conflicts_with = "from")]
    microflow: bool,
    /// Compare with LiteRT and ONNX Runtime on Linux instead: processor time on this machine, instructions on emulated 64-bit Arm
    /// processors, by `tests/peers.sh` of the repository. It fetches both from PyPI, and builds what it runs: 5 to 20 minutes.
    /// --markdown then fills the blocks between `<!-- bench:linux-arm -->` or `<!-- bench:linux-host -->` and `<!-- bench:end -->`.
    #[arg(long, conflicts_with_all = ["boards", "models", "bundle", "arena_limit", "weave", "steps", "from", "check", "update", "peers", "microflow"])]
    linux: bool,
    /// Folder of the firmware that emulated boards run.
    #[arg(long, value_name = "FOLDER", default_value = "examples/qemu-cortex-m")]
    firmware: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  stitchkit bench                                                  the whole table
  stitchkit bench --board qemu-m4 --model resnet8 --json           one case
  stitchkit bench --board qemu-m55 --bundle cifar10.stk --plan 2 --steps
  stitchkit bench --board qemu-m4 --model mobilenetv1 --arena-limit 40KiB --steps
  stitchkit bench --board qemu-m4 --model autoencoder --weave never   filters one after the other
  stitchkit bench --board qemu-m4 --model dscnn --microflow        microflow built and counted beside it
  stitchkit bench --check tests/bench-baseline.json                fails on a regression
  stitchkit bench --update tests/bench-baseline.json --markdown README.md
  stitchkit bench --linux --markdown host-tools/docs/benchmarks.md  beside LiteRT and ONNX Runtime";

/// What is to be counted.
struct Subject {
    name: String,
    bytes: Vec<u8>,
    /// With woven filters; `None` if `bytes` are a given bundle.
    woven: Option<Vec<u8>>,
    plan: u16,
}

/// What was counted.
#[derive(Default)]
struct Counted {
    cases: Vec<Case>,
    does_not_fit: Vec<Unfit>,
    microflow: Vec<Peer>,
    without_microflow: Vec<Unfit>,
}

impl Counted {
    fn add(
        &mut self,
        firmware: &Firmware,
        board: &Emulated,
        (subject, filters): (&Subject, FilterOrder),
        with_microflow: bool,
    ) -> Result<(), BenchError> {
        let Subject { name, bytes, woven, plan } = subject;
        let own = woven.as_ref().filter(|_| filters == FilterOrder::Woven).unwrap_or(bytes);
        let unfit = |error: BenchError| Unfit { board: board.name, model: name.clone(), reason: error.to_string() };
        match bench::count(firmware, board, name, own, *plan) {
            Ok(case) => self.cases.push(case),
            Err(error) if error.is_lack_of_room() => self.does_not_fit.push(unfit(error)),
            Err(error) => return Err(error),
        }
        if !with_microflow {
            return Ok(());
        }
        match microflow::count(firmware, board, name, bytes, *plan) {
            Ok(peer) => self.microflow.push(peer),
            Err(error @ BenchError::NoCounterpart { .. }) => self.without_microflow.push(unfit(error)),
            Err(error) if error.is_lack_of_room() => self.without_microflow.push(unfit(error)),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Report {
    cases: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    does_not_fit: Vec<Unfit>,
    /// What microflow cannot run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    without_microflow: Vec<Unfit>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct LinuxReport {
    figures: Vec<linux::Figure>,
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    case: Case,
    peers: Vec<Peer>,
}

#[derive(Serialize)]
struct Unfit {
    board: &'static str,
    model: String,
    reason: String,
}

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        if self.linux {
            return self.compare_on_linux(ui);
        }
        let mut peers = self.all_peers()?;
        for path in self.markdown.iter().chain(&self.update) {
            output_file::check(path)?;
        }
        let check = self.check.as_deref().map(read_baseline).transpose()?;
        let Counted { cases, does_not_fit, microflow, without_microflow } = match &self.from {
            Some(path) => Counted { cases: read_baseline(path)?.cases, ..Counted::default() },
            None => self.count(ui)?,
        };
        for peer in microflow {
            peers.retain(|old| (&old.engine, &old.model, &old.board) != (&peer.engine, &peer.model, &peer.board));
            peers.push(peer);
        }
        if let Some(path) = &self.update {
            update(path, &cases)?;
        }
        for path in &self.markdown {
            let tables =
                [(table::SUMMARY, table::summary(&cases, &peers)), (table::CASES, table::cases(&cases, &peers))];
            fill(path, &tables)?;
        }
        let compiler = emulated::compiler().unwrap_or_default();
        let compared = check.as_ref().map(|baseline| baseline.changes(&cases, &compiler));
        let (changes, unknown) = compared.unwrap_or_default();
        let verdict = match (&check, &self.check) {
            (Some(baseline), Some(path)) => {
                verdict(&changes, &unknown, baseline.tolerance_percent(&compiler), path).and(bounded(&cases))
            }
            _ => Ok(()),
        };
        let of_case = |case: &Case| {
            let is_of = |peer: &&Peer| peer.model == case.model && peer.board == case.board;
            Row { case: case.clone(), peers: peers.iter().filter(is_of).cloned().collect() }
        };
        let report = Report { cases: cases.iter().map(of_case).collect(), does_not_fit, without_microflow, changes };
        let text = || self.text(&cases, &report, &peers);
        match (report.cases.as_slice(), report.does_not_fit.as_slice()) {
            ([only], []) if report.changes.is_empty() && report.without_microflow.is_empty() => ui.print(only, text)?,
            _ => ui.print(&report, text)?,
        }
        verdict?;
        if cases.is_empty() {
            let reasons: Vec<&str> = report.does_not_fit.iter().map(|unfit| unfit.reason.as_str()).collect();
            bail!(LimitsNotMet(reasons.join("\n")));
        }
        Ok(())
    }

    fn compare_on_linux(&self, ui: &Ui) -> anyhow::Result<()> {
        for path in &self.markdown {
            output_file::check(path)?;
        }
        let program = std::env::current_exe().context("this program's own path is unknown")?;
        let script = self.firmware.join("../../tests/peers.sh");
        let figures = linux::measure(&script, &program, |figure| {
            let linux::Figure { machine, network, runtime, per_run } = figure;
            ui.note(format!("{machine}, {network}, {runtime}: {}", grouped(*per_run)));
        })?;
        let tables = [(linux::ARM, linux::arm_table(&figures)), (linux::HOST, linux::host_table(&figures))];
        for path in &self.markdown {
            fill(path, &tables)?;
        }
        let [(_, arm), (_, host)] = tables;
        ui.print(&LinuxReport { figures }, || format!("{arm}\nMicroseconds on this machine:\n\n{host}"))
    }

    fn all_peers(&self) -> anyhow::Result<Vec<Peer>> {
        let mut all = peers::stored();
        for path in &self.peers {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            all.extend(peers::parse(&text).map_err(|fault| anyhow::anyhow!("{}: {fault}", path.display()))?);
        }
        Ok(all)
    }

    fn count(&self, ui: &Ui) -> anyhow::Result<Counted> {
        let boards = self.boards.iter().map(|name| Emulated::find(name).copied()).collect::<Result<Vec<_>, _>>()?;
        let boards = if boards.is_empty() { EMULATED.to_vec() } else { boards };
        emulated::check_installed(&boards)?;
        let firmware = Firmware::at(&self.firmware)?;
        let subjects = self.subjects()?;
        let bar = ui.bar((boards.len() * subjects.len()) as u64, "counting");
        let mut counted = Counted::default();
        for subject in &subjects {
            for board in &boards {
                counted
                    .add(&firmware, board, (subject, self.weave.order([board.filters])), self.microflow)
                    .with_context(|| format!("{} on {}", subject.name, board.name))?;
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(counted)
    }

    fn subjects(&self) -> anyhow::Result<Vec<Subject>> {
        let Some(path) = &self.bundle else {
            let models = if self.models.is_empty() { Model::ALL.to_vec() } else { self.models.clone() };
            let limit = self.arena_limit.map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
            let memories = Memories { main_bytes: limit.into_iter().collect(), ..Memories::ONE };
            let subject = |model: Model| {
                let bytes = |filters| model.bundle_for(&memories, filters);
                let (apart, woven) = (bytes(FilterOrder::Apart)?, bytes(FilterOrder::Woven)?);
                Ok(Subject { name: model.name().to_owned(), bytes: apart, woven: Some(woven), plan: 0 })
            };
            return models.into_iter().map(subject).collect();
        };
        let bytes = std::fs::read(path).with_context(|| format!("cannot read bundle {}", path.display()))?;
        let aligned = AlignedBytes::copy_of(&bytes);
        let bundle = Bundle::parse(aligned.as_slice()).with_context(|| format!("{} cannot be used", path.display()))?;
        let plans = if self.plans.is_empty() { (0..bundle.plan_count()).collect() } else { self.plans.clone() };
        let subject = |plan: u16| {
            let name = format!("{} plan {}", bundle.meta().name, existing_plan(&bundle, plan)?);
            Ok(Subject { name, bytes: bytes.clone(), woven: None, plan })
        };
        plans.into_iter().map(subject).collect()
    }

    fn text(&self, cases: &[Case], report: &Report, peers: &[Peer]) -> String {
        let mut text = table::cases(cases, peers);
        for unfit in &report.does_not_fit {
            let _ = writeln!(text, "\n{} does not fit {}: {}", unfit.model, unfit.board, unfit.reason);
        }
        for unfit in &report.without_microflow {
            let _ = writeln!(text, "\nmicroflow does not run {} on {}: {}", unfit.model, unfit.board, unfit.reason);
        }
        for case in cases.iter().filter(|_| self.steps) {
            let _ = writeln!(text, "\n{} on {}:\n{}", case.model, case.board, steps(case));
        }
        if !report.changes.is_empty() {
            let _ = write!(text, "\nchanges:\n{}", changes(&report.changes));
        }
        text
    }
}

fn steps(case: &Case) -> Table {
    let mut table = Table::new(&[
        ("step", Align::Right),
        ("op", Align::Left),
        ("shapes", Align::Left),
        ("instructions", Align::Right),
        ("per MAC", Align::Right),
        ("share", Align::Right),
    ]);
    for (ordinal, step) in case.steps.iter().enumerate() {
        let ratio = (step.macs > 0).then(|| format!("{:.3}", bench::per_mac(step.instructions, step.macs)));
        table.row([
            ordinal.to_string(),
            step.op.clone(),
            step.shapes.clone(),
            grouped(step.instructions),
            ratio.unwrap_or_default(),
            format!("{:.1} %", step.instructions as f64 / case.instructions.max(1) as f64 * 100.0),
        ]);
    }
    table
}

fn changes(changes: &[Change]) -> Table {
    let mut table = Table::new(&[
        ("model", Align::Left),
        ("board", Align::Left),
        ("figure", Align::Left),
        ("before", Align::Right),
        ("now", Align::Right),
        ("", Align::Right),
        ("", Align::Left),
    ]);
    for change in changes {
        table.row([
            change.model.clone(),
            change.board.clone(),
            change.figure.to_owned(),
            grouped(change.before),
            grouped(change.now),
            format!("{:+.2} %", change.percent),
            if change.regression { "REGRESSION".to_owned() } else { String::new() },
        ]);
    }
    table
}

/// An error for what got worse, or has no figure to compare with.
fn verdict(changes: &[Change], unknown: &[&Case], percent: f64, path: &Path) -> anyhow::Result<()> {
    let worse = changes.iter().filter(|change| change.regression).count();
    let mut problems = Vec::new();
    if worse > 0 {
        problems.push(format!("{worse} figures are more than {percent} % above those of {}", path.display()));
    }
    for case in unknown {
        problems.push(format!("{} has no figures of {} on {}", path.display(), case.model, case.board));
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("{}; if that is as it should be: stitchkit bench --update {}", problems.join("\n"), path.display());
}

/// An error for programs whose stack has no bound.
fn bounded(cases: &[Case]) -> anyhow::Result<()> {
    let without: Vec<String> = cases
        .iter()
        .filter(|case| case.stack_bound_bytes.is_none())
        .map(|case| format!("{} on {}", case.model, case.board))
        .collect();
    if without.is_empty() {
        return Ok(());
    }
    bail!("no bound of the stack for {}; `stitchkit stack` on the program says why", without.join(", "));
}

fn read_baseline(path: &Path) -> anyhow::Result<Baseline> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let baseline: Baseline =
        serde_json::from_slice(&text).with_context(|| format!("{} holds no figures of bench", path.display()))?;
    if baseline.schema_version != SCHEMA_VERSION {
        let found = baseline.schema_version;
        bail!("{}: schema_version {found}, this program reads {SCHEMA_VERSION}", path.display());
    }
    Ok(baseline)
}

fn update(path: &Path, cases: &[Case]) -> anyhow::Result<()> {
    let empty = Baseline { schema_version: SCHEMA_VERSION, ..Baseline::default() };
    let mut baseline = if path.exists() { read_baseline(path)? } else { empty };
    baseline.update(cases, &emulated::compiler().unwrap_or_default());
    let text = serde_json::to_string_pretty(&baseline).context("cannot write JSON")? + "\n";
    output_file::write(path, text.as_bytes())
}

/// Fills the blocks of a document behind these marks.
fn fill(path: &Path, tables: &[(&str, String)]) -> anyhow::Result<()> {
    let document = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let filled = table::fill(&document, tables);
    let filled = filled.with_context(|| {
        let marks: Vec<&str> = tables.iter().map(|(mark, _)| *mark).collect();
        format!("{}: no block from {} to {}", path.display(), marks.join(" or "), table::END)
    })?;
    output_file::write(path, filled.as_bytes())
}
