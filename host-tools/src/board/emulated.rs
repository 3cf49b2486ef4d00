//! Boards that QEMU emulates: what a firmware is built for, built with, and run on.
//!
//! A firmware is a package like `examples/qemu-cortex-m`: it takes the board from `STITCHKIT_BOARD` (QEMU's machine) and the
//! bundle from `STITCHKIT_BUNDLE`, and talks through semihosting.

mod elf;
mod qemu;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use stitchkit_runtime::bundle::{Bundle, Plan, crc32};

use crate::compile::filters::FilterOrder;

pub use elf::code_bytes;
pub use qemu::{Counting, run};

/// A board that QEMU has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Emulated {
    /// Name on the command line.
    pub name: &'static str,
    /// QEMU's machine.
    pub machine: &'static str,
    /// A machine that runs the board's code with as many instructions and has room for any model; the board's own where
    /// that has.
    pub roomy_machine: &'static str,
    /// Rust target.
    pub target: &'static str,
    /// The order of weights that suits its kernels.
    pub filters: FilterOrder,
    /// Compiler flags that replace those of the firmware's configuration; empty to keep them.
    pub flags: &'static str,
}

const fn board(name: &'static str, machine: &'static str, target: &'static str, flags: &'static str) -> Emulated {
    Emulated { name, machine, roomy_machine: machine, target, filters: FilterOrder::Apart, flags }
}

const fn board_with_dsp(name: &'static str, machine: &'static str, target: &'static str) -> Emulated {
    Emulated { filters: FilterOrder::Woven, ..board(name, machine, target, "") }
}

/// Every emulated board.
pub const EMULATED: [Emulated; 7] = [
    // The Cortex-M0 that QEMU has lies in a microbit of 16 KB; a Cortex-M3 takes as many instructions for its code.
    Emulated { roomy_machine: "mps2-an385", ..board("qemu-m0", "microbit", "thumbv6m-none-eabi", "") },
    board("qemu-m3", "mps2-an385", "thumbv7m-none-eabi", ""),
    board_with_dsp("qemu-m4", "mps2-an386", "thumbv7em-none-eabihf"),
    board_with_dsp("qemu-m7", "mps2-an500", "thumbv7em-none-eabihf"),
    board_with_dsp("qemu-m33", "mps2-an505", "thumbv8m.main-none-eabihf"),
    board(
        "qemu-m33-nodsp",
        "mps2-an505",
        "thumbv8m.main-none-eabihf",
        "-C target-cpu=cortex-m33 -C target-feature=-dsp",
    ),
    board("qemu-m55", "mps3-an547", "thumbv8m.main-none-eabihf", "-C target-cpu=cortex-m55"),
];

/// Why a firmware was not built or did not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmulationError {
    /// A board that QEMU does not have.
    #[error("no emulated board `{name}`; there are {}", names().join(", "))]
    NoSuchBoard {
        /// What was asked for.
        name: String,
    },
    /// The folder is not that of a firmware.
    #[error("{} holds no firmware; give the folder examples/qemu-cortex-m with --firmware", .folder.display())]
    NoFirmware {
        /// The folder.
        folder: PathBuf,
    },
    /// Programs or compiler targets are not installed.
    #[error("not everything is installed that builds and runs firmware:\n  {}", .missing.join("\n  "))]
    Missing {
        /// What is missing and how to install it, one line each.
        missing: Vec<String>,
    },
    /// The compiler or linker refused.
    #[error("the firmware does not build for {board}:\n{log}")]
    Build {
        /// The board.
        board: &'static str,
        /// The last lines that cargo wrote.
        log: String,
    },
    /// Program and bundle are larger than the machine's flash.
    #[error("program and bundle are {over_bytes} bytes larger than the flash of {board} ({machine})")]
    Flash {
        /// The board.
        board: &'static str,
        /// QEMU's machine.
        machine: &'static str,
        /// Bytes too many.
        over_bytes: u64,
    },
    /// A file or program cannot be used.
    #[error("{what}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The program is none that the firmware package builds.
    #[error("{} is no 32-bit ELF program", .program.display())]
    NotElf {
        /// The program.
        program: PathBuf,
    },
    /// The program did not end.
    #[error("the firmware of {board} did not end within {limit_s} s; it said last: {said}")]
    TimedOut {
        /// The board.
        board: &'static str,
        /// Time given, in seconds.
        limit_s: u64,
        /// The last lines it wrote.
        said: String,
    },
}

fn names() -> Vec<&'static str> {
    EMULATED.iter().map(|board| board.name).collect()
}

