//! Sixteen lanes of `f32` on whatever the processor has, chosen at run time.
//!
//! Kernels are written once over [`Lanes`] and compiled for AVX-512, AVX2 and plain code by `dispatch!`.
//! All of this crate's intrinsics are in this file.

/// Width of every kernel: one AVX-512 register, two of AVX2.
pub const LANES: usize = 16;

/// Sixteen `f32`.
///
/// # Safety
/// All functions: the processor has the features of the implementing type, which [`isa`] checks; `load` and `store` have
/// the contract of `read_unaligned` and `write_unaligned` for 16 values, the `first` forms for `count <= 16` values.
pub trait Lanes: Copy {
    /// Most tiles of one block of output channels that registers hold.
    const ROWS: usize;
    /// Blocks of output channels per tile where there are enough; such a tile has half of [`ROWS`](Self::ROWS) rows.
    const BLOCKS: usize;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn load_first(from: *const f32, count: usize) -> Self;
    unsafe fn store_first(self, to: *mut f32, count: usize);
    /// `self * factor + summand`, rounded once where the processor can.
    unsafe fn fma(self, factor: Self, summand: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// The larger one; `other` where either is not a number.
    unsafe fn max(self, other: Self) -> Self;
    /// The smaller one; `other` where either is not a number.
    unsafe fn min(self, other: Self) -> Self;
    /// `self` where `value > bound`, else 0.
    unsafe fn where_above(self, value: Self, bound: Self) -> Self;
    /// `2^self` for whole numbers in -126..=127.
    unsafe fn exp2_whole(self) -> Self;
    /// Nearest whole number.
    unsafe fn round(self) -> Self;
    /// Sum of the lanes, in a fixed order.
    unsafe fn sum(self) -> f32;
}

/// Instruction sets that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 F, VL, BW and DQ.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What the target has by default.
    Plain,
}

#[cfg(test)]
thread_local! {
    /// What this thread's kernels use in place of the best instruction set; it must be one the processor has.
    pub static FORCED: std::cell::Cell<Option<Isa>> = const { std::cell::Cell::new(None) };
}

/// The best instruction set of this processor.
pub fn isa() -> Isa {
    #[cfg(test)]
    if let Some(forced) = FORCED.get() {
        return forced;
    }
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512vl") && has!("avx512bw") && has!("avx512dq") {
            return Isa::Avx512;
        }
        if has!("avx2") && has!("fma") {
            return Isa::Avx2;
        }
    }
    Isa::Plain
}

/// Compiles `$generic::<L>` for every instruction set behind one safe function `$name`. The generic function and all it
/// calls must be `#[inline(always)]`, or they are not compiled with the instruction set's features.
macro_rules! dispatch {
    ($(#[$doc:meta])* $visible:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $generic:ident) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $visible fn $name($($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx512($($arg: $type),*) {
                // SAFETY: this function is only called where the features are.
                unsafe { $generic::<$crate::train::engine::kernels::simd::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($arg: $type),*) {
                // SAFETY: as above.
                unsafe { $generic::<$crate::train::engine::kernels::simd::Avx2>($($arg),*) }
            }
            match $crate::train::engine::kernels::simd::isa() {
                // SAFETY: the processor has the features.
                #[cfg(target_arch = "x86_64")]
                $crate::train::engine::kernels::simd::Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: the processor has the features.
                #[cfg(target_arch = "x86_64")]
                $crate::train::engine::kernels::simd::Isa::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: plain code needs no features.
                $crate::train::engine::kernels::simd::Isa::Plain => unsafe {
                    $generic::<$crate::train::engine::kernels::simd::Plain>($($arg),*)
                },
            }
        }
    };
}

pub(crate) use dispatch;

/// Lanes of plain code.
#[derive(Clone, Copy)]
pub struct Plain([f32; LANES]);

