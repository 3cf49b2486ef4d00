//! Which candidates are worth keeping: those no other one dominates.

/// Quality and costs of a candidate. `N` costs, all better when smaller, e.g. MACs and arena bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score<const N: usize> {
    /// Better when larger. Not-a-number counts as worse than everything.
    pub accuracy: f64,
    /// Better when smaller.
    pub costs: [u64; N],
}

impl<const N: usize> Score<N> {
    fn quality(&self) -> f64 {
        if self.accuracy.is_nan() { f64::NEG_INFINITY } else { self.accuracy }
    }

    /// Whether `self` is at least as good as `other` in everything.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.quality() >= other.quality() && self.costs.iter().zip(&other.costs).all(|(mine, theirs)| mine <= theirs)
    }

    /// Whether `self` is at least as good as `other` in everything and better in something.
    #[must_use]
    pub fn dominates(&self, other: &Self) -> bool {
        self.covers(other) && !other.covers(self)
    }
}

/// Indices of the scores that no other one dominates, ascending. Of several equal scores only the first is kept.
#[must_use]
pub fn front<const N: usize>(scores: &[Score<N>]) -> Vec<usize> {
    (0..scores.len()).filter(|&index| rival(scores, index).is_none()).collect()
}

/// The reason why a score is not on the front: the most accurate one that dominates it or equals it and comes earlier.
#[must_use]
pub fn rival<const N: usize>(scores: &[Score<N>], index: usize) -> Option<usize> {
    rival_beyond(scores, index, 0.0)
}

/// [`rival`], were this score's accuracy `tolerance` higher: what is beaten by less than the accuracy's own uncertainty has
/// no rival.
#[must_use]
pub fn rival_beyond<const N: usize>(scores: &[Score<N>], index: usize, tolerance: f64) -> Option<usize> {
    let mine = &Score { accuracy: scores[index].accuracy + tolerance, ..scores[index] };
    let beats = |&other: &usize| scores[other].dominates(mine) || (other < index && scores[other].covers(mine));
    (0..scores.len()).filter(beats).max_by(|&a, &b| scores[a].quality().total_cmp(&scores[b].quality()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn score(accuracy: f64, macs: u64, arena_bytes: u64) -> Score<2> {
        Score { accuracy, costs: [macs, arena_bytes] }
    }

    #[test]
    fn a_tie_in_accuracy_goes_to_the_cheaper_candidate() {
        assert_eq!(front(&[score(0.9, 20, 5), score(0.9, 10, 5)]), [1]);
    }

    #[test]
    fn a_defeat_within_the_tolerance_is_none() {
        let scores = [score(0.90, 10, 5), score(0.895, 20, 5), score(0.88, 20, 5)];
        assert_eq!([0.004, 0.006].map(|tolerance| rival_beyond(&scores, 1, tolerance)), [Some(0), None]);
        assert_eq!(rival_beyond(&scores, 2, 0.006), Some(0));
    }

    #[test]
    fn a_cheaper_arena_keeps_a_candidate_with_more_macs() {
        assert_eq!(front(&[score(0.9, 10, 8), score(0.9, 20, 5), score(0.8, 20, 5)]), [0, 1]);
    }

    #[test]
    fn of_equal_candidates_the_first_stays() {
        assert_eq!(front(&[score(0.5, 1, 1), score(0.5, 1, 1), score(0.5, 1, 1)]), [0]);
        assert_eq!(rival(&[score(0.5, 1, 1), score(0.5, 1, 1)], 1), Some(0));
    }

    #[test]
    fn a_candidate_without_accuracy_never_displaces_another() {
        assert_eq!(front(&[score(f64::NAN, 1, 1), score(0.1, 1, 1)]), [1]);
    }

    proptest! {
        #[test]
        fn the_front_is_free_of_domination_and_covers_what_it_drops(
            raw in prop::collection::vec((0u8..6, 0u64..6, 0u64..6), 1..40)
        ) {
            let scores: Vec<_> = raw.iter().map(|&(a, m, r)| score(f64::from(a), m, r)).collect();
            let kept = front(&scores);
            prop_assert!(!kept.is_empty());
            for &a in &kept {
                prop_assert!(kept.iter().all(|&b| a == b || !scores[b].covers(&scores[a])));
            }
            for dropped in (0..scores.len()).filter(|index| !kept.contains(index)) {
                prop_assert!(kept.iter().any(|&a| scores[a].covers(&scores[dropped])));
                let rival = rival(&scores, dropped).expect("a dropped score has a rival");
                prop_assert!(scores[rival].covers(&scores[dropped]));
            }
        }

        #[test]
        fn the_front_does_not_depend_on_the_order_of_candidates(
            raw in prop::collection::vec((0u8..6, 0u64..6, 0u64..6), 1..40)
        ) {
            let values = |list: &[(u8, u64, u64)]| {
                let scores: Vec<_> = list.iter().map(|&(a, m, r)| score(f64::from(a), m, r)).collect();
                let mut kept: Vec<_> = front(&scores).into_iter().map(|index| list[index]).collect();
                kept.sort_unstable();
                kept
            };
            let mut reversed = raw.clone();
            reversed.reverse();
            prop_assert_eq!(values(&raw), values(&reversed));
        }
    }
}
