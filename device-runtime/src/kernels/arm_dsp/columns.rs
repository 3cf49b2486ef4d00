//! The taps of one or two windows, widened to 16 bits in scratch.

use super::instructions::{
    Block, Half, Halves, copy_rows, dual_multiply_add, even_bytes, odd_bytes, two_filters_one_window,
    two_filters_two_windows, widen_rows,
};
use super::pack;
use crate::kernels::columns::{Run, for_each_run};
use crate::kernels::params::Conv2d;
use crate::kernels::windows::Span;

/// Widened taps. Two windows alternate in blocks of four taps; one window fills blocks of eight taps.
pub struct Columns<'a> {
    /// Blocks that are full of taps.
    whole: &'a [Block],
    /// What is left of the taps, then zeros.
    last: Block,
    taps: usize,
}

impl<'a> Columns<'a> {
    /// The taps of two windows and one group (first input channel, number of input channels).
    #[inline(always)]
    pub fn two(
        p: &Conv2d,
        [left, right]: [(Span, Span); 2],
        group: (usize, usize),
        input: &[i8],
        blocks: &'a mut [Block],
    ) -> Self {
        if group.1.is_multiple_of(4) {
            widen_words(p, left, group, input, blocks, Half::Left);
            widen_words(p, right, group, input, blocks, Half::Right);
        } else {
            widen(p, left, group, input, blocks, Half::Left);
            widen(p, right, group, input, blocks, Half::Right);
        }
        Self::new(blocks, p.taps(), 4)
    }

    /// The taps of one window and one group.
    pub fn one(p: &Conv2d, window: (Span, Span), group: (usize, usize), input: &[i8], blocks: &'a mut [Block]) -> Self {
        if group.1.is_multiple_of(4) {
            widen_words(p, window, group, input, blocks, Half::Left);
        } else {
            widen(p, window, group, input, blocks, Half::Left);
        }
        // Close the gaps between the halves that belong to the window.
        let halves = blocks.as_flattened_mut();
        for to in 0..halves.len().div_ceil(2) {
            if let Some(&half) = halves.get(2 * to)
                && let Some(place) = halves.get_mut(to)
            {
                *place = half;
            }
        }
        let used = halves.len() / 2;
        halves.get_mut(used..).unwrap_or(&mut []).fill([0; 2]);
        Self::new(blocks, p.taps(), 8)
    }

    #[inline(always)]
    fn new(blocks: &'a [Block], taps: usize, taps_per_block: usize) -> Self {
        let (whole, last) = blocks.split_at_checked(taps / taps_per_block).unwrap_or_default();
        Self { whole, last: last.first().copied().unwrap_or_default(), taps: taps.max(1) }
    }

    /// Number of taps, at least 1.
    #[inline(always)]
    pub fn taps(&self) -> usize {
        self.taps
    }

    /// Sums `[filter][window]` over two windows, starting from one bias per filter. The filters have as many weights as
    /// there are taps; others give unspecified sums.
    #[inline(always)]
    pub fn two_sums(&self, filters: [&[i8]; 2], bias: [i32; 2]) -> [[i32; 2]; 2] {
        let weights = self.whole.len() * 4;
        if filters[0].len() < weights || filters[1].len() < weights {
            return [[0; 2]; 2];
        }
        let mut sums = [[bias[0]; 2], [bias[1]; 2]];
        // SAFETY: both filters hold at least four weights per block.
        unsafe { two_filters_two_windows(&mut sums, self.whole, filters.map(<[i8]>::as_ptr)) };
        let rest = self.taps % 4;
        if rest != 0 {
            let [[l02, l13], [r02, r13]] = self.last;
            for (sums, filter) in sums.iter_mut().zip(filters) {
                let w = pack::last_word(filter, rest);
                let (w02, w13) = (even_bytes(w), odd_bytes(w));
                sums[0] = dual_multiply_add(l13, w13, dual_multiply_add(l02, w02, sums[0]));
                sums[1] = dual_multiply_add(r13, w13, dual_multiply_add(r02, w02, sums[1]));
            }
        }
        sums
    }

