//! A bundle that is not mapped into memory: its records are copied to RAM once, its constants stay where they are.

use core::fmt;

use super::checksum::Crc32;
use super::directory::{Directory, Header, Section};
use super::layout::{HEADER_BYTES, SectionId};
use super::{Bundle, BundleError, check, crc32};
use crate::storage::{Source, StorageError};

/// Why a bundle could not be opened or verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum OpenError {
    /// Bytes could not be read.
    Storage(StorageError),
    /// The bytes break a rule of the format.
    Bundle(BundleError),
    /// The buffer does not hold the records.
    BufferTooSmall {
        /// Bytes the records take.
        need_bytes: u32,
        /// Bytes given.
        have_bytes: u32,
    },
    /// The bundle has no golden vectors, or none of this index.
    NoSuchVector {
        /// Vectors present.
        vectors: u32,
    },
}

impl From<StorageError> for OpenError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<BundleError> for OpenError {
    fn from(error: BundleError) -> Self {
        Self::Bundle(error)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => error.fmt(f),
            Self::Bundle(error) => error.fmt(f),
            Self::BufferTooSmall { need_bytes, have_bytes } => {
                write!(f, "the bundle's records take {need_bytes} bytes of memory, {have_bytes} given")
            }
            Self::NoSuchVector { vectors } => write!(f, "no such golden vector: the bundle holds {vectors}"),
        }
    }
}

impl core::error::Error for OpenError {}

/// Sections that are copied to RAM. The others stay in storage.
const COPIED: [SectionId; if cfg!(feature = "woven") { 7 } else { 6 }] = [
    SectionId::Meta,
    SectionId::Blocks,
    SectionId::Steps,
    SectionId::Plans,
    SectionId::Fast,
    #[cfg(feature = "woven")]
    SectionId::Woven,
    SectionId::InputLut,
];

/// A bundle in storage whose records lie checked in RAM.
///
/// Holding one tells you: header, section table and all records are intact and obey the rules of the format, and every weight
/// and table range that a step names lies in its section. What the constants hold is not known until
/// [`verify`](Self::verify) has read them all; a run checks the ranges of the multipliers and shifts it loads.
#[derive(Debug, Clone, Copy)]
pub struct StreamedBundle<'a> {
    bundle: Bundle<'a>,
    directory: Directory<'a>,
    /// Where the bundle starts in storage.
    base: u32,
    weights_at: u32,
    tables_at: u32,
    shifts_at: u32,
}

impl<'a> StreamedBundle<'a> {
    /// Bytes of RAM that [`open`](Self::open) needs for the bundle at byte `base` of `source`: the section table, the records of
    /// all blocks, steps and plans, and the pixel tables.
    ///
    /// # Errors
    /// [`OpenError::Storage`], or [`OpenError::Bundle`] if header or section table are not sound.
    pub fn record_bytes(source: &mut impl Source, base: u32) -> Result<u32, OpenError> {
        let header = read_header(source, base)?;
        // The table is read in pieces, so that nothing needs to hold it: its checksum is left to `open`.
        let mut need = header.table_bytes() as u32;
        let mut at = HEADER_BYTES as u32;
        for _ in 0..header.sections() {
            let mut row = [0; super::layout::ENTRY_BYTES];
            source.read(place(base, at)?, &mut row)?;
            at = at.saturating_add(row.len() as u32);
            let copied = |section: &Section| COPIED.iter().any(|id| id.tag() == section.tag);
            need = Section::read(&row).filter(copied).map_or(need, |section| need.saturating_add(section.len_bytes));
        }
        Ok(need)
    }

