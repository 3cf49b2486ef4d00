//! Enumeration of a family's candidates: every anchor, then every single crossing from an anchor to the next larger one.
//!
//! Order fixes ids: anchors by cost; then, stage by stage, the neighbouring pairs of anchors from small to large, each with
//! its positions in the order of [`super::pairs`].

use std::collections::HashMap;

use super::pairs;
use super::{Candidate, Crossing, LayerSpec, Leg, Space, StitchError};
use crate::family::{Family, SpaceKind};
use crate::graph::{Graph, cost};

/// Enumerates all candidates of a family.
///
/// # Errors
/// [`StitchError::NoPosition`] when two neighbouring anchors share no position, [`StitchError::Segment`] when an anchor
/// cannot be cut at one of its cuts.
pub fn enumerate(family: &Family) -> Result<Space, StitchError> {
    let mut builder = Builder::new(family);
    builder.anchors();
    for sequences in sequences(family) {
        builder.stitches(&sequences)?;
    }
    builder.check_neighbours()?;
    Ok(builder.space)
}

/// Two aligned sequences of blocks, one in each of two neighbouring anchors.
struct Sequences {
    /// Index of the smaller anchor; the larger one follows.
    small: usize,
    /// Prefix of block numbers in paths, empty when an anchor has a single sequence.
    label: String,
    /// Cuts of the smaller anchor by front block.
    fronts: Vec<usize>,
    /// Cuts of the larger anchor by end block; `None` where no cut precedes the block.
    ends: Vec<Option<usize>>,
    /// Blocks of the larger anchor.
    end_depth: usize,
}

fn sequences(family: &Family) -> Vec<Sequences> {
    let neighbours = 0..family.anchors.len().saturating_sub(1);
    match family.config.stitching.space {
        SpaceKind::Blocks => neighbours.filter_map(|small| block_sequences(family, small)).collect(),
        SpaceKind::Stages => (0..family.stages.len())
            .filter(|stage| !family.config.stitching.skip_stages.contains(stage))
            .flat_map(|stage| neighbours.clone().filter_map(move |small| stage_sequences(family, small, stage)))
            .collect(),
    }
}

fn stage_sequences(family: &Family, small: usize, stage: usize) -> Option<Sequences> {
    let fronts = family.anchors[small].stage_cuts(stage);
    let entered = family.anchors[small + 1].stage_cuts(stage);
    if fronts.is_empty() || entered.is_empty() {
        return None;
    }
    let end_depth = entered.len();
    let ends = std::iter::once(None).chain(entered.into_iter().map(Some)).collect();
    Some(Sequences { small, label: format!("{}/", family.stages[stage]), fronts, ends, end_depth })
}

fn block_sequences(family: &Family, small: usize) -> Option<Sequences> {
    let longest = |anchor: usize| {
        let runs = (0..family.stages.len()).map(|stage| family.anchors[anchor].stage_cuts(stage));
        // The first of equally long runs.
        runs.rev().max_by_key(Vec::len).filter(|run| run.len() > 1)
    };
    let (fronts, ends) = (longest(small)?, longest(small + 1)?);
    let stage = |anchor: usize, cuts: &[usize]| family.anchors[anchor].cuts[cuts[0]].stage;
    if stage(small, &fronts) != stage(small + 1, &ends) {
        return None;
    }
    let end_depth = ends.len() - 1;
    Some(Sequences {
        small,
        label: String::new(),
        fronts: fronts[1..].to_vec(),
        ends: ends.into_iter().map(Some).collect(),
        end_depth,
    })
}

struct Builder<'a> {
    family: &'a Family,
    space: Space,
    /// Cost of what an anchor runs on one side of a cut.
    segments: HashMap<Leg, (u64, u64)>,
}

impl<'a> Builder<'a> {
    fn new(family: &'a Family) -> Self {
        let space = Space { candidates: Vec::new(), layers: Vec::new(), warnings: family.stage_warnings() };
        Self { family, space, segments: HashMap::new() }
    }

    fn anchors(&mut self) {
        for (index, anchor) in self.family.anchors.iter().enumerate() {
            self.push(Candidate {
                id: 0,
                path: anchor.name.clone(),
                legs: vec![Leg { anchor: index, from: None, to: None }],
                layers: Vec::new(),
                macs: anchor.macs,
                params: anchor.params,
            });
        }
    }

    fn push(&mut self, mut candidate: Candidate) {
        candidate.id = u32::try_from(self.space.candidates.len()).expect("a space of 2^32 candidates cannot be built");
        self.space.candidates.push(candidate);
    }

