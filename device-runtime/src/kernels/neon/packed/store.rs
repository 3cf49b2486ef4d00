//! Values of eight channels of one window or two, to their places.

use core::arch::aarch64::*;
use core::arch::asm;

use super::PANEL;
use crate::kernels::neon::finish::Finish;

/// The functions are unsafe: places have eight readable and writable bytes, or as many as a function says. With `PLAIN`,
/// [`is_plain`](Finish::is_plain) holds; without `ADDS` there is no residual.
impl Finish<'_> {
    /// Two windows, `step` bytes apart; returns the place behind them.
    #[inline(always)]
    pub unsafe fn store_two_windows<const PLAIN: bool, const ADDS: bool>(
        &self,
        mut values: int8x16_t,
        mut place: *mut i8,
        step: usize,
    ) -> *mut i8 {
        // SAFETY: the caller's promise.
        unsafe {
            if let (true, Some(addition)) = (ADDS, &self.residual) {
                values = addition.of::<PLAIN>(values, vcombine_s8(vld1_s8(place), vld1_s8(place.wrapping_add(step))));
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

    /// Pairs of windows, all `step` bytes apart; returns the place behind them.
    #[inline(always)]
    pub unsafe fn store_windows<const PAIRS: usize, const PLAIN: bool, const ADDS: bool>(
        &self,
        values: [int8x16_t; PAIRS],
        mut place: *mut i8,
        step: usize,
    ) -> *mut i8 {
        for values in values {
            // SAFETY: the caller's promise.
            place = unsafe { self.store_two_windows::<PLAIN, ADDS>(values, place, step) };
        }
        place
    }

    /// One window: the first half of the values.
    #[inline(always)]
    pub unsafe fn store_window<const PLAIN: bool, const ADDS: bool>(&self, mut values: int8x16_t, place: *mut i8) {
        // SAFETY: the caller's promise.
        unsafe {
            if let (true, Some(addition)) = (ADDS, &self.residual) {
                values = addition.of::<PLAIN>(values, vcombine_s8(vld1_s8(place), vcreate_s8(0)));
            }
            vst1_s8(place, vget_low_s8(values));
        }
    }

    /// Eight windows, `step` bytes apart; returns the place behind them. Every vector has two filters of all windows, every four of which are in the order 0, 2, 1, 3.
    #[inline(always)]
    pub unsafe fn store_filter_pairs<const PLAIN: bool, const ADDS: bool>(
        &self,
        mut values: [int8x16_t; 4],
        mut place: *mut i8,
        step: usize,
    ) -> *mut i8 {
        /// The same instruction for every window.
        macro_rules! each_window {
            ($instruction:literal) => {
                each_window!($instruction; 0 2 1 3 4 6 5 7)
            };
            ($instruction:literal; $($lane:literal)+) => {
                concat!($($instruction, " {{v0.h, v1.h, v2.h, v3.h}}[", $lane, "], [{place}], {step}\n",)+)
            };
        }
        // SAFETY: the caller's promise.
        unsafe {
            if let (true, Some(addition)) = (ADDS, &self.residual) {
                let [a, b, c, d]: [int8x16_t; 4];
                asm!(
                    each_window!("ld4"),
                    place = inout(reg) place => _, step = in(reg) step,
                    out("v0") a, out("v1") b, out("v2") c, out("v3") d,
                    options(readonly, nostack, preserves_flags)
                );
                let [p, q, r, s] = values;
                values = [(p, a), (q, b), (r, c), (s, d)].map(|(values, held)| addition.of::<PLAIN>(values, held));
            }
            let [a, b, c, d] = values;
            asm!(
                each_window!("st4"),
                place = inout(reg) place, step = in(reg) step,
                in("v0") a, in("v1") b, in("v2") c, in("v3") d,
                options(nostack, preserves_flags)
            );
        }
        place
    }

    /// The first `count` channels, at most eight, of windows `step` bytes apart.
    #[inline(never)]
    pub unsafe fn store_rows(&self, rows: &[[i8; PANEL]], place: *mut i8, step: usize, count: usize) {
        for (window, row) in rows.iter().enumerate() {
            let (place, mut held) = (place.wrapping_add(window * step), [0; PANEL]);
            // SAFETY: the caller's promise, and eight bytes of both rows.
            unsafe {
                let mut values = vcombine_s8(vld1_s8(row.as_ptr()), vcreate_s8(0));
                if let Some(addition) = &self.residual {
                    copy(place, held.as_mut_ptr(), count);
                    values = addition.of::<false>(values, vcombine_s8(vld1_s8(held.as_ptr()), vcreate_s8(0)));
                }
                vst1_s8(held.as_mut_ptr(), vget_low_s8(values));
                copy(held.as_ptr(), place, count);
            }
        }
    }
}

/// Copies `count` bytes, at most those of a panel.
#[inline(always)]
unsafe fn copy(from: *const i8, to: *mut i8, count: usize) {
    // SAFETY: the caller grants so many.
    unsafe {
        if count == PANEL {
            to.cast::<[i8; PANEL]>().write(from.cast::<[i8; PANEL]>().read());
        } else {
            core::ptr::copy_nonoverlapping(from, to, count);
        }
    }
}
