//! `stitchkit fleet`.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use stitchkit::fleet::{self, Assignment, Need};
use stitchkit::infer::{Backend, Loaded, Runner};
use stitchkit::report::table::{Align, Table, grouped, percent};

use super::boards::{self, BoardOption};
use super::bundle_file::BundleFile;
use super::plan_choice::arena_text;
use super::profile::Source;
use super::{LimitsNotMet, Ui, units};

/// Arguments of `stitchkit fleet`.
///
/// Every board, under every combination of --memory and --latency, gets the most accurate plan inside the limits, as the
/// device would pick it. Latencies are predicted by the board file; measured ones stand beside them where there are any.
/// The exit code is 3 if some row has no plan.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  stitchkit fleet cifar10.stk --board m4.toml --board m7.toml --latency 30ms,100ms --memory 32KiB,64KiB\n  stitchkit fleet cifar10.stk --board examples/boards/qemu-m4.toml --board examples/boards/qemu-m33.toml --memory 16KiB,64KiB --measure"
)]
pub struct Command {
    /// The bundle.
    bundle: PathBuf,
    /// A board; may be repeated. FILE is a board file, and limits may follow it, as in `m4.toml,latency=30ms,memory=50%`.
    #[arg(long = "board", value_name = "FILE[,LIMITS]", required = true)]
    boards: Vec<BoardOption>,
    /// Arena bytes available, instead of all of a board's memory; several are tried one by one.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes, value_delimiter = ',')]
    memory: Vec<u64>,
    /// Time one inference may take; several are tried one by one.
    #[arg(long, value_name = "TIME", value_parser = units::duration, value_delimiter = ',')]
    latency: Vec<Duration>,
    /// Reserve kept below every time limit, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=90))]
    margin: u8,
    /// Measured latencies: one JSON object per line, `{"board": "m4", "plan": 2, "latency_us": 812}`, or with `instructions`
    /// as `tests/boards.sh` counts them, at one per cycle of the board's clock. BOARD= says that all lines are of that
    /// board, whatever it is called in the file. May be repeated.
    #[arg(long, value_name = "[BOARD=]FILE")]
    measured: Vec<String>,
    /// Run the bundle on every board that is an emulated one (`qemu-m4` and so on), and count.
    #[arg(long)]
    measure: bool,
    /// Folder of the firmware that emulated boards run.
    #[arg(long, value_name = "FOLDER", default_value = "examples/qemu-cortex-m")]
    firmware: PathBuf,
    /// The board of this name is this machine: time its plans here.
    #[arg(long, value_name = "BOARD")]
    time_here: Option<String>,
}

/// One line of a `--measured` file.
#[derive(Debug, Deserialize)]
struct Measured {
    board: String,
    plan: u16,
    #[serde(default)]
    latency_us: Option<f64>,
    #[serde(default)]
    instructions: Option<u64>,
}

#[derive(Serialize)]
struct Report {
    bundle: String,
    bundle_bytes: usize,
    plans: u16,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    assignment: Assignment,
    measured_us: Option<f64>,
}

