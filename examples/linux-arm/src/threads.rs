//! Timing one inference on several numbers of threads side by side.

use std::io::Write;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use stitchkit_runtime::bundle::Bundle;
use stitchkit_runtime::exec::{ThreadedExecutor, Threads};

use crate::args::{Backend, Storage, Style, ThreadsArgs};
use crate::bundle_file::BundleFile;
use crate::failure::Failure;
use crate::json;
use crate::runner::{How, find};

/// Least time of a turn.
const TURN: Duration = Duration::from_millis(5);

/// Time of one inference.
#[derive(Debug, Clone, Copy)]
struct Sample {
    elapsed_us: f64,
    processor_us: f64,
}

/// Times the plans asked for and prints a table of each.
///
/// # Errors
/// [`Failure::Failed`] if the bundle or a plan cannot be used, or there are no threads.
pub fn run(args: &ThreadsArgs, output: &mut impl Write) -> Result<(), Failure> {
    let file = BundleFile::open(&args.bundle, Storage::Mapped)?;
    let bundle = Bundle::parse(file.as_ref()).map_err(|error| Failure::at(&args.bundle, error))?;
    let last = [bundle.plan_count().saturating_sub(1)];
    let plans = if args.plans.is_empty() { &last[..] } else { &args.plans };
    let pools: Vec<Threads> = (1..=args.most.get())
        .filter_map(NonZeroUsize::new)
        .map(|count| Threads::new(count).map_err(Failure::because))
        .collect::<Result<_, _>>()?;
    for &plan in plans {
        let samples = measure(args, &bundle, plan, &pools)?;
        match args.style {
            Style::Text => print_text(args, &bundle, plan, &samples, output)?,
            Style::Json => print_json(args, &bundle, plan, &samples, output)?,
        }
        output.flush()?;
    }
    Ok(())
}

/// The fastest inference of every number of threads, which take turns.
fn measure(args: &ThreadsArgs, bundle: &Bundle<'_>, plan: u16, pools: &[Threads]) -> Result<Vec<Sample>, Failure> {
    find(bundle, plan)?;
    let how = How::new(Backend::Kernels, args.isa.as_deref(), NonZeroUsize::MIN)?;
    let mut executors = Vec::new();
    for pool in pools {
        let mut executor = ThreadedExecutor::with_isa(bundle, plan, pool, how.isa).map_err(Failure::because)?;
        if let Some(macs) = args.share_from {
            executor.share_from(macs);
        }
        executors.push(executor);
    }
    let mut fastest: Vec<Option<Sample>> = vec![None; executors.len()];
    for _ in 0..args.rounds {
        for (executor, fastest) in executors.iter_mut().zip(&mut fastest) {
            let sample = time(executor)?;
            if fastest.is_none_or(|known| sample.elapsed_us < known.elapsed_us) {
                *fastest = Some(sample);
            }
        }
    }
    Ok(fastest.into_iter().flatten().collect())
}

/// The fastest of the inferences that [`TURN`] is long enough for.
fn time(executor: &mut ThreadedExecutor<'_, '_>) -> Result<Sample, Failure> {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let mut fastest: Option<Sample> = None;
    let turn = Instant::now();
    loop {
        executor.input().map_err(Failure::because)?.fill(0);
        let (start, processor) = (Instant::now(), processor_time());
        executor.run().map_err(Failure::because)?;
        let (elapsed, processor) = (start.elapsed(), processor_time().saturating_sub(processor));
        let sample = Sample { elapsed_us: us(elapsed), processor_us: us(processor) };
        let kept = fastest.filter(|known| known.elapsed_us <= sample.elapsed_us).unwrap_or(sample);
        if turn.elapsed() >= TURN {
            return Ok(kept);
        }
        fastest = Some(kept);
    }
}

/// Processor time of all threads of this process.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

fn print_text(
    args: &ThreadsArgs,
    bundle: &Bundle<'_>,
    plan: u16,
    samples: &[Sample],
    output: &mut impl Write,
) -> Result<(), Failure> {
    let record = find(bundle, plan)?;
    writeln!(
        output,
        "plan {plan} ({}), {} multiply-accumulates; fastest inference of {} rounds",
        record.path, record.macs, args.rounds
    )?;
    writeln!(output, "threads  elapsed us  processor us  speedup")?;
    for (count, sample) in (1..).zip(samples) {
        let Sample { elapsed_us, processor_us } = sample;
        writeln!(output, "{count:>7}  {elapsed_us:>10.1}  {processor_us:>12.1}  {:>7.2}", speedup(samples, sample))?;
    }
    Ok(())
}

fn print_json(
    args: &ThreadsArgs,
    bundle: &Bundle<'_>,
    plan: u16,
    samples: &[Sample],
    output: &mut impl Write,
) -> Result<(), Failure> {
    let record = find(bundle, plan)?;
    let rows = (1..).zip(samples).map(|(count, sample): (u32, _)| {
        json::object([
            ("threads", count.to_string()),
            ("elapsed_us", format!("{:.1}", sample.elapsed_us)),
            ("processor_us", format!("{:.1}", sample.processor_us)),
            ("speedup", format!("{:.2}", speedup(samples, sample))),
        ])
    });
    let report = json::object([
        ("plan", plan.to_string()),
        ("path", json::string(record.path)),
        ("macs", record.macs.to_string()),
        ("rounds", args.rounds.to_string()),
        ("threads", json::array(rows)),
    ]);
    Ok(writeln!(output, "{report}")?)
}

/// How many times as fast as one thread.
fn speedup(samples: &[Sample], sample: &Sample) -> f64 {
    samples.first().map_or(1.0, |one| one.elapsed_us / sample.elapsed_us)
}
