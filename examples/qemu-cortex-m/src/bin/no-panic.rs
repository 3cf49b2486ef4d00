//! Proves at link time that no panic is reachable in the runtime: the panic handler calls a function that does not exist,
//! so the program links only if the optimizer found the handler unused. Build it in release.
//!
//! Parsing, selecting, measuring and executing are kept alive by opaque inputs and results.
#![no_std]
#![no_main]

use core::hint::black_box;

use board::bundle_in_flash;
use cortex_m_rt::entry;
use stitchkit_runtime::board::{Clock, stack};
use stitchkit_runtime::bundle::Bundle;
use stitchkit_runtime::exec::{AlignedArena, Executor};
use stitchkit_runtime::kernels::Isa;
use stitchkit_runtime::profile::{BoardProfile, Record, probe_classes, trace, weight_byte_ps};
use stitchkit_runtime::select::{Limits, ladder, probe, select};

bundle_in_flash!();

unsafe extern "C" {
    /// Defined nowhere.
    fn a_panic_is_reachable() -> !;
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // SAFETY: never linked.
    unsafe { a_panic_is_reachable() }
}

struct OpaqueClock;

impl Clock for OpaqueClock {
    fn hz(&self) -> u32 {
        black_box(1_000_000)
    }

    fn now(&mut self) -> u64 {
        black_box(0)
    }
}

#[entry]
fn main() -> ! {
    let mut arena = AlignedArena::<{ 8 * 1024 }>::new();
    black_box(all_of_it(black_box(&BUNDLE.0), black_box(arena.as_mut())));
    loop {
        core::hint::spin_loop();
    }
}

#[inline(never)]
fn all_of_it(bytes: &[u8], arena: &mut [u8]) -> Option<u32> {
    let bundle = Bundle::parse(bytes).map_err(black_box).ok()?;
    let mut model = probe_classes(Isa::best(), bundle.weights(), arena, &mut OpaqueClock).map_err(black_box).ok()?;
    model.weight_byte_ps = weight_byte_ps(bundle.weights(), arena, &mut OpaqueClock).map_err(black_box).ok()?;
    let plan = bundle.plan(black_box(0))?;
    black_box(model.scaled(black_box(1), black_box(2)).plan_ns(&bundle, &plan));
    let profile = BoardProfile { ram_bytes: 8192, flash_bytes: black_box(1), model };
    black_box(BoardProfile::from_bytes(profile.to_bytes(black_box(&mut [0; BoardProfile::MAX_BYTES]))?));
    stack::paint(black_box(&mut [0; 8]));
    black_box(stack::untouched_bytes(black_box(&[0; 8])));
    let speed = probe(&bundle, arena, &mut OpaqueClock).map_err(black_box).ok();
    let limits = Limits { ram_bytes: black_box(8192), deadline_us: black_box(Some(1)), ..Limits::NONE };
    let choice = select(&bundle, limits, speed).map_err(black_box).ok()?;
    black_box(ladder(&bundle, limits.ram_bytes));
    #[cfg(feature = "reachable-panic")]
    assert!(choice.plan < 100);
    let mut sum = 0;
    for isa in Isa::available() {
        let mut executor = Executor::with_isa(&bundle, choice.plan, arena, *isa).map_err(black_box).ok()?;
        let mut sink = |record: Record<'_>| {
            black_box(&record);
        };
        trace(&mut executor, &mut OpaqueClock, &mut sink).map_err(black_box).ok()?;
        executor.switch(black_box(0)).map_err(black_box).ok()?;
        if let Some(golden) = bundle.golden() {
            let (input, want) = (golden.input(black_box(0))?, golden.output(choice.plan, black_box(0))?);
            let target = executor.input().ok()?;
            target.iter_mut().zip(input).for_each(|(to, from)| *to = *from);
            sum += u32::from(executor.run().map_err(black_box).ok()? == want);
        }
        black_box(bundle.quantize_pixels(black_box(&[0; 16]), executor.input().ok()?));
    }
    Some(sum)
}
