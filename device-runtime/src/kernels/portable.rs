//! For processors without vector or DSP instructions: two filters and two windows at a time, so that every value read is used
//! twice, and 32-bit requantization where it is exact. Plain Rust but for the inner loops of Thumb processors.

#[cfg(thumb)]
mod thumb;

use super::columns::{Run, for_each_run};
use super::params::{Add, Channel, Conv2d, Landing, Requant};
use super::reference;
use super::scales::{high_half, pre_shift};
use super::windows::{Span, Windows};

/// From accumulator to stored value.
#[derive(Clone, Copy)]
struct Epilogue<'a> {
    q: Requant<'a>,
    residual: Option<&'a Add>,
    /// See [`pre_shift`].
    bits: u32,
}

impl Epilogue<'_> {
    /// Stores what becomes of a sum of products, bias excluded, of output channel `o`.
    #[inline(always)]
    fn store(&self, o: usize, sum: i32, place: &mut i8) {
        if let (Some(&bias), Some(&multiplier), Some(&shift)) =
            (self.q.bias.get(o), self.q.multiplier.get(o), self.q.shift.get(o))
        {
            self.land(Channel { bias, multiplier, shift }, sum, place);
        }
    }

    /// Stores the sums of `N` output channels from `o` on.
    #[inline(always)]
    fn store_all<const N: usize>(&self, o: usize, sums: [i32; N], places: &mut [i8; N]) {
        let at = |table: &'_ [i32]| table.get(o..).and_then(|table| table.first_chunk::<N>().copied());
        let shift = self.q.shift.get(o..).and_then(|table| table.first_chunk::<N>());
        let (Some(bias), Some(multiplier), Some(shift)) = (at(self.q.bias), at(self.q.multiplier), shift) else {
            return;
        };
        for (at, place) in places.iter_mut().enumerate() {
            let channel = Channel { bias: bias[at], multiplier: multiplier[at], shift: shift[at] };
            self.land(channel, sums[at], place);
        }
    }

    /// Stores what becomes of a sum of products, bias excluded.
    #[inline(always)]
    fn land(&self, Channel { bias, multiplier, shift }: Channel, sum: i32, place: &mut i8) {
        let Landing { zero_point, lo, hi } = self.q.landing;
        let acc = bias.wrapping_add(sum).wrapping_shl(self.bits);
        let high = high_half(acc, multiplier);
        let down = u32::from(shift).wrapping_add(self.bits).wrapping_sub(33).min(31);
        let y = ((high >> down).wrapping_add(1) >> 1).wrapping_add(zero_point.into());
        let y = y.max(lo.into()).min(hi.into()) as i8;
        *place = match self.residual {
            Some(add) => add.apply(y, *place),
            None => y,
        };
    }
}

/// Convolution; `scratch` holds [`Conv2d::scratch_bytes`].
pub fn conv2d(
    p: &Conv2d,
    q: &Requant<'_>,
    residual: Option<&Add>,
    input: &[i8],
    weights: &[i8],
    scratch: &mut [u8],
    output: &mut [i8],
) {
    let taps = p.taps().max(1);
    let channels = usize::from(p.output.c).max(1);
    let Some(bits) = pre_shift(q, channels, taps) else {
        return reference::conv2d(p, q, residual, input, weights, output);
    };
    let epilogue = Epilogue { q: *q, residual, bits };
    let groups = usize::from(p.groups).max(1);
    let (inputs, outputs) = (usize::from(p.input.c) / groups, (channels / groups).max(1));
    let scratch: &mut [i8] = bytemuck::cast_slice_mut(scratch);
    let (first_column, second_column) = scratch.split_at_mut_checked(taps).unwrap_or_default();

    let mut windows = Windows::new(&p.window, p.input, p.output);
    for pixels in output.chunks_mut(2 * channels) {
        let Some(left) = windows.next() else { return };
        let right = if pixels.len() > channels { windows.next() } else { None };
        let Some((left_pixel, right_pixel)) = pixels.split_at_mut_checked(channels) else { return };
        for (group, filters) in weights.chunks_exact(outputs.saturating_mul(taps).max(1)).enumerate() {
            let group_inputs = (group * inputs, inputs);
            let x = window(p, left, group_inputs, input, first_column);
            let first = group * outputs;
            let left_part = left_pixel.get_mut(first..).unwrap_or(&mut []);
            match right {
                Some(right) => {
                    let y = window(p, right, group_inputs, input, second_column);
                    let right_part = right_pixel.get_mut(first..).unwrap_or(&mut []);
                    two_windows(&epilogue, [x, y], filters, first, left_part, right_part);
                }
                None => one_window(&epilogue, x, filters, first, left_part),
            }
        }
    }
}

