//! What this machine can spare, from files under `/proc` and `/sys/fs/cgroup`.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes this process may still allocate: the smallest of the kernel's estimate of available memory, the room left in its
/// control groups and the room left under its address space limit. `None` if none of them can be read.
///
/// A group's room counts reclaimable page cache as used, so the figure errs on the low side.
pub fn free_memory_bytes() -> Option<u64> {
    let available = read("/proc/meminfo").and_then(|text| kilobytes(&text, "MemAvailable:"));
    let groups = read("/proc/self/cgroup").and_then(|text| group_room(&text));
    let address_space = read("/proc/self/limits").zip(read("/proc/self/status"));
    let address_space = address_space.and_then(|(limits, status)| address_space_room(&limits, &status));
    [available, groups, address_space].into_iter().flatten().min()
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Value in bytes of a line such as `MemAvailable:   1234 kB`.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Room in the tightest of the process's version 2 control groups, from its own up to the root.
fn group_room(own_groups: &str) -> Option<u64> {
    let own = own_groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    let group: PathBuf = root.join(own);
    let room = |group: &Path| {
        let number = |name: &str| read(group.join(name))?.trim().parse::<u64>().ok();
        Some(number("memory.max")?.saturating_sub(number("memory.current")?))
    };
    group.ancestors().take_while(|path| path.starts_with(root)).filter_map(room).min()
}

/// Room under `ulimit -v`; `None` if it is unlimited.
fn address_space_room(limits: &str, status: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(kilobytes(status, "VmSize:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_bytes() {
        let text = "MemTotal:  8000 kB\nMemFree:  10 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(kilobytes(text, "MemAvailable:"), Some(2 << 20));
        assert_eq!(kilobytes(text, "SwapFree:"), None);
        assert_eq!(kilobytes("MemAvailable: many kB", "MemAvailable:"), None);
    }

    #[test]
    fn an_address_space_limit_leaves_what_is_not_mapped_yet() {
        let limited = "Limit  Soft  Hard  Units\nMax address space         10485760   unlimited   bytes\n";
        let unlimited = "Max address space         unlimited  unlimited   bytes\n";
        assert_eq!(address_space_room(limited, "VmSize:\t    4096 kB\n"), Some(6 << 20));
        assert_eq!(address_space_room(limited, "VmSize:\t   40960 kB\n"), Some(0));
        assert_eq!(address_space_room(unlimited, "VmSize:\t    4096 kB\n"), None);
    }

    #[test]
    fn version_1_groups_set_no_limit() {
        assert_eq!(group_room("4:memory:/user\n"), None);
    }
}
