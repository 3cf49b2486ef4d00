//! Images in which the taps of adjacent windows lie together.

use core::arch::aarch64::*;

use crate::kernels::neon::Level;
use crate::kernels::packed::{Blocks, LARGEST, block_windows};
use crate::kernels::params::Conv2d;

/// What the kernels of `level` read: the image, which is drawn and has as many bytes as `blocks` says, or the input.
///
/// A unit holds four taps of each window of a block, or, for matrix instructions, eight, of every four windows in the order 0, 2, 1, 3.
pub fn draw<'x>(level: Level, blocks: &Blocks, p: &Conv2d, input: &'x [i8], image: &'x mut [i8]) -> &'x [i8] {
    if blocks.image_lines == 0 {
        return input;
    }
    match level {
        Level::Base | Level::Dot => lines::<4>(blocks, p, input, image),
        Level::Matrix => lines::<8>(blocks, p, input, image),
    }
    image
}

fn lines<const UNIT: usize>(blocks: &Blocks, p: &Conv2d, input: &[i8], image: &mut [i8]) {
    let channels = usize::from(p.input.c);
    let [above, left] = p.window.pad.map(usize::from);
    let row_bytes = blocks.row_bytes;
    let Some((image, padded)) = image.split_at_mut_checked(blocks.image_lines * blocks.line_bytes) else { return };
    for (at, line) in image.chunks_exact_mut(blocks.line_bytes.max(1)).enumerate() {
        let from = (at * blocks.source_step).checked_sub(above).map(|row| row * row_bytes);
        let Some(row) = from.and_then(|from| input.get(from..from + row_bytes)) else {
            line.fill(p.pad_value);
            continue;
        };
        if blocks.padded_bytes == 0 {
            cut::<UNIT>(blocks, row, line);
        } else {
            pad(row, left * channels, p.pad_value, padded.get_mut(..blocks.padded_bytes).unwrap_or(&mut []));
            cut::<UNIT>(blocks, padded, line);
        }
    }
}

/// Copies `row` behind `left` bytes of padding, with more of it behind that.
fn pad(row: &[i8], left: usize, value: i8, padded: &mut [i8]) {
    let (before, rest) = padded.split_at_mut(left.min(padded.len()));
    let (inside, after) = rest.split_at_mut(row.len().min(rest.len()));
    before.fill(value);
    inside.copy_from_slice(row.get(..inside.len()).unwrap_or(&[]));
    after.fill(value);
}

/// Cuts a line of blocks out of a row.
fn cut<const UNIT: usize>(blocks: &Blocks, row: &[i8], line: &mut [i8]) {
    let (taps, step) = (blocks.filter.row_taps, blocks.column_step);
    let (mut x, mut out) = (row.as_ptr(), line.as_mut_ptr());
    let mut left = blocks.line_windows;
    // SAFETY: windows lie in the row, or in what was copied from it and the bytes behind that; the line has places for them all.
    unsafe {
        while left >= LARGEST {
            block::<UNIT, LARGEST>(core::array::from_fn(|at| x.wrapping_add(at * step)), taps, out);
            (x, out) = (x.wrapping_add(LARGEST * step), out.wrapping_add(LARGEST * taps));
            left -= LARGEST;
        }
        // Places without a window repeat the last one.
        let window = |at: usize| x.wrapping_add(at.min(left.saturating_sub(1)) * step);
        match (left, block_windows(left)) {
            (0, _) => {}
            (_, LARGEST) => block::<UNIT, LARGEST>(core::array::from_fn(window), taps, out),
            (_, 4) => block::<UNIT, 4>(core::array::from_fn(window), taps, out),
            _ => core::ptr::copy_nonoverlapping(x, out, taps),
        }
    }
}

/// The window at a place of a block.
const fn window_at<const UNIT: usize>(place: usize) -> usize {
    match (UNIT, place % 4) {
        (8, 1) => place + 1,
        (8, 2) => place - 1,
        _ => place,
    }
}

/// Lays `taps` taps of windows together.
///
/// # Safety
/// Every window has as many readable bytes, and `out` as many for each that can be written.
#[inline(always)]
unsafe fn block<const UNIT: usize, const W: usize>(x: [*const i8; W], taps: usize, mut out: *mut i8) {
    let x: [*const i8; W] = core::array::from_fn(|place| x[window_at::<UNIT>(place) % W]);
    let mut at = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while at + 16 <= taps {
            for four in 0..W / 4 {
                let [a, b, c, d] =
                    [0, 1, 2, 3].map(|i| vreinterpretq_s32_s8(vld1q_s8(x[4 * four + i].wrapping_add(at))));
                let vectors = if UNIT == 8 { halves([a, b, c, d], W) } else { quarters([a, b, c, d], W) };
                for (vector, place) in vectors {
                    vst1q_s32(out.wrapping_add(place + 4 * UNIT * four).cast(), vector);
                }
            }
            (at, out) = (at + 16, out.wrapping_add(16 * W));
        }
        while at < taps {
            for (place, x) in x.iter().enumerate() {
                let (from, to) = (x.wrapping_add(at), out.wrapping_add(place * UNIT));
                if UNIT == 8 {
                    to.cast::<u64>().write_unaligned(from.cast::<u64>().read_unaligned());
                } else {
                    to.cast::<u32>().write_unaligned(from.cast::<u32>().read_unaligned());
                }
            }
            (at, out) = (at + UNIT, out.wrapping_add(UNIT * W));
        }
    }
}

/// Vectors of two units of eight taps of four windows, and where they go.
#[inline(always)]
unsafe fn halves(windows: [int32x4_t; 4], block_windows: usize) -> [(int32x4_t, usize); 4] {
    // SAFETY: vectors are part of this architecture.
    unsafe {
        let [a, b, c, d] = windows.map(|window| vreinterpretq_s64_s32(window));
        let pair = |vector| vreinterpretq_s32_s64(vector);
        let unit = 8 * block_windows;
        [
            (pair(vzip1q_s64(a, b)), 0),
            (pair(vzip1q_s64(c, d)), 16),
            (pair(vzip2q_s64(a, b)), unit),
            (pair(vzip2q_s64(c, d)), unit + 16),
        ]
    }
}

/// Vectors of four units of four taps of four windows, and where they go.
#[inline(always)]
unsafe fn quarters([a, b, c, d]: [int32x4_t; 4], block_windows: usize) -> [(int32x4_t, usize); 4] {
    // SAFETY: vectors are part of this architecture.
    unsafe {
        let pairs = |a, b| [vreinterpretq_s64_s32(vtrn1q_s32(a, b)), vreinterpretq_s64_s32(vtrn2q_s32(a, b))];
        let ([even, odd], [even_too, odd_too]) = (pairs(a, b), pairs(c, d));
        let unit = 4 * block_windows;
        [
            (vreinterpretq_s32_s64(vzip1q_s64(even, even_too)), 0),
            (vreinterpretq_s32_s64(vzip1q_s64(odd, odd_too)), unit),
            (vreinterpretq_s32_s64(vzip2q_s64(even, even_too)), 2 * unit),
            (vreinterpretq_s32_s64(vzip2q_s64(odd, odd_too)), 3 * unit),
        ]
    }
}
