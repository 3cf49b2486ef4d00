//! Values of eight channels of one window or two, to their places.

use core::arch::aarch64::*;
use core::arch::asm;

use super::PANEL;
use crate::kernels::neon::finish::Finish;

/// The functions are unsafe: places have eight readable and writable bytes, or as many as a function says. With `PLAIN`,
/// [`is_plain`](Finish::is_plain) holds.
impl Finish<'_> {
    /// Two windows, `step` bytes apart; returns the place behind them.
    #[inline(always)]
    pub unsafe fn store_two_windows<const PLAIN: bool>(
        &self,
        mut values: int8x16_t,
        mut place: *mut i8,
        step: usize,
    ) -> *mut i8 {
        // SAFETY: the caller's promise.
        unsafe {
            if let (false, Some(addition)) = (PLAIN, &self.residual) {
                values = addition.of(values, vcombine_s8(vld1_s8(place), vld1_s8(place.wrapping_add(step))));
            }
            // The pointer goes on as it is used; of its own the compiler keeps an offset for every window.
            asm!(
                "st1 {{{values:v}.d}}[0], [{place}], {step}",
                "st1 {{{values:v}.d}}[1], [{place}], {step}",
                values = in(vreg) values, place = inout(reg) place, step = in(reg) step,
                options(nostack, preserves_flags)
            );
        }
        place
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
            self.store_two_windows::<false>(values, held.as_mut_ptr().cast(), PANEL);
            for (held, place) in held.iter().zip(places).take(windows) {
                core::ptr::copy_nonoverlapping(held.as_ptr(), place, count);
            }
        }
    }
}
