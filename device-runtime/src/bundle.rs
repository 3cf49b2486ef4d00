//! The bundle: one file with the weights of a whole family stored once and a list of plans that refer to them.
//!
//! [`Bundle::parse`] checks everything once: checksums, section bounds, every step's geometry and constants, every plan's
//! layout. After that all accessors are infallible in effect; those that decode a record return `Option` only because an index
//! may be out of range. The format is specified in `host-tools/docs/format.md`.

#[cfg(feature = "std")]
mod aligned;
pub(crate) mod check;
mod checksum;
mod decode;
mod directory;
mod error;
mod footprint;
mod grid;
mod layout;
pub mod operators;
mod records;
mod streamed;
mod walk;
#[cfg(feature = "std")]
pub mod write;

#[cfg(feature = "std")]
pub use aligned::AlignedBytes;
pub use checksum::crc32;
pub use error::{BundleError, PlanFault, StepFault};
pub use footprint::Footprint;
pub use grid::Clearance;
#[cfg(feature = "threads")]
pub(crate) use grid::{Along, Grid};
pub(crate) use grid::{Rows, rows_spanned, rows_under};
pub use layout::{FLAG_REQUIRED, MAGIC, MAX_SECTIONS, SECTION_ALIGN, SectionId, VERSION_MAJOR, VERSION_MINOR};
pub use records::{Block, ChannelTables, InPlace, Meta, Op, Placement, Plan, Quant, Step};
pub use streamed::{OpenError, StreamedBundle};
pub use walk::{PlacedStep, Route, Steps};

use core::ops::Range;

use decode::{Record, decode, decode_into};
use directory::{Directory, Header};
use layout::{HEADER_BYTES, u32_at};

use crate::kernels::{Conv2d, Requant, Shape};

/// What [`Bundle::parse_with`] checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Check {
    /// Everything: checksums of all sections, all records, all plan layouts.
    #[default]
    Full,
    /// Everything but the checksums of weights, tables, shifts, pixel tables and golden vectors, the bulk of the bytes.
    ///
    /// For bundles that something else has vouched for since they were written, such as a boot loader that verified the
    /// image. A flipped bit in a weight then goes unnoticed: it changes results, never memory safety.
    Structure,
}

impl Check {
    /// True if the section with this tag is to be summed.
    fn sums(self, tag: [u8; 4]) -> bool {
        let records = [
            SectionId::Meta,
            SectionId::Blocks,
            SectionId::Steps,
            SectionId::Plans,
            SectionId::Fast,
            #[cfg(feature = "woven")]
            SectionId::Woven,
        ];
        self == Self::Full || records.iter().any(|id| id.tag() == tag)
    }
}

/// A bundle whose checksums, records and plan layouts have been verified; a view on bytes that stay where they are.
///
/// Holding one tells you: every weight, table and arena range that a step or plan names exists, no step overwrites what it
/// reads, and every multiplier, shift and clamp is in the range the format allows. It does *not* tell you who made the
/// bundle, nor that accumulators cannot overflow: the exporter proves that; on a hostile bundle they wrap, the same everywhere.
#[derive(Debug, Clone, Copy)]
pub struct Bundle<'a> {
    len_bytes: u32,
    meta: Meta<'a>,
    blocks: RecordList<'a>,
    steps: RecordList<'a>,
    plans: RecordList<'a>,
    /// Section `FAST`: four bytes per plan. Without feature `two-memories` nobody asks for it.
    fast: Option<&'a [u8]>,
    /// Section `WOVN`: a bit per step.
    #[cfg(feature = "woven")]
    woven: &'a [u8],
    extents: ConstantExtents,
    constants: Option<Constants<'a>>,
    input_lut: &'a [i8],
    golden: Option<Golden<'a>>,
}