/// The taps of one window and group: in the input where they are adjacent, else copied to `column`.
#[inline(always)]
fn window<'a>(
    p: &Conv2d,
    window: (Span, Span),
    group: (usize, usize),
    input: &'a [i8],
    column: &'a mut [i8],
) -> &'a [i8] {
    if p.window.kernel == [1, 1] && window.0.count == 1 && window.1.count == 1 {
        let start = (window.0.start * usize::from(p.input.w) + window.1.start) * usize::from(p.input.c) + group.0;
        return input.get(start..start.wrapping_add(group.1)).unwrap_or(&[]);
    }
    gather(p, window, group, input, column)
}

#[inline(never)]
fn gather<'a>(p: &Conv2d, window: (Span, Span), group: (usize, usize), input: &[i8], column: &'a mut [i8]) -> &'a [i8] {
    let mut at = 0usize;
    for_each_run(p, window, group, input, |run| {
        let len = match run {
            Run::Pad(len) => len,
            Run::Inside(taps) => taps.len(),
        };
        let Some(place) = column.get_mut(at..at.wrapping_add(len)) else { return };
        at += len;
        match run {
            Run::Pad(_) => place.iter_mut().for_each(|x| *x = p.pad_value),
            Run::Inside(taps) => place.iter_mut().zip(taps).for_each(|(to, &x)| *to = x),
        }
    });
    column.get(..at).unwrap_or(&[])
}

/// All filters of a group at two positions; `first` is their first output channel.
#[inline(never)]
fn two_windows(
    epilogue: &Epilogue<'_>,
    x: [&[i8]; 2],
    filters: &[i8],
    first: usize,
    left: &mut [i8],
    right: &mut [i8],
) {
    let taps = x[0].len().max(1);
    let pairs = filters.chunks(taps.saturating_mul(2).max(1));
    for (at, ((pair, left), right)) in pairs.zip(left.chunks_mut(2)).zip(right.chunks_mut(2)).enumerate() {
        let o = first + 2 * at;
        match (pair.split_at_checked(taps), left, right) {
            (Some((v, w)), [l0, l1], [r0, r1]) if w.len() == taps => {
                let [[a, b], [c, d]] = four_dots(x, [v, w]);
                epilogue.store(o, a, l0);
                epilogue.store(o, b, r0);
                epilogue.store(o + 1, c, l1);
                epilogue.store(o + 1, d, r1);
            }
            // The last of an odd number of filters.
            (_, [left, ..], [right, ..]) => {
                epilogue.store(o, dot(x[0], pair), left);
                epilogue.store(o, dot(x[1], pair), right);
            }
            _ => {}
        }
    }
}

/// All filters of a group at one position.
#[inline(never)]
fn one_window(epilogue: &Epilogue<'_>, x: &[i8], filters: &[i8], first: usize, pixel: &mut [i8]) {
    let taps = x.len().max(1);
    for (at, (pair, places)) in filters.chunks(taps.saturating_mul(2).max(1)).zip(pixel.chunks_mut(2)).enumerate() {
        let o = first + 2 * at;
        match (pair.split_at_checked(taps), places) {
            (Some((v, w)), [a, b]) if w.len() == taps => {
                let sums = two_dots(x, [v, w]);
                epilogue.store(o, sums[0], a);
                epilogue.store(o + 1, sums[1], b);
            }
            (_, [a, ..]) => epilogue.store(o, dot(x, pair), a),
            _ => {}
        }
    }
}

#[inline(always)]
fn product(x: i8, w: i8) -> i32 {
    i32::from(x) * i32::from(w)
}

/// Sums of products of one window and two filters of its length.
#[cfg(thumb)]
#[inline(always)]
fn two_dots(x: &[i8], [v, w]: [&[i8]; 2]) -> [i32; 2] {
    let taps = x.len().min(v.len()).min(w.len());
    let mut sums = [0; 2];
    if taps != 0 {
        // SAFETY: all three have that many values, which are not none.
        unsafe { thumb::two_dots(x.as_ptr(), v.as_ptr(), w.as_ptr(), taps, &mut sums) };
    }
    sums
}