type Latencies = HashMap<(String, u16), f64>;

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        let file = BundleFile::read(&self.bundle)?;
        let loaded = file.load()?;
        let boards = boards::read_all(&self.boards, self.margin)?;
        let mut measured = Latencies::new();
        for source in &self.measured {
            read_measured(source, &boards, &mut measured)?;
        }
        if self.measure {
            self.measure_emulated(ui, &boards, file.bytes(), &mut measured)?;
        }
        if let Some(name) = self.time_here.as_ref().filter(|name| !boards.iter().any(|b| is_board(&b.board, name))) {
            bail!("--time-here {name}: no such board; there are {}", names(&boards));
        }
        let mut rows = Vec::new();
        for need in self.combinations(&boards) {
            let whole = std::slice::from_ref(&need);
            for assignment in fleet::assign_whole(&loaded.bundle, whole) {
                let here = self.time_here.as_ref().is_some_and(|name| is_board(&assignment.board, name));
                let measured_us = match assignment.pick.as_ref().map(|pick| (board_name(&assignment.board), pick.plan))
                {
                    Some(key) if here && !measured.contains_key(&key) => {
                        let us = time_here(loaded, key.1)?;
                        measured.insert(key, us);
                        Some(us)
                    }
                    Some(key) => measured.get(&key).copied(),
                    None => None,
                };
                rows.push(Row { assignment, measured_us });
            }
        }
        let report = Report {
            bundle: self.bundle.display().to_string(),
            bundle_bytes: loaded.bundle.len_bytes(),
            plans: loaded.bundle.plan_count(),
            rows,
        };
        ui.print(&report, || text(&report))?;
        let unserved = report.rows.iter().filter(|row| row.assignment.pick.is_none()).count();
        if unserved > 0 {
            return Err(LimitsNotMet(format!("{unserved} of {} rows have no plan", report.rows.len())).into());
        }
        Ok(())
    }

    /// Counts the plans of the bundle on every board that is emulated and not measured yet.
    fn measure_emulated(
        &self,
        ui: &Ui,
        boards: &[Need],
        bytes: &[u8],
        latencies: &mut Latencies,
    ) -> anyhow::Result<()> {
        let emulated = boards.iter().filter(|need| Source::is_emulated(&board_name(&need.board)));
        let mut ran = BTreeSet::new();
        for (name, need) in emulated.map(|need| (board_name(&need.board), need)) {
            let Some(hz) = need.clock_hz.filter(|_| ran.insert(name.clone())) else { continue };
            ui.note(format!("counting on {name}"));
            let session = Source::emulated(&name, &self.firmware)?.run(bytes);
            let session = session.with_context(|| format!("the bundle does not run on {name}"))?;
            for (plan, ticks) in &session.plans {
                let seconds = ticks.first().map_or(0.0, |&ticks| ticks as f64 / hz as f64);
                latencies.entry((name.clone(), *plan)).or_insert(seconds * 1e6);
            }
        }
        if ran.is_empty() {
            bail!("--measure: none of the boards {} is an emulated one", names(boards));
        }
        Ok(())
    }

    /// Every board under every combination of limits given for all.
    fn combinations(&self, boards: &[Need]) -> Vec<Need> {
        let optional = |values: Vec<u64>| match values.is_empty() {
            true => vec![None],
            false => values.into_iter().map(Some).collect(),
        };
        let memories = optional(self.memory.clone());
        let latencies = optional(self.latency.iter().map(|t| t.as_micros() as u64).collect());
        let mut needs = Vec::new();
        for board in boards {
            for &memory in &memories {
                for &latency in &latencies {
                    let mut need = board.clone();
                    let limits = &mut need.limits;
                    limits.ram_bytes = match (limits.ram_bytes, memory) {
                        (Some(own), Some(wanted)) => Some(own.min(wanted)),
                        (own, wanted) => own.or(wanted),
                    };
                    limits.deadline_us = latency.or(limits.deadline_us);
                    needs.push(need);
                }
            }
        }
        needs
    }
}

/// The name in the board file; limits given with it follow after a space.
fn board_name(described: &str) -> String {
    described.split(' ').next().unwrap_or_default().to_owned()
}

fn is_board(described: &str, name: &str) -> bool {
    board_name(described) == name
}

fn names(boards: &[Need]) -> String {
    boards.iter().map(|b| board_name(&b.board)).collect::<Vec<_>>().join(", ")
}

