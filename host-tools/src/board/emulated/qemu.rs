//! Running a program in QEMU.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::{Emulated, EmulationError, last_lines, system};

/// Longest run of a program. No bench takes a tenth of it.
const LIMIT: Duration = Duration::from_secs(1200);

/// How virtual time follows instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// 8 ns per instruction: about 100 MHz.
    Coarse,
    /// 64 ns per instruction, more than a tick of any board's clock: single instructions can be told apart.
    Fine,
}

/// Runs a program until it ends; returns what it wrote and its exit status, `None` if QEMU was killed.
///
/// # Errors
/// [`EmulationError::System`] if QEMU does not start, [`EmulationError::TimedOut`] after 20 minutes.
pub fn run(
    board: &Emulated,
    program: &Path,
    arguments: &[&str],
    counting: Counting,
) -> Result<(String, Option<i32>), EmulationError> {
    let mut semihosting = "enable=on,target=native,arg=program".to_owned();
    for argument in arguments {
        semihosting += ",arg=";
        semihosting += argument;
    }
    let shift = match counting {
        Counting::Coarse => "shift=3",
        Counting::Fine => "shift=6",
    };
    let mut child = Command::new("qemu-system-arm")
        .args(["-M", board.machine, "-nographic", "-monitor", "none", "-serial", "none", "-icount", shift])
        .args(["-semihosting-config", &semihosting, "-kernel"])
        .arg(program)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // QEMU's semihosting console writes to standard error.
        .stderr(Stdio::piped())
        .spawn()
        .map_err(system("cannot start qemu-system-arm; Debian has it in the package qemu-system-arm"))?;
    let pipe = child.stderr.take();
    let (sender, receiver) = channel();
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        let read = pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut said));
        // The receiver is gone only after the time limit.
        let _ = sender.send(());
        read.map(|_| String::from_utf8_lossy(&said).into_owned())
    });
    let is_late = receiver.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout);
    if is_late {
        // It may have ended just now.
        let _ = child.kill();
    }
    let status = child.wait().map_err(system("cannot wait for qemu-system-arm"))?;
    let said = reader.join().unwrap_or_else(|_| Ok(String::new())).map_err(system("cannot read what QEMU writes"))?;
    if is_late {
        let said = last_lines(&said);
        return Err(EmulationError::TimedOut { board: board.name, limit_s: LIMIT.as_secs(), said });
    }
    Ok((said, status.code()))
}
