//! Which network of the space the next step trains.
//!
//! Three rules: every network alike; groups of equal cost alike (SN-Netv2's resource-constrained sampling); groups by how
//! far they are from where they should be (the probability shift of ShiftNAS, with a floor). On top of each, anchors together
//! are never drawn less than a given share.

use serde::{Deserialize, Serialize};

use super::random::Random;
use crate::stitch::Candidate;

/// The rule by which networks are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// All networks alike.
    Uniform,
    /// All groups of similar cost alike, then all members alike: anchors, alone in their groups, are drawn more often.
    Resource,
    /// Groups in proportion to how far their members were below the line between their anchors at the last validation.
    Shift,
}

/// Settings of a sampler.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SamplerSettings {
    /// The rule.
    pub rule: Rule,
    /// Groups into which the span of costs is cut.
    pub groups: usize,
    /// Least share of draws that all anchors together get, 0 to 1.
    pub anchor_share: f64,
    /// Share of draws that [`Rule::Shift`] spreads over all groups alike, 0 to 1.
    pub floor: f64,
}

/// A network is dropped when another of at most its cost was better by `margin` (a share of images) in this many
/// validations in a row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DropRule {
    /// Lead of the other network, as a share of images.
    pub margin: f64,
    /// Validations in a row.
    pub validations: u32,
}

/// Temperature of the softmax over the groups' signals, which are scaled to 0..1.
const TEMPERATURE: f64 = 0.5;
/// Weight of the newest signal in the moving average.
const SIGNAL_WEIGHT: f64 = 0.5;

/// The state of sampling: what was drawn, what is still drawn, and where it is needed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampler {
    settings: SamplerSettings,
    /// Group of each network.
    group: Vec<usize>,
    groups: usize,
    is_anchor: Vec<bool>,
    macs: Vec<u64>,
    /// Moving average of each group's distance from its line; empty before the first validation.
    signal: Vec<f64>,
    /// Validations in a row in which a network was beaten.
    beaten: Vec<u32>,
    dropped: Vec<bool>,
    /// Networks that have nothing to learn.
    idle: Vec<bool>,
    counts: Vec<u64>,
}

impl Sampler {
    /// A sampler over the networks of a space.
    #[must_use]
    pub fn new(candidates: &[Candidate], settings: SamplerSettings) -> Self {
        let macs: Vec<u64> = candidates.iter().map(|candidate| candidate.macs).collect();
        let (group, groups) = groups_of(&macs, settings.groups);
        let count = candidates.len();
        Self {
            settings,
            group,
            groups,
            is_anchor: candidates.iter().map(|candidate| candidate.layers.is_empty()).collect(),
            macs,
            signal: Vec::new(),
            beaten: vec![0; count],
            dropped: vec![false; count],
            idle: vec![false; count],
            counts: vec![0; count],
        }
    }

    /// Never draws anchors: for runs that do not train them. Their share goes to the others.
    #[must_use]
    pub fn without_anchors(self) -> Self {
        Self { idle: self.is_anchor.clone(), ..self }
    }

    fn is_active(&self, network: usize) -> bool {
        !self.dropped[network] && !self.idle[network]
    }

    /// Draws a network and counts it.
    pub fn draw(&mut self, random: &mut Random) -> usize {
        let drawn = random.weighted(&self.probabilities());
        self.counts[drawn] += 1;
        drawn
    }

    /// Times each network was drawn.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Networks that are not drawn any more.
    #[must_use]
    pub fn dropped(&self) -> &[bool] {
        &self.dropped
    }

    /// Probability of each network at the next draw.
    #[must_use]
    pub fn probabilities(&self) -> Vec<f64> {
        let members = |group: usize| {
            (0..self.group.len()).filter(move |&n| self.group[n] == group && self.is_active(n)).collect::<Vec<_>>()
        };
        let mut shares = vec![0.0; self.group.len()];
        match self.settings.rule {
            Rule::Uniform => {
                let active = (0..shares.len()).filter(|&n| self.is_active(n)).count().max(1);
                (0..shares.len()).filter(|&n| self.is_active(n)).for_each(|n| shares[n] = 1.0 / active as f64);
            }
            Rule::Resource | Rule::Shift => {
                let groups: Vec<Vec<usize>> = (0..self.groups).map(members).collect();
                let weights = self.group_shares(&groups);
                for (members, weight) in groups.iter().zip(weights) {
                    members.iter().for_each(|&n| shares[n] = weight / members.len() as f64);
                }
            }
        }
        self.with_anchor_share(shares)
    }

