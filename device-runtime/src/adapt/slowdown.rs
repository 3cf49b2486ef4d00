//! The common slowdown: an estimate that rises at once and falls after a hold.

/// A ratio in fixed point, [`Factor::ONE`] being 1. Between 1/64 and 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Factor(u32);

impl Factor {
    /// No change.
    pub const ONE: Self = Self(1 << 12);
    const LEAST: Self = Self(1 << 6);
    const MOST: Self = Self(1 << 20);

    /// `numerator / denominator`, rounded up; 1 if the denominator is 0.
    #[must_use]
    pub fn ratio(numerator: u32, denominator: u32) -> Self {
        let scaled = u64::from(numerator) << 12;
        let Some(quotient) = scaled.checked_div(u64::from(denominator)) else { return Self::ONE };
        let exact = quotient.saturating_mul(u64::from(denominator)) == scaled;
        let rounded = quotient.saturating_add(u64::from(!exact));
        Self(u32::try_from(rounded).unwrap_or(u32::MAX)).clamp(Self::LEAST, Self::MOST)
    }

    /// `us` times this factor, rounded up and saturating.
    #[must_use]
    pub fn scale_us(self, us: u32) -> u32 {
        let scaled = (u64::from(us) * u64::from(self.0)).saturating_add((1 << 12) - 1) >> 12;
        u32::try_from(scaled).unwrap_or(u32::MAX)
    }

    /// Most microseconds that are at most `us` when scaled by this factor.
    #[must_use]
    pub fn unscale_us(self, us: u64) -> u32 {
        // Small processors divide 64 bits in hundreds of instructions.
        if let Some(scaled) = u32::try_from(us).ok().filter(|&us| us < 1 << 20).map(|us| us << 12) {
            return scaled.checked_div(self.0).unwrap_or(0);
        }
        let scaled = us.min(1 << 50) << 12;
        u32::try_from(scaled.checked_div(u64::from(self.0)).unwrap_or(0)).unwrap_or(u32::MAX)
    }

    /// This factor times `other / base`.
    #[must_use]
    pub(super) fn times(self, other: Self, base: Self) -> Self {
        let product = u64::from(self.0) * u64::from(other.0);
        let quotient = product.checked_div(u64::from(base.0)).unwrap_or(0);
        Self(u32::try_from(quotient).unwrap_or(u32::MAX)).clamp(Self::LEAST, Self::MOST)
    }

    /// Halfway to 1.
    #[must_use]
    pub(super) const fn halfway_to_one(self) -> Self {
        Self((self.0 + Self::ONE.0) / 2)
    }

    /// An eighth less.
    #[must_use]
    pub(super) const fn less_an_eighth(self) -> Self {
        Self(self.0 - self.0 / 8)
    }

    /// In thousandths, rounded to nearest.
    #[must_use]
    pub const fn thousandths(self) -> u32 {
        // At most 2^20 * 1000 < 2^32.
        (self.0 * 1000 + (1 << 11)) >> 12
    }
}

/// Whether an inference met its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It did, or there was none.
    Met,
    /// It took longer.
    Missed,
}

/// Fewest inferences that the estimate must seem too high before it falls.
pub(super) const LEAST_HOLD: u16 = 4;
/// Most, and how long it takes to fall by less than an eighth.
pub(super) const MOST_HOLD: u16 = 128;

/// The estimate.
#[derive(Debug, Clone)]
pub(super) struct Slowdown {
    level: Factor,
    /// The latest ratios, the newest last.
    last: [Factor; 3],
    /// Medians below the level, and those among them at least an eighth below it.
    below: Window,
    far_below: Window,
    hold: u16,
    /// Inferences since the level fell; [`u16::MAX`] if that is settled.
    since_fall: u16,
}

/// A stretch of inferences and the largest median in it.
#[derive(Debug, Clone, Copy)]
struct Window {
    inferences: u16,
    peak: Factor,
}

impl Window {
    const EMPTY: Self = Self { inferences: 0, peak: Factor::LEAST };

    fn add(&mut self, median: Factor) {
        self.inferences = self.inferences.saturating_add(1);
        self.peak = self.peak.max(median);
    }
}

