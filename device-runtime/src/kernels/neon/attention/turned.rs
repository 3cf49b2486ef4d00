//! Sums of values that were transposed, with SDOT and USMMLA: a vector holds several tokens of a feature.
//!
//! Weights are cut into two bytes, whose sums are added up apart.

use core::arch::aarch64::*;
use core::arch::asm;

use super::land::Scale;
use super::weigh::Weights;
use super::{Lane, MOST_TOKENS, QUERIES};

/// Most features.
const MOST_FEATURES: usize = 64;
/// Features of a group.
pub const GROUP: usize = 8;
/// Vectors for sixteen tokens: of a group of values, and of the weights of four queries.
const VECTORS: usize = 8;

type Vector = [i8; 16];

/// Room for the values of a head and for the weights of four queries.
pub struct Room {
    values: [Vector; MOST_TOKENS * MOST_FEATURES / 16],
    weights: [Vector; MOST_TOKENS / 16 * VECTORS],
}

impl Room {
    pub fn new() -> Self {
        Self { values: [[0; 16]; _], weights: [[0; 16]; _] }
    }
}

/// Whether values of so many tokens and features have room.
pub fn fits(tokens: usize, features: usize) -> bool {
    tokens <= MOST_TOKENS && features <= MOST_FEATURES && features.is_multiple_of(GROUP)
}

/// Sums of eight features of two queries, in the order of a [`Turn`].
pub type Pair = [int32x4_t; 4];

/// How values and weights lie in vectors, and are multiplied.
///
/// The functions are unsafe: the processor has the instructions, and vectors are those of sixteen tokens.
pub trait Turn {
    /// Eight tokens of eight features as they lie; every vector given has those of two features.
    fn values(features: [int8x16_t; 4]) -> [int8x16_t; 4];
    /// Stores the weights of four queries.
    unsafe fn put_weights(weights: Weights, to: &mut [Vector; VECTORS]);
    /// Sums of values times weights, of all tokens; of the last sixteen vectors may hold eight only.
    unsafe fn sums(values: *const Vector, weights: *const Vector, tokens: usize) -> [Pair; 2];
    /// Scales of every two vectors of a pair, given those of its queries.
    fn scales(scales: [(i32, u8); 2]) -> [Scale; 2];
    /// The results of the first and the second query of a pair.
    unsafe fn rows(results: int8x16_t) -> [int8x8_t; 2];
}

/// Sums of `$units`, each by the instructions `$unit`, which add to `a0` to `b3` the products with low parts of weights, to `c0` to `d3`
/// those with high parts, whose unit is `$high`; they read from `x` and `w`, which move on, through `v0` to `v11`.
macro_rules! sums {
    ($values:expr, $weights:expr, $units:expr, $extension:literal, $unit:expr, $high:literal) => {{
        let [a0, a1, a2, a3]: Pair;
        let [b0, b1, b2, b3]: Pair;
        asm!(
            $extension,
            "movi {a0:v}.4s, #0", "movi {a1:v}.4s, #0", "movi {a2:v}.4s, #0", "movi {a3:v}.4s, #0",
            "movi {b0:v}.4s, #0", "movi {b1:v}.4s, #0", "movi {b2:v}.4s, #0", "movi {b3:v}.4s, #0",
            "movi {c0:v}.4s, #0", "movi {c1:v}.4s, #0", "movi {c2:v}.4s, #0", "movi {c3:v}.4s, #0",
            "movi {d0:v}.4s, #0", "movi {d1:v}.4s, #0", "movi {d2:v}.4s, #0", "movi {d3:v}.4s, #0",
            "lsr {t}, {n}, #3",
            "cbz {t}, 3f",
            "2:",
            $unit, $unit, $unit, $unit, $unit, $unit, $unit, $unit,
            "subs {t}, {t}, #1",
            "b.ne 2b",
            "3:",
            "tbz {n}, #2, 4f",
            $unit, $unit, $unit, $unit,
            "4:",
            "tbz {n}, #1, 5f",
            $unit, $unit,
            "5:",
            "tbz {n}, #0, 6f",
            $unit,
            "6:",
            $high,
            "mla {a0:v}.4s, {c0:v}.4s, v0.4s", "mla {a1:v}.4s, {c1:v}.4s, v0.4s",
            "mla {a2:v}.4s, {c2:v}.4s, v0.4s", "mla {a3:v}.4s, {c3:v}.4s, v0.4s",
            "mla {b0:v}.4s, {d0:v}.4s, v0.4s", "mla {b1:v}.4s, {d1:v}.4s, v0.4s",
            "mla {b2:v}.4s, {d2:v}.4s, v0.4s", "mla {b3:v}.4s, {d3:v}.4s, v0.4s",
            x = inout(reg) $values => _, w = inout(reg) $weights => _, n = in(reg) $units, t = out(reg) _,
            a0 = out(vreg) a0, a1 = out(vreg) a1, a2 = out(vreg) a2, a3 = out(vreg) a3,
            b0 = out(vreg) b0, b1 = out(vreg) b1, b2 = out(vreg) b2, b3 = out(vreg) b3,
            c0 = out(vreg) _, c1 = out(vreg) _, c2 = out(vreg) _, c3 = out(vreg) _,
            d0 = out(vreg) _, d1 = out(vreg) _, d2 = out(vreg) _, d3 = out(vreg) _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _,
            out("v6") _, out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _,
            options(readonly, nostack)
        );
        [[a0, a1, a2, a3], [b0, b1, b2, b3]]
    }};
}

