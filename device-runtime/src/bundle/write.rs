//! Bundle writer, for hosts.

use std::string::String;
use std::vec::Vec;

use serde::Serialize;

use super::layout::{
    ENTRY_BYTES, FLAG_REQUIRED, HEADER_BYTES, MAGIC, SECTION_ALIGN, SectionId, VERSION_MAJOR, VERSION_MINOR, entry,
    header,
};
use super::records::{Block, Meta, Placement, Plan, Quant, Step};
use super::{Bundle, BundleError, crc32};
use crate::kernels::Shape;

/// Everything a bundle holds, owned.
#[derive(Debug, Clone)]
pub struct BundleParts {
    /// Family name.
    pub name: String,
    /// Class names; may be empty.
    pub labels: Vec<String>,
    /// Extents of the input.
    pub input: Shape,
    /// Quantization of the input.
    pub input_quant: Quant,
    /// Extents of the output.
    pub output: Shape,
    /// Blocks with their steps.
    pub blocks: Vec<BlockParts>,
    /// Plans by rising cost.
    pub plans: Vec<PlanParts>,
    /// Steps whose filters are [woven](crate::kernels::woven), by position among the steps of all blocks.
    pub woven: Vec<u16>,
    /// Section `WGHT`.
    pub weights: Vec<i8>,
    /// Section `TABL`.
    pub tables: Vec<i32>,
    /// Section `SHFT`.
    pub shifts: Vec<u8>,
    /// Section `ILUT`: 256 entries per input channel, or empty for none.
    pub input_lut: Vec<i8>,
    /// Section `GOLD`; its outputs are in the order of `plans`.
    pub golden: Option<GoldenParts>,
}

/// A block to be written; see [`Block`].
#[derive(Debug, Clone)]
pub struct BlockParts {
    /// Name for people.
    pub name: String,
    /// Extents of the block's input.
    pub input: Shape,
    /// Steps, at least one; the last produces the block's output.
    pub steps: Vec<Step>,
}

/// A plan to be written; see [`Plan`] for the fields.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct PlanParts {
    pub stitch: u32,
    pub path: String,
    pub blocks: Vec<u16>,
    pub layout: Vec<Placement>,
    pub input_offset: u32,
    pub arena_bytes: u32,
    pub arena_lower_bound_bytes: u32,
    pub macs: u64,
    pub params: u64,
    pub cost: u64,
    pub accuracy_ppm: u32,
    pub float_accuracy_ppm: u32,
    pub output_quant: Quant,
    pub fast_bytes: u32,
}

/// Inputs and each plan's expected outputs.
#[derive(Debug, Clone)]
pub struct GoldenParts {
    /// Quantized inputs.
    pub inputs: Vec<Vec<i8>>,
    /// `outputs[plan][input]`.
    pub outputs: Vec<Vec<Vec<i8>>>,
}

/// Serialises a bundle and checks the result as a reader would.
///
/// # Errors
/// [`BundleError`] as [`Bundle::parse`] gives it, if the parts do not form a valid bundle.
pub fn write(parts: &BundleParts) -> Result<Vec<u8>, BundleError> {
    let mut sections: Vec<(SectionId, Vec<u8>)> = Vec::new();
    let labels = parts.labels.join("\n");
    let meta = Meta {
        name: &parts.name,
        labels: &labels,
        input: parts.input,
        input_quant: parts.input_quant,
        output: parts.output,
    };
    sections.push((SectionId::Meta, postcard_bytes(&meta, SectionId::Meta)?));

    let mut steps = Vec::new();
    let mut blocks = Vec::new();
    for block in &parts.blocks {
        let output = block.steps.last().map_or(block.input, |s| s.op.output());
        let record = Block {
            name: &block.name,
            first_step: steps.len() as u16,
            steps: block.steps.len() as u16,
            input: block.input,
            output,
        };
        blocks.push(postcard_bytes(&record, SectionId::Blocks)?);
        for step in &block.steps {
            steps.push(postcard_bytes(step, SectionId::Steps)?);
        }
    }
    sections.push((SectionId::Blocks, record_list(&blocks)));
    sections.push((SectionId::Steps, record_list(&steps)));
    let plans = parts.plans.iter().map(plan_bytes).collect::<Result<Vec<_>, _>>()?;
    sections.push((SectionId::Plans, record_list(&plans)));
    if parts.plans.iter().any(|plan| plan.fast_bytes > 0) {
        let splits = parts.plans.iter().flat_map(|plan| plan.fast_bytes.to_le_bytes());
        sections.push((SectionId::Fast, splits.collect()));
    }
    if !parts.woven.is_empty() {
        let mut bits = vec![0u8; steps.len().div_ceil(8)];
        for &step in &parts.woven {
            *bits
                .get_mut(usize::from(step) / 8)
                .ok_or(BundleError::Record { section: SectionId::Woven, index: step })? |= 1 << (step % 8);
        }
        sections.push((SectionId::Woven, bits));
    }
    sections.push((SectionId::Weights, bytemuck::cast_slice(&parts.weights).to_vec()));
    sections.push((SectionId::Tables, bytemuck::cast_slice(&parts.tables).to_vec()));
    sections.push((SectionId::Shifts, parts.shifts.clone()));
    if !parts.input_lut.is_empty() {
        sections.push((SectionId::InputLut, bytemuck::cast_slice(&parts.input_lut).to_vec()));
    }
    if let Some(golden) = &parts.golden {
        sections.push((SectionId::Golden, golden_bytes(golden)));
    }
    let bytes = assemble(&sections);
    let mut aligned = super::AlignedBytes::new(bytes.len());
    aligned.as_mut_slice().copy_from_slice(&bytes);
    Bundle::parse(aligned.as_slice())?;
    Ok(bytes)
}

