//! Statically sized arenas.

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
