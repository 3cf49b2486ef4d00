//! Depthwise convolution, sixteen channels at a time.
//!
//! The 3x3 kernel keeps its weights in registers. With SDOT the three rows of an input column are interleaved, so that one
//! instruction takes a column of four channels, and a column serves all windows that it is part of.

use core::arch::aarch64::*;

use super::Level;
use super::finish::{Finish, Tables, load};
use super::products::sdot;
use crate::kernels::params::{Add, Conv2d, Requant};
use crate::kernels::reference;
use crate::kernels::scales::pre_shift;
use crate::kernels::windows::Windows;

/// Depthwise convolution. The processor has the instructions of `level`.
pub fn depthwise(
    level: Level,
    p: &Conv2d,
    q: &Requant<'_>,
    residual: Option<&Add>,
    input: &[i8],
    weights: &[i8],
    output: &mut [i8],
) {
    let channels = usize::from(p.output.c).max(1);
    let Some(bits) = pre_shift(q, channels, p.taps()) else {
        return reference::depthwise(p, q, residual, input, weights, output);
    };
    let call = Call { p, channels, finish: Finish::new(q, residual, bits), input, weights };
    let mut at = 0;
    while channels - at >= 16 {
        call.channels::<16>(level, at, output);
        at += 16;
    }
    if channels - at >= 8 {
        call.channels::<8>(level, at, output);
        at += 8;
    }
    if at == channels {
        return;
    }
    if channels >= 8 && residual.is_none() {
        // Some of these channels are computed twice; an addition would be, too.
        return call.channels::<8>(level, channels - 8, output);
    }
    for (window, pixel) in Windows::new(&p.window, p.input, p.output).zip(output.chunks_exact_mut(channels)) {
        for ((c, place), channel) in pixel.iter_mut().enumerate().zip(q.channels()).skip(at) {
            let sum = reference::depthwise_sum(p, window, c, input, weights);
            let y = channel.requantize(channel.bias.wrapping_add(sum), q.landing);
            *place = residual.map_or(y, |add| add.apply(y, *place));
        }
    }
}

struct Call<'a> {
    p: &'a Conv2d,
    channels: usize,
    finish: Finish<'a>,
    input: &'a [i8],
    weights: &'a [i8],
}

/// One kernel row over one output row: first channel of column 0, and bytes from column to column.
#[derive(Clone, Copy)]
struct Row {
    from: *const i8,
    step: usize,
}

/// Three rows of `LANES` channels of a 3x3 kernel.
struct Three<'a, const LANES: usize> {
    rows: [Row; 3],
    pad: &'a [i8; 16],
    width: i32,
}

impl<const LANES: usize> Three<'_, LANES> {
    /// The three rows of an input column; outside the input the pad value.
    #[inline(always)]
    fn column(&self, x: i32) -> [int8x16_t; 3] {
        // SAFETY: columns inside have `LANES` bytes from the row's first channel on; the pad has sixteen.
        unsafe {
            if x < 0 || x >= self.width {
                return [load::<LANES>(self.pad.as_ptr()); 3];
            }
            self.rows.map(|row| load::<LANES>(row.from.wrapping_add(x as usize * row.step)))
        }
    }
}

/// Three rows interleaved: per channel rows 0, 1, 2, then zero.
#[inline(always)]
fn interleave([a, b, c]: [int8x16_t; 3]) -> [int8x16_t; 4] {
    // SAFETY: vectors are part of this architecture.
    unsafe {
        let zero = vdupq_n_s8(0);
        let halves = |ab, c| {
            let (ab, c) = (vreinterpretq_s16_s8(ab), vreinterpretq_s16_s8(c));
            [vreinterpretq_s8_s16(vzip1q_s16(ab, c)), vreinterpretq_s8_s16(vzip2q_s16(ab, c))]
        };
        let [w, x] = halves(vzip1q_s8(a, b), vzip1q_s8(c, zero));
        let [y, z] = halves(vzip2q_s8(a, b), vzip2q_s8(c, zero));
        [w, x, y, z]
    }
}

