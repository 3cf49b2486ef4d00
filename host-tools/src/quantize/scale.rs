//! Fixed-point arithmetic on the host side: ranges to scales, real factors to multipliers. All in `f64`.

use stitchkit_runtime::bundle::Quant;
use stitchkit_runtime::kernels::{Add, Landing};

/// Smallest and largest value of a tensor; always contains zero, so that zero is representable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Smallest value, at most 0.
    pub lo: f32,
    /// Largest value, at least 0.
    pub hi: f32,
}

impl Range {
    /// The range that holds nothing but zero.
    pub const ZERO: Self = Self { lo: 0.0, hi: 0.0 };

    /// `lo ..= hi`, widened to contain zero.
    #[must_use]
    pub fn new(lo: f32, hi: f32) -> Self {
        Self { lo: lo.min(0.0), hi: hi.max(0.0) }
    }

    /// Asymmetric int8 quantization that spans the range. The rounding of the zero point moves the ends by at most half a
    /// step.
    #[must_use]
    pub fn quant(self) -> Quant {
        let span = f64::from(self.hi) - f64::from(self.lo);
        if !(span.is_finite() && span > f64::from(f32::MIN_POSITIVE)) {
            return Quant { scale: 1.0, zero_point: 0 };
        }
        let scale = (span / 255.0) as f32;
        let zero_point = (-128.0 - f64::from(self.lo) / f64::from(scale)).round();
        Quant { scale, zero_point: zero_point.clamp(-128.0, 127.0) as i8 }
    }
}

impl Range {
    /// Symmetric int8 quantization that spans the range with the zero point 0.
    #[must_use]
    pub fn centred_quant(self) -> Quant {
        let reach = self.hi.max(-self.lo);
        if !(reach.is_finite() && reach > f32::MIN_POSITIVE * 127.0) {
            return Quant { scale: 1.0, zero_point: 0 };
        }
        Quant { scale: reach / 127.0, zero_point: 0 }
    }
}

/// Nearest int8 of a real value, half up, saturating.
#[must_use]
pub fn to_int8(quant: Quant, real: f64) -> i8 {
    let steps = (real / f64::from(quant.scale) + 0.5).floor() + f64::from(quant.zero_point);
    steps.clamp(-128.0, 127.0) as i8
}

/// Real value of an int8.
#[must_use]
pub fn to_real(quant: Quant, value: i8) -> f64 {
    f64::from(quant.scale) * f64::from(i32::from(value) - i32::from(quant.zero_point))
}

/// Zero point and clamp of a result in `quant` that is also clipped to the real interval `lo ..= hi`.
#[must_use]
pub fn landing(quant: Quant, lo: f32, hi: f32) -> Landing {
    let lo = if lo == f32::NEG_INFINITY { -128 } else { to_int8(quant, f64::from(lo)) };
    let hi = if hi == f32::INFINITY { 127 } else { to_int8(quant, f64::from(hi)) };
    Landing { zero_point: quant.zero_point, lo, hi: hi.max(lo) }
}

/// A real factor as `multiplier * 2^-shift`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor {
    /// 0 or in `2^30 .. 2^31`.
    pub multiplier: i32,
    /// 1 to 62.
    pub shift: u8,
}

impl Factor {
    /// The factor that maps every accumulator to zero.
    pub const ZERO: Self = Self { multiplier: 0, shift: 1 };

    /// Nearest factor to `real >= 0`; below `2^-32`, where no 32-bit accumulator reaches one half, it is zero. `None` for
    /// `2^30` and more, and for what is not a number.
    #[must_use]
    pub fn from_real(real: f64) -> Option<Self> {
        if !(real.is_finite() && real >= 0.0) {
            return None;
        }
        if real < (-32f64).exp2() {
            return Some(Self::ZERO);
        }
        let mut exponent = real.log2().floor() as i32 + 1;
        let mut multiplier = (real * f64::from(31 - exponent).exp2()).round();
        // `log2` may be off by one next to a power of two, and rounding may reach 2^31.
        if multiplier < f64::from(1 << 30) {
            exponent -= 1;
            multiplier = (real * f64::from(31 - exponent).exp2()).round();
        }
        if multiplier >= (31f64).exp2() {
            exponent += 1;
            multiplier = (real * f64::from(31 - exponent).exp2()).round();
        }
        let shift = u8::try_from(31 - exponent).ok().filter(|s| (1..=62).contains(s))?;
        Some(Self { multiplier: multiplier as i32, shift })
    }
}

