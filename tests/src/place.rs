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

/// Lays out the values and scratch of a chain of blocks.
pub fn place(input: Shape, chain: &[&BlockParts]) -> Placed {
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
    let live = |step: usize| buffers.iter().filter(|b| b.from <= step && step <= b.to).map(|b| b.len).sum::<usize>();
    let lower_bound = (0..now).map(live).max().unwrap_or(0);
    let mut ends = buffers.clone();
    assign(&mut buffers);
    assign_ends(&mut ends, lower_bound);
    if top(&ends) < top(&buffers) {
        buffers = ends;
    }
    let offset = |buffer: usize| buffers[buffer].offset as u32;
    let layout = values[1..].iter().zip(&scratches);
    Placed {
        input_offset: offset(values[0]),
        layout: layout.map(|(&value, s)| Placement { output: offset(value), scratch: s.map_or(0, offset) }).collect(),
        arena_bytes: top(&buffers) as u32,
        lower_bound_bytes: lower_bound as u32,
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
