//! Counts the instructions of one inference of microflow, and how deep the stack grew, as `count` of `examples/qemu-cortex-m`
//! counts those of stitchkit, and prints them in its form:
//!
//! ```text
//! loop EXPECTED COUNTED   instructions of a loop of known length, three times: the counter's self-test
//! inference N             instructions of `predict_quantized`
//! stack N                 most bytes of stack in use; microflow keeps its activations there
//! ```
#![no_std]
#![no_main]

use core::fmt::Write;
use core::hint::black_box;
use core::mem::MaybeUninit;
use core::slice;

use board::clock::{InstructionScale, SysTickClock};
use board::host::{self, Console};
use cortex_m_rt::entry;
use stitchkit_runtime::board::{Clock, stack};

include!(concat!(env!("OUT_DIR"), "/network.rs"));

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    host::exit(101)
}

#[entry]
fn main() -> ! {
    host::exit(run().err().unwrap_or(0))
}

const FAILED: usize = 1;

/// Turns of the loops of known length, three instructions each.
const LOOPS: [u32; 3] = [1, 1_000, 1_000_000];
/// Distance kept from the frame that paints.
const FRAME_BYTES: usize = 256;

unsafe extern "C" {
    /// End of the statics, from the linker script.
    static mut __sheap: u32;
    /// End of RAM, from the linker script.
    static mut _stack_start: u32;
}

fn run() -> Result<(), usize> {
    let mut clock = SysTickClock::start(cortex_m::Peripherals::take().ok_or(FAILED)?.SYST);
    let scale = InstructionScale::measure(&mut clock);
    for turns in LOOPS {
        let start = clock.now();
        // SAFETY: the loop changes one register and the flags.
        unsafe { core::arch::asm!("2: nop", "subs {n}, {n}, #1", "bne 2b", n = inout(reg) turns => _) };
        let counted = scale.instructions(clock.now() - start);
        say("loop", &[3 * turns, counted as u32]);
    }
    stack::paint(below());
    let start = clock.now();
    inference();
    let instructions = scale.instructions(clock.now() - start);
    let top = (&raw mut _stack_start) as usize;
    let untouched = stack::untouched_bytes(below());
    say("inference", &[u32::try_from(instructions).map_err(|_| FAILED)?]);
    say("stack", &[(top - (&raw mut __sheap) as usize - untouched) as u32]);
    Ok(())
}

#[inline(never)]
fn inference() {
    // SAFETY: microflow's inputs are arrays of bytes, of which all are valid.
    let input = unsafe { MaybeUninit::zeroed().assume_init() };
    black_box(Network::predict_quantized(black_box(input)));
}

/// The memory between the statics and this frame.
#[inline(never)]
fn below() -> &'static mut [u32] {
    let frame = 0u32;
    let start = (&raw mut __sheap) as usize;
    let end = ((&raw const frame) as usize).saturating_sub(FRAME_BYTES);
    // SAFETY: nothing lies between the statics and FRAME_BYTES below this frame; the slice is dropped before anything deep
    // is called. Any byte pattern is a valid u32.
    unsafe { slice::from_raw_parts_mut(start as *mut u32, end.saturating_sub(start) / 4) }
}

fn say(name: &str, numbers: &[u32]) {
    // Nothing can be done about a console that is gone.
    let _ = Console.write_str(name);
    for number in numbers {
        let _ = write!(Console, " {number}");
    }
    let _ = Console.write_str("\n");
}
