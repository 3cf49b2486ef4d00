//! Convolution and depthwise convolution, one output at a time.
//!
//! `output = requantize(bias + sum(x * w))`, where a tap outside the input has `x = pad_value`. With a residual addition,
//! the output holds its second operand beforehand.

use crate::kernels::params::{Add, Channel, Conv2d, Requant};
use crate::kernels::windows::{Span, Windows};

/// Convolution with OHWI weights.
pub fn conv2d(p: &Conv2d, q: &Requant<'_>, residual: Option<&Add>, input: &[i8], weights: &[i8], output: &mut [i8]) {
    let groups = usize::from(p.groups).max(1);
    let group_outputs = (usize::from(p.output.c) / groups).max(1);
    let group_inputs = usize::from(p.input.c) / groups;
    let taps = p.taps().max(1);
    let pixels = output.chunks_exact_mut(usize::from(p.output.c).max(1));
    for ((rows, columns), pixel) in Windows::new(&p.window, p.input, p.output).zip(pixels) {
        let filters = weights.chunks_exact(taps);
        for (o, ((y, filter), channel)) in pixel.iter_mut().zip(filters).zip(q.channels()).enumerate() {
            let first_channel = if groups == 1 { 0 } else { o / group_outputs * group_inputs };
            let acc = channel.bias.wrapping_add(window_sum(p, (rows, columns), first_channel, input, filter));
            *y = land(q, channel, residual, acc, *y);
        }
    }
}

/// Sum of products of one filter (`[kernel rows][kernel columns][channels]`) and the window it lies on.
#[inline]
fn window_sum(p: &Conv2d, (rows, columns): (Span, Span), first_channel: usize, input: &[i8], filter: &[i8]) -> i32 {
    let [kernel_rows, kernel_columns] = p.window.kernel.map(usize::from);
    let [row_step, column_step] = p.window.dilation.map(usize::from);
    let pitch = usize::from(p.input.c);
    let row_pitch = usize::from(p.input.w) * pitch;
    let channels = (filter.len() / (kernel_rows * kernel_columns).max(1)).max(1);
    let (run, runs) = match columns.count {
        0 => (1, 0),
        count if column_step == 1 && channels == pitch => (count * channels, 1),
        count => (channels, count),
    };

    let (mut sum, mut inside_weights) = (0i32, 0i32);
    let clipped = rows.count * columns.count != kernel_rows * kernel_columns;
    let filter_rows = filter.chunks_exact((kernel_columns * channels).max(1)).skip(rows.first).take(rows.count);
    for (row, filter_row) in filter_rows.enumerate() {
        let start = (rows.start + row * row_step) * row_pitch + columns.start * pitch + first_channel;
        let filter_runs = filter_row.get(columns.first * channels..).unwrap_or(&[]).chunks_exact(run.max(1)).take(runs);
        for (i, w) in filter_runs.enumerate() {
            let start = start + i * column_step * pitch;
            let x = input.get(start..start.wrapping_add(run)).unwrap_or(&[]);
            sum = sum.wrapping_add(dot(x, w));
            if clipped {
                inside_weights = inside_weights.wrapping_add(total(w));
            }
        }
    }
    if !clipped {
        return sum;
    }
    let outside_weights = total(filter).wrapping_sub(inside_weights);
    sum.wrapping_add(i32::from(p.pad_value).wrapping_mul(outside_weights))
}

#[inline]
fn dot(x: &[i8], w: &[i8]) -> i32 {
    x.iter().zip(w).fold(0i32, |sum, (&x, &w)| sum.wrapping_add(i32::from(x) * i32::from(w)))
}

#[inline]
fn total(w: &[i8]) -> i32 {
    w.iter().fold(0i32, |sum, &w| sum.wrapping_add(i32::from(w)))
}

/// From accumulator to stored value; `held` is what the output held before.
#[inline(always)]
fn land(q: &Requant<'_>, channel: Channel, residual: Option<&Add>, acc: i32, held: i8) -> i8 {
    let y = channel.requantize(acc, q.landing);
    match residual {
        Some(add) => add.apply(y, held),
        None => y,
    }
}

/// Depthwise convolution with HWC weights: channel `c` of the output sees channel `c` of the input.
pub fn depthwise(p: &Conv2d, q: &Requant<'_>, residual: Option<&Add>, input: &[i8], weights: &[i8], output: &mut [i8]) {
    let channels = usize::from(p.output.c).max(1);
    let pixels = output.chunks_exact_mut(channels);
    for (window, pixel) in Windows::new(&p.window, p.input, p.output).zip(pixels) {
        for (c, (y, channel)) in pixel.iter_mut().zip(q.channels()).enumerate() {
            let acc = channel.bias.wrapping_add(depthwise_sum(p, window, c, input, weights));
            *y = land(q, channel, residual, acc, *y);
        }
    }
}

/// Sum of products of one channel of a depthwise window.
#[inline]
pub fn depthwise_sum(p: &Conv2d, (rows, columns): (Span, Span), c: usize, input: &[i8], weights: &[i8]) -> i32 {
    let [kernel_rows, kernel_columns] = p.window.kernel.map(usize::from);
    let [row_step, column_step] = p.window.dilation.map(usize::from);
    let channels = usize::from(p.input.c).max(1);
    let row_pitch = usize::from(p.input.w) * channels;
    let clipped = rows.count * columns.count != kernel_rows * kernel_columns;
    let pad = i32::from(p.pad_value);

    let mut sum = 0i32;
    for row in 0..rows.count {
        let x_row = (rows.start + row * row_step) * row_pitch + columns.start * channels + c;
        let w_row = ((rows.first + row) * kernel_columns + columns.first) * channels + c;
        let x_taps = input.get(x_row..).unwrap_or(&[]).iter().step_by((column_step * channels).max(1));
        let w_taps = weights.get(w_row..).unwrap_or(&[]).iter().step_by(channels);
        for (&x, &w) in x_taps.zip(w_taps).take(columns.count) {
            // Inside taps count as their difference from the pad value, so that outside taps need no case of their own.
            let x = if clipped { i32::from(x) - pad } else { i32::from(x) };
            sum = sum.wrapping_add(x * i32::from(w));
        }
    }
    if !clipped {
        return sum;
    }
    let all = weights.get(c..).unwrap_or(&[]).iter().step_by(channels).fold(0i32, |t, &w| t.wrapping_add(i32::from(w)));
    sum.wrapping_add(pad.wrapping_mul(all))
}
