//! Proves at link time that no panic is reachable in the runtime: the panic handler calls a function that does not exist,
//! so the program links only if the optimizer found the handler unused. Build it in release.
//!
//! Parsing, selecting, probing, executing, adapting and cascading are kept alive by opaque inputs and results.
#![no_std]
#![no_main]

use core::hint::black_box;

use board::bundle_in_flash;
use cortex_m_rt::entry;
use stitchkit_runtime::board::Clock;
use stitchkit_runtime::bundle::{Bundle, Check};
use stitchkit_runtime::exec::{AlignedArena, Cascade, CascadeExecutor, Executor};
use stitchkit_runtime::kernels::Isa;
use stitchkit_runtime::profile::BoardProfile;
use stitchkit_runtime::runtime::Runtime;
use stitchkit_runtime::select::{Limits, probe, select};

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
    let speed = probe(&bundle, arena, &mut OpaqueClock).map_err(black_box).ok();
    let limits = Limits { ram_bytes: black_box(8192), deadline_us: black_box(Some(1)), ..Limits::NONE };
    let choice = select(&bundle, limits, speed).map_err(black_box).ok()?;
    #[cfg(feature = "reachable-panic")]
    assert!(choice.plan < 100);
    let mut sum = 0;
    for isa in Isa::available() {
        let mut executor = Executor::with_isa(&bundle, choice.plan, arena, *isa).map_err(black_box).ok()?;
        executor.switch(black_box(0)).map_err(black_box).ok()?;
        if let Some(golden) = bundle.golden() {
            let (input, want) = (golden.input(black_box(0))?, golden.output(choice.plan, black_box(0))?);
            let target = executor.input().ok()?;
            target.iter_mut().zip(input).for_each(|(to, from)| *to = *from);
            sum += u32::from(executor.run().map_err(black_box).ok()? == want);
        }
        black_box(bundle.quantize_pixels(black_box(&[0; 16]), executor.input().ok()?));
    }
    sum += u32::from(adapting(bytes, arena)?) + u32::from(cascading(&bundle, arena)?);
    Some(sum)
}

#[inline(never)]
fn adapting(bytes: &[u8], arena: &mut [u8]) -> Option<bool> {
    let profile = BoardProfile::from_bytes(black_box(&[0; 64]))?;
    let limits = Limits { deadline_us: black_box(Some(1)), ..Limits::NONE };
    let check = black_box(Check::Structure);
    let (mut runtime, report) = Runtime::boot(bytes, check, arena, limits, profile).map_err(black_box).ok()?;
    black_box(report);
    runtime.set_deadline(black_box(Some(7))).ok()?;
    let half = black_box(runtime.release_arena());
    let (kept, _) = half.split_at_mut_checked(black_box(4096))?;
    runtime.use_arena(kept).map_err(black_box).ok()?;
    runtime.input().ok()?.fill(black_box(0));
    let answer = runtime.run(&mut OpaqueClock).map_err(black_box).ok()?;
    black_box(answer);
    Some(black_box(runtime.controller().predicted_us()) > 0)
}

#[inline(never)]
fn cascading(bundle: &Bundle<'_>, arena: &mut [u8]) -> Option<bool> {
    let cascade = Cascade::new(bundle, black_box(0), black_box(1), black_box(8192)).map_err(black_box).ok()?;
    black_box(cascade.shared_macs(bundle));
    let mut executor = CascadeExecutor::with_isa(bundle, cascade, arena, Isa::best()).map_err(black_box).ok()?;
    executor.input().ok()?.fill(black_box(0));
    let answer = executor.run(black_box(8)).map_err(black_box).ok()?;
    Some(black_box(answer).top.lead > 3)
}