/// Sums of products `[filter][window]` of two windows and two filters of one length.
#[cfg(thumb)]
#[inline(always)]
fn four_dots([x, y]: [&[i8]; 2], [v, w]: [&[i8]; 2]) -> [[i32; 2]; 2] {
    let taps = x.len().min(y.len()).min(v.len()).min(w.len());
    let mut sums = [0; 4];
    if taps != 0 {
        // SAFETY: all four have that many values, which are not none.
        unsafe { thumb::four_dots(x.as_ptr(), y.as_ptr(), v.as_ptr(), w.as_ptr(), taps, &mut sums) };
    }
    let [a, b, c, d] = sums;
    [[a, b], [c, d]]
}

/// Sums of products `[filter][window]` of two windows and two filters of one length.
#[cfg(not(thumb))]
#[inline(always)]
fn four_dots(x: [&[i8]; 2], w: [&[i8]; 2]) -> [[i32; 2]; 2] {
    let [(x, x_rest), (y, y_rest)] = x.map(<[i8]>::as_chunks::<4>);
    let [(v, v_rest), (w, w_rest)] = w.map(<[i8]>::as_chunks::<4>);
    let (mut a, mut b, mut c, mut d) = (0i32, 0i32, 0i32, 0i32);
    let mut tap = |x: i8, y: i8, v: i8, w: i8| {
        a = a.wrapping_add(product(x, v));
        b = b.wrapping_add(product(y, v));
        c = c.wrapping_add(product(x, w));
        d = d.wrapping_add(product(y, w));
    };
    for (((x, y), v), w) in x.iter().zip(y).zip(v).zip(w) {
        tap(x[0], y[0], v[0], w[0]);
        tap(x[1], y[1], v[1], w[1]);
        tap(x[2], y[2], v[2], w[2]);
        tap(x[3], y[3], v[3], w[3]);
    }
    for (((&x, &y), &v), &w) in x_rest.iter().zip(y_rest).zip(v_rest).zip(w_rest) {
        tap(x, y, v, w);
    }
    [[a, b], [c, d]]
}

/// Sums of products of one window and two filters of its length.
#[cfg(not(thumb))]
#[inline(always)]
fn two_dots(x: &[i8], w: [&[i8]; 2]) -> [i32; 2] {
    let (x, x_rest) = x.as_chunks::<4>();
    let [(v, v_rest), (w, w_rest)] = w.map(<[i8]>::as_chunks::<4>);
    let (mut a, mut b) = (0i32, 0i32);
    for ((x, v), w) in x.iter().zip(v).zip(w) {
        a = a.wrapping_add(product(x[0], v[0])).wrapping_add(product(x[1], v[1]));
        b = b.wrapping_add(product(x[0], w[0])).wrapping_add(product(x[1], w[1]));
        a = a.wrapping_add(product(x[2], v[2])).wrapping_add(product(x[3], v[3]));
        b = b.wrapping_add(product(x[2], w[2])).wrapping_add(product(x[3], w[3]));
    }
    for ((&x, &v), &w) in x_rest.iter().zip(v_rest).zip(w_rest) {
        a = a.wrapping_add(product(x, v));
        b = b.wrapping_add(product(x, w));
    }
    [a, b]
}

#[inline(always)]
fn dot(x: &[i8], w: &[i8]) -> i32 {
    let ((x, x_rest), (w, w_rest)) = (x.as_chunks::<4>(), w.as_chunks::<4>());
    let whole = x.iter().zip(w).fold(0i32, |sum, (x, w)| {
        let sum = sum.wrapping_add(product(x[0], w[0])).wrapping_add(product(x[1], w[1]));
        sum.wrapping_add(product(x[2], w[2])).wrapping_add(product(x[3], w[3]))
    });
    x_rest.iter().zip(w_rest).fold(whole, |sum, (&x, &w)| sum.wrapping_add(product(x, w)))
}

/// Depthwise convolution, four channels at a time.
pub fn depthwise(p: &Conv2d, q: &Requant<'_>, residual: Option<&Add>, input: &[i8], weights: &[i8], output: &mut [i8]) {
    let channels = usize::from(p.output.c).max(1);
    let Some(bits) = pre_shift(q, channels, p.taps()) else {
        return reference::depthwise(p, q, residual, input, weights, output);
    };
    let epilogue = Epilogue { q: *q, residual, bits };
    let whole = channels & !3;
    for (window, pixel) in Windows::new(&p.window, p.input, p.output).zip(output.chunks_exact_mut(channels)) {
        for (at, places) in pixel.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let sums = four_channels(p, window, 4 * at, input, weights);
            epilogue.store_all(4 * at, sums, places);
        }
        for (c, place) in pixel.iter_mut().enumerate().skip(whole) {
            epilogue.store(c, reference::depthwise_sum(p, window, c, input, weights), place);
        }
    }
}

