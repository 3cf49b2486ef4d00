//! CRC-32 of IEEE 802.3, as in zip and png, by a table of 64 bytes: a table of 1 KB would take a twentieth of a small firmware.

/// What each value of four bits becomes when it leaves the register.
static NIBBLES: [u32; 16] = nibbles();

const fn nibbles() -> [u32; 16] {
    const POLYNOMIAL: u32 = 0xEDB8_8320;
    let mut table = [0; 16];
    let mut at = 0;
    while at < table.len() {
        let (mut value, mut bit) = (at as u32, 0);
        while bit < 4 {
            value = if value & 1 == 1 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
}

/// A checksum under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crc32(u32);

impl Crc32 {
    pub const fn new() -> Self {
        Self(u32::MAX)
    }

    /// Adds bytes behind those added before.
    #[inline(never)]
    pub fn update(&mut self, bytes: &[u8]) {
        let step = |register: u32| register >> 4 ^ NIBBLES[register as usize & 15];
        self.0 = bytes.iter().fold(self.0, |register, &byte| step(step(register ^ u32::from(byte))));
    }

    /// The checksum of all that was added.
    pub const fn finish(self) -> u32 {
        !self.0
    }
}

/// CRC-32 (IEEE 802.3, as in zip and png) of `bytes`.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc32::new();
    crc.update(bytes);
    crc.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_check_value_of_the_standard_comes_out() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }

    proptest! {
        #[test]
        fn pieces_add_up(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..200) {
            let (front, back) = bytes.split_at(at.min(bytes.len()));
            let mut crc = Crc32::new();
            crc.update(front);
            crc.update(back);
            prop_assert_eq!(crc.finish(), crc32(&bytes));
        }

        #[test]
        fn a_flipped_bit_shows(bytes in prop::collection::vec(any::<u8>(), 1..200), at in 0usize..200, bit in 0u32..8) {
            let mut other = bytes.clone();
            other[at % bytes.len()] ^= 1 << bit;
            prop_assert_ne!(crc32(&other), crc32(&bytes));
        }
    }
}
