//! The board's free memory, and a guard on the stack.
//!
//! ```text
//! RAM start   .data .bss | arena: whatever is free | stack margin | RAM end
//!                        __sheap                   STACK_BYTES    _stack_start
//! ```
//!
//! The stack grows down into the margin. It is painted at start; [`StackMargin::used_bytes`] tells how deep it was
//! overwritten, and a stack deeper than the margin is reported rather than left to corrupt the arena unseen. What the stack
//! never reached, less a reserve, could be given to the arena: [`Memory::free_bytes`].
//!
//! Some boards have a second memory that holds nothing else: [`Memory::second`].

use core::slice;
use core::sync::atomic::{AtomicBool, Ordering};

use stitchkit_runtime::board::stack;

use crate::STACK_BYTES;

/// Alignment that the runtime asks of an arena.
const ARENA_ALIGN: usize = 16;
/// Distance kept from the frame that paints.
const FRAME_BYTES: usize = 256;
/// Stack kept free below the deepest point seen, for interrupts that did not happen to come then.
const RESERVE_BYTES: usize = 512;

unsafe extern "C" {
    /// End of the statics, from the linker script.
    static mut __sheap: u32;
    /// Where the linker put the initial values of `.data`: the end of what is in flash, but for those values.
    static __sidata: u32;
    /// Start of `.data`.
    static mut __sdata: u32;
    /// End of `.data`.
    static mut __edata: u32;
    /// End of RAM, from the linker script.
    static mut _stack_start: u32;
}

/// All free memory, and the margin that the stack has.
#[derive(Debug)]
pub struct Memory {
    /// From the end of the statics to the stack margin.
    pub arena: &'static mut [u8],
    /// All of the board's second memory; empty where there is none.
    pub second: &'static mut [u8],
    /// The margin.
    pub stack: StackMargin,
}

/// The painted memory between arena and stack.
#[derive(Debug)]
pub struct StackMargin {
    bottom: usize,
}

static TAKEN: AtomicBool = AtomicBool::new(false);

impl Memory {
    /// Takes the free memory and paints the stack margin. `None` the second time, and if the stack is deeper than its
    /// margin already: the arena would lie over it.
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
        let frame = 0u32;
        if ((&raw const frame) as usize) < bottom + FRAME_BYTES {
            return None;
        }
        // SAFETY: the linker script places nothing between __sheap and the stack, `len` ends STACK_BYTES below the
        // stack's start, and TAKEN makes this the only reference. Any byte pattern is a valid u8.
        let arena = unsafe { slice::from_raw_parts_mut(start as *mut u8, len) };
        arena.fill(0);
        let stack = StackMargin { bottom };
        stack::paint(stack.unused());
        Some(Self { arena, second: second(), stack })
    }

    /// Bytes that an arena could have on this board; see [`StackMargin::free_bytes`].
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.stack.free_bytes(self.arena.len())
    }
}

/// The second memory, for [`Memory::take`], which calls it once.
fn second() -> &'static mut [u8] {
    match crate::SECOND_RAM {
        (_, 0) => &mut [],
        // SAFETY: the board has this memory, the linker script places nothing in it, and the one caller makes this the only
        // reference. Any byte pattern is a valid u8.
        (start, len) => unsafe { slice::from_raw_parts_mut(start as *mut u8, len) },
    }
}

/// Bytes of flash that the program leaves to a bundle, if it holds one of `bundle_bytes` now.
#[must_use]
pub fn free_flash_bytes(bundle_bytes: usize) -> usize {
    if let Some(own) = crate::BUNDLE_BYTES {
        return own;
    }
    let data_bytes = (&raw const __edata) as usize - (&raw const __sdata) as usize;
    let program_bytes = (&raw const __sidata) as usize + data_bytes - crate::FLASH_START;
    crate::FLASH_BYTES.saturating_sub(program_bytes.saturating_sub(bundle_bytes))
}

impl StackMargin {
    /// The words between the margin's bottom and this frame.
    #[inline(never)]
    fn unused(&self) -> &'static mut [u32] {
        let frame = 0u32;
        let end = ((&raw const frame) as usize).saturating_sub(FRAME_BYTES);
        let words = end.saturating_sub(self.bottom) / 4;
        // SAFETY: `bottom` is aligned, and nothing between it and FRAME_BYTES below this frame is in use; whoever gets the
        // slice drops it before calling anything deep. Any byte pattern is a valid u32.
        unsafe { slice::from_raw_parts_mut(self.bottom as *mut u32, words) }
    }

    /// Bytes that an arena of `arena_bytes` below this margin could have: those up to the deepest point that the stack has
    /// reached so far, less a reserve. Call it after the work that the stack must have room for.
    #[must_use]
    pub fn free_bytes(&self, arena_bytes: usize) -> usize {
        let spare = (STACK_BYTES - self.used_bytes()).saturating_sub(RESERVE_BYTES);
        (arena_bytes + spare) & !(ARENA_ALIGN - 1)
    }

    /// Most bytes of stack in use so far; [`STACK_BYTES`] if the margin is used up.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        STACK_BYTES.saturating_sub(stack::untouched_bytes(self.unused()))
    }
}
