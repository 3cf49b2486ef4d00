//! Orders of placement, and the search for one that meets the lower bound.

use stitchkit_runtime::bundle::Footprint;

use super::problem::{Buffer, Problem};
use super::{ALIGN_BYTES, MemoryError};

/// Placements the search may try after the heuristics missed the bound.
const SEARCH_LIMIT: u32 = 40_000;

impl Problem {
    /// Offsets of all buffers: the best of the heuristics, and of the bounded search if they miss the bound.
    pub fn solve(&self) -> Result<Vec<u32>, MemoryError> {
        let total: u64 = self.buffers.iter().map(|b| u64::from(b.bytes) + u64::from(ALIGN_BYTES)).sum();
        if total > u64::from(u32::MAX - Footprint::ALIGN) {
            return Err(MemoryError::TooLarge);
        }
        let goal = self.lower_bound()?.next_multiple_of(ALIGN_BYTES);
        let best = self.heuristics(&vec![None; self.buffers.len()], goal);
        if self.top(&best) <= goal {
            return Ok(best);
        }
        let ends = self.alternate_ends(goal);
        Ok(if self.top(&ends) <= goal { ends } else { Search::run(self, best, goal) })
    }

    /// Offsets that end below `goal`, with some buffers held; `None` if none are found.
    pub fn fit_around(&self, held: &[Option<u32>], goal: u32) -> Option<Vec<u32>> {
        let offsets = self.heuristics(held, goal);
        (self.top(&offsets) <= goal).then_some(offsets)
    }

    /// First fit in the best of some orders, or in the first that reaches `goal`.
    fn heuristics(&self, held: &[Option<u32>], goal: u32) -> Vec<u32> {
        let mut best: Option<Vec<u32>> = None;
        for order in self.orders() {
            let offsets = self.first_fit(&order, held);
            if best.as_ref().is_none_or(|b| self.top(&offsets) < self.top(b)) {
                best = Some(offsets);
            }
            if best.as_ref().is_some_and(|b| self.top(b) <= goal) {
                break;
            }
        }
        best.unwrap_or_else(|| vec![0; self.buffers.len()])
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
