//! Output rows of a window operator as an operator of their own.

use core::ops::Range;

use crate::kernels::Window;

/// Input rows that `rows` output rows span, padding included.
pub(super) fn rows_spanned(window: &Window, rows: usize) -> usize {
    let steps = rows.saturating_sub(1).saturating_mul(usize::from(window.stride[0]));
    steps + usize::from(window.kernel[0]).saturating_sub(1) * usize::from(window.dilation[0]) + 1
}

/// The window with the padding that is left above output rows `rows`, and which of `input_rows` they read, at least one.
pub(super) fn rows_under(window: &Window, input_rows: u16, rows: Range<usize>) -> (Window, Range<usize>) {
    let above = rows.start * usize::from(window.stride[0]);
    let pad = usize::from(window.pad[0]);
    let first = above.saturating_sub(pad);
    let pad_above = pad.saturating_sub(above);
    let spanned = rows_spanned(window, rows.len()).saturating_sub(pad_above).max(1);
    let count = spanned.min(usize::from(input_rows).saturating_sub(first));
    (Window { pad: [pad_above as u8, window.pad[1]], ..*window }, first..first + count)
}