impl<'a> Bundle<'a> {
    /// Before anything is read.
    const UNREAD: Self = Self {
        len_bytes: 0,
        meta: Meta {
            name: "",
            labels: "",
            input: Shape::new(0, 0, 0),
            input_quant: Quant { scale: 0.0, zero_point: 0 },
            output: Shape::new(0, 0, 0),
        },
        blocks: RecordList::EMPTY,
        steps: RecordList::EMPTY,
        plans: RecordList::EMPTY,
        fast: None,
        #[cfg(feature = "woven")]
        woven: &[],
        extents: ConstantExtents { weights: 0, tables: 0, shifts: 0 },
        constants: None,
        input_lut: &[],
        golden: None,
    };

    /// Checks `bytes` and returns the view. `bytes` must start on a 16-byte boundary; trailing bytes are ignored, so a
    /// flash region may be larger than its bundle.
    ///
    /// # Errors
    /// [`BundleError`] names the first rule that failed and where.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BundleError> {
        Self::parse_with(bytes, Check::Full)
    }

    /// As [`Bundle::parse`], with the choice of what to check.
    ///
    /// # Errors
    /// As [`Bundle::parse`].
    #[inline(never)]
    pub fn parse_with(bytes: &'a [u8], check: Check) -> Result<Self, BundleError> {
        // Read where it is returned: a copy of the bundle takes code and stack.
        let mut parsed = Ok(Self::UNREAD);
        let read = match &mut parsed {
            Ok(bundle) => bundle.read(bytes, check),
            Err(_) => Ok(()),
        };
        if let Err(error) = read {
            parsed = Err(error);
        }
        parsed
    }

    #[inline(always)]
    fn read(&mut self, bytes: &'a [u8], check: Check) -> Result<(), BundleError> {
        if bytes.as_ptr().align_offset(SECTION_ALIGN) != 0 {
            return Err(BundleError::Misaligned);
        }
        let have_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let header = Header::read(bytes, have_bytes)?;
        let need_bytes = header.bundle_bytes;
        let bytes = bytes.get(..need_bytes as usize).ok_or(BundleError::Truncated { have_bytes, need_bytes })?;
        let table = bytes.get(HEADER_BYTES..).and_then(|rest| rest.get(..header.table_bytes()));
        let directory = header.directory(table.ok_or(BundleError::SectionTable { index: 0 })?)?;
        for section in directory.sections() {
            if check.sums(section.tag) && section.of(bytes).map(crc32) != Some(section.crc) {
                return Err(BundleError::Checksum { offset: section.offset });
            }
        }
        let find = |id| directory.find(id).and_then(|section| section.of(bytes));
        self.read_records(directory, need_bytes, find)?;
        // They were found before.
        let present = |id| find(id).unwrap_or(&[]);
        let tables = bytemuck::try_cast_slice(present(SectionId::Tables))
            .map_err(|_| BundleError::Record { section: SectionId::Tables, index: 0 })?;
        let weights = bytemuck::cast_slice(present(SectionId::Weights));
        self.constants = Some(Constants { weights, tables, shifts: present(SectionId::Shifts) });
        check::check(self)?;
        info!(
            "bundle: {}, {} plans, {} blocks, {} bytes",
            self.meta.name,
            self.plan_count(),
            self.block_count(),
            need_bytes
        );
        self.find_golden(find(SectionId::Golden))
    }

    /// Reads all but constants and golden vectors, without checks. `find` gives the bytes of the sections with records.
    #[inline(always)]
    fn read_records(
        &mut self,
        directory: Directory<'_>,
        len_bytes: u32,
        find: impl Fn(SectionId) -> Option<&'a [u8]>,
    ) -> Result<(), BundleError> {
        self.len_bytes = len_bytes;
        let section = |id| find(id).ok_or(BundleError::MissingSection(id));
        let mut meta = decode::Reader::new(section(SectionId::Meta)?);
        self.meta = Meta::read(&mut meta);
        meta.finish(()).ok_or(BundleError::Record { section: SectionId::Meta, index: 0 })?;
        let lists = [&mut self.blocks, &mut self.steps, &mut self.plans];
        for (list, id) in lists.into_iter().zip([SectionId::Blocks, SectionId::Steps, SectionId::Plans]) {
            *list = RecordList::read(section(id)?).ok_or(BundleError::Record { section: id, index: 0 })?;
        }
        let table_bytes = directory.required(SectionId::Tables)?.len_bytes;
        if !table_bytes.is_multiple_of(4) {
            return Err(BundleError::Record { section: SectionId::Tables, index: 0 });
        }
        self.extents = ConstantExtents {
            weights: directory.required(SectionId::Weights)?.len_bytes,
            tables: table_bytes / 4,
            shifts: directory.required(SectionId::Shifts)?.len_bytes,
        };
        if cfg!(feature = "two-memories") {
            self.fast = find(SectionId::Fast);
        }
        #[cfg(feature = "woven")]
        {
            self.woven = find(SectionId::Woven).unwrap_or(&[]);
        }
        self.input_lut = bytemuck::cast_slice(find(SectionId::InputLut).unwrap_or(&[]));
        Ok(())
    }

    fn find_golden(&mut self, section: Option<&'a [u8]>) -> Result<(), BundleError> {
        let wrong = BundleError::Optional(SectionId::Golden);
        let Some(bytes) = section else { return Ok(()) };
        let count = u32_at(bytes, 0).ok_or(wrong)?;
        let (input_len, output_len) = (self.meta.input.len(), self.meta.output.len());
        let vectors = bytes.get(4..).ok_or(wrong)?;
        // In one step where it can overflow: a tensor is shorter than 2^31, and there are fewer than 2^16 plans.
        let per_vector = u64::from(self.plan_count()) * output_len as u64 + input_len as u64;
        if count == 0 || u64::from(count).checked_mul(per_vector) != Some(vectors.len() as u64) {
            return Err(wrong);
        }
        self.golden =
            Some(Golden { vectors: bytemuck::cast_slice(vectors), count: count as usize, input_len, output_len });
        Ok(())
    }

    /// Name, labels, input and output.
    #[must_use]
    pub const fn meta(&self) -> &Meta<'a> {
        &self.meta
    }

    /// Bytes of the whole bundle, as its header states.
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        self.len_bytes as usize
    }

    /// Number of plans, at least 1.
    #[must_use]
    pub const fn plan_count(&self) -> u16 {
        self.plans.count()
    }

    /// Number of blocks.
    #[must_use]
    pub const fn block_count(&self) -> u16 {
        self.blocks.count()
    }

    /// Number of stored steps.
    #[must_use]
    pub const fn step_count(&self) -> u16 {
        self.steps.count()
    }

    /// Plan `index`; `None` past the end.
    #[must_use]
    pub fn plan(&self, index: u16) -> Option<Plan<'a>> {
        let mut plan: Plan<'a> = self.plans.get(index)?;
        plan.fast_bytes = self.fast_bytes(index);
        Some(plan)
    }

    /// Bytes of plan `index` that were laid out for a fast memory.
    fn fast_bytes(&self, index: u16) -> u32 {
        self.fast
            .filter(|_| cfg!(feature = "two-memories"))
            .and_then(|fast| u32_at(fast, usize::from(index) * 4))
            .unwrap_or(0)
    }

    /// Block `index`; `None` past the end.
    #[must_use]
    pub fn block(&self, index: u16) -> Option<Block<'a>> {
        self.blocks.get(index)
    }

    /// Step `index`; `None` past the end.
    #[must_use]
    pub fn step(&self, index: u16) -> Option<Step> {
        self.steps.get(index)
    }

    /// Decodes step `index`, if there is one, to a place that exists. Returns false, with anything in `step`, if it fails.
    #[inline(never)]
    fn read_step(&self, index: Option<u16>, step: &mut Step) -> bool {
        index.and_then(|index| self.steps.bytes(index)).is_some_and(|record| decode_into(record, step))
    }

    /// True if the filters of step `index`, a fully connected layer, are stored [woven in pairs](crate::kernels::woven_s8).
    #[must_use]
    pub const fn is_woven(&self, index: u16) -> bool {
        #[cfg(feature = "woven")]
        if let Some((_, [bits, ..])) = self.woven.split_at_checked(index as usize / 8) {
            return *bits >> (index % 8) & 1 != 0;
        }
        let _ = index;
        false
    }

    /// Number of the operator of step `index` in the format, built in or not; `None` past the end.
    fn operator_of(&self, index: u16) -> Option<u8> {
        const INPUTS: usize = 2;
        self.steps.bytes(index)?.get(INPUTS).copied()
    }

    /// Names of the operators of all steps, in the order of [`operators::OPERATORS`]: what a runtime must be built with.
    pub fn operators(&self) -> impl Iterator<Item = &'static str> + '_ {
        let used = move |number: u8| (0..self.step_count()).any(|step| self.operator_of(step) == Some(number));
        (0u8..).zip(operators::OPERATORS).filter(move |(number, _)| used(*number)).map(|(_, name)| name)
    }

    /// All plans, by rising cost.
    pub fn plans(&self) -> impl Iterator<Item = Plan<'a>> + '_ {
        (0..self.plan_count()).filter_map(|i| self.plan(i))
    }

    /// The plan's steps with their places in the arena, in order of execution.
    #[must_use]
    pub fn steps_of(&self, plan: &Plan<'a>) -> Steps<'a> {
        self.steps_on(&Route::from(plan))
    }

    /// The steps of the plan that `route` was taken from.
    #[must_use]
    pub const fn steps_on(&self, route: &Route<'a>) -> Steps<'a> {
        Steps::new(self, route)
    }

    /// What running plan `index` takes; `None` past the end. Decodes less than [`plan`](Self::plan).
    #[must_use]
    pub fn route(&self, index: u16) -> Option<Route<'a>> {
        Route::decode(self.plans.bytes(index)?, self.fast_bytes(index))
    }

    /// True if weights and tables are mapped into memory: always, unless the bundle belongs to a [`StreamedBundle`].
    #[must_use]
    pub const fn is_in_place(&self) -> bool {
        self.constants.is_some()
    }

    /// Section `WGHT`; empty unless [`is_in_place`](Self::is_in_place).
    #[must_use]
    pub fn weights(&self) -> &'a [i8] {
        self.constants.map_or(&[], |constants| constants.weights)
    }

    /// Section `TABL`; empty unless [`is_in_place`](Self::is_in_place).
    #[must_use]
    pub fn tables(&self) -> &'a [i32] {
        self.constants.map_or(&[], |constants| constants.tables)
    }

    /// Section `SHFT`; empty unless [`is_in_place`](Self::is_in_place).
    #[must_use]
    pub fn shifts(&self) -> &'a [u8] {
        self.constants.map_or(&[], |constants| constants.shifts)
    }

    /// Golden vectors, if the bundle holds any.
    #[must_use]
    pub const fn golden(&self) -> Option<Golden<'a>> {
        self.golden
    }

    /// Table from pixel to int8 for input channel `channel`; `None` if the bundle holds no such tables.
    #[must_use]
    pub fn input_lut(&self, channel: usize) -> Option<&'a [i8; 256]> {
        let at = channel.checked_mul(256)?;
        self.input_lut.get(at..)?.first_chunk()
    }

    /// Turns interleaved pixels (HWC, one byte each) into the int8 input. Returns `false`, and writes nothing, if the
    /// bundle has no pixel tables or a length differs from the input's.
    pub fn quantize_pixels(&self, pixels: &[u8], input: &mut [i8]) -> bool {
        let channels = usize::from(self.meta.input.c);
        let len = self.meta.input.len();
        if pixels.len() != len || input.len() != len || self.input_lut.len() != channels * 256 || channels == 0 {
            return false;
        }
        for (from, to) in pixels.chunks_exact(channels).zip(input.chunks_exact_mut(channels)) {
            for ((pixel, value), table) in from.iter().zip(to).zip(self.input_lut.chunks_exact(256)) {
                *value = table.get(usize::from(*pixel)).copied().unwrap_or(0);
            }
        }
        true
    }

    /// Weights of a convolution step, or a lookup table.
    pub(crate) fn weights_at(&self, offset: u32, len: usize) -> Option<&'a [i8]> {
        self.constants?.weights.get(range(offset, len)?)
    }

    /// Table entries of a step.
    pub(crate) fn table_at(&self, index: u32, len: usize) -> Option<&'a [i32]> {
        self.constants?.tables.get(range(index, len)?)
    }

    /// Requantization tables of a convolution step.
    pub(crate) fn requant(&self, geometry: &Conv2d, tables: &ChannelTables) -> Option<Requant<'a>> {
        let channels = usize::from(geometry.output.c);
        Some(Requant {
            bias: self.table_at(tables.bias, channels)?,
            multiplier: self.table_at(tables.multiplier, channels)?,
            shift: self.constants?.shifts.get(range(tables.shift, channels)?)?,
            landing: tables.landing,
        })
    }
}

