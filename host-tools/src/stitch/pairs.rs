//! Stitching positions between two sequences of blocks, as pure functions of the depths.
//!
//! A position `(j, k)` runs the smaller anchor up to and including its block `j`, then the larger one from its block `k`
//! on. Sequences of equal depth use sliding windows, others nearest alignment; both follow "Stitchable Neural Networks"
//! (Pan et al., CVPR 2023), with two extensions: a smaller anchor that is the deeper one, and entries after the last block.

use std::collections::HashSet;

use crate::family::{Filter, LayerIds, StageExits, StitchingConfig};

/// A stitching position and the layer that serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pair {
    /// Last block run in the smaller anchor.
    pub front: usize,
    /// First block run in the larger anchor; its depth when entered after the last block.
    pub end: usize,
    /// Stitching layer, counted from 0 within the list.
    pub layer: usize,
}

/// The positions of one pair of sequences, in the order that fixes candidate ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairs {
    /// Positions in order.
    pub list: Vec<Pair>,
    /// Stitching layers of these sequences; released numbering may leave some without a position.
    pub layers: usize,
}

/// All positions between a smaller anchor's sequence of `front_depth` blocks and a larger anchor's of `end_depth`.
#[must_use]
pub fn positions(front_depth: usize, end_depth: usize, rule: &StitchingConfig) -> Pairs {
    let mut pairs =
        if front_depth == end_depth { windows(front_depth, rule) } else { aligned(front_depth, end_depth, rule) };
    if rule.layer_ids == LayerIds::Own {
        pairs.list.iter_mut().enumerate().for_each(|(index, pair)| pair.layer = index);
        pairs.layers = pairs.list.len();
    }
    pairs
}

/// Sliding windows of `kernel` blocks, `stride` apart, over two sequences of `depth` blocks. A window is one stitching
/// layer, shared by all positions first seen in it; windows that add no position have none.
#[must_use]
pub fn windows(depth: usize, rule: &StitchingConfig) -> Pairs {
    let ends = entries(depth, rule);
    let (mut list, mut seen, mut layer) = (Vec::new(), HashSet::new(), 0);
    for start in (0..depth).step_by(rule.stride.max(1)) {
        let added = list.len();
        for front in start..(start + rule.kernel).min(depth) {
            for end in start..(start + rule.kernel).min(ends) {
                if keeps(rule.filter, front, end) && seen.insert((front, end)) {
                    list.push(Pair { front, end, layer });
                }
            }
        }
        layer += usize::from(list.len() > added);
    }
    Pairs { list, layers: layer }
}

/// Nearest alignment of sequences of unequal depth: every block of the deeper sequence belongs to the block of the other
/// at the same relative depth, and each such pair is a position. One stitching layer per block of the shallower sequence.
#[must_use]
pub fn aligned(front_depth: usize, end_depth: usize, rule: &StitchingConfig) -> Pairs {
    if front_depth == 0 || end_depth == 0 {
        return Pairs { list: Vec::new(), layers: 0 };
    }
    if front_depth > end_depth {
        deeper_front(front_depth, end_depth, rule)
    } else {
        deeper_end(front_depth, end_depth, rule)
    }
}

fn deeper_end(front_depth: usize, end_depth: usize, rule: &StitchingConfig) -> Pairs {
    let nearest: Vec<usize> =
        (0..entries(end_depth, rule)).map(|end| (end * front_depth / end_depth).min(front_depth - 1)).collect();
    let mut list = Vec::new();
    for front in 0..front_depth {
        for (end, _) in nearest.iter().enumerate().filter(|&(_, &near)| near == front) {
            if !keeps(rule.filter, front, end) {
                continue;
            }
            let layer = match rule.layer_ids {
                LayerIds::Fixed | LayerIds::Own => front,
                LayerIds::Released => nearest[list.len()],
            };
            list.push(Pair { front, end, layer });
        }
    }
    Pairs { list, layers: front_depth }
}

/// The published method has no such case. Entering at the block that contains the front's end re-runs part of it, as
/// `deeper_end` does; the forward filter then only bars the entry at block 0, which would keep no saving.
fn deeper_front(front_depth: usize, end_depth: usize, rule: &StitchingConfig) -> Pairs {
    let mut list = Vec::new();
    for front in 0..front_depth {
        let end = front * end_depth / front_depth;
        if rule.filter == Filter::Any || end > 0 {
            list.push(Pair { front, end, layer: end });
        }
    }
    if rule.stage_exits == StageExits::Open {
        list.push(Pair { front: front_depth - 1, end: end_depth, layer: end_depth - 1 });
    }
    Pairs { list, layers: end_depth }
}