/// Four vectors from `$from` to `$a` to `$d`.
macro_rules! load {
    ($a:literal, $b:literal, $c:literal, $d:literal, $from:literal) => {
        concat!("ld1 {{", $a, ".16b, ", $b, ".16b, ", $c, ".16b, ", $d, ".16b}}, [{", $from, "}], #64\n")
    };
}

/// SDOT: four tokens of four features; weights of one query and sixteen tokens.
pub struct Dot;

/// Four tokens of eight features, in `$x` and `$y`: those of a lane of the weights, in `v0` to `v7`.
macro_rules! dot_tokens {
    ($x:literal, $y:literal, $lane:literal) => {
        concat!(
            dot_tokens!("a", $x, $y, "v0", "v1", $lane),
            dot_tokens!("b", $x, $y, "v2", "v3", $lane),
            dot_tokens!("c", $x, $y, "v4", "v5", $lane),
            dot_tokens!("d", $x, $y, "v6", "v7", $lane),
        )
    };
    ($sums:literal, $x:literal, $y:literal, $first:literal, $second:literal, $lane:literal) => {
        concat!(
            dot_tokens!($sums, "0", $x, $first, $lane),
            dot_tokens!($sums, "1", $y, $first, $lane),
            dot_tokens!($sums, "2", $x, $second, $lane),
            dot_tokens!($sums, "3", $y, $second, $lane),
        )
    };
    ($sums:literal, $at:literal, $x:literal, $weights:literal, $lane:literal) => {
        concat!("sdot {", $sums, $at, ":v}.4s, ", $x, ".16b, ", $weights, ".4b[", $lane, "]\n")
    };
}

/// Sixteen tokens.
macro_rules! dot_unit {
    () => {
        concat!(
            load!("v0", "v1", "v2", "v3", "w"),
            load!("v4", "v5", "v6", "v7", "w"),
            load!("v8", "v9", "v10", "v11", "x"),
            dot_tokens!("v8", "v9", "0"),
            dot_tokens!("v10", "v11", "1"),
            load!("v8", "v9", "v10", "v11", "x"),
            dot_tokens!("v8", "v9", "2"),
            dot_tokens!("v10", "v11", "3"),
        )
    };
}

impl Turn for Dot {
    #[inline(always)]
    fn values(features: [int8x16_t; 4]) -> [int8x16_t; 4] {
        // SAFETY: vectors are part of this architecture.
        unsafe {
            let [a, b, c, d] = features.map(|features| vreinterpretq_s32_s8(features));
            [vuzp1q_s32(a, b), vuzp1q_s32(c, d), vuzp2q_s32(a, b), vuzp2q_s32(c, d)]
                .map(|values| vreinterpretq_s8_s32(values))
        }
    }

