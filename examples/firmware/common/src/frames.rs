//! Frames: golden vectors in turn, or a moving pattern.

use stitchkit_runtime::bundle::Bundle;

/// Writes frame `number` into `input`; returns the index of the golden vector it is, if it is one.
pub fn fill(bundle: &Bundle<'_>, number: u32, input: &mut [i8]) -> Option<usize> {
    if let Some(golden) = bundle.golden() {
        let index = (number as usize).checked_rem(golden.count())?;
        let vector = golden.input(index)?;
        input.iter_mut().zip(vector).for_each(|(to, from)| *to = *from);
        return Some(index);
    }
    let width = usize::from(bundle.meta().input.w).max(1) * usize::from(bundle.meta().input.c).max(1);
    for (at, value) in input.iter_mut().enumerate() {
        let (row, column) = (at.checked_div(width).unwrap_or(0), at.checked_rem(width).unwrap_or(0));
        *value = (row.wrapping_mul(5).wrapping_add(column).wrapping_add(number as usize) & 0xFF) as u8 as i8;
    }
    None
}
