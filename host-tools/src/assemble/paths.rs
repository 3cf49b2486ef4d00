//! Paths with several crossings, composed of the single crossings that a family was studied with.

use super::search::{Costs, Edge, Network, Path};
use crate::compile::{cost, memory};
use crate::family::Family;
use crate::fleet::Need;
use crate::quantize::integer::{IntegerBlock, flatten};
use crate::quantize::pieces::PieceKind;
use crate::stitch::space::figures::{Count, Ledger};
use crate::stitch::{Candidate, Crossing, Leg};
use crate::study::Study;

/// The network of a family's blocks and crossings, with estimated accuracies: a path has that of its first anchor, and
/// every crossing changes it by as much as it did where it was the only one.
#[derive(Debug)]
pub struct Blocks<'a> {
    family: &'a Family,
    study: &'a Study,
    /// The search space.
    pub network: Network,
    /// For each edge the single-crossing candidate it crosses with.
    crosses: Vec<Option<usize>>,
}

/// Where a path may be: the nodes of an anchor are numbered by cut, one for arriving there by a crossing and one for having
/// run the block before it. A crossing leaves only the latter, so that two crossings have a block between them.
#[derive(Clone, Copy)]
struct Place {
    anchor: usize,
    cut: usize,
    arrived: bool,
}

impl<'a> Blocks<'a> {
    /// Builds the network from a study of all anchors and single crossings, with the latencies of a board.
    #[must_use]
    pub fn new(family: &'a Family, study: &'a Study, need: &Need) -> Self {
        let mut blocks = Self { family, study, network: Network::default(), crosses: Vec::new() };
        blocks.network.nodes = blocks.end() + 1;
        blocks.anchors(need);
        blocks.crossings(need);
        blocks
    }

    fn node(&self, place: Place) -> usize {
        let before: usize = self.family.anchors[..place.anchor].iter().map(|a| 2 * (a.cuts.len() + 2)).sum();
        1 + before + 2 * place.cut + usize::from(!place.arrived)
    }

    fn end(&self) -> usize {
        let anchor = self.family.anchors.len();
        self.node(Place { anchor, cut: 0, arrived: true })
    }

    fn push(&mut self, from: usize, to: usize, costs: Costs, gain: f64, crosses: Option<usize>) {
        self.network.edges.push(Edge { from, to, costs, gain });
        self.crosses.push(crosses);
    }

    /// Edges that enter an anchor at the image, run one block, or end. Position `cut` of a place is the number of cuts behind
    /// it, so the image is 0 and cut `i` is `i + 1`.
    fn anchors(&mut self, need: &Need) {
        for anchor in 0..self.family.anchors.len() {
            let cuts = self.family.anchors[anchor].cuts.len();
            let place = |cut, arrived| Place { anchor, cut, arrived };
            let accuracy = self.study.accuracy[anchor].1;
            self.push(0, self.node(place(0, true)), Costs::default(), accuracy, None);
            for index in 0..=cuts {
                let costs = self.costs_of(PieceKind::Segment { anchor, index, behind: None }, need);
                let to = self.node(place(index + 1, false));
                for arrived in [true, false] {
                    self.push(self.node(place(index, arrived)), to, costs, 0.0, None);
                }
            }
            self.push(self.node(place(cuts + 1, false)), self.end(), Costs::default(), 0.0, None);
        }
    }

    fn crossings(&mut self, need: &Need) {
        for (index, candidate) in self.study.candidates.iter().enumerate() {
            let Some(crossing) = single_crossing(candidate) else { continue };
            let (from, to) = (crossing.from, crossing.to);
            let gain = self.study.accuracy[index].1 - self.study.accuracy[from.0].1;
            let costs = Costs { crossings: 1, ..self.costs_of_stitch(candidate, need) };
            let leave = self.node(Place { anchor: from.0, cut: from.1 + 1, arrived: false });
            let enter = self.node(Place { anchor: to.0, cut: to.1 + 1, arrived: true });
            self.push(leave, enter, costs, gain, Some(index));
        }
    }

