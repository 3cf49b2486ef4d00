//! What turns sums into stored values, laid out for one load of many registers.

use crate::kernels::params::Requant;

/// The part of requantization that all channels share.
///
/// Sums, bias included, are shifted left by `bits`; the doubling multiplication keeps the product without its lowest 31 bits,
/// and a shift rounds what is left half up. That rounds the whole product half up, because shifts plus `bits` are above 31.
/// Saturation to 16 bits before the zero point is added changes nothing that the clamp would not.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Landings {
    /// Bits by which sums are shifted left; see [`pre_shift`](crate::kernels::scales::pre_shift).
    bits: [i32; 4],
    zero_point: [i16; 8],
    lo: [i8; 8],
    hi: [i8; 8],
}

impl Landings {
    /// `bits` as [`pre_shift`](crate::kernels::scales::pre_shift) says.
    pub fn new(q: &Requant<'_>, bits: u32) -> Self {
        Self {
            bits: [bits as i32; 4],
            zero_point: [q.landing.zero_point.into(); 8],
            lo: [q.landing.lo; 8],
            hi: [q.landing.hi; 8],
        }
    }

    /// What a shift is subtracted from to give the left shift after the multiplication, which is negative.
    pub fn shift_base(&self) -> i32 {
        31 - self.bits[0]
    }
}