impl Slowdown {
    /// An idle board, as predicted.
    pub(super) const fn new() -> Self {
        let one = Factor::ONE;
        Self {
            level: one,
            last: [one; 3],
            below: Window::EMPTY,
            far_below: Window::EMPTY,
            hold: LEAST_HOLD,
            since_fall: u16::MAX,
        }
    }

    /// The estimate.
    pub(super) const fn level(&self) -> Factor {
        self.level
    }

    /// The newest ratio.
    pub(super) const fn newest(&self) -> Factor {
        self.last[2]
    }

    /// True if the last three ratios lie within an eighth of each other.
    pub(super) fn is_settled(&self) -> bool {
        let [a, b, c] = self.last;
        a.max(b).max(c).less_an_eighth() <= a.min(b).min(c)
    }

    /// Takes the ratio of one inference.
    pub(super) fn observe(&mut self, ratio: Factor, outcome: Outcome) {
        let [_, a, b] = self.last;
        self.last = [a, b, ratio];
        let median = a.min(b).max(a.max(b).min(ratio));
        let seen = match outcome {
            Outcome::Met => median,
            Outcome::Missed => median.max(ratio),
        };
        self.count_since_fall();
        if seen >= self.level {
            self.rise(seen);
        } else {
            self.stay_below(seen);
        }
    }

    fn count_since_fall(&mut self) {
        if self.since_fall == u16::MAX {
            return;
        }
        self.since_fall += 1;
        if self.since_fall > self.hold * 4 {
            self.hold = LEAST_HOLD;
            self.since_fall = u16::MAX;
        }
    }

    fn rise(&mut self, to: Factor) {
        let was_premature = self.since_fall != u16::MAX && to.less_an_eighth() > self.level;
        if was_premature {
            self.hold = (self.hold * 2).min(MOST_HOLD);
            self.since_fall = u16::MAX;
        }
        self.level = to;
        self.below = Window::EMPTY;
        self.far_below = Window::EMPTY;
    }

    fn stay_below(&mut self, median: Factor) {
        self.below.add(median);
        if median <= self.level.less_an_eighth() {
            self.far_below.add(median);
        } else {
            self.far_below = Window::EMPTY;
        }
        if self.far_below.inferences >= self.hold {
            self.fall(self.far_below.peak);
            self.since_fall = 0;
        } else if self.below.inferences >= MOST_HOLD {
            self.fall(self.below.peak);
        }
    }

    fn fall(&mut self, to: Factor) {
        self.level = to;
        self.below = Window::EMPTY;
        self.far_below = Window::EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_outlier_that_met_its_deadline_changes_nothing() {
        let mut slowdown = Slowdown::new();
        for ratio in [100, 100, 300, 100, 100, 100] {
            slowdown.observe(Factor::ratio(ratio, 100), Outcome::Met);
            assert_eq!(slowdown.level(), Factor::ONE);
        }
    }

    #[test]
    fn premature_falls_double_the_hold() {
        let mut slowdown = Slowdown::new();
        let mut falls = [0u32; 3];
        for fall in &mut falls {
            slowdown.observe(Factor::ratio(3, 1), Outcome::Missed);
            while slowdown.level() > Factor::ONE {
                slowdown.observe(Factor::ONE, Outcome::Met);
                *fall += 1;
            }
        }
        assert_eq!(falls, [4, 8, 16]);
    }

    proptest! {
        #[test]
        fn scaling_back_never_exceeds_the_budget(n in 1u32..1 << 20, d in 1u32..1 << 20, budget in 0u64..1 << 32) {
            let factor = Factor::ratio(n, d);
            let most = factor.unscale_us(budget);
            prop_assert!(u64::from(factor.scale_us(most)) <= budget.max(1) || most == u32::MAX);
        }

        #[test]
        fn any_ratio_is_taken_without_overflow(n in any::<u32>(), d in any::<u32>(), us in any::<u32>()) {
            let factor = Factor::ratio(n, d);
            prop_assert!(Factor::LEAST <= factor && factor <= Factor::MOST);
            prop_assert!(factor < Factor::ONE || factor.scale_us(us) >= us);
            let _ = (factor.thousandths(), factor.unscale_us(u64::MAX), factor.times(factor, Factor::LEAST));
        }
    }
}
