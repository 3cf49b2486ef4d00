//! Fitting a class's coefficients to measured steps: non-negative least squares of relative errors, drawn towards a
//! prior, in integers, so that a microcontroller can do it at start.
//!
//! With `b` the share of a measurement that a coefficient would explain at its largest sensible value, and `x` the
//! coefficient in units of that value, it minimises `mean((sum(b * x) - 1)^2) + pull * sum(mean(b^2) * (x - x0)^2)` over
//! `x >= 0` by coordinate descent. `x0` is the prior, scaled to the measurements' overall speed.

use super::model::{Coefficients, LatencyModel};
use super::work::{OpClass, Work};

/// A measured step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// What ran.
    pub work: Work,
    /// How long it took.
    pub ps: u64,
}

/// How a fit weighs its prior, and how long it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FitOptions {
    /// Weight of the prior against the measurements, in 1/65536.
    pub pull: u32,
    /// Sweeps over the coefficients.
    pub sweeps: u32,
}

impl FitOptions {
    /// For a handful of measurements per class.
    pub const FEW: Self = Self { pull: 3277, sweeps: 64 };
    /// For dozens of measurements per class.
    pub const MANY: Self = Self { pull: 33, sweeps: 4000 };
}

const N: usize = Coefficients::COUNT;
/// Fraction bits of shares.
const SHARE: u32 = 20;
/// Fraction bits of coefficients in units of their largest sensible value.
const FINE: u32 = 28;
/// Fraction bits of those values, in picoseconds.
const UNIT: u32 = 8;

impl LatencyModel {
    /// Fits the coefficients of `class` to those of `samples` that belong to it; `self` is the prior. Without any such
    /// sample the class keeps its coefficients, scaled by `otherwise` (numerator, denominator).
    pub fn fit_class(
        &mut self,
        class: OpClass,
        samples: impl Iterator<Item = Sample> + Clone,
        options: FitOptions,
        otherwise: (u64, u64),
    ) {
        let weight_byte_ps = u64::from(self.weight_byte_ps);
        let rows = samples.filter(|sample| sample.work.class == class && sample.ps > 0).map(|sample| {
            // What the weights' memory takes is not the class's to explain; at least half of the time is.
            let weights = sample.work.weight_bytes.saturating_mul(weight_byte_ps);
            (sample.work.amounts(), sample.ps.saturating_sub(weights).max(sample.ps / 2).max(1))
        });
        let prior = self.class(class).as_array();
        let fitted = if rows.clone().next().is_none() {
            self.class(class).scaled(otherwise.0, otherwise.1)
        } else {
            Coefficients::from_array(fit(rows, prior, options))
        };
        *self.class_mut(class) = fitted;
    }
}

type Amounts = [u64; N];

/// Coefficients for rows of amounts and picoseconds, of which there is at least one.
fn fit(rows: impl Iterator<Item = (Amounts, u64)> + Clone, prior: [u32; N], options: FitOptions) -> [u32; N] {
    let prior = scale_prior(rows.clone(), prior);
    let units = units(rows.clone());
    let (gram, target) = normal_equations(rows, &units);
    let start = zip(&prior, &units, |prior, unit| {
        i64::try_from((u128::from(prior) << FINE) / u128::from(unit.max(1))).unwrap_or(1 << FINE).min(4 << FINE)
    });
    let x = descend(&gram, &target, start, options);
    let mut ps = [0; N];
    for ((((ps, x), unit), prior), row) in ps.iter_mut().zip(x).zip(units).zip(prior).zip(&gram) {
        let measured = row.iter().any(|&g| g != 0);
        let value = ((u128::from(x.unsigned_abs()) * u128::from(unit)) >> FINE).min(u128::from(u64::MAX)) as u64;
        let value = if measured { value } else { prior };
        *ps = u32::try_from(value.saturating_add(1 << (UNIT - 1)) >> UNIT).unwrap_or(u32::MAX);
    }
    ps
}

fn zip<T: Copy, U: Copy, V: Copy + Default>(a: &[T; N], b: &[U; N], f: impl Fn(T, U) -> V) -> [V; N] {
    let mut out = [V::default(); N];
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = f(a, b);
    }
    out
}

