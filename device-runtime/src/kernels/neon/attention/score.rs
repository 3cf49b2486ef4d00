//! Dot products of four queries with all keys.

use core::arch::aarch64::*;
use core::arch::asm;

use super::{Lane, MOST_TOKENS, QUERIES, Scores};
use crate::kernels::neon::Level;
use crate::kernels::neon::lay::lay;
use crate::kernels::neon::products::sdot_lane;
use crate::kernels::neon::sums::{Dot, Products, Wide, across, eight_taps, sixteen_taps};

/// Most features of keys that are laid together, four at a time.
const MOST_FEATURES: usize = 64;

/// Room for the keys of a head.
pub struct Room([i8; MOST_TOKENS * MOST_FEATURES]);

impl Room {
    pub fn new() -> Self {
        Self([0; _])
    }
}

/// The keys of one head.
pub struct Keys<'r> {
    lane: Lane,
    features: usize,
    level: Level,
    /// Every four keys, if they are laid together.
    together: Option<&'r Room>,
}

impl<'r> Keys<'r> {
    /// `features` of each key. The processor has the instructions of `level`.
    pub fn new(level: Level, lane: Lane, features: usize, room: &'r mut Room) -> Self {
        let has_room = lane.tokens <= MOST_TOKENS && matches!(features, 16 | 32 | 48 | 64);
        let together = (has_room && level != Level::Base).then(|| {
            for at in 0..lane.tokens.div_ceil(4) {
                let keys = core::array::from_fn(|i| lane.token(4 * at + i));
                let place = room.0.as_mut_ptr().wrapping_add(4 * features * at);
                // SAFETY: keys have the features, and the place room for those of four.
                unsafe {
                    match level {
                        Level::Matrix => lay::<8, 4>(keys, features, place),
                        _ => lay::<4, 4>(keys, features, place),
                    }
                }
            }
            &*room
        });
        Self { lane, features, level, together }
    }

    /// Writes the scores of four queries; returns the highest of each.
    ///
    /// # Safety
    /// Queries have as many readable features as keys, and the scores belong to as many keys.
    #[inline(never)]
    pub unsafe fn score(&self, queries: [*const i8; QUERIES], scores: Scores) -> [i32; QUERIES] {
        // SAFETY: the caller's promises.
        unsafe {
            match (self.together, self.features / 16) {
                (Some(keys), 1) => self.by_sixteens::<1>(keys, queries, scores),
                (Some(keys), 2) => self.by_sixteens::<2>(keys, queries, scores),
                (Some(keys), 3) => self.by_sixteens::<3>(keys, queries, scores),
                (Some(keys), _) => self.by_sixteens::<4>(keys, queries, scores),
                (None, _) if self.level == Level::Base => {
                    four_by_four::<Wide>(queries, &self.lane, self.features, scores)
                }
                (None, _) => four_by_four::<Dot>(queries, &self.lane, self.features, scores),
            }
        }
    }

    /// Of keys that are laid together, `16 * N` features.
    #[inline(always)]
    unsafe fn by_sixteens<const N: usize>(
        &self,
        keys: &Room,
        queries: [*const i8; QUERIES],
        scores: Scores,
    ) -> [i32; QUERIES] {
        let keys = keys.0.as_ptr();
        // SAFETY: the caller's promises.
        unsafe {
            if self.level == Level::Matrix {
                return in_pairs::<N>(keys, core::array::from_fn(|i| pairs(queries, i)), scores);
            }
            let queries: [[int8x16_t; QUERIES]; N] =
                core::array::from_fn(|i| queries.map(|query| vld1q_s8(query.wrapping_add(16 * i))));
            each(scores, |at| by_lanes(keys.wrapping_add(64 * N * at), &queries))
        }
    }
}

