//! A simple arena layout: largest buffers first, each at the lowest free place, or in turn at the low and the high end, which
//! is best for chains.

use stitchkit_runtime::bundle::write::BlockParts;
use stitchkit_runtime::bundle::{Clearance, InPlace, Op, Placement};
use stitchkit_runtime::kernels::Shape;

/// Where everything lies.
pub struct Placed {
    pub input_offset: u32,
    pub layout: Vec<Placement>,
    pub arena_bytes: u32,
    pub lower_bound_bytes: u32,
    /// Bytes of a fast memory; nothing lies across their end.
    pub fast_bytes: u32,
}

/// A stretch of memory in use from step `from` to step `to`, both included.
#[derive(Clone, Copy)]
struct Buffer {
    len: usize,
    from: usize,
    to: usize,
    offset: usize,
    is_scratch: bool,
    id: usize,
    /// The buffer its first step may write it over, and how many bytes behind that it starts.
    over: Option<(usize, isize)>,
}

impl Buffer {
    fn clashes(&self, other: &Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

/// Whether steps write their output over their input.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overlap {
    Never,
    /// Wherever they can, with the least distance between both.
    Always,
}

/// The buffers of a chain of blocks.
struct Chain {
    buffers: Vec<Buffer>,
    /// Buffer of each value.
    values: Vec<usize>,
    /// Buffer of each step's scratch.
    scratches: Vec<Option<usize>>,
    lower_bound: usize,
}

/// Lays out the values and scratch of a chain of blocks in one memory.
pub fn place(input: Shape, chain: &[&BlockParts]) -> Placed {
    let chain = Chain::of(input, chain, Overlap::Never);
    let (mut buffers, mut ends) = (chain.buffers.clone(), chain.buffers.clone());
    assign(&mut buffers);
    assign_ends(&mut ends, chain.lower_bound);
    if top(&ends) < top(&buffers) {
        buffers = ends;
    }
    chain.placed(&buffers, 0)
}

/// Lays them out with outputs over inputs.
pub fn place_over(input: Shape, chain: &[&BlockParts]) -> Placed {
    let chain = Chain::of(input, chain, Overlap::Always);
    let mut buffers = chain.buffers.clone();
    assign(&mut buffers);
    chain.placed(&buffers, 0)
}

/// Lays them out in two memories, outputs over inputs there: every second buffer, all kinds among them, goes to the fast one.
pub fn place_divided(input: Shape, chain: &[&BlockParts]) -> Placed {
    let chain = Chain::of(input, chain, Overlap::Always);
    let is_fast = |index: usize| index % 2 == 1;
    let pick = |fast: bool| (0..chain.buffers.len()).filter(move |&i| is_fast(i) == fast).map(|i| chain.buffers[i]);
    let (mut fast, mut main): (Vec<Buffer>, Vec<Buffer>) = (pick(true).collect(), pick(false).collect());
    assign(&mut fast);
    assign(&mut main);
    let split = top(&fast).next_multiple_of(16);
    main.iter_mut().for_each(|buffer| buffer.offset += split);
    let buffers: Vec<Buffer> =
        (0..chain.buffers.len()).map(|i| if is_fast(i) { fast[i / 2] } else { main[i / 2] }).collect();
    chain.placed(&buffers, split)
}

impl Chain {
    fn of(input: Shape, chain: &[&BlockParts], overlap: Overlap) -> Self {
        let new = |id, len, at| Buffer { len, from: at, to: at, offset: 0, is_scratch: false, id, over: None };
        let mut buffers = vec![new(0, input.len(), 0)];
        let mut overs = Vec::new();
        let mut values = vec![0];
        let mut scratches = Vec::new();
        let mut block_input = 0;
        let mut now = 0;
        for block in chain {
            let first = values.len();
            let value_of = |local: u8| if local == 0 { block_input } else { first + usize::from(local) - 1 };
            for (at, step) in block.steps.iter().enumerate() {
                let operands = &step.inputs[..step.op.arity()];
                for &operand in operands {
                    buffers[values[value_of(operand)]].to = now;
                }
                let read_later =
                    |local: u8| block.steps[at + 1..].iter().any(|s| s.inputs[..s.op.arity()].contains(&local));
                let shared = match step.op.in_place() {
                    InPlace::SecondInput => Some(operands[1]),
                    InPlace::FirstInputIfWanted if !read_later(operands[0]) => Some(operands[0]),
                    _ => None,
                };
                values.push(match shared {
                    Some(local) => values[value_of(local)],
                    None => {
                        buffers.push(new(buffers.len(), step.op.output().len(), now));
                        if let (Overlap::Always, Some(clearance)) = (overlap, step.op.least_clearance()) {
                            overs.push((buffers.len() - 1, values[value_of(operands[0])], clearance));
                        }
                        buffers.len() - 1
                    }
                });
                scratches.push(scratch(&step.op).map(|len| {
                    buffers.push(Buffer { is_scratch: true, ..new(buffers.len(), len, now) });
                    buffers.len() - 1
                }));
                now += 1;
            }
            block_input = values.len() - 1;
        }
        if let Some(&output) = values.last() {
            buffers[output].to = now;
        }
        for (output, input, Clearance { before_bytes, after_bytes }) in overs {
            if buffers[input].to == buffers[output].from {
                // In turn before the input and behind its start.
                let behind = if output % 2 == 0 { -(before_bytes as isize) } else { after_bytes as isize };
                buffers[output].over = Some((input, behind));
            }
        }
        let bytes = |buffer: &Buffer, step: usize| match buffer.over {
            // Both together reach from what starts first to what ends last; the input counts by itself.
            Some((input, behind)) if buffer.from == step => {
                let (before, after) = ((-behind).max(0) as usize, behind.max(0) as usize);
                let input = buffers[input].len;
                (before + input).max(after + buffer.len) - input
            }
            _ => buffer.len,
        };
        let live = |step: usize| -> usize {
            buffers.iter().filter(|b| b.from <= step && step <= b.to).map(|b| bytes(b, step)).sum()
        };
        let lower_bound = (0..now).map(live).max().unwrap_or(0);
        Self { buffers, values, scratches, lower_bound }
    }

