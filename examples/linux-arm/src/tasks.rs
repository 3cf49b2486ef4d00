//! What the program can do with a bundle.

mod list;
mod run;
mod verify;

pub use list::plan_json;

use std::io::Write;
use std::sync::Arc;

use stitchkit_runtime::board::SystemClock;
use stitchkit_runtime::bundle::{AlignedBytes, Bundle, Plan};
use stitchkit_runtime::select::{Limits, Speed, probe};

use crate::args::{Args, Task};
use crate::bundle_file::BundleFile;
use crate::failure::Failure;
use crate::runner::How;
use crate::{json, machine};

/// Does what the command line asks.
///
/// # Errors
/// Any [`Failure`].
pub fn run(args: &Args, file: &Arc<BundleFile>, output: &mut impl Write) -> Result<(), Failure> {
    let bundle = &Bundle::parse((**file).as_ref()).map_err(|error| Failure::at(file.path(), error))?;
    match args.task {
        Task::Run => run::run(args, file, bundle, output),
        Task::List => list::list(args, bundle, output),
        Task::Verify => verify::verify(args, file, bundle, output),
    }
}

/// The limits of this run: those given, and free memory where none is given.
fn limits(args: &Args) -> Limits {
    let detected = || machine::free_memory_bytes().map_or(u32::MAX, |bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
    Limits {
        ram_bytes: args.memory_bytes.unwrap_or_else(detected),
        deadline_us: args.latency_us,
        margin_percent: args.margin_percent,
    }
}

/// Measures the speed if a deadline makes it matter. Times the cheapest plan in the step loop; both backends call the same
/// kernels.
fn speed(bundle: &Bundle<'_>, limits: &Limits) -> Result<Option<Speed>, Failure> {
    if limits.deadline_us.is_none() {
        return Ok(None);
    }
    let in_memory = |plan: &Plan<'_>| plan.arena_bytes <= limits.ram_bytes;
    let Some(cheapest) = bundle.plans().find(in_memory) else {
        return Ok(None);
    };
    let mut arena = AlignedBytes::new(cheapest.arena_bytes as usize);
    probe(bundle, arena.as_mut_slice(), &mut SystemClock::default()).map(Some).map_err(Failure::because)
}

/// The executor and kernels asked for.
fn how(args: &Args) -> Result<How, Failure> {
    How::new(args.backend, args.isa.as_deref())
}

/// Limits and speed as JSON.
fn limits_json(limits: &Limits, speed: Option<Speed>) -> String {
    json::object([
        ("memory_bytes", limits.ram_bytes.to_string()),
        ("latency_us", json::optional(limits.deadline_us)),
        ("margin_percent", limits.margin_percent.to_string()),
        ("cost_per_second", json::optional(speed.map(|s| s.cost_per_second))),
    ])
}

/// Parts per million as a percentage, or a dash where unknown.
fn percent(ppm: u32) -> String {
    if ppm == 0 { "-".into() } else { format!("{:.2} %", f64::from(ppm) / 1e4) }
}

/// Microseconds with a readable unit.
fn time(us: u64) -> String {
    if us < 10_000 { format!("{us} us") } else { format!("{:.1} ms", us as f64 / 1e3) }
}
