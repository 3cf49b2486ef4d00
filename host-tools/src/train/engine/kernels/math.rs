//! Functions of sixteen numbers at a time. Relative errors are a few units of the last place; `erf` is within 3e-7.

use super::simd::Lanes;

/// `e^x`; 0 below -87, finite above 88.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn exp<L: Lanes>(x: L) -> L {
    // SAFETY: arithmetic alone.
    unsafe {
        let x = x.min(L::splat(88.0)).max(L::splat(-87.0));
        let n = x.mul(L::splat(std::f32::consts::LOG2_E)).round();
        let r = n.fma(L::splat(-0.693_359_4), x);
        let r = n.fma(L::splat(2.121_944_4e-4), r);
        let mut p = L::splat(1.987_569_1e-4);
        for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
            p = p.fma(r, L::splat(coefficient));
        }
        let p = p.fma(r.mul(r), r.add(L::splat(1.0)));
        p.mul(n.exp2_whole())
    }
}

/// `1 / (1 + e^-x)`.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn sigmoid<L: Lanes>(x: L) -> L {
    // SAFETY: arithmetic alone.
    unsafe { L::splat(1.0).div(exp(L::splat(0.0).sub(x)).add(L::splat(1.0))) }
}

/// Hyperbolic tangent.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn tanh<L: Lanes>(x: L) -> L {
    // SAFETY: arithmetic alone.
    unsafe { sigmoid(x.add(x)).fma(L::splat(2.0), L::splat(-1.0)) }
}

/// Error function (Abramowitz and Stegun, 7.1.26).
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn erf<L: Lanes>(x: L) -> L {
    // SAFETY: arithmetic alone.
    unsafe {
        let zero = L::splat(0.0);
        let magnitude = x.max(zero.sub(x));
        let t = L::splat(1.0).div(magnitude.fma(L::splat(0.327_591_1), L::splat(1.0)));
        let mut p = L::splat(1.061_405_4);
        for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
            p = p.fma(t, L::splat(coefficient));
        }
        let value = L::splat(1.0).sub(p.mul(t).mul(exp(zero.sub(magnitude.mul(magnitude)))));
        value.where_above(x, zero).sub(value.where_above(zero, x))
    }
}
