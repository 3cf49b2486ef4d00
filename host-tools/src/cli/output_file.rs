//! Files that appear only when they are complete.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use stitchkit::files;
use stitchkit::shard::Part;

/// Checks, before any work is done, that `path` can name a file to be written.
pub fn check(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() {
        bail!("{} is a folder; name the file to write", path.display());
    }
    if !folder_of(path).is_dir() {
        bail!("the folder of {} does not exist", path.display());
    }
    Ok(())
}

/// Writes beside the target and renames, so that no half-written file is ever seen.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    files::replace(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a part of a measurement to a file, or to standard output without one.
pub fn write_part(path: Option<&Path>, part: &Part) -> anyhow::Result<()> {
    let text = part.to_lines()?;
    match path {
        Some(path) => write(path, text.as_bytes()),
        None => std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output"),
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
