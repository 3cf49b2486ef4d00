//! stitchkit on an RP2350: a camera loop with changing deadlines, reported over RTT.
//!
//! Trigger: GPIO 15, high while a plan runs. Clock: a 12 MHz crystal, as on the Pico 2; the core runs at 150 MHz.
#![no_std]
#![no_main]

use camera_loop::clock::CycleCounter;
use camera_loop::{Board, bundle_in_flash, report_by_defmt, run};
use defmt_rtt as _;
use panic_probe as _;
use rp235x_hal::block::ImageDef;
use rp235x_hal::clocks::init_clocks_and_plls;
use rp235x_hal::{Clock as _, Sio, Watchdog, gpio, pac};
use stitchkit_runtime::exec::AlignedArena;

/// Tells the boot ROM that this is a program for an Arm core in the secure state.
#[unsafe(link_section = ".start_block")]
#[used]
static IMAGE_DEF: ImageDef = ImageDef::secure_exe();

bundle_in_flash!();
report_by_defmt!();

const CRYSTAL_HZ: u32 = 12_000_000;
/// Memory for plans; the rest of the 512 KB is for stack and statics.
const ARENA_BYTES: usize = 448 * 1024;
/// Frames per deadline.
const HELD_FRAMES: u32 = 10;

#[rp235x_hal::entry]
fn main() -> ! {
    let (Some(core), Some(mut device)) = (cortex_m::Peripherals::take(), pac::Peripherals::take()) else { stop() };
    let mut watchdog = Watchdog::new(device.WATCHDOG);
    let clocks = init_clocks_and_plls(
        CRYSTAL_HZ,
        device.XOSC,
        device.CLOCKS,
        device.PLL_SYS,
        device.PLL_USB,
        &mut device.RESETS,
        &mut watchdog,
    );
    let Ok(clocks) = clocks else { stop() };
    let pins = gpio::Pins::new(device.IO_BANK0, device.PADS_BANK0, Sio::new(device.SIO).gpio_bank0, &mut device.RESETS);
    let trigger = pins.gpio15.into_push_pull_output();
    let Some(arena) = cortex_m::singleton!(: AlignedArena<ARENA_BYTES> = AlignedArena::new()) else { stop() };
    let hz = clocks.system_clock.freq().to_Hz();
    let clock = CycleCounter::start(core.DCB, core.DWT, hz);
    defmt::info!("rp2350: {} Hz, {} bytes of arena, bundle of {} bytes", hz, ARENA_BYTES, BUNDLE.0.len());
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