/// Sums of products of four channels from `first` on.
#[cfg(thumb)]
#[inline(always)]
fn four_channels(p: &Conv2d, (rows, columns): (Span, Span), first: usize, input: &[i8], weights: &[i8]) -> [i32; 4] {
    let [kernel_rows, kernel_columns] = p.window.kernel.map(usize::from);
    let [row_step, column_step] = p.window.dilation.map(usize::from);
    let channels = usize::from(p.input.c);
    let row_pitch = usize::from(p.input.w) * channels;
    let mut sums = [0; 4];
    let mut weights = weights.get(first..).unwrap_or(&[]);
    let mut add = |x: &[i8], [x_step, x_skip]: [usize; 2], rows: usize, taps: usize| {
        let (Some(last_row), Some(last_tap)) = (rows.checked_sub(1), taps.checked_sub(1)) else { return };
        let reach = last_row * (taps * x_step + x_skip) + last_tap * x_step + 4;
        if x.len() >= reach && weights.len() >= (rows * taps - 1) * channels + 4 {
            let (x, w) = (x.as_ptr(), weights.as_ptr());
            let mut rows = thumb::Rows { x, w, x_step, w_step: channels, taps, rows, x_skip };
            // SAFETY: both slices reach to the end of the last tap.
            unsafe { thumb::four_channels(&mut sums, &mut rows) };
        }
        weights = weights.get(rows * taps * channels..).unwrap_or(&[]);
    };
    let x_step = column_step * channels;
    let x = input.get(rows.start * row_pitch + columns.start * channels + first..).unwrap_or(&[]);
    if rows.count == kernel_rows && columns.count == kernel_columns {
        add(x, [x_step, (row_step * row_pitch).wrapping_sub(kernel_columns * x_step)], kernel_rows, kernel_columns);
        return sums;
    }
    let pad = [p.pad_value; 4];
    let after = kernel_columns.saturating_sub(columns.first + columns.count);
    add(&pad, [0; 2], 1, rows.first * kernel_columns);
    for row in 0..rows.count {
        add(&pad, [0; 2], 1, columns.first);
        add(x.get(row * row_step * row_pitch..).unwrap_or(&[]), [x_step, 0], 1, columns.count);
        add(&pad, [0; 2], 1, after);
    }
    add(&pad, [0; 2], 1, kernel_rows.saturating_sub(rows.first + rows.count) * kernel_columns);
    sums
}

/// Sums of products of four channels from `first` on.
#[cfg(not(thumb))]
#[inline(always)]
fn four_channels(p: &Conv2d, (rows, columns): (Span, Span), first: usize, input: &[i8], weights: &[i8]) -> [i32; 4] {
    let [kernel_rows, kernel_columns] = p.window.kernel.map(usize::from);
    let [row_step, column_step] = p.window.dilation.map(usize::from);
    let channels = usize::from(p.input.c);
    let row_pitch = usize::from(p.input.w) * channels;
    let pad = [p.pad_value; 4];
    let (mut a, mut b, mut c, mut d) = (0i32, 0i32, 0i32, 0i32);
    let mut w = weights.get(first..).unwrap_or(&[]);
    for row in 0..kernel_rows {
        let inside = row.wrapping_sub(rows.first);
        let count = if inside < rows.count { columns.count } else { 0 };
        let start = (rows.start + inside.wrapping_mul(row_step)).wrapping_mul(row_pitch);
        let mut x = input.get(start.wrapping_add(columns.start * channels + first)..).unwrap_or(&[]);
        for column in 0..kernel_columns {
            let Some(by) = w.first_chunk::<4>() else { break };
            let mut four = &pad;
            if column.wrapping_sub(columns.first) < count {
                four = x.first_chunk::<4>().unwrap_or(&pad);
                x = x.get(column_step * channels..).unwrap_or(&[]);
            }
            a = a.wrapping_add(product(four[0], by[0]));
            b = b.wrapping_add(product(four[1], by[1]));
            c = c.wrapping_add(product(four[2], by[2]));
            d = d.wrapping_add(product(four[3], by[3]));
            w = w.get(channels..).unwrap_or(&[]);
        }
    }
    [a, b, c, d]
}
