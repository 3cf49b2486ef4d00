//! What remains to be done to requantized values: a clamp narrower than int8, a residual addition.

use super::instructions::saturate;
use crate::kernels::params::{Add, Landing};

/// The last part of a convolution, after the value saturated to int8.
#[derive(Clone, Copy)]
pub struct Finish<'a> {
    landing: Landing,
    residual: Option<&'a Add>,
}

impl<'a> Finish<'a> {
    pub fn new(landing: Landing, residual: Option<&'a Add>) -> Self {
        Self { landing, residual }
    }

    /// Saturated values are the result.
    #[inline(always)]
    pub fn is_nothing(&self) -> bool {
        self.residual.is_none() && is_int8(self.landing.lo, self.landing.hi)
    }

    /// What the output holds is needed.
    #[inline(always)]
    pub fn adds(&self) -> bool {
        self.residual.is_some()
    }

    /// Clamps saturated values in place, where nothing [is added](Self::adds).
    #[inline(always)]
    pub fn clamp(&self, values: &mut [i8]) {
        let Landing { lo, hi, .. } = self.landing;
        if !is_int8(lo, hi) {
            values.iter_mut().for_each(|y| *y = (*y).max(lo).min(hi));
        }
    }

    /// [`store`](Self::store) of four values at the start of every `step` bytes of `held`.
    #[inline(never)]
    pub fn store_fours(&self, values: &[[i8; 4]], held: &mut [i8], step: usize) {
        let mut held = held;
        for values in values {
            self.store(values, held);
            let Some(rest) = held.get_mut(step..) else { return };
            held = rest;
        }
    }

    /// Replaces what `held` holds by the results for the saturated `values`.
    #[inline(never)]
    pub fn store(&self, values: &[i8], held: &mut [i8]) {
        let Landing { lo, hi, .. } = self.landing;
        let clamped = |y: i8| y.max(lo).min(hi);
        match self.residual {
            None => held.iter_mut().zip(values).for_each(|(place, &y)| *place = clamped(y)),
            Some(add) => match saturating(add).filter(|_| is_int8(lo, hi)) {
                Some(sum) => held.iter_mut().zip(values).for_each(|(place, &y)| *place = sum(y, *place)),
                None => held.iter_mut().zip(values).for_each(|(place, &y)| *place = add.apply(clamped(y), *place)),
            },
        }
    }
}

fn is_int8(lo: i8, hi: i8) -> bool {
    lo == i8::MIN && hi == i8::MAX
}

/// [`Add::apply`] with the saturating instruction, if the clamp is that of int8.
#[inline(always)]
pub fn saturating(add: &Add) -> Option<impl Fn(i8, i8) -> i8> {
    let Add { a_multiplier, b_multiplier, offset, shift, lo, hi } = *add;
    is_int8(lo, hi).then_some(move |a: i8, b: i8| {
        let a = i32::from(a).wrapping_mul(a_multiplier).wrapping_add(offset);
        let sum = i32::from(b).wrapping_mul(b_multiplier).wrapping_add(a);
        saturate(sum >> (shift & 31)) as i8
    })
}
