//! Convolution and fully connected layers.

use core::arch::x86_64::*;

use super::finish::{Finish, Tables};
use crate::kernels::gather::{TILE, Taps, Walk};
use crate::kernels::params::{Add, Conv2d, Requant};
use crate::kernels::reference;
use crate::kernels::scales::pre_shift;

/// Filters of a vector.
const QUAD: usize = 4;

/// Convolution; `scratch` holds [`Conv2d::scratch_bytes`].
///
/// # Safety
/// The processor has AVX-512 F, BW, VL and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn conv2d(
    p: &Conv2d,
    q: &Requant<'_>,
    residual: Option<&Add>,
    input: &[i8],
    weights: &[i8],
    scratch: &mut [u8],
    output: &mut [i8],
) {
    let channels = usize::from(p.output.c).max(1);
    let Some(bits) = pre_shift(q, channels, p.taps()).filter(|_| p.taps() != 0) else {
        return reference::conv2d(p, q, residual, input, weights, output);
    };
    let groups = usize::from(p.groups).max(1);
    let (inputs, outputs) = (usize::from(p.input.c) / groups, channels / groups);
    let finish = Finish::new(q, residual, bits);
    let mut walk = Walk::new(p, input, scratch);
    let most = if p.output.positions() == 1 { 1 } else { TILE };
    for pixels in output.chunks_mut(most * channels) {
        let windows = walk.advance(most);
        for group in 0..groups {
            walk.find((group * inputs, inputs));
            let first = group * outputs;
            let turn = Turn {
                finish: &finish,
                taps: &walk.taps,
                weights,
                filter_taps: p.taps(),
                end: first + outputs,
                place: pixels.as_mut_ptr(),
                step: channels,
                windows,
            };
            // SAFETY: the pixels are `windows` whole ones; windows and filters span what `taps` says.
            unsafe {
                match windows {
                    1 => turn.filters::<1>(first),
                    2..=4 => turn.filters::<4>(first),
                    _ => turn.filters::<TILE>(first),
                }
            }
        }
    }
}

/// Some windows and all filters of a group.
struct Turn<'a> {
    finish: &'a Finish<'a>,
    taps: &'a Taps,
    weights: &'a [i8],
    filter_taps: usize,
    /// Behind the group's last output channel.
    end: usize,
    /// First output channel of the first window, and bytes from window to window.
    place: *mut i8,
    step: usize,
    windows: usize,
}

