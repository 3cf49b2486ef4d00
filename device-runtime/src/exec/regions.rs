//! The memory of one plan as its offsets address it: the arena in one piece, or cut in two.

use core::ops::Range;

use crate::kernels::ShapeError;

/// An arena whose first bytes may lie in another memory than the rest. Offsets count through both; no range may lie in both.
#[derive(Debug)]
pub(crate) struct Regions<'m> {
    /// Offsets below its length; empty if the arena is in one piece.
    fast: Part<'m>,
    main: Part<'m>,
}

type Part<'a> = &'a mut [i8];

impl<'m> Regions<'m> {
    /// Offsets below `split` lie in `fast`, the others in `main`. With less of `fast` than `split` everything is in `main`.
    pub fn new(fast: &'m mut [u8], main: &'m mut [u8], split: usize) -> Self {
        let fast = fast.get_mut(..split).unwrap_or_default();
        Self { fast: bytemuck::cast_slice_mut(fast), main: bytemuck::cast_slice_mut(main) }
    }

    /// An arena in one piece.
    pub fn whole(arena: &'m mut [u8]) -> Self {
        Self::new(&mut [], arena, 0)
    }

    /// Where the main memory starts.
    #[inline(always)]
    const fn split(&self) -> usize {
        if cfg!(feature = "two-memories") { self.fast.len() } else { 0 }
    }

    /// The range in the main memory; `None` if it starts in the fast one.
    #[inline(always)]
    fn in_main(&self, range: &Range<usize>) -> Option<Range<usize>> {
        let split = self.split();
        Some(range.start.checked_sub(split)?..range.end.checked_sub(split)?)
    }

    /// The values at `range`; `None` if it is not within one memory.
    pub fn get(&self, range: &Range<usize>) -> Option<&[i8]> {
        match self.in_main(range) {
            Some(range) => self.main.get(range),
            None => self.fast.get(range.clone()),
        }
    }

    /// The values at `range`, to be changed; `None` if it is not within one memory.
    pub fn get_mut(&mut self, range: &Range<usize>) -> Option<&mut [i8]> {
        match self.in_main(range) {
            Some(range) => self.main.get_mut(range),
            None => self.fast.get_mut(range.clone()),
        }
    }

    /// As [`get_mut`](Self::get_mut), for as long as the memory is lent.
    pub fn take(self, range: &Range<usize>) -> Option<&'m mut [i8]> {
        match self.in_main(range) {
            Some(range) => self.main.get_mut(range),
            None => self.fast.get_mut(range.clone()),
        }
    }

    /// Three parts of the arena. A part that is not needed is `0..0`.
    ///
    /// # Errors
    /// [`ShapeError::Output`] if they overlap, or one is not within one memory.
    #[inline(never)]
    pub fn three(&mut self, [a, b, c]: [&Range<usize>; 3]) -> Result<[Part<'_>; 3], ShapeError> {
        let parts = if self.split() == 0 { three_of(self.main, [a, b, c]) } else { self.divided([a, b, c]) };
        parts.ok_or(ShapeError::Output)
    }

    /// [`three`](Self::three) of two memories.
    #[inline(never)]
    fn divided(&mut self, [a, b, c]: [&Range<usize>; 3]) -> Option<[Part<'_>; 3]> {
        let split = self.split();
        let in_main = |range: &Range<usize>| range.start >= split;
        let local = |range: &Range<usize>| match in_main(range) {
            true => range.start - split..range.end.wrapping_sub(split),
            false => range.clone(),
        };
        // The memory of the first part, and the other one.
        let (own, other) =
            if in_main(a) { (&mut *self.main, &mut *self.fast) } else { (&mut *self.fast, &mut *self.main) };
        let with_first = |range| in_main(range) == in_main(a);
        let (here, there) = (with_first(b), with_first(c));
        let (a, b, c) = (local(a), local(b), local(c));
        match (here, there) {
            (true, true) => three_of(own, [&a, &b, &c]),
            (true, false) => apart(own, &a, &b).zip(other.get_mut(c)).map(|((a, b), c)| [a, b, c]),
            (false, true) => apart(own, &a, &c).zip(other.get_mut(b)).map(|((a, c), b)| [a, b, c]),
            (false, false) => own.get_mut(a).zip(apart(other, &b, &c)).map(|(a, (b, c))| [a, b, c]),
        }
    }
}

