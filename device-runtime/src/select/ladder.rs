//! The plans worth switching between, as a table of integers.

use heapless::Vec;

use super::Predict;
use crate::bundle::{Bundle, Footprint, Plan};

/// Most rungs a ladder has.
pub const MAX_RUNGS: usize = 24;

/// A plan with the figures that decide when to use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Rung {
    /// Index of the plan.
    pub plan: u16,
    /// The memory it needs.
    pub footprint: Footprint,
    /// Its accuracy, parts per million.
    pub accuracy_ppm: u32,
    /// Predicted time of one inference, saturating; 0 where nothing is known about the board.
    pub latency_us: u32,
}

impl Rung {
    /// No less accurate, no slower and no larger: there is no reason to use `other`.
    fn replaces(&self, other: &Self) -> bool {
        self.accuracy_ppm >= other.accuracy_ppm
            && self.latency_us <= other.latency_us
            && self.footprint.fits_where(other.footprint)
    }
}

/// Plans of a bundle by rising accuracy, without those that another one beats in accuracy, time and memory alike.
///
/// Made once; every later decision compares integers. A ladder holds [`MAX_RUNGS`]. Of more plans those that gain least over the
/// next less accurate one are left out, never the fastest, the smallest or the most accurate.
#[derive(Debug, Clone, Default)]
pub struct Ladder {
    rungs: Vec<Rung, MAX_RUNGS>,
}

impl Ladder {
    /// The ladder of a bundle on a board that `predict` describes.
    #[must_use]
    pub fn of(bundle: &Bundle<'_>, predict: impl Predict) -> Self {
        Self::survey(bundle, predict, |_, _| {})
    }

    /// As [`Ladder::of`]; shows every plan with its prediction to `see`, so that it is predicted only once.
    pub(crate) fn survey(
        bundle: &Bundle<'_>,
        predict: impl Predict,
        mut see: impl FnMut(&Plan<'_>, Option<u64>),
    ) -> Self {
        let mut ladder = Self::default();
        for (index, plan) in (0..).zip(bundle.plans()) {
            let predicted_us = predict.plan_us(bundle, &plan);
            see(&plan, predicted_us);
            ladder.add(Rung {
                plan: index,
                footprint: plan.footprint(),
                accuracy_ppm: plan.accuracy_ppm,
                latency_us: u32::try_from(predicted_us.unwrap_or(0)).unwrap_or(u32::MAX),
            });
        }
        ladder
    }

    /// The rungs, by rising accuracy.
    #[must_use]
    pub fn rungs(&self) -> &[Rung] {
        &self.rungs
    }

    /// Adds a plan in its place, unless another one replaces it.
    pub fn add(&mut self, rung: Rung) {
        if self.rungs.iter().any(|held| held.replaces(&rung)) {
            return;
        }
        self.rungs.retain(|held| !rung.replaces(held));
        if self.rungs.is_full() {
            self.drop_least_gain();
        }
        // There is room: one was dropped if the ladder was full.
        let _ = self.rungs.push(rung);
        for at in (1..self.rungs.len()).rev() {
            let Ok([below, above]) = self.rungs.get_disjoint_mut([at - 1, at]) else { return };
            if below.accuracy_ppm <= above.accuracy_ppm {
                return;
            }
            core::mem::swap(below, above);
        }
    }

    /// Drops the rung whose loss costs least accuracy.
    fn drop_least_gain(&mut self) {
        let fastest = self.rungs.iter().map(|r| r.latency_us).min();
        let smallest = self.rungs.iter().map(|r| r.footprint.arena_bytes).min();
        let gains = self.rungs.iter().zip(self.rungs.iter().skip(1)).enumerate();
        let droppable =
            gains.filter(|(_, (_, r))| Some(r.latency_us) != fastest && Some(r.footprint.arena_bytes) != smallest);
        let inner = droppable.filter(|(below, _)| below + 2 < self.rungs.len());
        let least = inner.min_by_key(|(_, (below, rung))| rung.accuracy_ppm - below.accuracy_ppm);
        let at = least.map_or(self.rungs.len() / 2, |(below, _)| below + 1);
        let mut indices = 0..;
        self.rungs.retain(|_| indices.next() != Some(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::Limits;
    use proptest::prelude::*;

    fn rung(plan: u16, accuracy_ppm: u32, latency_us: u32, arena_bytes: u32) -> Rung {
        Rung { plan, footprint: Footprint { arena_bytes, fast_bytes: 0 }, accuracy_ppm, latency_us }
    }

    /// `rung` with a part of its arena laid out for a fast memory.
    fn divided(rung: Rung, fast_bytes: u32) -> Rung {
        let fast_bytes = fast_bytes.min(rung.footprint.arena_bytes);
        Rung { footprint: Footprint { fast_bytes, ..rung.footprint }, ..rung }
    }

    #[test]
    fn a_plan_that_is_beaten_everywhere_is_left_out() {
        let mut ladder = Ladder::default();
        for r in [rung(0, 700, 10, 10), rung(1, 600, 20, 10), rung(2, 700, 10, 5), rung(3, 800, 30, 5)] {
            ladder.add(r);
        }
        assert_eq!(ladder.rungs().iter().map(|r| r.plan).collect::<Vec<_, 8>>(), [2, 3]);
    }

    proptest! {
        /// Whatever fits under any limits, the ladder offers something as accurate, as long as it is not full.
        #[test]
        fn the_ladder_loses_no_accuracy(
            plans in prop::collection::vec((0u32..100, 1u32..100, 1u32..100, 0u32..100), 1..MAX_RUNGS),
            limits in (0u32..110, 0u32..110, 0u32..110)
        ) {
            let mut ladder = Ladder::default();
            let rungs = || (0..).zip(&plans).map(|(i, &(a, l, m, f))| divided(rung(i, a, l, m), f));
            let memory = Limits { ram_bytes: limits.1, fast_bytes: limits.2, ..Limits::NONE };
            rungs().for_each(|r| ladder.add(r));
            let best = |r: &mut dyn Iterator<Item = Rung>| {
                r.filter(|r| r.latency_us <= limits.0 && memory.hold(r.footprint)).map(|r| r.accuracy_ppm).max()
            };
            prop_assert_eq!(best(&mut ladder.rungs().iter().copied()), best(&mut rungs()));
            prop_assert!(ladder.rungs().is_sorted_by_key(|r| r.accuracy_ppm));
        }

        #[test]
        fn a_full_ladder_keeps_its_ends(plans in prop::collection::vec((0u32..1000, 1u32..1000), 30..80)) {
            let mut ladder = Ladder::default();
            // On a front: more accurate is slower.
            (0..).zip(&plans).for_each(|(i, &(a, m))| ladder.add(rung(i, a, 1000 + a, m)));
            let least = |key: &dyn Fn(&Rung) -> u32| ladder.rungs().iter().map(key).min();
            prop_assert_eq!(least(&|r| r.latency_us), plans.iter().map(|p| 1000 + p.0).min());
            prop_assert_eq!(least(&|r| r.footprint.arena_bytes), plans.iter().map(|p| p.1).min());
            prop_assert_eq!(ladder.rungs().last().map(|r| r.accuracy_ppm), plans.iter().map(|p| p.0).max());
        }
    }
}
