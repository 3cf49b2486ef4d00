//! Heap bytes on a 16-byte boundary, for hosts that read a bundle into memory.

use std::vec::Vec;

use super::SECTION_ALIGN;

/// A byte buffer whose slice starts on a 16-byte boundary.
#[derive(Debug)]
pub struct AlignedBytes {
    storage: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBytes {
    /// `len` zero bytes.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let storage = vec![0; len + SECTION_ALIGN];
        let start = storage.as_ptr().align_offset(SECTION_ALIGN);
        Self { storage, start, len }
    }

    /// An aligned copy of `bytes`.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut copy = Self::new(bytes.len());
        copy.as_mut_slice().copy_from_slice(bytes);
        copy
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.storage[self.start..self.start + self.len]
    }

    /// The bytes, writable.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.len]
    }
}

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Clone for AlignedBytes {
    fn clone(&self) -> Self {
        Self::copy_of(self.as_slice())
    }
}
