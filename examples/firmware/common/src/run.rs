//! The loop.

use embedded_hal::digital::OutputPin;
use stitchkit_runtime::board::{Clock, ticks_to_us};
use stitchkit_runtime::bundle::{Bundle, BundleError};
use stitchkit_runtime::exec::{ExecError, Executor};
use stitchkit_runtime::select::{Limits, ProbeError, SelectError, Speed, probe, select};

use crate::frames;
use crate::schedule::{Deadline, Schedule};

/// What the loop needs of a board.
pub struct Board<'a, C, P, R> {
    /// Memory for plans, on a 16-byte boundary.
    pub arena: &'a mut [u8],
    /// Measures the board once and every frame.
    pub clock: C,
    /// High while a plan runs.
    pub trigger: P,
    /// Told of every frame.
    pub report: R,
    /// Frames per deadline.
    pub held_frames: u32,
}

/// Told of every frame.
pub trait Report {
    /// A frame was answered.
    fn frame(&mut self, frame: &Frame<'_>);
}

/// One frame and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Counts frames, from 0.
    pub number: u32,
    /// What it was given.
    pub deadline: Deadline,
    /// Index of the plan that ran.
    pub plan: u16,
    /// Its path through the anchors.
    pub path: &'a str,
    /// Predicted time.
    pub predicted_us: u64,
    /// Measured time.
    pub took_us: u64,
    /// Best class, the first of equal ones.
    pub class: u16,
    /// How it went.
    pub outcome: Outcome,
}

/// How a frame went. Later ones are worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Outcome {
    /// Answered in time.
    InTime,
    /// Known to be too late before it ran: no plan meets the deadline, and the fastest ran.
    TooLateAsExpected,
    /// Answered too late, against the prediction.
    TooLate,
    /// The output is not the golden one: the board or the bundle is broken.
    Wrong,
}

/// Why the loop cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Fault {
    /// The bundle was refused.
    Bundle(BundleError),
    /// The board cannot be measured.
    Probe(ProbeError),
    /// No plan fits in memory.
    Select(SelectError),
    /// A plan did not run.
    Exec(ExecError),
    /// The trigger pin did not move.
    Pin,
}

/// Runs that many frames, and returns how the worst of them went. `u32::MAX` frames take a camera years.
///
/// # Errors
/// [`Fault`].
pub fn run<C: Clock, P: OutputPin, R: Report>(
    bundle: &[u8],
    frames: u32,
    board: Board<'_, C, P, R>,
) -> Result<Outcome, Fault> {
    let Board { arena, mut clock, mut trigger, mut report, held_frames } = board;
    let bundle = Bundle::parse(bundle).map_err(Fault::Bundle)?;
    let speed = probe(&bundle, arena, &mut clock).map_err(Fault::Probe)?;
    let memory = Limits { ram_bytes: u32::try_from(arena.len()).unwrap_or(u32::MAX), ..Limits::NONE };
    let schedule = schedule(&bundle, memory, speed, held_frames)?;
    let mut choice = choose(&bundle, memory, Deadline::None, speed)?;
    let mut executor = Executor::new(&bundle, choice.plan, arena).map_err(Fault::Exec)?;
    let mut deadline = Deadline::None;
    let mut worst = Outcome::InTime;
    for number in 0..frames {
        if schedule.deadline(number) != deadline {
            deadline = schedule.deadline(number);
            choice = choose(&bundle, memory, deadline, speed)?;
            executor.switch(choice.plan).map_err(Fault::Exec)?;
        }
        let golden = frames::fill(&bundle, number, executor.input().map_err(Fault::Exec)?);
        trigger.set_high().map_err(|_| Fault::Pin)?;
        let start = clock.now();
        let logits = executor.run().map_err(Fault::Exec)?;
        let ticks = clock.now().wrapping_sub(start);
        trigger.set_low().map_err(|_| Fault::Pin)?;

        let took_us = ticks_to_us(ticks, clock.hz());
        let expected = golden.and_then(|index| bundle.golden()?.output(choice.plan, index));
        let outcome = match deadline.us() {
            _ if expected.is_some_and(|expected| expected != logits) => Outcome::Wrong,
            Some(_) if !choice.is_in_time => Outcome::TooLateAsExpected,
            Some(us) if took_us > us => Outcome::TooLate,
            _ => Outcome::InTime,
        };
        worst = worst.max(outcome);
        let class = best(logits);
        let (plan, predicted_us) = (choice.plan, choice.predicted_us);
        let path = executor.plan().map_or("", |plan| plan.path);
        report.frame(&Frame { number, deadline, plan, path, predicted_us, took_us, class, outcome });
    }
    Ok(worst)
}

/// A plan for the frames of one deadline.
#[derive(Debug, Clone, Copy)]
struct Chosen {
    plan: u16,
    predicted_us: u64,
    /// Whether it is predicted to meet the deadline.
    is_in_time: bool,
}

/// The most accurate plan that meets the deadline, or the fastest if none does: a late answer is better than none here.
fn choose(bundle: &Bundle<'_>, memory: Limits, deadline: Deadline, speed: Speed) -> Result<Chosen, Fault> {
    let limits = Limits { deadline_us: deadline.us(), ..memory };
    match select(bundle, limits, Some(speed)) {
        Ok(choice) => Ok(Chosen { plan: choice.plan, predicted_us: choice.latency_us.unwrap_or(0), is_in_time: true }),
        Err(SelectError::DeadlineTooShort { fastest_us, .. }) => {
            let limits = Limits { deadline_us: Some(fastest_us), margin_percent: 0, ..memory };
            let choice = select(bundle, limits, Some(speed)).map_err(Fault::Select)?;
            Ok(Chosen { plan: choice.plan, predicted_us: fastest_us, is_in_time: false })
        }
        Err(error) => Err(Fault::Select(error)),
    }
}

/// A schedule for the plans that fit in memory.
fn schedule(bundle: &Bundle<'_>, memory: Limits, speed: Speed, held_frames: u32) -> Result<Schedule, Fault> {
    let fitting = bundle.plans().filter(|plan| plan.arena_bytes <= memory.ram_bytes);
    let fastest_us = fitting.map(|plan| speed.predict_us(plan.cost)).min().unwrap_or(0);
    let slowest_us = choose(bundle, memory, Deadline::None, speed)?.predicted_us;
    Ok(Schedule { fastest_us, slowest_us, held_frames })
}

/// Index of the largest logit, the first of equal ones.
fn best(logits: &[i8]) -> u16 {
    let largest = logits.iter().max();
    let class = logits.iter().position(|logit| Some(logit) == largest).unwrap_or(0);
    u16::try_from(class).unwrap_or(u16::MAX)
}
