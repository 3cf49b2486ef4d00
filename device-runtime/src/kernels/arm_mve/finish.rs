//! What remains to be done to requantized values: a clamp narrower than int8, a residual addition.

use core::arch::naked_asm;

use crate::kernels::params::{Add, Landing};

/// The last part of a convolution, after the value saturated to int8.
#[derive(Clone, Copy)]
pub struct Finish<'a> {
    landing: Landing,
    residual: Option<&'a Add>,
}

impl<'a> Finish<'a> {
    pub fn new(landing: Landing, residual: Option<&'a Add>) -> Self {
        Self { landing, residual }
    }

    /// Saturated values are the result.
    pub fn is_nothing(&self) -> bool {
        self.residual.is_none() && self.landing.lo == i8::MIN && self.landing.hi == i8::MAX
    }

    /// Replaces the start of `held` by the results for the saturated `values`.
    #[inline(never)]
    pub fn store(&self, values: &mut [i8], held: &mut [i8]) {
        let Landing { lo, hi, .. } = self.landing;
        if lo != i8::MIN || hi != i8::MAX {
            values.iter_mut().for_each(|y| *y = (*y).max(lo).min(hi));
        }
        let Some(held) = held.get_mut(..values.len()).filter(|held| !held.is_empty()) else { return };
        match self.residual {
            None => held.iter_mut().zip(values).for_each(|(place, y)| *place = *y),
            // SAFETY: both have the length of `values`, which is not zero.
            Some(add) => unsafe {
                add_vectors(&Addition::new(add), values.as_ptr(), held.as_ptr(), held.as_mut_ptr(), values.len());
            },
        }
    }
}

/// [`Add`] as [`add_vectors`] reads it.
#[repr(C)]
pub struct Addition {
    a_multiplier: i32,
    b_multiplier: i32,
    offset: i32,
    /// Negative: to the right.
    shift: i32,
    lo: i32,
    hi: i32,
}

impl Addition {
    pub fn new(add: &Add) -> Self {
        Self {
            a_multiplier: add.a_multiplier,
            b_multiplier: add.b_multiplier,
            offset: add.offset,
            shift: -i32::from(add.shift & 31),
            lo: add.lo.into(),
            hi: add.hi.into(),
        }
    }
}

/// [`Add::apply`] to `count` pairs.
///
/// # Safety
/// `a` and `b` point to `count` readable bytes, `output` to as many writable ones; it is apart from the inputs or equal to
/// one. `count` is at least 1.
#[unsafe(naked)]
pub unsafe extern "C" fn add_vectors(add: &Addition, a: *const i8, b: *const i8, output: *mut i8, count: usize) {
    naked_asm!(
        ".cpu cortex-m55",
        "push {{r4, r5, r6, r7, r8, r9, r10, lr}}",
        "ldr r10, [sp, #32]",
        "ldm r0, {{r4, r5, r6, r7, r8, r9}}",
        "vdup.32 q2, r8",
        "vdup.32 q3, r9",
        "dlstp.32 lr, r10",
        "1:",
        "vldrb.s32 q0, [r1], #4",
        "vldrb.s32 q1, [r2], #4",
        "vmul.i32 q0, q0, r4",
        "vmla.s32 q0, q1, r5",
        "vadd.i32 q0, q0, r6",
        "vshl.s32 q0, r7",
        "vmax.s32 q0, q0, q2",
        "vmin.s32 q0, q0, q3",
        "vstrb.32 q0, [r3], #4",
        "letp lr, 1b",
        "pop {{r4, r5, r6, r7, r8, r9, r10, pc}}",
    )
}