    /// Probability of each group; 0 where all members were dropped.
    fn group_shares(&self, groups: &[Vec<usize>]) -> Vec<f64> {
        let alive: Vec<f64> = groups.iter().map(|members| f64::from(u8::from(!members.is_empty()))).collect();
        let count = alive.iter().sum::<f64>().max(1.0);
        if self.settings.rule == Rule::Resource || self.signal.is_empty() {
            return alive.iter().map(|alive| alive / count).collect();
        }
        let largest = self.signal.iter().copied().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let raised: Vec<f64> =
            self.signal.iter().zip(&alive).map(|(s, alive)| alive * (s / largest / TEMPERATURE).exp()).collect();
        let sum = raised.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let floor = self.settings.floor;
        raised.iter().zip(&alive).map(|(r, alive)| alive * floor / count + (1.0 - floor) * r / sum).collect()
    }

    /// Raises the anchors' share where it is below the least one; the others give way in proportion.
    fn with_anchor_share(&self, mut shares: Vec<f64>) -> Vec<f64> {
        let sum = |shares: &[f64], anchors: bool| {
            shares.iter().zip(&self.is_anchor).filter(|(_, a)| **a == anchors).map(|(s, _)| s).sum::<f64>()
        };
        let (anchors, others) = (sum(&shares, true), sum(&shares, false));
        let wanted = self.settings.anchor_share;
        if anchors >= wanted || anchors <= 0.0 || others <= 0.0 {
            return shares;
        }
        for (share, &is_anchor) in shares.iter_mut().zip(&self.is_anchor) {
            *share *= if is_anchor { wanted / anchors } else { (1.0 - wanted) / others };
        }
        shares
    }

    /// Takes in a validation: accuracies (shares) by network.
    pub fn validated(&mut self, accuracy: &[f64], rule: Option<DropRule>) {
        let gaps = line_gaps(&self.macs, &self.is_anchor, accuracy);
        let mut signal = vec![0.0; self.groups];
        let mut members = vec![0.0; self.groups];
        for n in (0..self.group.len()).filter(|&n| self.is_active(n)) {
            signal[self.group[n]] += gaps[n].max(0.0);
            members[self.group[n]] += 1.0;
        }
        for (group, (signal, members)) in signal.iter_mut().zip(members).enumerate() {
            *signal /= f64::max(members, 1.0);
            if let Some(before) = self.signal.get(group) {
                *signal = SIGNAL_WEIGHT * *signal + (1.0 - SIGNAL_WEIGHT) * before;
            }
        }
        self.signal = signal;
        if let Some(rule) = rule {
            self.drop_beaten(accuracy, rule);
        }
    }

    fn drop_beaten(&mut self, accuracy: &[f64], rule: DropRule) {
        let count = self.macs.len();
        let is_beaten = |n: usize| {
            (0..count).any(|m| m != n && self.macs[m] <= self.macs[n] && accuracy[m] >= accuracy[n] + rule.margin)
        };
        let beaten: Vec<bool> = (0..count).map(is_beaten).collect();
        for (n, beaten) in beaten.into_iter().enumerate().filter(|(n, _)| !self.is_anchor[*n]) {
            self.beaten[n] = if beaten { self.beaten[n] + 1 } else { 0 };
            self.dropped[n] |= self.beaten[n] >= rule.validations;
        }
    }
}

/// Group of each network and the number of groups: by rising cost, a new group begins where the cost exceeds that of the
/// group's first member by more than a `groups`th of the whole span.
#[must_use]
pub fn groups_of(macs: &[u64], groups: usize) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..macs.len()).collect();
    order.sort_by_key(|&n| macs[n]);
    let (Some(&low), Some(&high)) = (order.first(), order.last()) else { return (Vec::new(), 0) };
    let gap = (macs[high] - macs[low]) as f64 / groups.max(1) as f64;
    let (mut group, mut current, mut first) = (vec![0; macs.len()], 0, macs[low]);
    for n in order {
        if (macs[n] - first) as f64 > gap {
            (current, first) = (current + 1, macs[n]);
        }
        group[n] = current;
    }
    (group, current + 1)
}

