//! What is left of `count` without a bundle and without the runtime: its size is what `stitchkit bench` takes off to tell what
//! the runtime takes. Prints the lines of `count` that need no bundle.
#![no_std]
#![no_main]

use board::args::Args;
use board::clock::{InstructionScale, SysTickClock};
use board::host::{self, print_numbers};
use board::memory::{Memory, StackMargin};
use cortex_m_rt::entry;
use stitchkit_runtime::board::Clock;

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

fn run(arena: &mut [u8], stack: &StackMargin) -> Result<(), usize> {
    let mut line = [0; 128];
    let input_bytes = Args(host::command_line(&mut line)).number("plan").unwrap_or(0) as usize;
    let mut clock = SysTickClock::start(cortex_m::Peripherals::take().ok_or(FAILED)?.SYST);
    let scale = InstructionScale::measure(&mut clock);
    scale.print_loops(&mut clock);
    print_numbers("board", &[input_bytes as u32, arena.len() as u32]);
    // As in `count`, where nobody knows on which boundary the input starts.
    let input = core::hint::black_box(arena.get_mut(..input_bytes)).ok_or(FAILED)?;
    input.fill(1);
    let start = clock.now();
    core::hint::black_box(&*input);
    let instructions = scale.instructions(clock.now() - start);
    print_numbers("inference", &[u32::try_from(instructions).map_err(|_| FAILED)?]);
    print_numbers("stack", &[stack.used_bytes() as u32]);
    Ok(())
}
