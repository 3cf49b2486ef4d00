//! Takes a bundle's file apart into sections and puts it together again with fresh checksums, whatever they hold: for tests
//! of readers. Written from the format's specification, not from the runtime's reader.

use stitchkit_runtime::bundle::{SECTION_ALIGN, crc32};

const HEADER_BYTES: usize = 32;
const ENTRY_BYTES: usize = 20;

/// A bundle's file as header fields and sections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Major version of the format.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
    /// Sections in file order.
    pub sections: Vec<Section>,
}

/// One section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Four-byte tag.
    pub tag: [u8; 4],
    /// Flags; bit 0 means that a reader must know the section.
    pub flags: u32,
    /// Content.
    pub bytes: Vec<u8>,
}

impl Image {
    /// Takes an intact bundle apart.
    ///
    /// # Panics
    /// If a section lies outside the file.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let sections = (0..word(16) as usize).map(|index| {
            let row = HEADER_BYTES + index * ENTRY_BYTES;
            let (offset, len) = (word(row + 8) as usize, word(row + 12) as usize);
            let tag = bytes[row..row + 4].try_into().expect("four bytes");
            Section { tag, flags: word(row + 4), bytes: bytes[offset..offset + len].to_vec() }
        });
        Self { major: word(8) as u16, minor: (word(8) >> 16) as u16, sections: sections.collect() }
    }

    /// Puts the file together, with checksums that match.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let start = (HEADER_BYTES + self.sections.len() * ENTRY_BYTES).next_multiple_of(SECTION_ALIGN);
        let (mut table, mut body) = (Vec::new(), Vec::new());
        for section in &self.sections {
            table.extend(section.tag);
            let offset = (start + body.len()) as u32;
            for word in [section.flags, offset, section.bytes.len() as u32, crc32(&section.bytes)] {
                table.extend(word.to_le_bytes());
            }
            body.extend(&section.bytes);
            body.resize(body.len().next_multiple_of(SECTION_ALIGN), 0);
        }
        let mut file = b"STITCHK\0".to_vec();
        file.extend(self.major.to_le_bytes());
        file.extend(self.minor.to_le_bytes());
        for word in [(start + body.len()) as u32, self.sections.len() as u32, crc32(&table), 0] {
            file.extend(word.to_le_bytes());
        }
        file.extend(crc32(&file).to_le_bytes());
        file.extend(table);
        file.resize(start, 0);
        file.extend(body);
        file
    }

    /// The section with this tag.
    pub fn section_mut(&mut self, tag: [u8; 4]) -> Option<&mut Section> {
        self.sections.iter_mut().find(|section| section.tag == tag)
    }
}
