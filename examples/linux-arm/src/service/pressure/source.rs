//! Where pressure on memory is read: the kernel's stall information, and free memory.
//!
//! A trigger on a pressure file makes the kernel signal stalls through poll(2), so an idle service costs nothing. See
//! "PSI - Pressure Stall Information" in the kernel's documentation.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use crate::args::PressureSource;
use crate::{log, machine};

/// Signal when tasks waited 100 ms for memory within 2 s. A process without privileges may use windows of whole 2 s only.
const TRIGGER: &[u8] = b"some 100000 2000000\0";
/// Time between two looks at free memory.
const POLL: Duration = Duration::from_secs(1);

/// Free memory that counts as low, at most, if nothing is asked for.
const LOW_BYTES: u64 = 32 << 20;

/// Sources of pressure.
#[derive(Debug)]
pub struct Source {
    /// A pressure file with a trigger.
    stalls: Option<File>,
    free: Option<FreeMemory>,
}

/// A look at free memory now and then.
#[derive(Debug, Clone, Copy)]
struct FreeMemory {
    /// Less than this is pressure.
    low_bytes: u64,
    /// Time between two looks.
    poll: Duration,
}

impl Source {
    /// Opens the sources asked for and says in the log which; `auto` takes all that work. `low_bytes` defaults to a quarter of
    /// what is free now, at most 32 MiB. `calm` bounds the time between two looks at free memory.
    pub fn open(wanted: PressureSource, low_bytes: Option<u64>, calm: Duration) -> Self {
        let (asks_stalls, asks_free) = match wanted {
            PressureSource::Auto => (true, true),
            PressureSource::Psi => (true, false),
            PressureSource::Free => (false, true),
            PressureSource::Off => (false, false),
        };
        let stalls = if asks_stalls { files().find_map(trigger) } else { None };
        match &stalls {
            Some((path, _)) => log!("memory pressure: {}", path.display()),
            None if asks_stalls => log!("memory pressure: this kernel or sandbox offers no stall information"),
            None => {}
        }
        let by_default = || machine::free_memory_bytes().map_or(0, |free| (free / 4).min(LOW_BYTES));
        let poll = (calm / 4).clamp(Duration::from_millis(10), POLL);
        let free = asks_free.then(|| FreeMemory { low_bytes: low_bytes.unwrap_or_else(by_default), poll });
        if let Some(FreeMemory { low_bytes, .. }) = free {
            log!("memory pressure: less than {low_bytes} bytes of free memory");
        }
        Self { stalls: stalls.map(|(_, file)| file), free }
    }

    /// The file to poll for priority events, if there is one.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.stalls.as_ref().map(File::as_fd)
    }

    /// Closes that file, after the kernel has withdrawn it.
    pub fn close_file(&mut self) {
        self.stalls = None;
    }

    /// Time after which to ask [`is_low`](Self::is_low) again.
    pub fn poll(&self) -> Option<Duration> {
        self.free.map(|free| free.poll)
    }

    /// Whether free memory is low now, as far as it is looked at.
    pub fn is_low(&self) -> bool {
        let is_low = |free: FreeMemory| machine::free_memory_bytes().is_some_and(|bytes| bytes < free.low_bytes);
        self.free.is_some_and(is_low)
    }
}

/// Pressure files, the most specific first: the one a service manager names, the control group's, the machine's.
fn files() -> impl Iterator<Item = PathBuf> {
    let named = std::env::var_os("MEMORY_PRESSURE_WATCH").map(PathBuf::from);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).map(|group| {
        let mut path = PathBuf::from("/sys/fs/cgroup");
        path.push(group);
        path.join("memory.pressure")
    });
    [named, own, Some("/proc/pressure/memory".into())].into_iter().flatten()
}

/// Sets the trigger on a pressure file.
fn trigger(path: PathBuf) -> Option<(PathBuf, File)> {
    if !fs::metadata(&path).ok()?.is_file() {
        return None;
    }
    let mut file = OpenOptions::new().read(true).write(true).open(&path).ok()?;
    file.write_all(TRIGGER).ok()?;
    Some((path, file))
}
