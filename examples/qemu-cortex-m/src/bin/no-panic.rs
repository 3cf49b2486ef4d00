//! Proves at link time that no panic is reachable in the runtime: the panic handler calls a function that does not exist,
//! so the program links only if the optimizer found the handler unused. Build it in release.
//!
//! Parsing, selecting, measuring, executing, adapting and cascading, in place and from storage, are kept alive by opaque
//! inputs and results.
#![no_std]
#![no_main]

use core::hint::black_box;

use board::bundle_in_flash;
use cortex_m_rt::entry;
use embedded_hal::delay::DelayNs;
use embedded_hal::spi::{ErrorKind, Operation, SpiDevice};
use embedded_storage::nor_flash::{ErrorType, NorFlashErrorKind, ReadNorFlash};
use stitchkit_runtime::board::{Clock, stack};
use stitchkit_runtime::bundle::{Bundle, Check, StreamedBundle};
use stitchkit_runtime::exec::{AlignedArena, Arena, Cascade, CascadeExecutor, Executor, StreamExecutor, StreamMemory};
use stitchkit_runtime::kernels::Isa;
use stitchkit_runtime::profile::{
    BoardProfile, Measuring, Record, TickUnit, probe_classes, report, trace, weight_byte_ps,
};
use stitchkit_runtime::runtime::Runtime;
use stitchkit_runtime::select::{Limits, probe, select};
use stitchkit_runtime::storage::{FromNorFlash, FromStorage, NorTiming, ReadMode, Source, SpiNor, StorageError};

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

struct OpaqueBus;

impl embedded_hal::spi::ErrorType for OpaqueBus {
    type Error = ErrorKind;
}

impl SpiDevice for OpaqueBus {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), ErrorKind> {
        black_box(operations);
        black_box(Ok(()))
    }
}

impl DelayNs for OpaqueBus {
    fn delay_ns(&mut self, ns: u32) {
        black_box(ns);
    }
}

/// Reads in units of four bytes.
struct OpaqueFlash;

impl ErrorType for OpaqueFlash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for OpaqueFlash {
    const READ_SIZE: usize = 4;

    fn read(&mut self, _offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        black_box(bytes);
        black_box(Ok(()))
    }

    fn capacity(&self) -> usize {
        black_box(1 << 20)
    }
}

/// As DMA: reads while other work is done.
struct OpaqueDma;

impl Source for OpaqueDma {
    const OVERLAPS: bool = true;

    fn read(&mut self, _offset: u32, buffer: &mut [u8]) -> Result<(), StorageError> {
        black_box(buffer);
        black_box(Ok(()))
    }

    fn read_while<R>(&mut self, offset: u32, buffer: &mut [u8], work: impl FnOnce() -> R) -> Result<R, StorageError> {
        let done = work();
        self.read(offset, buffer)?;
        Ok(done)
    }
}

#[entry]
fn main() -> ! {
    let mut arena = AlignedArena::<{ 8 * 1024 }>::new();
    black_box(all_of_it(black_box(&BUNDLE.0), black_box(arena.as_mut())));
    black_box(all_from_storage(black_box(arena.as_mut())));
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
    #[cfg(feature = "reachable-panic")]
    assert!(choice.plan < 100);
    let mut sum = 0;
    for isa in Isa::available() {
        let mut sink = |record: Record<'_>| {
            black_box(&record);
        };
        let measuring = Measuring { board: "b", unit: TickUnit::Time, isa: *isa, repetitions: black_box(1) };
        let free_bytes = || black_box((1, 2));
        report((bytes, &bundle), measuring, arena, &mut OpaqueClock, free_bytes, &mut sink).map_err(black_box).ok()?;
        let mut executor = Executor::with_isa(&bundle, choice.plan, arena, *isa).map_err(black_box).ok()?;
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
    sum += u32::from(adapting(bytes, arena)?) + u32::from(cascading(&bundle, arena)?);
    Some(sum)
}

#[inline(never)]
fn all_from_storage(memory: &mut [u8]) -> Option<()> {
    let timing = NorTiming { wake_us: black_box(1), poll_us: black_box(1), busy_limit_us: black_box(1) };
    let mode = black_box(ReadMode::Fast);
    let mut flash = SpiNor::new(OpaqueBus, OpaqueBus, mode, timing).map_err(black_box).ok()?;
    flash.power_down().map_err(black_box).ok()?;
    from_source(&mut flash, memory)?;
    from_source(FromStorage(flash), memory)?;
    from_source(FromNorFlash(OpaqueFlash), memory)?;
    from_source(OpaqueDma, memory)
}

#[inline(never)]
fn from_source(mut source: impl Source, memory: &mut [u8]) -> Option<()> {
    let (records, rest) = memory.split_at_mut_checked(black_box(1024))?;
    let (arena, window) = rest.split_at_mut_checked(black_box(4096))?;
    let base = black_box(0);
    black_box(StreamedBundle::record_bytes(&mut source, base)).map_err(black_box).ok()?;
    let streamed = StreamedBundle::open(&mut source, base, records).map_err(black_box).ok()?;
    streamed.verify(&mut source, window).map_err(black_box).ok()?;
    streamed.read_golden_output(&mut source, black_box(0), black_box(0), &mut [0; 4]).map_err(black_box).ok()?;
    black_box(streamed.bundle());
    let memory = StreamMemory { arena, window };
    let mut executor = StreamExecutor::new(&streamed, source, black_box(0), memory).map_err(black_box).ok()?;
    executor.switch(black_box(0)).map_err(black_box).ok()?;
    streamed.read_golden_input(&mut OpaqueDma, black_box(0), executor.input().ok()?).map_err(black_box).ok()?;
    black_box(executor.run().map_err(black_box).ok()?);
    Some(())
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
    let (main, fast) = half.main.split_at_mut_checked(black_box(4096))?;
    runtime.use_arena(Arena { fast, main }).map_err(black_box).ok()?;
    runtime.answer_early(black_box(Some(9))).ok()?;
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
