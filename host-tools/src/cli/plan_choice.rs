//! Options that name a plan, and limits that pick one.

use anyhow::{anyhow, bail};
use clap::Args;
use std::time::Duration;
use stitchkit_runtime::board::SystemClock;
use stitchkit_runtime::bundle::{AlignedBytes, Bundle};
use stitchkit_runtime::select::{self, Choice, Limits, Speed};

use stitchkit::infer::Backend;

use super::LimitsNotMet;
use super::units;

/// Limits on memory and time, and the speed to predict with.
#[derive(Debug, Clone, Copy, Args)]
pub struct LimitOptions {
    /// Arena bytes available, e.g. 64KiB.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    pub memory: Option<u64>,
    /// Time one inference may take, e.g. 30ms.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub latency: Option<Duration>,
    /// Predict times for a Cortex-M4 at this clock, one instruction per cycle; without it this machine is measured.
    #[arg(long, value_name = "HZ", value_parser = units::frequency, requires = "latency")]
    pub clock: Option<u64>,
    /// Reserve kept below the time limit, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=90))]
    pub margin: u8,
}

impl LimitOptions {
    /// The limits as the runtime takes them.
    pub fn limits(&self) -> Limits {
        Limits {
            ram_bytes: self.memory.map_or(u32::MAX, |b| u32::try_from(b).unwrap_or(u32::MAX)),
            deadline_us: self.latency.map(|t| u64::try_from(t.as_micros()).unwrap_or(u64::MAX)),
            margin_percent: self.margin,
        }
    }

    /// The speed to predict with: stated, or measured on this machine; `None` where no time limit asks for it.
    pub fn speed(&self, bundle: &Bundle<'_>) -> anyhow::Result<Option<Speed>> {
        if self.latency.is_none() {
            return Ok(None);
        }
        if let Some(hertz) = self.clock {
            return Ok(Some(Speed { cost_per_second: hertz }));
        }
        let mut arena = AlignedBytes::new(largest_arena(bundle));
        let speed = select::probe(bundle, arena.as_mut_slice(), &mut SystemClock::default())?;
        Ok(Some(speed))
    }

    /// The plan these limits get.
    pub fn choose(&self, bundle: &Bundle<'_>) -> anyhow::Result<Choice> {
        let speed = self.speed(bundle)?;
        select::select(bundle, self.limits(), speed).map_err(|e| anyhow!(LimitsNotMet(e.to_string())))
    }
}

/// Largest arena of any plan.
pub fn largest_arena(bundle: &Bundle<'_>) -> usize {
    bundle.plans().map(|p| p.arena_bytes as usize).max().unwrap_or(0)
}

/// Checks a plan id given by the user.
pub fn existing_plan(bundle: &Bundle<'_>, plan: u16) -> anyhow::Result<u16> {
    if plan >= bundle.plan_count() {
        bail!(
            "no plan {plan}: the bundle holds plans 0 to {}; `stitchkit inspect` lists them",
            bundle.plan_count() - 1
        );
    }
    Ok(plan)
}

/// What executes the plans.
#[derive(Debug, Clone, Copy, Args)]
pub struct BackendOption {
    /// `kernels`: the bare step loop, as on a microcontroller; `tract`: a tract-core model whose operators call the same
    /// kernels, as on Linux-class ARM.
    #[arg(long, value_enum, default_value = "kernels")]
    pub backend: Backend,
}
