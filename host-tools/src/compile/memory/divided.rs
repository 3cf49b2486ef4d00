//! Layouts in two memories: what is touched most lies in the fast one, the rest in the main memory.

use std::cmp::Reverse;

use stitchkit_runtime::bundle::Footprint;

use super::overlap::{Overlap, Solved};
use super::problem::{Over, Problem};
use super::{ALIGN_BYTES, FlatStep, Layout, MemoryError};

/// Fillings of the fast memory that are tried after the heuristics.
const MOST_TRIES: usize = 1000;

/// The memories of boards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memories {
    /// Bytes of the fast memory that all of them have; 0 for none.
    pub fast_bytes: u32,
    /// Bytes of the main memory of each; none for boards of any size. A layout that more boards hold is preferred to one with
    /// more accesses to the fast memory or with fewer calls of kernels.
    pub main_bytes: Vec<u32>,
}

impl Memories {
    /// One memory of any size.
    pub const ONE: Self = Self { fast_bytes: 0, main_bytes: Vec::new() };

    /// Those of all of `boards`.
    #[must_use]
    pub fn of(boards: impl IntoIterator<Item = Self>) -> Self {
        let join = |mut all: Self, board: Self| {
            all.main_bytes.extend(board.main_bytes);
            Self { fast_bytes: all.fast_bytes.min(board.fast_bytes), ..all }
        };
        boards.into_iter().reduce(join).unwrap_or(Self::ONE)
    }

    /// The smallest main memory.
    fn least_main_bytes(&self) -> u32 {
        self.main_bytes.iter().copied().min().unwrap_or(u32::MAX)
    }

    /// Boards that do not hold a layout.
    fn lacking(&self, layout: &Layout) -> usize {
        if layout.arena_bytes <= self.fast_bytes {
            return 0;
        }
        self.main_bytes.iter().filter(|&&bytes| bytes < layout.main_bytes()).count()
    }
}

/// Assigns offsets for boards with one memory or two. If everything apart takes more than some board's main memory has, outputs
/// are written over inputs, in parts as large as will do, where more boards hold the arena then.
///
/// With two memories the first [`Layout::fast_bytes`] of the arena lie in the fast one; nothing lies across their end. If the
/// whole arena fits the fast memory, it stays in one piece, which the device puts there.
///
/// # Errors
/// [`MemoryError`] as [`plan`](super::plan).
pub fn plan_in(memories: &Memories, input_bytes: u32, steps: &[FlatStep]) -> Result<Layout, MemoryError> {
    let lay_out = |overlap: Overlap| {
        let (problem, whole) = Solved::new(input_bytes, steps, overlap)?.arranged();
        spread(memories, &problem, whole)
    };
    let [never, smaller @ ..] = Overlap::ALL;
    let mut best = lay_out(never)?;
    for overlap in smaller {
        if memories.lacking(&best) == 0 {
            break;
        }
        let layout = lay_out(overlap)?;
        if memories.lacking(&layout) < memories.lacking(&best) {
            best = layout;
        }
    }
    Ok(best)
}

/// `whole`, divided if there is a fast memory that does not hold all of it.
fn spread(memories: &Memories, problem: &Problem, whole: Layout) -> Result<Layout, MemoryError> {
    if memories.fast_bytes < Footprint::ALIGN || whole.arena_bytes <= memories.fast_bytes {
        return Ok(whole);
    }
    let limit = memories.least_main_bytes();
    let layout = divide(problem, memories.fast_bytes, limit, &whole)?;
    if layout.main_bytes() <= limit {
        return Ok(layout);
    }
    // The bound of a filling was within the main memory, but no layout of what it leaves was found there.
    let busiest = divide(problem, memories.fast_bytes, u32::MAX, &whole)?;
    Ok(if busiest.main_bytes() < layout.main_bytes() { busiest } else { layout })
}

/// `whole` divided between two memories.
fn divide(problem: &Problem, most_fast_bytes: u32, main_bytes: u32, whole: &Layout) -> Result<Layout, MemoryError> {
    let filling = Filler { problem, fast_bytes: most_fast_bytes, main_bytes }.best()?;
    let fast_bytes = problem.placed_top(&filling.fast).next_multiple_of(Footprint::ALIGN);
    if fast_bytes == 0 {
        return Ok(whole.clone());
    }
    let (rest, in_rest) = problem.without(&filling.fast);
    let main = rest.solve()?;
    let (input_offset, placements) = problem.layout(|buffer| match filling.fast[buffer] {
        Some(offset) => offset,
        None => fast_bytes + main[in_rest[buffer]],
    });
    let arena_bytes = (fast_bytes + rest.top(&main)).next_multiple_of(ALIGN_BYTES);
    Ok(Layout { input_offset, placements, arena_bytes, fast_bytes, lower_bound_bytes: whole.lower_bound_bytes })
}

