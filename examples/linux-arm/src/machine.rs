//! What this machine can spare, from files under `/proc` and `/sys/fs/cgroup`.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes this process may still allocate: the smallest of
///
/// * the kernel's estimate of available memory (`MemAvailable`),
/// * the room below `memory.max` and `memory.high` in its version 2 control groups, up to the root; page cache that the
///   kernel can drop (`inactive_file`) counts as room,
/// * the room below its limits on address space (`ulimit -v`) and on data (`ulimit -d`).
///
/// `None` if none of them can be read.
pub fn free_memory_bytes() -> Option<u64> {
    Files { root: "/".into() }.free_memory_bytes()
}

/// The name of this machine as the network knows it, in characters that a report may hold.
pub fn name() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
    let name: String = text.trim().chars().filter(allowed).collect();
    if name.is_empty() { "linux".to_owned() } else { name }
}

/// The kernel's files below a root.
struct Files {
    root: PathBuf,
}

impl Files {
    fn free_memory_bytes(&self) -> Option<u64> {
        let available = self.read("proc/meminfo").and_then(|text| kilobytes(&text, "MemAvailable:"));
        let groups = self.read("proc/self/cgroup").and_then(|text| self.group_room(&text));
        let limits = self.read("proc/self/limits").zip(self.read("proc/self/status"));
        let [address_space, data] = [("Max address space", "VmSize:"), ("Max data size", "VmData:")].map(|keys| {
            let (limits, status) = limits.as_ref()?;
            limit_room(limits, status, keys)
        });
        [available, groups, address_space, data].into_iter().flatten().min()
    }

    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    /// Room in the tightest of the process's version 2 control groups, from its own up to the root.
    fn group_room(&self, own_groups: &str) -> Option<u64> {
        let own = own_groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let top = self.root.join("sys/fs/cgroup");
        let group = top.join(own);
        group.ancestors().take_while(|path| path.starts_with(&top)).filter_map(|path| self.room_in(path)).min()
    }

    /// Room below both limits of one group; `None` if it has neither.
    fn room_in(&self, group: &Path) -> Option<u64> {
        let number = |name: &str| self.read(group.join(name))?.trim().parse::<u64>().ok();
        // `max` stands for no limit and is no number.
        let limit = [number("memory.max"), number("memory.high")].into_iter().flatten().min()?;
        let droppable = self.read(group.join("memory.stat")).and_then(|stat| field(&stat, "inactive_file "));
        let used = number("memory.current")?.saturating_sub(droppable.unwrap_or(0));
        Some(limit.saturating_sub(used))
    }
}

/// The first number of the line that starts with `key`.
fn field(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Value in bytes of a line such as `MemAvailable:   1234 kB`.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    field(text, key)?.checked_mul(1024)
}

/// Room below a soft resource limit, given the names of the limit and of what it limits; `None` if it is unlimited.
fn limit_room(limits: &str, status: &str, (limit, used): (&str, &str)) -> Option<u64> {
    Some(field(limits, limit)?.saturating_sub(kilobytes(status, used)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A root with these files, removed when dropped.
    struct Root(Files);

    impl Root {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("stitchkit-machine-{name}-{}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(Files { root })
        }

        fn with(self, path: &str, text: &str) -> Self {
            fs::write(self.0.root.join(path), text).unwrap();
            self
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0.root);
        }
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:  8192000 kB\nMemAvailable:    1048576 kB\n");
    const OWN: (&str, &str) = ("proc/self/cgroup", "4:memory:/user\n0::/system.slice/stitchkit.service\n");
    const GROUP: &str = "sys/fs/cgroup/system.slice/stitchkit.service";

    #[test]
    fn without_limits_the_kernels_estimate_counts() {
        let root = Root::new("plain", &[MEMINFO]);
        assert_eq!(root.0.free_memory_bytes(), Some(1024 * MIB));
        let root = root.with("proc/meminfo", "MemAvailable: many kB\n");
        assert_eq!(root.0.free_memory_bytes(), None);
    }

    #[test]
    fn the_tighter_of_a_groups_limits_counts_and_page_cache_does_not() {
        let files = [
            MEMINFO,
            OWN,
            (&format!("{GROUP}/memory.max"), "max\n"),
            (&format!("{GROUP}/memory.high"), "max\n"),
            (&format!("{GROUP}/memory.current"), "104857600\n"),
        ];
        let root = Root::new("group", &files);
        assert_eq!(root.0.free_memory_bytes(), Some(1024 * MIB), "a group without limits");
        let root = root.with(&format!("{GROUP}/memory.max"), "268435456\n");
        assert_eq!(root.0.free_memory_bytes(), Some(156 * MIB));
        let root = root.with(&format!("{GROUP}/memory.high"), "134217728\n");
        assert_eq!(root.0.free_memory_bytes(), Some(28 * MIB));
        let root = root.with(&format!("{GROUP}/memory.stat"), "anon 52428800\nfile 52428800\ninactive_file 41943040\n");
        assert_eq!(root.0.free_memory_bytes(), Some(68 * MIB));
        let root = root.with(&format!("{GROUP}/memory.current"), "999999999999\n");
        assert_eq!(root.0.free_memory_bytes(), Some(0));
    }

    #[test]
    fn a_limit_of_a_group_above_holds_too() {
        let files = [
            MEMINFO,
            OWN,
            (&format!("{GROUP}/memory.max"), "536870912"),
            (&format!("{GROUP}/memory.current"), "0"),
            ("sys/fs/cgroup/system.slice/memory.max", "67108864"),
            ("sys/fs/cgroup/system.slice/memory.current", "16777216"),
        ];
        assert_eq!(Root::new("above", &files).0.free_memory_bytes(), Some(48 * MIB));
    }

    #[test]
    fn resource_limits_leave_what_is_not_in_use() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max data size             unlimited            unlimited            bytes\n\
                      Max address space         unlimited            unlimited            bytes\n";
        let status = ("proc/self/status", "VmSize:\t    4096 kB\nVmData:\t    1024 kB\n");
        let root = Root::new("limits", &[MEMINFO, ("proc/self/limits", limits), status]);
        assert_eq!(root.0.free_memory_bytes(), Some(1024 * MIB));
        let address_space =
            limits.replace("Max address space         unlimited", "Max address space         10485760 ");
        let root = root.with("proc/self/limits", &address_space);
        assert_eq!(root.0.free_memory_bytes(), Some(6 * MIB));
        let both = address_space.replace("Max data size             unlimited", "Max data size             3145728  ");
        let root = root.with("proc/self/limits", &both);
        assert_eq!(root.0.free_memory_bytes(), Some(2 * MIB));
        let root = root.with("proc/self/status", "VmSize:\t 4096 kB\nVmData:\t 40960 kB\n");
        assert_eq!(root.0.free_memory_bytes(), Some(0));
    }

    #[test]
    fn this_machine_has_a_name_without_spaces() {
        assert!(!name().is_empty() && name().chars().all(|c| !c.is_whitespace()));
    }
}
