//! The functions of a linked program, and which of them it holds addresses of.

use std::collections::{BTreeMap, BTreeSet};

use super::elf::{Elf, Section, half, word};
use super::thumb::{Effect, Instruction, decode, is_coprocessor};

/// Sections of the exception vectors: what they point to is entered by interrupts, not by calls.
const VECTORS: [&[u8]; 4] = [b".vector_table", b".isr_vector", b".vectors", b".isr_vectors"];
/// First word of the table that is the address of a handler, behind the stack pointer.
const FIRST_VECTOR: usize = 1;
/// Word of the fault handler, which ends the program.
const HARD_FAULT_VECTOR: usize = 3;
/// Section of the bundle, which holds no addresses.
const BUNDLE: &[u8] = b".bundle";

/// A linked program in Thumb code.
#[derive(Debug)]
pub struct Image<'f> {
    code: Vec<Section<'f>>,
    /// Names and sizes by address.
    functions: BTreeMap<u32, (String, u32)>,
    /// True from an address on if constants lie there, not instructions.
    data: BTreeMap<u32, bool>,
    /// Functions whose addresses are stored somewhere.
    taken: BTreeSet<u32>,
    /// Exception handlers but those of reset and hard fault.
    handlers: BTreeSet<u32>,
}

impl<'f> Image<'f> {
    /// The program in an ELF file; `None` if the file names no functions in its code.
    #[must_use]
    pub fn of(elf: &Elf<'f>) -> Option<Self> {
        let code: Vec<Section<'f>> = elf.sections.iter().filter(|s| s.is_code && !s.data.is_empty()).copied().collect();
        let is_code = |address: u32| code.iter().any(|section| address.wrapping_sub(section.address) < section.size);
        let (mut functions, mut data) = (BTreeMap::new(), BTreeMap::new());
        for symbol in elf.symbols.iter().filter(|symbol| symbol.is_defined) {
            match symbol.name {
                name if name == b"$t" || name.starts_with(b"$t.") => _ = data.insert(symbol.value, false),
                name if name == b"$d" || name.starts_with(b"$d.") => _ = data.insert(symbol.value, true),
                name if symbol.is_function && is_code(symbol.value) => {
                    let name = String::from_utf8_lossy(name).into_owned();
                    let known: &mut (String, u32) = functions.entry(symbol.value & !1).or_insert((name, symbol.size));
                    known.1 = known.1.max(symbol.size);
                }
                _ => {}
            }
        }
        if functions.is_empty() || data.is_empty() {
            return None;
        }
        let (taken, handlers) = (BTreeSet::new(), BTreeSet::new());
        let mut image = Self { code, functions, data, taken, handlers };
        image.taken = image.stored(elf);
        image.handlers = image.vectors(elf);
        Some(image)
    }

    /// Where the functions start.
    pub fn starts(&self) -> impl Iterator<Item = u32> {
        self.functions.keys().copied()
    }

    /// True if a function starts there.
    #[must_use]
    pub fn is_start(&self, address: u32) -> bool {
        self.functions.contains_key(&address)
    }

    /// Name of the function that starts at an address, or the address.
    #[must_use]
    pub fn name(&self, start: u32) -> String {
        self.functions.get(&start).map_or_else(|| format!("{start:#x}"), |(name, _)| name.clone())
    }

    /// First address behind a function: what its symbol says, or where the next one starts.
    #[must_use]
    pub fn end(&self, start: u32) -> u32 {
        let next = self.functions.range(start + 1..).next().map_or(u32::MAX, |(&next, _)| next);
        match self.functions.get(&start) {
            Some(&(_, size)) if size > 0 => start.saturating_add(size),
            _ => next.min(self.section_end(start)),
        }
    }

    fn section_end(&self, address: u32) -> u32 {
        let section = self.code.iter().find(|section| address.wrapping_sub(section.address) < section.size);
        section.map_or(address, |section| section.address.saturating_add(section.size))
    }

    /// Functions whose addresses are stored in constants or put together by code.
    #[must_use]
    pub const fn taken(&self) -> &BTreeSet<u32> {
        &self.taken
    }

    /// Functions that the vector table names but for those of reset and hard fault; empty without a section of a usual name.
    #[must_use]
    pub const fn handlers(&self) -> &BTreeSet<u32> {
        &self.handlers
    }

    /// True if the program has instructions of floating point or MVE.
    #[must_use]
    pub fn uses_floating_point(&self) -> bool {
        let is_wide = |address: u32, bytes: u32| {
            bytes == 4 && self.constant(address).is_some_and(|word| is_coprocessor(word as u16))
        };
        self.starts().any(|start| self.listing(start).iter().any(|&(at, instruction)| is_wide(at, instruction.bytes)))
    }