impl Layout {
    /// Bytes of the main memory.
    const fn main_bytes(&self) -> u32 {
        self.arena_bytes - self.fast_bytes
    }
}

/// Which buffers lie in the fast memory, and where.
struct Filling {
    fast: Vec<Option<u32>>,
    order: Vec<usize>,
    rank: Rank,
}

/// Smaller is better: bytes that the main memory lacks, accesses to the fast memory, bytes of main memory.
type Rank = (u32, Reverse<u64>, u32);

struct Filler<'a> {
    problem: &'a Problem,
    /// Bytes of the fast memory, and of the smallest main one.
    fast_bytes: u32,
    main_bytes: u32,
}

impl Filler<'_> {
    /// The best of several orders, improved by taking in what was left out.
    fn best(&self) -> Result<Filling, MemoryError> {
        let mut best = self.fill((0..self.problem.buffers.len()).collect())?;
        for order in self.orders() {
            let filling = self.fill(order)?;
            if filling.rank < best.rank {
                best = filling;
            }
        }
        let mut tries = 0;
        while let Some(better) = self.improve(&best, &mut tries)? {
            best = better;
        }
        Ok(best)
    }

    /// A better filling that begins with a buffer that `held` leaves out.
    fn improve(&self, held: &Filling, tries: &mut usize) -> Result<Option<Filling>, MemoryError> {
        let left_out = held.order.iter().filter(|&&buffer| held.fast[buffer].is_none());
        for &first in left_out {
            if *tries == MOST_TRIES {
                break;
            }
            *tries += 1;
            let others = held.order.iter().copied().filter(|&buffer| buffer != first);
            let filling = self.fill(std::iter::once(first).chain(others).collect())?;
            if filling.rank < held.rank {
                return Ok(Some(filling));
            }
        }
        Ok(None)
    }

    /// Orders that put first what is worth most: per byte, per byte and step, at all; or what is largest.
    fn orders(&self) -> [Vec<usize>; 4] {
        let buffers = &self.problem.buffers;
        let by = |worth: &dyn Fn(usize) -> f64| {
            let mut order: Vec<usize> = (0..buffers.len()).collect();
            order.sort_by(|&a, &b| worth(b).total_cmp(&worth(a)));
            order
        };
        let accesses = |i: usize| buffers[i].accesses as f64;
        let bytes = |i: usize| f64::from(buffers[i].bytes.max(1));
        let length = |i: usize| (buffers[i].last - buffers[i].first + 1) as f64;
        [
            by(&|i| accesses(i) / bytes(i)),
            by(&|i| accesses(i) / bytes(i) / length(i)),
            by(&accesses),
            by(&|i| bytes(i) * length(i)),
        ]
    }

    /// Puts buffers into the fast memory in this order, each at the lowest free place if there is one.
    fn fill(&self, order: Vec<usize>) -> Result<Filling, MemoryError> {
        let limit = self.fast_bytes / Footprint::ALIGN * Footprint::ALIGN;
        let mut fast = vec![None; self.problem.buffers.len()];
        for &buffer in &order {
            let offset = self.problem.lowest(buffer, &fast);
            if u64::from(offset) + u64::from(self.problem.buffers[buffer].bytes) <= limit.into() {
                fast[buffer] = Some(offset);
            }
        }
        let (rest, _) = self.problem.without(&fast);
        let main_bytes = rest.lower_bound()?;
        let held = self.problem.buffers.iter().zip(&fast).filter(|(_, offset)| offset.is_some());
        let accesses = held.map(|(buffer, _)| buffer.accesses).sum();
        let rank = (main_bytes.saturating_sub(self.main_bytes), Reverse(accesses), main_bytes);
        Ok(Filling { fast, order, rank })
    }
}

impl Problem {
    /// End of what is placed.
    fn placed_top(&self, offsets: &[Option<u32>]) -> u32 {
        let ends = offsets.iter().zip(&self.buffers).filter_map(|(offset, buffer)| Some((*offset)? + buffer.bytes));
        ends.max().unwrap_or(0)
    }

    /// The problem of the buffers that are not placed, and the index that each of them has there.
    fn without(&self, placed: &[Option<u32>]) -> (Self, Vec<usize>) {
        let mut index = vec![usize::MAX; self.buffers.len()];
        let mut buffers = Vec::new();
        for (buffer, _) in placed.iter().enumerate().filter(|(_, offset)| offset.is_none()) {
            index[buffer] = buffers.len();
            buffers.push(self.buffers[buffer]);
        }
        let left = |buffer: usize| placed[buffer].is_none().then(|| index[buffer]);
        for buffer in &mut buffers {
            let over = |over: Over| left(over.buffer).map(|buffer| Over { buffer, ..over });
            buffer.over = buffer.over.and_then(over);
        }
        let of_scratch = self.of_scratch.iter().map(|scratch| scratch.and_then(left)).collect();
        (Self { buffers, of_value: Vec::new(), of_scratch }, index)
    }
}

#[cfg(test)]
mod tests;
