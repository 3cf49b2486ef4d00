//! Distribution of one tensor's values over the calibration images, in constant memory.

use super::scale::Range;

/// Bins on each side of zero. A range clipped to a quarter still has a bin for every int8 step.
const HALF: usize = 2048;

/// How a range is chosen from the observed values.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Method {
    /// All observed values are representable.
    MinMax,
    /// This share of the values, in percent, lies inside each end; 99.99 cuts one value in ten thousand per side.
    Percentile(f32),
    /// The range of least expected squared error: clipping error of the values outside plus rounding error
    /// (`scale^2 / 12`, uniform) of all.
    #[default]
    Mse,
}

/// Histogram around zero whose bins double in width when a value does not fit.
#[derive(Debug, Clone)]
pub struct Histogram {
    /// `counts[HALF + i]` counts values in `i * width .. (i + 1) * width`.
    counts: Vec<u64>,
    /// Width of a bin; 0 until a value other than zero is seen.
    width: f32,
    range: Range,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; 2 * HALF], width: 0.0, range: Range::ZERO, total: 0 }
    }
}

impl Histogram {
    /// Adds values. Those that are not finite are ignored.
    pub fn observe(&mut self, values: &[f32]) {
        let (mut lo, mut hi) = (0f32, 0f32);
        for &value in values.iter().filter(|v| v.is_finite()) {
            lo = lo.min(value);
            hi = hi.max(value);
        }
        self.range = Range::new(self.range.lo.min(lo), self.range.hi.max(hi));
        self.widen(hi.max(-lo));
        self.total += values.len() as u64;
        if self.width == 0.0 {
            self.counts[HALF] += values.len() as u64;
            return;
        }
        let per_value = 1.0 / self.width;
        for &value in values.iter().filter(|v| v.is_finite()) {
            let bin = (value * per_value).floor() as isize + HALF as isize;
            self.counts[bin.clamp(0, 2 * HALF as isize - 1) as usize] += 1;
        }
    }

