//! Convolution with packed weights: a vector holds four taps of sixteen filters, and four taps of a window are repeated for all.
//!
//! The instruction multiplies unsigned by signed bytes: the image has 128 added to every value, and biases have 128 times the sum of
//! their filter's weights taken off.

use core::arch::x86_64::*;

mod depthwise;

pub use depthwise::depthwise_packed;

use super::finish::{Finish, Tables};
use crate::kernels::packed::{Layout, Operands};
use crate::kernels::params::{Conv2d, Requant};

/// Filters of a panel.
const PANEL: usize = 16;
/// Windows of the largest tile.
const TILE: usize = 8;

/// What the kernels read; `image` holds what the layout asks for.
///
/// # Safety
/// The processor has AVX-512 F, BW, VL and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn draw<'x>(layout: &Layout, p: &Conv2d, input: &'x [i8], image: &'x mut [i8]) -> &'x [i8] {
    layout.source(p, input, image)
}

/// Convolution of the windows that `operands` describes in `source`.
///
/// # Safety
/// The processor has AVX-512 F, BW, VL and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn conv2d_packed(operands: &Operands<'_>, source: *const i8, output: &mut [i8]) {
    let Operands { layout, tables, channels, .. } = *operands;
    let q = Requant { bias: &[], multiplier: &[], shift: &[], landing: tables.landing };
    let finish = Finish::new(&q, operands.residual, tables.bits);
    let mut walk = layout.walk(operands.first);
    for pixels in output.chunks_mut(TILE * channels.max(1)) {
        let windows = pixels.len() / channels.max(1);
        let x = walk.next::<TILE>(windows).map(|start| source.wrapping_add(start));
        let turn = Turn { operands, finish: &finish, x, place: pixels.as_mut_ptr(), windows };
        // SAFETY: the pixels are `windows` whole ones, and windows lie in the source.
        unsafe {
            match windows {
                1 => turn.panels::<1>(),
                2..=4 => turn.panels::<4>(),
                _ => turn.panels::<TILE>(),
            }
        }
    }
}

/// Some windows and all filters.
struct Turn<'a> {
    operands: &'a Operands<'a>,
    finish: &'a Finish<'a>,
    /// First taps of the windows.
    x: [*const i8; TILE],
    /// First output channel of the first window.
    place: *mut i8,
    windows: usize,
}

impl Turn<'_> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn panels<const W: usize>(&self) {
        let Operands { layout, panels, tables, channels, .. } = self.operands;
        let panel_len = PANEL * layout.filter.rows * layout.filter.row_taps;
        let (biases, multipliers, shifts) =
            (tables.bias.as_chunks().0, tables.multiplier.as_chunks().0, tables.shift.as_chunks().0);
        let mut of_panels = biases.iter().zip(multipliers).zip(shifts).map(|((a, b), c)| [a, b, c]);
        let mut weights = panels.as_ptr();
        let mut first = 0;
        while let Some(entries) = of_panels.next() {
            // SAFETY: as many panels as there are tables.
            unsafe {
                if channels - first > PANEL {
                    let Some(next) = of_panels.next() else { return };
                    let sums = sums::<W, 2>(layout, &self.x, weights, panel_len);
                    self.store(&sums[0], &Finish::panel(entries), first);
                    self.store(&sums[1], &Finish::panel(next), first + PANEL);
                    (first, weights) = (first + 2 * PANEL, weights.wrapping_add(2 * panel_len));
                } else {
                    let [sums] = sums::<W, 1>(layout, &self.x, weights, panel_len);
                    self.store(&sums, &Finish::panel(entries), first);
                    (first, weights) = (first + PANEL, weights.wrapping_add(panel_len));
                }
            }
        }
    }

    /// Sums of the windows, for up to sixteen channels from `first` on.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn store<const W: usize>(&self, sums: &[__m512i; W], tables: &Tables, first: usize) {
        let channels = self.operands.channels;
        let count = (channels - first).min(PANEL);
        let mask = ((1u32 << count) - 1) as __mmask16;
        let mut place = self.place.wrapping_add(first);
        for &sums in sums.iter().take(self.windows) {
            let y = self.finish.values(sums, tables);
            // SAFETY: the mask leaves `count` channels of the window.
            unsafe {
                let y = self.finish.add(y, || _mm_maskz_loadu_epi8(mask, place));
                if count == PANEL {
                    _mm_storeu_epi8(place, _mm512_cvtepi32_epi8(y));
                } else {
                    _mm_mask_storeu_epi8(place, mask, _mm512_cvtepi32_epi8(y));
                }
            }
            place = place.wrapping_add(channels);
        }
    }
}

/// Sums of `W` windows and `Q` panels.
///
/// # Safety
/// The windows lie in what `layout` describes, and there are as many panels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
unsafe fn sums<const W: usize, const Q: usize>(
    layout: &Layout,
    x: &[*const i8; TILE],
    weights: *const i8,
    panel_len: usize,
) -> [[__m512i; W]; Q] {
    let mut sums = [[_mm512_setzero_si512(); W]; Q];
    let mut x: [*const i8; W] = core::array::from_fn(|i| x[i & (TILE - 1)]);
    let mut weights = weights;
    for _ in 0..layout.filter.rows {
        for at in (0..layout.filter.row_taps).step_by(4) {
            // SAFETY: four taps of every window, 64 bytes of every panel.
            unsafe {
                let filters: [__m512i; Q] =
                    core::array::from_fn(|panel| _mm512_loadu_si512(weights.wrapping_add(panel * panel_len).cast()));
                for i in 0..W {
                    let taps = _mm512_set1_epi32(x[i].wrapping_add(at).cast::<i32>().read_unaligned());
                    for panel in 0..Q {
                        sums[panel][i] = _mm512_dpbusd_epi32(sums[panel][i], taps, filters[panel]);
                    }
                }
            }
            weights = weights.wrapping_add(4 * PANEL);
        }
        x = x.map(|x| x.wrapping_add(layout.row_step));
    }
    sums
}
