//! Where a board's report comes from.

use std::fs::File;
use std::io::{BufReader, stdin};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use stitchkit::board::protocol::Session;
use stitchkit_runtime::board::SystemClock;
use stitchkit_runtime::bundle::{AlignedBytes, Bundle};
use stitchkit_runtime::kernels::Isa;
use stitchkit_runtime::profile::{Measuring, PROBE_BYTES, Record, TickUnit, report};

use super::device::DeviceProgram;

/// Something that runs bundles and reports.
pub enum Source {
    /// A firmware in QEMU.
    Emulated { emulated: &'static Emulated, firmware: PathBuf },
    /// This machine.
    Local,
    /// `stitchkit-device`, started here or elsewhere.
    Device(DeviceProgram),
    /// Reports that were or are being written by boards.
    Reports { paths: Vec<PathBuf>, baud: u32 },
}

/// A board that QEMU has.
#[derive(Debug)]
pub struct Emulated {
    name: &'static str,
    machine: &'static str,
    target: &'static str,
    /// Compiler flags in place of those of the firmware's configuration; empty to keep them.
    flags: &'static str,
}

const fn emulated(name: &'static str, machine: &'static str, target: &'static str) -> Emulated {
    Emulated { name, machine, target, flags: "" }
}

const EMULATED: [Emulated; 6] = [
    emulated("qemu-m0", "microbit", "thumbv6m-none-eabi"),
    emulated("qemu-m3", "mps2-an385", "thumbv7m-none-eabi"),
    emulated("qemu-m4", "mps2-an386", "thumbv7em-none-eabihf"),
    emulated("qemu-m7", "mps2-an500", "thumbv7em-none-eabihf"),
    emulated("qemu-m33", "mps2-an505", "thumbv8m.main-none-eabihf"),
    Emulated { flags: "-C target-cpu=cortex-m55", ..emulated("qemu-m55", "mps3-an547", "thumbv8m.main-none-eabihf") },
];

impl Source {
    /// Whether there is an emulated board of that name.
    pub fn is_emulated(name: &str) -> bool {
        EMULATED.iter().any(|board| board.name == name)
    }

    /// The emulated board of that name.
    pub fn emulated(name: &str, firmware: &Path) -> anyhow::Result<Self> {
        let names: Vec<&str> = EMULATED.iter().map(|board| board.name).collect();
        let board = EMULATED.iter().find(|board| board.name == name);
        let Some(emulated) = board else { bail!("no emulated board `{name}`; there are {}", names.join(", ")) };
        if !firmware.join("Cargo.toml").exists() {
            bail!("{} holds no firmware; give the folder examples/qemu-cortex-m with --firmware", firmware.display());
        }
        Ok(Self::Emulated { emulated, firmware: firmware.to_owned() })
    }

    /// Runs a bundle and returns what the board said.
    pub fn run(&self, bundle: &[u8]) -> anyhow::Result<Session> {
        match self {
            Self::Emulated { emulated, firmware } => emulate(emulated, firmware, bundle),
            Self::Local => local(bundle),
            Self::Device(program) => program.run(bundle),
            Self::Reports { .. } => bail!("a board that reports by itself runs the bundle that it holds"),
        }
    }
}

fn emulate(board: &Emulated, firmware: &Path, bundle: &[u8]) -> anyhow::Result<Session> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let path = folder.path().join("bundle.stk");
    std::fs::write(&path, bundle).with_context(|| format!("cannot write {}", path.display()))?;
    let target_dir = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let mut target_dir = std::path::absolute(target_dir.unwrap_or_else(|| firmware.join("target")))?;
    let mut cargo = Command::new("cargo");
    if !board.flags.is_empty() {
        // A folder of its own: other flags would rebuild everything for its neighbours.
        target_dir.push(board.machine);
        cargo.env("RUSTFLAGS", board.flags);
    }
    let status = cargo
        .args(["build", "--quiet", "--release", "--bin", "profile", "--target", board.target])
        .current_dir(firmware)
        .env("STITCHKIT_BOARD", board.machine)
        .env("STITCHKIT_BUNDLE", &path)
        .env("CARGO_TARGET_DIR", &target_dir)
        .status()
        .context("cannot start cargo, which builds the firmware")?;
    if !status.success() {
        bail!("the firmware does not build for {}", board.name);
    }
    let program = target_dir.join(board.target).join("release/profile");
    let mut child = Command::new("qemu-system-arm")
        .args(["-M", board.machine, "-nographic", "-monitor", "none", "-serial", "none", "-icount", "shift=3"])
        .args(["-semihosting-config", "enable=on,target=native,arg=profile,arg=ticks=instructions", "-kernel"])
        .arg(program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // QEMU's semihosting console writes to standard error.
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start qemu-system-arm; Debian has it in qemu-system-arm")?;
    let output = child.stderr.take().context("no output of QEMU")?;
    let session = Session::read(BufReader::new(output));
    // After the report there is nothing more to wait for.
    let _ = child.kill();
    let _ = child.wait();
    Ok(session?)
}

/// Repetitions on a machine that other programs share.
const REPETITIONS: u32 = 15;

fn local(bytes: &[u8]) -> anyhow::Result<Session> {
    let bundle = Bundle::parse(bytes)?;
    let arena_bytes = bundle.plans().map(|plan| plan.arena_bytes as usize).max().unwrap_or(0).max(PROBE_BYTES);
    let mut arena = AlignedBytes::new(arena_bytes);
    let measuring =
        Measuring { board: "this-machine", unit: TickUnit::Time, isa: Isa::best(), repetitions: REPETITIONS };
    let mut lines = Vec::new();
    let mut sink = |record: Record<'_>| match record {
        // A host does not know what the arena on a product will be.
        Record::Memory { .. } => {}
        record => lines.push(record.to_string()),
    };
    let mut clock = SystemClock::default();
    report((bytes, &bundle), measuring, arena.as_mut_slice(), &mut clock, || (0, 0), &mut sink)?;
    Ok(Session::read(lines.join("\n").as_bytes())?)
}

/// Reads a report up to its end.
pub fn read_report(path: &Path, baud: u32) -> anyhow::Result<Session> {
    let cannot = || format!("{}: cannot be read", path.display());
    if path == Path::new("-") {
        return Ok(Session::read(stdin().lock())?);
    }
    if path.starts_with("/dev/tty") {
        let status = Command::new("stty")
            .arg("-F")
            .arg(path)
            .args([&baud.to_string(), "raw", "-echo"])
            .status()
            .context("cannot start stty, which sets the serial line's speed")?;
        if !status.success() {
            bail!("{}: the speed cannot be set to {baud} bits per second", path.display());
        }
    }
    let file = File::open(path).with_context(cannot)?;
    Session::read(BufReader::new(file)).with_context(|| path.display().to_string())
}
