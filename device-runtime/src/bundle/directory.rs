//! Header and section table: what lies where, before anything of it is read.

use super::layout::{
    ENTRY_BYTES, FLAG_REQUIRED, HEADER_BYTES, MAGIC, MAX_SECTIONS, SECTION_ALIGN, SectionId, VERSION_MAJOR, entry,
    header, u16_at, u32_at,
};
use super::{BundleError, crc32};

/// The header, checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    /// Bytes of the whole bundle.
    pub bundle_bytes: u32,
    sections: u16,
    table_crc: u32,
}

impl Header {
    /// Verifies magic, checksum and version at the start of `bytes`, of which `have_bytes` exist.
    pub fn read(bytes: &[u8], have_bytes: u32) -> Result<Self, BundleError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(BundleError::NotABundle);
        }
        let short = BundleError::Truncated { have_bytes, need_bytes: HEADER_BYTES as u32 };
        let head = bytes.get(..HEADER_BYTES).ok_or(short)?;
        let stored = u32_at(head, header::HEADER_CRC).ok_or(short)?;
        if crc32(head.get(..header::HEADER_CRC).ok_or(short)?) != stored {
            return Err(BundleError::Checksum { offset: 0 });
        }
        let found = u16_at(head, header::VERSION_MAJOR).ok_or(short)?;
        if found != VERSION_MAJOR {
            return Err(BundleError::Version { found, known: VERSION_MAJOR });
        }
        let sections = u32_at(head, header::SECTIONS).ok_or(short)?;
        if sections as usize > MAX_SECTIONS {
            return Err(BundleError::SectionTable { index: MAX_SECTIONS as u16 });
        }
        Ok(Self {
            bundle_bytes: u32_at(head, header::FILE_BYTES).ok_or(short)?,
            sections: sections as u16,
            table_crc: u32_at(head, header::TABLE_CRC).ok_or(short)?,
        })
    }

    /// Number of sections.
    pub const fn sections(&self) -> u16 {
        self.sections
    }

    /// Bytes of the section table, which follows the header.
    pub const fn table_bytes(&self) -> usize {
        self.sections as usize * ENTRY_BYTES
    }

    /// Verifies the section table: its checksum, and that sections lie inside the bundle in table order without overlap,
    /// that known ones appear once and that no required one is unknown.
    pub fn directory<'a>(&self, table: &'a [u8]) -> Result<Directory<'a>, BundleError> {
        if table.len() != self.table_bytes() {
            return Err(BundleError::SectionTable { index: 0 });
        }
        if crc32(table) != self.table_crc {
            return Err(BundleError::Checksum { offset: HEADER_BYTES as u32 });
        }
        let directory = Directory { table };
        let mut end = (HEADER_BYTES + table.len()) as u32;
        for (index, section) in (0..self.sections).zip(directory.sections()) {
            let wrong = BundleError::SectionTable { index };
            let section_end = section.offset.checked_add(section.len_bytes).ok_or(wrong)?;
            let aligned = section.offset.is_multiple_of(SECTION_ALIGN as u32);
            if !aligned || section.offset < end || section_end > self.bundle_bytes {
                return Err(wrong);
            }
            let known = SectionId::ALL.iter().any(|id| id.tag() == section.tag);
            if section.is_required && !known {
                return Err(BundleError::UnknownRequiredSection { tag: section.tag });
            }
            let before = directory.sections().take(usize::from(index));
            if known && before.into_iter().any(|other| other.tag == section.tag) {
                return Err(wrong);
            }
            end = section_end;
        }
        Ok(directory)
    }
}

/// The section table, checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Directory<'a> {
    table: &'a [u8],
}

/// Where a section lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section {
    pub tag: [u8; 4],
    is_required: bool,
    /// From the start of the bundle.
    pub offset: u32,
    pub len_bytes: u32,
    pub crc: u32,
}

impl Section {
    /// One row of the table.
    pub fn read(row: &[u8]) -> Option<Self> {
        Some(Self {
            tag: *row.get(entry::ID..)?.first_chunk()?,
            is_required: u32_at(row, entry::FLAGS)? & FLAG_REQUIRED != 0,
            offset: u32_at(row, entry::OFFSET)?,
            len_bytes: u32_at(row, entry::LEN)?,
            crc: u32_at(row, entry::CRC)?,
        })
    }

    /// The section's bytes in `bundle`, which holds the whole bundle.
    pub fn of(self, bundle: &[u8]) -> Option<&[u8]> {
        bundle.get(super::range(self.offset, self.len_bytes as usize)?)
    }
}

impl<'a> Directory<'a> {
    /// All sections, in file order.
    pub fn sections(self) -> impl Iterator<Item = Section> + 'a {
        self.table.chunks_exact(ENTRY_BYTES).filter_map(Section::read)
    }

    /// The section of this kind.
    pub fn find(self, id: SectionId) -> Option<Section> {
        self.sections().find(|section| section.tag == id.tag())
    }

    /// The section of this kind, without which nothing can run.
    pub fn required(self, id: SectionId) -> Result<Section, BundleError> {
        self.find(id).ok_or(BundleError::MissingSection(id))
    }
}
