//! Where a board's report comes from.

use std::fs::File;
use std::io::{BufReader, stdin};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use stitchkit::board::emulated::{self, Counting, Emulated, Firmware, Operators};
use stitchkit::board::protocol::Session;
use stitchkit_runtime::board::SystemClock;
use stitchkit_runtime::bundle::{AlignedBytes, Bundle};
use stitchkit_runtime::kernels::Isa;
use stitchkit_runtime::profile::{Measuring, PROBE_BYTES, Record, TickUnit, report};

use super::device::DeviceProgram;

/// Something that runs bundles and reports.
pub enum Source {
    /// A firmware in QEMU.
    Emulated { board: &'static Emulated, firmware: Firmware },
    /// This machine.
    Local,
    /// `stitchkit-device`, started here or elsewhere.
    Device(DeviceProgram),
    /// Reports that were or are being written by boards.
    Reports { paths: Vec<PathBuf>, baud: u32 },
}

impl Source {
    /// Whether there is an emulated board of that name.
    pub fn is_emulated(name: &str) -> bool {
        Emulated::find(name).is_ok()
    }

    /// The emulated board of that name.
    pub fn emulated(name: &str, firmware: &Path) -> anyhow::Result<Self> {
        let board = Emulated::find(name)?;
        emulated::check_installed(&[*board])?;
        Ok(Self::Emulated { board, firmware: Firmware::at(firmware)? })
    }

    /// Runs a bundle and returns what the board said.
    pub fn run(&self, bundle: &[u8]) -> anyhow::Result<Session> {
        match self {
            Self::Emulated { board, firmware } => {
                let program = firmware.build(board, "profile", bundle, Operators::All)?;
                let (said, _) = emulated::run(board, &program, &["ticks=instructions"], Counting::Coarse)?;
                Ok(Session::read(said.as_bytes())?)
            }
            Self::Local => local(bundle),
            Self::Device(program) => program.run(bundle),
            Self::Reports { .. } => bail!("a board that reports by itself runs the bundle that it holds"),
        }
    }
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