    #[inline(always)]
    unsafe fn put_weights(weights: Weights, to: &mut [Vector; VECTORS]) {
        let (low, high) = to.split_at_mut(QUERIES);
        for ((weights, low), high) in weights.into_iter().zip(low).zip(high) {
            // SAFETY: sixteen bytes of every place.
            unsafe {
                let bytes = |[a, b]: [uint16x8_t; 2]| vuzp1q_s8(vreinterpretq_s8_u16(a), vreinterpretq_s8_u16(b));
                let all = bytes(weights);
                vst1q_s8(low.as_mut_ptr(), vandq_s8(all, vdupq_n_s8(127)));
                vst1q_s8(high.as_mut_ptr(), bytes(weights.map(|weights| vshrq_n_u16::<7>(weights))));
            }
        }
    }

    #[inline(always)]
    unsafe fn sums(values: *const Vector, weights: *const Vector, tokens: usize) -> [Pair; 2] {
        // SAFETY: vectors of so many tokens; the caller has made sure of SDOT.
        unsafe {
            sums!(values, weights, tokens.div_ceil(16), ".arch_extension dotprod", dot_unit!(), "movi v0.4s, #128")
        }
    }

    #[inline(always)]
    fn scales(scales: [(i32, u8); 2]) -> [Scale; 2] {
        scales.map(|scale| Scale::of_two([scale; 2]))
    }

    #[inline(always)]
    unsafe fn rows(results: int8x16_t) -> [int8x8_t; 2] {
        // SAFETY: vectors are part of this architecture.
        unsafe { [vget_low_s8(results), vget_high_s8(results)] }
    }
}

/// USMMLA: eight tokens of two features; weights of two queries and eight tokens.
pub struct Matrix;

/// A vector of weights and four of values, in `v0` to `v3`.
macro_rules! products {
    ($sums:literal, $weights:literal) => {
        concat!(
            "usmmla {",
            $sums,
            "0:v}.4s, ",
            $weights,
            ".16b, v0.16b\n",
            "usmmla {",
            $sums,
            "1:v}.4s, ",
            $weights,
            ".16b, v1.16b\n",
            "usmmla {",
            $sums,
            "2:v}.4s, ",
            $weights,
            ".16b, v2.16b\n",
            "usmmla {",
            $sums,
            "3:v}.4s, ",
            $weights,
            ".16b, v3.16b\n",
        )
    };
}

/// Eight tokens.
macro_rules! matrix_unit {
    () => {
        concat!(
            load!("v0", "v1", "v2", "v3", "x"),
            load!("v4", "v5", "v6", "v7", "w"),
            products!("a", "v4"),
            products!("b", "v5"),
            products!("c", "v6"),
            products!("d", "v7"),
        )
    };
}

impl Turn for Matrix {
    #[inline(always)]
    fn values(features: [int8x16_t; 4]) -> [int8x16_t; 4] {
        features
    }

    #[inline(always)]
    unsafe fn put_weights([a, b, c, d]: Weights, to: &mut [Vector; VECTORS]) {
        for (half, places) in to.as_chunks_mut::<QUERIES>().0.iter_mut().enumerate() {
            // SAFETY: sixteen bytes of all four places.
            unsafe {
                let [a, b, c, d] = [a, b, c, d].map(|weights| vreinterpretq_s8_u16(weights[half & 1]));
                let vectors = int8x16x4_t(vuzp1q_s8(a, b), vuzp1q_s8(c, d), vuzp2q_s8(a, b), vuzp2q_s8(c, d));
                vst1q_s8_x4(places.as_mut_ptr().cast(), vectors);
            }
        }
    }

    #[inline(always)]
    unsafe fn sums(values: *const Vector, weights: *const Vector, tokens: usize) -> [Pair; 2] {
        // SAFETY: vectors of so many tokens; the caller has made sure of USMMLA.
        unsafe {
            sums!(values, weights, tokens.div_ceil(8), ".arch_extension i8mm", matrix_unit!(), "movi v0.4s, #1, lsl #8")
        }
    }

    #[inline(always)]
    fn scales(scales: [(i32, u8); 2]) -> [Scale; 2] {
        [Scale::of_two(scales); 2]
    }

