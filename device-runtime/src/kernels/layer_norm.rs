//! Layer norm in integers.

use super::check;
#[cfg(neon)]
use super::neon::square_root;
use super::params::{Landing, Shape, ShapeError};

/// Constants of a layer norm.
#[derive(Debug, Clone, Copy)]
pub struct LayerNorm<'a> {
    /// Per channel `round(2^(shift - 16) * factor / output scale)`.
    pub gain: &'a [i32],
    /// Per channel `round(2^(shift - 16) * summand / output scale)`.
    pub offset: &'a [i32],
    /// `round(channels^2 * epsilon / input scale^2)`, below 2^62.
    pub epsilon: u64,
    /// Right shift, 16 to 62.
    pub shift: u8,
    /// Zero point and clamp.
    pub landing: Landing,
}

/// Most channels: sums of squares stay inside 32 bits.
pub const LAYER_NORM_MAX_CHANNELS: u16 = (1 << 15) - 1;

/// Layer norm over the channels of each position. With `N` channels, `A = sum(x)` and `B = sum(x^2)`:
///
/// ```text
/// V = max(1, N * B - A^2 + epsilon)                      64 bits
/// k = floor(leading zeros of V / 2),  r = floor(sqrt(V << 2k)),  R = floor(2^62 / r)
/// z = ((N * x - A) * R) >> (46 - k)                      the normalised value, in 2^-16
/// y = clamp(((z * gain + (offset << 16) + 2^(shift - 1)) >> shift) + zero_point, lo, hi)
/// ```
///
/// # Errors
/// [`ShapeError::Geometry`] for an empty shape or more than [`LAYER_NORM_MAX_CHANNELS`]; [`ShapeError::Table`] if gains or
/// offsets are fewer than channels; a [`ShapeError`] that names the slice whose length does not match `shape`.
pub fn layer_norm_s8(shape: Shape, norm: &LayerNorm<'_>, input: &[i8], output: &mut [i8]) -> Result<(), ShapeError> {
    check::require(!shape.is_empty() && shape.c <= LAYER_NORM_MAX_CHANNELS, ShapeError::Geometry)?;
    check::shape(shape, input.len(), ShapeError::Input)?;
    check::shape(shape, output.len(), ShapeError::Output)?;
    let channels = usize::from(shape.c).max(1);
    let gain = norm.gain.get(..channels).ok_or(ShapeError::Table)?;
    let offset = norm.offset.get(..channels).ok_or(ShapeError::Table)?;
    #[cfg(neon)]
    let mut normaliser = super::neon::Normaliser::new(norm);
    #[cfg(neon)]
    normaliser.widen(offset, shape.positions());
    let mut outputs = output.chunks_exact_mut(channels);
    for x in input.chunks_exact(channels) {
        let Some(y) = outputs.next() else { return Ok(()) };
        let spread = Spread::of(x, norm.epsilon);
        #[cfg(neon)]
        let done = normaliser.normalise(&spread, x, [gain, offset], y);
        #[cfg(not(neon))]
        let done = 0;
        one_by_one(norm, &spread, x, [gain, offset], y, done);
    }
    Ok(())
}

/// The channels of a position from `first` on.
#[inline(always)]
fn one_by_one(
    norm: &LayerNorm<'_>,
    spread: &Spread,
    x: &[i8],
    [gain, offset]: [&[i32]; 2],
    y: &mut [i8],
    first: usize,
) {
    if first == x.len() {
        return;
    }
    for (((y, &x), &gain), &offset) in y.iter_mut().zip(x).zip(gain).zip(offset).skip(first) {
        *y = land(norm, spread.normalise(x), gain, offset);
    }
}

/// What the values of one position have in common.
pub(super) struct Spread {
    /// Channels.
    pub(super) count: i32,
    pub(super) sum: i32,
    /// About `2^(62 - k)` over the root of the variance times `count`; at most 2^31.
    pub(super) reciprocal: u32,
    /// `46 - k`.
    pub(super) shift: u32,
}

