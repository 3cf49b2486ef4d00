//! Arena planner: where each tensor of a plan lies, and how little memory any layout could need.
//!
//! Offset assignment is dynamic storage allocation, which is NP-hard; plans are short, so first fit over several orders
//! (as in "Efficient Memory Management for Deep Neural Net Inference", Pisarchyk and Lee 2020) followed by a bounded search
//! over orders nearly always meets the lower bound.

mod divided;

pub use divided::{Memories, plan_in};

use stitchkit_runtime::bundle::{Footprint, InPlace, Placement};

use super::accesses::Accesses;

/// Alignment of every tensor and scratch area, in bytes.
pub const ALIGN_BYTES: u32 = 4;
/// Placements the search may try after the heuristics missed the bound.
const SEARCH_LIMIT: u32 = 40_000;

/// What the planner knows of a step. Value 0 is the plan's input, value `i + 1` the output of step `i`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlatStep {
    /// Values it reads, one or two.
    pub inputs: Vec<usize>,
    /// Bytes of its output.
    pub output_bytes: u32,
    /// Bytes it needs besides, while it runs.
    pub scratch_bytes: u32,
    /// How its output may share memory with an input.
    pub in_place: InPlace,
    /// How often its places are touched.
    pub accesses: Accesses,
}

/// Where everything lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Offset of the plan's input.
    pub input_offset: u32,
    /// Output and scratch of every step.
    pub placements: Vec<Placement>,
    /// Bytes of the arena, a multiple of [`ALIGN_BYTES`].
    pub arena_bytes: u32,
    /// No layout of these steps in this order can need less, in one memory.
    pub lower_bound_bytes: u32,
    /// How many of the arena's first bytes are meant for a fast memory; see [`plan_in`].
    pub fast_bytes: u32,
}

/// Why steps cannot be laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// A step reads a value that does not exist yet.
    #[error("step {step} reads value {value}, which is not computed before it")]
    Order {
        /// The step.
        step: usize,
        /// The value.
        value: usize,
    },
    /// A step overwrites its second input, which is read again later or by the step itself.
    #[error("step {step} overwrites value {value}, which is still needed")]
    Overwritten {
        /// The step.
        step: usize,
        /// The value.
        value: usize,
    },
    /// The tensors do not fit 32-bit offsets.
    #[error("the plan needs more than 4 GiB of memory")]
    TooLarge,
}

/// A stretch of memory that is in use from step `first` to step `last`, both included.
#[derive(Debug, Clone, Copy)]
struct Buffer {
    bytes: u32,
    first: usize,
    last: usize,
    /// Bytes loaded from and stored to it.
    accesses: u64,
}

