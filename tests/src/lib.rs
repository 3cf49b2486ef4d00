//! Synthetic bundles for tests and emulated boards, and what is needed to compare a board with the host.
//!
//! Nothing here depends on the host tools: a bundle made here exercises the device runtime alone.

pub mod builder;
pub mod every_op;
pub mod image;
pub mod logits;
pub mod networks;
mod place;
pub mod random_graph;
pub mod resnet8;
pub mod streaming;
pub mod style;

/// A 32-bit xorshift generator (Marsaglia's 13, 17, 5), so that fixtures are the same everywhere.
#[derive(Debug, Clone)]
pub struct Rng(u32);

impl Rng {
    /// A generator whose sequence depends on `seed` alone.
    #[must_use]
    pub fn new(seed: u32) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9) | 1)
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// The next value of all of int8.
    pub fn next_i8(&mut self) -> i8 {
        (self.next_u32() >> 24) as i8
    }

    /// 1 to `most`.
    pub fn up_to(&mut self, most: u16) -> u16 {
        (self.next_u32() >> 8) as u16 % most + 1
    }

    /// `len` values of all of int8.
    pub fn vector(&mut self, len: usize) -> Vec<i8> {
        (0..len).map(|_| self.next_i8()).collect()
    }
}
