//! Sums, masks and affine maps over rows of channels.

use super::simd::{LANES, Lanes, dispatch};

dispatch! {
    /// `sums[c] += sum of values[r][c]` over all rows.
    pub fn add_columns(values: &[f32], sums: &mut [f32]) = add_columns_lanes
}

dispatch! {
    /// `sums[c] += sum of a[r][c] * b[r][c]` over all rows.
    pub fn add_column_products(a: &[f32], b: &[f32], sums: &mut [f32]) = add_column_products_lanes
}

dispatch! {
    /// Sets gradients to 0 where the clipped output is at a bound.
    pub fn mask(gradient: &mut [f32], output: &[f32], lo: f32, hi: f32) = mask_lanes
}

dispatch! {
    /// `values = min(max(values, lo), hi)`.
    pub fn clip(values: &mut [f32], lo: f32, hi: f32) = clip_lanes
}

dispatch! {
    /// `values += others`.
    pub fn add(values: &mut [f32], others: &[f32]) = add_lanes
}

dispatch! {
    /// `output[r][c] = input[r][c] * scale[c] + shift[c]`; no shift if it is empty.
    pub fn affine(input: &[f32], scale: &[f32], shift: &[f32], output: &mut [f32]) = affine_lanes
}

/// Calls `$body` with an offset and a count for every run of at most 16 elements of `$len`.
macro_rules! runs {
    ($len:expr, |$at:ident, $count:ident| $body:block) => {
        let len = $len;
        let mut $at = 0;
        while $at < len {
            let $count = (len - $at).min(LANES);
            // SAFETY: `at + count <= len`, and the callers below asserted that all their slices are that long.
            unsafe { $body }
            $at += $count;
        }
    };
}

#[inline(always)]
unsafe fn get<L: Lanes>(from: *const f32, count: usize) -> L {
    // SAFETY: the caller's.
    unsafe { if count == LANES { L::load(from) } else { L::load_first(from, count) } }
}

#[inline(always)]
unsafe fn put<L: Lanes>(value: L, to: *mut f32, count: usize) {
    // SAFETY: the caller's.
    unsafe { if count == LANES { value.store(to) } else { value.store_first(to, count) } }
}

#[inline(always)]
unsafe fn add_columns_lanes<L: Lanes>(values: &[f32], sums: &mut [f32]) {
    let channels = sums.len();
    let rows = values.len() / channels.max(1);
    runs!(channels, |at, count| {
        let mut partial = [L::splat(0.0); 4];
        for r in 0..rows {
            partial[r % 4] = partial[r % 4].add(get::<L>(values.as_ptr().add(r * channels + at), count));
        }
        let sum = partial[0].add(partial[1]).add(partial[2].add(partial[3]));
        put(get::<L>(sums.as_ptr().add(at), count).add(sum), sums.as_mut_ptr().add(at), count);
    });
}

#[inline(always)]
unsafe fn add_column_products_lanes<L: Lanes>(a: &[f32], b: &[f32], sums: &mut [f32]) {
    let channels = sums.len();
    let rows = a.len() / channels.max(1);
    assert_eq!(a.len(), b.len());
    runs!(channels, |at, count| {
        let mut partial = [L::splat(0.0); 4];
        for r in 0..rows {
            let at = r * channels + at;
            partial[r % 4] = get::<L>(a.as_ptr().add(at), count).fma(get(b.as_ptr().add(at), count), partial[r % 4]);
        }
        let sum = partial[0].add(partial[1]).add(partial[2].add(partial[3]));
        put(get::<L>(sums.as_ptr().add(at), count).add(sum), sums.as_mut_ptr().add(at), count);
    });
}

#[inline(always)]
unsafe fn mask_lanes<L: Lanes>(gradient: &mut [f32], output: &[f32], lo: f32, hi: f32) {
    assert_eq!(gradient.len(), output.len());
    let (bound, top) = (unsafe { L::splat(lo) }, unsafe { L::splat(hi) });
    runs!(gradient.len(), |at, count| {
        let y = get::<L>(output.as_ptr().add(at), count);
        let mut g = get::<L>(gradient.as_ptr().add(at), count).where_above(y, bound);
        if hi != f32::INFINITY {
            g = g.where_above(top, y);
        }
        put(g, gradient.as_mut_ptr().add(at), count);
    });
}

#[inline(always)]
unsafe fn clip_lanes<L: Lanes>(values: &mut [f32], lo: f32, hi: f32) {
    runs!(values.len(), |at, count| {
        let y = L::splat(hi).min(L::splat(lo).max(get::<L>(values.as_ptr().add(at), count)));
        put(y, values.as_mut_ptr().add(at), count);
    });
}

#[inline(always)]
unsafe fn add_lanes<L: Lanes>(values: &mut [f32], others: &[f32]) {
    assert_eq!(values.len(), others.len());
    runs!(values.len(), |at, count| {
        let y = get::<L>(values.as_ptr().add(at), count).add(get(others.as_ptr().add(at), count));
        put(y, values.as_mut_ptr().add(at), count);
    });
}

#[inline(always)]
unsafe fn affine_lanes<L: Lanes>(input: &[f32], scale: &[f32], shift: &[f32], output: &mut [f32]) {
    let channels = scale.len();
    assert!(input.len() == output.len() && (shift.is_empty() || shift.len() == channels));
    for (x, y) in input.chunks_exact(channels.max(1)).zip(output.chunks_exact_mut(channels.max(1))) {
        runs!(channels, |at, count| {
            let zero = L::splat(0.0);
            let shift = if shift.is_empty() { zero } else { get(shift.as_ptr().add(at), count) };
            let value = get::<L>(x.as_ptr().add(at), count).fma(get(scale.as_ptr().add(at), count), shift);
            put(value, y.as_mut_ptr().add(at), count);
        });
    }
}