impl Turn<'_> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn filters<const W: usize>(&self, first: usize) {
        // SAFETY: the caller's promises.
        unsafe {
            let offsets = self.offsets::<W>();
            let mut o = first;
            while o + 2 * QUAD <= self.end && self.filter_taps >= 8 {
                self.tile::<W, 2>(o, 2 * QUAD, &offsets, None);
                o += 2 * QUAD;
            }
            while o < self.end {
                let count = QUAD.min(self.end - o);
                let mut tails = [[0i8; 8]; QUAD];
                if self.filter_taps < 8 {
                    let filters = self.weights.chunks_exact(self.filter_taps.max(1)).skip(o).take(count);
                    for (tail, filter) in tails.iter_mut().zip(filters) {
                        tail.iter_mut().rev().zip(filter.iter().rev()).for_each(|(to, &w)| *to = w);
                    }
                    self.tile::<W, 1>(o, count, &offsets, Some(&tails));
                } else {
                    self.tile::<W, 1>(o, count, &offsets, None);
                }
                o += QUAD;
            }
        }
    }

    /// What the 128 added to the weights adds to each window's sums, negative.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn offsets<const W: usize>(&self) -> [i32; TILE] {
        let mut offsets = [0; TILE];
        let ones = _mm_set1_epi8(i8::MIN);
        for (at, offset) in offsets.iter_mut().enumerate().take(W) {
            let mut sums = _mm_setzero_si128();
            // SAFETY: `len` bytes of every row, eight of the tails.
            unsafe {
                for row in self.taps.rows.iter().take(self.taps.row_count) {
                    let x = row[at];
                    let mut done = 0;
                    while done + 16 <= self.taps.len {
                        sums = _mm_dpbusd_epi32(sums, ones, _mm_loadu_si128(x.wrapping_add(done).cast()));
                        done += 16;
                    }
                    if self.taps.len & 8 != 0 {
                        sums = _mm_dpbusd_epi32(sums, ones, _mm_loadl_epi64(x.wrapping_add(done).cast()));
                    }
                }
                if self.taps.tail != 0 {
                    sums = _mm_dpbusd_epi32(sums, ones, _mm_loadl_epi64(self.taps.tails[at].as_ptr().cast()));
                }
            }
            let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0b01_00_11_10>(sums));
            *offset = -_mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_shuffle_epi32::<0b10_11_00_01>(sums)));
        }
        offsets
    }

    /// `count` filters from `o` on, at most four times `Q`, for `W` windows.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    // The indices are of arrays in registers.
    #[allow(clippy::needless_range_loop)]
    unsafe fn tile<const W: usize, const Q: usize>(
        &self,
        o: usize,
        count: usize,
        offsets: &[i32; TILE],
        tails: Option<&[[i8; 8]; QUAD]>,
    ) {
        let base = self.weights.as_ptr().wrapping_add(o * self.filter_taps);
        // Filters that do not exist repeat the first.
        let filters: [[*const i8; QUAD]; Q] = core::array::from_fn(|quad| {
            core::array::from_fn(|i| {
                let at = QUAD * quad + i;
                base.wrapping_add(if at < count { at * self.filter_taps } else { 0 })
            })
        });
        let mut sums = [[_mm512_setzero_si512(); W]; Q];
        let mut at = 0;
        // SAFETY: `len` bytes of every row and filter, eight of the tails.
        unsafe {
            for row in self.taps.rows.iter().take(self.taps.row_count) {
                let mut done = 0;
                while done + 16 <= self.taps.len {
                    let weights = vectors(&filters, at + done, sixteen);
                    for i in 0..W {
                        let x = _mm512_broadcast_i32x4(sixteen(row[i].wrapping_add(done)));
                        for quad in 0..Q {
                            sums[quad][i] = _mm512_dpbusd_epi32(sums[quad][i], weights[quad], x);
                        }
                    }
                    done += 16;
                }
                if self.taps.len & 8 != 0 {
                    let weights = vectors(&filters, at + done, eight);
                    for i in 0..W {
                        let x = _mm512_broadcast_i32x4(eight(row[i].wrapping_add(done)));
                        for quad in 0..Q {
                            sums[quad][i] = _mm512_dpbusd_epi32(sums[quad][i], weights[quad], x);
                        }
                    }
                }
                at += self.taps.len;
            }
            if self.taps.tail != 0 {
                let weights = match tails {
                    Some(tails) => vectors(&[tails.each_ref().map(|tail| tail.as_ptr()); Q], 0, eight),
                    None => vectors(&filters, self.filter_taps.wrapping_sub(8), eight),
                };
                for i in 0..W {
                    let x = _mm512_broadcast_i32x4(eight(self.taps.tails[i].as_ptr()));
                    for quad in 0..Q {
                        sums[quad][i] = _mm512_dpbusd_epi32(sums[quad][i], weights[quad], x);
                    }
                }
            }
            let lanes = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
            for (quad, sums) in sums.iter().enumerate() {
                let first = o + QUAD * quad;
                let channels = QUAD.min(count.saturating_sub(QUAD * quad));
                let tables = self.finish.tables(first, channels, lanes);
                for (half, sums) in sums.chunks(4).enumerate() {
                    let all = if W == 1 { [sums[0]; 4] } else { [sums[0], sums[1 % W], sums[2 % W], sums[3 % W]] };
                    let offsets = _mm_loadu_si128(offsets.as_ptr().wrapping_add(4 * half).cast());
                    let offsets = _mm512_broadcast_i32x4(offsets);
                    let sums = _mm512_add_epi32(across(all), offsets);
                    self.store(sums, &tables, 4 * half, (first, channels));
                }
            }
        }
    }

    /// Sums `[filter][window]` of four windows from `window` on.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn store(&self, sums: __m512i, tables: &Tables, window: usize, (o, channels): (usize, usize)) {
        let transpose = _mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
        let windows = self.windows.saturating_sub(window).min(4);
        let place = self.place.wrapping_add(window * self.step + o);
        let y = self.finish.values(sums, tables);
        // SAFETY: `channels` bytes at `windows` places.
        unsafe {
            let y = self.finish.add(y, || {
                let mut held = [[0i8; 4]; 4];
                for (i, held) in held.iter_mut().enumerate().take(windows) {
                    copy(place.wrapping_add(i * self.step), held.as_mut_ptr(), channels);
                }
                _mm_shuffle_epi8(_mm_loadu_si128(held.as_ptr().cast()), transpose)
            });
            let bytes: [[i8; 4]; 4] = bytemuck::cast(_mm_shuffle_epi8(_mm512_cvtepi32_epi8(y), transpose));
            for (i, bytes) in bytes.iter().enumerate().take(windows) {
                copy(bytes.as_ptr(), place.wrapping_add(i * self.step), channels);
            }
        }
    }
}

/// Copies up to four bytes; all four at once.
#[inline(always)]
unsafe fn copy(from: *const i8, to: *mut i8, count: usize) {
    // SAFETY: the caller grants `count` bytes at both.
    unsafe {
        if count == 4 {
            to.cast::<[i8; 4]>().write(from.cast::<[i8; 4]>().read());
            return;
        }
        for i in 0..count {
            to.wrapping_add(i).write(from.wrapping_add(i).read());
        }
    }
}

#[inline(always)]
unsafe fn sixteen(from: *const i8) -> __m128i {
    // SAFETY: the caller grants sixteen bytes.
    unsafe { _mm_loadu_si128(from.cast()) }
}

#[inline(always)]
unsafe fn eight(from: *const i8) -> __m128i {
    // SAFETY: the caller grants eight bytes.
    unsafe { _mm_loadl_epi64(from.cast()) }
}

/// Four filters per vector, loaded `at` bytes from their starts; 128 added to every weight.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
unsafe fn vectors<const Q: usize>(
    filters: &[[*const i8; QUAD]; Q],
    at: usize,
    load: unsafe fn(*const i8) -> __m128i,
) -> [__m512i; Q] {
    let mut vectors = [_mm512_setzero_si512(); Q];
    for (vector, [a, b, c, d]) in vectors.iter_mut().zip(filters) {
        // SAFETY: the caller grants what `load` reads.
        unsafe {
            let ab = _mm256_castsi128_si256(load(a.wrapping_add(at)));
            let ab = _mm256_inserti128_si256::<1>(ab, load(b.wrapping_add(at)));
            let cd = _mm256_castsi128_si256(load(c.wrapping_add(at)));
            let cd = _mm256_inserti128_si256::<1>(cd, load(d.wrapping_add(at)));
            let all = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(ab), cd);
            *vector = _mm512_xor_si512(all, _mm512_set1_epi8(i8::MIN));
        }
    }
    vectors
}

/// The sums of four lanes each of four windows: `[filter][window]`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn across([a, b, c, d]: [__m512i; 4]) -> __m512i {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}