impl Call<'_> {
    /// `LANES` channels from `at` on, which exist.
    fn channels<const LANES: usize>(&self, level: Level, at: usize, output: &mut [i8]) {
        let taps = self.weights.chunks_exact(self.channels).map(|tap| tap.get(at..at + LANES).unwrap_or(&[]));
        let is_three = self.p.window.kernel == [3, 3] && self.p.window.dilation == [1, 1];
        if !is_three || (level == Level::Base && taps.clone().any(|tap| tap.contains(&i8::MIN))) {
            return self.any_kernel::<LANES>(at, output);
        }
        let mut weights = [[[0i8; 16]; 3]; 3];
        for (place, tap) in weights.as_flattened_mut().iter_mut().zip(taps) {
            place.iter_mut().zip(tap).for_each(|(to, &w)| *to = w);
        }
        match level {
            Level::Base => self.three_by_three::<LANES>(&weights, at, output),
            Level::Dot | Level::Matrix => self.three_by_three_dot::<LANES>(&weights, at, output),
        }
    }

    /// Tables of sixteen channels.
    #[inline(always)]
    fn tables(&self, at: usize) -> [Tables; 4] {
        [0, 4, 8, 12].map(|next| self.finish.tables(at + next))
    }

    /// Rows of a 3x3 kernel for output row `y`; `pad` stands for rows outside the input.
    #[inline(always)]
    fn rows<'a, const LANES: usize>(&self, y: usize, at: usize, pad: &'a [i8; 16]) -> Three<'a, LANES> {
        let top = y as i32 * i32::from(self.p.window.stride[0]) - i32::from(self.p.window.pad[0]);
        let rows = [0, 1, 2].map(|row| {
            let y = top + row;
            if y < 0 || y >= i32::from(self.p.input.h) {
                return Row { from: pad.as_ptr(), step: 0 };
            }
            let start = y as usize * usize::from(self.p.input.w) * self.channels + at;
            Row { from: self.input.as_ptr().wrapping_add(start), step: self.channels }
        });
        Three { rows, pad, width: self.p.input.w.into() }
    }

    #[inline(never)]
    fn three_by_three_dot<const LANES: usize>(&self, weights: &[[[i8; 16]; 3]; 3], at: usize, output: &mut [i8]) {
        let tables = self.tables(at);
        // SAFETY: sixteen bytes of each tap.
        let tap = |row: usize, column: usize| unsafe { vld1q_s8(weights[row % 3][column % 3].as_ptr()) };
        let weights = [0, 1, 2].map(|column| interleave([tap(0, column), tap(1, column), tap(2, column)]));
        let pad = [self.p.pad_value; 16];
        let stride = i32::from(self.p.window.stride[1]);
        let store = |columns: [&[int8x16_t; 4]; 3], place: *mut i8| {
            let mut sums = tables.each_ref().map(Tables::bias);
            for (column, weights) in columns.into_iter().zip(&weights) {
                for i in 0..LANES / 4 {
                    // SAFETY: the processor has SDOT.
                    sums[i] = unsafe { sdot(sums[i], column[i], weights[i]) };
                }
            }
            // SAFETY: the pixel has `LANES` channels from here on.
            unsafe { self.finish.store_row::<LANES>(sums, &tables, place) };
        };
        let row_len = usize::from(self.p.output.w) * self.channels;
        for (y, row) in output.chunks_exact_mut(row_len).enumerate() {
            let rows = self.rows::<LANES>(y, at, &pad);
            let column = |x| interleave(rows.column(x));
            let mut x = -i32::from(self.p.window.pad[1]);
            let mut places = row.chunks_exact_mut(self.channels).map(|pixel| pixel.as_mut_ptr().wrapping_add(at));
            let mut columns = [column(x), column(x + 1), column(x + 2)];
            if stride == 1 {
                while let Some(place) = places.next() {
                    let [a, b, c] = &mut columns;
                    store([a, b, c], place);
                    *a = column(x + 3);
                    let Some(place) = places.next() else { break };
                    store([b, c, a], place);
                    *b = column(x + 4);
                    let Some(place) = places.next() else { break };
                    store([c, a, b], place);
                    *c = column(x + 5);
                    x += 3;
                }
                continue;
            }
            for place in places {
                let [a, b, c] = &mut columns;
                store([a, b, c], place);
                x += stride;
                *a = if stride == 2 { *c } else { column(x) };
                *b = column(x + 1);
                *c = column(x + 2);
            }
        }
    }

    #[inline(never)]
    fn three_by_three<const LANES: usize>(&self, weights: &[[[i8; 16]; 3]; 3], at: usize, output: &mut [i8]) {
        let tables = self.tables(at);
        // SAFETY: sixteen bytes of each tap.
        let weights = weights.each_ref().map(|row| row.each_ref().map(|tap| unsafe { vld1q_s8(tap.as_ptr()) }));
        let pad = [self.p.pad_value; 16];
        let stride = i32::from(self.p.window.stride[1]);
        let row_len = usize::from(self.p.output.w) * self.channels;
        for (y, row) in output.chunks_exact_mut(row_len).enumerate() {
            let rows = self.rows::<LANES>(y, at, &pad);
            let mut x = -i32::from(self.p.window.pad[1]);
            for pixel in row.chunks_exact_mut(self.channels) {
                let [a, b, c] = [rows.column(x), rows.column(x + 1), rows.column(x + 2)];
                x += stride;
                let [[w0, w3, w6], [w1, w4, w7], [w2, w5, w8]] = {
                    let column = |i: usize| weights.map(|row| row[i % 3]);
                    [column(0), column(1), column(2)]
                };
                let mut sums = tables.each_ref().map(Tables::bias);
                add_two::<LANES>(&mut sums, [a[0], a[1]], [w0, w3]);
                add_two::<LANES>(&mut sums, [a[2], b[0]], [w6, w1]);
                add_two::<LANES>(&mut sums, [b[1], b[2]], [w4, w7]);
                add_two::<LANES>(&mut sums, [c[0], c[1]], [w2, w5]);
                add_one::<LANES>(&mut sums, c[2], w8);
                // SAFETY: the pixel has `LANES` channels from here on.
                unsafe { self.finish.store_row::<LANES>(sums, &tables, pixel.as_mut_ptr().wrapping_add(at)) };
            }
        }
    }

    #[inline(never)]
    fn any_kernel<const LANES: usize>(&self, at: usize, output: &mut [i8]) {
        let tables = self.tables(at);
        let pad = [self.p.pad_value; 16];
        let [_, kernel_columns] = self.p.window.kernel.map(usize::from);
        let [row_step, column_step] = self.p.window.dilation.map(usize::from);
        let windows = Windows::new(&self.p.window, self.p.input, self.p.output);
        for ((rows, columns), pixel) in windows.zip(output.chunks_exact_mut(self.channels)) {
            let mut sums = tables.each_ref().map(Tables::bias);
            for (tap, weights) in self.weights.chunks_exact(self.channels).enumerate() {
                let row = (tap / kernel_columns.max(1)).wrapping_sub(rows.first);
                let column = (tap % kernel_columns.max(1)).wrapping_sub(columns.first);
                let from = if row < rows.count && column < columns.count {
                    let y = rows.start + row * row_step;
                    let x = columns.start + column * column_step;
                    let start = (y * usize::from(self.p.input.w) + x) * self.channels + at;
                    self.input.as_ptr().wrapping_add(start)
                } else {
                    pad.as_ptr()
                };
                // SAFETY: `LANES` channels from `at` on of a tap and a position that exist, or the pad.
                let (x, w) = unsafe { (load::<LANES>(from), load::<LANES>(weights.as_ptr().wrapping_add(at))) };
                add_one::<LANES>(&mut sums, x, w);
            }
            // SAFETY: the pixel has `LANES` channels from here on.
            unsafe { self.finish.store_row::<LANES>(sums, &tables, pixel.as_mut_ptr().wrapping_add(at)) };
        }
    }
}