/// How far each network's accuracy is below the straight line between the anchors around its cost, over the logarithm of
/// multiply-accumulates; negative above it. Beyond the outermost anchors the line is level.
#[must_use]
pub fn line_gaps(macs: &[u64], is_anchor: &[bool], accuracy: &[f64]) -> Vec<f64> {
    let mut anchors: Vec<(f64, f64)> =
        (0..macs.len()).filter(|&n| is_anchor[n]).map(|n| ((macs[n].max(1) as f64).ln(), accuracy[n])).collect();
    anchors.sort_by(|a, b| a.0.total_cmp(&b.0));
    let line = |x: f64| {
        let above = anchors.iter().position(|(at, _)| *at >= x);
        match above {
            Some(0) => anchors[0].1,
            None => anchors.last().map_or(0.0, |last| last.1),
            Some(i) => {
                let ((x0, y0), (x1, y1)) = (anchors[i - 1], anchors[i]);
                y0 + (y1 - y0) * (x - x0) / (x1 - x0).max(f64::MIN_POSITIVE)
            }
        }
    };
    macs.iter().zip(accuracy).map(|(&macs, accuracy)| line((macs.max(1) as f64).ln()) - accuracy).collect()
}

#[cfg(test)]
mod tests {
    use super::super::random::Purpose;
    use super::*;
    use proptest::prelude::*;

    fn candidates(macs: &[u64], anchors: usize) -> Vec<Candidate> {
        let candidate = |(id, &macs): (usize, &u64)| Candidate {
            id: id as u32,
            path: id.to_string(),
            legs: Vec::new(),
            layers: if id < anchors { Vec::new() } else { vec![0] },
            macs,
            params: 0,
        };
        macs.iter().enumerate().map(candidate).collect()
    }

    fn settings(rule: Rule) -> SamplerSettings {
        SamplerSettings { rule, groups: 12, anchor_share: 0.0, floor: 0.5 }
    }

    fn rules() -> impl Strategy<Value = Rule> {
        prop_oneof![Just(Rule::Uniform), Just(Rule::Resource), Just(Rule::Shift)]
    }

    #[test]
    fn published_groups_of_the_two_anchor_space_come_out() {
        // SN-Netv2: one group per number of large blocks, of sizes 1, 12 times 11, 1; the anchors get 1/13 each.
        let macs: Vec<u64> = [0, 12].into_iter().chain((0..132).map(|i| 1 + i / 12)).collect();
        let sampler = Sampler::new(&candidates(&macs, 2), SamplerSettings { groups: 13, ..settings(Rule::Resource) });
        let shares = sampler.probabilities();
        assert_eq!(sampler.groups, 13);
        assert!(shares[..2].iter().all(|share| (share - 1.0 / 13.0).abs() < 1e-12));
        assert!(shares[2..].iter().all(|share| (share - 1.0 / 156.0).abs() < 1e-12));
    }

    #[test]
    fn shifted_draws_go_where_the_line_is_missed_and_the_floor_stays() {
        let macs = [100, 1000, 200, 500];
        let mut sampler = Sampler::new(&candidates(&macs, 2), settings(Rule::Shift));
        let before = sampler.probabilities();
        assert!(before.iter().all(|share| (share - 0.25).abs() < 1e-12), "{before:?}");
        sampler.validated(&[0.80, 0.90, 0.82, 0.40], None);
        let after = sampler.probabilities();
        assert!(after[3] > 0.4 && after[2] < 0.25, "{after:?}");
        assert!(after.iter().all(|&share| share >= 0.5 / 4.0), "{after:?}");
    }