    /// Sums of two filters over one window, bias excluded. The filters have as many weights as there are taps; others
    /// give unspecified sums.
    #[inline(always)]
    pub fn one_sums(&self, filters: [&[i8]; 2]) -> [i32; 2] {
        let weights = self.whole.len() * 8;
        if filters[0].len() < weights || filters[1].len() < weights {
            return [0; 2];
        }
        let mut sums = [0; 2];
        // SAFETY: both filters hold at least eight weights per block.
        unsafe { two_filters_one_window(&mut sums, self.whole, filters.map(<[i8]>::as_ptr)) };
        let [[x02, x13], [z02, z13]] = self.last;
        for (sum, filter) in sums.iter_mut().zip(filters) {
            let (words, rest) = filter.get(weights..).unwrap_or(&[]).as_chunks::<4>();
            let last = pack::last_word(filter, rest.len());
            let (first, second) = words.first().map_or((last, 0), |&w| (pack::word(w), last));
            *sum = dual_multiply_add(x13, odd_bytes(first), dual_multiply_add(x02, even_bytes(first), *sum));
            *sum = dual_multiply_add(z13, odd_bytes(second), dual_multiply_add(z02, even_bytes(second), *sum));
        }
        sums
    }
}

/// Writes the taps of one window and group to one half of each block, where the channels of a group are whole words.
#[inline(always)]
fn widen_words(
    p: &Conv2d,
    window: (Span, Span),
    group: (usize, usize),
    input: &[i8],
    blocks: &mut [Block],
    half: Half,
) {
    let (rows, columns) = window;
    let [kernel_rows, kernel_columns] = p.window.kernel.map(usize::from);
    let pitch = usize::from(p.input.c);
    let inside = rows.count == kernel_rows && columns.count == kernel_columns;
    if !inside || group.1 != pitch || p.window.dilation[1] != 1 {
        return widen_words_of_runs(p, window, group, input, blocks, half);
    }
    let row_pitch = usize::from(p.input.w) * pitch;
    let row_step = usize::from(p.window.dilation[0]) * row_pitch;
    let row_taps = kernel_columns * pitch;
    let start = rows.start * row_pitch + columns.start * pitch;
    let end = start + (kernel_rows - 1) * row_step + row_taps;
    let Some(taps) = input.get(start..end) else { return };
    if blocks.len() >= kernel_rows * row_taps / 4 && row_taps >= 4 {
        let to = blocks.as_mut_ptr().cast::<Halves>().wrapping_add(half as usize);
        // SAFETY: `taps` spans all rows, and there is a block for every word.
        unsafe { widen_rows(taps.as_ptr(), row_step, row_taps / 4, kernel_rows, to) };
    }
}

/// [`widen_words`] for a window that is clipped or not adjacent in memory.
#[inline(never)]
fn widen_words_of_runs(
    p: &Conv2d,
    window: (Span, Span),
    group: (usize, usize),
    input: &[i8],
    blocks: &mut [Block],
    half: Half,
) {
    let mut blocks = blocks;
    for_each_run(p, window, group, input, |run| {
        let words = match run {
            Run::Pad(len) => len,
            Run::Inside(taps) => taps.len(),
        } / 4;
        if words == 0 {
            return;
        }
        let Some((now, later)) = core::mem::take(&mut blocks).split_at_mut_checked(words) else { return };
        blocks = later;
        match run {
            // SAFETY: one row of as many words as there are blocks in `now`.
            Run::Inside(taps) => unsafe {
                widen_rows(taps.as_ptr(), 0, words, 1, now.as_mut_ptr().cast::<Halves>().wrapping_add(half as usize));
            },
            Run::Pad(_) => fill(now, half, even_bytes(pack::word([p.pad_value; 4]))),
        }
    });
}

#[inline(never)]
fn fill(blocks: &mut [Block], half: Half, widened: u32) {
    blocks.iter_mut().for_each(|block| *half.of(block) = [widened; 2]);
}

/// Taps of a window that [`widen_small`] can take.
const SMALL_TAPS: usize = 64;

