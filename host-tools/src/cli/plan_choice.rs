//! Options that name a plan, and limits that pick one.

use anyhow::{anyhow, bail};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;
use stitchkit_runtime::board::SystemClock;
use stitchkit_runtime::bundle::{AlignedBytes, Bundle, Plan};
use stitchkit_runtime::select::{self, Choice, Limits, Predict, Speed};

use stitchkit::board::Board;
use stitchkit::infer::Backend;
use stitchkit::report::table::grouped;

use super::LimitsNotMet;
use super::units;

/// Limits on memory and time, and the speed to predict with.
#[derive(Debug, Clone, Args)]
pub struct LimitOptions {
    /// Arena bytes available, e.g. 64KiB; default: as much as the board of `--board` has, else no limit.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    pub memory: Option<u64>,
    /// Arena bytes available in a faster memory beside that; default: those of the board of `--board`, else none.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    pub fast_memory: Option<u64>,
    /// Time one inference may take, e.g. 30ms.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub latency: Option<Duration>,
    /// Predict times for a Cortex-M4 at this clock, one instruction per cycle; without it this machine is measured.
    #[arg(long, value_name = "HZ", value_parser = units::frequency, requires = "latency")]
    pub clock: Option<u64>,
    /// Predict times for the board of this file, see `stitchkit profile`; its memory is the limit unless `--memory` is given.
    #[arg(long, value_name = "FILE", conflicts_with = "clock")]
    pub board: Option<PathBuf>,
    /// Reserve kept below the time limit, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=90))]
    pub margin: u8,
}

/// Limits, and what predicts the times that are held against them.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The limits as the runtime takes them.
    pub limits: Limits,
    /// Knows nothing where no time limit asks for it and no board is named.
    pub latency: Latency,
}

/// Where predicted times come from.
#[derive(Debug, Clone)]
pub enum Latency {
    /// Nowhere.
    Unknown,
    /// A speed, stated or measured on this machine.
    Speed(Speed),
    /// A board file.
    Board(Box<Board>),
}

impl Predict for Latency {
    fn plan_us(&self, bundle: &Bundle<'_>, plan: &Plan<'_>) -> Option<u64> {
        match self {
            Self::Unknown => None,
            Self::Speed(speed) => speed.plan_us(bundle, plan),
            Self::Board(board) => board.profile.plan_us(bundle, plan),
        }
    }
}

impl LimitOptions {
    /// Reads the board file, or measures this machine if a time limit asks for it.
    ///
    /// # Errors
    /// A board file that cannot be used, a machine that cannot be measured.
    pub fn rule(&self, bundle: &Bundle<'_>) -> anyhow::Result<Rule> {
        let latency = self.latency(bundle)?;
        let (board_bytes, board_fast_bytes) = match &latency {
            Latency::Board(board) => (board.profile.ram_bytes, board.fast_ram_bytes),
            Latency::Unknown | Latency::Speed(_) => (u32::MAX, 0),
        };
        let given = |bytes: Option<u64>, default| bytes.map_or(default, |b| u32::try_from(b).unwrap_or(u32::MAX));
        let limits = Limits {
            ram_bytes: given(self.memory, board_bytes),
            fast_bytes: given(self.fast_memory, board_fast_bytes),
            deadline_us: self.latency.map(|t| u64::try_from(t.as_micros()).unwrap_or(u64::MAX)),
            margin_percent: self.margin,
        };
        Ok(Rule { limits, latency })
    }

    fn latency(&self, bundle: &Bundle<'_>) -> anyhow::Result<Latency> {
        if let Some(file) = &self.board {
            return Ok(Latency::Board(Box::new(Board::read(file)?)));
        }
        if self.latency.is_none() {
            return Ok(Latency::Unknown);
        }
        if let Some(hertz) = self.clock {
            return Ok(Latency::Speed(Speed { cost_per_second: hertz }));
        }
        let mut arena = AlignedBytes::new(largest_arena(bundle));
        let speed = select::probe(bundle, arena.as_mut_slice(), &mut SystemClock::default())?;
        Ok(Latency::Speed(speed))
    }

    /// The plan these limits get.
    ///
    /// # Errors
    /// As [`Self::rule`], and limits that no plan meets.
    pub fn choose(&self, bundle: &Bundle<'_>) -> anyhow::Result<Choice> {
        let rule = self.rule(bundle)?;
        select::select(bundle, rule.limits, rule.latency).map_err(|e| anyhow!(LimitsNotMet(e.to_string())))
    }
}

/// An arena's size with the part that is laid out for a fast memory.
pub fn arena_text(arena_bytes: String, fast_bytes: u32) -> String {
    if fast_bytes == 0 { arena_bytes } else { format!("{arena_bytes} ({} fast)", grouped(fast_bytes.into())) }
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