/// The bulk sections, mapped into memory.
#[derive(Debug, Clone, Copy)]
struct Constants<'a> {
    weights: &'a [i8],
    tables: &'a [i32],
    shifts: &'a [u8],
}

/// Lengths of the bulk sections, in bytes and, for tables, in entries.
#[derive(Debug, Clone, Copy)]
struct ConstantExtents {
    weights: u32,
    tables: u32,
    shifts: u32,
}

impl ConstantExtents {
    fn have_weights(self, offset: u32, len: usize) -> bool {
        range(offset, len).is_some_and(|range| range.end <= self.weights as usize)
    }

    fn have_table(self, index: u32, len: usize) -> bool {
        range(index, len).is_some_and(|range| range.end <= self.tables as usize)
    }

    fn have_shifts(self, offset: u32, len: usize) -> bool {
        range(offset, len).is_some_and(|range| range.end <= self.shifts as usize)
    }
}

/// `start .. start + len`, if that can be counted.
#[inline]
fn range(start: u32, len: usize) -> Option<Range<usize>> {
    let start = usize::try_from(start).ok()?;
    Some(start..start.checked_add(len)?)
}

/// Inputs and expected outputs stored in a bundle, so that a board can verify itself.
#[derive(Debug, Clone, Copy)]
pub struct Golden<'a> {
    vectors: &'a [i8],
    count: usize,
    input_len: usize,
    output_len: usize,
}

