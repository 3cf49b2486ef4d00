//! Files that are whole or absent whatever happens while they are written.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::Path;

const PREFIX: &str = ".stitchkit-";
const LOCK: &str = ".stitchkit.lock";

/// Replaces a file: writes beside it, forces the bytes to the disk, and renames.
///
/// # Errors
/// What the file system says; the old file is then still there.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = builder().tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The name has to survive a loss of power as well. Not every system lets a folder be opened for that.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Files as any other program makes them: readable by whom the umask of the user lets read. Temporary files are private
/// otherwise, and a rename keeps that.
fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder
}

/// Holds a folder for this process until it is dropped.
#[derive(Debug)]
pub struct Lock {
    // Closing it unlocks.
    _file: File,
}

/// Takes a folder for this process, by a lock on a file in it that the system gives back however the process ends. `None` if
/// another process has it.
///
/// # Errors
/// What the file system says. Where it has no locks, the folder is simply taken.
pub fn lock(folder: &Path) -> std::io::Result<Option<Lock>> {
    let file = File::create(folder.join(LOCK))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
            Ok(Some(Lock { _file: file }))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// `target` as seen from `folder`; absolute where the two have nothing in common.
#[must_use]
pub fn relative(folder: &Path, target: &Path) -> String {
    let full = |path: &Path| {
        std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
    };
    let (from, to) = (full(folder), full(target));
    let (from_parts, to_parts): (Vec<std::path::Component>, Vec<std::path::Component>) =
        (from.components().collect(), to.components().collect());
    let same = from_parts.iter().zip(&to_parts).take_while(|(a, b)| a == b).count();
    if same <= 1 {
        return to.display().to_string();
    }
    let up = std::iter::repeat_n(std::path::Component::ParentDir, from_parts.len() - same);
    up.chain(to_parts[same..].iter().copied()).collect::<std::path::PathBuf>().display().to_string()
}

/// Removes what a killed process left half written in a folder.
///
/// # Errors
/// What the file system says.
pub fn clean(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) && name.ends_with(".tmp") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_leftovers_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        std::fs::write(folder.path().join(".stitchkit-x1.tmp"), b"half").unwrap();
        clean(folder.path()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_has_the_mode_of_one_made_the_plain_way() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let [plain, ours] = ["plain", "ours"].map(|name| folder.path().join(name));
        std::fs::write(&plain, b"x").unwrap();
        replace(&ours, b"x").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock(folder.path()).unwrap();
        assert!(first.is_some() && lock(folder.path()).unwrap().is_none());
        drop(first);
        assert!(lock(folder.path()).unwrap().is_some());
    }
}
