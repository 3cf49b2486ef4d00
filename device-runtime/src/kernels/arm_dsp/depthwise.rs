//! Depthwise convolution, four channels at a time.

use super::finish::Finish;
use super::instructions::row_of_taps;
use super::rows;
use crate::kernels::params::{Add, Conv2d, Landing, Requant};
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
    let mut windows = Windows::new(&p.window, p.input, p.output);
    for pixel in output.chunks_exact_mut(channels) {
        let window = windows.pass();
        for first in (from..channels).step_by(4) {
            let sums = any_window(p, window, first, input, weights);
            for ((place, channel), sum) in pixel.iter_mut().zip(q.channels()).skip(first).zip(sums) {
                let y = channel.requantize_once(channel.bias.wrapping_add(sum), saturated);
                finish.store(&[y], core::slice::from_mut(place));
            }
        }
    }
}

/// The sums of products of four channels from `first` on, taps outside the input included. Where there are fewer channels, the
/// other sums mean nothing.
#[inline(never)]
fn any_window(p: &Conv2d, (rows, columns): (Span, Span), first: usize, input: &[i8], weights: &[i8]) -> [i32; 4] {
    let [kernel_rows, kernel_columns] = p.window.kernel.map(usize::from);
    let [row_step, column_step] = p.window.dilation.map(usize::from);
    let channels = usize::from(p.input.c);
    let pad = [p.pad_value; 4];
    let mut run = Run { sums: [0; 4], weights: weights.get(first..).unwrap_or(&[]), channels };

    let after = kernel_columns.saturating_sub(columns.first + columns.count);
    run.taps(&pad, 0, rows.first * kernel_columns);
    for row in 0..rows.count {
        let position = (rows.start + row * row_step) * usize::from(p.input.w) + columns.start;
        run.taps(&pad, 0, columns.first);
        run.taps(input.get(position * channels + first..).unwrap_or(&[]), column_step * channels, columns.count);
        run.taps(&pad, 0, after);
    }
    run.taps(&pad, 0, kernel_rows.saturating_sub(rows.first + rows.count) * kernel_columns);
    run.sums
}

/// Sums of four channels on the way through a window.
struct Run<'a> {
    sums: [i32; 4],
    /// Of the taps that follow, from the first of the four channels on.
    weights: &'a [i8],
    channels: usize,
}

impl Run<'_> {
    /// Adds `taps` taps of `x`, `step` bytes apart.
    #[inline(never)]
    fn taps(&mut self, x: &[i8], step: usize, taps: usize) {
        let Some(last) = taps.checked_sub(1) else { return };
        if x.len() >= last * step + 4 && self.weights.len() >= last * self.channels + 4 {
            // SAFETY: both slices reach to the end of the last tap.
            unsafe { row_of_taps(&mut self.sums, taps, x.as_ptr(), step, self.weights.as_ptr(), self.channels) };
        } else {
            self.last_taps(x, step, taps);
        }
        self.weights = self.weights.get(taps * self.channels..).unwrap_or(&[]);
    }

    /// As [`taps`](Self::taps), where fewer than four channels follow the last tap.
    fn last_taps(&mut self, x: &[i8], step: usize, taps: usize) {
        for (lane, sum) in self.sums.iter_mut().enumerate() {
            for tap in 0..taps {
                let (x, w) = (x.get(tap * step + lane), self.weights.get(tap * self.channels + lane));
                if let (Some(&x), Some(&w)) = (x, w) {
                    *sum = sum.wrapping_add(i32::from(x) * i32::from(w));
                }
            }
        }
    }
}
