//! The one rounding rule: a 64-bit product, one rounding, half up.

use super::params::Landing;

/// Scales an accumulator to int8: `clamp(((acc * multiplier + 2^(shift-1)) >> shift) + zero_point, lo, hi)`.
///
/// The product is 64-bit, the shift arithmetic, so the single rounding is half up (toward plus infinity): 1.5 becomes 2,
/// -1.5 becomes -1. Equals TensorFlow Lite's single-rounding mode and tract's `RoundingPolicy::PlusInf`. `shift` is 1 to 62.
#[must_use]
#[inline(always)]
pub fn requantize(acc: i32, multiplier: i32, shift: u8, landing: Landing) -> i8 {
    let shift = u32::from(shift) & 63;
    let half = (1i64 << shift) >> 1;
    let scaled = (i64::from(acc) * i64::from(multiplier)).wrapping_add(half) >> shift;
    scaled.saturating_add(i64::from(landing.zero_point)).max(i64::from(landing.lo)).min(i64::from(landing.hi)) as i8
}

/// [`requantize`], in memory once for kernels that take many more instructions per value.
#[inline(never)]
pub(super) fn requantize_once(acc: i32, multiplier: i32, shift: u8, landing: Landing) -> i8 {
    requantize(acc, multiplier, shift, landing)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Landing = Landing { zero_point: 0, lo: -128, hi: 127 };

    #[test]
    fn ties_round_half_up_once() {
        struct Case {
            acc: i32,
            shift: u8,
            want: i8,
        }
        let cases = [
            Case { acc: 3, shift: 31, want: 2 },
            Case { acc: 5, shift: 31, want: 3 },
            Case { acc: -3, shift: 31, want: -1 },
            Case { acc: -5, shift: 31, want: -2 },
            Case { acc: 1, shift: 32, want: 0 },
            Case { acc: 2, shift: 32, want: 1 },
            Case { acc: -2, shift: 32, want: 0 },
            Case { acc: -3, shift: 32, want: -1 },
        ];
        for c in &cases {
            assert_eq!(requantize(c.acc, 1 << 30, c.shift, WIDE), c.want, "acc {} shift {}", c.acc, c.shift);
        }
    }

    #[test]
    fn landing_adds_the_zero_point_before_the_clamp() {
        let relu = Landing { zero_point: -128, lo: -128, hi: 127 };
        assert_eq!(requantize(-4000, 1 << 30, 32, relu), -128);
        assert_eq!(requantize(i32::MAX, i32::MAX, 1, relu), 127);
        assert_eq!(requantize(i32::MIN, i32::MAX, 62, WIDE), -1);
    }
}
