//! Finds the taps of windows in the input, or copies them together.

use core::arch::naked_asm;

use super::filters::WINDOWS;
use crate::kernels::columns::{Run, for_each_run};
use crate::kernels::params::Conv2d;
use crate::kernels::windows::{Span, Windows};

/// Gathers the windows of one convolution and group, block by block.
pub struct Gather<'a> {
    p: &'a Conv2d,
    input: &'a [i8],
    /// First input channel of the group, and how many.
    group: (usize, usize),
    windows: Windows<'a>,
    taps: usize,
    kernel: [usize; 2],
    row_pitch: usize,
    row_step: usize,
    row_taps: usize,
    /// Bytes from window to window in a row.
    window_step: usize,
    /// Rows of windows inside the input are adjacent in memory.
    has_rows: bool,
}

impl<'a> Gather<'a> {
    pub fn new(p: &'a Conv2d, group: (usize, usize), input: &'a [i8]) -> Self {
        let kernel = p.window.kernel.map(usize::from);
        let pitch = usize::from(p.input.c);
        let row_pitch = usize::from(p.input.w) * pitch;
        Self {
            p,
            input,
            group,
            windows: Windows::new(&p.window, p.input, p.output),
            taps: p.taps(),
            kernel,
            row_pitch,
            row_step: usize::from(p.window.dilation[0]) * row_pitch,
            row_taps: kernel[1] * pitch,
            window_step: usize::from(p.window.stride[1]) * pitch,
            has_rows: p.groups == 1 && p.window.dilation[1] == 1,
        }
    }

    /// Where the taps of the next `count` windows are: in the input, or in `columns`, which has room for as many. Windows that
    /// do not exist repeat the last.
    #[inline(always)]
    pub fn block(&mut self, count: usize, columns: &mut [i8]) -> [*const i8; WINDOWS] {
        if count == WINDOWS
            && self.has_rows
            && let Some((rows, column)) = self.windows.next_in_row(WINDOWS as u16)
            && let Some(windows) = self.three(rows, column, columns)
        {
            return windows;
        }
        let mut last = columns.as_ptr();
        core::array::from_fn(|at| {
            if at < count {
                let window = self.windows.next().unwrap_or_default();
                last = self.window(window, columns.get_mut(at * self.taps..).unwrap_or(&mut []));
            }
            last
        })
    }

    /// Three windows in one row that lose no columns, from input column `column` on; `None` if memory is short.
    #[inline(always)]
    fn three(&self, rows: Span, column: usize, columns: &mut [i8]) -> Option<[*const i8; WINDOWS]> {
        let start = rows.start * self.row_pitch + column * usize::from(self.p.input.c);
        let reach = (rows.count - 1) * self.row_step + (WINDOWS - 1) * self.window_step + self.row_taps;
        let from = self.input.get(start..start.checked_add(reach)?)?.as_ptr();
        if self.kernel[0] == 1 {
            return Some([from, from.wrapping_add(self.window_step), from.wrapping_add(2 * self.window_step)]);
        }
        let columns = columns.get_mut(..WINDOWS * self.taps)?;
        if rows.count != self.kernel[0] {
            fill(columns, self.p.pad_value);
        }
        let first = columns.as_mut_ptr();
        let copy = ThreeRows {
            from,
            window_step: self.window_step,
            row_step: self.row_step,
            bytes: self.row_taps,
            rows: rows.count,
            to: first.wrapping_add(rows.first * self.row_taps),
            taps: self.taps,
        };
        // SAFETY: `from` reaches to the end of the last window's last row, and each column has room for the kernel's rows.
        unsafe { copy_three(&copy) };
        Some([first, first.wrapping_add(self.taps), first.wrapping_add(2 * self.taps)])
    }

    /// Where the taps of one window are.
    #[inline(never)]
    fn window(&self, window: (Span, Span), column: &mut [i8]) -> *const i8 {
        let (rows, columns) = window;
        let Some(column) = column.get_mut(..self.taps) else { return column.as_ptr() };
        if !self.has_rows {
            self.runs(window, column);
            return column.as_ptr();
        }
        if rows.count != self.kernel[0] || columns.count != self.kernel[1] {
            fill(column, self.p.pad_value);
        }
        let pitch = usize::from(self.p.input.c);
        let bytes = columns.count * pitch;
        if rows.count == 0 || bytes == 0 {
            return column.as_ptr();
        }
        let start = rows.start * self.row_pitch + columns.start * pitch;
        let reach = (rows.count - 1) * self.row_step + bytes;
        let Some(from) = self.input.get(start..start.wrapping_add(reach)) else { return column.as_ptr() };
        if self.kernel[0] == 1 && columns.count == self.kernel[1] {
            return from.as_ptr();
        }
        let to = column.as_mut_ptr().wrapping_add(rows.first * self.row_taps + columns.first * pitch);
        // SAFETY: `from` spans the rows, and the column has room for the kernel's rows.
        unsafe { copy_rows(from.as_ptr(), self.row_step, bytes, rows.count, to, self.row_taps) };
        column.as_ptr()
    }

