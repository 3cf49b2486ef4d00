//! Tables of 256 bytes, sixteen look-ups at a time.

use core::arch::aarch64::*;

/// Replaces values by their entries, `y = table[x as u8]`, in whole vectors of sixteen.
#[inline(never)]
pub fn look_up(table: &[i8; 256], values: impl Iterator<Item = (*const i8, *mut i8)>) {
    // SAFETY: 64 of the 256 bytes at a time.
    let [a, b, c, d] = [0, 64, 128, 192].map(|at| unsafe { vld1q_s8_x4(table.as_ptr().wrapping_add(at)) });
    for (x, y) in values {
        // SAFETY: the caller gives places of sixteen bytes.
        unsafe {
            let x = vld1q_u8(x.cast());
            let behind = |first: u8| vsubq_u8(x, vdupq_n_u8(first));
            let found = vqtbx4q_s8(vqtbl4q_s8(a, x), b, behind(64));
            vst1q_s8(y, vqtbx4q_s8(vqtbx4q_s8(found, c, behind(128)), d, behind(192)));
        }
    }
}

/// Replaces values by their entries; the last ones, less than sixteen, are left alone.
pub fn lut(table: &[i8; 256], input: &[i8], output: &mut [i8]) {
    let (places, values) = (output.as_chunks_mut::<16>().0, input.as_chunks::<16>().0);
    look_up(table, values.iter().zip(places).map(|(x, y)| (x.as_ptr(), y.as_mut_ptr())));
}

/// As [`lut`], over the input.
pub fn lut_in_place(table: &[i8; 256], values: &mut [i8]) {
    look_up(table, values.as_chunks_mut::<16>().0.iter_mut().map(|x| (x.as_ptr(), x.as_mut_ptr())));
}
