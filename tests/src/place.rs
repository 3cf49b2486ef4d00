//! A simple arena layout: largest buffers first, each at the lowest free place, or in turn at the low and the high end, which
//! is best for chains.

use stitchkit_runtime::bundle::write::BlockParts;
use stitchkit_runtime::bundle::{InPlace, Op, Placement};
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
}

impl Buffer {
    fn clashes(&self, other: &Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }
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
    let chain = Chain::of(input, chain);
    let (mut buffers, mut ends) = (chain.buffers.clone(), chain.buffers.clone());
    assign(&mut buffers);
    assign_ends(&mut ends, chain.lower_bound);
    if top(&ends) < top(&buffers) {
        buffers = ends;
    }
    chain.placed(&buffers, 0)
}

/// Lays them out in two memories: every second buffer, all kinds among them, goes to the fast one.
pub fn place_divided(input: Shape, chain: &[&BlockParts]) -> Placed {
    let chain = Chain::of(input, chain);
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
    fn of(input: Shape, chain: &[&BlockParts]) -> Self {
        let mut buffers = vec![Buffer { len: input.len(), from: 0, to: 0, offset: 0, is_scratch: false }];
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
                        buffers.push(Buffer {
                            len: step.op.output().len(),
                            from: now,
                            to: now,
                            offset: 0,
                            is_scratch: false,
                        });
                        buffers.len() - 1
                    }
                });
                scratches.push(scratch(&step.op).map(|len| {
                    buffers.push(Buffer { len, from: now, to: now, offset: 0, is_scratch: true });
                    buffers.len() - 1
                }));
                now += 1;
            }
            block_input = values.len() - 1;
        }
        if let Some(&output) = values.last() {
            buffers[output].to = now;
        }
        let live =
            |step: usize| buffers.iter().filter(|b| b.from <= step && step <= b.to).map(|b| b.len).sum::<usize>();
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

/// Largest first.
fn assign(buffers: &mut [Buffer]) {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&b| std::cmp::Reverse(buffers[b].len));
    for (rank, &this) in order.iter().enumerate() {
        let taken = taken(&buffers[this], order[..rank].iter().map(|&other| &buffers[other]));
        buffers[this].offset = lowest(buffers[this].len, &taken);
    }
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