    #[test]
    fn a_network_is_dropped_only_when_beaten_several_times_in_a_row_and_an_anchor_never() {
        let rule = Some(DropRule { margin: 0.01, validations: 2 });
        let mut sampler = Sampler::new(&candidates(&[100, 1000, 500], 2), settings(Rule::Uniform));
        let (bad, good) = ([0.8, 0.7, 0.5], [0.8, 0.7, 0.85]);
        for accuracy in [bad, good, bad] {
            sampler.validated(&accuracy, rule);
        }
        assert_eq!(sampler.dropped(), [false; 3]);
        sampler.validated(&bad, rule);
        assert_eq!(sampler.dropped(), [false, false, true]);
        assert_eq!(sampler.probabilities(), [0.5, 0.5, 0.0]);
    }

    #[test]
    fn anchors_that_are_not_trained_are_not_drawn() {
        for rule in [Rule::Uniform, Rule::Resource, Rule::Shift] {
            let settings = SamplerSettings { anchor_share: 0.5, ..settings(rule) };
            let mut sampler = Sampler::new(&candidates(&[100, 1000, 500, 700], 2), settings).without_anchors();
            sampler.validated(&[0.9, 0.9, 0.5, 0.6], None);
            let shares = sampler.probabilities();
            assert!(shares[..2] == [0.0, 0.0] && (shares[2] + shares[3] - 1.0).abs() < 1e-12, "{shares:?}");
        }
    }

    #[test]
    fn the_line_runs_between_neighbouring_anchors_over_the_logarithm_of_cost() {
        let gaps = line_gaps(&[10, 1000, 100, 5], &[true, true, false, false], &[0.6, 0.8, 0.65, 0.5]);
        for (found, expected) in gaps.iter().zip([0.0, 0.0, 0.05, 0.1]) {
            assert!((found - expected).abs() < 1e-9, "{gaps:?}");
        }
    }

    proptest! {
        #[test]
        fn shares_sum_to_one_and_anchors_get_theirs(
            macs in prop::collection::vec(1u64..10_000, 3..40),
            accuracy in prop::collection::vec(0.0f64..1.0, 40),
            rule in rules(),
            share in 0.0f64..0.9,
            rounds in 0usize..4,
        ) {
            let space = candidates(&macs, 2);
            let mut sampler = Sampler::new(&space, SamplerSettings { anchor_share: share, ..settings(rule) });
            for _ in 0..rounds {
                sampler.validated(&accuracy[..macs.len()], Some(DropRule { margin: 0.05, validations: 2 }));
            }
            let shares = sampler.probabilities();
            prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            let others_left = sampler.dropped()[2..].iter().any(|dropped| !dropped);
            prop_assert!(!others_left || shares[0] + shares[1] >= share - 1e-9);
            for (share, dropped) in shares.iter().zip(sampler.dropped()) {
                prop_assert_eq!(*share == 0.0, *dropped);
            }
        }

        #[test]
        fn draws_follow_the_probabilities_and_are_counted(
            macs in prop::collection::vec(1u64..10_000, 3..12),
            rule in rules(),
            seed in any::<u64>(),
        ) {
            let mut sampler = Sampler::new(&candidates(&macs, 2), SamplerSettings { anchor_share: 0.3, ..settings(rule) });
            let shares = sampler.probabilities();
            for step in 0..4000 {
                sampler.draw(&mut Random::new(seed, Purpose::Draw, step));
            }
            prop_assert_eq!(sampler.counts().iter().sum::<u64>(), 4000);
            for (&count, share) in sampler.counts().iter().zip(shares) {
                let deviation = (4000.0 * share * (1.0 - share)).sqrt();
                prop_assert!((count as f64 - 4000.0 * share).abs() < 6.0 * deviation + 1.0);
            }
        }

        #[test]
        fn groups_are_runs_of_similar_cost(macs in prop::collection::vec(1u64..100_000, 1..50), groups in 1usize..20) {
            let (group, count) = groups_of(&macs, groups);
            let gap = (macs.iter().max().unwrap() - macs.iter().min().unwrap()) as f64 / groups as f64;
            prop_assert!(count <= groups + 1);
            for a in 0..macs.len() {
                prop_assert!(group[a] < count);
                for b in 0..macs.len() {
                    prop_assert!(macs[a] >= macs[b] || group[a] <= group[b]);
                    prop_assert!(group[a] != group[b] || (macs[a].abs_diff(macs[b])) as f64 <= gap);
                }
            }
        }
    }
}