    fn stitches(&mut self, sequences: &Sequences) -> Result<(), StitchError> {
        let found = pairs::positions(sequences.fronts.len(), sequences.end_depth, &self.family.config.stitching);
        // Cuts of one stage may differ in channels, so a layer is shared only among equal shapes.
        let mut shared: HashMap<(usize, usize, usize), usize> = HashMap::new();
        for pair in found.list {
            let Some(entry) = sequences.ends[pair.end] else { continue };
            let crossing =
                Crossing { from: (sequences.small, sequences.fronts[pair.front]), to: (sequences.small + 1, entry) };
            let (in_channels, out_channels) = (self.channels(crossing.from), self.channels(crossing.to));
            let fresh = self.space.layers.len();
            let id = *shared.entry((pair.layer, in_channels, out_channels)).or_insert(fresh);
            if id == fresh {
                let (from, to) = (sequences.small, sequences.small + 1);
                self.space.layers.push(LayerSpec { id, from, to, in_channels, out_channels, uses: Vec::new() });
            }
            self.space.layers[id].uses.push(crossing);
            let names = [&self.family.anchors[sequences.small].name, &self.family.anchors[sequences.small + 1].name];
            let label = &sequences.label;
            let path = format!("{}[..{label}{}] > {}[{label}{}..]", names[0], pair.front, names[1], pair.end);
            self.stitch(crossing, id, path)?;
        }
        Ok(())
    }

    fn stitch(&mut self, crossing: Crossing, layer: usize, path: String) -> Result<(), StitchError> {
        let front = Leg { anchor: crossing.from.0, from: None, to: Some(crossing.from.1) };
        let end = Leg { anchor: crossing.to.0, from: Some(crossing.to.1), to: None };
        let (front_cost, end_cost) = (self.cost(front)?, self.cost(end)?);
        let shape = &self.family.anchors[crossing.to.0].cuts[crossing.to.1].shape;
        let positions: usize = shape.iter().rev().skip(1).product();
        let spec = &self.space.layers[layer];
        let weights = (spec.in_channels * spec.out_channels) as u64;
        let (macs, params) = (positions as u64 * weights, weights + spec.out_channels as u64);
        self.push(Candidate {
            id: 0,
            path,
            legs: vec![front, end],
            layers: vec![layer],
            macs: front_cost.0 + macs + end_cost.0,
            params: front_cost.1 + params + end_cost.1,
        });
        Ok(())
    }

    fn cost(&mut self, leg: Leg) -> Result<(u64, u64), StitchError> {
        if let Some(&known) = self.segments.get(&leg) {
            return Ok(known);
        }
        let graph = segment(self.family, leg)?;
        let figures = (cost::macs(&graph), cost::params(&graph));
        self.segments.insert(leg, figures);
        Ok(figures)
    }

    fn channels(&self, (anchor, cut): (usize, usize)) -> usize {
        self.family.anchors[anchor].cuts[cut].shape.last().copied().unwrap_or(1)
    }

    fn check_neighbours(&self) -> Result<(), StitchError> {
        for (small, pair) in self.family.anchors.windows(2).enumerate() {
            if self.space.layers.iter().any(|layer| layer.from == small) {
                continue;
            }
            let reason = if self.family.shared_stages(small).is_empty() {
                "no cuts with the same grid"
            } else {
                "the stages they share are skipped, or have too few blocks for these stitching settings"
            };
            return Err(StitchError::NoPosition {
                small: pair[0].name.clone(),
                large: pair[1].name.clone(),
                reason: reason.to_owned(),
                cuts: format!("{}\n{}", pair[0].describe_cuts(), pair[1].describe_cuts()),
            });
        }
        Ok(())
    }
}

/// The part of an anchor that a leg runs, as a graph of its own.
///
/// # Errors
/// [`StitchError::Segment`] when the graph cannot be cut there.
pub fn segment(family: &Family, leg: Leg) -> Result<Graph, StitchError> {
    let anchor = &family.anchors[leg.anchor];
    let value = |cut: Option<usize>| cut.map(|index| anchor.cuts[index].value);
    anchor.graph.segment(value(leg.from), value(leg.to)).map_err(|source| {
        let tensor =
            |cut: Option<usize>, end: &str| cut.map_or(end.to_owned(), |index| anchor.cuts[index].tensor.clone());
        StitchError::Segment {
            anchor: anchor.name.clone(),
            from: tensor(leg.from, "the input"),
            to: tensor(leg.to, "the output"),
            source: Box::new(source),
        }
    })
}

#[cfg(test)]
mod tests;
