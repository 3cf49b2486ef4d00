//! `stitchkit verify`.

use std::path::PathBuf;

use serde::Serialize;
use stitchkit::infer::{self, Backend, Trace};
use stitchkit_runtime::bundle::Bundle;
use stitchkit_runtime::exec::Prepared;
use stitchkit_runtime::kernels::Isa;

use super::Ui;
use super::bundle_file::BundleFile;

/// Arguments of `stitchkit verify`.
///
/// Every plan runs on the bundle's golden inputs and on seeded random ones, by the scalar reference, by every faster kernel
/// set of this processor and by tract; all must produce the same bytes at every step.
#[derive(Debug, clap::Args)]
pub struct Command {
    /// The bundle.
    bundle: PathBuf,
    /// Random inputs per plan, besides the golden ones.
    #[arg(long, value_name = "N", default_value_t = 8)]
    inputs: usize,
    /// Seed of the random inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Serialize)]
struct Report {
    verified: bool,
    golden_vectors: usize,
    random_inputs: usize,
    backends: Vec<String>,
    plans: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    id: u16,
    path: String,
    steps: usize,
    golden_ok: bool,
    first_difference: Option<Difference>,
}

#[derive(Serialize)]
struct Difference {
    backend: String,
    input: usize,
    step: usize,
    op: String,
    block: String,
    element: usize,
    expected: i8,
    found: i8,
}

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        let file = BundleFile::read(&self.bundle)?;
        let loaded = file.load()?;
        let bundle = loaded.bundle;
        let golden = bundle.golden();
        let golden_vectors = golden.map_or(0, |g| g.count());
        let mut inputs: Vec<Vec<i8>> =
            (0..golden_vectors).filter_map(|i| golden.and_then(|g| g.input(i)).map(<[i8]>::to_vec)).collect();
        inputs.extend(infer::random_inputs(bundle.meta().input.len(), self.inputs, self.seed));
        let bar = ui.bar(u64::from(bundle.plan_count()) * inputs.len() as u64, "verifying");
        let others: Vec<Isa> = Isa::available().iter().copied().filter(|isa| *isa != Isa::Reference).collect();
        let mut plans = Vec::new();
        for id in 0..bundle.plan_count() {
            let mut row = Row {
                id,
                path: bundle.plan(id).map_or(String::new(), |p| p.path.to_owned()),
                steps: bundle.plan(id).map_or(0, |p| bundle.steps_of(&p).count()),
                golden_ok: true,
                first_difference: None,
            };
            let mut reference = infer::Runner::with_isa(loaded, id, Isa::Reference)?;
            let mut runners = Vec::new();
            for isa in &others {
                runners.push((isa.name().to_owned(), infer::Runner::with_isa(loaded, id, *isa)?));
                runners.push((packed_name(*isa), infer::Runner::packed(&Prepared::new(&bundle, *isa), id)?));
            }
            runners.push(("tract".to_owned(), infer::Runner::new(loaded, id, Backend::Tract)?));
            for (number, input) in inputs.iter().enumerate() {
                let wanted = reference.trace(input)?;
                if let Some(expected) = golden.and_then(|g| g.output(id, number)) {
                    row.golden_ok &= wanted.output() == expected;
                }
                for (backend, runner) in &mut runners {
                    note_difference(&mut row, &bundle, backend, number, &wanted, &runner.trace(input)?);
                }
                bar.inc(1);
            }
            plans.push(row);
        }
        bar.finish_and_clear();
        let mut backends = vec![Isa::Reference.name().to_owned()];
        backends.extend(others.iter().flat_map(|&isa| [isa.name().to_owned(), packed_name(isa)]));
        backends.push("tract".to_owned());
        let verified = plans.iter().all(|row| row.golden_ok && row.first_difference.is_none());
        let report = Report { verified, golden_vectors, random_inputs: self.inputs, backends, plans };
        ui.print(&report, || text(&report))?;
        if !verified {
            anyhow::bail!("the bundle does not verify");
        }
        Ok(())
    }
}

/// The name of a variant with packed weights.
fn packed_name(isa: Isa) -> String {
    format!("{} packed", isa.name())
}

fn note_difference(row: &mut Row, bundle: &Bundle<'_>, backend: &str, input: usize, want: &Trace, have: &Trace) {
    if row.first_difference.is_some() {
        return;
    }
    let Some((step, element, expected, found)) = want.first_difference(have) else { return };
    let placed = bundle.plan(row.id).and_then(|plan| bundle.steps_of(&plan).nth(step));
    row.first_difference = Some(Difference {
        backend: backend.to_owned(),
        input,
        step,
        op: placed.as_ref().map_or(String::new(), |p| p.step.op.name().to_owned()),
        block: placed.and_then(|p| bundle.block(p.block)).map_or(String::new(), |b| b.name.to_owned()),
        element,
        expected,
        found,
    });
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "{} golden and {} random inputs per plan; backends: {}\n",
        report.golden_vectors,
        report.random_inputs,
        report.backends.join(", ")
    );
    for row in &report.plans {
        let verdict = match (&row.first_difference, row.golden_ok) {
            (Some(d), _) => format!(
                "FAILED: {} differs at step {} ({} of block {}), element {}: {} instead of {} (input {})",
                d.backend, d.step, d.op, d.block, d.element, d.found, d.expected, d.input
            ),
            (None, false) => "FAILED: golden output differs".to_owned(),
            (None, true) => format!("ok, {} steps", row.steps),
        };
        text += &format!("plan {:>2}  {verdict}  {}\n", row.id, row.path);
    }
    text
}