/// [`widen`] for a small window that lies inside the input, by way of a copy on the stack: the rows of the first
/// convolution of a network are rarely whole words. Returns whether it did.
#[inline(always)]
fn widen_small(p: &Conv2d, (rows, columns): (Span, Span), input: &[i8], blocks: &mut [Block], half: Half) -> bool {
    let [kernel_rows, kernel_columns] = p.window.kernel.map(usize::from);
    let pitch = usize::from(p.input.c);
    let row_taps = kernel_columns * pitch;
    let taps = kernel_rows * row_taps;
    let inside = rows.count == kernel_rows && columns.count == kernel_columns;
    if !inside || p.groups != 1 || p.window.dilation[1] != 1 || taps > SMALL_TAPS {
        return false;
    }
    // Rows are copied in words. What a row has too much is overwritten by the next, and after the last one by zeros.
    let row_words = row_taps.div_ceil(4);
    let row_pitch = usize::from(p.input.w) * pitch;
    let row_step = usize::from(p.window.dilation[0]) * row_pitch;
    let start = rows.start * row_pitch + columns.start * pitch;
    let end = start + (kernel_rows - 1) * row_step + 4 * row_words;
    let Some(from) = input.get(start..end) else { return false };
    let mut copy = [0i8; SMALL_TAPS + 4];
    // SAFETY: `from` spans all rows in whole words. The last row of the copy starts at `taps - row_taps` and ends less than
    // four bytes after `taps`, which is within the array.
    unsafe { copy_rows(from.as_ptr(), row_step, row_words, kernel_rows, copy.as_mut_ptr(), row_taps) };
    if let Some(rest) = copy.get_mut(taps..).and_then(|rest| rest.first_chunk_mut::<4>()) {
        *rest = [0; 4];
    }
    let words = taps.div_ceil(4);
    if blocks.len() >= words {
        let to = blocks.as_mut_ptr().cast::<Halves>().wrapping_add(half as usize);
        // SAFETY: the copy holds that many words, and there is a block for each.
        unsafe { widen_rows(copy.as_ptr(), 0, words, 1, to) };
    }
    true
}

/// Writes the taps of one window and group to one half of each block; what no tap reaches of the last one is zero.
#[inline(never)]
fn widen(p: &Conv2d, window: (Span, Span), group: (usize, usize), input: &[i8], blocks: &mut [Block], half: Half) {
    if widen_small(p, window, input, blocks, half) {
        return;
    }
    let mut writer = Writer { blocks: blocks.iter_mut(), half, pending: 0, bits: 0 };
    for_each_run(p, window, group, input, |run| match run {
        Run::Pad(0) => {}
        Run::Pad(len) => writer.repeat(p.pad_value, len),
        Run::Inside(taps) => writer.taps(taps),
    });
    if writer.bits != 0 {
        writer.word(0);
    }
}

/// Collects taps to words and widens them into one half of each block.
struct Writer<'a> {
    blocks: core::slice::IterMut<'a, Block>,
    half: Half,
    /// Taps that do not fill a word yet, and how many bits they take: fewer than 32.
    pending: u32,
    bits: u32,
}

impl Writer<'_> {
    #[inline(always)]
    fn taps(&mut self, taps: &[i8]) {
        let (words, rest) = taps.as_chunks();
        words.iter().for_each(|&word| self.word(pack::word(word)));
        rest.iter().for_each(|&x| self.tap(x));
    }

    #[inline(never)]
    fn repeat(&mut self, x: i8, len: usize) {
        for _ in 0..len / 4 {
            self.word(pack::word([x; 4]));
        }
        for _ in 0..len % 4 {
            self.tap(x);
        }
    }

    /// Four taps.
    #[inline(always)]
    fn word(&mut self, word: u32) {
        let both = u64::from(word) << (self.bits & 31) | u64::from(self.pending);
        self.full(both as u32);
        self.pending = (both >> 32) as u32;
    }

    #[inline(always)]
    fn tap(&mut self, x: i8) {
        self.pending |= u32::from(x as u8) << (self.bits & 31);
        self.bits += 8;
        if self.bits == 32 {
            self.full(self.pending);
            (self.pending, self.bits) = (0, 0);
        }
    }

    #[inline(always)]
    fn full(&mut self, word: u32) {
        if let Some(block) = self.blocks.next() {
            *self.half.of(block) = [even_bytes(word), odd_bytes(word)];
        }
    }
}
