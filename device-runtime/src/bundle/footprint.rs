//! The memory a plan takes, in one piece or divided between a fast and a main memory.

/// Bytes that a plan takes, and how many of them were laid out for a fast memory.
///
/// The offsets of a plan are those of one arena. Its first `fast_bytes` hold what is touched most, and nothing lies across
/// their end, so that the arena may be cut there and its parts put into two memories; or it stays in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Footprint {
    /// Bytes of the whole arena.
    pub arena_bytes: u32,
    /// How many of its first bytes were laid out for a fast memory; 0 where the layout knows of none.
    pub fast_bytes: u32,
}

impl Footprint {
    /// `fast_bytes` is a multiple of this, in bytes: what follows is then as well aligned at the start of the main memory.
    pub const ALIGN: u32 = 16;

    /// How many of the arena's first bytes lie in a fast memory of `available_bytes`: all if that holds the whole arena, else
    /// those laid out for it, or none if it does not hold those either. The rest lies in the main memory.
    ///
    /// None without feature `two-memories`.
    #[must_use]
    pub const fn in_fast(self, available_bytes: u32) -> u32 {
        if !cfg!(feature = "two-memories") {
            0
        } else if self.arena_bytes <= available_bytes {
            self.arena_bytes
        } else if self.fast_bytes <= available_bytes {
            self.fast_bytes
        } else {
            0
        }
    }

    /// Bytes of main memory it takes beside a fast memory of `available_bytes`, which may be 0.
    #[must_use]
    pub const fn in_main(self, available_bytes: u32) -> u32 {
        self.arena_bytes.saturating_sub(self.in_fast(available_bytes))
    }

    /// True if this fits wherever `other` fits.
    #[must_use]
    pub const fn fits_where(self, other: Self) -> bool {
        self.fast_bytes <= other.fast_bytes
            && self.arena_bytes.saturating_sub(self.fast_bytes) <= other.arena_bytes.saturating_sub(other.fast_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_arena_goes_where_it_fits() {
        let divided = Footprint { arena_bytes: 100, fast_bytes: 32 };
        for (available, in_fast) in [(0, 0), (31, 0), (32, 32), (99, 32), (100, 100), (500, 100)] {
            assert_eq!((divided.in_fast(available), divided.in_main(available)), (in_fast, 100 - in_fast));
        }
        let whole = Footprint { fast_bytes: 0, ..divided };
        assert_eq!((whole.in_fast(99), whole.in_fast(100)), (0, 100));
    }

    proptest! {
        #[test]
        fn what_fits_where_another_fits_does_so_in_every_memory(
            sizes in prop::array::uniform2((0u32..40, 0u32..40)), fast in 0u32..90, main in 0u32..90,
        ) {
            let [a, b] = sizes.map(|(fast_bytes, rest)| Footprint { arena_bytes: fast_bytes + rest, fast_bytes });
            let fits = |footprint: Footprint| footprint.in_main(fast) <= main;
            prop_assert!(!a.fits_where(b) || !fits(b) || fits(a));
        }
    }
}
