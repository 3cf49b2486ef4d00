//! Measures the board and reports it line by line, for `stitchkit profile`: memory, every plan and every step.
//!
//! Under `-icount` ticks are turned into instructions, which the lines say. Exit status: 0 all well, 1 failed.
#![no_std]
#![no_main]

use core::fmt::Display;

use board::args::Args;
use board::clock::{InstructionScale, SysTickClock};
use board::memory::{Memory, free_flash_bytes};
use board::{bundle_in_flash, host, report_panics, say};
use cortex_m_rt::entry;
use stitchkit_runtime::board::{Clock, check_clock};
use stitchkit_runtime::bundle::Bundle;
use stitchkit_runtime::kernels::Isa;
use stitchkit_runtime::profile::{Measuring, Record, TickUnit, report};

bundle_in_flash!();
report_panics!();

#[entry]
fn main() -> ! {
    let mut line = [0; 256];
    let args = Args(host::command_line(&mut line));
    let (Some(mut memory), Some(peripherals)) = (Memory::take(), cortex_m::Peripherals::take()) else { host::exit(1) };
    let clock = SysTickClock::start(peripherals.SYST);
    match run(args, &mut memory, clock) {
        Ok(()) => host::exit(0),
        Err(stop) => {
            say!("profile: {stop}");
            host::exit(1)
        }
    }
}

/// Not inlined, so that the memory is taken while the stack is shallow.
#[inline(never)]
fn run(args: Args<'_>, memory: &mut Memory, mut clock: SysTickClock) -> Result<(), &'static str> {
    let failed = |what: &'static str| {
        move |error: &dyn Display| {
            say!("profile: {error}");
            what
        }
    };
    check_clock(&mut clock).map_err(|e| failed("no clock")(&e))?;
    let bundle = Bundle::parse(&BUNDLE.0).map_err(|e| failed("no bundle")(&e))?;
    let unit = if args.text("ticks") == Some("instructions") { TickUnit::Instructions } else { TickUnit::Time };
    let mut clock = Counter { scale: InstructionScale::measure(&mut clock), clock, unit };
    let measuring = Measuring { board: board::NAME, unit, isa: Isa::best(), repetitions: 1 };
    let Memory { arena, stack, .. } = memory;
    let arena_bytes = arena.len();
    let free_bytes = || (stack.free_bytes(arena_bytes) as u32, free_flash_bytes(BUNDLE.0.len()) as u32);
    let mut tell = |record: Record<'_>| say!("{record}");
    report((&BUNDLE.0, &bundle), measuring, arena, &mut clock, free_bytes, &mut tell)
        .map_err(|e| failed("no report")(&e))
}

/// SysTick, or the instructions that it stands for in an emulator.
struct Counter {
    clock: SysTickClock,
    scale: InstructionScale,
    unit: TickUnit,
}

impl Clock for Counter {
    fn hz(&self) -> u32 {
        self.clock.hz()
    }

    fn now(&mut self) -> u64 {
        match self.unit {
            TickUnit::Time => self.clock.now(),
            TickUnit::Instructions => self.scale.count(self.clock.now()),
        }
    }
}
