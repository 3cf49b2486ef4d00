//! Depthwise convolution, sixteen channels at a time, two taps per instruction.

use core::arch::x86_64::*;

use super::finish::Finish;
use crate::kernels::params::{Add, Conv2d, Requant};
use crate::kernels::scales::pre_shift;
use crate::kernels::windows::Windows;
use crate::kernels::{avx2, reference};

/// Channels of a vector.
const LANES: usize = 16;
/// Most taps of a kernel whose weights are kept in registers or close by.
const MAX_TAPS: usize = 26;

/// Depthwise convolution. Kernels of more than 25 taps run the AVX2 variant.
///
/// # Safety
/// The processor has AVX-512 F, BW, VL and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn depthwise(
    p: &Conv2d,
    q: &Requant<'_>,
    residual: Option<&Add>,
    input: &[i8],
    weights: &[i8],
    output: &mut [i8],
) {
    let channels = usize::from(p.output.c).max(1);
    let [rows, columns] = p.window.kernel.map(usize::from);
    if rows * columns >= MAX_TAPS {
        return avx2::depthwise(p, q, residual, input, weights, output);
    }
    let Some(bits) = pre_shift(q, channels, p.taps()) else {
        return reference::depthwise(p, q, residual, input, weights, output);
    };
    let finish = Finish::new(q, residual, bits);
    for at in (0..channels).step_by(LANES) {
        let lanes = LANES.min(channels - at);
        // SAFETY: the processor has the instructions, and there are so many channels.
        unsafe { sixteen(p, &finish, input, weights, output, (at, lanes)) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
unsafe fn sixteen(
    p: &Conv2d,
    finish: &Finish<'_>,
    input: &[i8],
    weights: &[i8],
    output: &mut [i8],
    (at, lanes): (usize, usize),
) {
    let channels = usize::from(p.output.c).max(1);
    let mask = ((1u32 << lanes) - 1) as __mmask16;
    let each = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let tables = finish.tables(at, lanes, each);
    let zero = _mm_setzero_si128();
    // SAFETY: the mask leaves `lanes` channels from `at` on.
    let load = |from: *const i8| unsafe { _mm_maskz_loadu_epi8(mask, from) };

    let mut pairs = [_mm512_setzero_si512(); MAX_TAPS / 2];
    for (pair, taps) in pairs.iter_mut().zip(weights.chunks(2 * channels)) {
        let (first, second) = taps.split_at_checked(channels).unwrap_or((taps, &[]));
        let second = if second.is_empty() { zero } else { load(second.as_ptr().wrapping_add(at)) };
        *pair = interleave(load(first.as_ptr().wrapping_add(at)), second);
    }
    let [kernel_rows, kernel_columns] = p.window.kernel.map(|n| usize::from(n).max(1));
    let [row_step, column_step] = p.window.dilation.map(usize::from);
    let taps = kernel_rows * kernel_columns;
    let row_pitch = usize::from(p.input.w) * channels;
    let pad = [p.pad_value; LANES];
    // Where every tap lies from the first on, for windows inside the input.
    let mut inside = [0usize; MAX_TAPS];
    for (tap, place) in inside.iter_mut().enumerate().take(taps) {
        *place = tap / kernel_columns * row_step * row_pitch + tap % kernel_columns * column_step * channels;
    }
    for ((rows, columns), pixel) in Windows::new(&p.window, p.input, p.output).zip(output.chunks_exact_mut(channels)) {
        let start = rows.start * row_pitch + columns.start * channels + at;
        let whole = rows.count == kernel_rows && columns.count == kernel_columns;
        let tap = |tap: usize| {
            if whole {
                return load(input.as_ptr().wrapping_add(start + inside.get(tap).copied().unwrap_or(0)));
            }
            let row = (tap / kernel_columns).wrapping_sub(rows.first);
            let column = (tap % kernel_columns).wrapping_sub(columns.first);
            if row < rows.count && column < columns.count {
                let from = start + row * row_step * row_pitch + column * column_step * channels;
                return load(input.as_ptr().wrapping_add(from));
            }
            load(pad.as_ptr())
        };
        let mut sums = _mm512_setzero_si512();
        for (pair, weights) in pairs.iter().enumerate().take(taps.div_ceil(2)) {
            let second = if 2 * pair + 1 < taps { tap(2 * pair + 1) } else { zero };
            sums = _mm512_dpwssd_epi32(sums, interleave(tap(2 * pair), second), *weights);
        }
        let place = pixel.as_mut_ptr().wrapping_add(at);
        let y = finish.values(sums, &tables);
        let y = finish.add(y, || load(place));
        // SAFETY: the mask leaves `lanes` channels from `at` on.
        unsafe { _mm_mask_storeu_epi8(place, mask, _mm512_cvtepi32_epi8(y)) };
    }
}

/// Two taps of sixteen channels, side by side and widened to 16 bits.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn interleave(a: __m128i, b: __m128i) -> __m512i {
    let (low, high) = (_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b));
    _mm512_cvtepi8_epi16(_mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high))
}
