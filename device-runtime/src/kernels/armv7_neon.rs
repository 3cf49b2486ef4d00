//! 32-bit Arm Linux with vectors (NEON), found at run time.
//!
//! The compiler has no stable functions for these vectors on 32-bit Arm, and programs for any Armv7 processor are compiled
//! without them. Hence everything that uses them is a function in assembly, entered only once the processor is known to have
//! them; Rust finds the taps, cuts the work into tiles and hands over one structure per tile. What has no function here runs
//! the kernels of [`arm_dsp`](super::arm_dsp), as do the operators and sizes that these do not cover.

#[macro_use]
mod steps;

mod add;
mod conv;
mod depthwise;
mod finish;
mod scan;
mod strip;
mod tile;

pub use add::{add, add_in_place};
pub use conv::conv2d;
pub use depthwise::depthwise;

/// Bit of the hardware capabilities that the kernel hands to every program.
#[cfg(any(test, feature = "std"))]
const HWCAP_NEON: core::ffi::c_ulong = 1 << 12;
/// Key of the hardware capabilities in the auxiliary vector.
#[cfg(any(test, feature = "std"))]
const AT_HWCAP: core::ffi::c_ulong = 16;

#[cfg(any(test, feature = "std"))]
unsafe extern "C" {
    /// Of the C library, which the standard library links: the value of an entry of the auxiliary vector, 0 if it has none.
    safe fn getauxval(key: core::ffi::c_ulong) -> core::ffi::c_ulong;
}

/// True if the processor has the vectors: as the kernel says with feature `std`, otherwise as the compiler's target says.
#[inline]
pub fn is_present() -> bool {
    #[cfg(any(test, feature = "std"))]
    {
        static PRESENT: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        *PRESENT.get_or_init(|| getauxval(AT_HWCAP) & HWCAP_NEON != 0)
    }
    #[cfg(not(any(test, feature = "std")))]
    {
        cfg!(target_feature = "neon")
    }
}