    /// Copies the records of the bundle at byte `base` of `source` to `buffer` and checks them.
    ///
    /// `base` may be any byte; bytes after the bundle are not read. The buffer needs no alignment.
    ///
    /// # Errors
    /// [`OpenError`]; the source can be opened again.
    pub fn open(source: &mut impl Source, base: u32, buffer: &'a mut [u8]) -> Result<Self, OpenError> {
        let header = read_header(source, base)?;
        let have_bytes = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let table_bytes = header.table_bytes();
        let too_small = |need_bytes| OpenError::BufferTooSmall { need_bytes, have_bytes };
        let Some((table, mut rest)) = buffer.split_at_mut_checked(table_bytes) else {
            return Err(too_small(Self::record_bytes(source, base)?));
        };
        source.read(place(base, HEADER_BYTES as u32)?, table)?;
        let directory = header.directory(table)?;
        place(base, header.bundle_bytes)?;
        let copied = || COPIED.iter().filter_map(|&id| Some((id, directory.find(id)?)));
        let need = copied().fold(table_bytes as u32, |sum, (_, section)| sum.saturating_add(section.len_bytes));
        if need > have_bytes {
            return Err(too_small(need));
        }
        let mut copies: [(SectionId, &'a [u8]); COPIED.len()] = COPIED.map(|id| (id, &[] as &[u8]));
        for (id, section) in copied() {
            let taken = core::mem::take(&mut rest).split_at_mut_checked(section.len_bytes as usize);
            let (copy, later) = taken.ok_or(too_small(need))?;
            source.read(place(base, section.offset)?, copy)?;
            if crc32(copy) != section.crc {
                return Err(BundleError::Checksum { offset: section.offset }.into());
            }
            rest = later;
            if let Some(slot) = copies.iter_mut().find(|(slot, _)| *slot == id) {
                slot.1 = copy;
            }
        }
        let find = |id| {
            let (_, copy) = copies.iter().find(|(copied, _)| *copied == id)?;
            directory.find(id).map(|_| *copy)
        };
        let mut bundle = Bundle::UNREAD;
        bundle.read_records(directory, header.bundle_bytes, find)?;
        check::check(&bundle)?;
        let at = |id| place(base, directory.required(id)?.offset);
        let streamed = Self {
            bundle,
            directory,
            base,
            weights_at: at(SectionId::Weights)?,
            tables_at: at(SectionId::Tables)?,
            shifts_at: at(SectionId::Shifts)?,
        };
        info!("bundle: {}, {} plans, records in {} bytes", bundle.meta().name, bundle.plan_count(), need);
        Ok(streamed)
    }

    /// The records: what to select plans from. Its weights and tables are not mapped.
    #[must_use]
    pub const fn bundle(&self) -> &Bundle<'a> {
        &self.bundle
    }

    /// Reads every section that [`open`](Self::open) left in storage once, in pieces as large as `window`, and compares its checksum.
    ///
    /// # Errors
    /// [`BundleError::Checksum`] names the section's offset in the bundle; [`OpenError::Storage`];
    /// [`OpenError::BufferTooSmall`] if `window` is empty.
    pub fn verify(&self, source: &mut impl Source, window: &mut [u8]) -> Result<(), OpenError> {
        if window.is_empty() {
            return Err(OpenError::BufferTooSmall { need_bytes: 1, have_bytes: 0 });
        }
        let stays = |section: &Section| COPIED.iter().all(|id| id.tag() != section.tag);
        for section in self.directory.sections().filter(stays) {
            let mut crc = Crc32::new();
            let mut at = section.offset;
            let mut left = section.len_bytes as usize;
            while left > 0 {
                let len = left.min(window.len());
                let Some(piece) = window.get_mut(..len) else { break };
                source.read(place(self.base, at)?, piece)?;
                crc.update(piece);
                at = at.saturating_add(len as u32);
                left -= len;
            }
            if crc.finish() != section.crc {
                return Err(BundleError::Checksum { offset: section.offset }.into());
            }
        }
        Ok(())
    }

    /// Number of golden vectors in storage; 0 if there are none.
    ///
    /// # Errors
    /// [`OpenError::Storage`], or [`BundleError::Optional`] if the section does not have the size its content asks for.
    pub fn golden_count(&self, source: &mut impl Source) -> Result<u32, OpenError> {
        let Some(section) = self.directory.find(SectionId::Golden) else { return Ok(0) };
        let mut count = [0; 4];
        source.read(place(self.base, section.offset)?, &mut count)?;
        let count = u32::from_le_bytes(count);
        let meta = self.bundle.meta();
        let outputs = u64::from(self.bundle.plan_count()).saturating_mul(meta.output.elements());
        let bytes = meta.input.elements().saturating_add(outputs).saturating_mul(u64::from(count));
        if section.len_bytes < 4 || count == 0 || bytes != u64::from(section.len_bytes) - 4 {
            return Err(BundleError::Optional(SectionId::Golden).into());
        }
        Ok(count)
    }

    /// Reads golden input `index` to the start of `input`, as many values as the bundle's input has.
    ///
    /// # Errors
    /// [`OpenError::NoSuchVector`], [`OpenError::BufferTooSmall`], or as [`golden_count`](Self::golden_count).
    pub fn read_golden_input(&self, source: &mut impl Source, index: u32, input: &mut [i8]) -> Result<(), OpenError> {
        let len = self.bundle.meta().input.elements();
        self.read_golden(source, index, u64::from(index).saturating_mul(len), len, input)
    }

    /// Reads what plan `plan` returns for golden input `index`, to the start of `output`.
    ///
    /// # Errors
    /// As [`read_golden_input`](Self::read_golden_input).
    pub fn read_golden_output(
        &self,
        source: &mut impl Source,
        plan: u16,
        index: u32,
        output: &mut [i8],
    ) -> Result<(), OpenError> {
        let count = u64::from(self.golden_count(source)?);
        if plan >= self.bundle.plan_count() {
            return Err(OpenError::NoSuchVector { vectors: count as u32 });
        }
        let meta = self.bundle.meta();
        let len = meta.output.elements();
        let before = count.saturating_mul(u64::from(plan)).saturating_add(u64::from(index)).saturating_mul(len);
        let at = count.saturating_mul(meta.input.elements()).saturating_add(before);
        self.read_golden(source, index, at, len, output)
    }

    /// Reads `len` values that lie `at` values after the vector count.
    fn read_golden(
        &self,
        source: &mut impl Source,
        index: u32,
        at: u64,
        len: u64,
        to: &mut [i8],
    ) -> Result<(), OpenError> {
        let vectors = self.golden_count(source)?;
        let section = self.directory.find(SectionId::Golden).filter(|_| index < vectors);
        let section = section.ok_or(OpenError::NoSuchVector { vectors })?;
        let have_bytes = u32::try_from(to.len()).unwrap_or(u32::MAX);
        let to = usize::try_from(len).ok().and_then(|len| to.get_mut(..len));
        let to = to.ok_or(OpenError::BufferTooSmall { need_bytes: len.min(u64::from(u32::MAX)) as u32, have_bytes })?;
        // `golden_count` has shown that the vectors lie inside the section, so this fits.
        let offset = section.offset.saturating_add(4).saturating_add(at.min(u64::from(u32::MAX)) as u32);
        Ok(source.read(place(self.base, offset)?, bytemuck::cast_slice_mut(to))?)
    }

    /// Where byte `offset` of `WGHT` lies in storage. The ranges of a checked step do not overflow; others saturate.
    pub(crate) const fn weight_offset(&self, offset: u32) -> u32 {
        self.weights_at.saturating_add(offset)
    }

    /// Where entry `index` of `TABL` lies in storage.
    pub(crate) const fn table_offset(&self, index: u32) -> u32 {
        self.tables_at.saturating_add(index.saturating_mul(4))
    }

    /// Where entry `index` of `SHFT` lies in storage.
    pub(crate) const fn shift_offset(&self, index: u32) -> u32 {
        self.shifts_at.saturating_add(index)
    }
}

fn read_header(source: &mut impl Source, base: u32) -> Result<Header, OpenError> {
    let mut head = [0; HEADER_BYTES];
    source.read(base, &mut head)?;
    Ok(Header::read(&head, HEADER_BYTES as u32)?)
}

/// Byte `offset` of the bundle, counted from the start of the storage.
fn place(base: u32, offset: u32) -> Result<u32, OpenError> {
    let out = StorageError::OutOfBounds { offset: base, len_bytes: offset, capacity_bytes: u32::MAX };
    base.checked_add(offset).ok_or(OpenError::Storage(out))
}
