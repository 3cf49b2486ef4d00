//! A plan's steps with their places in the arena.

use core::ops::Range;

use super::layout::{u16_at, u32_at};
use super::records::{Block, Placement, Plan, Step};
use super::{Bundle, PlanFault, RecordList};

/// One step of a plan, resolved to ranges of the arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedStep {
    /// Index of the block in the bundle.
    pub block: u16,
    /// Index of the step in section `STEP`.
    pub index: u16,
    /// The step.
    pub step: Step,
    /// Where its inputs lie; the second is empty for one-input steps.
    pub inputs: [Range<usize>; 2],
    /// Where its output lies.
    pub output: Range<usize>,
    /// Its scratch; empty for steps without.
    pub scratch: Range<usize>,
}

/// Iterator over the [`PlacedStep`]s of a plan. On a checked bundle it yields no error.
#[derive(Debug, Clone)]
pub struct Steps<'a> {
    blocks: RecordList<'a>,
    steps: RecordList<'a>,
    plan_blocks: &'a [u8],
    layout: &'a [u8],
    arena_bytes: u32,
    /// Position in the plan's block list.
    block_at: usize,
    /// Step within that block.
    step_at: u16,
    /// Ordinal in the plan of that block's first step.
    base: usize,
    /// Where the current block's input lies.
    block_input: u32,
}

impl<'a> Steps<'a> {
    /// Keeps only what it walks through: a copy of the bundle would take several hundred bytes of stack.
    pub(super) const fn new(bundle: &Bundle<'a>, plan: &Plan<'a>) -> Self {
        Self {
            blocks: bundle.blocks,
            steps: bundle.steps,
            plan_blocks: plan.blocks,
            layout: plan.layout,
            arena_bytes: plan.arena_bytes,
            block_at: 0,
            step_at: 0,
            base: 0,
            block_input: plan.input_offset,
        }
    }

    fn placement(&self, ordinal: usize) -> Option<Placement> {
        let at = ordinal.checked_mul(8)?;
        Some(Placement { output: u32_at(self.layout, at)?, scratch: u32_at(self.layout, at.checked_add(4)?)? })
    }

    /// Offset of value `value` of the current block.
    fn value_offset(&self, value: u8) -> Option<u32> {
        match value.checked_sub(1) {
            None => Some(self.block_input),
            Some(step) => Some(self.placement(self.base + usize::from(step))?.output),
        }
    }

    fn place(&self, block: u16, index: u16, step: Step) -> Result<PlacedStep, PlanFault> {
        let placement = self.placement(self.base + usize::from(self.step_at)).ok_or(PlanFault::Layout)?;
        let arena_bytes = self.arena_bytes as usize;
        let within = |offset: u32, len: usize| {
            let range = super::range(offset, len).ok_or(PlanFault::OutsideArena)?;
            if range.end <= arena_bytes { Ok(range) } else { Err(PlanFault::OutsideArena) }
        };
        let input = |which: usize, len| {
            let value = step.inputs.get(which).copied().unwrap_or(0);
            within(self.value_offset(value).ok_or(PlanFault::Layout)?, len)
        };
        let output_len = step.op.output().len();
        let second = if step.op.arity() == 2 { input(1, output_len)? } else { 0..0 };
        let scratch = match step.op.scratch_bytes() {
            0 => 0..0,
            len => within(placement.scratch, len)?,
        };
        Ok(PlacedStep {
            block,
            index,
            step,
            inputs: [input(0, step.op.input().len())?, second],
            output: within(placement.output, output_len)?,
            scratch,
        })
    }

    /// The next step; `Ok(None)` after the last.
    pub(super) fn step(&mut self) -> Result<Option<PlacedStep>, PlanFault> {
        let Some(block_index) = u16_at(self.plan_blocks, self.block_at * 2) else { return Ok(None) };
        let block: Block<'_> = self.blocks.get(block_index).ok_or(PlanFault::Blocks)?;
        let index = block.first_step.checked_add(self.step_at).ok_or(PlanFault::Blocks)?;
        let step = self.steps.get(index).ok_or(PlanFault::Blocks)?;
        let placed = self.place(block_index, index, step)?;
        self.step_at += 1;
        if self.step_at >= block.steps {
            self.block_input = placed.output.start as u32;
            self.base += usize::from(block.steps);
            self.block_at += 1;
            self.step_at = 0;
        }
        Ok(Some(placed))
    }
}

impl Iterator for Steps<'_> {
    type Item = PlacedStep;

    fn next(&mut self) -> Option<PlacedStep> {
        self.step().ok().flatten()
    }
}
