//! Depthwise 3x3 convolution of several rows at once: four channels of the rows under them are widened to 16 bits, padding
//! included.

use core::arch::naked_asm;

use super::finish::Finish;
use super::group::{Group, Source};
use super::instructions::Halves;
use super::rows::{STRIP, Strips, Values};
use super::walk::{Walk, rows_of_windows};
use crate::kernels::params::Conv2d;

/// Output rows that are computed at once, the input rows under them being widened together: all rows of a small input, or a
/// few where windows are two rows apart and share little.
pub struct Plane<'a> {
    p: &'a Conv2d,
    finish: &'a Finish<'a>,
    /// Columns of the widened rows, and output rows at once.
    pitch: usize,
    rows: usize,
    stride: usize,
}

/// Bytes of a widened column.
const COLUMN: usize = size_of::<Halves>();

impl<'a> Plane<'a> {
    /// `None` if too few rows fit.
    pub fn new(p: &'a Conv2d, finish: &'a Finish<'a>) -> Option<Self> {
        let stride = usize::from(p.window.stride[0]);
        let (rows, count) = (usize::from(p.output.h), usize::from(p.output.w));
        let pitch = usize::from(p.window.pad[1]) + usize::from(p.input.w);
        let pitch = pitch.max(count.saturating_sub(1) * stride + 3);
        let lines = (3 * STRIP).checked_div(pitch).unwrap_or(0);
        let fitting = lines.checked_sub(3)? / stride.max(1) + 1;
        let suits = fitting >= rows || (stride == 2 && fitting >= 2);
        (suits && count <= STRIP).then_some(Self { p, finish, pitch, rows: fitting.min(rows), stride })
    }

    /// All whole groups of four channels.
    pub fn run(
        &self,
        source: &Source<'_>,
        input: &[i8],
        pad: Halves,
        strips: &mut Strips,
        values: &mut Values,
        output: &mut [i8],
    ) {
        let channels = usize::from(self.p.input.c);
        let (height, width) = (usize::from(self.p.input.h), usize::from(self.p.input.w));
        let (above, left) = (usize::from(self.p.window.pad[0]), usize::from(self.p.window.pad[1]));
        let row_places = usize::from(self.p.output.w) * channels;
        if input.len() != height * width * channels {
            return;
        }
        let base = strips.as_mut_ptr().cast::<Halves>();
        let mut group = Group::default();
        let mut top = 0;
        for places in output.chunks_mut((self.rows * row_places).max(1)) {
            let rows = places.len() / row_places.max(1);
            let lines = rows.saturating_sub(1) * self.stride + 3;
            // Lines inside the input, counted from the first line of the plane, which is `top - above`.
            let from = above.saturating_sub(top);
            let to = (height + above).saturating_sub(top).clamp(from, lines.max(from));
            strips.as_flattened_mut().fill(pad);
            let first_row = (top + from).saturating_sub(above);
            let inside = input.as_ptr().wrapping_add(first_row * width * channels);
            let place = base.wrapping_add(from * self.pitch + left);
            let mut walk = self.walk(base, places.as_mut_ptr(), channels, rows);
            for first in (0..channels & !3).step_by(4) {
                if source.load(first, &mut group).is_none() {
                    return;
                }
                if from < to {
                    let skip = (self.pitch - width) * COLUMN;
                    // SAFETY: lines `from` to `to` are rows of the input, and the plane has room for them.
                    unsafe { widen_plane(inside.wrapping_add(first), channels, width, to - from, place, skip) };
                }
                if self.finish.is_nothing() {
                    walk.to = places.as_mut_ptr().wrapping_add(first);
                    // SAFETY: the plane holds the columns of every window, the output four bytes from `first` on at each.
                    unsafe { rows_of_windows(&group, &self.slots(base, 0), &walk) };
                } else {
                    self.finish_rows(&group, first, base, values, places);
                }
            }
            top += rows * self.stride;
        }
    }

    fn slots(&self, base: *mut Halves, line: usize) -> [*mut Halves; 3] {
        core::array::from_fn(|row| base.wrapping_add((line + row) * self.pitch))
    }

    fn walk(&self, base: *mut Halves, to: *mut i8, step: usize, rows: usize) -> Walk {
        let along = usize::from(self.p.output.w) * self.stride;
        let strip_step = self.stride * self.pitch * COLUMN;
        Walk {
            to,
            step,
            end: base.wrapping_add(along),
            advance: self.stride * COLUMN,
            rows,
            strip_skip: strip_step as isize - (along * COLUMN) as isize,
            to_skip: 0,
            strip_step,
        }
    }

    /// Row by row, with values to be finished.
    #[inline(never)]
    fn finish_rows(&self, group: &Group, first: usize, base: *mut Halves, values: &mut Values, places: &mut [i8]) {
        let channels = usize::from(self.p.input.c).max(1);
        let count = usize::from(self.p.output.w);
        for (row, places) in places.chunks_exact_mut((count * channels).max(1)).enumerate() {
            let line = row * self.stride;
            let walk = self.walk(base.wrapping_add(line * self.pitch), values.as_mut_ptr(), 4, 1);
            // SAFETY: the plane holds the columns of the row's windows; there are four values for each.
            unsafe { rows_of_windows(group, &self.slots(base, line), &walk) };
            self.finish.store_fours(values.as_chunks().0, places.get_mut(first..).unwrap_or(&mut []), channels);
        }
    }
}

/// Widens `rows` rows of `count` words; words and rows in `from` lie `step` bytes apart, rows of `to` `skip` bytes after one
/// another.
///
/// # Safety
/// `from` leads over that many words, `to` over as many places; `rows` and `count` are at least 1.
#[unsafe(naked)]
unsafe extern "C" fn widen_plane(
    from: *const i8,
    step: usize,
    count: usize,
    rows: usize,
    to: *mut Halves,
    skip: usize,
) {
    naked_asm!(
        dsp_instructions!(),
        enter_thumb!(),
        ".macro stitchkit_widen",
        "ldr r7, [r0]",
        "add r0, r0, r1",
        "sxtb16 r6, r7",
        "sxtb16 r7, r7, ror #8",
        "strd r6, r7, [r4], #8",
        ".endm",
        "push {{r4, r5, r6, r7, lr}}",
        "ldrd r4, r5, [sp, #20]",
        "1:",
        "subs r12, r2, #3",
        "blt 3f",
        "2:",
        "stitchkit_widen",
        "stitchkit_widen",
        "stitchkit_widen",
        "subs r12, r12, #3",
        "bge 2b",
        "3:",
        "adds r12, r12, #3",
        "beq 5f",
        "4:",
        "stitchkit_widen",
        "subs r12, r12, #1",
        "bne 4b",
        "5:",
        "add r4, r4, r5",
        "subs r3, r3, #1",
        "bne 1b",
        "pop {{r4, r5, r6, r7, pc}}",
        ".purgem stitchkit_widen",
        leave_thumb!(),
    )
}
