//! The board's free memory, and a guard on the stack.
//!
//! ```text
//! RAM start   .data .bss | arena: whatever is free | stack margin | RAM end
//!                        __sheap                   STACK_BYTES    _stack_start
//! ```
//!
//! The stack grows down into the margin. It is painted at start; [`StackMargin::used_bytes`] tells how deep it was
//! overwritten, and a stack deeper than the margin is reported rather than left to corrupt the arena unseen.

use core::ptr;
use core::slice;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::STACK_BYTES;

/// Alignment that the runtime asks of an arena.
const ARENA_ALIGN: usize = 16;
/// Paints the unused stack.
const PAINT: u32 = 0xC5C5_C5C5;
/// Distance kept from the frame that paints.
const FRAME_BYTES: usize = 256;

unsafe extern "C" {
    /// End of the statics, from the linker script.
    static mut __sheap: u32;
    /// End of RAM, from the linker script.
    static mut _stack_start: u32;
}

/// All free memory, and the margin that the stack has.
#[derive(Debug)]
pub struct Memory {
    /// From the end of the statics to the stack margin.
    pub arena: &'static mut [u8],
    /// The margin.
    pub stack: StackMargin,
}

/// The painted memory between arena and stack.
#[derive(Debug)]
pub struct StackMargin {
    bottom: *const u32,
}

static TAKEN: AtomicBool = AtomicBool::new(false);

impl Memory {
    /// Takes the free memory and paints the stack margin. `None` the second time.
    #[must_use]
    pub fn take() -> Option<Self> {
        if TAKEN.load(Ordering::Relaxed) {
            return None;
        }
        TAKEN.store(true, Ordering::Relaxed);
        let start = ((&raw mut __sheap) as usize).next_multiple_of(ARENA_ALIGN);
        let top = (&raw mut _stack_start) as usize;
        let bottom = (top - STACK_BYTES) & !(ARENA_ALIGN - 1);
        let len = bottom.checked_sub(start)?;
        // SAFETY: the linker script places nothing between __sheap and the stack, `len` ends STACK_BYTES below the
        // stack's start, and TAKEN makes this the only reference. Any byte pattern is a valid u8.
        let arena = unsafe { slice::from_raw_parts_mut(start as *mut u8, len) };
        arena.fill(0);
        paint(bottom);
        Some(Self { arena, stack: StackMargin { bottom: bottom as *const u32 } })
    }
}

#[inline(never)]
fn paint(bottom: usize) {
    let frame = 0u32;
    let end = ((&raw const frame) as usize).saturating_sub(FRAME_BYTES);
    for word in (bottom..end).step_by(4) {
        // SAFETY: between the margin's bottom and FRAME_BYTES below this frame nothing is in use; `bottom` is aligned.
        unsafe { ptr::write_volatile(word as *mut u32, PAINT) };
    }
}

impl StackMargin {
    /// Most bytes of stack in use so far; [`STACK_BYTES`] if the margin is used up.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        let words = STACK_BYTES / 4;
        // SAFETY: the words of the margin lie in RAM and are aligned; volatile, because the stack changes them.
        let is_painted = |&at: &usize| unsafe { ptr::read_volatile(self.bottom.add(at)) } == PAINT;
        STACK_BYTES - 4 * (0..words).take_while(is_painted).count()
    }
}
