//! `stitchkit operators`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rayon::prelude::*;
use serde::Serialize;
use stitchkit::graph::import::OPERATORS;
use stitchkit::graph::import::cases::{self, Outcome, Verdict};
use stitchkit::report::table::{Align, Table};

use super::Ui;

/// Arguments of `stitchkit operators`.
#[derive(Debug, clap::Args)]
pub struct Command {
    /// Run the operator test cases in this tar, which tests/onnx_cases.py writes from the onnx package. Fails if a case
    /// gives wrong numbers; a case may be refused with a reason.
    #[arg(long, value_name = "TAR")]
    cases: Option<PathBuf>,
    /// With --cases: list every case that is refused, with the reason.
    #[arg(long, requires = "cases")]
    refused: bool,
    /// The names alone, one per line.
    #[arg(long, conflicts_with = "cases")]
    names: bool,
}

#[derive(Serialize)]
struct Report {
    operators: Vec<Row>,
    passed: usize,
    refused: Vec<Case>,
    failed: Vec<Case>,
    not_claimed: usize,
}

/// Cases of one operator.
#[derive(Serialize, Default)]
struct Row {
    operator: String,
    passed: usize,
    refused: usize,
    failed: usize,
}

#[derive(Serialize)]
struct Case {
    name: String,
    reasons: Vec<String>,
}

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        let Some(path) = &self.cases else {
            let separator = if self.names { "\n" } else { ", " };
            return ui.print(&Names { operators: OPERATORS.to_vec() }, || OPERATORS.join(separator) + "\n");
        };
        let files = read(path)?;
        let bar = ui.bar(files.len() as u64, "running cases");
        let run = |(name, bytes): &(String, Vec<u8>)| {
            let outcome = cases::run(name, bytes);
            bar.inc(1);
            outcome
        };
        let outcomes: Vec<Outcome> = files.par_iter().map(run).collect::<Result<_, _>>().map_err(anyhow::Error::msg)?;
        bar.finish_and_clear();
        let report = report(outcomes);
        ui.print(&report, || text(&report, self.refused))?;
        match report.failed.len() {
            0 => Ok(()),
            failed => bail!("{failed} cases give other numbers than the standard"),
        }
    }
}

#[derive(Serialize)]
struct Names {
    operators: Vec<&'static str>,
}

fn read(path: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut archive = tar::Archive::new(std::io::BufReader::new(file));
    let mut files = Vec::new();
    for entry in archive.entries().with_context(|| format!("{} is no tar", path.display()))? {
        let mut entry = entry.with_context(|| format!("{} is damaged", path.display()))?;
        let name = entry.path()?.display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).with_context(|| format!("{}: {name} cannot be read", path.display()))?;
        files.push((name, bytes));
    }
    if files.is_empty() {
        bail!("{} holds no cases; tests/onnx_cases.py writes such a file", path.display());
    }
    Ok(files)
}

fn report(outcomes: Vec<Outcome>) -> Report {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut report =
        Report { operators: Vec::new(), passed: 0, refused: Vec::new(), failed: Vec::new(), not_claimed: 0 };
    for outcome in outcomes {
        let mut count = |add: fn(&mut Row)| {
            for operator in outcome.operators.iter().filter(|name| OPERATORS.contains(&name.as_str())) {
                let row = rows
                    .entry(operator.clone())
                    .or_insert_with(|| Row { operator: operator.clone(), ..Row::default() });
                add(row);
            }
        };
        let name = outcome.name.clone();
        match outcome.verdict {
            Verdict::NotClaimed => report.not_claimed += 1,
            Verdict::Passed(_) => {
                count(|row| row.passed += 1);
                report.passed += 1;
            }
            Verdict::Refused(reasons) => {
                count(|row| row.refused += 1);
                report.refused.push(Case { name, reasons });
            }
            Verdict::Failed(reasons) => {
                count(|row| row.failed += 1);
                report.failed.push(Case { name, reasons });
            }
        }
    }
    report.operators = rows.into_values().collect();
    report
}

fn text(report: &Report, with_refused: bool) -> String {
    let number = [("passed", Align::Right), ("refused", Align::Right), ("failed", Align::Right)];
    let mut table = Table::new(&[&[("operator", Align::Left)], number.as_slice()].concat());
    for row in &report.operators {
        let counts = [row.passed, row.refused, row.failed].map(|count| count.to_string());
        table.row([row.operator.clone()].into_iter().chain(counts));
    }
    let mut text = table.to_string();
    let listed = if with_refused { report.refused.as_slice() } else { &[] };
    for (what, cases) in [("refused", listed), ("FAILED", &report.failed)] {
        for case in cases {
            text += &format!("{what} {}: {}\n", case.name, case.reasons.join(" | "));
        }
    }
    text + &format!(
        "\n{} cases passed, {} refused with a reason, {} failed; {} are about other operators or types\n",
        report.passed,
        report.refused.len(),
        report.failed.len(),
        report.not_claimed
    )
}
