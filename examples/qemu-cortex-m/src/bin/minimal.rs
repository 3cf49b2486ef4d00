//! The least that a product needs: measure free memory and speed, choose the best plan, verify it against its golden
//! vectors. Prints two numbers, and no text formatting is linked; `firmware` does the same with explanations and test files.
//!
//! Exit status: 0 all well, 1 bundle or result wrong, 3 no plan fits.
#![no_std]
#![no_main]

use core::fmt::Write;

use board::bundle_in_flash;
use board::clock::SysTickClock;
use board::host::{self, Console};
use board::memory::Memory;
use cortex_m_rt::entry;
use stitchkit_runtime::bundle::Bundle;
use stitchkit_runtime::exec::Executor;
use stitchkit_runtime::select::{Limits, probe, select};

bundle_in_flash!();

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    host::exit(101)
}

#[entry]
fn main() -> ! {
    host::exit(match Memory::take() {
        Some(memory) => run(memory.arena).err().unwrap_or(0),
        None => 1,
    })
}

const FAILED: usize = 1;
const NO_PLAN_FITS: usize = 3;

fn run(arena: &mut [u8]) -> Result<(), usize> {
    let bundle = Bundle::parse(&BUNDLE.0).map_err(|_| FAILED)?;
    let mut clock = SysTickClock::start(cortex_m::Peripherals::take().ok_or(FAILED)?.SYST);
    let speed = probe(&bundle, arena, &mut clock).ok();
    let limits = Limits { ram_bytes: arena.len() as u32, ..Limits::NONE };
    let choice = select(&bundle, limits, speed).map_err(|_| NO_PLAN_FITS)?;
    print("plan ", choice.plan.into());
    print("arena ", choice.arena_bytes);

    let mut executor = Executor::new(&bundle, choice.plan, arena).map_err(|_| FAILED)?;
    let golden = bundle.golden().ok_or(FAILED)?;
    for index in 0..golden.count() {
        let input = golden.input(index).ok_or(FAILED)?;
        let target = executor.input().map_err(|_| FAILED)?;
        target.iter_mut().zip(input).for_each(|(to, from)| *to = *from);
        let output = executor.run().map_err(|_| FAILED)?;
        if golden.output(choice.plan, index) != Some(output) {
            return Err(FAILED);
        }
    }
    Ok(())
}

/// Writes a label and a decimal number on a line of their own.
fn print(label: &str, number: u32) {
    let mut digits = [b'0'; 10];
    let mut left = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    let significant = digits.iter().position(|&d| d != b'0').unwrap_or(9);
    let text = digits.get(significant..).and_then(|d| core::str::from_utf8(d).ok()).unwrap_or("?");
    for part in [label, text, "\n"] {
        // Nothing can be done about a console that is gone.
        let _ = Console.write_str(part);
    }
}