impl Spread {
    #[inline(always)]
    fn of(x: &[i8], epsilon: u64) -> Self {
        #[cfg(neon)]
        let (mut sum, mut squares, done) = super::neon::sums(x);
        #[cfg(not(neon))]
        let (mut sum, mut squares, done) = (0i32, 0u32, 0);
        for &x in x.iter().skip(done) {
            sum = sum.wrapping_add(i32::from(x));
            squares = squares.wrapping_add((i32::from(x) * i32::from(x)) as u32);
        }
        let count = x.len() as u64;
        let square = u64::from(sum.unsigned_abs()).wrapping_mul(u64::from(sum.unsigned_abs()));
        let variance = count.wrapping_mul(u64::from(squares)).wrapping_sub(square).wrapping_add(epsilon).max(1);
        let k = variance.leading_zeros() / 2;
        let root = square_root(variance << (2 * k));
        let reciprocal = (1u64 << 62).checked_div(u64::from(root)).unwrap_or(0);
        Self { count: count as i32, sum, reciprocal: reciprocal as u32, shift: 46u32.wrapping_sub(k) }
    }

    /// The normalised value, in 2^-16; below 2^24 in magnitude, since no value is further from the mean than the root of
    /// `count` standard deviations.
    #[inline(always)]
    fn normalise(&self, x: i8) -> i32 {
        let difference = self.count.wrapping_mul(i32::from(x)).wrapping_sub(self.sum);
        (i64::from(difference).wrapping_mul(i64::from(self.reciprocal)) >> (self.shift & 63)) as i32
    }
}

#[inline(always)]
fn land(norm: &LayerNorm<'_>, z: i32, gain: i32, offset: i32) -> i8 {
    let shift = u32::from(norm.shift) & 63;
    let half = (1i64 << shift) >> 1;
    let sum = i64::from(z).wrapping_mul(i64::from(gain)).wrapping_add(i64::from(offset) << 16).wrapping_add(half);
    let Landing { zero_point, lo, hi } = norm.landing;
    (sum >> shift).saturating_add(i64::from(zero_point)).max(i64::from(lo)).min(i64::from(hi)) as i8
}

