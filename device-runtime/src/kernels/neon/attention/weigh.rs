//! From scores to weights, sixteen keys of four queries at a time.

use core::arch::aarch64::*;
use core::arch::asm;

use super::{Group, QUERIES, Scores};
use crate::kernels::attention::{OCTAVE, Weight};
use crate::kernels::neon::finish::load_four;

/// Weights of sixteen keys.
pub type Weights = [[uint16x8_t; 2]; QUERIES];

/// Every quarter of [`OCTAVE`]: low bytes, high bytes.
static BYTES: [[[u8; 64]; 2]; 4] = bytes();

const fn bytes() -> [[[u8; 64]; 2]; 4] {
    let (mut bytes, mut at) = ([[[0; 64]; 2]; 4], 0);
    while at < 256 {
        let [low, high] = OCTAVE[at].to_le_bytes();
        (bytes[at / 64][0][at % 64], bytes[at / 64][1][at % 64]) = (low, high);
        at += 1;
    }
    bytes
}

static PLACES: [u16; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// Gives the weights of every sixteen keys to `put`, zeros behind the last one; returns the sums of all weights.
///
/// # Safety
/// The scores are written, and none is above its query's highest. `put` may write over the first half of the scores that were read.
#[inline(always)]
pub unsafe fn weigh(
    weight: Weight,
    scores: Scores,
    highest: [i32; QUERIES],
    put: impl FnMut(usize, Weights),
) -> [u32; QUERIES] {
    let weigher = Weigher::new(weight, highest);
    // SAFETY: the caller's promise.
    unsafe { if weigher.up == 0 { weigher.all::<false>(scores, put) } else { weigher.all::<true>(scores, put) } }
}

/// [`Weight`] in vectors.
struct Weigher {
    highest: [int32x4_t; QUERIES],
    /// Left shift of differences: how many bits more than 20 the multiplier has.
    up: u32,
    multiplier: i32,
}

impl Weigher {
    #[inline(always)]
    fn new(weight: Weight, highest: [i32; QUERIES]) -> Self {
        let multiplier = weight.multiplier();
        let up = 12u32.saturating_sub(multiplier.leading_zeros()).min(11);
        // SAFETY: vectors are part of this architecture.
        let highest = highest.map(|highest| unsafe { vdupq_n_s32(highest) });
        Self { highest, up, multiplier: (multiplier << (11 - up)) as i32 }
    }

    /// [`weigh`]; without `UP`, `up` is 0.
    #[inline(always)]
    unsafe fn all<const UP: bool>(&self, scores: Scores, mut put: impl FnMut(usize, Weights)) -> [u32; QUERIES] {
        let whole = scores.tokens / 16;
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [vdupq_n_u32(0); QUERIES];
            let mut take = |block, weights: Weights| {
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = vpadalq_u16(vpadalq_u16(*sum, weights[0]), weights[1]);
                }
                put(block, weights);
            };
            for block in 0..whole {
                take(block, self.sixteen::<UP>(scores.group(4 * block)));
            }
            let count = scores.tokens % 16;
            if count != 0 {
                let mut last = [[[0; 4]; QUERIES]; 4];
                core::ptr::copy_nonoverlapping(scores.group(4 * whole), last.as_mut_ptr(), count.div_ceil(4));
                let is_there =
                    [0, 8].map(|at| vcltq_u16(vld1q_u16(PLACES.as_ptr().add(at)), vdupq_n_u16(count as u16)));
                let weights = self.sixteen::<UP>(last.as_ptr());
                take(whole, weights.map(|[a, b]| [vandq_u16(a, is_there[0]), vandq_u16(b, is_there[1])]));
            }
            sums.map(|sum| vaddvq_u32(sum))
        }
    }

    /// [`Weight::of`] what the scores of four groups are below the highest.
    ///
    /// Octaves are a product's upper half, since difference and multiplier are shifted left by 11 bits in all, and the
    /// multiplication doubles. They saturate to less than 2^15 where weights are 0 for long; so do shifts, to 128 bits.
    #[inline(always)]
    unsafe fn sixteen<const UP: bool>(&self, groups: *const Group<i32>) -> Weights {
        let mut groups = groups.cast();
        // SAFETY: the caller grants the groups.
        unsafe {
            let octaves = [(); 4].map(|()| {
                let scores = load_four::<0>(&mut groups);
                let octaves = |query: usize| {
                    let mut below = vsubq_s32(self.highest[query], scores[query]);
                    if UP {
                        below = vqshlq_s32(below, vdupq_n_s32(self.up as i32));
                    }
                    vqrdmulhq_n_s32(below, self.multiplier)
                };
                [octaves(0), octaves(1), octaves(2), octaves(3)]
            });
            let octaves = [0, 1, 2, 3].map(|query| {
                let [a, b, c, d] = octaves.each_ref().map(|octaves| octaves[query]);
                let low = vreinterpretq_s8_s16(vqmovn_high_s32(vqmovn_s32(a), b));
                let high = vreinterpretq_s8_s16(vqmovn_high_s32(vqmovn_s32(c), d));
                // The rounding shift adds half of what is shifted out.
                [vuzp1q_s8(low, high), vqsubq_s8(vdupq_n_s8(-3), vuzp2q_s8(low, high))]
            });
            let parts = look_up(octaves.map(|[part, _]| vreinterpretq_u8_s8(part)));
            let weights = |query: usize| {
                let ([low, high], [_, shift]) = (parts[query], octaves[query]);
                [
                    vrshlq_u16(vreinterpretq_u16_u8(vzip1q_u8(low, high)), vmovl_s8(vget_low_s8(shift))),
                    vrshlq_u16(vreinterpretq_u16_u8(vzip2q_u8(low, high)), vmovl_high_s8(shift)),
                ]
            };
            [weights(0), weights(1), weights(2), weights(3)]
        }
    }
}

