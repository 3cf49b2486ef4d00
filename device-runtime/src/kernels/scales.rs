//! Which requantizations the 32-bit epilogues can do exactly.
//!
//! With `shift >= 33` the rounding half is a multiple of 2^32, so the low half of the 64-bit product cannot change the
//! result: `(acc * multiplier + half) >> shift` equals the high half shifted right by `shift - 32` and rounded half up.
//! Smaller shifts become such shifts if accumulators leave room to be shifted left first.

use super::params::Requant;

/// Fraction bits of scaled sums that vectors of 64-bit Arm round: with the sign and nine bits before the point they fill 32 bits.
#[cfg_attr(not(neon), allow(dead_code))]
pub const FRACTION: i32 = 22;
/// Most bits by which accumulators are shifted left.
const MAX_PRE_SHIFT: u32 = 8;

/// By how many bits every accumulator of `taps` products is to be shifted left, so that all of the first `channels` shifts
/// plus this are at least 33. `None` if accumulators might not fit 32 bits then.
pub fn pre_shift(q: &Requant<'_>, channels: usize, taps: usize) -> Option<u32> {
    let shifts = q.shift.get(..channels)?;
    // Shifts are below 128: the sum with 95 has the top bit where the shift is at least 33, and carries nothing.
    const TOPS: u32 = u32::from_ne_bytes([128; 4]);
    let sum = |word: [u8; 4]| u32::from_ne_bytes(word).wrapping_add(u32::from_ne_bytes([95; 4]));
    let (blocks, rest) = shifts.as_chunks();
    let sums = blocks.iter().fold(TOPS, |all, &[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]| {
        all & sum([a, b, c, d]) & sum([e, f, g, h]) & sum([i, j, k, l]) & sum([m, n, o, p])
    });
    if sums == TOPS && rest.iter().all(|&shift| shift >= 33) {
        return Some(0);
    }
    let least = shifts.iter().fold(u8::MAX, |least, &shift| least.min(shift));
    let bits = 33u32.checked_sub(least.into()).filter(|&bits| bits <= MAX_PRE_SHIFT)?;
    let bias = q.bias.iter().take(channels).fold(0, |most: u32, bias| most.max(bias.unsigned_abs()));
    let largest = u64::from(bias) + (taps as u64).saturating_mul(1 << 14);
    (largest <= (i32::MAX as u64) >> bits).then_some(bits)
}

/// High half of the product of an accumulator and a multiplier, which is not negative.
#[cfg(all(portable, not(thumb1)))]
#[inline(always)]
pub fn high_half(acc: i32, multiplier: i32) -> i32 {
    (i64::from(acc).wrapping_mul(i64::from(multiplier)) >> 32) as i32
}

/// High half of the product of an accumulator and a multiplier, which is not negative, from products of halves: Armv6-M has
/// no long multiplication.
#[cfg(any(thumb1, test))]
#[inline(always)]
fn high_half_of_halves(acc: i32, multiplier: i32) -> i32 {
    let (low, high) = (acc & 0xFFFF, acc >> 16);
    let (by_low, by_high) = (multiplier & 0xFFFF, multiplier >> 16);
    let lowest = (low as u32).wrapping_mul(by_low as u32) >> 16;
    // Neither sum leaves 32 bits: -2^15 * (2^16 - 1) and (2^16 - 1) * (2^15 - 1) have room for 16 bits more.
    let middle = high.wrapping_mul(by_low).wrapping_add(lowest as i32);
    let other = low.wrapping_mul(by_high).wrapping_add(middle & 0xFFFF);
    high.wrapping_mul(by_high).wrapping_add(middle >> 16).wrapping_add(other >> 16)
}

/// High half of the product of an accumulator and a multiplier, which is not negative.
#[cfg(thumb1)]
#[inline(always)]
pub fn high_half(acc: i32, multiplier: i32) -> i32 {
    high_half_of_halves(acc, multiplier)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Landing, requantize};

    #[test]
    fn halves_multiply_as_whole_numbers_do() {
        let ends = [0, 1, -1, 0xFFFF, 0x1_0000, -0x1_0000, -0x1_0001, i32::MAX, i32::MIN, i32::MIN + 1, 0x7FFF_0000];
        let mut random = 1u32;
        let mut next = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random ^ random >> 15) as i32
        };
        let pairs = ends.iter().flat_map(|&a| ends.iter().map(move |&m| (a, m & i32::MAX)));
        let random = (0..100_000).map(|_| (next(), next() & i32::MAX));
        for (acc, multiplier) in pairs.chain(random.collect::<Vec<_>>()) {
            let want = (i64::from(acc) * i64::from(multiplier)) >> 32;
            assert_eq!(i64::from(high_half_of_halves(acc, multiplier)), want, "{acc} * {multiplier}");
        }
    }

    fn bits(shift: &[u8], bias: i32, taps: usize) -> Option<u32> {
        let bias = vec![bias; shift.len()];
        let landing = Landing { zero_point: 0, lo: -128, hi: 127 };
        pre_shift(&Requant { bias: &bias, multiplier: &bias, shift, landing }, shift.len(), taps)
    }

    #[test]
    fn shifts_below_33_need_room_above_the_accumulator() {
        assert_eq!(bits(&[33, 40, 62, 33, 35], i32::MAX, 9), Some(0));
        assert_eq!(bits(&[33, 40, 62, 32], 1 << 20, 64), Some(1));
        assert_eq!(bits(&[33, 33, 33, 33, 30], 1 << 20, 64), Some(3));
        assert_eq!(bits(&[33, 33, 33, 33, 25], 1 << 20, 64), Some(8));
        assert_eq!(bits(&[24], 0, 1), None);
        assert_eq!(bits(&[32], (1 << 30) - (64 << 14), 64), None);
        assert_eq!(bits(&[32], (1 << 30) - 1 - (64 << 14), 64), Some(1));
    }

    /// What the instructions compute: high half of the product, arithmetic shift, carry added.
    fn rounded_high_half(acc: i32, multiplier: i32, shift: u32, zero_point: i32) -> i64 {
        let high = (i64::from(acc) * i64::from(multiplier)) >> 32;
        let carry = (high >> (shift - 1).min(31)) & 1;
        (high >> shift.min(31)) + carry + i64::from(zero_point)
    }

    #[test]
    fn the_high_half_rounds_as_the_whole_product_does() {
        let mut random = 1u32;
        let mut next = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 3) as i32
        };
        let landing = Landing { zero_point: 3, lo: -128, hi: 127 };
        for round in 0..400_000u32 {
            let bits = round % 9;
            let shift = 33 - bits + next() as u32 % (30 + bits);
            let acc = (next() << 3) >> (bits + round % 23);
            let multiplier = if round % 50 == 0 { 0 } else { next() << 1 | 1 << 30 };
            let want = requantize(acc, multiplier, shift as u8, landing);
            let got = rounded_high_half(acc << bits, multiplier, shift + bits - 32, 3).clamp(-128, 127) as i8;
            assert_eq!(got, want, "{acc} * {multiplier} >> {shift}, {bits} bits");
        }
    }
}