    /// Every vector of sums has two features of both queries.
    #[inline(always)]
    unsafe fn rows(results: int8x16_t) -> [int8x8_t; 2] {
        // SAFETY: vectors are part of this architecture.
        unsafe {
            let results = vreinterpretq_s16_s8(results);
            [vuzp1q_s16(results, results), vuzp2q_s16(results, results)]
                .map(|row| vget_low_s8(vreinterpretq_s8_s16(row)))
        }
    }
}

impl Room {
    /// Transposes the values of a head, for which [`fits`] holds.
    #[inline(always)]
    pub fn turn<T: Turn>(&mut self, lane: &Lane, features: usize) {
        let blocks = lane.tokens.div_ceil(16);
        let groups = self.values.as_mut_ptr().cast::<[[Vector; 4]; 2]>();
        for first in (0..features).step_by(2 * GROUP) {
            let place = groups.wrapping_add(first / GROUP * blocks);
            for half in 0..2 * blocks {
                let token = |i: usize| lane.token(8 * half + i).wrapping_add(first);
                let [places, places_too] = [place, place.wrapping_add(blocks)].map(|place| place.cast::<[Vector; 4]>());
                // SAFETY: so many features of every token, a place for every eight tokens of every group.
                unsafe {
                    if features - first >= 2 * GROUP {
                        let [low, high] = transposed(core::array::from_fn(|i| vld1q_s8(token(i))));
                        put::<T>(low, places.wrapping_add(half));
                        put::<T>(high, places_too.wrapping_add(half));
                    } else {
                        let [low, _] =
                            transposed(core::array::from_fn(|i| vcombine_s8(vld1_s8(token(i)), vcreate_s8(0))));
                        put::<T>(low, places.wrapping_add(half));
                    }
                }
            }
        }
    }

    /// Takes the weights of four queries for the sixteen tokens of a block.
    #[inline(always)]
    pub fn put<T: Turn>(&mut self, block: usize, weights: Weights) {
        if let Some(place) = self.weights.as_chunks_mut().0.get_mut(block) {
            // SAFETY: vectors of sixteen tokens.
            unsafe { T::put_weights(weights, place) };
        }
    }

    /// Sums of a group of features of two queries and of the two behind.
    ///
    /// # Safety
    /// The processor has the instructions; values and weights of so many tokens were taken.
    #[inline(always)]
    pub unsafe fn sums<T: Turn>(&self, tokens: usize, group: usize) -> [Pair; 2] {
        let values = self.values.as_ptr().wrapping_add(VECTORS * tokens.div_ceil(16) * group);
        // SAFETY: the caller's promise.
        unsafe { T::sums(values, self.weights.as_ptr(), tokens) }
    }
}

/// Stores eight tokens of eight features.
#[inline(always)]
unsafe fn put<T: Turn>(features: [int8x16_t; 4], to: *mut [Vector; 4]) {
    let [a, b, c, d] = T::values(features);
    // SAFETY: the caller grants the place.
    unsafe { vst1q_s8_x4(to.cast(), int8x16x4_t(a, b, c, d)) };
}

/// Sixteen features of eight tokens, eight and eight; every vector has the tokens of two features.
#[inline(always)]
unsafe fn transposed([a, b, c, d, e, f, g, h]: [int8x16_t; 8]) -> [[int8x16_t; 4]; 2] {
    // SAFETY: vectors are part of this architecture.
    unsafe {
        let zip = |a, b| [vzip1q_s8(a, b), vzip2q_s8(a, b)];
        let ([ae, ae_too], [cg, cg_too]) = (zip(a, e), zip(c, g));
        let ([bf, bf_too], [dh, dh_too]) = (zip(b, f), zip(d, h));
        [[ae, cg, bf, dh], [ae_too, cg_too, bf_too, dh_too]].map(|[ae, cg, bf, dh]| {
            let ([even, even_too], [odd, odd_too]) = (zip(ae, cg), zip(bf, dh));
            let ([a, b], [c, d]) = (zip(even, odd), zip(even_too, odd_too));
            [a, b, c, d]
        })
    }
}