/// Stores the scores of four queries for every four keys; returns the highest of each query.
#[inline(always)]
unsafe fn each(scores: Scores, mut score: impl FnMut(usize) -> [int32x4_t; QUERIES]) -> [i32; QUERIES] {
    // SAFETY: there is a group for every four keys.
    unsafe {
        let mut highest = [vdupq_n_s32(i32::MIN); QUERIES];
        for at in 0..scores.tokens.div_ceil(4) {
            let places = &mut *scores.group(at);
            for ((place, highest), scores) in places.iter_mut().zip(&mut highest).zip(score(at)) {
                vst1q_s32(place.as_mut_ptr(), scores);
                *highest = vmaxq_s32(*highest, scores);
            }
        }
        highest.map(|highest| vmaxvq_s32(highest))
    }
}

/// SDOT: a vector has four features of four keys.
#[inline(always)]
unsafe fn by_lanes<const N: usize>(keys: *const i8, queries: &[[int8x16_t; QUERIES]; N]) -> [int32x4_t; QUERIES] {
    // SAFETY: the caller grants the features; the processor has SDOT.
    unsafe {
        let mut sums = [vdupq_n_s32(0); QUERIES];
        for (i, queries) in queries.iter().enumerate() {
            let [a, b, c, d] = [0, 1, 2, 3].map(|quarter| vld1q_s8(keys.wrapping_add(64 * i + 16 * quarter)));
            for (sum, &query) in sums.iter_mut().zip(queries) {
                *sum = sdot_lane::<1>(sdot_lane::<0>(*sum, a, query), b, query);
                *sum = sdot_lane::<3>(sdot_lane::<2>(*sum, c, query), d, query);
            }
        }
        sums
    }
}

/// Eight features of the queries, those of two in `$first` and in `$second`, and of four keys.
macro_rules! eight {
    ($first:literal, $second:literal, $even:literal, $odd:literal) => {
        concat!(
            eight!("v4", $first, $even),
            eight!("v5", $first, $odd),
            eight!("v6", $second, $even),
            eight!("v7", $second, $odd),
        )
    };
    ($sums:literal, $queries:literal, $keys:literal) => {
        concat!("smmla ", $sums, ".4s, v", $queries, ".16b, ", $keys, ".16b\n")
    };
}

/// Sixteen features of the queries, which are in registers as [`pairs`] gives them, and of four keys.
macro_rules! sixteen {
    ($a:literal, $b:literal, $c:literal, $d:literal) => {
        concat!("ld1 {{v0.16b-v3.16b}}, [{keys}], #64\n", eight!($a, $c, "v0", "v1"), eight!($b, $d, "v2", "v3"))
    };
}

/// SMMLA: a vector has eight features of the keys 0 and 2 or 1 and 3. `queries` are those that [`pairs`] gives. Stores scores as
/// [`each`] does.
#[inline(always)]
unsafe fn in_pairs<const N: usize>(keys: *const i8, queries: [[int8x16_t; 4]; N], scores: Scores) -> [i32; QUERIES] {
    // SAFETY: there are keys and a group for every four of them; the processor has SMMLA.
    unsafe {
        let query = |i: usize| queries.get(i).copied().unwrap_or([vdupq_n_s8(0); 4]);
        let [[q0, q1, q2, q3], [q4, q5, q6, q7], [q8, q9, q10, q11], [q12, q13, q14, q15]] = [0, 1, 2, 3].map(query);
        let [mut a, mut b, mut c, mut d] = [vdupq_n_s32(i32::MIN); QUERIES];
        macro_rules! all {
            ($($sixteen:expr),+) => {
                asm!(
                    ".arch_extension i8mm",
                    "2:",
                    "movi v4.4s, #0", "movi v5.4s, #0", "movi v6.4s, #0", "movi v7.4s, #0",
                    $($sixteen,)+
                    "zip1 v0.4s, v4.4s, v5.4s", "zip2 v1.4s, v4.4s, v5.4s",
                    "zip1 v2.4s, v6.4s, v7.4s", "zip2 v3.4s, v6.4s, v7.4s",
                    "smax {a:v}.4s, {a:v}.4s, v0.4s", "smax {b:v}.4s, {b:v}.4s, v1.4s",
                    "smax {c:v}.4s, {c:v}.4s, v2.4s", "smax {d:v}.4s, {d:v}.4s, v3.4s",
                    "st1 {{v0.4s-v3.4s}}, [{scores}], #64",
                    "subs {n}, {n}, #1",
                    "b.ne 2b",
                    n = inout(reg) scores.tokens.div_ceil(4) => _, keys = inout(reg) keys => _, scores = inout(reg) scores.first => _,
                    a = inout(vreg) a, b = inout(vreg) b, c = inout(vreg) c, d = inout(vreg) d,
                    in("v16") q0, in("v17") q1, in("v18") q2, in("v19") q3, in("v20") q4, in("v21") q5, in("v22") q6, in("v23") q7,
                    in("v24") q8, in("v25") q9, in("v26") q10, in("v27") q11, in("v28") q12, in("v29") q13, in("v30") q14, in("v31") q15,
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                    options(nostack)
                )
            };
        }
        match N {
            1 => all!(sixteen!(16, 17, 18, 19)),
            2 => all!(sixteen!(16, 17, 18, 19), sixteen!(20, 21, 22, 23)),
            3 => all!(sixteen!(16, 17, 18, 19), sixteen!(20, 21, 22, 23), sixteen!(24, 25, 26, 27)),
            _ => all!(
                sixteen!(16, 17, 18, 19),
                sixteen!(20, 21, 22, 23),
                sixteen!(24, 25, 26, 27),
                sixteen!(28, 29, 30, 31)
            ),
        }
        [a, b, c, d].map(|highest| vmaxvq_s32(highest))
    }
}

