//! A plan's steps with their places in the arena.

use core::ops::Range;

use super::decode::{Reader, decode_into};
use super::layout::u16_at;
use super::records::{Block, InPlace, Placement, Plan, Step};
use super::{Bundle, Footprint, PlanFault, RecordList};

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

impl PlacedStep {
    /// True if its output lies partly over its first input, to be computed row by row. Never without feature `overlap`.
    #[must_use]
    pub fn is_over_input(&self) -> bool {
        let [input, _] = &self.inputs;
        cfg!(feature = "overlap")
            && self.output.start < input.end
            && input.start < self.output.end
            && self.step.op.in_place() == InPlace::Never
    }
}

impl Default for PlacedStep {
    #[inline(never)]
    fn default() -> Self {
        Self { block: 0, index: 0, step: Step::default(), inputs: [0..0, 0..0], output: 0..0, scratch: 0..0 }
    }
}

/// The part of a plan that running it takes: to change plans is to exchange this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<'a> {
    /// Block indices, 16-bit little-endian.
    blocks: &'a [u8],
    /// One [`Placement`] per step.
    layout: &'a [u8],
    input_offset: u32,
    arena_bytes: u32,
    fast_bytes: u32,
}

impl<'a> Route<'a> {
    /// Decodes no more of a plan's record than it takes.
    pub(super) fn decode(record: &'a [u8], fast_bytes: u32) -> Option<Self> {
        let mut fields = Reader::new(record);
        let (_stitch, _path) = (fields.word(), fields.bytes());
        let route = Self {
            blocks: fields.bytes(),
            layout: fields.bytes(),
            input_offset: fields.word(),
            arena_bytes: fields.word(),
            fast_bytes,
        };
        fields.finish(route)
    }

    /// Bytes of arena it needs, scratch included.
    #[must_use]
    pub const fn arena_bytes(&self) -> u32 {
        self.arena_bytes
    }

    /// The memory it takes.
    #[must_use]
    pub const fn footprint(&self) -> Footprint {
        Footprint { arena_bytes: self.arena_bytes, fast_bytes: self.fast_bytes }
    }

    /// Offset of the input in the arena.
    #[must_use]
    pub const fn input_offset(&self) -> u32 {
        self.input_offset
    }

    /// Number of blocks on the route.
    #[must_use]
    pub const fn block_count(&self) -> u16 {
        (self.blocks.len() / 2) as u16
    }

    /// Index in the bundle of the `at`-th block on the route.
    #[must_use]
    pub fn block(&self, at: u16) -> Option<u16> {
        u16_at(self.blocks, usize::from(at) * 2)
    }

    /// Blocks that both routes start with.
    #[must_use]
    pub fn shared_blocks(&self, other: &Self) -> u16 {
        let pairs = self.blocks.chunks_exact(2).zip(other.blocks.chunks_exact(2));
        pairs.take_while(|(a, b)| a == b).count() as u16
    }

    /// Makes `place` the range at `offset`, if it lies inside the arena and not across the end of its fast part.
    #[inline(always)]
    pub(super) fn put(&self, place: &mut Range<usize>, offset: u32, len: usize) -> Result<(), PlanFault> {
        let range = super::range(offset, len).filter(|range| range.end <= self.arena_bytes as usize);
        *place = range.ok_or(PlanFault::OutsideArena)?;
        let split = if cfg!(feature = "two-memories") { self.fast_bytes as usize } else { 0 };
        if place.start < split && split < place.end { Err(PlanFault::Split) } else { Ok(()) }
    }

    #[inline(always)]
    fn placement(&self, ordinal: usize) -> Option<Placement> {
        let &[a, b, c, d, e, f, g, h] = self.layout.as_chunks::<8>().0.get(ordinal)?;
        Some(Placement { output: u32::from_le_bytes([a, b, c, d]), scratch: u32::from_le_bytes([e, f, g, h]) })
    }
}

impl<'a> From<&Plan<'a>> for Route<'a> {
    fn from(plan: &Plan<'a>) -> Self {
        let Plan { blocks, layout, input_offset, arena_bytes, fast_bytes, .. } = *plan;
        Self { blocks, layout, input_offset, arena_bytes, fast_bytes }
    }
}

/// Iterator over the [`PlacedStep`]s of a plan. On a checked bundle it yields no error.
#[derive(Debug, Clone)]
pub struct Steps<'a> {
    // Only what is walked through: a copy of the bundle would take several hundred bytes of stack.
    blocks: RecordList<'a>,
    steps: RecordList<'a>,
    /// Elements of the bundle's output.
    output_len: usize,
    route: Route<'a>,
    /// Position on the route of the current block.
    block_at: u16,
    /// Position to stop before.
    end: u16,
    /// The current block, once it is decoded.
    block: Option<Span>,
    /// Step within that block.
    step_at: u16,
    /// Ordinal in the plan of that block's first step.
    base: usize,
    /// Where the current block's input lies.
    block_input: u32,
}

