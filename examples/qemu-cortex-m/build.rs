//! Writes the linker's memory map and the board's constants, and passes the path of the bundle on.

use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;
use std::{env, fs};

/// What differs between boards. The names are QEMU's machines.
struct Board {
    name: &'static str,
    flash: (u32, u32),
    ram: (u32, u32),
    /// Memory for the bundle, where it is not the rest of `flash`.
    bundle: Option<(u32, u32)>,
    /// A second memory, which on a real board would be larger and slower than `ram`.
    second: Option<(u32, u32)>,
    /// Frequency of the core clock that QEMU gives SysTick.
    clock_hz: u32,
    /// Memory kept for the stack.
    stack_bytes: u32,
    /// Architectures that the board runs, its own first, to catch a board built for the wrong one.
    targets: &'static [&'static str],
}

const KB: u32 = 1024;

const BOARDS: [Board; 7] = [
    Board {
        // STM32F405: 1 MB of flash, 128 KB of SRAM.
        name: "netduinoplus2",
        flash: (0x0800_0000, 1024 * KB),
        ram: (0x2000_0000, 128 * KB),
        bundle: None,
        second: None,
        clock_hz: 168_000_000,
        stack_bytes: 6 * KB,
        targets: &["thumbv7em"],
    },
    Board {
        name: "mps2-an386",
        flash: (0, 4096 * KB),
        ram: (0x2000_0000, 4096 * KB),
        bundle: None,
        second: Some((0x2100_0000, 16_384 * KB)),
        clock_hz: 25_000_000,
        stack_bytes: 6 * KB,
        targets: &["thumbv7em"],
    },
    Board {
        // A Cortex-M3; code for Armv6-M takes as many instructions on it as on a Cortex-M0.
        name: "mps2-an385",
        flash: (0, 4096 * KB),
        ram: (0x2000_0000, 4096 * KB),
        bundle: None,
        second: Some((0x2100_0000, 16_384 * KB)),
        clock_hz: 25_000_000,
        stack_bytes: 6 * KB,
        targets: &["thumbv7m-", "thumbv6m"],
    },
    Board {
        name: "mps2-an500",
        flash: (0, 4096 * KB),
        ram: (0x2000_0000, 4096 * KB),
        bundle: None,
        second: Some((0x2100_0000, 16_384 * KB)),
        clock_hz: 25_000_000,
        stack_bytes: 6 * KB,
        targets: &["thumbv7em"],
    },
    Board {
        // The secure aliases: the core starts in the secure state.
        name: "mps2-an505",
        flash: (0x1000_0000, 4096 * KB),
        ram: (0x3800_0000, 2048 * KB),
        bundle: None,
        second: None,
        clock_hz: 20_000_000,
        stack_bytes: 6 * KB,
        targets: &["thumbv8m.main"],
    },
    Board {
        // Code in the secure alias of the instruction memory, data in that of the data memory, the bundle in that of the SRAM.
        name: "mps3-an547",
        flash: (0x1000_0000, 512 * KB),
        ram: (0x3000_0000, 512 * KB),
        bundle: Some((0x1100_0000, 2048 * KB)),
        second: Some((0x3100_0000, 2048 * KB)),
        clock_hz: 32_000_000,
        stack_bytes: 8 * KB,
        targets: &["thumbv8m.main"],
    },
    Board {
        // nRF51822. The real chip has no SysTick; QEMU's has.
        name: "microbit",
        flash: (0, 256 * KB),
        ram: (0x2000_0000, 16 * KB),
        bundle: None,
        second: None,
        clock_hz: 16_000_000,
        stack_bytes: 5 * KB,
        targets: &["thumbv6m"],
    },
];

/// The board built for if `STITCHKIT_BOARD` is not set.
fn default_board(target: &str) -> Option<&'static Board> {
    BOARDS.iter().find(|board| target.starts_with(board.targets[0]))
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=STITCHKIT_BOARD");
    println!("cargo::rerun-if-env-changed=STITCHKIT_BUNDLE");
    let target = env::var("TARGET")?;
    let board = match env::var("STITCHKIT_BOARD") {
        Ok(name) => BOARDS.iter().find(|b| b.name == name).ok_or(format!("STITCHKIT_BOARD: unknown board `{name}`"))?,
        Err(_) => default_board(&target).ok_or(format!("no board for target {target}"))?,
    };
    if !board.targets.iter().any(|prefix| target.starts_with(prefix)) {
        return Err(format!("board {} needs a {:?} target, not {target}", board.name, board.targets).into());
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("memory.x"), memory_map(board))?;
    fs::write(out.join("constants.rs"), constants(board)?)?;
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg-bins=--nmagic");
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    if let Ok(path) = env::var("STITCHKIT_BUNDLE") {
        let path = fs::canonicalize(&path).map_err(|error| format!("STITCHKIT_BUNDLE={path}: {error}"))?;
        println!("cargo::rerun-if-changed={}", path.display());
        println!("cargo::rustc-env=STITCHKIT_BUNDLE={}", path.display());
    }
    Ok(())
}

/// The bundle gets a section of its own, so that code size can be told from model size.
fn memory_map(board: &Board) -> String {
    let (own, region) = match board.bundle {
        Some((start, len)) => (format!("  FLASH_BUNDLE : ORIGIN = {start:#x}, LENGTH = {len}\n"), "FLASH_BUNDLE"),
        None => (String::new(), "FLASH"),
    };
    format!(
        "MEMORY {{\n  FLASH : ORIGIN = {:#x}, LENGTH = {}\n  RAM : ORIGIN = {:#x}, LENGTH = {}\n{own}}}\n\
         SECTIONS {{\n  .bundle : ALIGN(16) {{ KEEP(*(.bundle)); }} > {region}\n}} INSERT AFTER .rodata;\n",
        board.flash.0, board.flash.1, board.ram.0, board.ram.1
    )
}

fn constants(board: &Board) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(text, "/// Name of the board, as QEMU calls the machine.\npub const NAME: &str = {:?};", board.name)?;
    writeln!(text, "/// Frequency of the clock that SysTick counts.\npub const CLOCK_HZ: u32 = {};", board.clock_hz)?;
    writeln!(text, "/// Bytes of memory kept for the stack.\npub const STACK_BYTES: usize = {};", board.stack_bytes)?;
    writeln!(text, "/// First address of flash.\npub const FLASH_START: usize = {:#x};", board.flash.0)?;
    writeln!(text, "/// Bytes of flash on the board.\npub const FLASH_BYTES: usize = {};", board.flash.1)?;
    let own = board.bundle.map_or("None".to_owned(), |(_, len)| format!("Some({len})"));
    writeln!(text, "/// Bytes that are the bundle's alone.\npub const BUNDLE_BYTES: Option<usize> = {own};")?;
    let (start, len) = board.second.unwrap_or_default();
    writeln!(text, "/// First address and bytes of a second memory; 0 bytes if there is none.")?;
    writeln!(text, "pub const SECOND_RAM: (usize, usize) = ({start:#x}, {len});")?;
    writeln!(text, "/// Bytes of memory on the board.\npub const RAM_BYTES: usize = {};", board.ram.1)?;
    Ok(text)
}