/// The `at`-th sixteen features of four queries: the first eight of two, the others of these, and of the other two.
#[inline(always)]
unsafe fn pairs(queries: [*const i8; QUERIES], at: usize) -> [int8x16_t; 4] {
    // SAFETY: the caller grants the features.
    unsafe {
        let [a, b, c, d] = queries.map(|query| vreinterpretq_s64_s8(vld1q_s8(query.wrapping_add(16 * at))));
        [vzip1q_s64(a, b), vzip2q_s64(a, b), vzip1q_s64(c, d), vzip2q_s64(c, d)].map(|pair| vreinterpretq_s8_s64(pair))
    }
}

/// Any number of features.
#[inline(always)]
unsafe fn four_by_four<P: Products>(
    queries: [*const i8; QUERIES],
    keys: &Lane,
    features: usize,
    scores: Scores,
) -> [i32; QUERIES] {
    let (whole, tail) = (features & !7, features & 7);
    // SAFETY: the caller's promises.
    unsafe {
        let query_tails = queries.map(|query| last(query.wrapping_add(whole), tail));
        each(scores, |at| {
            let mut x = queries;
            let mut w = [0, 1, 2, 3].map(|i| keys.token(4 * at + i));
            let mut sums = [vdupq_n_s32(0); 16];
            if whole >= 32 {
                P::turns(&mut sums, &mut x, &mut w, whole / 32);
            }
            if whole & 16 != 0 {
                sixteen_taps::<P>(&mut sums, &mut x, &mut w);
            }
            if whole & 8 != 0 {
                eight_taps::<P>(&mut sums, x, &w);
                w = w.map(|w| w.wrapping_add(8));
            }
            if tail != 0 {
                let key_tails = w.map(|w| last(w, tail));
                let [x, w] = [&query_tails, &key_tails].map(|tails| tails.each_ref().map(|tail| tail.as_ptr()));
                eight_taps::<P>(&mut sums, x, &w);
            }
            let mut sums = sums.as_chunks::<4>().0.iter();
            [(); QUERIES].map(|()| match sums.next() {
                Some(&[a, b, c, d]) => across(a, b, c, d),
                None => vdupq_n_s32(0),
            })
        })
    }
}

/// The last features, less than eight, and zeros.
#[inline(always)]
unsafe fn last(from: *const i8, count: usize) -> [i8; 8] {
    let mut tail = [0; 8];
    // SAFETY: the caller grants the features.
    unsafe { core::ptr::copy_nonoverlapping(from, tail.as_mut_ptr(), count) };
    tail
}