/// Reads `[BOARD=]FILE`.
fn read_measured(source: &str, boards: &[Need], latencies: &mut Latencies) -> anyhow::Result<()> {
    let (renamed, path) = match source.split_once('=') {
        Some((board, path)) => (Some(board), Path::new(path)),
        None => (None, Path::new(source)),
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = || format!("{}, line {}", path.display(), index + 1);
        let measured: Measured = serde_json::from_str(line).with_context(place)?;
        let board = renamed.unwrap_or(&measured.board).to_owned();
        let need = boards.iter().find(|need| is_board(&need.board, &board));
        let us = match (measured.latency_us, measured.instructions, need.and_then(|need| need.clock_hz)) {
            (Some(us), _, _) => us,
            (None, Some(instructions), Some(hertz)) => instructions as f64 / hertz as f64 * 1e6,
            (None, Some(_), None) if need.is_none() => continue,
            (None, Some(_), None) => bail!("{}: instructions of {board}, whose board file has no clock_hz", place()),
            (None, None, _) => bail!("{}: neither latency_us nor instructions", place()),
        };
        latencies.insert((board, measured.plan), us);
    }
    Ok(())
}

/// Median time of one inference of a plan on one core of this machine, in microseconds.
fn time_here(loaded: Loaded<'_>, plan: u16) -> anyhow::Result<f64> {
    const RUNS: usize = 21;
    let mut runner = Runner::new(loaded, plan, Backend::Kernels)?;
    let input = vec![0; loaded.bundle.meta().input.len()];
    runner.run(&input)?;
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let start = Instant::now();
        runner.run(&input)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[RUNS / 2])
}

fn text(report: &Report) -> String {
    let mut table = Table::new(&[
        ("board", Align::Left),
        ("memory B", Align::Right),
        ("deadline us", Align::Right),
        ("plan", Align::Right),
        ("int8", Align::Right),
        ("arena B", Align::Right),
        ("predicted us", Align::Right),
        ("measured us", Align::Right),
        ("error", Align::Right),
        ("path", Align::Left),
    ]);
    let number = |value: Option<u64>| value.map_or("-".to_owned(), grouped);
    for Row { assignment, measured_us } in &report.rows {
        let pick = assignment.pick.as_ref();
        let error = pick.zip(*measured_us).map(|(p, m)| (p.predicted_us as f64 / m.max(1e-9) - 1.0) * 100.0);
        table.row([
            assignment.board.clone(),
            number(assignment.limits.ram_bytes),
            number(assignment.limits.deadline_us),
            pick.map_or("none".to_owned(), |p| p.plan.to_string()),
            pick.map_or("-".to_owned(), |p| percent(p.accuracy)),
            pick.map_or("-".to_owned(), |p| arena_text(grouped(p.arena_bytes.into()), p.in_fast_bytes)),
            number(pick.map(|p| p.predicted_us)),
            measured_us.map_or("-".to_owned(), |us| grouped(us.round() as u64)),
            error.map_or("-".to_owned(), |e| format!("{e:+.1} %")),
            pick.map_or(String::new(), |p| p.path.clone()),
        ]);
    }
    let mut text =
        format!("{}: {} plans in {} bytes\n", report.bundle, report.plans, grouped(report.bundle_bytes as u64));
    text += &table.to_string();
    for row in &report.rows {
        if let Some(miss) = &row.assignment.miss {
            let _ = writeln!(text, "{}: {miss}", row.assignment.board);
        }
    }
    text
}

/// Boards and the plans they will run, for other verbs.
pub fn assignment_table(assignments: &[Assignment]) -> Table {
    let mut table = Table::new(&[
        ("board", Align::Left),
        ("plan", Align::Right),
        ("int8", Align::Right),
        ("arena B", Align::Right),
        ("predicted us", Align::Right),
        ("path", Align::Left),
    ]);
    for assignment in assignments {
        let Some(pick) = &assignment.pick else { continue };
        table.row([
            assignment.board.clone(),
            pick.plan.to_string(),
            percent(pick.accuracy),
            arena_text(grouped(pick.arena_bytes.into()), pick.in_fast_bytes),
            grouped(pick.predicted_us),
            pick.path.clone(),
        ]);
    }
    table
}