/// `floor(sqrt(value))`, bit by bit.
#[cfg(not(neon))]
fn square_root(value: u64) -> u32 {
    let (mut rest, mut root) = (value, 0u64);
    let mut bit = 1u64 << 62;
    while bit != 0 {
        let trial = root.wrapping_add(bit);
        root >>= 1;
        if rest >= trial {
            rest = rest.wrapping_sub(trial);
            root = root.wrapping_add(bit);
        }
        bit >>= 2;
    }
    root as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDE: Landing = Landing { zero_point: 0, lo: -128, hi: 127 };

    #[test]
    fn roots_are_exact() {
        for value in [0, 1, 3, 4, u64::MAX, 1 << 62, (1 << 62) - 1, 0xffff_fffe_0000_0001, 0xffff_fffe_0000_0000] {
            let root = u128::from(square_root(value));
            assert!(root * root <= u128::from(value) && (root + 1) * (root + 1) > u128::from(value), "{value}");
        }
    }

    #[test]
    fn equal_values_give_the_offset() {
        let norm =
            LayerNorm { gain: &[1 << 20; 3], offset: &[5 << 20, 0, -7 << 20], epsilon: 0, shift: 36, landing: WIDE };
        let mut y = [99; 6];
        assert_eq!(layer_norm_s8(Shape::new(1, 2, 3), &norm, &[-128, -128, -128, 7, 7, 7], &mut y), Ok(()));
        assert_eq!(y, [5, 0, -7, 5, 0, -7]);
    }

    #[test]
    fn arguments_that_do_not_match_are_refused() {
        let norm = LayerNorm { gain: &[1; 3], offset: &[1; 3], epsilon: 0, shift: 36, landing: WIDE };
        let call =
            |shape, norm: &LayerNorm<'_>, x: &[i8], len: usize| layer_norm_s8(shape, norm, x, &mut [0; 8][..len]);
        let shape = Shape::new(1, 2, 3);
        assert_eq!(call(shape, &norm, &[0; 5], 6), Err(ShapeError::Input));
        assert_eq!(call(shape, &norm, &[0; 6], 7), Err(ShapeError::Output));
        assert_eq!(call(shape, &LayerNorm { gain: &[1; 2], ..norm }, &[0; 6], 6), Err(ShapeError::Table));
        assert_eq!(call(shape, &LayerNorm { offset: &[], ..norm }, &[0; 6], 6), Err(ShapeError::Table));
        assert_eq!(call(Shape::new(0, 2, 3), &norm, &[], 0), Err(ShapeError::Geometry));
    }

    proptest! {
        #[test]
        fn vectors_give_what_single_channels_give(
            (positions, channels) in (1..6usize, prop_oneof![9 => 1..100usize, 1 => 240..300usize]),
            x in prop::collection::vec(any::<i8>(), 5 * 300),
            spread in 0u8..8,
            tables in prop::collection::vec((any::<i32>(), any::<i32>()), 300),
            (epsilon_bits, shift) in (0..=40u32, 16..=62u8),
            (zero_point, (lo, hi)) in (any::<i8>(), prop_oneof![Just((-128, 127)), (-128..=0i8, 0..=127i8)]),
        ) {
            let x: Vec<i8> = x.iter().map(|&x| x >> spread).take(positions * channels).collect();
            let (gain, offset): (Vec<i32>, Vec<i32>) = tables.into_iter().unzip();
            let landing = Landing { zero_point, lo, hi };
            let epsilon = (1 << epsilon_bits) - 1;
            let norm = LayerNorm { gain: &gain, offset: &offset, epsilon, shift, landing };
            let (mut y, mut want) = (vec![0; x.len()], vec![0; x.len()]);
            let shape = Shape::new(1, positions as u16, channels as u16);
            prop_assert_eq!(layer_norm_s8(shape, &norm, &x, &mut y), Ok(()));
            for (x, want) in x.chunks(channels).zip(want.chunks_mut(channels)) {
                one_by_one(&norm, &Spread::of(x, epsilon), x, [&gain, &offset], want, 0);
            }
            prop_assert_eq!(y, want);
        }

        #[test]
        fn the_result_is_within_one_quantum_of_the_real_layer_norm(
            x in prop::collection::vec(any::<i8>(), 1..300),
            spread in 0u8..8,
            input_scale in 1e-3f64..0.5,
            output_scale in 0.005f64..0.1,
            gains in prop::collection::vec((-2f64..2.0, -2f64..2.0), 300),
        ) {
            let x: Vec<i8> = x.iter().map(|&x| x >> spread).collect();
            let count = x.len() as f64;
            let to_fixed = |real: f64| (real / output_scale * f64::from(1 << 20)).round() as i32;
            let gain: Vec<i32> = gains.iter().map(|&(gain, _)| to_fixed(gain)).collect();
            let offset: Vec<i32> = gains.iter().map(|&(_, offset)| to_fixed(offset)).collect();
            let stored = (count * count * 1e-6 / (input_scale * input_scale)).round() as u64;
            let norm = LayerNorm { gain: &gain, offset: &offset, epsilon: stored, shift: 36, landing: WIDE };
            let mut y = vec![0; x.len()];
            let shape = Shape::new(1, 1, x.len() as u16);
            prop_assert_eq!(layer_norm_s8(shape, &norm, &x, &mut y), Ok(()));
            let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
            // Both in squared quanta. With few channels the whole-number epsilon is far from the real one.
            let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
            let epsilon = stored as f64 / (count * count);
            for ((&x, &y), &(gain, offset)) in x.iter().zip(&y).zip(&gains) {
                let deviation = (variance + epsilon).sqrt().max(f64::MIN_POSITIVE);
                let real = (f64::from(x) - mean) / deviation * gain + offset;
                let want = (real / output_scale).clamp(-128.0, 127.0);
                prop_assert!((want - f64::from(y)).abs() <= 0.75, "{} for {}", y, want);
            }
        }
    }
}
