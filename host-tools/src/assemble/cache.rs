//! Results of networks that ran, kept in a file between calls. A key stands for everything a result depends on.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::family::{FILE_NAME, Family};
use crate::files;
use crate::stitch::Candidate;
use crate::study::{Findings, Settings};

/// Studies a file holds at most; the one used longest ago makes room.
const MOST_ENTRIES: usize = 32;
const SCHEMA: u32 = 2;

/// Right answers of one candidate on the evaluation images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluated {
    /// The candidate.
    pub id: u32,
    /// Right answers of the float network.
    pub float_correct: usize,
    /// Right answers of the int8 plan.
    pub int8_correct: usize,
    /// Images tried.
    pub images: usize,
}

/// What is known under one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    key: String,
    /// The study.
    pub findings: Findings,
    /// Candidates that were evaluated.
    pub evaluated: Vec<Evaluated>,
}

/// A cache file in memory.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    path: Option<PathBuf>,
    entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct File {
    schema: u32,
    entries: Vec<Entry>,
}

impl Cache {
    /// A cache that forgets.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The cache in a file; empty if there is none, or one that cannot be understood.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let text = std::fs::read(path).unwrap_or_default();
        let file: Option<File> = serde_json::from_slice(&text).ok().filter(|file: &File| file.schema == SCHEMA);
        Self { path: Some(path.to_owned()), entries: file.map_or_else(Vec::new, |file| file.entries) }
    }

    /// What is known under a key; the entry counts as used.
    pub fn get(&mut self, key: &str) -> Option<&mut Entry> {
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        let entry = self.entries.remove(at);
        self.entries.insert(0, entry);
        self.entries.first_mut()
    }

    /// Replaces what is known under a key, unless it is known already.
    pub fn put(&mut self, key: &str, findings: &Findings) {
        if self.get(key).is_some_and(|entry| entry.findings == *findings) {
            return;
        }
        self.entries.retain(|entry| entry.key != key);
        self.entries.insert(0, Entry { key: key.to_owned(), findings: findings.clone(), evaluated: Vec::new() });
        self.entries.truncate(MOST_ENTRIES);
    }

    /// Writes the file, by way of a temporary one in the same folder. Without a file nothing happens.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&self) -> std::io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        files::replace(path, &serde_json::to_vec(&File { schema: SCHEMA, entries: self.entries.clone() })?)
    }
}

/// The key of a study: 128 bits over the contents of `family.toml` and of the models, size and time of change of the image
/// files, the variant, the candidates, the settings and this program's version.
#[must_use]
pub fn key(family: &Family, candidates: &[Candidate], settings: &Settings) -> String {
    let mut hash = Hash::new();
    hash.add(env!("CARGO_PKG_VERSION").as_bytes());
    hash.add(&std::fs::read(family.folder.join(FILE_NAME)).unwrap_or_default());
    hash.add(format!("{:?}", family.config).as_bytes());
    for anchor in &family.anchors {
        hash.add(&std::fs::read(&anchor.path).unwrap_or_default());
    }
    if let Some(layers) = &family.config.stitching.layers {
        hash.add(&std::fs::read(family.folder.join(layers)).unwrap_or_default());
    }
    let calibration = family.config.calibration.as_ref().map(|c| &c.data);
    for data in calibration.into_iter().chain(family.config.evaluation.as_ref().map(|e| &e.data)) {
        hash.add(format!("{:?}", stamp(&family.folder.join(data))).as_bytes());
    }
    hash.add(format!("{:?} {settings:?}", family.variant).as_bytes());
    for candidate in candidates {
        hash.add(candidate.path.as_bytes());
    }
    hash.digits()
}

/// Size and time of change of a file, and of the folders below a folder.
fn stamp(path: &Path) -> Vec<(u64, Option<std::time::SystemTime>)> {
    let Ok(meta) = std::fs::metadata(path) else { return Vec::new() };
    let mut stamps = vec![(meta.len(), meta.modified().ok())];
    if meta.is_dir() {
        let mut below: Vec<PathBuf> =
            std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
        below.sort();
        stamps.extend(below.iter().flat_map(|folder| stamp(folder)));
    }
    stamps
}

/// FNV-1a of 128 bits over length-prefixed parts.
pub(crate) struct Hash(u128);

impl Hash {
    pub(crate) const fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    /// 32 hexadecimal digits.
    pub(crate) fn digits(&self) -> String {
        format!("{:032x}", self.0)
    }

    pub(crate) fn add(&mut self, part: &[u8]) {
        for &byte in (part.len() as u64).to_le_bytes().iter().chain(part) {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
}