/// Adds the products of one tap.
#[inline(always)]
fn add_one<const LANES: usize>(sums: &mut [int32x4_t; 4], x: int8x16_t, w: int8x16_t) {
    // SAFETY: vectors are part of this architecture.
    unsafe {
        add_wide(sums, 0, vmull_s8(vget_low_s8(x), vget_low_s8(w)));
        if LANES == 16 {
            add_wide(sums, 2, vmull_high_s8(x, w));
        }
    }
}

/// Adds the products of two taps, whose sums fit 16 bits unless weight and value of both are -128.
#[inline(always)]
fn add_two<const LANES: usize>(sums: &mut [int32x4_t; 4], [x, y]: [int8x16_t; 2], [v, w]: [int8x16_t; 2]) {
    // SAFETY: vectors are part of this architecture.
    unsafe {
        let low = vmull_s8(vget_low_s8(x), vget_low_s8(v));
        add_wide(sums, 0, vmlal_s8(low, vget_low_s8(y), vget_low_s8(w)));
        if LANES == 16 {
            add_wide(sums, 2, vmlal_high_s8(vmull_high_s8(x, v), y, w));
        }
    }
}

#[inline(always)]
fn add_wide(sums: &mut [int32x4_t; 4], first: usize, products: int16x8_t) {
    // SAFETY: vectors are part of this architecture.
    unsafe {
        sums[first & 3] = vaddw_s16(sums[first & 3], vget_low_s16(products));
        sums[(first + 1) & 3] = vaddw_high_s16(sums[(first + 1) & 3], products);
    }
}
