//! Tables of 256 bytes, sixteen look-ups at a time.

use core::arch::aarch64::*;

/// A table in registers, 64 bytes at a time.
struct Table([int8x16x4_t; 4]);

impl Table {
    #[inline(always)]
    fn new(table: &[i8; 256]) -> Self {
        // SAFETY: 64 of the 256 bytes at a time.
        Self([0, 64, 128, 192].map(|at| unsafe { vld1q_s8_x4(table.as_ptr().wrapping_add(at)) }))
    }

    #[inline(always)]
    fn look_up(&self, x: uint8x16_t) -> int8x16_t {
        let Self([a, b, c, d]) = *self;
        // SAFETY: vectors are part of this architecture.
        unsafe {
            let behind = |first: u8| vsubq_u8(x, vdupq_n_u8(first));
            let found = vqtbx4q_s8(vqtbl4q_s8(a, x), b, behind(64));
            vqtbx4q_s8(vqtbx4q_s8(found, c, behind(128)), d, behind(192))
        }
    }
}

/// Replaces `16 * vectors` values from `x` on by their entries, `y = table[x as u8]`.
///
/// # Safety
/// Both places have as many bytes.
#[inline(never)]
unsafe fn look_up(table: &[i8; 256], mut x: *const u8, mut y: *mut i8, vectors: usize) {
    let table = Table::new(table);
    // SAFETY: the caller's promise.
    unsafe {
        for _ in 0..vectors / 4 {
            let values = vld1q_u8_x4(x);
            let [a, b, c, d] = [values.0, values.1, values.2, values.3].map(|x| table.look_up(x));
            vst1q_s8_x4(y, int8x16x4_t(a, b, c, d));
            (x, y) = (x.wrapping_add(64), y.wrapping_add(64));
        }
        for _ in 0..vectors % 4 {
            vst1q_s8(y, table.look_up(vld1q_u8(x)));
            (x, y) = (x.wrapping_add(16), y.wrapping_add(16));
        }
    }
}

/// Replaces values by their entries; the last ones, less than sixteen, are left alone.
pub fn lut(table: &[i8; 256], input: &[i8], output: &mut [i8]) {
    let vectors = input.len().min(output.len()) / 16;
    // SAFETY: so many vectors of both.
    unsafe { look_up(table, input.as_ptr().cast(), output.as_mut_ptr(), vectors) };
}

/// As [`lut`], over the input.
pub fn lut_in_place(table: &[i8; 256], values: &mut [i8]) {
    let (place, vectors) = (values.as_mut_ptr(), values.len() / 16);
    // SAFETY: so many vectors.
    unsafe { look_up(table, place.cast(), place, vectors) };
}