/// Where a block's steps are.
#[derive(Debug, Clone, Copy)]
struct Span {
    index: u16,
    first_step: u16,
    steps: u16,
}

impl<'a> Steps<'a> {
    #[inline(never)]
    pub(super) const fn new(bundle: &Bundle<'a>, route: &Route<'a>) -> Self {
        Self {
            blocks: bundle.blocks,
            steps: bundle.steps,
            output_len: bundle.meta.output.len(),
            route: *route,
            block_at: 0,
            end: route.block_count(),
            block: None,
            step_at: 0,
            base: 0,
            block_input: route.input_offset,
        }
    }

    /// Goes on to the `at`-th block without looking at the steps before it. `None` if the route is shorter.
    pub(crate) fn skip_to(mut self, at: u16) -> Option<Self> {
        while self.block_at < at {
            let span = self.span()?;
            self.leave_block(
                span.steps,
                self.route.placement(self.base + usize::from(span.steps).checked_sub(1)?)?.output,
            );
        }
        Some(self)
    }

    /// Stops before the `at`-th block.
    pub(crate) const fn stop_at(self, at: u16) -> Self {
        let end = if at < self.end { at } else { self.end };
        Self { end, ..self }
    }

    /// Where the value that enters the current block lies: the only one that is alive between two blocks.
    pub(crate) fn entering(&self) -> Option<Range<usize>> {
        let len = match self.route.block(self.block_at) {
            Some(index) => self.blocks.get::<Block<'_>>(index)?.input.len(),
            None => self.output_len,
        };
        super::range(self.block_input, len)
    }

    fn span(&self) -> Option<Span> {
        let index = self.route.block(self.block_at)?;
        let block: Block<'_> = self.blocks.get(index)?;
        Some(Span { index, first_step: block.first_step, steps: block.steps })
    }

    fn leave_block(&mut self, steps: u16, output: u32) {
        self.block_input = output;
        self.base += usize::from(steps);
        self.block_at += 1;
        self.block = None;
        self.step_at = 0;
    }

    /// Offset of value `value` of the current block.
    fn value_offset(&self, value: u8) -> Option<u32> {
        match value.checked_sub(1) {
            None => Some(self.block_input),
            Some(step) => Some(self.route.placement(self.base + usize::from(step))?.output),
        }
    }

    /// Completes `placed`, whose step is decoded.
    fn place(&self, placed: &mut PlacedStep) -> Result<(), PlanFault> {
        let placement = self.route.placement(self.base + usize::from(self.step_at)).ok_or(PlanFault::Layout)?;
        let [first, second] = placed.step.inputs;
        let op = &placed.step.op;
        let (input_len, output_len) = op.lens();
        let first = self.value_offset(first).ok_or(PlanFault::Layout)?;
        let (second, second_len) = match op.arity() {
            2 => (self.value_offset(second).ok_or(PlanFault::Layout)?, output_len),
            _ => (0, 0),
        };
        let scratch_len = op.scratch_bytes();
        let scratch = if scratch_len == 0 { 0 } else { placement.scratch };
        let [first_place, second_place] = &mut placed.inputs;
        self.route.put(first_place, first, input_len)?;
        self.route.put(second_place, second, second_len)?;
        self.route.put(&mut placed.output, placement.output, output_len)?;
        self.route.put(&mut placed.scratch, scratch, scratch_len)
    }

    /// Makes `placed` the next step; `Ok(false)` after the last, or with an error `placed` holds nothing of use.
    pub(crate) fn advance(&mut self, placed: &mut PlacedStep) -> Result<bool, PlanFault> {
        if self.block_at >= self.end {
            return Ok(false);
        }
        if self.block.is_none() {
            self.block = self.span();
        }
        let span = self.block.ok_or(PlanFault::Blocks)?;
        placed.block = span.index;
        placed.index = span.first_step.checked_add(self.step_at).ok_or(PlanFault::Blocks)?;
        let record = self.steps.bytes(placed.index).ok_or(PlanFault::Blocks)?;
        if !decode_into(record, &mut placed.step) {
            return Err(PlanFault::Blocks);
        }
        self.place(placed)?;
        self.step_at += 1;
        if self.step_at >= span.steps {
            self.leave_block(span.steps, placed.output.start as u32);
        }
        Ok(true)
    }
}

impl Iterator for Steps<'_> {
    type Item = PlacedStep;

    fn next(&mut self) -> Option<PlacedStep> {
        let mut placed = PlacedStep::default();
        matches!(self.advance(&mut placed), Ok(true)).then_some(placed)
    }
}
