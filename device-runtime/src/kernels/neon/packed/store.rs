//! Values of eight channels of one window or two, to their places.

use core::arch::aarch64::*;

use super::PANEL;
use crate::kernels::neon::finish::Finish;

/// The functions are unsafe: places have eight readable and writable bytes, or as many as a function says. With `PLAIN`,
/// [`is_plain`](Finish::is_plain) holds.
impl Finish<'_> {
    /// Two windows.
    #[inline(always)]
    pub unsafe fn store_two_windows<const PLAIN: bool>(&self, mut values: int8x16_t, [first, second]: [*mut i8; 2]) {
        // SAFETY: the caller's promise.
        unsafe {
            if let (false, Some(addition)) = (PLAIN, &self.residual) {
                values = addition.of(values, vcombine_s8(vld1_s8(first), vld1_s8(second)));
            }
            vst1_s8(first, vget_low_s8(values));
            vst1_s8(second, vget_high_s8(values));
        }
    }

    /// One window: the first half of the values.
    #[inline(always)]
    pub unsafe fn store_window<const PLAIN: bool>(&self, mut values: int8x16_t, place: *mut i8) {
        // SAFETY: the caller's promise.
        unsafe {
            if let (false, Some(addition)) = (PLAIN, &self.residual) {
                values = addition.of(values, vcombine_s8(vld1_s8(place), vcreate_s8(0)));
            }
            vst1_s8(place, vget_low_s8(values));
        }
    }

    /// The first `count` channels, at most eight, of `windows` windows, at most two, which are `step` bytes apart.
    pub unsafe fn store_part_of_two(
        &self,
        values: int8x16_t,
        place: *mut i8,
        step: usize,
        (windows, count): (usize, usize),
    ) {
        let mut held = [[0i8; PANEL]; 2];
        let places = [place, place.wrapping_add(step)];
        // SAFETY: the caller's promise, and sixteen bytes of the arrays.
        unsafe {
            for (held, place) in held.iter_mut().zip(places).take(windows) {
                core::ptr::copy_nonoverlapping(place, held.as_mut_ptr(), count);
            }
            let [first, second] = held.each_mut().map(|held| held.as_mut_ptr());
            self.store_two_windows::<false>(values, [first, second]);
            for (held, place) in held.iter().zip(places).take(windows) {
                core::ptr::copy_nonoverlapping(held.as_ptr(), place, count);
            }
        }
    }
}