impl<'a> Golden<'a> {
    /// Number of inputs.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Input `index`.
    #[must_use]
    pub fn input(&self, index: usize) -> Option<&'a [i8]> {
        if index >= self.count {
            return None;
        }
        self.vectors.get(index * self.input_len..)?.get(..self.input_len)
    }

    /// What plan `plan` returns for input `index`.
    #[must_use]
    pub fn output(&self, plan: u16, index: usize) -> Option<&'a [i8]> {
        if index >= self.count {
            return None;
        }
        let before = usize::from(plan).checked_mul(self.count)?.checked_add(index)?.checked_mul(self.output_len)?;
        self.vectors.get(self.count * self.input_len..)?.get(before..)?.get(..self.output_len)
    }
}

/// A list of postcard records: count, one end offset per record, then the records.
#[derive(Debug, Clone, Copy)]
struct RecordList<'a> {
    /// Where each record ends, from the start of the first, little-endian.
    ends: &'a [[u8; 4]],
    records: &'a [u8],
}

impl<'a> RecordList<'a> {
    const EMPTY: Self = Self { ends: &[], records: &[] };

    fn read(section: &'a [u8]) -> Option<Self> {
        let (count, body) = section.split_first_chunk()?;
        let count = u16::try_from(u32::from_le_bytes(*count)).ok()?;
        let (ends, records) = body.split_at_checked(usize::from(count) * 4)?;
        Some(Self { ends: ends.as_chunks().0, records })
    }

    const fn count(&self) -> u16 {
        self.ends.len() as u16
    }

    fn get<T: Record<'a>>(&self, index: u16) -> Option<T> {
        decode(self.bytes(index)?)
    }

    /// The undecoded record.
    #[inline(never)]
    fn bytes(&self, index: u16) -> Option<&'a [u8]> {
        let at = usize::from(index);
        let end = u32::from_le_bytes(*self.ends.get(at)?);
        let start =
            at.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| u32::from_le_bytes(*end));
        self.records.get(start as usize..end as usize)
    }
}
