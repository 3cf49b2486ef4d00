//! How large a program is, from its ELF file.

use std::path::Path;

use super::EmulationError;

/// Section that holds the bundle.
const BUNDLE: &[u8] = b".bundle";
/// `SHT_NOBITS`: takes no place in the file.
const NOBITS: usize = 8;
/// `SHF_ALLOC`: in memory while the program runs.
const ALLOC: usize = 2;

/// Bytes of a program in flash without its bundle: vectors, code, constants and the initial values of statics.
///
/// # Errors
/// [`EmulationError::System`] if it cannot be read, [`EmulationError::NotElf`] if it is something else.
pub fn code_bytes(program: &Path) -> Result<u64, EmulationError> {
    let cannot = super::system(format!("cannot read {}", program.display()));
    let file = std::fs::read(program).map_err(cannot)?;
    sum(&file).ok_or_else(|| EmulationError::NotElf { program: program.to_owned() })
}

/// Sizes of the sections that are loaded, by "Tool Interface Standard (TIS) Executable and Linking Format", version 1.2.
fn sum(file: &[u8]) -> Option<u64> {
    if file.get(..6)? != b"\x7fELF\x01\x01" {
        return None;
    }
    let (table, entry, count, names) = (word(file, 32)?, half(file, 46)?, half(file, 48)?, half(file, 50)?);
    let header = |index: usize| file.get(table.checked_add(index.checked_mul(entry)?)?..);
    let names = word(header(names)?, 16)?;
    let mut bytes = 0;
    for index in 0..count {
        let section = header(index)?;
        let (kind, flags, size) = (word(section, 4)?, word(section, 8)?, word(section, 20)?);
        let name = file.get(names.checked_add(word(section, 0)?)?..)?;
        let name = &name[..name.iter().position(|&byte| byte == 0)?];
        if flags & ALLOC != 0 && kind != NOBITS && name != BUNDLE {
            bytes += size as u64;
        }
    }
    Some(bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize)
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `SHT_PROGBITS`.
    const PROGBITS: u32 = 1;

    /// An ELF file with these sections: name, kind, flags, size.
    fn file(sections: &[(&str, u32, u32, u32)]) -> Vec<u8> {
        let mut names = vec![0];
        let mut headers = Vec::new();
        let all = sections.iter().copied().chain([("names", 3, 0, 0)]);
        for (name, kind, flags, size) in all {
            for word in [names.len() as u32, kind, flags, 0, 0, size, 0, 0, 0, 0] {
                headers.extend(u32::to_le_bytes(word));
            }
            names.extend(name.bytes().chain([0]));
        }
        let count = sections.len() + 1;
        let mut file = b"\x7fELF\x01\x01".to_vec();
        file.resize(52, 0);
        file[32..36].copy_from_slice(&52u32.to_le_bytes());
        file[46] = 40;
        file[48] = count as u8;
        file[50] = count as u8 - 1;
        let names_at = 52 + headers.len() as u32;
        let last = headers.len() - 40 + 16;
        headers[last..last + 4].copy_from_slice(&names_at.to_le_bytes());
        file.extend(headers);
        file.extend(names);
        file
    }

    #[test]
    fn what_is_loaded_counts_and_the_bundle_does_not() {
        let sections = [
            (".vector_table", PROGBITS, 2, 1024),
            (".text", PROGBITS, 6, 4000),
            (".bundle", PROGBITS, 2, 99_999),
            (".data", PROGBITS, 3, 12),
            (".bss", NOBITS as u32, 3, 512),
            (".comment", PROGBITS, 0, 77),
        ];
        assert_eq!(sum(&file(&sections)), Some(5036));
    }

    #[test]
    fn damaged_files_are_refused() {
        let whole = file(&[(".text", PROGBITS, 6, 4000)]);
        for end in 0..whole.len() {
            assert_eq!(sum(&whole[..end]), None, "cut at {end}");
        }
        assert_eq!(sum(b"#!/bin/sh"), None);
    }
}
