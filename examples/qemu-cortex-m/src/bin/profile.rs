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
use stitchkit_runtime::bundle::{Bundle, crc32};
use stitchkit_runtime::exec::Executor;
use stitchkit_runtime::kernels::Isa;
use stitchkit_runtime::profile::{
    BoardProfile, ClassProbeError, LatencyModel, RECORD_VERSION, Record, TickUnit, probe_classes, trace, weight_byte_ps,
};

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
    let mut tell = |record: Record<'_>| say!("{record}");
    tell(Record::Start { version: RECORD_VERSION });
    tell(Record::Board(board::NAME));
    tell(Record::Kernels(Isa::best().name()));
    tell(Record::Clock { hz: clock.hz(), unit });
    let bytes = bundle.len_bytes();
    let crc = crc32(BUNDLE.0.get(..bytes).unwrap_or_default());
    tell(Record::Bundle { bytes: bytes as u32, crc, plans: bundle.plan_count() });
    for plan in 0..bundle.plan_count() {
        let Ok(mut executor) = Executor::new(&bundle, plan, memory.arena) else { continue };
        trace(&mut executor, &mut clock, &mut tell).map_err(|e| failed("no inference")(&e))?;
    }
    let (ram_bytes, flash_bytes) = (memory.free_bytes() as u32, free_flash_bytes(BUNDLE.0.len()) as u32);
    tell(Record::Memory { ram_bytes, flash_bytes });
    let start = clock.now();
    match measure(bundle.weights(), memory.arena, &mut clock) {
        Ok(model) => {
            let ticks = clock.now() - start;
            let mut buffer = [0; BoardProfile::MAX_BYTES];
            if let Some(postcard) = (BoardProfile { ram_bytes, flash_bytes, model }).to_bytes(&mut buffer) {
                tell(Record::Profile { ticks, postcard });
            }
        }
        Err(error) => say!("profile: not measured by itself: {error}"),
    }
    tell(Record::End);
    Ok(())
}

/// What a product would do at start.
fn measure(weights: &[i8], arena: &mut [u8], clock: &mut impl Clock) -> Result<LatencyModel, ClassProbeError> {
    let weight_byte_ps = weight_byte_ps(weights, arena, clock)?;
    Ok(LatencyModel { weight_byte_ps, ..probe_classes(Isa::best(), weights, arena, clock)? })
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