fn predict(amounts: &Amounts, ps: &[u64; N]) -> u64 {
    amounts.iter().zip(ps).fold(0u64, |sum, (&n, &ps)| sum.saturating_add(n.saturating_mul(ps)))
}

/// The prior times the factor that brings its predictions closest to the measurements, in 2^-UNIT picoseconds.
fn scale_prior(rows: impl Iterator<Item = (Amounts, u64)>, prior: [u32; N]) -> [u64; N] {
    let prior = prior.map(u64::from);
    let (mut once, mut twice) = (0u64, 0u64);
    for (amounts, ps) in rows {
        // The ratio of prediction to measurement, 12 fraction bits, at most 2^12.
        let ratio = (u128::from(predict(&amounts, &prior)) << 24) / u128::from(ps.max(1));
        let ratio = u64::try_from(ratio).unwrap_or(u64::MAX).min(1 << 40);
        once = once.saturating_add(ratio);
        twice = twice.saturating_add(u64::try_from((u128::from(ratio) * u128::from(ratio)) >> 24).unwrap_or(u64::MAX));
    }
    prior.map(|ps| {
        let scaled = (u128::from(ps) << UNIT) * u128::from(once) / u128::from(twice.max(1));
        u64::try_from(scaled).unwrap_or(u64::MAX)
    })
}

/// Per column the largest coefficient that no measurement contradicts, in 2^-UNIT picoseconds; 0 where nothing uses it.
fn units(rows: impl Iterator<Item = (Amounts, u64)>) -> [u64; N] {
    let mut units = [0u64; N];
    for (amounts, ps) in rows {
        for (unit, n) in units.iter_mut().zip(amounts) {
            if let Some(most) = ps.saturating_mul(1 << UNIT).checked_div(n) {
                let most = most.max(1);
                *unit = if *unit == 0 { most } else { most.min(*unit) };
            }
        }
    }
    units
}

/// Means of products of shares, and of shares, both with FINE fraction bits.
fn normal_equations(rows: impl Iterator<Item = (Amounts, u64)>, units: &[u64; N]) -> ([[i64; N]; N], [i64; N]) {
    let (mut gram, mut target) = ([[0i64; N]; N], [0i64; N]);
    let mut count = 0i64;
    for (amounts, ps) in rows {
        let share = |n: u64, unit: u64| {
            let share = ((u128::from(n) * u128::from(unit)) << (SHARE - UNIT)) / u128::from(ps.max(1));
            // By the choice of units at most 1, but for rounding.
            i64::try_from(share).unwrap_or(2 << SHARE).min(2 << SHARE)
        };
        let shares = zip(&amounts, units, share);
        for ((row, target), &a) in gram.iter_mut().zip(&mut target).zip(&shares) {
            *target = target.saturating_add(a << (FINE - SHARE));
            for (cell, &b) in row.iter_mut().zip(&shares) {
                *cell = cell.saturating_add((a * b) >> (2 * SHARE - FINE));
            }
        }
        count += 1;
    }
    let count = count.max(1);
    gram.iter_mut().flatten().chain(&mut target).for_each(|cell| *cell /= count);
    (gram, target)
}

