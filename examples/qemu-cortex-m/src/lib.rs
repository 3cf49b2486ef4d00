//! What the programs of this package share: the board's constants, memory, clock, and the host behind semihosting.
//!
//! `STITCHKIT_BOARD` names the board at build time; see `build.rs`.
#![no_std]

pub mod args;
pub mod clock;
pub mod host;
pub mod memory;

include!(concat!(env!("OUT_DIR"), "/constants.rs"));

/// A value on a 16-byte boundary.
#[repr(C, align(16))]
pub struct Aligned<T>(pub T);

/// Declares the bundle of `STITCHKIT_BUNDLE`, in flash on a 16-byte boundary, as a `static` named `BUNDLE`.
#[macro_export]
macro_rules! bundle_in_flash {
    () => {
        #[unsafe(link_section = ".bundle")]
        static BUNDLE: $crate::Aligned<[u8; include_bytes!(env!("STITCHKIT_BUNDLE")).len()]> =
            $crate::Aligned(*include_bytes!(env!("STITCHKIT_BUNDLE")));
    };
}

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
