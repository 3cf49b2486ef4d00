//! Random graphs through every way of running them on this machine, side by side: scalar reference, every kernel set of this
//! processor, with weights in place and packed, tract, streamed from storage. All must give the same bytes at every step.
//!
//! Environment:
//!   STITCHKIT_FUZZ_GRAPHS  graphs to draw; default 1000
//!   STITCHKIT_FUZZ_SEED    seed of the first; default 0
//!
//! A graph that fails is made smaller as long as it fails, and printed as a line for `cases.txt`, whose lines always run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use stitchkit::infer::{Backend, Loaded, Runner, Trace};
use stitchkit_runtime::bundle::{AlignedBytes, Bundle, Op};
use stitchkit_runtime::exec::Prepared;
use stitchkit_runtime::kernels::Isa;
use stitchkit_tests::Rng;
use stitchkit_tests::builder::infer_divided;
use stitchkit_tests::random_graph::Recipe;
use stitchkit_tests::streaming::stream_all_plans;

/// Graphs that once failed, or that are odd in a way worth keeping: a recipe per line.
const CASES: &str = include_str!("cases.txt");

/// Random values, both rails at random, and the lowest value everywhere.
fn inputs(len: usize) -> [Vec<i8>; 3] {
    let random = Rng::new(5).vector(len);
    let rails = random.iter().map(|&value| if value < 0 { -128 } else { 127 }).collect();
    [random, rails, vec![-128; len]]
}

/// Runs a graph in every way; what differs, or why it does not run.
fn check(recipe: &Recipe) -> Result<(), String> {
    let file = recipe.bundle().map_err(|error| format!("no bundle: {error}"))?;
    let bytes = Arc::new(AlignedBytes::copy_of(&file));
    let loaded = Loaded::new(&bytes).map_err(|error| format!("refused: {error}"))?;
    for plan in 0..loaded.bundle.plan_count() {
        check_plan(loaded, plan).map_err(|fault| format!("plan {plan}: {fault}"))?;
    }
    let share = f64::from(recipe.classes) / 11.0;
    stream_all_plans::<false>(&file, share, 7).map_err(|error| format!("streamed: {error}"))?;
    stream_all_plans::<true>(&file, share, 7).map_err(|error| format!("streamed with overlap: {error}"))?;
    Ok(())
}

fn check_plan(loaded: Loaded<'_>, plan: u16) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let mut reference = Runner::with_isa(loaded, plan, Isa::Reference).map_err(|e| text(&e))?;
    let mut others = vec![("tract".to_owned(), Runner::new(loaded, plan, Backend::Tract).map_err(|e| text(&e))?)];
    for &isa in Isa::available().iter().filter(|&&isa| isa != Isa::Reference) {
        others.push((isa.name().to_owned(), Runner::with_isa(loaded, plan, isa).map_err(|e| text(&e))?));
        let packed = Runner::packed(&Prepared::new(&loaded.bundle, isa), plan).map_err(|e| text(&e))?;
        others.push((format!("{} packed", isa.name()), packed));
    }
    for (number, input) in inputs(loaded.bundle.meta().input.len()).iter().enumerate() {
        let want = reference.trace(input).map_err(|e| text(&e))?;
        for &isa in Isa::available() {
            let have = infer_divided(&loaded.bundle, plan, isa, &[input]).concat();
            if want.output() != have {
                return Err(format!("{} in two memories on input {number}", isa.name()));
            }
        }
        for (name, runner) in &mut others {
            let have = runner.trace(input).map_err(|e| format!("{name}: {e}"))?;
            if let Some(fault) = difference(&loaded.bundle, plan, &want, &have) {
                return Err(format!("{name} on input {number}: {fault}"));
            }
        }
    }
    Ok(())
}

/// The first step that differs, in words.
fn difference(bundle: &Bundle<'_>, plan: u16, want: &Trace, have: &Trace) -> Option<String> {
    let (step, element, expected, found) = want.first_difference(have)?;
    let op: Option<Op> = bundle.plan(plan).and_then(|record| bundle.steps_of(&record).nth(step)).map(|at| at.step.op);
    Some(format!("step {step}, element {element}: {found} instead of {expected}; {op:?}"))
}

/// [`check`], with panics as faults.
fn fault(recipe: &Recipe) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| check(recipe))) {
        Ok(result) => result.err(),
        Err(panic) => Some(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".to_owned())),
    }
}

/// The smallest graph that still fails, and how.
fn report(recipe: &Recipe) -> String {
    let least = recipe.shrink(|smaller| fault(smaller).is_some());
    let fault = fault(&least).unwrap_or_else(|| "it does not fail every time".to_owned());
    format!("{least}\n  {fault}\nadd the first line to tests/fuzz/cases.txt")
}

fn number(name: &str, otherwise: u32) -> u32 {
    std::env::var(name)
        .map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}: `{text}` is no number")))
}

#[test]
fn random_graphs_give_the_same_bytes_however_they_run() {
    let (first, count) = (number("STITCHKIT_FUZZ_SEED", 0), number("STITCHKIT_FUZZ_GRAPHS", 1000));
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let failing = std::thread::scope(|scope| {
        let share = |thread: u32| {
            let seeds = (thread..count).step_by(threads as usize).map(move |at| first.wrapping_add(at));
            scope.spawn(move || {
                seeds.map(|seed| (seed, Recipe::of_seed(seed))).find(|(_, graph)| fault(graph).is_some())
            })
        };
        let running: Vec<_> = (0..threads).map(share).collect();
        running.into_iter().find_map(|thread| thread.join().expect("panics are caught"))
    });
    if let Some((seed, recipe)) = failing {
        panic!("seed {seed}, of which is left:\n{}", report(&recipe));
    }
}

#[test]
fn graphs_that_once_failed_do_not() {
    let lines = CASES.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut count = 0;
    for line in lines {
        let recipe: Recipe = line.parse().unwrap_or_else(|_| panic!("no recipe: {line}"));
        if fault(&recipe).is_some() {
            panic!("{}", report(&recipe));
        }
        count += 1;
    }
    assert!(count > 0);
}
