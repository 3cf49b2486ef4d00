//! How large a program is, from its ELF file.

use std::path::Path;

use super::EmulationError;
use crate::stack::elf::Elf;

/// Section that holds the bundle.
const BUNDLE: &[u8] = b".bundle";

/// Bytes of a program in flash without its bundle: vectors, code, constants and the initial values of statics.
///
/// # Errors
/// [`EmulationError::System`] if it cannot be read, [`EmulationError::NotElf`] if it is something else.
pub fn code_bytes(program: &Path) -> Result<u64, EmulationError> {
    let cannot = super::system(format!("cannot read {}", program.display()));
    let file = std::fs::read(program).map_err(cannot)?;
    let elf = Elf::parse(&file).ok_or_else(|| EmulationError::NotElf { program: program.to_owned() })?;
    let loaded = elf.sections.iter().filter(|section| section.is_loaded && section.name != BUNDLE);
    Ok(loaded.map(|section| section.data.len() as u64).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::elf::tests::file;

    #[test]
    fn what_is_loaded_counts_and_the_bundle_does_not() {
        let sections = [
            (".vector_table", 1, 2, 1024),
            (".text", 1, 6, 4000),
            (".bundle", 1, 2, 99_999),
            (".data", 1, 3, 12),
            (".bss", 8, 3, 512),
            (".comment", 1, 0, 77),
        ];
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        std::fs::write(&program, file(&sections)).unwrap();
        assert_eq!(code_bytes(&program).unwrap(), 5036);
        std::fs::write(&program, "#!/bin/sh").unwrap();
        assert!(matches!(code_bytes(&program), Err(EmulationError::NotElf { .. })));
    }
}
