//! What the program can do with a bundle.

mod list;
mod run;
mod verify;

pub use list::plan_json;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stitchkit_runtime::board::SystemClock;
use stitchkit_runtime::bundle::{AlignedBytes, Bundle, Plan};
use stitchkit_runtime::exec::{Prepared, ThreadedExecutor, Threads};
use stitchkit_runtime::kernels::Isa;
use stitchkit_runtime::select::{Limits, Speed, probe_executor};

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
        ..Limits::NONE
    }
}

/// Measures the speed if a deadline makes it matter. Times the cheapest plan in the step loop; both backends call the same
/// kernels. On several threads the cheapest plan gains least: the others are predicted to take rather longer than they do.
fn speed(args: &Args, bundle: &Bundle<'_>, limits: &Limits) -> Result<Option<Speed>, Failure> {
    if limits.deadline_us.is_none() {
        return Ok(None);
    }
    let in_memory = |(_, plan): &(u16, Plan<'_>)| plan.arena_bytes <= limits.ram_bytes;
    let Some((index, cheapest)) = (0..).zip(bundle.plans()).find(in_memory) else {
        return Ok(None);
    };
    if args.threads.get() > 1 {
        return speed_on_threads(args, bundle, index, cheapest.cost).map(Some);
    }
    let mut arena = AlignedBytes::new(cheapest.arena_bytes as usize);
    let mut prepared = Prepared::new(bundle, Isa::best());
    let mut executor = prepared.executor(index, arena.as_mut_slice()).map_err(Failure::because)?;
    probe_executor(&mut executor, &mut SystemClock::default()).map(Some).map_err(Failure::because)
}

/// Least time that a speed is measured over.
const PROBE: Duration = Duration::from_millis(1);

/// The speed on the threads asked for, by plan `plan` of this cost.
fn speed_on_threads(args: &Args, bundle: &Bundle<'_>, plan: u16, cost: u64) -> Result<Speed, Failure> {
    let threads = Threads::new(args.threads).map_err(Failure::because)?;
    let mut executor = ThreadedExecutor::new(bundle, plan, &threads).map_err(Failure::because)?;
    let mut run = || {
        executor.input().map_err(Failure::because)?.fill(0);
        executor.run().map(drop).map_err(Failure::because)
    };
    run()?;
    let (start, mut work) = (Instant::now(), 0u64);
    while start.elapsed() < PROBE {
        run()?;
        work = work.saturating_add(cost);
    }
    Ok(Speed { cost_per_second: (work as f64 / start.elapsed().as_secs_f64()) as u64 })
}

/// The executor and kernels asked for.
fn how(args: &Args) -> Result<How, Failure> {
    How::new(args.backend, args.isa.as_deref(), args.threads)
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
