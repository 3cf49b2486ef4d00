//! Aligned sequences of blocks in two anchors, and why there may be none.

use crate::family::{Anchor, Family, SpaceKind};

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

/// The lanes of two anchors in a stage (`None`: their longest runs); `None` if one of them has no blocks there.
pub fn lanes(family: &Family, (small, large): (usize, usize), stage: Option<usize>) -> Option<(Lane, Lane)> {
    match stage {
        Some(stage) => Some((stage_lane(family, small, stage)?, stage_lane(family, large, stage)?)),
        None => {
            let (a, b) = (longest(family, small)?, longest(family, large)?);
            let stage = |anchor: usize, cuts: &[usize]| family.anchors[anchor].cuts[cuts[0]].stage;
            (stage(small, &a) == stage(large, &b)).then(|| (block_lane(small, &a), block_lane(large, &b)))
        }
    }
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
pub fn no_common_grid(small: &Anchor, large: &Anchor) -> String {
    let grids = |anchor: &Anchor| {
        let mut grids: Vec<Vec<usize>> =
            anchor.cuts.iter().map(|cut| cut.shape[..cut.shape.len().saturating_sub(1)].to_vec()).collect();
        grids.dedup();
        grids
    };
    let positions = |grid: &[usize]| grid.iter().product::<usize>();
    let mut reason = "no cuts with the same grid".to_owned();
    for a in grids(small) {
        for b in grids(large) {
            let (more, less) = if positions(&a) > positions(&b) { (small, large) } else { (large, small) };
            let difference = positions(&a).abs_diff(positions(&b));
            if difference == 1 || difference == 2 {
                let (most, fewest) = (positions(&a).max(positions(&b)), positions(&a).min(positions(&b)));
                reason += &format!(
                    "; {} has {most} tokens where {} has {fewest} positions, so it carries {difference} class token(s): \
                     an adapter has to drop them on the way out and add them on the way in",
                    more.name, less.name
                );
                return reason;
            }
        }
    }
    reason + "; export the anchors at input sizes that give equal grids, or resample between them with an adapter"
}