    /// Adds all values of another histogram, to the precision of the wider bins.
    pub fn merge(&mut self, other: &Self) {
        self.range = Range::new(self.range.lo.min(other.range.lo), self.range.hi.max(other.range.hi));
        self.total += other.total;
        self.widen(other.range.hi.max(-other.range.lo));
        for (bin, &count) in other.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let centre = (bin as f32 - HALF as f32 + 0.5) * other.width;
            let target =
                if self.width == 0.0 { HALF as isize } else { (centre / self.width).floor() as isize + HALF as isize };
            self.counts[target.clamp(0, 2 * HALF as isize - 1) as usize] += count;
        }
    }

    /// Number of values seen.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The range `method` chooses.
    #[must_use]
    pub fn range(&self, method: Method) -> Range {
        match method {
            Method::MinMax => self.range,
            Method::Percentile(percent) => self.percentile(f64::from(percent) / 100.0),
            Method::Mse => self.least_error(),
        }
    }

    fn widen(&mut self, magnitude: f32) {
        if magnitude == 0.0 {
            return;
        }
        if self.width == 0.0 {
            self.width = (magnitude / HALF as f32).max(f32::MIN_POSITIVE);
        }
        while self.width * (HALF as f32) < magnitude {
            let mut wider = vec![0; 2 * HALF];
            for (bin, &count) in self.counts.iter().enumerate() {
                wider[HALF / 2 + bin / 2] += count;
            }
            self.counts = wider;
            self.width *= 2.0;
        }
    }

    fn percentile(&self, share: f64) -> Range {
        let outside = ((1.0 - share).max(0.0) * self.total as f64) as u64;
        let cut = |bins: &mut dyn Iterator<Item = &u64>| {
            let mut seen = 0;
            bins.take_while(|count| {
                seen += **count;
                seen <= outside
            })
            .count()
        };
        let below = cut(&mut self.counts.iter());
        let above = cut(&mut self.counts.iter().rev());
        let edge = |bin: usize| (bin as f32 - HALF as f32) * self.width;
        let lo = edge(below).max(self.range.lo);
        let hi = edge(2 * HALF - above).min(self.range.hi);
        Range::new(lo, hi)
    }

    /// Coordinate search over both ends; the error is convex enough that two rounds settle.
    fn least_error(&self) -> Range {
        const FRACTIONS: usize = 96;
        let fractions = || (FRACTIONS / 8..=FRACTIONS).map(|i| i as f32 / FRACTIONS as f32);
        let best_of = |candidates: &mut dyn Iterator<Item = Range>| {
            candidates.map(|r| (self.error(r), r)).min_by(|a, b| a.0.total_cmp(&b.0)).map_or(self.range, |(_, r)| r)
        };
        let mut best = self.range;
        for _ in 0..2 {
            best = best_of(&mut fractions().map(|f| Range { hi: self.range.hi * f, ..best }));
            best = best_of(&mut fractions().map(|f| Range { lo: self.range.lo * f, ..best }));
        }
        best
    }

    /// Expected squared error of a value if the tensor is quantized to `range`, times the number of values.
    fn error(&self, range: Range) -> f64 {
        let step = (f64::from(range.hi) - f64::from(range.lo)) / 255.0;
        let rounding = self.total as f64 * step * step / 12.0;
        let clipping: f64 = self
            .counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(bin, &count)| {
                let centre = (bin as f64 - HALF as f64 + 0.5) * f64::from(self.width);
                let outside = (centre - f64::from(range.hi)).max(f64::from(range.lo) - centre).max(0.0);
                count as f64 * outside * outside
            })
            .sum();
        rounding + clipping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ramp of 20,000 values in 0..1 and one outlier at 50.
    fn with_outlier() -> Histogram {
        let mut histogram = Histogram::default();
        histogram.observe(&(0..20_000).map(|i| i as f32 / 20_000.0).collect::<Vec<_>>());
        histogram.observe(&[50.0]);
        histogram
    }

    #[test]
    fn min_max_keeps_an_outlier_that_percentile_drops() {
        let histogram = with_outlier();
        assert_eq!(histogram.range(Method::MinMax), Range { lo: 0.0, hi: 50.0 });
        let clipped = histogram.range(Method::Percentile(99.99));
        assert!(clipped.hi < 1.1 && clipped.hi > 0.95 && clipped.lo == 0.0, "{clipped:?}");
    }

    #[test]
    fn least_error_range_has_no_more_error_than_all_values() {
        let histogram = with_outlier();
        let best = histogram.range(Method::Mse);
        assert!(histogram.error(best) <= histogram.error(histogram.range));
        assert!(best.lo == 0.0 && best.hi <= 50.0);
    }

    #[test]
    fn least_error_clips_a_heavy_tail() {
        let mut histogram = Histogram::default();
        // Laplace distribution by inverse of its cumulative distribution.
        let values: Vec<f32> = (1..100_000)
            .map(|i| i as f32 / 100_000.0 - 0.5)
            .map(|u| -u.signum() * (1.0 - 2.0 * u.abs()).max(1e-9).ln())
            .collect();
        histogram.observe(&values);
        let (all, best) = (histogram.range(Method::MinMax), histogram.range(Method::Mse));
        assert!(best.hi < all.hi && best.lo > all.lo, "{best:?} of {all:?}");
    }

    #[test]
    fn merging_equals_observing_together() {
        let (small, large): (Vec<f32>, Vec<f32>) =
            ((0..500).map(|i| i as f32 * 0.001).collect(), (0..500).map(|i| i as f32 * -0.01).collect());
        let (mut a, mut b, mut together) = (Histogram::default(), Histogram::default(), Histogram::default());
        a.observe(&small);
        b.observe(&large);
        together.observe(&small);
        together.observe(&large);
        a.merge(&b);
        assert_eq!(a.total(), together.total());
        for method in [Method::MinMax, Method::Percentile(99.0), Method::Mse] {
            let (merged, direct) = (a.range(method), together.range(method));
            assert!((merged.lo - direct.lo).abs() < 0.1 && (merged.hi - direct.hi).abs() < 0.02, "{method:?}");
        }
    }

    #[test]
    fn zeros_alone_give_the_zero_range() {
        let mut histogram = Histogram::default();
        histogram.observe(&[0.0; 16]);
        for method in [Method::MinMax, Method::Percentile(99.9), Method::Mse] {
            assert_eq!(histogram.range(method), Range::ZERO);
        }
    }
}
