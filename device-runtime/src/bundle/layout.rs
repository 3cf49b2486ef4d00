//! Offsets and sizes of the fixed part of a bundle: header and section table.

/// First eight bytes of every bundle.
pub const MAGIC: [u8; 8] = *b"STITCHK\0";
/// Major version: a reader refuses any other.
pub const VERSION_MAJOR: u16 = 2;
/// Minor version: a reader accepts any.
pub const VERSION_MINOR: u16 = 4;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 32;
/// Bytes of one entry of the section table, which follows the header.
pub const ENTRY_BYTES: usize = 20;
/// Alignment of the bundle in memory and of every section in it.
pub const SECTION_ALIGN: usize = 16;
/// Most sections a bundle may have.
pub const MAX_SECTIONS: usize = 32;
/// Flag of a section that a reader must know.
pub const FLAG_REQUIRED: u32 = 1;

/// Field offsets of the header.
pub(super) mod header {
    pub const VERSION_MAJOR: usize = 8;
    #[cfg(feature = "std")]
    pub const VERSION_MINOR: usize = 10;
    pub const FILE_BYTES: usize = 12;
    pub const SECTIONS: usize = 16;
    pub const TABLE_CRC: usize = 20;
    #[cfg(feature = "std")]
    pub const RESERVED: usize = 24;
    pub const HEADER_CRC: usize = 28;
}

/// Field offsets of a section table entry.
pub(super) mod entry {
    pub const ID: usize = 0;
    pub const FLAGS: usize = 4;
    pub const OFFSET: usize = 8;
    pub const LEN: usize = 12;
    pub const CRC: usize = 16;
}

/// The sections this reader knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SectionId {
    /// One [`Meta`](super::Meta) record.
    Meta,
    /// Record list of [`Block`](super::Block).
    Blocks,
    /// Record list of [`Step`](super::Step).
    Steps,
    /// Record list of [`Plan`](super::Plan).
    Plans,
    /// Optional: for each plan how many bytes of its arena were laid out for a fast memory.
    Fast,
    /// Absent or required: which steps have woven filters.
    #[cfg(feature = "woven")]
    Woven,
    /// Weights and lookup tables, int8.
    Weights,
    /// Biases, multipliers and softmax tables, 32-bit little-endian.
    Tables,
    /// Shifts, one byte each.
    Shifts,
    /// Optional: one 256-entry table per input channel, from pixel to int8.
    InputLut,
    /// Optional: golden vectors.
    Golden,
}

impl SectionId {
    /// All of them, in file order.
    pub const ALL: &[Self] = &[
        Self::Meta,
        Self::Blocks,
        Self::Steps,
        Self::Plans,
        Self::Fast,
        #[cfg(feature = "woven")]
        Self::Woven,
        Self::Weights,
        Self::Tables,
        Self::Shifts,
        Self::InputLut,
        Self::Golden,
    ];

    /// The four bytes in the section table.
    #[must_use]
    pub const fn tag(self) -> [u8; 4] {
        match self {
            Self::Meta => *b"META",
            Self::Blocks => *b"BLCK",
            Self::Steps => *b"STEP",
            Self::Plans => *b"PLAN",
            Self::Fast => *b"FAST",
            #[cfg(feature = "woven")]
            Self::Woven => *b"WOVN",
            Self::Weights => *b"WGHT",
            Self::Tables => *b"TABL",
            Self::Shifts => *b"SHFT",
            Self::InputLut => *b"ILUT",
            Self::Golden => *b"GOLD",
        }
    }

    /// True for the sections that a reader must know where they are present.
    #[must_use]
    pub const fn is_required(self) -> bool {
        !matches!(self, Self::Fast | Self::InputLut | Self::Golden)
    }
}

/// Reads a little-endian `u16`; `None` past the end.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads a little-endian `u32`; `None` past the end.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