/// Low and high bytes of entries of [`OCTAVE`], 64 of the 256 at a time. What is outside a quarter leaves what was found before.
#[inline(always)]
fn look_up([a, b, c, d]: [uint8x16_t; QUERIES]) -> [[uint8x16_t; 2]; QUERIES] {
    let [[a0, a1], [b0, b1], [c0, c1], [d0, d1]]: [[uint8x16_t; 2]; QUERIES];
    macro_rules! quarter {
        ($look_up:literal) => {
            concat!(
                "ld1 {{v16.16b, v17.16b, v18.16b, v19.16b}}, [{bytes}], #64\n",
                "ld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{bytes}], #64\n",
                entries!($look_up, "a"),
                entries!($look_up, "b"),
                entries!($look_up, "c"),
                entries!($look_up, "d"),
            )
        };
    }
    macro_rules! entries {
        ($look_up:literal, $at:literal) => {
            concat!(
                $look_up,
                " {",
                $at,
                "0:v}.16b, {{v16.16b, v17.16b, v18.16b, v19.16b}}, {",
                $at,
                ":v}.16b\n",
                $look_up,
                " {",
                $at,
                "1:v}.16b, {{v20.16b, v21.16b, v22.16b, v23.16b}}, {",
                $at,
                ":v}.16b\n",
            )
        };
    }
    macro_rules! next {
        () => {
            concat!(
                "sub {a:v}.16b, {a:v}.16b, {quarter:v}.16b\n",
                "sub {b:v}.16b, {b:v}.16b, {quarter:v}.16b\n",
                "sub {c:v}.16b, {c:v}.16b, {quarter:v}.16b\n",
                "sub {d:v}.16b, {d:v}.16b, {quarter:v}.16b\n",
            )
        };
    }
    // SAFETY: reads the table; vectors are part of this architecture.
    unsafe {
        asm!(
            quarter!("tbl"), next!(), quarter!("tbx"), next!(), quarter!("tbx"), next!(), quarter!("tbx"),
            bytes = inout(reg) BYTES.as_ptr() => _, quarter = in(vreg) vdupq_n_u8(64),
            a = inout(vreg) a => _, b = inout(vreg) b => _, c = inout(vreg) c => _, d = inout(vreg) d => _,
            a0 = out(vreg) a0, a1 = out(vreg) a1, b0 = out(vreg) b0, b1 = out(vreg) b1,
            c0 = out(vreg) c0, c1 = out(vreg) c1, d0 = out(vreg) d0, d1 = out(vreg) d1,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    [[a0, a1], [b0, b1], [c0, c1], [d0, d1]]
}
