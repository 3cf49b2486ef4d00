//! Addition, eight values at a time.

use core::arch::naked_asm;

use crate::kernels::params::Add;
use crate::kernels::reference;

/// [`Add`] as the function reads it.
#[repr(C)]
struct Sum {
    a_multiplier: i32,
    b_multiplier: i32,
    offset: i32,
    /// Negative: a right shift.
    shift: i32,
    lo: i32,
    hi: i32,
}

/// [`Add`] in vectors.
pub struct Addition {
    add: Add,
    sum: Sum,
}

impl Addition {
    /// The parameters.
    pub fn new(add: &Add) -> Self {
        let sum = Sum {
            a_multiplier: add.a_multiplier,
            b_multiplier: add.b_multiplier,
            offset: add.offset,
            shift: -i32::from(add.shift & 31),
            lo: add.lo.into(),
            hi: add.hi.into(),
        };
        Self { add: *add, sum }
    }

    /// `b[i] = add(a[i], b[i])`. The processor has the vectors.
    pub fn to_second(&self, a: &[i8], b: &mut [i8]) {
        let whole = b.len() & !7;
        if whole != 0 && a.len() >= whole {
            let to = b.as_mut_ptr();
            // SAFETY: both have as many bytes, and every eight are read before they are written.
            unsafe { sums(&self.sum, a.as_ptr(), to, to, whole / 8) };
        }
        for (b, &a) in b.iter_mut().zip(a).skip(whole) {
            *b = self.add.apply(a, *b);
        }
    }
}

/// `output[i] = add(a[i], b[i])`. The processor has the vectors.
pub fn add(add: &Add, a: &[i8], b: &[i8], output: &mut [i8]) {
    let whole = output.len() & !7;
    if whole != 0 && a.len() >= whole && b.len() >= whole {
        // SAFETY: all three have as many bytes.
        unsafe { sums(&Addition::new(add).sum, a.as_ptr(), b.as_ptr(), output.as_mut_ptr(), whole / 8) };
    }
    let (a, b) = (a.get(whole..).unwrap_or(&[]), b.get(whole..).unwrap_or(&[]));
    reference::add(add, a, b, output.get_mut(whole..).unwrap_or(&mut []));
}

/// `a[i] = add(a[i], b[i])`. The processor has the vectors.
pub fn add_in_place(add: &Add, a: &mut [i8], b: &[i8]) {
    let whole = a.len() & !7;
    if whole != 0 && b.len() >= whole {
        let to = a.as_mut_ptr();
        // SAFETY: both have as many bytes, and every eight are read before they are written.
        unsafe { sums(&Addition::new(add).sum, to, b.as_ptr(), to, whole / 8) };
    }
    reference::add_in_place(add, a.get_mut(whole..).unwrap_or(&mut []), b.get(whole..).unwrap_or(&[]));
}

/// `count` times eight sums, at least one.
///
/// # Safety
/// The processor has the vectors, `a` and `b` have as many readable, `output` as many writable bytes.
#[unsafe(naked)]
unsafe extern "C" fn sums(sum: &Sum, a: *const i8, b: *const i8, output: *mut i8, count: usize) {
    naked_asm!(
        ".fpu neon",
        "ldr r12, [sp]",
        "vpush {{d8-d9}}",
        "vld1.32 {{d6}}, [r0]!",
        "vld1.32 {{d8[], d9[]}}, [r0]!",
        "vld1.32 {{d30[], d31[]}}, [r0]!",
        "vld1.8 {{d7[]}}, [r0]",
        "add r0, r0, #4",
        "vld1.8 {{d28[]}}, [r0]",
        "1:",
        "vld1.8 {{d0}}, [r1]!",
        "vld1.8 {{d2}}, [r2]!",
        "vmovl.s8 q0, d0",
        "vmovl.s8 q1, d2",
        "vmovl.s16 q8, d0",
        "vmovl.s16 q9, d1",
        "vmovl.s16 q10, d2",
        "vmovl.s16 q11, d3",
        "vmov q12, q4",
        "vmov q13, q4",
        "vmla.i32 q12, q8, d6[0]",
        "vmla.i32 q13, q9, d6[0]",
        "vmla.i32 q12, q10, d6[1]",
        "vmla.i32 q13, q11, d6[1]",
        "vshl.s32 q12, q12, q15",
        "vshl.s32 q13, q13, q15",
        "vqmovn.s32 d0, q12",
        "vqmovn.s32 d1, q13",
        "vqmovn.s16 d0, q0",
        "vmax.s8 d0, d0, d7",
        "vmin.s8 d0, d0, d28",
        "vst1.8 {{d0}}, [r3]!",
        "subs r12, r12, #1",
        "bne 1b",
        "vpop {{d8-d9}}",
        "bx lr",
    )
}