impl Emulated {
    /// The board of that name.
    ///
    /// # Errors
    /// [`EmulationError::NoSuchBoard`] lists the names.
    pub fn find(name: &str) -> Result<&'static Self, EmulationError> {
        let found = EMULATED.iter().find(|board| board.name == name);
        found.ok_or_else(|| EmulationError::NoSuchBoard { name: name.to_owned() })
    }

    /// The board with [`Emulated::roomy_machine`] as its machine.
    #[must_use]
    pub const fn roomy(mut self) -> Self {
        self.machine = self.roomy_machine;
        self
    }
}

/// Operators that a program is built with.
#[derive(Debug, Clone, Copy)]
pub enum Operators<'a> {
    /// Every operator.
    All,
    /// Those that a bundle uses.
    Of(&'a Bundle<'a>),
    /// Those that a plan of a bundle uses; the bundle is refused when it is read if other plans use others.
    OfPlan(&'a Bundle<'a>, &'a Plan<'a>),
}

impl Operators<'_> {
    /// What cargo is told.
    fn arguments(self) -> Vec<String> {
        match self.features() {
            Some(features) => vec!["--no-default-features".to_owned(), "--features".to_owned(), features.join(",")],
            None => Vec::new(),
        }
    }

    /// Features to build with; `None` for the default ones.
    #[must_use]
    pub fn features(self) -> Option<Vec<String>> {
        let features = match self {
            Self::All => return None,
            Self::Of(bundle) => bundle.features(),
            Self::OfPlan(bundle, plan) => bundle.features_of(plan),
        };
        Some(features.iter().map(|feature| format!("stitchkit-runtime/{feature}")).collect())
    }
}

/// A package of programs for emulated boards.
#[derive(Debug, Clone)]
pub struct Firmware {
    folder: PathBuf,
    target_dir: PathBuf,
}

impl Firmware {
    /// The package in `folder`. It is built into `CARGO_TARGET_DIR`, else into its own folder `target`.
    ///
    /// # Errors
    /// [`EmulationError::NoFirmware`].
    pub fn at(folder: &Path) -> Result<Self, EmulationError> {
        if !folder.join("Cargo.toml").exists() {
            return Err(EmulationError::NoFirmware { folder: folder.to_owned() });
        }
        let target_dir = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| folder.join("target"), PathBuf::from);
        let target_dir = std::path::absolute(target_dir).map_err(system("cannot find the current folder"))?;
        Ok(Self { folder: folder.to_owned(), target_dir })
    }

    /// Builds `program` for a board with a bundle in its flash; returns the ELF file, which the next build for the same
    /// target may replace.
    ///
    /// # Errors
    /// [`EmulationError::Build`] with the compiler's words, [`EmulationError::Flash`] if all that is too large.
    pub fn build(
        &self,
        board: &Emulated,
        program: &str,
        bundle: &[u8],
        operators: Operators<'_>,
    ) -> Result<PathBuf, EmulationError> {
        let path = self.store(bundle, "stk")?;
        self.cargo(board, program, &operators.arguments(), ("STITCHKIT_BUNDLE", &path))
    }

    /// Builds `program` of the package in folder `package` of this one, for a board, with a network in TensorFlow Lite's format.
    ///
    /// # Errors
    /// As [`Firmware::build`], and [`EmulationError::NoFirmware`] without such a package.
    pub fn build_network(
        &self,
        board: &Emulated,
        package: &str,
        program: &str,
        network: &[u8],
    ) -> Result<PathBuf, EmulationError> {
        let inner = Self { folder: self.folder.join(package), target_dir: self.target_dir.clone() };
        if !inner.folder.join("Cargo.toml").exists() {
            return Err(EmulationError::NoFirmware { folder: inner.folder });
        }
        let path = inner.store(network, "tflite")?;
        inner.cargo(board, program, &[], ("STITCHKIT_TFLITE", &path))
    }

    /// Writes what a program is built with. The name comes from the content, so that what is unchanged needs no new build.
    fn store(&self, content: &[u8], extension: &str) -> Result<PathBuf, EmulationError> {
        let path = self.target_dir.join("bundles").join(format!("{:08x}.{extension}", crc32(content)));
        if std::fs::read(&path).ok().as_deref() != Some(content) {
            let written = std::fs::create_dir_all(self.target_dir.join("bundles"));
            written
                .and_then(|()| std::fs::write(&path, content))
                .map_err(system(format!("cannot write {}", path.display())))?;
        }
        Ok(path)
    }

    fn cargo(
        &self,
        board: &Emulated,
        program: &str,
        arguments: &[String],
        (variable, path): (&str, &Path),
    ) -> Result<PathBuf, EmulationError> {
        let target_dir = self.target_dir_of(board);
        let mut cargo = Command::new("cargo");
        cargo
            .args(["build", "--quiet", "--release", "--bin", program, "--target", board.target])
            .args(arguments)
            .current_dir(&self.folder)
            .env("STITCHKIT_BOARD", board.machine)
            .env(variable, path)
            .env("CARGO_TARGET_DIR", &target_dir)
            .stdin(Stdio::null());
        if !board.flags.is_empty() {
            cargo.env("RUSTFLAGS", board.flags);
        }
        let output = cargo.output().map_err(system("cannot start cargo, which builds the firmware"))?;
        if !output.status.success() {
            return Err(refusal(board, &String::from_utf8_lossy(&output.stderr)));
        }
        Ok(target_dir.join(board.target).join("release").join(program))
    }

    /// Flags of its own give a board a folder of its own: they would rebuild everything for its neighbours.
    fn target_dir_of(&self, board: &Emulated) -> PathBuf {
        match board.flags {
            "" => self.target_dir.clone(),
            flags if flags.contains("-dsp") => self.target_dir.join(format!("{}-nodsp", board.machine)),
            _ => self.target_dir.join(board.machine),
        }
    }
}

fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> EmulationError {
    let what = what.into();
    |source| EmulationError::System { what, source }
}

/// Lines of a log that go into an error message.
const LOG_LINES: usize = 15;

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// What a failed build means.
fn refusal(board: &Emulated, log: &str) -> EmulationError {
    let over = log.lines().filter(|line| line.contains("FLASH")).filter_map(|line| {
        let (_, rest) = line.split_once("overflowed by ")?;
        rest.split(' ').next()?.parse::<u64>().ok()
    });
    match over.max() {
        Some(over_bytes) => EmulationError::Flash { board: board.name, machine: board.machine, over_bytes },
        None => EmulationError::Build { board: board.name, log: last_lines(log) },
    }
}

/// Checks that cargo, QEMU and the compiler's targets for `boards` are installed.
///
/// # Errors
/// [`EmulationError::Missing`] names everything that is not, and how to install it.
pub fn check_installed(boards: &[Emulated]) -> Result<(), EmulationError> {
    let mut missing = Vec::new();
    if !starts("cargo") {
        missing.push("cargo: install Rust from https://rustup.rs".to_owned());
    }
    if !starts("qemu-system-arm") {
        missing.push("qemu-system-arm: apt-get install qemu-system-arm".to_owned());
    }
    let mut targets: Vec<&str> = boards.iter().map(|board| board.target).collect();
    targets.sort_unstable();
    targets.dedup();
    // Without the program that tells, the build will.
    for target in targets.into_iter().filter(|target| has_target(target) == Some(false)) {
        missing.push(format!("the Rust target {target}: rustup target add {target}"));
    }
    if missing.is_empty() { Ok(()) } else { Err(EmulationError::Missing { missing }) }
}

/// Name and version of the compiler, e.g. `rustc 1.95.0`; `None` if it cannot be asked.
#[must_use]
pub fn compiler() -> Option<String> {
    let output = Command::new("rustc").arg("--version").stdin(Stdio::null()).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut words = said.split_whitespace();
    Some(format!("{} {}", words.next()?, words.next()?))
}

fn starts(program: &str) -> bool {
    let version = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    version.is_ok_and(|output| output.status.success())
}

fn has_target(target: &str) -> Option<bool> {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output().ok()?;
    Some(Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_found_by_name_and_others_are_listed() {
        assert_eq!(Emulated::find("qemu-m55").unwrap().machine, "mps3-an547");
        let said = Emulated::find("qemu-m5").unwrap_err().to_string();
        assert!(said.contains("`qemu-m5`") && said.contains("qemu-m0") && said.contains("qemu-m55"), "{said}");
        let m0 = Emulated::find("qemu-m0").unwrap();
        assert_eq!((m0.machine, m0.roomy().machine), ("microbit", "mps2-an385"));
    }

    #[test]
    fn a_program_larger_than_the_flash_is_told_from_one_that_does_not_compile() {
        let board = Emulated::find("qemu-m55").unwrap();
        let log = "rust-lld: error: section '.rodata' will not fit in region 'FLASH': overflowed by 10 bytes\n\
                   rust-lld: error: section '.bundle' will not fit in region 'FLASH': overflowed by 4242 bytes\n";
        let said = refusal(board, log).to_string();
        assert!(said.contains("4242 bytes larger") && said.contains("mps3-an547"), "{said}");
        assert!(matches!(refusal(board, "error[E0425]: nothing"), EmulationError::Build { .. }));
    }

    #[test]
    fn folders_without_a_package_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let said = Firmware::at(folder.path()).unwrap_err().to_string();
        assert!(said.contains("examples/qemu-cortex-m"), "{said}");
    }
}
