//! Depthwise convolution with packed weights, 3x3: a vector holds the three rows of a column, of sixteen channels.
//!
//! A column serves all windows that it is part of.

use core::arch::x86_64::*;

use super::PANEL;
use crate::kernels::packed::Operands;
use crate::kernels::params::Requant;
use crate::kernels::vnni::finish::{Finish, Tables};

/// Columns of the kernel.
const COLUMNS: usize = 3;

/// Depthwise convolution of the windows that `operands` describes in `source`.
///
/// # Safety
/// The processor has AVX-512 F, BW, VL and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn depthwise_packed(operands: &Operands<'_>, source: *const i8, output: &mut [i8]) {
    let Operands { tables, channels, .. } = *operands;
    let q = Requant { bias: &[], multiplier: &[], shift: &[], landing: tables.landing };
    let finish = Finish::new(&q, operands.residual, tables.bits);
    let (biases, multipliers) = (tables.bias.as_chunks().0, tables.multiplier.as_chunks().0);
    let of_panels = biases.iter().zip(multipliers).zip(tables.shift.as_chunks().0);
    let weights = operands.panels.as_chunks::<{ PANEL * 4 }>().0.as_chunks::<COLUMNS>().0;
    for (panel, (((bias, multiplier), shift), weights)) in of_panels.zip(weights).enumerate() {
        let first = panel * PANEL;
        let count = (channels - first).min(PANEL);
        let call = Call {
            operands,
            finish: &finish,
            tables: Finish::panel([bias, multiplier, shift]),
            // SAFETY: 64 bytes each.
            weights: weights.each_ref().map(|column| unsafe { _mm512_loadu_si512(column.as_ptr().cast()) }),
            mask: ((1u32 << count) - 1) as __mmask16,
        };
        let (source, place) = (source.wrapping_add(first), output.as_mut_ptr().wrapping_add(first));
        let stride = operands.layout.column_step / channels.max(1);
        for line in operands.layout.lines(operands.first, output.len(), channels) {
            let (x, place) = (source.wrapping_add(line.start), place.wrapping_add(line.place));
            // SAFETY: windows lie in the source, and every window has `count` channels from `first` on in the output.
            unsafe {
                match stride {
                    1 => call.line::<1>(line.windows, x, place),
                    2 => call.line::<2>(line.windows, x, place),
                    _ => call.line::<3>(line.windows, x, place),
                }
            }
        }
    }
}

/// Up to sixteen channels.
struct Call<'a> {
    operands: &'a Operands<'a>,
    finish: &'a Finish<'a>,
    tables: Tables,
    weights: [__m512i; COLUMNS],
    mask: __mmask16,
}

impl Call<'_> {
    /// A line of windows, `STRIDE` or, if that is 3, at least three columns apart.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn line<const STRIDE: usize>(&self, windows: usize, mut x: *const i8, mut place: *mut i8) {
        let step = self.operands.channels;
        // SAFETY: the caller's promises.
        unsafe {
            let (mut a, mut b) = (self.column(x), self.column(x.wrapping_add(step)));
            for left in (0..windows).rev() {
                let c = self.column(x.wrapping_add(2 * step));
                self.store([a, b, c], place);
                (x, place) = (x.wrapping_add(self.operands.layout.column_step), place.wrapping_add(step));
                if STRIDE == 1 {
                    (a, b) = (b, c);
                } else if left != 0 {
                    // Behind the last window there may be no more columns.
                    a = if STRIDE == 2 { c } else { self.column(x) };
                    b = self.column(x.wrapping_add(step));
                }
            }
        }
    }

    /// The three rows of a column: per channel rows 0, 1, 2, then zero.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn column(&self, x: *const i8) -> __m512i {
        let row_step = self.operands.layout.row_step;
        // SAFETY: sixteen bytes from every row on, of which those behind the image are its slack.
        let row = |row: usize| unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(x.wrapping_add(row * row_step).cast())) };
        let (second, third) = (_mm512_slli_epi32::<8>(row(1)), _mm512_slli_epi32::<16>(row(2)));
        _mm512_ternarylogic_epi32::<0xFE>(row(0), second, third)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn store(&self, columns: [__m512i; COLUMNS], place: *mut i8) {
        let mut sums = _mm512_setzero_si512();
        for (column, &weights) in columns.into_iter().zip(&self.weights) {
            sums = _mm512_dpbusd_epi32(sums, column, weights);
        }
        let y = self.finish.values(sums, &self.tables);
        // SAFETY: the mask leaves the window's channels.
        unsafe {
            let y = self.finish.add(y, || _mm_maskz_loadu_epi8(self.mask, place));
            _mm_mask_storeu_epi8(place, self.mask, _mm512_cvtepi32_epi8(y));
        }
    }
}
