//! From weighted sums to results.

use core::arch::aarch64::*;

use crate::kernels::attention::Attention;
use crate::kernels::neon::finish::Bytes;
use crate::kernels::scales::FRACTION;

/// Least right shift that rounds once after a doubling multiplication, which drops 31 bits.
const LEAST_SHIFT: i32 = 32;
/// Least right shift that normalising adds: weights sum up to at least 2^12.
const LEAST_ADDED: u8 = 12;

/// Multiplier and shifts of a vector of sums, some for each lane.
#[derive(Clone, Copy)]
pub struct Scale {
    multiplier: int32x4_t,
    /// Left shift of sums whose right shift would be less than [`LEAST_SHIFT`].
    up: int32x4_t,
    /// Left shift of what the multiplication leaves, to [`FRACTION`].
    down: int32x4_t,
}

impl Scale {
    /// Two lanes with the first multiplier and right shift, two with the second.
    #[inline(always)]
    pub fn of_two(scales: [(i32, u8); 2]) -> Self {
        let multiplier = scales.map(|(multiplier, _)| multiplier);
        let shift = scales.map(|(_, shift)| i32::from(shift));
        let halves = |[a, b]: [i32; 2]| {
            // SAFETY: vectors are part of this architecture.
            unsafe { vcombine_s32(vdup_n_s32(a), vdup_n_s32(b)) }
        };
        Self {
            multiplier: halves(multiplier),
            up: halves(shift.map(|shift| (LEAST_SHIFT - shift).max(0))),
            down: halves(shift.map(|shift| FRACTION + 31 - shift.max(LEAST_SHIFT))),
        }
    }
}

/// What all results of a layer have in common.
pub struct Landing {
    bytes: Bytes,
    has_small_shifts: bool,
}

impl Landing {
    pub fn new(p: &Attention) -> Self {
        let has_small_shifts = i32::from(p.shift + LEAST_ADDED) < LEAST_SHIFT;
        Self { bytes: Bytes::new(p.landing), has_small_shifts }
    }

    /// [`requantize`](crate::kernels::requantize) of sixteen sums, every eight with a scale.
    ///
    /// Multipliers are 0 or above 2^29, so that a sum that the left shift saturates is beyond the clamp.
    #[inline(always)]
    pub fn bytes(&self, mut sums: [int32x4_t; 4], scales: [Scale; 2]) -> int8x16_t {
        let [first, second] = scales;
        let scales = [first, first, second, second];
        // SAFETY: vectors are part of this architecture.
        unsafe {
            if self.has_small_shifts {
                sums = core::array::from_fn(|i| vqshlq_s32(sums[i], scales[i].up));
            }
            self.bytes
                .of(core::array::from_fn(|i| vqshlq_s32(vqdmulhq_s32(sums[i], scales[i].multiplier), scales[i].down)))
        }
    }
}
