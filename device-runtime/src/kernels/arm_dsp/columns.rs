//! The taps of windows, widened to 16 bits in scratch.

use super::instructions::{Halves, copy_rows, even_bytes, odd_bytes, widen_rows, widen_words};
use super::pack;
use crate::kernels::columns::{Run, for_each_run};
use crate::kernels::params::Conv2d;
use crate::kernels::windows::Span;

/// Gathers the windows of one convolution.
pub struct Gather<'a> {
    pub p: &'a Conv2d,
    pub input: &'a [i8],
    kernel: [usize; 2],
    /// Bytes from row to row of the input, and from row to row of a window.
    row_pitch: usize,
    row_step: usize,
    /// Taps of one row of a window.
    row_taps: usize,
    /// How windows inside the input are gathered.
    inside: Inside,
}

/// Rows of windows that lie inside the input.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// Whole words, adjacent in memory.
    Words,
    /// Adjacent, few enough to be copied first.
    Small,
    /// Anything else.
    Runs,
}

impl<'a> Gather<'a> {
    pub fn new(p: &'a Conv2d, input: &'a [i8]) -> Self {
        let kernel = p.window.kernel.map(usize::from);
        let pitch = usize::from(p.input.c);
        let row_pitch = usize::from(p.input.w) * pitch;
        let row_taps = kernel[1] * pitch;
        let inside = match p.groups == 1 && p.window.dilation[1] == 1 {
            true if row_taps.is_multiple_of(4) => Inside::Words,
            true if (4..=SMALL_TAPS).contains(&(kernel[0] * row_taps)) => Inside::Small,
            _ => Inside::Runs,
        };
        let row_step = usize::from(p.window.dilation[0]) * row_pitch;
        Self { p, input, kernel, row_pitch, row_step, row_taps, inside }
    }

    /// The taps of one window and one group (first input channel, number of input channels), one quad after the other.
    #[inline(always)]
    pub fn lone_window(&self, window: (Span, Span), group: (usize, usize), quads: &mut [Halves]) {
        Column::new(quads, 1).runs(self.p, window, group, self.input);
    }

    /// The taps of one window of four and one group, to every fourth quad. `copy` is overwritten.
    #[inline(always)]
    pub fn window(&self, window: (Span, Span), group: (usize, usize), copy: &mut Copy, quads: &mut [Halves]) {
        let (rows, columns) = window;
        if self.inside == Inside::Runs || rows.count != self.kernel[0] || columns.count != self.kernel[1] {
            return Column::new(quads, 4).runs(self.p, window, group, self.input);
        }
        let start = rows.start * self.row_pitch + columns.start * usize::from(self.p.input.c);
        let words = self.row_taps.div_ceil(4);
        let end = start + (self.kernel[0] - 1) * self.row_step + 4 * words;
        let Some(from) = self.input.get(start..end) else {
            return Column::new(quads, 4).runs(self.p, window, group, self.input);
        };
        let taps = self.kernel[0] * self.row_taps;
        let whole = taps / 4;
        let is_copied = self.inside == Inside::Small;
        let (from, words, rows) = if is_copied {
            // Rows are copied in words. What a row has too much is overwritten by the next, or not read.
            // SAFETY: `from` spans all rows in whole words. The last row of the copy starts at `taps - row_taps` and ends less
            // than four bytes after `taps`, which is within the array.
            unsafe {
                copy_rows(from.as_ptr(), self.row_step, words, self.kernel[0], copy.as_mut_ptr(), self.row_taps);
            }
            (copy.as_ptr(), whole, 1)
        } else {
            (from.as_ptr(), words, self.kernel[0])
        };
        if quads.len() > 4 * (whole - 1) {
            // SAFETY: `from` spans all rows, or the copy their words, and there is a place for every word.
            unsafe { widen_rows(from, self.row_step, words, rows, quads.as_mut_ptr(), 0) };
        }
        let rest = taps % 4;
        if is_copied && rest != 0 {
            let last = copy.get(4 * whole..).and_then(|last| last.first_chunk::<4>());
            let word = last.map_or(0, |&last| pack::word(last)) << ((32 - 8 * rest as u32) & 31);
            if let Some(place) = quads.get_mut(4 * whole) {
                *place = [even_bytes(word), odd_bytes(word)];
            }
        }
    }

