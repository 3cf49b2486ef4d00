//! Self-attention, four queries at a time.

mod land;
mod mix;
mod score;
mod turned;
mod weigh;

use super::Level;
use crate::kernels::attention::{Attention, QUERIES, Weight, normalise};

/// Features summed at once.
const FEATURES: usize = 16;
/// Most tokens whose keys and values are rearranged for the dot product, on the stack.
const MOST_TOKENS: usize = 256;

/// The queries, keys or values of one head.
#[derive(Clone, Copy)]
struct Lane {
    first: *const i8,
    /// Bytes from token to token.
    pitch: usize,
    /// Tokens, at least 1.
    tokens: usize,
}

impl Lane {
    /// The features of a token; beyond the last one, of that.
    #[inline(always)]
    fn token(&self, at: usize) -> *const i8 {
        self.first.wrapping_add(at.min(self.tokens - 1) * self.pitch)
    }
}

/// What four queries have for four keys.
type Group<T> = [[T; 4]; QUERIES];

/// Groups for all keys: first of scores, then, over the first half of them, of weights.
#[derive(Clone, Copy)]
struct Scores {
    first: *mut Group<i32>,
    /// Keys, at least 1. There is room for every four of them.
    tokens: usize,
}

impl Scores {
    #[inline(always)]
    fn group(&self, at: usize) -> *mut Group<i32> {
        self.first.wrapping_add(at)
    }

    #[inline(always)]
    fn weights(&self, at: usize) -> *mut Group<u16> {
        self.first.cast::<Group<u16>>().wrapping_add(at)
    }
}

/// Self-attention of the queries from `first` on; `scratch` holds [`Attention::scratch_bytes`], `input` is of the shape that `p` says,
/// and `p` [`is_possible`](Attention::is_possible). The processor has the instructions of `level`.
pub fn attention(level: Level, p: &Attention, first: usize, input: &[i8], scratch: &mut [u32], output: &mut [i8]) {
    let (tokens, features) = (p.tokens(), usize::from(p.value_features));
    let (pitch, width) = (usize::from(p.input.c), features * usize::from(p.heads));
    if scratch.len() < QUERIES * tokens.next_multiple_of(4) || input.len() < tokens * pitch {
        return;
    }
    let scores = Scores { first: scratch.as_mut_ptr().cast(), tokens };
    let weight = Weight::new(p.score_multiplier);
    let landing = land::Landing::new(p);
    let (mut key_room, mut room) = (score::Room::new(), turned::Room::new());
    for head in 0..usize::from(p.heads) {
        let lane = |part| Lane { first: input.as_ptr().wrapping_add(p.channel(part, head)), pitch, tokens };
        let [queries, keys, values] = [0, 1, 2].map(lane);
        let keys = score::Keys::new(level, keys, p.key_features.into(), &mut key_room);
        let mut values = mix::Values::new(level, values, features, &mut room);
        for (block, results) in output.chunks_mut((width * QUERIES).max(1)).enumerate() {
            let rows = results.len() / width.max(1);
            if rows == 0 {
                break;
            }
            let query = core::array::from_fn(|i| queries.token(first + block * QUERIES + i));
            let results = results.as_mut_ptr().wrapping_add(head * features);
            // What has no row of its own goes to the last one, before what belongs there.
            let places = core::array::from_fn(|i| results.wrapping_add(i.min(rows - 1) * width));
            // SAFETY: the lanes lie in the input, the groups in the scratch, the places in the output, and the processor has the
            // instructions.
            unsafe {
                let highest = keys.score(query, scores);
                let scales = values.weigh(weight, scores, highest).map(|sum| normalise(p, sum));
                values.mix(scores, scales, &landing, places);
            }
        }
    }
}
