//! Depthwise convolution, four channels at a time.

use super::finish::Finish;
use super::instructions::row_of_taps;
use super::rows;
use crate::kernels::params::{Add, Channel, Conv2d, Landing, Requant};
use crate::kernels::reference;
use crate::kernels::scales::pre_shift;
use crate::kernels::windows::{Span, Windows};

/// Depthwise convolution.
pub fn depthwise(p: &Conv2d, q: &Requant<'_>, residual: Option<&Add>, input: &[i8], weights: &[i8], output: &mut [i8]) {
    let channels = usize::from(p.output.c).max(1);
    let whole = channels & !3;
    let finish = Finish::new(q.landing, residual);
    let from = match pre_shift(q, channels, p.taps()) {
        Some(bits) if rows::suits(p) => {
            rows::depthwise(p, q, &finish, bits, input, weights, output);
            whole
        }
        _ => 0,
    };
    if from == channels {
        return;
    }
    let saturated = Landing { lo: i8::MIN, hi: i8::MAX, ..q.landing };
    for (window, pixel) in Windows::new(&p.window, p.input, p.output).zip(output.chunks_exact_mut(channels)) {
        for first in (from..channels).step_by(4) {
            let mut sums = [0; 4];
            if first < whole {
                any_window(p, window, first, input, weights, &mut sums);
            } else {
                for (sum, c) in sums.iter_mut().zip(first..channels) {
                    *sum = reference::depthwise_sum(p, window, c, input, weights);
                }
            }
            let places = pixel.iter_mut().zip(q.channels()).skip(first);
            for ((place, channel), sum) in places.zip(sums) {
                let Channel { bias, .. } = channel;
                let y = channel.requantize(bias.wrapping_add(sum), saturated);
                finish.store(&[y], core::slice::from_mut(place));
            }
        }
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
