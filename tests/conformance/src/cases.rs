//! The table of cases.

mod convolutions;
mod others;
mod tokens;

use stitchkit_runtime::kernels::Landing;

use crate::{Case, golden::GOLDEN};

/// No clamp beyond int8.
const FULL: Landing = Landing { zero_point: 0, lo: -128, hi: 127 };
/// A rectifier whose zero point is the least value.
const RELU: Landing = Landing { zero_point: -128, lo: -128, hi: 127 };
/// A two-sided clamp strictly inside int8.
const NARROW: Landing = Landing { zero_point: -17, lo: -17, hi: 83 };

const COUNT: usize = convolutions::CASES.len() + others::CASES.len() + tokens::CASES.len();

/// Every case, in the order of the golden hashes.
pub const CASES: &[Case; COUNT] = &join();

const fn join() -> [Case; COUNT] {
    let mut all = [convolutions::CASES[0]; COUNT];
    let mut at = 0;
    while at < COUNT {
        let first = convolutions::CASES.len();
        let second = first + others::CASES.len();
        all[at] = match at {
            _ if at < first => convolutions::CASES[at],
            _ if at < second => others::CASES[at - first],
            _ => tokens::CASES[at - second],
        };
        at += 1;
    }
    all
}

/// Every case with its golden hash; 0 for a case that has none yet.
pub fn cases() -> impl Iterator<Item = (&'static Case, u32)> {
    CASES.iter().enumerate().map(|(index, case)| (case, GOLDEN.get(index).copied().unwrap_or(0)))
}