    fn vectors(&self, elf: &Elf<'_>) -> BTreeSet<u32> {
        let section = elf.sections.iter().find(|section| VECTORS.contains(&section.name));
        let words = section.map_or(&[][..], |section| section.data).chunks_exact(4).enumerate();
        let vectors = words.skip(FIRST_VECTOR).filter(|(index, _)| *index != HARD_FAULT_VECTOR);
        let starts = vectors.filter_map(|(_, vector)| Some(word(vector, 0)? & !1));
        starts.filter(|&start| start != elf.entry & !1 && self.is_start(start)).collect()
    }

    /// The instruction at an address; `None` if none lies there.
    #[must_use]
    pub fn instruction(&self, address: u32) -> Option<Instruction> {
        if self.is_data(address) {
            return None;
        }
        let section = self.code.iter().find(|section| address.wrapping_sub(section.address) < section.size)?;
        let at = (address - section.address) as usize;
        decode(address, half(section.data, at)?, half(section.data, at + 2))
    }

    fn is_data(&self, address: u32) -> bool {
        self.data.range(..=address).next_back().is_some_and(|(_, &is_data)| is_data)
    }

    /// A constant in code.
    #[must_use]
    pub fn constant(&self, address: u32) -> Option<u32> {
        let section = self.code.iter().find(|section| address.wrapping_sub(section.address) < section.size)?;
        word(section.data, (address - section.address) as usize)
    }

    /// All instructions of a function in the order of their addresses.
    #[must_use]
    pub fn listing(&self, start: u32) -> Vec<(u32, Instruction)> {
        let (mut address, end) = (start, self.end(start));
        let mut list = Vec::new();
        while address < end {
            match self.instruction(address) {
                Some(instruction) => {
                    list.push((address, instruction));
                    address += instruction.bytes;
                }
                None => address += 2,
            }
        }
        list
    }

    fn stored(&self, elf: &Elf<'_>) -> BTreeSet<u32> {
        let mut taken = BTreeSet::new();
        let mut take = |value: u32| {
            if value & 1 == 1 && self.is_start(value & !1) {
                taken.insert(value & !1);
            }
        };
        for section in elf.sections.iter().filter(|s| s.is_loaded && !VECTORS.contains(&s.name) && s.name != BUNDLE) {
            let first = section.address.wrapping_neg() as usize % 4;
            for at in (first..section.data.len()).step_by(4) {
                if !section.is_code || self.is_data(section.address.wrapping_add(at as u32)) {
                    word(section.data, at).map(&mut take);
                }
            }
        }
        for start in self.starts() {
            for value in self.built(start) {
                take(value);
            }
        }
        taken
    }

    /// Words that a function may put together from halves.
    fn built(&self, start: u32) -> Vec<u32> {
        let (mut low, mut high) = (Vec::new(), Vec::new());
        for (_, instruction) in self.listing(start) {
            match instruction.effect {
                Effect::Low { to, value } => low.push((to, value)),
                Effect::High { to, value } => high.push((to, value)),
                _ => {}
            }
        }
        let of = |&(to, upper): &(u8, u32)| {
            low.iter().filter(move |(register, _)| *register == to).map(move |(_, lower)| upper << 16 | lower)
        };
        high.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::elf::{Section, Symbol};
    use super::*;

    /// A program of functions that lie one after the other from 0x100 on, the first of which is the entry, and of constants
    /// at 0x2000.
    pub fn program(functions: &[(&'static str, &[u16])], constants: &[u32]) -> Elf<'static> {
        let mut code: Vec<u8> = Vec::new();
        let name = |name: &'static str, value, size, is_function| Symbol {
            name: name.as_bytes(),
            value,
            size,
            is_function,
            is_defined: true,
        };
        let mut symbols = vec![name("$t", 0x100, 0, false)];
        for (function, words) in functions {
            let start = 0x100 + code.len() as u32;
            symbols.push(name(function, start | 1, 2 * words.len() as u32, true));
            code.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }
        let constants: Vec<u8> = constants.iter().flat_map(|word| word.to_le_bytes()).collect();
        let sections = vec![
            Section::example(".text", 0x100, code.leak(), true),
            Section::example(".rodata", 0x2000, constants.leak(), false),
        ];
        Elf { entry: 0x101, sections, symbols }
    }

    #[test]
    fn functions_whose_addresses_are_stored_or_put_together_are_known() {
        // movw r0, #0x10d; movt r0, #0; bx lr
        let builder: &[u16] = &[0xf240, 0x100d, 0xf2c0, 0x0000, 0x4770];
        let elf = program(&[("builder", builder), ("stored", &[0x4770]), ("built", &[0x4770])], &[7, 0x10b, 0x10c]);
        let image = Image::of(&elf).unwrap();
        assert_eq!(image.taken().iter().map(|&start| image.name(start)).collect::<Vec<_>>(), ["stored", "built"]);
        assert!(!image.uses_floating_point());
    }

    #[test]
    fn a_program_without_names_is_none() {
        let mut elf = program(&[("main", &[0x4770])], &[]);
        elf.symbols.clear();
        assert!(Image::of(&elf).is_none());
    }
}