fn descend(gram: &[[i64; N]; N], target: &[i64; N], start: [i64; N], options: FitOptions) -> [i64; N] {
    let pull = i64::from(options.pull);
    let mut x = start;
    for _ in 0..options.sweeps {
        let mut moved = 0;
        for (at, ((row, &target), &start)) in gram.iter().zip(target).zip(&start).enumerate() {
            let Some((&diagonal, &held)) = row.get(at).zip(x.get(at)) else { continue };
            if diagonal <= 0 {
                continue;
            }
            let explained = row.iter().zip(&x).fold(0i64, |sum, (&g, &x)| sum.saturating_add((g * x) >> FINE));
            let others = explained - ((diagonal * held) >> FINE);
            let drawn = (((diagonal * start) >> FINE) * pull) >> 16;
            let weight = (diagonal + ((diagonal * pull) >> 16)).max(1);
            let wanted = target.saturating_sub(others).saturating_add(drawn);
            let next = ((wanted.clamp(0, 1 << 34) << FINE) / weight).min(4 << FINE);
            if let Some(x) = x.get_mut(at) {
                moved += (next - *x).abs();
                *x = next;
            }
        }
        if moved < 1 << (FINE - 22) {
            break;
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::bundle::Op;
    use crate::kernels::{Pool2d, Shape, Window};

    fn pools() -> Vec<Work> {
        let mut works = Vec::new();
        for (extent, channels) in [(4, 8), (8, 16), (16, 3), (6, 40), (12, 1)] {
            for kernel in [1u8, 2, 3] {
                let output = extent - u16::from(kernel) + 1;
                let window = Window { kernel: [kernel; 2], ..Window::POINT };
                let input = Shape::new(extent, extent, channels);
                works.push(Work::of(&Op::MaxPool(Pool2d {
                    input,
                    output: Shape::new(output, output, channels),
                    window,
                })));
            }
        }
        works
    }

    fn worst_percent(model: &LatencyModel, samples: &[Sample]) -> u64 {
        let error = |s: &Sample| model.step_ps(&s.work).abs_diff(s.ps) * 100 / s.ps;
        samples.iter().map(error).max().unwrap_or(0)
    }

    proptest! {
        /// A board that follows the model, however far from the prior, is predicted within a few percent.
        #[test]
        fn measurements_that_follow_the_model_are_reproduced(
            factors in prop::collection::vec(1u64..200, Coefficients::COUNT), board in 1u64..3000
        ) {
            let mut truth = LatencyModel::CORTEX_M4;
            let ps = truth.class(OpClass::MaxPool).as_array();
            let mut changed = [0; Coefficients::COUNT];
            for ((to, from), factor) in changed.iter_mut().zip(ps).zip(&factors) {
                *to = (u64::from(from) * factor * board / 10_000).min(1 << 30) as u32;
            }
            changed[4] = changed[4].max(1000);
            *truth.class_mut(OpClass::MaxPool) = Coefficients::from_array(changed);
            let samples: Vec<Sample> =
                pools().into_iter().map(|work| Sample { work, ps: truth.step_ps(&work) }).collect();
            let mut model = LatencyModel::CORTEX_M4;
            model.fit_class(OpClass::MaxPool, samples.iter().copied(), FitOptions::MANY, (1, 1));
            prop_assert!(worst_percent(&model, &samples) <= 6, "{:?}", model.class(OpClass::MaxPool));
        }

        #[test]
        fn no_measurement_upsets_the_fit(ps in prop::collection::vec(any::<u64>(), 15)) {
            let samples: Vec<Sample> = pools().into_iter().zip(ps).map(|(work, ps)| Sample { work, ps }).collect();
            let mut model = LatencyModel::CORTEX_M4;
            model.fit_class(OpClass::MaxPool, samples.iter().copied(), FitOptions::FEW, (1, 1));
        }
    }

    #[test]
    fn one_measurement_scales_the_prior() {
        let work = pools()[4];
        let ps = LatencyModel::CORTEX_M4.step_ps(&work) * 7;
        let mut model = LatencyModel::CORTEX_M4;
        model.fit_class(OpClass::MaxPool, [Sample { work, ps }].into_iter(), FitOptions::FEW, (1, 1));
        let of = |model: &LatencyModel| model.step_ps(&pools()[5]);
        let ratio = of(&model) * 100 / of(&LatencyModel::CORTEX_M4);
        assert!((690..=710).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_class_without_measurements_follows_the_others() {
        let mut model = LatencyModel::CORTEX_M4;
        model.fit_class(OpClass::Lut, [].into_iter(), FitOptions::FEW, (3, 1));
        assert_eq!(model.class(OpClass::Lut).step_ps, LatencyModel::CORTEX_M4.class(OpClass::Lut).step_ps * 3);
        assert_eq!(model.class(OpClass::Add), LatencyModel::CORTEX_M4.class(OpClass::Add));
    }
}
