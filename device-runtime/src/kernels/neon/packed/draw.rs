//! Images in which the taps of adjacent windows lie together.

use crate::kernels::neon::Level;
use crate::kernels::neon::lay::lay;
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
        while left != 0 {
            // Places without a window repeat the last one.
            let window = |at: usize| x.wrapping_add(at.min(left - 1) * step);
            let size = block_windows(left);
            match size {
                LARGEST => lay::<UNIT, LARGEST>(core::array::from_fn(window), taps, out),
                4 => lay::<UNIT, 4>(core::array::from_fn(window), taps, out),
                _ => core::ptr::copy_nonoverlapping(x, out, taps),
            }
            (x, out) = (x.wrapping_add(size * step), out.wrapping_add(size * taps));
            left = left.saturating_sub(size);
        }
    }
}