    /// The layout with the offsets of `buffers`.
    fn placed(&self, buffers: &[Buffer], fast_bytes: usize) -> Placed {
        let offset = |buffer: usize| buffers[buffer].offset as u32;
        let layout = self.values[1..].iter().zip(&self.scratches);
        Placed {
            input_offset: offset(self.values[0]),
            layout: layout
                .map(|(&value, s)| Placement { output: offset(value), scratch: s.map_or(0, offset) })
                .collect(),
            arena_bytes: top(buffers).max(fast_bytes) as u32,
            lower_bound_bytes: self.lower_bound as u32,
            fast_bytes: fast_bytes as u32,
        }
    }
}

fn scratch(op: &Op) -> Option<usize> {
    (op.scratch_bytes() > 0).then(|| op.scratch_bytes())
}

fn top(buffers: &[Buffer]) -> usize {
    buffers.iter().map(|b| b.offset + b.len).max().unwrap_or(0)
}

/// The stretches of `placed` that are in use at the same time as `this`, from the lowest on.
fn taken<'a>(this: &Buffer, placed: impl Iterator<Item = &'a Buffer>) -> Vec<(usize, usize)> {
    let clashing = placed.filter(|other| other.clashes(this));
    let mut taken: Vec<_> = clashing.map(|other| (other.offset, other.offset + other.len)).collect();
    taken.sort_unstable();
    taken
}

fn lowest(len: usize, taken: &[(usize, usize)]) -> usize {
    let mut at = 0usize;
    for &(start, end) in taken {
        if at + len <= start {
            break;
        }
        at = at.max(end.next_multiple_of(16));
    }
    at
}

/// Where `len` bytes end nearest to `end`; `None` if they do not fit below it.
fn highest(len: usize, taken: &[(usize, usize)], end: usize) -> Option<usize> {
    let below = |end: usize| end.checked_sub(len).map(|at| at / 16 * 16);
    let mut at = below(end)?;
    for &(start, end) in taken.iter().rev() {
        if at < end && start < at + len {
            at = below(start)?;
        }
    }
    Some(at)
}

/// Largest first. Buffers that are written over others lie as near to them as they may.
fn assign(buffers: &mut [Buffer]) {
    let mut clusters = clusters(buffers);
    clusters.sort_by_key(|members| std::cmp::Reverse(members.iter().map(|&b| buffers[b].len).max()));
    let mut placed: Vec<usize> = Vec::new();
    for members in clusters {
        let clashes = |buffers: &[Buffer]| {
            let pairs = members.iter().flat_map(|&this| placed.iter().map(move |&other| (this, other)));
            pairs.map(|(this, other)| (&buffers[this], &buffers[other])).any(|(this, other)| {
                this.clashes(other) && this.offset < other.offset + other.len && other.offset < this.offset + this.len
            })
        };
        while clashes(buffers) {
            members.iter().for_each(|&member| buffers[member].offset += 16);
        }
        placed.extend(members);
    }
}

/// Buffers that hang together, with their offsets counted from the lowest of each cluster.
fn clusters(buffers: &mut [Buffer]) -> Vec<Vec<usize>> {
    let mut found: Vec<Vec<usize>> = Vec::new();
    for this in 0..buffers.len() {
        let cluster = buffers[this].over.and_then(|(id, behind)| {
            let input = buffers[..this].iter().position(|other| other.id == id)?;
            let cluster = found.iter().position(|members| members.contains(&input))?;
            Some((cluster, input, behind))
        });
        let Some((cluster, input, behind)) = cluster else {
            found.push(vec![this]);
            continue;
        };
        // What lies too low moves the whole cluster up.
        let short = (buffers[input].offset as isize + behind).min(0).unsigned_abs();
        found[cluster].iter().for_each(|&member| buffers[member].offset += short);
        buffers[this].offset = buffers[input].offset.saturating_add_signed(behind);
        found[cluster].push(this);
    }
    found
}

/// In order of execution at the two ends of `end` bytes in turn; scratch areas, which are small, last.
fn assign_ends(buffers: &mut [Buffer], end: usize) {
    let end = end.next_multiple_of(16);
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&b| (buffers[b].is_scratch, buffers[b].from));
    for (rank, &this) in order.iter().enumerate() {
        let Buffer { len, .. } = buffers[this];
        let taken = taken(&buffers[this], order[..rank].iter().map(|&other| &buffers[other]));
        let high = if rank % 2 == 1 { highest(len, &taken, end) } else { None };
        buffers[this].offset = high.unwrap_or_else(|| lowest(len, &taken));
    }
}
