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

use core::fmt::Write;

use board::args::Args;
use board::bundle_in_flash;
use board::clock::{InstructionScale, SysTickClock};
use board::host::{self, Console};
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
        Some(Memory { arena, stack }) => run(arena, &stack).err().unwrap_or(0),
        None => FAILED,
    })
}

const FAILED: usize = 1;
const DOES_NOT_FIT: usize = 3;

/// Turns of the loops of known length, three instructions each.
const LOOPS: [u32; 3] = [1, 1_000, 1_000_000];

fn run(arena: &mut [u8], stack: &StackMargin) -> Result<(), usize> {
    let mut line = [0; 128];
    let plan = Args(host::command_line(&mut line)).number("plan").unwrap_or(0) as u16;
    let mut clock = SysTickClock::start(cortex_m::Peripherals::take().ok_or(FAILED)?.SYST);
    let scale = InstructionScale::measure(&mut clock);
    for turns in LOOPS {
        let start = clock.now();
        // SAFETY: the loop changes one register and the flags.
        unsafe { core::arch::asm!("2: nop", "subs {n}, {n}, #1", "bne 2b", n = inout(reg) turns => _) };
        let counted = scale.instructions(clock.now() - start);
        print("loop", &[3 * turns, counted as u32]);
    }
    let bundle = Bundle::parse(&BUNDLE.0).map_err(|_| FAILED)?;
    let need = bundle.plan(plan).ok_or(FAILED)?.arena_bytes;
    print("board", &[need, arena.len() as u32]);
    let mut executor = Executor::new(&bundle, plan, arena).map_err(|_| DOES_NOT_FIT)?;
    let mut steps = Steps { clock, scale, tells: false, start: 0 };
    executor.input().map_err(|_| FAILED)?.fill(1);
    let start = steps.clock.now();
    executor.run_observed(&mut steps).map_err(|_| FAILED)?;
    let instructions = scale.instructions(steps.clock.now() - start);
    print("inference", &[u32::try_from(instructions).map_err(|_| FAILED)?]);
    print("stack", &[stack.used_bytes() as u32]);
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
            print("step", &[report.ordinal.into(), instructions as u32]);
        }
    }
}

/// Writes a name and decimal numbers on a line of their own.
fn print(name: &str, numbers: &[u32]) {
    // Nothing can be done about a console that is gone.
    let _ = Console.write_str(name);
    for &number in numbers {
        let mut digits = [b'0'; 10];
        let mut left = number;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        let significant = digits.iter().position(|&d| d != b'0').unwrap_or(9);
        let text = digits.get(significant..).and_then(|d| core::str::from_utf8(d).ok()).unwrap_or("?");
        let _ = Console.write_str(" ");
        let _ = Console.write_str(text);
    }
    let _ = Console.write_str("\n");
}