impl Plain {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Lanes for Plain {
    const ROWS: usize = 4;
    const BLOCKS: usize = 1;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        // SAFETY: the caller's.
        Self(std::array::from_fn(|i| if i < count { unsafe { *from.add(i) } } else { 0.0 }))
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        for (i, value) in self.0.into_iter().enumerate().take(count) {
            // SAFETY: the caller's.
            unsafe { *to.add(i) = value }
        }
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, summand: Self) -> Self {
        #[cfg(target_arch = "aarch64")]
        return Self(std::array::from_fn(|i| self.0[i].mul_add(factor.0[i], summand.0[i])));
        #[cfg(not(target_arch = "aarch64"))]
        Self(std::array::from_fn(|i| self.0[i] * factor.0[i] + summand.0[i]))
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn where_above(self, value: Self, bound: Self) -> Self {
        Self(std::array::from_fn(|i| if value.0[i] > bound.0[i] { self.0[i] } else { 0.0 }))
    }
    #[inline(always)]
    unsafe fn exp2_whole(self) -> Self {
        Self(self.0.map(|n| f32::from_bits(((n as i32 + 127) << 23) as u32)))
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(self.0.map(f32::round_ties_even))
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        self.0.chunks(4).fold(0.0, |sum, c| sum + ((c[0] + c[1]) + (c[2] + c[3])))
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{LANES, Lanes};
    use std::arch::x86_64::*;

    /// One register.
    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);

    #[inline(always)]
    fn mask(count: usize) -> __mmask16 {
        ((1u32 << count) - 1) as __mmask16
    }

    // SAFETY of every block below: the features are the caller's promise, the addresses are the caller's contract.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Lanes for Avx512 {
        const ROWS: usize = 16;
        const BLOCKS: usize = 2;
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            Self(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> Self {
            Self(unsafe { _mm512_maskz_loadu_ps(mask(count), from) })
        }
        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, count: usize) {
            unsafe { _mm512_mask_storeu_ps(to, mask(count), self.0) }
        }
        #[inline(always)]
        unsafe fn fma(self, factor: Self, summand: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, summand.0) })
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            Self(unsafe { _mm512_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            Self(unsafe { _mm512_sub_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            Self(unsafe { _mm512_mul_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            Self(unsafe { _mm512_div_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            Self(unsafe { _mm512_max_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            Self(unsafe { _mm512_min_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn where_above(self, value: Self, bound: Self) -> Self {
            let above = unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(value.0, bound.0) };
            Self(unsafe { _mm512_maskz_mov_ps(above, self.0) })
        }
        #[inline(always)]
        unsafe fn exp2_whole(self) -> Self {
            Self(unsafe { _mm512_scalef_ps(_mm512_set1_ps(1.0), self.0) })
        }
        #[inline(always)]
        unsafe fn round(self) -> Self {
            Self(unsafe { _mm512_roundscale_ps::<0>(self.0) })
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            unsafe { _mm512_reduce_add_ps(self.0) }
        }
    }

    /// Two registers.
    #[derive(Clone, Copy)]
    pub struct Avx2(__m256, __m256);

    impl Avx2 {
        #[inline(always)]
        fn zip(self, other: Self, f: impl Fn(__m256, __m256) -> __m256) -> Self {
            Self(f(self.0, other.0), f(self.1, other.1))
        }
    }

    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Lanes for Avx2 {
        const ROWS: usize = 4;
        const BLOCKS: usize = 1;
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            let all = unsafe { _mm256_set1_ps(value) };
            Self(all, all)
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe {
                _mm256_storeu_ps(to, self.0);
                _mm256_storeu_ps(to.add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> Self {
            let mut all = [0.0; LANES];
            unsafe {
                std::ptr::copy_nonoverlapping(from, all.as_mut_ptr(), count);
                Self::load(all.as_ptr())
            }
        }
        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, count: usize) {
            let mut all = [0.0; LANES];
            unsafe {
                self.store(all.as_mut_ptr());
                std::ptr::copy_nonoverlapping(all.as_ptr(), to, count);
            }
        }
        #[inline(always)]
        unsafe fn fma(self, factor: Self, summand: Self) -> Self {
            unsafe { Self(_mm256_fmadd_ps(self.0, factor.0, summand.0), _mm256_fmadd_ps(self.1, factor.1, summand.1)) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            self.zip(other, |a, b| unsafe { _mm256_add_ps(a, b) })
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            self.zip(other, |a, b| unsafe { _mm256_sub_ps(a, b) })
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            self.zip(other, |a, b| unsafe { _mm256_mul_ps(a, b) })
        }
        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            self.zip(other, |a, b| unsafe { _mm256_div_ps(a, b) })
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            self.zip(other, |a, b| unsafe { _mm256_max_ps(a, b) })
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            self.zip(other, |a, b| unsafe { _mm256_min_ps(a, b) })
        }
        #[inline(always)]
        unsafe fn where_above(self, value: Self, bound: Self) -> Self {
            let above = value.zip(bound, |a, b| unsafe { _mm256_cmp_ps::<_CMP_GT_OQ>(a, b) });
            self.zip(above, |a, b| unsafe { _mm256_and_ps(a, b) })
        }
        #[inline(always)]
        unsafe fn exp2_whole(self) -> Self {
            self.zip(self, |n, _| unsafe {
                let bits = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(bits))
            })
        }
        #[inline(always)]
        unsafe fn round(self) -> Self {
            self.zip(self, |a, _| unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) })
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            let mut all = [0.0f32; LANES];
            unsafe { self.store(all.as_mut_ptr()) };
            all.chunks(4).fold(0.0, |sum, c| sum + ((c[0] + c[1]) + (c[2] + c[3])))
        }
    }
}