/// Two parts of one memory.
///
/// # Errors
/// [`ShapeError::Output`] if they overlap, or one is not within it.
#[cfg(feature = "threads")]
pub(super) fn two<'a>(memory: Part<'a>, [a, b]: [&Range<usize>; 2]) -> Result<[Part<'a>; 2], ShapeError> {
    apart(memory, a, b).map(|(a, b)| [a, b]).ok_or(ShapeError::Output)
}

/// Three parts of one memory.
///
/// # Errors
/// As [`two`].
#[cfg(feature = "threads")]
pub(super) fn three<'a>(memory: Part<'a>, ranges: [&Range<usize>; 3]) -> Result<[Part<'a>; 3], ShapeError> {
    three_of(memory, ranges).ok_or(ShapeError::Output)
}

/// Three parts of one memory.
fn three_of<'a>(memory: Part<'a>, [a, b, c]: [&Range<usize>; 3]) -> Option<[Part<'a>; 3]> {
    let is_reversed = b.end <= a.start;
    let (low, high) = if is_reversed { (b, a) } else { (a, b) };
    let (low, high, c) = around(memory, low, high, c)?;
    Some(if is_reversed { [high, low, c] } else { [low, high, c] })
}

/// Parts in any order.
#[inline(never)]
fn apart<'a>(memory: Part<'a>, a: &Range<usize>, b: &Range<usize>) -> Option<(Part<'a>, Part<'a>)> {
    let is_reversed = b.end <= a.start;
    let (low, high) = if is_reversed { (b, a) } else { (a, b) };
    let (below, above) = memory.split_at_mut_checked(high.start)?;
    let parts = (below.get_mut(low.clone())?, above.get_mut(..high.end.checked_sub(high.start)?)?);
    Some(if is_reversed { (parts.1, parts.0) } else { parts })
}

/// Parts of which the first ends before the second.
#[inline(always)]
fn around<'a>(
    memory: Part<'a>,
    low: &Range<usize>,
    high: &Range<usize>,
    other: &Range<usize>,
) -> Option<(Part<'a>, Part<'a>, Part<'a>)> {
    let (below, above) = memory.split_at_mut_checked(high.start)?;
    let len = high.end.checked_sub(high.start)?;
    if other.start < high.end {
        let (low, other) = apart(below, low, other)?;
        return Some((low, above.get_mut(..len)?, other));
    }
    let (high_part, above) = above.split_at_mut_checked(len)?;
    let other = above.get_mut(other.start - high.end..other.end.checked_sub(high.end)?)?;
    Some((below.get_mut(low.clone())?, high_part, other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const ARENA: usize = 48;

    fn apart(a: &Range<usize>, b: &Range<usize>) -> bool {
        a.is_empty() || b.is_empty() || a.end <= b.start || b.end <= a.start
    }

    proptest! {
        /// Wherever the arena is cut, parts hold the values of their offsets, or are refused for a reason.
        #[test]
        fn parts_are_the_same_in_one_memory_and_in_two(
            split in 0..=ARENA, raw in prop::array::uniform3((0..ARENA, 0..ARENA / 2)),
        ) {
            let values: Vec<u8> = (0..ARENA as u8).collect();
            let (mut fast, mut main) = (values[..split].to_vec(), values[split..].to_vec());
            let mut memory = Regions::new(&mut fast, &mut main, split);
            let ranges = raw.map(|(start, len)| start..start + len);
            let inside = |r: &Range<usize>| r.end <= ARENA && (r.end <= split || split <= r.start);
            let expected = |r: &Range<usize>| r.clone().map(|at| at as i8).collect::<Vec<i8>>();
            let [a, b, c] = &ranges;
            for range in &ranges {
                prop_assert_eq!(memory.get(range).map(<[i8]>::to_vec), inside(range).then(|| expected(range)));
            }
            if let Ok(parts) = memory.three([a, b, c]) {
                prop_assert_eq!(parts.map(|part| part.to_vec()), [a, b, c].map(expected));
            } else {
                let is_empty = ranges.iter().any(Range::is_empty);
                let are_apart = apart(a, b) && apart(a, c) && apart(b, c);
                prop_assert!(is_empty || !(ranges.iter().all(inside) && are_apart));
            }
        }
    }

    #[test]
    fn a_step_without_scratch_has_an_empty_part() {
        let (mut fast, mut main) = ([0; 16], [0; 16]);
        for split in [0, 16] {
            let mut memory = Regions::new(&mut fast, &mut main, split);
            let parts = memory.three([&(0..8), &(0..0), &(8..16)]).map(|parts| parts.map(|part| part.len()));
            assert_eq!(parts, Ok([8, 0, 8]));
        }
    }
}
