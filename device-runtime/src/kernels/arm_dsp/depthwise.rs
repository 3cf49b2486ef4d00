//! Depthwise convolution, four channels at a time.

use super::finish::Finish;
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
    let [row_step, column_step] = p.window.dilation.map(usize::from);
    let channels = usize::from(p.input.c);
    let pad = [p.pad_value; 4];
    let mut sums = [0; 4];
    let mut weights = weights.get(first..).unwrap_or(&[]);
    for row in 0..usize::from(p.window.kernel[0]) {
        let row = row.wrapping_sub(rows.first);
        for column in 0..usize::from(p.window.kernel[1]) {
            let column = column.wrapping_sub(columns.first);
            let x = if row < rows.count && column < columns.count {
                let (y, x) = (rows.start + row * row_step, columns.start + column * column_step);
                input.get((y * usize::from(p.input.w) + x) * channels + first..).unwrap_or(&[])
            } else {
                &pad
            };
            add_products(&mut sums, x, weights);
            weights = weights.get(channels..).unwrap_or(&[]);
        }
    }
    sums
}

/// Adds the products of as many of four channels as there are.
#[inline(always)]
fn add_products(sums: &mut [i32; 4], x: &[i8], weights: &[i8]) {
    let product = |x: i8, w: i8| i32::from(x) * i32::from(w);
    if let (Some(x), Some(w)) = (x.first_chunk::<4>(), weights.first_chunk::<4>()) {
        *sums = core::array::from_fn(|lane| sums[lane & 3].wrapping_add(product(x[lane & 3], w[lane & 3])));
        return;
    }
    for ((sum, &x), &w) in sums.iter_mut().zip(x).zip(weights) {
        *sum = sum.wrapping_add(product(x, w));
    }
}
