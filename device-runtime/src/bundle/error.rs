//! Why a bundle was refused.

use core::fmt;

use super::layout::SectionId;
use super::operators;

/// The first rule a bundle breaks. Small and `Copy`; the numbers say where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum BundleError {
    /// The bytes do not start on a 16-byte boundary.
    Misaligned,
    /// The file ends before the bytes that a field promises.
    Truncated {
        /// Bytes present.
        have_bytes: u32,
        /// Bytes promised.
        need_bytes: u32,
    },
    /// The first eight bytes are not a bundle's.
    NotABundle,
    /// Written by a newer major version of the format.
    Version {
        /// Version found.
        found: u16,
        /// Version this reader knows.
        known: u16,
    },
    /// A checksum over header, table or section does not match.
    Checksum {
        /// Byte offset of what was summed.
        offset: u32,
    },
    /// A section lies outside the file, overlaps another, is misaligned or appears twice.
    SectionTable {
        /// Index in the section table.
        index: u16,
    },
    /// A section this reader must know but does not.
    UnknownRequiredSection {
        /// Its four-byte tag.
        tag: [u8; 4],
    },
    /// A section without which no plan can run is absent.
    MissingSection(SectionId),
    /// A record does not decode, or a record list is inconsistent.
    Record {
        /// Section that holds it.
        section: SectionId,
        /// Index of the record.
        index: u16,
    },
    /// A step's operator is not built into this runtime, see [`super::operators`], or is of a later format.
    Operator {
        /// Index of the step.
        index: u16,
        /// Number of the operator in the format.
        number: u8,
    },
    /// A block's steps, shapes or inputs do not fit together.
    Block {
        /// Index of the block.
        index: u16,
    },
    /// A step's geometry, weights or tables are impossible.
    Step {
        /// Index of the step.
        index: u16,
        /// What is wrong.
        fault: StepFault,
    },
    /// A plan's blocks do not chain, or its layout leaves its arena or overlaps.
    Plan {
        /// Index of the plan.
        index: u16,
        /// What is wrong.
        fault: PlanFault,
    },
    /// An optional section does not have the size its content asks for.
    Optional(SectionId),
}

/// What is wrong with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum StepFault {
    /// An extent, stride, dilation, group count or permutation is impossible.
    Geometry,
    /// Weights or a table lie outside their section.
    Constants,
    /// A multiplier, shift, offset or clamp is outside the range where 32-bit arithmetic is exact.
    Arithmetic,
    /// An input refers to a value that does not exist yet or has another shape.
    Input,
}

/// What is wrong with a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PlanFault {
    /// It names no block, or one that does not exist.
    Blocks,
    /// Neighbouring blocks have different shapes, or the ends differ from the bundle's input and output.
    Chain,
    /// Its layout does not hold one placement per step.
    Layout,
    /// Something lies outside its arena.
    OutsideArena,
    /// An output or scratch overlaps what the same step reads.
    Overlap,
    /// Its fast part is no multiple of 16 bytes, larger than its arena, or ends inside a tensor or scratch area.
    Split,
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned => f.write_str("the bundle must start on a 16-byte boundary"),
            Self::Truncated { have_bytes, need_bytes } => {
                write!(f, "truncated: {have_bytes} bytes present, {need_bytes} promised")
            }
            Self::NotABundle => f.write_str("not a stitchkit bundle"),
            Self::Version { found, known } => {
                write!(f, "format version {found}, this reader knows version {known}")
            }
            Self::Checksum { offset } => write!(f, "checksum mismatch at byte {offset}: the file is damaged"),
            Self::SectionTable { index } => write!(f, "entry {index} of the section table is impossible"),
            Self::UnknownRequiredSection { tag } => {
                write!(f, "needs section `{}`, which this reader does not know", tag.escape_ascii())
            }
            Self::MissingSection(id) => write!(f, "section {} is missing", id.tag().escape_ascii()),
            Self::Record { section, index } => {
                write!(f, "record {index} of section {} does not decode", section.tag().escape_ascii())
            }
            Self::Operator { index, number } => match operators::name(*number) {
                Some(name) => {
                    write!(f, "step {index} is `{name}`, which this runtime was built without: feature op-{name}")
                }
                None => write!(f, "step {index} is operator {number}, which this runtime does not know"),
            },
            Self::Block { index } => write!(f, "block {index}: steps, shapes or inputs do not fit together"),
            Self::Step { index, fault } => write!(f, "step {index}: impossible {}", fault.noun()),
            Self::Plan { index, fault } => write!(f, "plan {index}: {}", fault.sentence()),
            Self::Optional(id) => write!(f, "section {} has the wrong size", id.tag().escape_ascii()),
        }
    }
}

impl core::error::Error for BundleError {}

impl StepFault {
    const fn noun(self) -> &'static str {
        match self {
            Self::Geometry => "geometry",
            Self::Constants => "weights or tables",
            Self::Arithmetic => "multiplier, shift or clamp",
            Self::Input => "input",
        }
    }
}

impl PlanFault {
    const fn sentence(self) -> &'static str {
        match self {
            Self::Blocks => "names no block, or one that does not exist",
            Self::Chain => "blocks do not chain from the bundle's input to its output",
            Self::Layout => "does not hold one placement per step",
            Self::OutsideArena => "something lies outside the arena",
            Self::Overlap if cfg!(feature = "overlap") => "a step overwrites what it reads",
            Self::Overlap => "a step overwrites what it reads, for which the runtime needs its feature overlap",
            Self::Split => "something lies in the fast and in the main memory at once",
        }
    }
}
