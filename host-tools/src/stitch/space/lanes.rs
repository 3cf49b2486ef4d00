//! Aligned sequences of blocks in two anchors, and why there may be none.

use crate::family::{Adapters, Anchor, Family, SpaceKind};
use crate::stitch::adapter::Adapter;

/// The blocks of one anchor that are aligned with those of another.
#[derive(Debug, Clone)]
pub struct Lane {
    /// Index of the anchor in the family.
    pub anchor: usize,
    /// Prefix of block numbers in paths, empty when an anchor has a single sequence.
    pub label: String,
    /// Cut behind each block.
    pub outputs: Vec<usize>,
    /// Cut before each block and behind the last; `None` where no cut precedes the block.
    pub inputs: Vec<Option<usize>>,
}

/// Sequences to align, in order: stages that are not skipped, or the one sequence of a plain network.
pub fn stages(family: &Family) -> Box<dyn Iterator<Item = Option<usize>> + '_> {
    match family.config.stitching.space {
        SpaceKind::Blocks => Box::new(std::iter::once(None)),
        SpaceKind::Stages => {
            let skipped = &family.config.stitching.skip_stages;
            Box::new((0..family.stages.len()).filter(|stage| !skipped.contains(stage)).map(Some))
        }
    }
}

/// The lanes of two anchors in a stage (`None`: their longest runs); `None` if one of them has no blocks there. With
/// adapters, anchors that share no stage are joined between the stages that are nearest in positions.
pub fn lanes(family: &Family, (small, large): (usize, usize), stage: Option<usize>) -> Option<(Lane, Lane)> {
    match stage {
        Some(stage) => {
            let partner = partner(family, (small, large), stage)?;
            Some((stage_lane(family, small, stage)?, stage_lane(family, large, partner)?))
        }
        None => {
            let (a, b) = (longest(family, small)?, longest(family, large)?);
            let cut = |anchor: usize, cuts: &[usize]| &family.anchors[anchor].cuts[cuts[0]];
            let (from, to) = (cut(small, &a), cut(large, &b));
            let is_adapted = || adapts(family) && Adapter::between(&from.shape, &to.shape).is_some();
            (from.stage == to.stage || is_adapted()).then(|| (block_lane(small, &a), block_lane(large, &b)))
        }
    }
}

fn adapts(family: &Family) -> bool {
    family.config.stitching.adapters == Adapters::Allowed
}

/// The stage of the larger anchor that a stage of the smaller one is joined to.
fn partner(family: &Family, (small, large): (usize, usize), stage: usize) -> Option<usize> {
    let has = |anchor: usize, stage: usize| family.anchors[anchor].cuts.iter().any(|cut| cut.stage == stage);
    let stages = || 0..family.stages.len();
    if !adapts(family) || stages().any(|stage| has(small, stage) && has(large, stage)) {
        return Some(stage);
    }
    let shape = |anchor: usize, stage: usize| {
        family.anchors[anchor].cuts.iter().find(|cut| cut.stage == stage).map_or(&[][..], |cut| cut.shape.as_slice())
    };
    let positions = |shape: &[usize]| shape.iter().rev().skip(1).product::<usize>().max(1) as f64;
    let distance = |a: usize, b: usize| (positions(shape(small, a)).ln() - positions(shape(large, b)).ln()).abs();
    let joined = |a: usize, b: usize| Adapter::between(shape(small, a), shape(large, b)).is_some();
    let nearest_of = |a: usize| {
        let candidates = stages().filter(|&b| has(large, b) && joined(a, b));
        candidates.min_by(|&x, &y| distance(a, x).total_cmp(&distance(a, y)))
    };
    let found = nearest_of(stage)?;
    let rivals = stages().filter(|&a| has(small, a) && joined(a, found));
    let best = rivals.min_by(|&x, &y| distance(x, found).total_cmp(&distance(y, found)))?;
    (best == stage).then_some(found)
}

fn stage_lane(family: &Family, anchor: usize, stage: usize) -> Option<Lane> {
    let outputs = family.anchors[anchor].stage_cuts(stage);
    let inputs = std::iter::once(None).chain(outputs.iter().copied().map(Some)).collect();
    let label = format!("{}/", family.stages[stage]);
    (!outputs.is_empty()).then_some(Lane { anchor, label, outputs, inputs })
}

/// The first of an anchor's longest runs of cuts, if it holds more than one.
fn longest(family: &Family, anchor: usize) -> Option<Vec<usize>> {
    let runs = (0..family.stages.len()).map(|stage| family.anchors[anchor].stage_cuts(stage));
    runs.rev().max_by_key(Vec::len).filter(|run| run.len() > 1)
}

fn block_lane(anchor: usize, run: &[usize]) -> Lane {
    let inputs = run.iter().copied().map(Some).collect();
    Lane { anchor, label: String::new(), outputs: run[1..].to_vec(), inputs }
}

/// Why two anchors share no grid, and what would help.
pub fn no_common_grid(family: &Family, small: &Anchor, large: &Anchor) -> String {
    let adapter = |a: &[usize], b: &[usize]| Adapter::between(a, b).map(|adapter| adapter.describe());
    let mut ways: Vec<String> = Vec::new();
    for a in &small.cuts {
        for way in large.cuts.iter().filter_map(|b| adapter(&a.shape, &b.shape)).filter(|way| !way.is_empty()) {
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
    }
    // A class token alone is the cheapest difference; resampling costs detail.
    ways.sort_by_key(|way| way.contains("resamples"));
    let reason = "no cuts with the same grid".to_owned();
    match ways.first() {
        Some(way) if !adapts(family) => {
            format!("{reason}; `adapters = true` under [stitching] joins them with an adapter that {way}")
        }
        _ => reason + "; export the anchors at input sizes that give equal grids, or square ones",
    }
}