/// Parameters of the integer sum of two tensors, `a` first; the result is clipped to the real interval `lo ..= hi`.
/// The shift is the largest that keeps both multipliers within [`Add::MAX_MULTIPLIER`]. `None` if an operand's scale is a
/// million times the result's.
#[must_use]
pub fn add_parameters(a: Quant, b: Quant, out: Quant, lo: f32, hi: f32) -> Option<Add> {
    let ratio = |q: Quant| f64::from(q.scale) / f64::from(out.scale);
    let multipliers = |shift: u8| {
        let scaled = |q| (ratio(q) * f64::from(shift).exp2()).round();
        let fits = |m: f64| m <= f64::from(Add::MAX_MULTIPLIER);
        Some((scaled(a), scaled(b))).filter(|&(a, b)| fits(a) && fits(b))
    };
    let shift = (1..=Add::MAX_SHIFT).rev().find(|&s| multipliers(s).is_some())?;
    let (a_multiplier, b_multiplier) = multipliers(shift).map(|(a, b)| (a as i32, b as i32))?;
    let landing = landing(out, lo, hi);
    let offset = (i32::from(out.zero_point) << shift) + (1 << (shift - 1))
        - i32::from(a.zero_point) * a_multiplier
        - i32::from(b.zero_point) * b_multiplier;
    Some(Add { a_multiplier, b_multiplier, offset, shift, lo: landing.lo, hi: landing.hi })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_become_scales_that_represent_zero_and_both_ends() {
        let cases = [(0.0, 6.0, -128), (-1.0, 1.0, -1), (-3.0, 0.0, 127), (-0.2, 5.0, -118), (2.0, 4.0, -128)];
        for (lo, hi, zero_point) in cases {
            let range = Range::new(lo, hi);
            let quant = range.quant();
            assert_eq!(quant.zero_point, zero_point, "{lo}..{hi}");
            assert_eq!(to_int8(quant, 0.0), zero_point);
            for end in [range.lo, range.hi] {
                let back = to_real(quant, to_int8(quant, f64::from(end)));
                assert!((back - f64::from(end)).abs() <= 0.51 * f64::from(quant.scale), "{lo}..{hi}: {end} -> {back}");
            }
        }
    }

    #[test]
    fn an_empty_range_still_has_a_positive_scale() {
        assert_eq!(Range::ZERO.quant(), Quant { scale: 1.0, zero_point: 0 });
    }

    #[test]
    fn factors_outside_the_format_are_zero_or_refused() {
        assert_eq!(Factor::from_real(0.0), Some(Factor::ZERO));
        assert_eq!(Factor::from_real(1e-12), Some(Factor::ZERO));
        assert_eq!(Factor::from_real((30f64).exp2()), None);
        assert_eq!(Factor::from_real(f64::NAN), None);
        assert_eq!(Factor::from_real(1.0), Some(Factor { multiplier: 1 << 30, shift: 30 }));
    }

    proptest! {
        #[test]
        fn factors_are_normalised_and_exact_to_31_bits(exponent in -31.9f64..29.9) {
            let real = exponent.exp2();
            let factor = Factor::from_real(real).expect("in range");
            prop_assert!(factor.multiplier >= 1 << 30);
            prop_assert!((1..=62).contains(&factor.shift));
            let back = f64::from(factor.multiplier) * (-f64::from(factor.shift)).exp2();
            prop_assert!((back / real - 1.0).abs() < 1e-9);
        }

        #[test]
        fn integer_addition_is_within_one_rounding_of_the_real_sum(
            scales in (1e-3f32..1.0, 1e-3f32..1.0, 1e-2f32..2.0),
            points in (any::<i8>(), any::<i8>(), any::<i8>()),
            a in any::<i8>(),
            b in any::<i8>(),
        ) {
            let qa = Quant { scale: scales.0, zero_point: points.0 };
            let qb = Quant { scale: scales.1, zero_point: points.1 };
            let qy = Quant { scale: scales.2, zero_point: points.2 };
            let add = add_parameters(qa, qb, qy, f32::NEG_INFINITY, f32::INFINITY).expect("scales are comparable");
            prop_assert!(add.a_multiplier.abs() <= Add::MAX_MULTIPLIER && add.b_multiplier.abs() <= Add::MAX_MULTIPLIER);
            prop_assert!(add.offset.abs() <= Add::MAX_OFFSET && add.shift >= 1 && add.shift <= Add::MAX_SHIFT);
            let real = (to_real(qa, a) + to_real(qb, b)) / f64::from(qy.scale) + f64::from(qy.zero_point);
            let got = f64::from(add.apply(a, b));
            let slack = 0.5 + 512.0 * (-f64::from(add.shift)).exp2();
            prop_assert!((got - real.clamp(-128.0, 127.0)).abs() <= slack, "{got} for {real}");
        }
    }
}
