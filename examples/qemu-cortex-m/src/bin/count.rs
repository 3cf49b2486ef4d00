//! The least firmware that runs one plan, for `stitchkit bench`: counts the instructions of an inference and of each step, and
//! how deep the stack grew. No plan is selected and no text formatted, so its size is that of the runtime and 2 KB of harness.
//!
//! Arguments on the semihosting command line: `plan=N`. Run it under `-icount`. Prints a name and numbers per line:
//!
//! ```text
//! loop EXPECTED COUNTED   instructions of a loop of known length, three times: the counter's self-test
//! board NEED HAVE         bytes of arena that the plan needs and the board has
//! inference N             instructions from input filled to output ready
//! step ORDINAL N          instructions of a step
//! stack N                 most bytes of stack in use, parsing included
//! ```
//!
//! Exit status: 0 all well, 1 bundle or result wrong, 3 the plan does not fit.
#![no_std]
#![no_main]

use board::args::Args;
use board::bundle_in_flash;
use board::clock::{InstructionScale, SysTickClock};
use board::host::{self, print_numbers};
use board::memory::{Memory, StackMargin};
use cortex_m_rt::entry;
use stitchkit_runtime::board::Clock;
use stitchkit_runtime::bundle::{Bundle, PlacedStep};
use stitchkit_runtime::exec::{Executor, Observer, StepReport};

bundle_in_flash!();

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    host::exit(101)
}

#[entry]
fn main() -> ! {
    host::exit(match Memory::take() {
        Some(Memory { arena, stack, .. }) => run(arena, &stack).err().unwrap_or(0),
        None => FAILED,
    })
}

const FAILED: usize = 1;
const DOES_NOT_FIT: usize = 3;

fn run(arena: &mut [u8], stack: &StackMargin) -> Result<(), usize> {
    let mut line = [0; 128];
    let plan = Args(host::command_line(&mut line)).number("plan").unwrap_or(0) as u16;
    let mut clock = SysTickClock::start(cortex_m::Peripherals::take().ok_or(FAILED)?.SYST);
    let scale = InstructionScale::measure(&mut clock);
    scale.print_loops(&mut clock);
    let Ok(bundle) = &Bundle::parse(&BUNDLE.0) else { return Err(FAILED) };
    let Some(need) = bundle.plan(plan).map(|plan| plan.arena_bytes) else { return Err(FAILED) };
    print_numbers("board", &[need, arena.len() as u32]);
    let mut executor = Executor::new(bundle, plan, arena).map_err(|_| DOES_NOT_FIT)?;
    let mut steps = Steps { clock, scale, tells: false, start: 0 };
    executor.input().map_err(|_| FAILED)?.fill(1);
    let start = steps.clock.now();
    executor.run_observed(&mut steps).map_err(|_| FAILED)?;
    let instructions = scale.instructions(steps.clock.now() - start);
    print_numbers("inference", &[u32::try_from(instructions).map_err(|_| FAILED)?]);
    print_numbers("stack", &[stack.used_bytes() as u32]);
    steps.tells = true;
    executor.input().map_err(|_| FAILED)?.fill(1);
    executor.run_observed(&mut steps).map_err(|_| FAILED)?;
    Ok(())
}

/// Counts the steps. While it does not, it costs a few instructions a step, and the step loop exists once.
struct Steps {
    clock: SysTickClock,
    scale: InstructionScale,
    tells: bool,
    start: u64,
}

impl Observer for Steps {
    fn before(&mut self, _placed: &PlacedStep) {
        if self.tells {
            self.start = self.clock.now();
        }
    }

    fn after(&mut self, report: StepReport<'_>) {
        if self.tells {
            let instructions = self.scale.instructions(self.clock.now() - self.start);
            print_numbers("step", &[report.ordinal.into(), instructions as u32]);
        }
    }
}
