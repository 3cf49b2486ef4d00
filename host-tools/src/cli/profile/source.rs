//! Where a board's report comes from.

use std::fs::File;
use std::io::{BufReader, stdin};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use stitchkit::board::protocol::Session;
use stitchkit_runtime::board::SystemClock;
use stitchkit_runtime::bundle::{AlignedBytes, Bundle, crc32};
use stitchkit_runtime::exec::Executor;
use stitchkit_runtime::kernels::Isa;
use stitchkit_runtime::profile::{RECORD_VERSION, Record, TickUnit, trace};

/// Something that runs bundles and reports.
pub enum Source {
    /// A firmware in QEMU.
    Emulated { emulated: &'static Emulated, firmware: PathBuf },
    /// This machine.
    Local,
    /// Reports that were or are being written by boards.
    Reports { paths: Vec<PathBuf>, baud: u32 },
}

/// A board that QEMU has.
#[derive(Debug)]
pub struct Emulated {
    name: &'static str,
    machine: &'static str,
    target: &'static str,
}

const fn emulated(name: &'static str, machine: &'static str, target: &'static str) -> Emulated {
    Emulated { name, machine, target }
}

const EMULATED: [Emulated; 5] = [
    emulated("qemu-m0", "microbit", "thumbv6m-none-eabi"),
    emulated("qemu-m3", "mps2-an385", "thumbv7m-none-eabi"),
    emulated("qemu-m4", "mps2-an386", "thumbv7em-none-eabihf"),
    emulated("qemu-m7", "mps2-an500", "thumbv7em-none-eabihf"),
    emulated("qemu-m33", "mps2-an505", "thumbv8m.main-none-eabihf"),
];

impl Source {
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
            Self::Reports { .. } => bail!("a board that reports by itself runs the bundle that it holds"),
        }
    }
}

fn emulate(board: &Emulated, firmware: &Path, bundle: &[u8]) -> anyhow::Result<Session> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let path = folder.path().join("bundle.stk");
    std::fs::write(&path, bundle).with_context(|| format!("cannot write {}", path.display()))?;
    let target_dir = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target_dir = std::path::absolute(target_dir.unwrap_or_else(|| firmware.join("target")))?;
    let status = Command::new("cargo")
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
    let mut clock = SystemClock::default();
    let mut lines = vec![
        Record::Start { version: RECORD_VERSION }.to_string(),
        Record::Board("this-machine").to_string(),
        Record::Kernels(Isa::best().name()).to_string(),
        Record::Clock { hz: 1_000_000_000, unit: TickUnit::Time }.to_string(),
        Record::Bundle { bytes: bytes.len() as u32, crc: crc32(bytes), plans: bundle.plan_count() }.to_string(),
    ];
    for plan in 0..bundle.plan_count() {
        let arena_bytes = bundle.plan(plan).map_or(0, |plan| plan.arena_bytes as usize);
        let mut arena = AlignedBytes::new(arena_bytes);
        let mut executor = Executor::new(&bundle, plan, arena.as_mut_slice())?;
        for _ in 0..REPETITIONS {
            trace(&mut executor, &mut clock, &mut |record: Record<'_>| lines.push(record.to_string()))?;
        }
    }
    lines.push(Record::End.to_string());
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
