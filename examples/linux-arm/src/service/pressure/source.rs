//! Where pressure on memory is read: the kernel's stall information, or free memory.
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

/// A source of pressure.
#[derive(Debug)]
pub enum Source {
    /// A pressure file with a trigger.
    Stalls(File),
    /// Less free memory than this.
    Free {
        /// Bytes.
        low_bytes: u64,
        /// Time between two looks.
        poll: Duration,
    },
    /// None.
    Off,
}

impl Source {
    /// Opens the source asked for. `auto` takes the first that works, and says in the log which. `calm` bounds the time
    /// between two looks at free memory.
    pub fn open(wanted: PressureSource, low_bytes: u64, calm: Duration) -> Self {
        let free = Self::Free { low_bytes, poll: (calm / 4).clamp(Duration::from_millis(10), POLL) };
        match wanted {
            PressureSource::Off => Self::Off,
            PressureSource::Free => free,
            PressureSource::Psi | PressureSource::Auto => match files().find_map(trigger) {
                Some((path, file)) => {
                    log!("memory pressure: {}", path.display());
                    Self::Stalls(file)
                }
                None if wanted == PressureSource::Psi => {
                    log!("memory pressure: this kernel or sandbox offers no stall information; not watched");
                    Self::Off
                }
                None => {
                    log!("memory pressure: no stall information here; below {low_bytes} bytes of free memory");
                    free
                }
            },
        }
    }

    /// The file to poll for priority events, if there is one.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Stalls(file) => Some(file.as_fd()),
            _ => None,
        }
    }

    /// Time after which to ask [`is_low`](Self::is_low) again.
    pub const fn poll(&self) -> Option<Duration> {
        match self {
            Self::Free { poll, .. } => Some(*poll),
            _ => None,
        }
    }

    /// Whether free memory is low now; never for other sources.
    pub fn is_low(&self) -> bool {
        match self {
            Self::Free { low_bytes, .. } => machine::free_memory_bytes().is_some_and(|free| free < *low_bytes),
            _ => false,
        }
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
