//! Convolution: two windows at a time are widened to 16 bits in scratch and multiplied with two filters at a time.

use super::columns::Columns;
use super::epilogue::{Epilogue, kind};
use super::instructions::Block;
use crate::kernels::params::{Add, Conv2d, Requant};
use crate::kernels::windows::Windows;

/// Convolution; `scratch` holds [`Conv2d::scratch_bytes`] aligned to 4.
pub fn conv2d(
    p: &Conv2d,
    q: &Requant<'_>,
    residual: Option<&Add>,
    input: &[i8],
    weights: &[i8],
    scratch: &mut [u8],
    output: &mut [i8],
) {
    let Ok(blocks) = bytemuck::try_cast_slice_mut::<u8, Block>(scratch) else { return };
    let taps = p.taps().max(1);
    let groups = usize::from(p.groups).max(1);
    let channels = usize::from(p.output.c).max(1);
    let (inputs, outputs) = (usize::from(p.input.c) / groups, (channels / groups).max(1));
    let epilogue = Epilogue::new(q, channels, residual);

    let mut windows = Windows::new(&p.window, p.input, p.output);
    for pixels in output.chunks_mut(2 * channels) {
        let Some(left) = windows.next() else { return };
        let right = if pixels.len() > channels { windows.next() } else { None };
        let Some((left_pixel, right_pixel)) = pixels.split_at_mut_checked(channels) else { return };
        for (group, filters) in weights.chunks_exact(outputs.saturating_mul(taps).max(1)).enumerate() {
            let group_inputs = (group * inputs, inputs);
            let first_output = group * outputs;
            let range = first_output..first_output + outputs;
            let tables = epilogue.tables(range.clone());
            let left_part = left_pixel.get_mut(range.clone()).unwrap_or(&mut []);
            match right {
                Some(right) => {
                    let right_part = right_pixel.get_mut(range).unwrap_or(&mut []);
                    let columns = Columns::two(p, [left, right], group_inputs, input, blocks);
                    match epilogue.kind {
                        kind::PLAIN => tables.two_windows::<{ kind::PLAIN }>(&columns, filters, left_part, right_part),
                        kind::RESIDUAL => {
                            tables.two_windows::<{ kind::RESIDUAL }>(&columns, filters, left_part, right_part);
                        }
                        _ => tables.two_windows::<{ kind::ANY }>(&columns, filters, left_part, right_part),
                    }
                }
                None => tables.one_window(&Columns::one(p, left, group_inputs, input, blocks), filters, left_part),
            }
        }
    }
}
