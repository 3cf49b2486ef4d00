//! Opening a bundle from the command line.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use stitchkit::infer::Loaded;
use stitchkit_runtime::bundle::AlignedBytes;

/// A bundle read into memory, with its path for messages.
#[derive(Debug, Clone)]
pub struct BundleFile {
    path: PathBuf,
    bytes: Arc<AlignedBytes>,
}

impl BundleFile {
    /// Reads the file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let read = std::fs::read(path).with_context(|| format!("cannot read bundle {}", path.display()))?;
        Ok(Self { path: path.to_owned(), bytes: Arc::new(AlignedBytes::copy_of(&read)) })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// Checks the bytes and returns the view.
    pub fn load(&self) -> anyhow::Result<Loaded<'_>> {
        Loaded::new(&self.bytes).with_context(|| format!("{} cannot be used", self.path.display()))
    }
}
