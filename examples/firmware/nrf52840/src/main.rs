//! stitchkit on an nRF52840: a camera loop with changing deadlines, reported over RTT.
//!
//! Trigger: P0.13, high while a plan runs; on the nRF52840 DK that is LED 1, which is lit while the pin is low. The core always
//! runs at 64 MHz; the external crystal makes its time exact.
#![no_std]
#![no_main]

use camera_loop::clock::CycleCounter;
use camera_loop::{Board, bundle_in_flash, report_by_defmt, run};
use cortex_m_rt::entry;
use defmt_rtt as _;
use nrf52840_hal::gpio::{Level, p0};
use nrf52840_hal::{Clocks, pac};
use panic_probe as _;
use stitchkit_runtime::exec::AlignedArena;

bundle_in_flash!();
report_by_defmt!();

const CORE_HZ: u32 = 64_000_000;
/// Memory for plans; the rest of the 256 KB is for stack and statics.
const ARENA_BYTES: usize = 224 * 1024;
/// Frames per deadline.
const HELD_FRAMES: u32 = 10;

#[entry]
fn main() -> ! {
    let (Some(core), Some(device)) = (cortex_m::Peripherals::take(), pac::Peripherals::take()) else { stop() };
    let _clocks = Clocks::new(device.CLOCK).enable_ext_hfosc();
    // The instruction cache halves the cost of flash wait states.
    device.NVMC.icachecnf.write(|w| w.cacheen().enabled());
    let trigger = p0::Parts::new(device.P0).p0_13.into_push_pull_output(Level::Low);
    let Some(arena) = cortex_m::singleton!(: AlignedArena<ARENA_BYTES> = AlignedArena::new()) else { stop() };
    let clock = CycleCounter::start(core.DCB, core.DWT, CORE_HZ);
    defmt::info!("nrf52840: {} Hz, {} bytes of arena, bundle of {} bytes", CORE_HZ, ARENA_BYTES, BUNDLE.0.len());
    let board = Board { arena: arena.as_mut(), clock, trigger, report: Log, held_frames: HELD_FRAMES };
    match run(&BUNDLE.0, u32::MAX, board) {
        Ok(worst) => defmt::info!("done: {}", worst),
        Err(fault) => defmt::error!("stopped: {}", fault),
    }
    stop()
}

fn stop() -> ! {
    loop {
        cortex_m::asm::wfi();
    }
}
