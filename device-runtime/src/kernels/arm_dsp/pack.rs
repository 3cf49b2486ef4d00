//! Four int8 in one register.

/// Four values, the first in the low byte.
#[inline(always)]
pub fn word(values: [i8; 4]) -> u32 {
    u32::from_le_bytes(values.map(|x| x as u8))
}

/// The last `rest` values of `filter`, at most three, then zeros.
#[inline(always)]
pub fn last_word(filter: &[i8], rest: usize) -> u32 {
    match filter.last_chunk::<4>() {
        // In two steps, so that a rest of zero shifts everything out.
        Some(&last) => word(last) >> 8 >> ((24 - 8 * rest as u32) & 31),
        None => short_word(filter),
    }
}

#[cold]
#[inline(never)]
fn short_word(filter: &[i8]) -> u32 {
    filter.iter().rev().fold(0, |word, &x| word << 8 | u32::from(x as u8))
}