impl Buffer {
    const fn meets(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Buffers of a plan: tensors first, then scratch areas.
struct Problem {
    buffers: Vec<Buffer>,
    /// Buffer of each value.
    of_value: Vec<usize>,
    /// Buffer of each step's scratch.
    of_scratch: Vec<Option<usize>>,
}

/// Assigns offsets in one memory.
///
/// # Errors
/// [`MemoryError`] if the steps are inconsistent or beyond 32 bits.
pub fn plan(input_bytes: u32, steps: &[FlatStep]) -> Result<Layout, MemoryError> {
    let problem = Problem::new(input_bytes, steps)?;
    let bound = problem.lower_bound(steps.len())?;
    let total: u64 = problem.buffers.iter().map(|b| u64::from(b.bytes) + u64::from(ALIGN_BYTES)).sum();
    if total > u64::from(u32::MAX - Footprint::ALIGN) {
        return Err(MemoryError::TooLarge);
    }
    let offsets = problem.solve(bound);
    let (input_offset, placements) = problem.layout(|buffer| offsets[buffer]);
    let arena_bytes = problem.top(&offsets).next_multiple_of(ALIGN_BYTES);
    Ok(Layout { input_offset, placements, arena_bytes, lower_bound_bytes: bound, fast_bytes: 0 })
}

/// Most bytes in use during any one step: scratch, inputs, output and everything read later. A value that takes over an
/// input's memory counts once. Independent of where anything lies.
///
/// # Errors
/// As [`plan`].
pub fn lower_bound_bytes(input_bytes: u32, steps: &[FlatStep]) -> Result<u32, MemoryError> {
    Problem::new(input_bytes, steps)?.lower_bound(steps.len())
}

/// The last step that reads each value; the final output lives until the end.
fn last_uses(steps: &[FlatStep]) -> Result<Vec<usize>, MemoryError> {
    let mut last: Vec<usize> = (0..=steps.len()).map(|value| value.saturating_sub(1)).collect();
    for (step, flat) in steps.iter().enumerate() {
        for &value in &flat.inputs {
            if value > step {
                return Err(MemoryError::Order { step, value });
            }
            last[value] = step;
        }
    }
    Ok(last)
}

impl Problem {
    fn new(input_bytes: u32, steps: &[FlatStep]) -> Result<Self, MemoryError> {
        let last = last_uses(steps)?;
        let mut buffers = vec![Buffer { bytes: input_bytes, first: 0, last: last[0], accesses: input_bytes.into() }];
        let mut of_value = vec![0];
        for (step, flat) in steps.iter().enumerate() {
            let shared = takes_over(step, flat, &last)?;
            let buffer = shared.map(|value| of_value[value]).unwrap_or_else(|| {
                buffers.push(Buffer { bytes: 0, first: step, last: step, accesses: 0 });
                buffers.len() - 1
            });
            let entry = &mut buffers[buffer];
            entry.bytes = entry.bytes.max(flat.output_bytes);
            entry.last = entry.last.max(last[step + 1]);
            entry.accesses += flat.accesses.output;
            of_value.push(buffer);
            for (&value, &accesses) in flat.inputs.iter().zip(&flat.accesses.inputs) {
                buffers[of_value[value]].accesses += accesses;
            }
        }
        let mut of_scratch = Vec::with_capacity(steps.len());
        for (step, flat) in steps.iter().enumerate() {
            of_scratch.push((flat.scratch_bytes > 0).then(|| {
                let accesses = flat.accesses.scratch;
                buffers.push(Buffer { bytes: flat.scratch_bytes, first: step, last: step, accesses });
                buffers.len() - 1
            }));
        }
        Ok(Self { buffers, of_value, of_scratch })
    }

    /// Where the input lies, and output and scratch of every step, if buffers lie at these offsets.
    fn layout(&self, offset: impl Fn(usize) -> u32) -> (u32, Vec<Placement>) {
        let steps = self.of_value.iter().skip(1).zip(&self.of_scratch);
        let place = |(&output, scratch): (&usize, &Option<usize>)| Placement {
            output: offset(output),
            scratch: scratch.map_or(0, &offset),
        };
        (offset(self.of_value[0]), steps.map(place).collect())
    }

    fn lower_bound(&self, steps: usize) -> Result<u32, MemoryError> {
        let live = |step: usize| {
            self.buffers.iter().filter(|b| b.first <= step && step <= b.last).map(|b| u64::from(b.bytes)).sum::<u64>()
        };
        let bound = (0..steps.max(1)).map(live).max().unwrap_or(0);
        u32::try_from(bound).map_err(|_| MemoryError::TooLarge)
    }

    fn top(&self, offsets: &[u32]) -> u32 {
        offsets.iter().zip(&self.buffers).map(|(offset, b)| offset + b.bytes).max().unwrap_or(0)
    }

    /// Best of the heuristics; the bounded search only if they miss the bound.
    fn solve(&self, bound: u32) -> Vec<u32> {
        let goal = bound.next_multiple_of(ALIGN_BYTES);
        let mut best: Option<Vec<u32>> = None;
        for order in self.orders() {
            let offsets = self.first_fit(&order);
            if best.as_ref().is_none_or(|b| self.top(&offsets) < self.top(b)) {
                best = Some(offsets);
            }
            if best.as_ref().is_some_and(|b| self.top(b) <= goal) {
                break;
            }
        }
        let best = best.unwrap_or_else(|| vec![0; self.buffers.len()]);
        if self.top(&best) <= goal {
            return best;
        }
        let ends = self.alternate_ends(goal);
        if self.top(&ends) <= goal { ends } else { Search::run(self, best, goal) }
    }

    /// Tensors alternately at the low and the high end of an arena of `goal` bytes, in order of execution; optimal for plain
    /// chains.
    fn alternate_ends(&self, goal: u32) -> Vec<u32> {
        let mut order: Vec<usize> = (0..self.buffers.len()).collect();
        // Tensors come before scratch areas, so that the latter take what is left.
        let is_scratch = |i: usize| self.of_scratch.contains(&Some(i));
        order.sort_by_key(|&i| (is_scratch(i), self.buffers[i].first, i));
        let mut offsets = vec![None; self.buffers.len()];
        for (position, &buffer) in order.iter().enumerate() {
            let high = if position % 2 == 1 { self.highest(buffer, &offsets, goal) } else { None };
            offsets[buffer] = Some(high.unwrap_or_else(|| self.lowest(buffer, &offsets)));
        }
        offsets.into_iter().map(|offset| offset.unwrap_or(0)).collect()
    }

    /// Orders in which first fit tends to do well.
    fn orders(&self) -> Vec<Vec<usize>> {
        let order_by = |key: &dyn Fn(&Buffer) -> (i64, i64)| {
            let mut order: Vec<usize> = (0..self.buffers.len()).collect();
            order.sort_by_key(|&i| key(&self.buffers[i]));
            order
        };
        let bytes = |b: &Buffer| i64::from(b.bytes);
        let length = |b: &Buffer| (b.last - b.first + 1) as i64;
        vec![
            order_by(&|b| (-bytes(b), b.first as i64)),
            order_by(&|b| (-bytes(b) * length(b), b.first as i64)),
            order_by(&|b| (-length(b), -bytes(b))),
            order_by(&|b| (b.first as i64, -bytes(b))),
            order_by(&|b| (-(b.last as i64), -bytes(b))),
            self.by_breadth(),
        ]
    }

    /// The tensors of the fullest step first, largest first, then those of the next fullest step.
    fn by_breadth(&self) -> Vec<usize> {
        let steps = self.buffers.iter().map(|b| b.last + 1).max().unwrap_or(0);
        let live = |step: usize| {
            let mut at: Vec<usize> = (0..self.buffers.len())
                .filter(|&i| self.buffers[i].first <= step && step <= self.buffers[i].last)
                .collect();
            at.sort_by_key(|&i| std::cmp::Reverse(self.buffers[i].bytes));
            at
        };
        let mut levels: Vec<Vec<usize>> = (0..steps).map(live).collect();
        let bytes = |level: &Vec<usize>| level.iter().map(|&i| u64::from(self.buffers[i].bytes)).sum::<u64>();
        levels.sort_by_key(|level| std::cmp::Reverse(bytes(level)));
        let mut order = Vec::new();
        for buffer in levels.into_iter().flatten() {
            if !order.contains(&buffer) {
                order.push(buffer);
            }
        }
        order
    }

    fn first_fit(&self, order: &[usize]) -> Vec<u32> {
        let mut offsets = vec![None; self.buffers.len()];
        for &buffer in order {
            offsets[buffer] = Some(self.lowest(buffer, &offsets));
        }
        offsets.into_iter().map(|offset| offset.unwrap_or(0)).collect()
    }

    /// Highest aligned offset below `goal` of a buffer that avoids everything placed that is in use at the same time.
    fn highest(&self, buffer: usize, offsets: &[Option<u32>], goal: u32) -> Option<u32> {
        let wanted = &self.buffers[buffer];
        let below = |end: u32| end.checked_sub(wanted.bytes).map(|at| at / ALIGN_BYTES * ALIGN_BYTES);
        let mut taken = self.taken(wanted, offsets);
        taken.sort_unstable_by_key(|&(_, end)| std::cmp::Reverse(end));
        let mut at = below(goal)?;
        for (start, end) in taken {
            if at < end && start < at + wanted.bytes {
                at = below(start)?;
            }
        }
        Some(at)
    }

    /// Placed stretches that are in use at the same time as `wanted`.
    fn taken(&self, wanted: &Buffer, offsets: &[Option<u32>]) -> Vec<(u32, u32)> {
        let placed = offsets.iter().zip(&self.buffers);
        placed.filter_map(|(o, b)| o.filter(|_| b.meets(wanted)).map(|o| (o, o + b.bytes))).collect()
    }

    /// Lowest aligned offset of a buffer that avoids everything placed that is in use at the same time.
    fn lowest(&self, buffer: usize, offsets: &[Option<u32>]) -> u32 {
        let wanted = &self.buffers[buffer];
        let mut taken = self.taken(wanted, offsets);
        taken.sort_unstable();
        let mut at = 0u32;
        for (start, end) in taken {
            if at + wanted.bytes <= start {
                break;
            }
            at = at.max(end.next_multiple_of(ALIGN_BYTES));
        }
        at
    }
}

/// The value whose memory a step's output takes over.
fn takes_over(step: usize, flat: &FlatStep, last: &[usize]) -> Result<Option<usize>, MemoryError> {
    let dies = |which: usize| {
        let value = flat.inputs[which];
        last[value] == step && flat.inputs.iter().filter(|&&other| other == value).count() == 1
    };
    match flat.in_place {
        InPlace::Never => Ok(None),
        InPlace::FirstInputIfWanted => Ok(dies(0).then(|| flat.inputs[0])),
        InPlace::SecondInput if dies(1) => Ok(Some(flat.inputs[1])),
        InPlace::SecondInput => Err(MemoryError::Overwritten { step, value: flat.inputs[1] }),
    }
}

/// Depth-first search over placement orders. First fit reaches an optimal layout for some order, so an unbounded search
/// would be exact; it is cut off after [`SEARCH_LIMIT`] placements.
struct Search<'a> {
    problem: &'a Problem,
    goal: u32,
    best: Vec<u32>,
    best_top: u32,
    left: u32,
}

impl<'a> Search<'a> {
    fn run(problem: &'a Problem, start: Vec<u32>, goal: u32) -> Vec<u32> {
        let best_top = problem.top(&start);
        let mut search = Self { problem, goal, best: start, best_top, left: SEARCH_LIMIT };
        let mut offsets = vec![None; problem.buffers.len()];
        search.descend(&mut offsets, 0);
        search.best
    }

    fn descend(&mut self, offsets: &mut Vec<Option<u32>>, top: u32) {
        let mut free: Vec<usize> = (0..offsets.len()).filter(|&i| offsets[i].is_none()).collect();
        if free.is_empty() {
            self.best_top = top;
            self.best = offsets.iter().map(|o| o.unwrap_or(0)).collect();
            return;
        }
        free.sort_by_key(|&i| std::cmp::Reverse(self.problem.buffers[i].bytes));
        for buffer in free {
            if self.left == 0 || self.best_top <= self.goal {
                return;
            }
            self.left -= 1;
            let offset = self.problem.lowest(buffer, offsets);
            let top = top.max(offset + self.problem.buffers[buffer].bytes);
            if top >= self.best_top {
                continue;
            }
            offsets[buffer] = Some(offset);
            self.descend(offsets, top);
            offsets[buffer] = None;
        }
    }
}

#[cfg(test)]
mod tests;
