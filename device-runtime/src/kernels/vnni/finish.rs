//! From sums of products to stored values, sixteen at a time.

use core::arch::x86_64::*;

use crate::kernels::params::{Add, Landing, Requant};

/// Biases, multipliers and shifts of sixteen lanes.
#[derive(Clone, Copy)]
pub struct Tables {
    bias: __m512i,
    multiplier: __m512i,
    /// Multipliers of the odd lanes, in the even ones.
    odd_multiplier: __m512i,
    half: __m512i,
    shift: __m512i,
}

/// Requantization, clamp and residual addition of one operator.
pub struct Finish<'a> {
    q: Requant<'a>,
    bits: u32,
    residual: Option<&'a Add>,
}

impl<'a> Finish<'a> {
    /// `bits` as [`pre_shift`](crate::kernels::scales::pre_shift) says.
    pub fn new(q: &Requant<'a>, residual: Option<&'a Add>, bits: u32) -> Self {
        Self { q: *q, bits, residual }
    }

    /// Tables of up to sixteen channels from `o` on; lane `i` takes channel `o + lanes[i]`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub fn tables(&self, o: usize, count: usize, lanes: __m512i) -> Tables {
        let count = count.min(16);
        let mask = ((1u32 << count) - 1) as __mmask16;
        let within = |len: usize| len >= o + count;
        if !(within(self.q.bias.len()) && within(self.q.multiplier.len()) && within(self.q.shift.len())) {
            let zero = _mm512_setzero_si512();
            return Tables { bias: zero, multiplier: zero, odd_multiplier: zero, half: zero, shift: zero };
        }
        // SAFETY: the masks leave `count` entries from `o` on, which every table has.
        let (bias, multiplier, shift) = unsafe {
            (
                _mm512_maskz_loadu_epi32(mask, self.q.bias.as_ptr().wrapping_add(o)),
                _mm512_maskz_loadu_epi32(mask, self.q.multiplier.as_ptr().wrapping_add(o)),
                _mm_maskz_loadu_epi8(mask, self.q.shift.as_ptr().wrapping_add(o).cast()),
            )
        };
        // High halves are below 2^30 in magnitude: shifts beyond 31 give 0, as 31 does.
        let shift = _mm512_sub_epi32(_mm512_cvtepu8_epi32(shift), _mm512_set1_epi32(32 - self.bits as i32));
        let shift = _mm512_min_epi32(_mm512_max_epi32(shift, _mm512_set1_epi32(1)), _mm512_set1_epi32(31));
        let spread = |table| _mm512_permutexvar_epi32(lanes, table);
        let multiplier = spread(multiplier);
        let shift = spread(shift);
        Tables {
            bias: spread(bias),
            multiplier,
            odd_multiplier: _mm512_srli_epi64::<32>(multiplier),
            half: _mm512_srlv_epi32(_mm512_sllv_epi32(_mm512_set1_epi32(1), shift), _mm512_set1_epi32(1)),
            shift,
        }
    }

    /// Tables of a panel of sixteen channels, with the shifts of the upper half of the product.
    #[cfg(any(test, feature = "std"))]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub fn panel([bias, multiplier, shift]: [&[i32; 16]; 3]) -> Tables {
        // SAFETY: reads the sixteen words of each array.
        let [bias, multiplier, shift] =
            [bias, multiplier, shift].map(|words| unsafe { _mm512_loadu_epi32(words.as_ptr()) });
        let half = _mm512_srli_epi32::<1>(_mm512_sllv_epi32(_mm512_set1_epi32(1), shift));
        Tables { bias, multiplier, odd_multiplier: _mm512_srli_epi64::<32>(multiplier), half, shift }
    }

    /// Sixteen sums, bias excluded, to int8 range.
    ///
    /// The high half of the product rounds as the whole does, because shifts plus `bits` are above 32.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub fn values(&self, sums: __m512i, tables: &Tables) -> __m512i {
        let Landing { zero_point, lo, hi } = self.q.landing;
        let mut acc = _mm512_add_epi32(sums, tables.bias);
        if self.bits != 0 {
            acc = _mm512_sllv_epi32(acc, _mm512_set1_epi32(self.bits as i32));
        }
        let even = _mm512_srli_epi64::<32>(_mm512_mul_epi32(acc, tables.multiplier));
        let odd = _mm512_mul_epi32(_mm512_srli_epi64::<32>(acc), tables.odd_multiplier);
        let high = _mm512_mask_blend_epi32(0xAAAA, even, odd);
        let y = _mm512_srav_epi32(_mm512_add_epi32(high, tables.half), tables.shift);
        let y = _mm512_add_epi32(y, _mm512_set1_epi32(zero_point.into()));
        _mm512_min_epi32(_mm512_max_epi32(y, _mm512_set1_epi32(lo.into())), _mm512_set1_epi32(hi.into()))
    }

    /// The fused addition, with what `held` gives.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub fn add(&self, y: __m512i, held: impl FnOnce() -> __m128i) -> __m512i {
        let Some(add) = self.residual else { return y };
        let set = |value: i32| _mm512_set1_epi32(value);
        let held = _mm512_cvtepi8_epi32(held());
        let a = _mm512_mullo_epi32(y, set(add.a_multiplier));
        let b = _mm512_mullo_epi32(held, set(add.b_multiplier));
        let sum = _mm512_add_epi32(_mm512_add_epi32(a, b), set(add.offset));
        let y = _mm512_srav_epi32(sum, set(i32::from(add.shift & 31)));
        _mm512_min_epi32(_mm512_max_epi32(y, set(add.lo.into())), set(add.hi.into()))
    }
}
