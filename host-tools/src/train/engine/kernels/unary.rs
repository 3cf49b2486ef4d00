//! Functions of every element and their derivatives.

use super::math::{erf, exp, sigmoid, tanh};
use super::simd::{LANES, Lanes, dispatch};
use crate::graph::Function;

const ROOT_2_OVER_PI: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;
const INVERSE_ROOT_2PI: f32 = 0.398_942_3;

dispatch! {
    /// `output = f(input)`.
    pub fn apply(function: Function, input: &[f32], output: &mut [f32]) = apply_lanes
}

dispatch! {
    /// `gradient *= f'(input)`.
    pub fn chain(function: Function, input: &[f32], gradient: &mut [f32]) = chain_lanes
}

#[inline(always)]
unsafe fn apply_lanes<L: Lanes>(function: Function, input: &[f32], output: &mut [f32]) {
    assert_eq!(input.len(), output.len());
    if let Function::Power(power) = function {
        output.iter_mut().zip(input).for_each(|(out, x)| *out = x.powf(power));
        return;
    }
    if function == Function::Sqrt {
        output.iter_mut().zip(input).for_each(|(out, x)| *out = x.sqrt());
        return;
    }
    let mut at = 0;
    while at < input.len() {
        let count = (input.len() - at).min(LANES);
        // SAFETY: `at + count <= len` of both slices.
        unsafe {
            let x = L::load_first(input.as_ptr().add(at), count);
            value(function, x).store_first(output.as_mut_ptr().add(at), count);
        }
        at += count;
    }
}

#[inline(always)]
unsafe fn chain_lanes<L: Lanes>(function: Function, input: &[f32], gradient: &mut [f32]) {
    assert_eq!(input.len(), gradient.len());
    if let Function::Power(power) = function {
        gradient.iter_mut().zip(input).for_each(|(g, x)| *g *= power * x.powf(power - 1.0));
        return;
    }
    if function == Function::Sqrt {
        gradient.iter_mut().zip(input).for_each(|(g, x)| *g *= 0.5 / x.sqrt());
        return;
    }
    let mut at = 0;
    while at < input.len() {
        let count = (input.len() - at).min(LANES);
        // SAFETY: `at + count <= len` of both slices.
        unsafe {
            let x = L::load_first(input.as_ptr().add(at), count);
            let g = L::load_first(gradient.as_ptr().add(at), count);
            g.mul(slope(function, x)).store_first(gradient.as_mut_ptr().add(at), count);
        }
        at += count;
    }
}

/// `f(x)`; powers and roots are not among these.
#[inline(always)]
unsafe fn value<L: Lanes>(function: Function, x: L) -> L {
    // SAFETY: arithmetic alone.
    unsafe {
        let (zero, one) = (L::splat(0.0), L::splat(1.0));
        let clip = |y: L| y.max(zero).min(one);
        match function {
            Function::Gelu => x.mul(normal_cdf(x)),
            Function::GeluTanh => x.mul(gelu_tanh_share(x)),
            Function::Silu => x.mul(sigmoid(x)),
            Function::HardSwish => x.mul(clip(x.fma(L::splat(1.0 / 6.0), L::splat(0.5)))),
            Function::HardSigmoid { alpha, beta } => clip(x.fma(L::splat(alpha), L::splat(beta))),
            Function::LeakyRelu { slope } => x.max(zero).add(x.min(zero).mul(L::splat(slope))),
            Function::Sigmoid => sigmoid(x),
            Function::Tanh => tanh(x),
            Function::Erf => erf(x),
            Function::Exp => exp(x),
            Function::Reciprocal => one.div(x),
            Function::Abs => x.max(zero.sub(x)),
            Function::Sqrt | Function::Power(_) => x,
        }
    }
}

/// `f'(x)`; powers and roots are not among these.
#[inline(always)]
unsafe fn slope<L: Lanes>(function: Function, x: L) -> L {
    // SAFETY: arithmetic alone.
    unsafe {
        let (zero, one) = (L::splat(0.0), L::splat(1.0));
        let inside = |y: L, slope: L| slope.where_above(y, zero).where_above(one, y);
        match function {
            Function::Gelu => {
                let density = exp(x.mul(x).mul(L::splat(-0.5))).mul(L::splat(INVERSE_ROOT_2PI));
                x.fma(density, normal_cdf(x))
            }
            Function::GeluTanh => {
                let share = gelu_tanh_share(x);
                let inner = x.mul(x).fma(L::splat(3.0 * CUBIC * ROOT_2_OVER_PI), L::splat(ROOT_2_OVER_PI));
                let rise = share.mul(one.sub(share)).mul(L::splat(2.0)).mul(inner);
                x.fma(rise, share)
            }
            Function::Silu => {
                let s = sigmoid(x);
                x.mul(s).fma(one.sub(s), s)
            }
            Function::HardSwish => {
                let y = x.fma(L::splat(1.0 / 6.0), L::splat(0.5));
                let middle = x.fma(L::splat(1.0 / 3.0), L::splat(0.5));
                inside(y, middle).add(one.where_above(y, one))
            }
            Function::HardSigmoid { alpha, beta } => inside(x.fma(L::splat(alpha), L::splat(beta)), L::splat(alpha)),
            Function::LeakyRelu { slope } => L::splat(slope).add(L::splat(1.0 - slope).where_above(x, zero)),
            Function::Sigmoid => {
                let s = sigmoid(x);
                s.mul(one.sub(s))
            }
            Function::Tanh => {
                let t = tanh(x);
                one.sub(t.mul(t))
            }
            Function::Erf => exp(zero.sub(x.mul(x))).mul(L::splat(std::f32::consts::FRAC_2_SQRT_PI)),
            Function::Exp => exp(x),
            Function::Reciprocal => L::splat(-1.0).div(x.mul(x)),
            Function::Abs => one.where_above(x, zero).sub(one.where_above(zero, x)),
            Function::Sqrt | Function::Power(_) => one,
        }
    }
}

#[inline(always)]
unsafe fn normal_cdf<L: Lanes>(x: L) -> L {
    // SAFETY: arithmetic alone.
    unsafe { erf(x.mul(L::splat(std::f32::consts::FRAC_1_SQRT_2))).fma(L::splat(0.5), L::splat(0.5)) }
}

/// `(1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`.
#[inline(always)]
unsafe fn gelu_tanh_share<L: Lanes>(x: L) -> L {
    // SAFETY: arithmetic alone.
    unsafe {
        let cubic = x.mul(x).fma(L::splat(CUBIC), L::splat(1.0)).mul(x);
        sigmoid(cubic.mul(L::splat(2.0 * ROOT_2_OVER_PI)))
    }
}
