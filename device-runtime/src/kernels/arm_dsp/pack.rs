//! Four int8 in one register.

/// Four values, the first in the low byte.
#[inline(always)]
pub fn word(values: [i8; 4]) -> u32 {
    u32::from_le_bytes(values.map(|x| x as u8))
}
