//! An upper bound of the stack that a firmware needs, read from its linked program without running it.
//!
//! | module | purpose |
//! |---|---|
//! | [`elf`] | sections and symbols of the file |
//! | [`thumb`] | what instructions do to the stack pointer and to the flow of control |
//! | [`image`] | functions, and whose addresses are stored |
//! | [`flow`] | depth of the stack at every instruction of a function |
//! | [`graph`] | the deepest path through all calls |
//! | [`name`] | names of functions for people |
//!
//! The bound holds for every input and from reset on. Assumed of the program: it is made by a compiler or by assembly that
//! leaves functions with the stack as they found it; what jumps through a table or to a stored label stays in its function;
//! register 7 is the frame pointer where one is used to restore the stack pointer. A call through a register is taken to
//! reach every function whose address is stored anywhere. Recursion, and stack pointers that are not known before the
//! program runs, have no bound and are named.

pub mod elf;
pub mod flow;
pub mod graph;
pub mod image;
pub mod name;
pub mod thumb;

use std::path::Path;

use elf::Elf;
use graph::Graph;
use image::Image;
use serde::Serialize;

/// What an exception saves on the stack, padding included.
const EXCEPTION_BYTES: u32 = 32 + 4;
/// The same while floating-point registers are in use.
const EXCEPTION_WITH_FLOATS_BYTES: u32 = 104 + 4;

/// What a program needs at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StackBound {
    /// Bytes of stack: those of the path and those of an exception.
    pub bytes: u32,
    /// The path that needs most, from the reset handler on.
    pub path: Vec<Frame>,
    /// What one exception needs on top: its frame and the handler that needs most. 0 without a vector table. Handlers
    /// that interrupt each other need it once for each of their priorities.
    pub exception_bytes: u32,
    /// That handler.
    pub handler: Option<String>,
}

/// A function on the deepest path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// Its name.
    pub function: String,
    /// Bytes it has in use when it calls the next one; of the last one, the most.
    pub bytes: u32,
}

/// Why a program has no bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// The file cannot be read.
    #[error("cannot read the program")]
    Unreadable(#[from] std::io::Error),
    /// The file is not a program.
    #[error("no 32-bit ELF program")]
    NotElf,
    /// Functions cannot be told apart.
    #[error("the program has no symbols of Thumb functions; build it without `strip`")]
    NoSymbols,
    /// Some functions have no bound.
    #[error("the stack has no bound:\n  {}", .0.join("\n  "))]
    Unbounded(Vec<String>),
}

/// [`bound`] of a file.
///
/// # Errors
/// [`StackError`].
pub fn bound_of_file(program: &Path) -> Result<StackBound, StackError> {
    let file = std::fs::read(program)?;
    bound(&Elf::parse(&file).ok_or(StackError::NotElf)?)
}

/// The stack that a linked program for a Cortex-M needs at most, from its first instruction on.
///
/// # Errors
/// [`StackError`] names what has no bound.
pub fn bound(elf: &Elf<'_>) -> Result<StackBound, StackError> {
    let image = Image::of(elf).ok_or(StackError::NoSymbols)?;
    let mut graph = Graph::new(&image);
    let start = elf.entry & !1;
    let program_bytes = graph.depth(start);
    let path = graph.path(start);
    let deepest = image.handlers().iter().map(|&handler| (graph.depth(handler), handler)).max();
    let frame = if image.uses_floating_point() { EXCEPTION_WITH_FLOATS_BYTES } else { EXCEPTION_BYTES };
    let exception_bytes = deepest.map_or(0, |(bytes, _)| frame + bytes);
    let handler = deepest.map(|(_, handler)| graph.name(handler));
    if !graph.faults.is_empty() {
        return Err(StackError::Unbounded(graph.faults));
    }
    Ok(StackBound { bytes: program_bytes.saturating_add(exception_bytes), path, exception_bytes, handler })
}

#[cfg(test)]
mod tests {
    use super::image::tests::program;
    use super::*;

    /// `bl` from one address to another.
    fn call(from: u32, to: u32) -> [u16; 2] {
        let offset = to.wrapping_sub(from + 4);
        [0xf000 | (offset >> 12 & 0x7ff) as u16, 0xf800 | (offset >> 1 & 0x7ff) as u16]
    }

    #[test]
    fn the_deepest_path_is_found_through_all_calls() {
        let [a, b] = [call(0x102, 0x10c), call(0x106, 0x110)];
        // push {r4, lr}; bl shallow; bl deep; pop {r4, pc}
        let main = [0xb510, a[0], a[1], b[0], b[1], 0xbd10];
        // sub sp, #64; add sp, #64; bx lr
        let deep = [0xb090, 0xb010, 0x4770];
        let elf = program(&[("main", &main), ("shallow", &[0x46c0, 0x4770]), ("deep", &deep)], &[]);
        let found = bound(&elf).unwrap();
        let names: Vec<(&str, u32)> = found.path.iter().map(|f| (f.function.as_str(), f.bytes)).collect();
        assert_eq!((found.bytes, found.exception_bytes), (8 + 64, 0));
        assert_eq!(names, [("main", 8), ("deep", 64)]);
    }

    #[test]
    fn recursion_is_named() {
        let [a, b] = [call(0x102, 0x108), call(0x10a, 0x100)];
        let elf = program(&[("even", &[0xb510, a[0], a[1], 0xbd10]), ("odd", &[0xb510, b[0], b[1], 0xbd10])], &[]);
        let said = bound(&elf).unwrap_err().to_string();
        assert!(said.contains("recursion: even calls odd calls even"), "{said}");
    }

    #[test]
    fn a_call_through_a_register_reaches_what_is_stored_and_nothing_else() {
        // main: push {r4, lr}; blx r3; pop {r4, pc}
        let functions: [(&'static str, &[u16]); 3] = [
            ("main", &[0xb510, 0x4798, 0xbd10]),
            ("stored", &[0xb090, 0xb010, 0x4770]),
            ("not_stored", &[0xb0a0, 0xb020, 0x4770]),
        ];
        assert_eq!(bound(&program(&functions, &[0x107])).unwrap().bytes, 8 + 64);
        let said = bound(&program(&functions, &[])).unwrap_err().to_string();
        assert!(said.contains("main calls through a register"), "{said}");
    }

    #[test]
    fn an_exception_comes_on_top() {
        let handler: &[u16] = &[0xb510, 0xb082, 0xb002, 0xbd10];
        let mut elf =
            program(&[("main", &[0xb510, 0xbd10]), ("SysTick", handler), ("HardFault", &[0xb0ff, 0xe7fe])], &[]);
        let vectors = [0x2001_0000, 0x101, 0, 0x10d, 0x105].map(u32::to_le_bytes).as_flattened().to_vec();
        elf.sections.push(elf::Section::example(".vector_table", 0, vectors.leak(), false));
        let found = bound(&elf).unwrap();
        assert_eq!((found.bytes, found.exception_bytes), (8 + 36 + 16, 36 + 16));
        assert_eq!(found.handler.as_deref(), Some("SysTick"));
    }
}
