//! One load of the bundle, checked before it serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stitchkit_runtime::bundle::{Bundle, Plan};
use stitchkit_runtime::select::{Limits, SelectError, select};

use super::Refusal;
use super::times::{Measured, Times};
use crate::args::ServiceArgs;
use crate::bundle_file::BundleFile;
use crate::failure::Failure;
use crate::runner::{How, Runner};

/// One load of the bundle.
#[derive(Debug)]
pub struct Generation {
    /// Counts loads, from 1.
    pub number: u64,
    /// The bytes; every thread parses them for itself.
    pub file: Arc<BundleFile>,
    /// Name of the bundle.
    pub name: String,
    /// How long plans take here.
    pub times: Times,
    /// Every plan, by index.
    pub plans: Vec<PlanCount>,
    /// From the plan of the configured limits down to the smallest; never empty.
    rungs: Vec<Rung>,
}

/// A plan, and how often it ran.
#[derive(Debug, Clone)]
pub struct PlanCount {
    /// Path through the anchors.
    pub path: String,
    /// Inferences, over all loads that have a plan of this path.
    pub inferences: Arc<AtomicU64>,
}

/// A memory limit and the plan it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    /// Arena allowed.
    pub ram_bytes: u32,
    /// The plan chosen under it.
    pub plan: u16,
}

impl Generation {
    /// Opens the bundle, checks it, runs the golden vectors of every plan inside the memory limit, times these plans, and finds
    /// those to move between.
    ///
    /// # Errors
    /// [`Failure::Limits`] if no plan meets the limits, [`Failure::Failed`] if the bundle is damaged or golden vectors come
    /// out differently.
    pub fn load(args: &ServiceArgs, how: How, ram_bytes: u32, before: Option<&Self>) -> Result<Self, Failure> {
        let file = Arc::new(BundleFile::open(&args.bundle, args.storage)?);
        let bundle = Bundle::parse((*file).as_ref()).map_err(|error| Failure::at(&args.bundle, error))?;
        let mut measured = Vec::new();
        for (index, plan) in (0..).zip(bundle.plans()).filter(|(_, plan)| plan.arena_bytes <= ram_bytes) {
            let ns = check(&bundle, &file, how, Rung { ram_bytes, plan: index })?;
            measured.push(Measured { stitch: plan.stitch, ns });
        }
        let times = Times::new(measured);
        let limits =
            Limits { ram_bytes, deadline_us: args.latency_us, margin_percent: args.margin_percent, ..Limits::NONE };
        let rungs = rungs(&bundle, limits, &times)
            .map_err(|error| Failure::Limits(format!("{}: {error}", args.bundle.display())))?;
        let plans = bundle.plans().map(|plan| count_of(&plan, before)).collect();
        let name = bundle.meta().name.to_owned();
        Ok(Self { number: before.map_or(1, |b| b.number + 1), file, name, times, plans, rungs })
    }

    /// The bundle, for one thread. The file is looked at first: a map of a file that was truncated must not be read.
    ///
    /// # Errors
    /// [`Refusal::Changed`] if the file was changed in place.
    pub fn parse(&self) -> Result<Bundle<'_>, Refusal> {
        if !self.file.is_unchanged() {
            return Err(Refusal::Changed);
        }
        Bundle::parse((*self.file).as_ref()).map_err(|_| Refusal::Changed)
    }

    /// The limit and plan `level` steps down, or the lowest.
    pub fn rung(&self, level: usize) -> Rung {
        let lowest = Rung { ram_bytes: 0, plan: 0 };
        self.rungs.get(level.min(self.lowest_level())).copied().unwrap_or(lowest)
    }

    /// Steps down to the smallest plan.
    pub fn lowest_level(&self) -> usize {
        self.rungs.len().saturating_sub(1)
    }

    /// Counts an inference of `plan`.
    pub fn count(&self, plan: u16) {
        if let Some(plan) = self.plans.get(usize::from(plan)) {
            plan.inferences.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Counters go on where the load before had the same plan.
fn count_of(plan: &Plan<'_>, before: Option<&Generation>) -> PlanCount {
    let known = before.and_then(|before| before.plans.iter().find(|known| known.path == plan.path));
    known.cloned().unwrap_or_else(|| PlanCount { path: plan.path.to_owned(), inferences: Arc::default() })
}

/// The plan inside the limits, then the one chosen with less memory than it takes, and so on.
fn rungs(bundle: &Bundle<'_>, limits: Limits, times: &Times) -> Result<Vec<Rung>, SelectError> {
    let first = select(bundle, limits, times)?;
    let mut rungs = vec![Rung { ram_bytes: limits.ram_bytes, plan: first.plan }];
    let mut arena_bytes = first.arena_bytes;
    while let Ok(next) = select(bundle, Limits { ram_bytes: arena_bytes.saturating_sub(1), ..limits }, times) {
        rungs.push(Rung { ram_bytes: next.arena_bytes, plan: next.plan });
        arena_bytes = next.arena_bytes;
    }
    Ok(rungs)
}

/// Runs that a plan's time is the fastest of.
const TIMED_RUNS: usize = 3;

/// Runs the golden vectors, if there are any, through the plan of a rung, and holds the backend to the rung's limit: tract
/// keeps its tensors outside the plan's arena and may need more than it. Returns the plan's time in nanoseconds.
fn check(bundle: &Bundle<'_>, file: &Arc<BundleFile>, how: How, rung: Rung) -> Result<u64, Failure> {
    let mut runner = Runner::new(how, file, bundle, rung.plan)?;
    let need = runner.activation_bytes()?;
    if need > u64::from(rung.ram_bytes) {
        let (path, available) = (file.path().display(), rung.ram_bytes);
        let text = format!("{path}: this backend needs {need} bytes for activations, {available} are available");
        return Err(Failure::Limits(text));
    }
    let mut found = Vec::new();
    let golden = bundle.golden();
    for vector in 0..golden.map_or(0, |golden| golden.count()) {
        let pair = golden.and_then(|golden| golden.input(vector).zip(golden.output(rung.plan, vector)));
        let Some((input, expected)) = pair else { break };
        runner.run(input, &mut found)?;
        if found != expected {
            let plan = rung.plan;
            return Err(Failure::at(file.path(), format!("golden vector {vector} differs on plan {plan}")));
        }
    }
    let input = vec![0; bundle.meta().input.len()];
    let mut fastest = Duration::MAX;
    for _ in 0..TIMED_RUNS {
        let start = Instant::now();
        runner.run(&input, &mut found)?;
        fastest = fastest.min(start.elapsed());
    }
    Ok(u64::try_from(fastest.as_nanos()).unwrap_or(u64::MAX).max(1))
}
