//! The memory that plans run in.

use super::regions::Regions;
use super::{ARENA_ALIGN, ExecError};
use crate::bundle::Footprint;

/// `N` bytes on a 16-byte boundary, for a static or the stack.
#[derive(Debug, Clone)]
#[repr(C, align(16))]
pub struct AlignedArena<const N: usize>([u8; N]);

impl<const N: usize> AlignedArena<N> {
    /// Zeroed memory.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Default for AlignedArena<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> AsMut<[u8]> for AlignedArena<N> {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// What a board gives a plan: its memory, and on some boards a smaller, faster memory beside it.
///
/// A plan that fits the fast memory lies there alone. A plan that was laid out for a fast memory of at most this size is
/// divided as [`Footprint`] says. Any other lies in the main memory, and without feature `two-memories` every one.
#[derive(Debug, Default)]
pub struct Arena<'m> {
    /// The fast memory, on a 16-byte boundary; empty on a board with one memory.
    pub fast: &'m mut [u8],
    /// The main memory, on a 16-byte boundary; may be empty if the fast one is not.
    pub main: &'m mut [u8],
}

impl<'m> From<&'m mut [u8]> for Arena<'m> {
    /// The arena of a board with one memory.
    fn from(main: &'m mut [u8]) -> Self {
        Self { fast: &mut [], main }
    }
}

impl Arena<'_> {
    /// The same memory, lent for a shorter time.
    #[must_use]
    pub const fn reborrow(&mut self) -> Arena<'_> {
        Arena { fast: self.fast, main: self.main }
    }

    /// Bytes of fast memory.
    #[must_use]
    pub fn fast_bytes(&self) -> u32 {
        u32::try_from(self.fast.len()).unwrap_or(u32::MAX)
    }

    /// Bytes of main memory.
    #[must_use]
    pub fn main_bytes(&self) -> u32 {
        u32::try_from(self.main.len()).unwrap_or(u32::MAX)
    }

    /// Refuses memory that does not start where kernels expect it.
    pub(crate) fn check_alignment(&self) -> Result<(), ExecError> {
        if cfg!(feature = "two-memories") {
            check_alignment(self.fast)?;
        }
        check_alignment(self.main)
    }

    /// Refuses memory that a plan does not fit in.
    pub(crate) fn check_size(&self, footprint: Footprint) -> Result<(), ExecError> {
        let (need_bytes, have_bytes) = (footprint.in_main(self.fast_bytes()), self.main_bytes());
        if have_bytes < need_bytes { Err(ExecError::ArenaTooSmall { need_bytes, have_bytes }) } else { Ok(()) }
    }

    /// The memory that holds in one piece what takes `arena_bytes`.
    pub(crate) const fn one_piece(&mut self, arena_bytes: u32) -> &mut [u8] {
        if cfg!(feature = "two-memories") && arena_bytes as usize <= self.fast.len() { self.fast } else { self.main }
    }

    /// The memory as the offsets of a plan address it.
    pub(crate) fn regions(&mut self, footprint: Footprint) -> Regions<'_> {
        Regions::new(self.fast, self.main, footprint.in_fast(self.fast_bytes()) as usize)
    }
}

/// Refuses memory that does not start where kernels expect it. Where there is none, its start does not matter.
pub(crate) fn check_alignment(memory: &[u8]) -> Result<(), ExecError> {
    let is_aligned = memory.is_empty() || memory.as_ptr().align_offset(ARENA_ALIGN) == 0;
    if is_aligned { Ok(()) } else { Err(ExecError::ArenaMisaligned) }
}
