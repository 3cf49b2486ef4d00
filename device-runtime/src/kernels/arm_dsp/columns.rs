//! The taps of windows, widened to 16 bits in scratch.

use super::instructions::{Halves, copy_rows, even_bytes, odd_bytes, widen_rows, widen_strided, widen_words};
use super::pack;
use crate::kernels::columns::{Run, for_each_run};
use crate::kernels::params::Conv2d;
use crate::kernels::windows::Span;

/// Gathers the windows of one convolution.
pub struct Gather<'a> {
    p: &'a Conv2d,
    input: &'a [i8],
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
        Column { quads, stride: 1 }.runs(self.p, window, group, self.input);
    }

    /// The taps of one window of four and one group, to every fourth quad. `copy` is overwritten.
    #[inline(always)]
    pub fn window(&self, window: (Span, Span), group: (usize, usize), copy: &mut Copy, quads: &mut [Halves]) {
        let (rows, columns) = window;
        if self.inside == Inside::Runs || rows.count != self.kernel[0] || columns.count != self.kernel[1] {
            return Column { quads, stride: 4 }.runs(self.p, window, group, self.input);
        }
        let start = rows.start * self.row_pitch + columns.start * usize::from(self.p.input.c);
        let words = self.row_taps.div_ceil(4);
        let end = start + (self.kernel[0] - 1) * self.row_step + 4 * words;
        let Some(from) = self.input.get(start..end) else {
            return Column { quads, stride: 4 }.runs(self.p, window, group, self.input);
        };
        let column = Column { quads, stride: 4 };
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
        if column.holds(whole) {
            // SAFETY: `from` spans all rows, or the copy their words, and there is a place for every word.
            unsafe { widen_rows(from, self.row_step, words, rows, column.quads.as_mut_ptr(), 0) };
        }
        let rest = taps % 4;
        if is_copied && rest != 0 {
            let last = copy.get(4 * whole..).and_then(|last| last.first_chunk::<4>());
            let word = last.map_or(0, |&last| pack::word(last)) << ((32 - 8 * rest as u32) & 31);
            if let Some(place) = column.quads.get_mut(4 * whole) {
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
        let Conv2d { window: w, input, output, .. } = self.p;
        let is_point = w.kernel == [1, 1] && w.stride == [1, 1] && w.pad == [0, 0];
        // Outputs may end before the input's rows do.
        self.inside == Inside::Words && is_point && input.w == output.w
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

/// Where one window's taps go: `stride` windows alternate quad by quad.
///
/// Taps that do not fill the last quad are its last ones; the first ones are zero.
struct Column<'a> {
    /// Begins with the window's first quad.
    quads: &'a mut [Halves],
    stride: usize,
}

impl Column<'_> {
    #[inline(always)]
    fn holds(&self, quads: usize) -> bool {
        quads != 0 && self.quads.len() > (quads - 1) * self.stride
    }

    /// A window that is clipped or not adjacent in memory.
    #[inline(never)]
    fn runs(mut self, p: &Conv2d, window: (Span, Span), group: (usize, usize), input: &[i8]) {
        if !group.1.is_multiple_of(4) {
            return self.taps(p, window, group, input);
        }
        each_run(p, window, group, input, &mut |run| match run {
            Run::Pad(0) => {}
            Run::Pad(len) => self.pad(p.pad_value, len / 4),
            Run::Inside(taps) => self.words(taps),
        });
    }

    #[inline(never)]
    fn pad(&mut self, value: i8, words: usize) {
        let halves = [even_bytes(pack::word([value; 4])); 2];
        self.quads.iter_mut().step_by(self.stride.max(1)).take(words).for_each(|quad| *quad = halves);
        self.skip(words);
    }

    #[inline(never)]
    fn words(&mut self, taps: &[i8]) {
        let words = taps.len() / 4;
        if self.holds(words) {
            // SAFETY: there are as many words, and places.
            unsafe { widen_strided(taps.as_ptr(), words, self.quads.as_mut_ptr(), self.stride) };
        }
        self.skip(words);
    }

    fn skip(&mut self, quads: usize) {
        self.quads = core::mem::take(&mut self.quads).get_mut(quads * self.stride..).unwrap_or(&mut []);
    }

    /// A window whose channels are not whole words.
    fn taps(mut self, p: &Conv2d, window: (Span, Span), group: (usize, usize), input: &[i8]) {
        let mut writer = Writer { column: &mut self, pending: 0, bits: 0 };
        each_run(p, window, group, input, &mut |run| match run {
            Run::Pad(0) => {}
            Run::Pad(len) => writer.repeat(p.pad_value, len),
            Run::Inside(taps) => writer.taps(taps),
        });
        if writer.bits != 0 {
            let last = writer.pending << (32 - writer.bits);
            self.push(last);
        }
    }

    /// Four taps.
    #[inline(never)]
    fn push(&mut self, word: u32) {
        if let Some(place) = self.quads.first_mut() {
            *place = [even_bytes(word), odd_bytes(word)];
        }
        self.skip(1);
    }
}

/// [`for_each_run`], in memory once for all that is done with runs.
#[inline(never)]
fn each_run(p: &Conv2d, window: (Span, Span), group: (usize, usize), input: &[i8], emit: &mut dyn FnMut(Run<'_>)) {
    for_each_run(p, window, group, input, emit);
}

/// Taps of a window that is copied before it is widened: rows of the first convolution of a network are rarely whole words.
const SMALL_TAPS: usize = 64;

/// Memory for such a window, with room for the rest of its last word.
pub type Copy = [i8; 2 * SMALL_TAPS];

/// Collects taps to words.
struct Writer<'a, 'b> {
    column: &'a mut Column<'b>,
    /// Taps that do not fill a word yet, and how many bits they take: fewer than 32.
    pending: u32,
    bits: u32,
}

impl Writer<'_, '_> {
    fn taps(&mut self, taps: &[i8]) {
        let (words, rest) = taps.as_chunks();
        words.iter().for_each(|&word| self.word(pack::word(word)));
        rest.iter().for_each(|&x| self.tap(x));
    }

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
        self.column.push(both as u32);
        self.pending = (both >> 32) as u32;
    }

    #[inline(always)]
    fn tap(&mut self, x: i8) {
        self.pending |= u32::from(x as u8) << (self.bits & 31);
        self.bits += 8;
        if self.bits == 32 {
            let word = self.pending;
            self.column.push(word);
            (self.pending, self.bits) = (0, 0);
        }
    }
}
