//! The taps under one window, in the order of the weights: the input of every matrix-style variant.

use super::params::Conv2d;
use super::windows::Span;

/// A run of consecutive taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run<'a> {
    /// This many taps outside the input; they read the pad value.
    Pad(usize),
    /// Taps inside the input, adjacent in memory.
    Inside(&'a [i8]),
}

/// Calls `emit` with the runs of one window and one group, in weight order; their lengths sum to [`Conv2d::taps`].
///
/// `first_channel` is the group's first input channel, `channels` its channels per group. Runs of length zero occur.
#[inline(always)]
pub fn for_each_run<'a>(
    p: &Conv2d,
    (rows, columns): (Span, Span),
    (first_channel, channels): (usize, usize),
    input: &'a [i8],
    mut emit: impl FnMut(Run<'a>),
) {
    let [kernel_rows, kernel_columns] = p.window.kernel.map(usize::from);
    let [row_step, column_step] = p.window.dilation.map(usize::from);
    let pitch = usize::from(p.input.c);
    let row_pitch = usize::from(p.input.w) * pitch;
    let adjacent = channels == pitch && column_step == 1;
    let row_taps = kernel_columns * channels;
    let (runs, len) = if adjacent { (1, columns.count * channels) } else { (columns.count, channels) };

    let left = columns.first * channels;
    let right = row_taps.saturating_sub(left + columns.count * channels);
    emit(Run::Pad(rows.first * row_taps));
    for row in 0..rows.count {
        let mut start = (rows.start + row * row_step) * row_pitch + columns.start * pitch + first_channel;
        emit(Run::Pad(left));
        for _ in 0..runs {
            emit(input.get(start..start.wrapping_add(len)).map_or(Run::Pad(len), Run::Inside));
            start = start.wrapping_add(column_step * pitch);
        }
        emit(Run::Pad(right));
    }
    emit(Run::Pad(kernel_rows.saturating_sub(rows.first + rows.count) * row_taps));
}