    /// A window of one group, or of columns that are not adjacent.
    #[inline(never)]
    fn runs(&self, window: (Span, Span), column: &mut [i8]) {
        let mut rest = column;
        for_each_run(self.p, window, self.group, self.input, |run| {
            let len = match run {
                Run::Pad(len) => len,
                Run::Inside(taps) => taps.len(),
            };
            let Some((now, later)) = core::mem::take(&mut rest).split_at_mut_checked(len) else { return };
            rest = later;
            match run {
                Run::Pad(_) => fill(now, self.p.pad_value),
                // SAFETY: one row of as many bytes as `now` has, which are not none.
                Run::Inside(taps) if len != 0 => unsafe { copy_rows(taps.as_ptr(), 0, len, 1, now.as_mut_ptr(), 0) },
                Run::Inside(_) => {}
            }
        });
    }
}

/// Sets every byte.
#[inline(always)]
fn fill(bytes: &mut [i8], value: i8) {
    if !bytes.is_empty() {
        // SAFETY: as many writable bytes, which are not none.
        unsafe { fill_bytes(bytes.as_mut_ptr(), bytes.len(), value.into()) };
    }
}

/// # Safety
/// `to` leads over `count` writable bytes; `count` is at least 1.
#[unsafe(naked)]
unsafe extern "C" fn fill_bytes(to: *mut i8, count: usize, value: i32) {
    naked_asm!(
        ".cpu cortex-m55",
        "push {{r4, lr}}",
        "vdup.8 q0, r2",
        "dlstp.8 lr, r1",
        "1:",
        "vstrb.8 q0, [r0], #16",
        "letp lr, 1b",
        "pop {{r4, pc}}",
    )
}

/// Copies `rows` rows of `bytes` bytes; they start `from_step` and `to_step` bytes apart.
///
/// # Safety
/// `from` leads over that many readable bytes, `to` over as many writable ones; `rows` and `bytes` are at least 1.
#[unsafe(naked)]
unsafe extern "C" fn copy_rows(
    from: *const i8,
    from_step: usize,
    bytes: usize,
    rows: usize,
    to: *mut i8,
    to_step: usize,
) {
    naked_asm!(
        ".cpu cortex-m55",
        "push {{r4, r5, r6, lr}}",
        "ldrd r4, r6, [sp, #16]",
        "1:",
        "mov r12, r0",
        "mov r5, r4",
        "dlstp.8 lr, r2",
        "2:",
        "vldrb.u8 q0, [r12], #16",
        "vstrb.8 q0, [r5], #16",
        "letp lr, 2b",
        "add r0, r0, r1",
        "add r4, r4, r6",
        "subs r3, r3, #1",
        "bne 1b",
        "pop {{r4, r5, r6, pc}}",
    )
}

/// Rows of three windows.
#[repr(C)]
struct ThreeRows {
    /// First row of the first window.
    from: *const i8,
    window_step: usize,
    row_step: usize,
    /// Bytes of a row.
    bytes: usize,
    rows: usize,
    /// Place of the first row of the first window; the next row follows it.
    to: *mut i8,
    /// Bytes from window to window in `to`.
    taps: usize,
}

/// Copies the rows of three windows.
///
/// # Safety
/// `from` leads over the rows of all windows, `to` over places for them; `rows` and `bytes` are at least 1.
#[unsafe(naked)]
unsafe extern "C" fn copy_three(copy: &ThreeRows) {
    naked_asm!(
        ".cpu cortex-m55",
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        "ldm r0, {{r0, r1, r2, r3, r4, r5, r6}}",
        "1:",
        "mov r7, r0",
        "add r8, r0, r1",
        "add r9, r0, r1, lsl #1",
        "mov r10, r5",
        "add r11, r5, r6",
        "add r12, r5, r6, lsl #1",
        "dlstp.8 lr, r3",
        "2:",
        "vldrb.u8 q0, [r7], #16",
        "vldrb.u8 q1, [r8], #16",
        "vldrb.u8 q2, [r9], #16",
        "vstrb.8 q0, [r10], #16",
        "vstrb.8 q1, [r11], #16",
        "vstrb.8 q2, [r12], #16",
        "letp lr, 2b",
        "add r0, r0, r2",
        "add r5, r5, r3",
        "subs r4, r4, #1",
        "bne 1b",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
    )
}