/// The depth-aligned positions of SN-Netv2 ("Stitched ViTs are Flexible Vision Backbones", Pan et al., ECCV 2024).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwoWay {
    /// From the smaller anchor to the larger one; the last position enters it after its last block.
    pub up: Vec<Pair>,
    /// From the larger anchor to the smaller one.
    pub down: Vec<Pair>,
}

/// Positions between a smaller and a larger anchor in both directions: each is left after and entered at the same relative
/// depth, and has a stitching layer of its own.
#[must_use]
pub fn two_way(small_depth: usize, large_depth: usize) -> TwoWay {
    let up = (0..small_depth).map(|i| Pair { front: i, end: (i + 1) * large_depth / small_depth, layer: i }).collect();
    let aligned = |end: usize| (end * large_depth / small_depth).checked_sub(1);
    let down = (1..small_depth).filter_map(|end| Some(Pair { front: aligned(end)?, end, layer: end - 1 })).collect();
    TwoWay { up, down }
}

/// One more than the largest end block.
fn entries(depth: usize, rule: &StitchingConfig) -> usize {
    match rule.stage_exits {
        StageExits::Closed => depth,
        StageExits::Open => depth + 1,
    }
}

fn keeps(filter: Filter, front: usize, end: usize) -> bool {
    filter == Filter::Any || front < end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{Adapters, AnchorPairs, Directions, FinalNorm, Norms, SharedLayers, SpaceKind};

    fn rule(kernel: usize, stride: usize, filter: Filter) -> StitchingConfig {
        StitchingConfig {
            space: SpaceKind::Stages,
            kernel,
            stride,
            filter,
            stage_exits: StageExits::Closed,
            layer_ids: LayerIds::Fixed,
            skip_stages: Vec::new(),
            pairs: AnchorPairs::Nearest,
            crossings: 1,
            directions: Directions::FastToSlow,
            final_norm: FinalNorm::Applied,
            rank: None,
            shared_layers: SharedLayers::Mean,
            norms: Norms::Anchor,
            adapters: Adapters::None,
            layers: None,
        }
    }

    fn triples(pairs: &Pairs) -> Vec<(usize, usize, usize)> {
        pairs.list.iter().map(|p| (p.front, p.end, p.layer)).collect()
    }

    #[test]
    fn two_way_positions_of_both_published_depths() {
        let places = |pairs: &[Pair]| pairs.iter().map(|p| (p.front, p.end)).collect::<Vec<_>>();
        let equal = two_way(12, 12);
        assert_eq!(places(&equal.up), (0..12).map(|i| (i, i + 1)).collect::<Vec<_>>());
        assert_eq!(places(&equal.down), (0..11).map(|i| (i, i + 1)).collect::<Vec<_>>());
        let double = two_way(12, 24);
        assert_eq!(places(&double.up), (0..12).map(|i| (i, 2 * i + 2)).collect::<Vec<_>>());
        assert_eq!(places(&double.down), (1..12).map(|t| (2 * t - 1, t)).collect::<Vec<_>>());
    }

    #[test]
    fn windows_of_depth_12_have_the_published_counts() {
        // kernel, stride, unfiltered (positions, layers), forward (positions, layers)
        let table = [
            (1, 1, (12, 12), (0, 0)),
            (2, 1, (34, 11), (11, 11)),
            (2, 2, (24, 6), (6, 6)),
            (3, 1, (54, 10), (21, 10)),
            (3, 2, (44, 6), (16, 6)),
            (3, 3, (36, 4), (12, 4)),
            (4, 1, (72, 9), (30, 9)),
            (4, 2, (64, 5), (26, 5)),
            (4, 4, (48, 3), (18, 3)),
            (6, 6, (72, 2), (30, 2)),
            (12, 12, (144, 1), (66, 1)),
        ];
        for (kernel, stride, any, forward) in table {
            for (filter, expected) in [(Filter::Any, any), (Filter::Forward, forward)] {
                let pairs = windows(12, &rule(kernel, stride, filter));
                assert_eq!((pairs.list.len(), pairs.layers), expected, "kernel {kernel} stride {stride} {filter:?}");
            }
        }
    }

    #[test]
    fn deit_positions_come_in_the_published_order_with_the_published_layers() {
        // SN-Net, results of DeiT-Ti/S/B: (front, end, layer) of ids 3 to 36, the same for 37 to 70.
        let mut expected = vec![(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)];
        for t in 1..11 {
            expected.extend([(t, t + 1, t), (t + 1, t, t), (t + 1, t + 1, t)]);
        }
        assert_eq!(triples(&positions(12, 12, &rule(2, 1, Filter::Any))), expected);
    }

    #[test]
    fn unpaired_stages_keep_published_positions_and_front_block_layers() {
        let rule = rule(2, 1, Filter::Forward);
        assert_eq!(triples(&positions(2, 4, &rule)), [(0, 1, 0), (1, 2, 1), (1, 3, 1)]);
        assert_eq!(triples(&positions(2, 6, &rule)), [(0, 1, 0), (0, 2, 0), (1, 3, 1), (1, 4, 1), (1, 5, 1)]);
        let swin = positions(6, 18, &rule);
        assert_eq!((swin.list.len(), swin.layers), (17, 6));
        assert!(swin.list.iter().all(|pair| pair.layer == pair.front && pair.end / 3 == pair.front));
    }

    #[test]
    fn released_layer_numbers_lag_behind_the_front_block() {
        let rule = StitchingConfig { layer_ids: LayerIds::Released, ..rule(2, 1, Filter::Forward) };
        // ResNet-18/50: ids 2 to 4 and 5 to 9 of the published results.
        assert_eq!(triples(&positions(2, 4, &rule)), [(0, 1, 0), (1, 2, 0), (1, 3, 1)]);
        assert_eq!(triples(&positions(2, 6, &rule)), [(0, 1, 0), (0, 2, 0), (1, 3, 0), (1, 4, 1), (1, 5, 1)]);
        let swin = triples(&positions(6, 18, &rule));
        assert_eq!(swin[..7], [(0, 1, 0), (0, 2, 0), (1, 3, 0), (1, 4, 1), (1, 5, 1), (2, 6, 1), (2, 7, 2)]);
        assert_eq!(swin[15..], [(5, 16, 5), (5, 17, 5)]);
    }

    #[test]
    fn own_layers_are_shared_by_no_two_positions() {
        let rule = StitchingConfig { layer_ids: LayerIds::Own, ..rule(2, 1, Filter::Any) };
        for (front_depth, end_depth) in [(12, 12), (6, 18), (5, 2)] {
            let pairs = positions(front_depth, end_depth, &rule);
            assert!(pairs.list.iter().map(|pair| pair.layer).eq(0..pairs.layers));
        }
    }

    #[test]
    fn open_stage_exits_let_stages_of_one_block_be_stitched() {
        let open = StitchingConfig { stage_exits: StageExits::Open, ..rule(2, 1, Filter::Forward) };
        assert_eq!(triples(&positions(1, 1, &open)), [(0, 1, 0)]);
        assert_eq!(triples(&positions(2, 2, &open)), [(0, 1, 0), (1, 2, 1)]);
        assert_eq!(triples(&positions(1, 2, &open)), [(0, 1, 0), (0, 2, 0)]);
        assert_eq!(triples(&positions(2, 3, &open)), [(0, 1, 0), (1, 2, 1), (1, 3, 1)]);
        assert!(positions(1, 1, &rule(2, 1, Filter::Forward)).list.is_empty());
    }

    #[test]
    fn a_deeper_smaller_anchor_enters_at_the_block_of_equal_relative_depth() {
        let open = StitchingConfig { stage_exits: StageExits::Open, ..rule(2, 1, Filter::Forward) };
        assert_eq!(triples(&positions(4, 2, &open)), [(2, 1, 1), (3, 1, 1), (3, 2, 1)]);
        let any = rule(2, 1, Filter::Any);
        assert_eq!(triples(&positions(3, 2, &any)), [(0, 0, 0), (1, 0, 0), (2, 1, 1)]);
    }

    #[test]
    fn every_position_is_listed_once_and_stays_inside_both_sequences() {
        for (front_depth, end_depth) in (0..9).flat_map(|f| (0..9).map(move |e| (f, e))) {
            for (filter, exits) in [(Filter::Any, StageExits::Closed), (Filter::Forward, StageExits::Open)] {
                let rule = StitchingConfig { stage_exits: exits, ..rule(3, 2, filter) };
                let pairs = positions(front_depth, end_depth, &rule);
                let distinct: HashSet<_> = pairs.list.iter().map(|p| (p.front, p.end)).collect();
                assert_eq!(distinct.len(), pairs.list.len());
                let inside =
                    |p: &Pair| p.front < front_depth && p.end < entries(end_depth, &rule) && p.layer < pairs.layers;
                assert!(pairs.list.iter().all(inside), "{front_depth} {end_depth} {pairs:?}");
            }
        }
    }
}
