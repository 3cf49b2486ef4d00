//! Layer norm and softmax over rows, forward and backward.

use super::math::exp;
use super::simd::{LANES, Lanes, dispatch};

dispatch! {
    /// Layer norm of each row of `scale.len()` elements; `moments` takes mean and factor (`1 / sqrt(variance + epsilon)`) of each row.
    pub fn layer_norm(
        input: &[f32],
        scale: &[f32],
        shift: &[f32],
        epsilon: f32,
        moments: &mut [f32],
        output: &mut [f32],
    ) = layer_norm_lanes
}

dispatch! {
    /// Turns the gradient of a layer norm's output into that of its input, in place, and adds those of scale and shift.
    pub fn layer_norm_gradient(
        input: &[f32],
        scale: &[f32],
        moments: &[f32],
        gradient: &mut [f32],
        scale_sums: &mut [f32],
        shift_sums: &mut [f32],
    ) = layer_norm_gradient_lanes
}

dispatch! {
    /// Softmax of each row of `channels` elements.
    pub fn softmax(input: &[f32], channels: usize, output: &mut [f32]) = softmax_lanes
}

dispatch! {
    /// Turns the gradient of a softmax's output into that of its input, in place.
    pub fn softmax_gradient(output: &[f32], channels: usize, gradient: &mut [f32]) = softmax_gradient_lanes
}

/// Folds `$body` over the runs of at most 16 elements of a row.
macro_rules! fold {
    ($len:expr, $start:expr, |$sum:ident, $at:ident, $count:ident| $body:expr) => {{
        let mut $sum = $start;
        let mut $at = 0;
        while $at < $len {
            let $count = ($len - $at).min(LANES);
            $sum = $body;
            $at += $count;
        }
        $sum
    }};
}

#[inline(always)]
unsafe fn layer_norm_lanes<L: Lanes>(
    input: &[f32],
    scale: &[f32],
    shift: &[f32],
    epsilon: f32,
    moments: &mut [f32],
    output: &mut [f32],
) {
    let n = scale.len().max(1);
    assert!(input.len() == output.len() && shift.len() == scale.len() && moments.len() >= 2 * (input.len() / n));
    let rows = input.chunks_exact(n).zip(output.chunks_exact_mut(n)).zip(moments.chunks_exact_mut(2));
    for ((x, y), moments) in rows {
        // SAFETY: all runs are inside rows of `n` elements.
        unsafe {
            let (x, y, zero) = (x.as_ptr(), y.as_mut_ptr(), L::splat(0.0));
            let mean = fold!(n, zero, |sum, at, count| sum.add(L::load_first(x.add(at), count))).sum() / n as f32;
            let centre = L::splat(mean);
            let squares = fold!(n, zero, |sum, at, count| {
                let d = L::load_first(x.add(at), count).sub(centre);
                let d = if count == LANES { d } else { keep(d, count) };
                d.fma(d, sum)
            });
            let factor = 1.0 / (squares.sum() / n as f32 + epsilon).sqrt();
            (moments[0], moments[1]) = (mean, factor);
            fold!(n, (), |_unit, at, count| {
                let d = L::load_first(x.add(at), count).sub(centre).mul(L::splat(factor));
                let y_run =
                    d.fma(L::load_first(scale.as_ptr().add(at), count), L::load_first(shift.as_ptr().add(at), count));
                y_run.store_first(y.add(at), count);
            });
        }
    }
}

/// The first lanes, zeros behind them.
#[inline(always)]
unsafe fn keep<L: Lanes>(value: L, count: usize) -> L {
    let mut all = [0.0f32; LANES];
    // SAFETY: `all` has 16 elements.
    unsafe {
        value.store_first(all.as_mut_ptr(), count);
        L::load(all.as_ptr())
    }
}

#[inline(always)]
unsafe fn layer_norm_gradient_lanes<L: Lanes>(
    input: &[f32],
    scale: &[f32],
    moments: &[f32],
    gradient: &mut [f32],
    scale_sums: &mut [f32],
    shift_sums: &mut [f32],
) {
    let n = scale.len().max(1);
    assert!(input.len() == gradient.len() && scale_sums.len() == scale.len() && shift_sums.len() == scale.len());
    let rows = input.chunks_exact(n).zip(gradient.chunks_exact_mut(n)).zip(moments.chunks_exact(2));
    for ((x, g), moments) in rows {
        // SAFETY: all runs are inside rows of `n` elements.
        unsafe {
            let (x, g) = (x.as_ptr(), g.as_mut_ptr());
            let (mean, factor) = (L::splat(moments[0]), L::splat(moments[1]));
            let zero = L::splat(0.0);
            let (sum, product) = fold!(n, (zero, zero), |sums, at, count| {
                let normal = L::load_first(x.add(at), count).sub(mean).mul(factor);
                let dy = L::load_first(g.add(at), count);
                let (ds, dt) = (scale_sums.as_mut_ptr().add(at), shift_sums.as_mut_ptr().add(at));
                dy.fma(normal, L::load_first(ds, count)).store_first(ds, count);
                dy.add(L::load_first(dt, count)).store_first(dt, count);
                let dn = dy.mul(L::load_first(scale.as_ptr().add(at), count));
                (sums.0.add(dn), dn.fma(normal, sums.1))
            });
            let (sum, product) = (L::splat(-sum.sum() / n as f32), L::splat(-product.sum() / n as f32));
            fold!(n, (), |_unit, at, count| {
                let normal = L::load_first(x.add(at), count).sub(mean).mul(factor);
                let dn = L::load_first(g.add(at), count).mul(L::load_first(scale.as_ptr().add(at), count));
                normal.fma(product, dn.add(sum)).mul(factor).store_first(g.add(at), count);
            });
        }
    }
}

#[inline(always)]
unsafe fn softmax_lanes<L: Lanes>(input: &[f32], channels: usize, output: &mut [f32]) {
    let n = channels.max(1);
    assert_eq!(input.len(), output.len());
    for (x, y) in input.chunks_exact(n).zip(output.chunks_exact_mut(n)) {
        let top = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // SAFETY: all runs are inside rows of `n` elements.
        unsafe {
            let (x, y) = (x.as_ptr(), y.as_mut_ptr());
            let sum = fold!(n, L::splat(0.0), |sum, at, count| {
                let e = exp(L::load_first(x.add(at), count).sub(L::splat(top)));
                let e = if count == LANES { e } else { keep(e, count) };
                e.store_first(y.add(at), count);
                sum.add(e)
            });
            let factor = L::splat(1.0 / sum.sum());
            fold!(n, (), |_unit, at, count| {
                L::load_first(y.add(at), count).mul(factor).store_first(y.add(at), count);
            });
        }
    }
}

#[inline(always)]
unsafe fn softmax_gradient_lanes<L: Lanes>(output: &[f32], channels: usize, gradient: &mut [f32]) {
    let n = channels.max(1);
    assert_eq!(output.len(), gradient.len());
    for (y, g) in output.chunks_exact(n).zip(gradient.chunks_exact_mut(n)) {
        // SAFETY: all runs are inside rows of `n` elements.
        unsafe {
            let (y, g) = (y.as_ptr(), g.as_mut_ptr());
            let dot = fold!(n, L::splat(0.0), |sum, at, count| {
                L::load_first(y.add(at), count).fma(L::load_first(g.add(at), count), sum)
            });
            let dot = L::splat(dot.sum());
            fold!(n, (), |_unit, at, count| {
                let d = L::load_first(g.add(at), count).sub(dot);
                d.mul(L::load_first(y.add(at), count)).store_first(g.add(at), count);
            });
        }
    }
}
