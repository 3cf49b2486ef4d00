//! What the programs of this package share: the board's constants, memory, clock, and the host behind semihosting.
//!
//! `STITCHKIT_BOARD` names the board at build time; see `build.rs`.
#![no_std]

pub mod args;
pub mod clock;
pub mod host;
pub mod memory;

pub use camera_loop::bundle_in_flash;

include!(concat!(env!("OUT_DIR"), "/constants.rs"));

/// A panic handler that reports to the host and ends the emulation with a failure.
#[macro_export]
macro_rules! report_panics {
    () => {
        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo) -> ! {
            $crate::say!("{info}");
            $crate::host::exit(101)
        }
    };
}
