//! 32-bit little-endian ELF files, by "Tool Interface Standard (TIS) Executable and Linking Format", version 1.2.

/// `SHT_SYMTAB`.
const SYMBOLS: u32 = 2;
/// `SHT_NOBITS`: takes no place in the file.
const NOBITS: u32 = 8;
/// `SHF_ALLOC`: in memory while the program runs.
const ALLOC: u32 = 2;
/// `SHF_EXECINSTR`: instructions.
const EXECUTABLE: u32 = 4;
/// Bytes of a symbol.
const SYMBOL_BYTES: usize = 16;

/// A part of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section<'f> {
    /// E.g. `.text`.
    pub name: &'f [u8],
    /// Where it lies while the program runs.
    pub address: u32,
    /// Bytes it takes there.
    pub size: u32,
    /// What lies in the file; empty for zeroed memory.
    pub data: &'f [u8],
    /// True if it is in memory while the program runs.
    pub is_loaded: bool,
    /// True if it holds instructions.
    pub is_code: bool,
    kind: u32,
    /// Section that belongs to it.
    link: u32,
}

#[cfg(test)]
impl<'f> Section<'f> {
    /// A loaded section.
    pub const fn example(name: &'f str, address: u32, data: &'f [u8], is_code: bool) -> Self {
        let (name, size) = (name.as_bytes(), data.len() as u32);
        Section { name, address, size, data, is_loaded: true, is_code, kind: 1, link: 0 }
    }
}

/// A name for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol<'f> {
    /// The name.
    pub name: &'f [u8],
    /// The address; odd for Thumb functions.
    pub value: u32,
    /// Bytes, 0 if unknown.
    pub size: u32,
    /// True if it is a function.
    pub is_function: bool,
    /// True if it names a place in a section.
    pub is_defined: bool,
}

/// A program.
#[derive(Debug)]
pub struct Elf<'f> {
    /// First instruction; odd in Thumb state.
    pub entry: u32,
    /// All sections.
    pub sections: Vec<Section<'f>>,
    /// All symbols.
    pub symbols: Vec<Symbol<'f>>,
}

impl<'f> Elf<'f> {
    /// Reads the tables of a file; `None` if it is something else or damaged.
    #[must_use]
    pub fn parse(file: &'f [u8]) -> Option<Self> {
        if file.get(..6)? != b"\x7fELF\x01\x01" {
            return None;
        }
        let (entry, table) = (word(file, 24)?, word(file, 32)? as usize);
        let [stride, count, names] = [46, 48, 50].map(|at| half(file, at));
        let (stride, count) = (usize::from(stride?), usize::from(count?));
        let header = |index: usize| file.get(table.checked_add(index.checked_mul(stride)?)?..);
        let names = word(header(names?.into())?, 16)? as usize;
        let mut sections = Vec::with_capacity(count);
        for index in 0..count {
            sections.push(section(file, header(index)?, names)?);
        }
        let mut symbols = Vec::new();
        for table in sections.iter().filter(|section| section.kind == SYMBOLS) {
            let names = sections.get(table.link as usize)?.data;
            for record in table.data.chunks_exact(SYMBOL_BYTES) {
                symbols.push(symbol(record, names)?);
            }
        }
        Some(Self { entry, sections, symbols })
    }

    /// The section with that name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section<'f>> {
        self.sections.iter().find(|section| section.name == name.as_bytes())
    }
}

fn section<'f>(file: &'f [u8], header: &[u8], names: usize) -> Option<Section<'f>> {
    let field = |index: usize| word(header, 4 * index);
    let (kind, flags, size) = (field(1)?, field(2)?, field(5)?);
    let start = field(4)? as usize;
    let data = if kind == NOBITS { &[] } else { file.get(start..start.checked_add(size as usize)?)? };
    Some(Section {
        name: until_zero(file.get(names.checked_add(field(0)? as usize)?..)?)?,
        address: field(3)?,
        size,
        data,
        is_loaded: flags & ALLOC != 0,
        is_code: flags & EXECUTABLE != 0,
        kind,
        link: field(6)?,
    })
}

fn symbol<'f>(record: &[u8], names: &'f [u8]) -> Option<Symbol<'f>> {
    Some(Symbol {
        name: until_zero(names.get(word(record, 0)? as usize..)?)?,
        value: word(record, 4)?,
        size: word(record, 8)?,
        is_function: record.get(12)? & 0xf == 2,
        is_defined: half(record, 14)? != 0,
    })
}

fn until_zero(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..bytes.iter().position(|&byte| byte == 0)?)
}

/// The word at an offset.
#[must_use]
pub fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The halfword at an offset.
#[must_use]
pub fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An ELF file with these sections: name, kind, flags, size. All lie at offset 0 of the file.
    pub fn file(sections: &[(&str, u32, u32, u32)]) -> Vec<u8> {
        let mut names = vec![0];
        let mut headers = Vec::new();
        let all = sections.iter().copied().chain([("names", 3, 0, 0)]);
        for (name, kind, flags, size) in all {
            for word in [names.len() as u32, kind, flags, 0x100, 0, size, 0, 0, 0, 0] {
                headers.extend(u32::to_le_bytes(word));
            }
            names.extend(name.bytes().chain([0]));
        }
        let count = sections.len() + 1;
        let largest = sections.iter().map(|&(_, _, _, size)| size).max().unwrap_or(0);
        let mut file = b"\x7fELF\x01\x01".to_vec();
        file.resize(52.max(largest as usize), 0);
        let table = file.len() as u32;
        file[32..36].copy_from_slice(&table.to_le_bytes());
        file[46] = 40;
        file[48] = count as u8;
        file[50] = count as u8 - 1;
        let names_at = table + headers.len() as u32;
        let last = headers.len() - 40 + 16;
        headers[last..last + 4].copy_from_slice(&names_at.to_le_bytes());
        file.extend(headers);
        file.extend(names);
        file
    }

    #[test]
    fn sections_have_their_names_and_zeroed_ones_no_data() {
        let file = file(&[(".text", 1, 6, 60), (".bss", NOBITS, 3, 5000)]);
        let elf = Elf::parse(&file).unwrap();
        let (text, bss) = (elf.section(".text").unwrap(), elf.section(".bss").unwrap());
        assert_eq!((text.address, text.data.len(), text.is_code, text.is_loaded), (0x100, 60, true, true));
        assert_eq!((bss.size, bss.data.len(), bss.is_code), (5000, 0, false));
        assert!(elf.section(".data").is_none());
    }

    #[test]
    fn damaged_files_are_refused() {
        let whole = file(&[(".text", 1, 6, 4000)]);
        for end in 0..whole.len() {
            assert!(Elf::parse(&whole[..end]).is_none(), "cut at {end}");
        }
        assert!(Elf::parse(b"#!/bin/sh").is_none());
    }
}
