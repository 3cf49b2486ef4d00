//! Depthwise convolution, four channels at a time.

use super::epilogue::{Epilogue, kind};
use super::instructions::{nine_taps, row_of_taps};
use crate::kernels::params::{Add, Conv2d, Requant};
use crate::kernels::reference;
use crate::kernels::windows::{Span, Windows};

/// Depthwise convolution.
pub fn depthwise(p: &Conv2d, q: &Requant<'_>, residual: Option<&Add>, input: &[i8], weights: &[i8], output: &mut [i8]) {
    let channels = usize::from(p.output.c).max(1);
    let epilogue = Epilogue::new(q, channels, residual);
    let whole = channels & !3;
    for (window, pixel) in Windows::new(&p.window, p.input, p.output).zip(output.chunks_exact_mut(channels)) {
        match epilogue.kind {
            kind::PLAIN => four_by_four::<{ kind::PLAIN }>(p, &epilogue, window, input, weights, pixel),
            _ => four_by_four::<{ kind::ANY }>(p, &epilogue, window, input, weights, pixel),
        }
        for (c, channel) in q.channels().enumerate().skip(whole) {
            let Some(place) = pixel.get_mut(c) else { break };
            let sum = reference::depthwise_sum(p, window, c, input, weights);
            *place = epilogue.any(channel, channel.bias.wrapping_add(sum), *place);
        }
    }
}

/// Every whole group of four channels at one position.
#[inline(never)]
fn four_by_four<const KIND: u8>(
    p: &Conv2d,
    epilogue: &Epilogue<'_>,
    window: (Span, Span),
    input: &[i8],
    weights: &[i8],
    pixel: &mut [i8],
) {
    let (rows, columns) = window;
    let channels = usize::from(p.input.c);
    let row_pitch = usize::from(p.input.w) * channels;
    let tables = epilogue.tables(0..channels);
    let (bias, multiplier, shift) =
        (tables.bias.as_chunks().0, tables.multiplier.as_chunks().0, tables.shift.as_chunks().0);

    let whole = p.window.kernel == [3, 3] && p.window.dilation[1] == 1 && rows.count == 3 && columns.count == 3;
    let row_step = row_pitch * usize::from(p.window.dilation[0]);
    let start = rows.start * row_pitch + columns.start * channels;
    // Bytes from a channel's first tap to the end of the word of its last.
    let (x_reach, w_reach) = (2 * row_step + 2 * channels + 4, 8 * channels + 4);

    let places = pixel.as_chunks_mut::<4>().0;
    for (i, (((bias, multiplier), shift), places)) in bias.iter().zip(multiplier).zip(shift).zip(places).enumerate() {
        let mut sums: [i32; 4] = *bias;
        let (x, w) = (start + 4 * i, 4 * i);
        match (input.get(x..x + x_reach), weights.get(w..w + w_reach)) {
            // SAFETY: both slices are as long as the function asks for.
            (Some(x), Some(w)) if whole => unsafe {
                nine_taps(&mut sums, x.as_ptr(), w.as_ptr(), channels, row_step);
            },
            _ => any_window(p, window, 4 * i, input, weights, &mut sums),
        }
        epilogue.store_four::<KIND>(multiplier, shift, &sums, places);
    }
}

/// Adds the products of four channels from `first` on, taps outside the input included.
#[inline(never)]
fn any_window(
    p: &Conv2d,
    (rows, columns): (Span, Span),
    first: usize,
    input: &[i8],
    weights: &[i8],
    sums: &mut [i32; 4],
) {
    let [kernel_rows, kernel_columns] = p.window.kernel.map(usize::from);
    let [row_step, column_step] = p.window.dilation.map(usize::from);
    let channels = usize::from(p.input.c);
    let pad = [p.pad_value; 4];
    let mut weights = weights.get(first..).unwrap_or(&[]);
    let mut run = |x: &[i8], x_step: usize, taps: usize| {
        let Some(steps) = taps.checked_sub(1) else { return };
        if x.len() >= steps * x_step + 4 && weights.len() >= steps * channels + 4 {
            // SAFETY: both slices reach to the end of the last tap.
            unsafe { row_of_taps(sums, taps, x.as_ptr(), x_step, weights.as_ptr(), channels) };
        }
        weights = weights.get(taps * channels..).unwrap_or(&[]);
    };

    let before = columns.first;
    let after = kernel_columns.saturating_sub(columns.first + columns.count);
    run(&pad, 0, rows.first * kernel_columns);
    for row in 0..rows.count {
        let position = (rows.start + row * row_step) * usize::from(p.input.w) + columns.start;
        run(&pad, 0, before);
        run(input.get(position * channels + first..).unwrap_or(&[]), column_step * channels, columns.count);
        run(&pad, 0, after);
    }
    run(&pad, 0, kernel_rows.saturating_sub(rows.first + rows.count) * kernel_columns);
}