    /// Four adjacent positions from `position` on, where windows [are that](Self::is_pointwise), to every fourth quad.
    #[inline(always)]
    pub fn four_points(&self, position: usize, quads: &mut [Halves]) {
        let pitch = self.row_taps;
        let from = self.input.get(position * pitch..(position + 4) * pitch).unwrap_or(&[]);
        if from.is_empty() || quads.len() < pitch {
            return;
        }
        let back = size_of::<Halves>() as isize - (pitch * size_of::<Halves>()) as isize;
        // SAFETY: `from` holds four windows of `pitch` bytes, and `quads` a quad for each four of them.
        unsafe { widen_rows(from.as_ptr(), pitch, pitch / 4, 4, quads.as_mut_ptr(), back) };
    }

    /// Windows are adjacent single positions of whole words.
    pub fn is_pointwise(&self) -> bool {
        self.inside == Inside::Words && self.p.is_pointwise()
    }
}

/// The `at`-th point of `pitch` taps, which are whole words, one quad after the other.
#[inline(never)]
pub fn point(input: &[i8], at: usize, pitch: usize, quads: &mut [Halves]) {
    let from = input.get(at * pitch..(at + 1) * pitch).unwrap_or(&[]);
    if from.is_empty() || quads.len() < pitch / 4 {
        return;
    }
    // SAFETY: `from` holds `pitch` bytes, and `quads` a quad for each four of them.
    unsafe { widen_words(from.as_ptr(), pitch / 4, quads.as_mut_ptr()) };
}

/// Where one window's taps go: `stride` windows, one or four, alternate quad by quad.
///
/// Taps that do not fill the last quad are its last ones; the first ones are zero.
struct Column<'a> {
    /// Begins with the quad that is to be filled.
    quads: &'a mut [Halves],
    stride: usize,
    /// Taps that do not fill a word yet, the last one on top, and how many they are: fewer than four.
    pending: u32,
    count: usize,
}

impl<'a> Column<'a> {
    const fn new(quads: &'a mut [Halves], stride: usize) -> Self {
        Self { quads, stride, pending: 0, count: 0 }
    }

    /// A window that is clipped or not adjacent in memory.
    #[inline(never)]
    fn runs(mut self, p: &Conv2d, window: (Span, Span), group: (usize, usize), input: &[i8]) {
        for_each_run(p, window, group, input, |run| self.run(p.pad_value, run));
        if self.count != 0 {
            self.word(self.pending);
        }
    }

    #[inline(never)]
    fn run(&mut self, pad: i8, run: Run<'_>) {
        let (mut left, taps) = match run {
            Run::Pad(len) => (len, None),
            Run::Inside(taps) => (taps.len(), Some(taps)),
        };
        while left > 0 {
            let taps = taps.and_then(|taps| taps.get(taps.len().wrapping_sub(left)..));
            if self.count == 0 && left >= 4 {
                self.words(pad, taps, left / 4);
                left %= 4;
                continue;
            }
            let tap = *taps.and_then(|taps| taps.first()).unwrap_or(&pad);
            self.pending = self.pending >> 8 | u32::from(tap as u8) << 24;
            self.count += 1;
            left -= 1;
            if self.count == 4 {
                self.word(self.pending);
                (self.pending, self.count) = (0, 0);
            }
        }
    }

    /// Whole words at the start of `taps`, or as many of padding.
    #[inline(always)]
    fn words(&mut self, pad: i8, taps: Option<&[i8]>, words: usize) {
        if self.quads.len() <= (words - 1) * self.stride {
            return;
        }
        match taps.filter(|taps| taps.len() >= 4 * words) {
            // SAFETY: there are as many words, and places.
            Some(taps) if self.stride == 4 => unsafe {
                widen_rows(taps.as_ptr(), 0, words, 1, self.quads.as_mut_ptr(), 0)
            },
            // SAFETY: there are as many words, and places one after the other.
            Some(taps) => unsafe { widen_words(taps.as_ptr(), words, self.quads.as_mut_ptr()) },
            None => {
                let halves = [even_bytes(pack::word([pad; 4])); 2];
                self.quads.iter_mut().step_by(self.stride.max(1)).take(words).for_each(|quad| *quad = halves);
            }
        }
        self.skip(words);
    }

    /// Four taps.
    #[inline(never)]
    fn word(&mut self, word: u32) {
        if let Some(place) = self.quads.first_mut() {
            *place = [even_bytes(word), odd_bytes(word)];
        }
        self.skip(1);
    }

    #[inline(always)]
    fn skip(&mut self, quads: usize) {
        self.quads = core::mem::take(&mut self.quads).get_mut(quads * self.stride..).unwrap_or(&mut []);
    }
}

/// Taps of a window that is copied before it is widened: rows of the first convolution of a network are rarely whole words.
const SMALL_TAPS: usize = 64;

/// Memory for such a window, with room for the rest of its last word.
pub type Copy = [i8; 2 * SMALL_TAPS];
