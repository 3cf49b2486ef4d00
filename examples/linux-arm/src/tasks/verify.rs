//! Running the golden vectors.

use std::io::Write;
use std::sync::Arc;

use stitchkit_runtime::bundle::{Bundle, Golden};

use super::how;
use crate::args::{Args, Style};
use crate::bundle_file::BundleFile;
use crate::failure::Failure;
use crate::json;
use crate::runner::Runner;

/// A golden vector that came out differently.
struct Mismatch {
    plan: u16,
    vector: usize,
    /// First element that differs, what it is and what it should be; `None` if lengths differ.
    first: Option<(usize, i8, i8)>,
}

/// Runs all golden vectors through the plan asked for, or through every plan, and prints each difference.
///
/// # Errors
/// [`Failure::Failed`] if anything differs or the bundle holds no golden vectors.
pub fn verify(
    args: &Args,
    file: &Arc<BundleFile>,
    bundle: &Bundle<'_>,
    output: &mut impl Write,
) -> Result<(), Failure> {
    let no_vectors = || Failure::Failed("the bundle holds no golden vectors to verify with".into());
    let golden = bundle.golden().ok_or_else(no_vectors)?;
    let plans = match args.plan {
        Some(index) => index..index.saturating_add(1),
        None => 0..bundle.plan_count(),
    };
    let mut runner = Runner::new(how(args)?, file, bundle, plans.start)?;
    let mut mismatches = Vec::new();
    for index in plans.clone() {
        runner.switch(index)?;
        compare(&mut runner, &golden, index, &mut mismatches)?;
    }
    print(args, plans.len(), golden.count(), &mismatches, output)?;
    output.flush()?;
    match mismatches.len() {
        0 => Ok(()),
        count => Err(Failure::Failed(format!("{count} golden vectors came out differently"))),
    }
}

/// Runs all golden vectors through the runner's plan `plan` and notes the differences.
fn compare(
    runner: &mut Runner<'_>,
    golden: &Golden<'_>,
    plan: u16,
    mismatches: &mut Vec<Mismatch>,
) -> Result<(), Failure> {
    let mut found = Vec::new();
    for vector in 0..golden.count() {
        let (Some(input), Some(expected)) = (golden.input(vector), golden.output(plan, vector)) else { break };
        runner.run(input, &mut found)?;
        if found == expected {
            continue;
        }
        let differs = found.iter().zip(expected).position(|(a, b)| a != b);
        let first = differs.and_then(|at| Some((at, *found.get(at)?, *expected.get(at)?)));
        mismatches.push(Mismatch { plan, vector, first });
    }
    Ok(())
}

fn print(
    args: &Args,
    plans: usize,
    vectors: usize,
    mismatches: &[Mismatch],
    output: &mut impl Write,
) -> Result<(), Failure> {
    if args.style == Style::Json {
        let mismatch = |m: &Mismatch| {
            json::object([
                ("plan", m.plan.to_string()),
                ("vector", m.vector.to_string()),
                ("element", json::optional(m.first.map(|f| f.0))),
                ("found", json::optional(m.first.map(|f| f.1))),
                ("expected", json::optional(m.first.map(|f| f.2))),
            ])
        };
        let report = json::object([
            ("backend", json::string(args.backend.name())),
            ("plans", plans.to_string()),
            ("vectors", vectors.to_string()),
            ("mismatches", json::array(mismatches.iter().map(mismatch))),
        ]);
        return Ok(writeln!(output, "{report}")?);
    }
    for Mismatch { plan, vector, first } in mismatches {
        match first {
            Some((element, found, expected)) => {
                writeln!(output, "plan {plan}, vector {vector}: output {element} is {found}, expected {expected}")?;
            }
            None => writeln!(output, "plan {plan}, vector {vector}: the output has the wrong length")?,
        }
    }
    let name = args.backend.name();
    writeln!(output, "{name}: {plans} plans, {vectors} vectors each, {} mismatches", mismatches.len())?;
    Ok(())
}
