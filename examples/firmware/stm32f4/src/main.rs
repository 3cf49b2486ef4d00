//! stitchkit on an STM32F405 or STM32F407: a camera loop with changing deadlines, reported over RTT.
//!
//! Trigger: PA1, high while a plan runs. Clock: an 8 MHz crystal, as on the STM32F4 Discovery; see [`CRYSTAL_MHZ`].
#![no_std]
#![no_main]

use camera_loop::clock::CycleCounter;
use camera_loop::{Board, bundle_in_flash, report_by_defmt, run};
use cortex_m_rt::entry;
use defmt_rtt as _;
use panic_probe as _;
use stitchkit_runtime::exec::AlignedArena;
use stm32f4xx_hal::pac;
use stm32f4xx_hal::prelude::*;
use stm32f4xx_hal::rcc::Config;

bundle_in_flash!();
report_by_defmt!();

/// The crystal on the board: 8 on the STM32F4 Discovery, 12 on the Feather STM32F405, 25 on many others.
const CRYSTAL_MHZ: u32 = 8;
/// Memory for plans; the rest of the 128 KB is for stack and statics.
const ARENA_BYTES: usize = 104 * 1024;
/// Frames per deadline.
const HELD_FRAMES: u32 = 10;

#[entry]
fn main() -> ! {
    let (Some(core), Some(device)) = (cortex_m::Peripherals::take(), pac::Peripherals::take()) else { stop() };
    // 168 MHz, five wait states, prefetch and the flash cache on.
    let mut rcc = device.RCC.freeze(Config::hse(CRYSTAL_MHZ.MHz()).sysclk(168.MHz()));
    let trigger = device.GPIOA.split(&mut rcc).pa1.into_push_pull_output();
    let Some(arena) = cortex_m::singleton!(: AlignedArena<ARENA_BYTES> = AlignedArena::new()) else { stop() };
    let hz = rcc.clocks.sysclk().raw();
    let clock = CycleCounter::start(core.DCB, core.DWT, hz);
    defmt::info!("stm32f4: {} Hz, {} bytes of arena, bundle of {} bytes", hz, ARENA_BYTES, BUNDLE.0.len());
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