fn postcard_bytes<T: Serialize>(record: &T, section: SectionId) -> Result<Vec<u8>, BundleError> {
    postcard::to_stdvec(record).map_err(|_| BundleError::Record { section, index: 0 })
}

fn plan_bytes(plan: &PlanParts) -> Result<Vec<u8>, BundleError> {
    let blocks: Vec<u8> = plan.blocks.iter().flat_map(|b| b.to_le_bytes()).collect();
    let layout: Vec<u8> =
        plan.layout.iter().flat_map(|p| [p.output.to_le_bytes(), p.scratch.to_le_bytes()].concat()).collect();
    let record = Plan {
        stitch: plan.stitch,
        path: &plan.path,
        blocks: &blocks,
        layout: &layout,
        input_offset: plan.input_offset,
        arena_bytes: plan.arena_bytes,
        arena_lower_bound_bytes: plan.arena_lower_bound_bytes,
        macs: plan.macs,
        params: plan.params,
        cost: plan.cost,
        accuracy_ppm: plan.accuracy_ppm,
        float_accuracy_ppm: plan.float_accuracy_ppm,
        output_quant: plan.output_quant,
        fast_bytes: plan.fast_bytes,
    };
    postcard_bytes(&record, SectionId::Plans)
}

/// Count, one end offset per record, then the records.
fn record_list(records: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = (records.len() as u32).to_le_bytes().to_vec();
    let mut end = 0u32;
    for record in records {
        end += record.len() as u32;
        bytes.extend(end.to_le_bytes());
    }
    for record in records {
        bytes.extend(record);
    }
    bytes
}

fn golden_bytes(golden: &GoldenParts) -> Vec<u8> {
    let mut bytes = (golden.inputs.len() as u32).to_le_bytes().to_vec();
    for vector in golden.inputs.iter().chain(golden.outputs.iter().flatten()) {
        bytes.extend(vector.iter().map(|&v| v as u8));
    }
    bytes
}

fn assemble(sections: &[(SectionId, Vec<u8>)]) -> Vec<u8> {
    let mut table = Vec::new();
    let mut body = Vec::new();
    let body_start = (HEADER_BYTES + sections.len() * ENTRY_BYTES).next_multiple_of(SECTION_ALIGN);
    for (id, bytes) in sections {
        let mut row = [0u8; ENTRY_BYTES];
        row[entry::ID..entry::FLAGS].copy_from_slice(&id.tag());
        let flags = if id.is_required() { FLAG_REQUIRED } else { 0 };
        row[entry::FLAGS..entry::OFFSET].copy_from_slice(&flags.to_le_bytes());
        row[entry::OFFSET..entry::LEN].copy_from_slice(&((body_start + body.len()) as u32).to_le_bytes());
        row[entry::LEN..entry::CRC].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        row[entry::CRC..].copy_from_slice(&crc32(bytes).to_le_bytes());
        table.extend(row);
        body.extend(bytes);
        body.resize(body.len().next_multiple_of(SECTION_ALIGN), 0);
    }
    let mut head = [0u8; HEADER_BYTES];
    head[..header::VERSION_MAJOR].copy_from_slice(&MAGIC);
    head[header::VERSION_MAJOR..header::VERSION_MINOR].copy_from_slice(&VERSION_MAJOR.to_le_bytes());
    head[header::VERSION_MINOR..header::FILE_BYTES].copy_from_slice(&VERSION_MINOR.to_le_bytes());
    head[header::FILE_BYTES..header::SECTIONS].copy_from_slice(&((body_start + body.len()) as u32).to_le_bytes());
    head[header::SECTIONS..header::TABLE_CRC].copy_from_slice(&(sections.len() as u32).to_le_bytes());
    head[header::TABLE_CRC..header::RESERVED].copy_from_slice(&crc32(&table).to_le_bytes());
    let crc = crc32(&head[..header::HEADER_CRC]);
    head[header::HEADER_CRC..].copy_from_slice(&crc.to_le_bytes());

    let mut bytes = head.to_vec();
    bytes.extend(table);
    bytes.resize(body_start, 0);
    bytes.extend(body);
    bytes
}
