//! The stitchkit runtime with a C interface: a static library and `stitchkit.h`.
//!
//! The header states the rules of ownership, threads, alignment and arguments; `cbindgen.toml` holds that text. Every function
//! checks what can be checked and returns a [`StkStatus`]; none allocates, blocks or panics.
#![no_std]

mod bundle;
mod memory;
mod select;
mod session;
mod status;

pub use bundle::{
    STK_BUNDLE_WORDS, StkBundle, StkInfo, StkPlan, stk_golden, stk_info, stk_open, stk_plan, stk_quantize_pixels,
};
pub use memory::STK_ALIGNMENT;
pub use select::{StkChoice, StkClock, StkLimits, stk_probe, stk_select};
pub use session::{StkSession, stk_input, stk_run, stk_start, stk_switch};
pub use status::{StkDetail, StkStatus, stk_status_text};

unsafe extern "C" {
    /// Defined nowhere: a program links only if the linker finds the panic handler unused.
    fn stk_panic_is_reachable() -> !;
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // SAFETY: never linked.
    unsafe { stk_panic_is_reachable() }
}
