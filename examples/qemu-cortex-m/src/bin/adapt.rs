//! Adapts to a load that comes and goes. Prints one JSON line per inference, the format of `host-tools/docs/adapting.md`.
//!
//! The load is work that runs between the start and the stop of the clock, as an interrupt or another task would. Under
//! `-icount` two runs print the same.
//!
//! Arguments on the semihosting command line: `ram=BYTES`, `deadline_us=N` (default: what the most accurate plan is predicted
//! to take, and a quarter more), `load=PERCENT` (of the idle time, default 250). Exit status: 0 if the plan went down within
//! three inferences of the load and came back after it, with no two misses in a row; else 1; 3 if no plan fits.
#![no_std]
#![no_main]

use board::args::Args;
use board::clock::SysTickClock;
use board::{bundle_in_flash, host, memory::Memory, report_panics, say};
use cortex_m_rt::entry;
use stitchkit_runtime::adapt::Record;
use stitchkit_runtime::board::Clock;
use stitchkit_runtime::bundle::Bundle;
use stitchkit_runtime::exec::ExecError;
use stitchkit_runtime::runtime::Runtime;
use stitchkit_runtime::select::{Ladder, Limits, probe};

bundle_in_flash!();
report_panics!();

/// Inferences before, under and after the load.
const PHASES: [u32; 3] = [6, 12, 12];

#[entry]
fn main() -> ! {
    let mut line = [0; 256];
    let args = Args(host::command_line(&mut line));
    let (Some(memory), Some(peripherals)) = (Memory::take(), cortex_m::Peripherals::take()) else { host::exit(1) };
    let clock = SysTickClock::start(peripherals.SYST);
    let usable = args.number("ram").map_or(usize::MAX, |limit| limit as usize).min(memory.arena.len());
    let arena = memory.arena.get_mut(..usable).unwrap_or_default();
    host::exit(run(args, clock, arena))
}

fn run(args: Args<'_>, mut clock: SysTickClock, arena: &mut [u8]) -> usize {
    let bundle = match Bundle::parse(&BUNDLE.0) {
        Ok(bundle) => bundle,
        Err(error) => return refuse(1, error),
    };
    let speed = match probe(&bundle, arena, &mut clock) {
        Ok(speed) => speed,
        Err(error) => return refuse(1, error),
    };
    let in_memory = |rung: &&stitchkit_runtime::select::Rung| rung.footprint.arena_bytes as usize <= arena.len();
    let slowest_us = Ladder::of(&bundle, speed).rungs().iter().rfind(in_memory).map_or(0, |rung| rung.latency_us);
    let deadline_us = args.number("deadline_us").unwrap_or(slowest_us + slowest_us / 4);
    let limits = Limits { deadline_us: Some(deadline_us.into()), ..Limits::NONE };
    let mut runtime = match Runtime::start(bundle, arena, limits, speed) {
        Ok((runtime, _report)) => runtime,
        Err(error) => return refuse(3, error),
    };
    let mut clock = Loaded { clock, percent: 100, started: None };
    match serve(&mut runtime, &mut clock, args.number("load").unwrap_or(250)) {
        Ok(tally) => tally.verdict(),
        Err(error) => refuse(1, error),
    }
}

fn refuse(status: usize, error: impl core::fmt::Display) -> usize {
    say!("adapt: {error}");
    status
}

/// Runs all phases and prints a line per inference.
fn serve(runtime: &mut Runtime<'_, '_>, clock: &mut Loaded, load_percent: u32) -> Result<Tally, ExecError> {
    let first = runtime.rung().plan;
    let mut tally = Tally { first, down_after: None, back_after: None, misses: 0, misses_in_a_row: 0 };
    let mut missed = false;
    for (phase, inferences) in (0..).zip(PHASES) {
        clock.percent = if phase == 1 { load_percent } else { 100 };
        for inference in 0..inferences {
            runtime.input()?.fill(1);
            let record = runtime.run(clock)?.record;
            say!("{record}");
            tally.misses_in_a_row += u32::from(missed && record.missed);
            missed = record.missed;
            tally.note(phase, inference, &record);
        }
    }
    Ok(tally)
}

/// What is to be shown.
struct Tally {
    first: u16,
    down_after: Option<u32>,
    back_after: Option<u32>,
    misses: u32,
    misses_in_a_row: u32,
}

impl Tally {
    fn note(&mut self, phase: u32, inference: u32, record: &Record) {
        self.misses += u32::from(record.missed);
        if phase == 1 && record.plan != self.first && !record.missed {
            self.down_after = self.down_after.or(Some(inference));
        }
        if phase == 2 && record.plan == self.first {
            self.back_after = self.back_after.or(Some(inference));
        }
    }

    fn verdict(&self) -> usize {
        let (Some(down), Some(back)) = (self.down_after, self.back_after) else {
            say!("adapt: the plan did not go down and come back");
            return 1;
        };
        say!(
            "adapt: down {down} inferences after the load came, back {back} after it went, {} misses, {} in a row",
            self.misses,
            self.misses_in_a_row
        );
        usize::from(down > 3 || self.misses_in_a_row > 0)
    }
}

/// A clock that lets other work run before it is read a second time.
struct Loaded {
    clock: SysTickClock,
    /// Time of an inference, of what it takes alone.
    percent: u32,
    started: Option<u64>,
}

impl Clock for Loaded {
    fn hz(&self) -> u32 {
        self.clock.hz()
    }

    fn now(&mut self) -> u64 {
        let Some(start) = self.started.take() else {
            let start = self.clock.now();
            self.started = Some(start);
            return start;
        };
        let end = start + (self.clock.now() - start) * u64::from(self.percent) / 100;
        let mut work = 1u32;
        while self.clock.now() < end {
            work = core::hint::black_box(work.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        }
        self.clock.now()
    }
}