    fn costs_of(&self, kind: PieceKind, need: &Need) -> Costs {
        let (pieces, blocks) = self.study.compiled.pieces();
        let found = pieces.pieces.iter().position(|piece| piece.kind == kind);
        found.map_or_else(Costs::default, |index| block_costs(&blocks[index], need))
    }

    /// Costs of the stitching layer of a single-crossing candidate.
    fn costs_of_stitch(&self, candidate: &Candidate, need: &Need) -> Costs {
        let (pieces, blocks) = self.study.compiled.pieces();
        let position = self.study.compiled.candidates().iter().position(|c| c.id == candidate.id);
        let route = position.map_or(&[][..], |at| pieces.routes[at].as_slice());
        let stitch = route.iter().find(|&&piece| matches!(pieces.pieces[piece].kind, PieceKind::Stitch { .. }));
        stitch.map_or_else(Costs::default, |&piece| block_costs(&blocks[piece], need))
    }

    /// A path with at least two crossings as a candidate; `None` for the others, which the study holds already.
    #[must_use]
    pub fn candidate(&self, path: &Path, id: u32) -> Option<Candidate> {
        let crossed: Vec<&Candidate> =
            path.edges.iter().filter_map(|&e| self.crosses[e]).map(|i| &self.study.candidates[i]).collect();
        if crossed.len() < 2 {
            return None;
        }
        let crossings: Vec<Crossing> = crossed.iter().filter_map(|c| single_crossing(c)).collect();
        let mut legs = Vec::new();
        let (mut anchor, mut from) = (crossings[0].from.0, None);
        for crossing in &crossings {
            legs.push(Leg { anchor, from, to: Some(crossing.from.1) });
            (anchor, from) = (crossing.to.0, Some(crossing.to.1));
        }
        legs.push(Leg { anchor, from, to: None });
        let layers: Vec<usize> = crossed.iter().flat_map(|c| c.layers.clone()).collect();
        let mut candidate = Candidate { id, path: joined(&crossed), legs, layers, macs: 0, params: 0 };
        let figures = Ledger::new(self.family).figures(&candidate, Count::Macs).ok()?;
        (candidate.macs, candidate.params) = (figures.operations, figures.params);
        Some(candidate)
    }
}

/// `a[..x] > b[y..]` and `b[..z] > c[w..]` to `a[..x] > b[y..z] > c[w..]`.
fn joined(crossed: &[&Candidate]) -> String {
    let mut text = String::new();
    for candidate in crossed {
        let Some((left, right)) = candidate.path.split_once(" > ") else { continue };
        match text.is_empty() {
            true => text = candidate.path.clone(),
            false => {
                let to = left.rsplit_once("[..").map_or("]", |(_, to)| to);
                text.truncate(text.len() - 1);
                text += &format!("{to} > {right}");
            }
        }
    }
    text
}

fn single_crossing(candidate: &Candidate) -> Option<Crossing> {
    let &[front, end] = candidate.legs.as_slice() else { return None };
    Some(Crossing { from: (front.anchor, front.to?), to: (end.anchor, end.from?) })
}

fn block_costs(block: &IntegerBlock, need: &Need) -> Costs {
    let works = block.steps.iter().map(|step| cost::work(&step.kernel, need.filters));
    let bound = memory::lower_bound_bytes(block.input.len() as u32, &flatten([block]));
    let flash = |step: &crate::quantize::integer::IntegerStep| step.kernel.weights().len() as u64;
    Costs {
        latency_ps: works.map(|work| need.model.step_ps(&work)).fold(0, u64::saturating_add),
        flash_bytes: block.steps.iter().map(flash).sum(),
        crossings: 0,
        ram_bytes: if block.steps.is_empty() { 0 } else { bound.unwrap_or(0).into() },
    }
}
