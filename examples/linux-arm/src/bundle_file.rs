//! The bytes of a bundle file, mapped or copied, and a guard against changes under a map.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use stitchkit_runtime::bundle::AlignedBytes;

use crate::args::Storage;
use crate::failure::Failure;

/// A bundle file's bytes on a 16-byte boundary.
#[derive(Debug)]
pub struct BundleFile {
    path: PathBuf,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    /// The file stays open, so that [`BundleFile::is_unchanged`] sees this file whatever its path names by now.
    Mapped {
        map: Mmap,
        file: File,
        stamp: Stamp,
    },
    Copied(AlignedBytes),
}

/// What changes when a file is written or truncated, and does not when it is renamed or unlinked.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self { bytes: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) })
    }
}

impl BundleFile {
    /// Maps the file, read-only, or reads it. Pages of a map are read on first use and can be dropped again under memory
    /// pressure; a copy does not depend on the file any more.
    ///
    /// # Errors
    /// [`Failure::Failed`] names the file.
    pub fn open(path: &Path, storage: Storage) -> Result<Self, Failure> {
        let bytes = match storage {
            Storage::Copied => std::fs::read(path).map(|bytes| Bytes::Copied(AlignedBytes::copy_of(&bytes))),
            Storage::Mapped => map(path),
        };
        let bytes = bytes.map_err(|error| Failure::at(path, error))?;
        Ok(Self { path: path.to_owned(), bytes })
    }

    /// The path it was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the bytes are still those that were checked: false once a mapped file was written or truncated in place. A
    /// change after this call is not seen; truncation then ends the process by SIGBUS.
    pub fn is_unchanged(&self) -> bool {
        match &self.bytes {
            Bytes::Mapped { file, stamp, .. } => Stamp::of(file).is_ok_and(|now| now == *stamp),
            Bytes::Copied(_) => true,
        }
    }
}

impl AsRef<[u8]> for BundleFile {
    fn as_ref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped { map, .. } => map,
            Bytes::Copied(copy) => copy.as_slice(),
        }
    }
}

fn map(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    let stamp = Stamp::of(&file)?;
    // SAFETY: the map is only read. Whoever truncates the file meanwhile ends this process by SIGBUS; replacing it by rename
    // is safe.
    let map = unsafe { Mmap::map(&file) }?;
    Ok(Bytes::Mapped { map, file, stamp })
}
