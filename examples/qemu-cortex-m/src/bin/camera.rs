//! The camera loop of `examples/firmware` on an emulated board: the same logic, with semihosting for a log and a pin that
//! counts. Two rounds of the schedule, then it ends.
//!
//! Exit status: 0 all frames in order; 1 the bundle or a result is wrong, the loop stopped, or the pin was left high.
#![no_std]
#![no_main]

use core::cell::Cell;
use core::convert::Infallible;
use core::fmt::{self, Display};

use board::clock::SysTickClock;
use board::memory::Memory;
use board::{bundle_in_flash, host, report_panics, say};
use camera_loop::{Board, Deadline, Frame, Outcome, Report, Schedule, run};
use cortex_m_rt::entry;
use embedded_hal::digital::{ErrorType, OutputPin};

bundle_in_flash!();
report_panics!();

/// Frames per deadline.
const HELD_FRAMES: u32 = 3;
const FRAMES: u32 = 2 * HELD_FRAMES * Schedule::DEADLINES;

#[entry]
fn main() -> ! {
    let (Some(memory), Some(core)) = (Memory::take(), cortex_m::Peripherals::take()) else { host::exit(1) };
    let clock = SysTickClock::start(core.SYST);
    let edges = Cell::new(Edges::default());
    let trigger = CountingPin(&edges);
    let board = Board { arena: memory.arena, clock, trigger, report: Console, held_frames: HELD_FRAMES };
    let result = run(&BUNDLE.0, FRAMES, board);
    let Edges { rising, falling } = edges.get();
    say!("camera: trigger rose {rising} times and fell {falling} times");
    match result {
        Ok(worst) if worst < Outcome::Wrong && (rising, falling) == (FRAMES, FRAMES) => {
            say!("camera: {FRAMES} frames, worst outcome {worst:?}");
            host::exit(0)
        }
        Ok(worst) => say!("camera: worst outcome {worst:?}"),
        Err(fault) => say!("camera: stopped: {fault:?}"),
    }
    host::exit(1)
}

/// A line per frame on the host's console.
struct Console;

impl Report for Console {
    fn frame(&mut self, frame: &Frame<'_>) {
        let Frame { number, plan, path, predicted_us, took_us, class, outcome, .. } = frame;
        let deadline = Shown(frame.deadline);
        say!(
            "frame {number}: {deadline}, plan {plan} ({path}), predicted {predicted_us} us, took {took_us} us, \
             class {class}, {outcome:?}"
        );
    }
}

/// A deadline for people.
struct Shown(Deadline);

impl Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Deadline::None => f.write_str("no deadline"),
            Deadline::Us(us) => write!(f, "deadline {us} us"),
        }
    }
}

/// How often a pin moved.
#[derive(Debug, Clone, Copy, Default)]
struct Edges {
    rising: u32,
    falling: u32,
}

/// A pin that counts its edges.
struct CountingPin<'a>(&'a Cell<Edges>);

impl ErrorType for CountingPin<'_> {
    type Error = Infallible;
}

impl OutputPin for CountingPin<'_> {
    fn set_high(&mut self) -> Result<(), Infallible> {
        let edges = self.0.get();
        self.0.set(Edges { rising: edges.rising + 1, ..edges });
        Ok(())
    }

    fn set_low(&mut self) -> Result<(), Infallible> {
        let edges = self.0.get();
        self.0.set(Edges { falling: edges.falling + 1, ..edges });
        Ok(())
    }
}
