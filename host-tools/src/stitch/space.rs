//! Enumeration of a family's candidates: every anchor, then every path that changes anchors.
//!
//! Order fixes ids. Anchors come first, by cost. Then, fast to slow ("Stitchable Neural Networks", Pan et al., CVPR 2023):
//! stage by stage the pairs of anchors, each with its positions in the order of [`super::pairs`]; then paths of two
//! crossings by their anchors, and so on. Two-way (SN-Netv2): for each pair of anchors SL, LS, LSL, SLS.

use std::collections::HashMap;

use super::adapter::Adapter;
use super::pairs;
use super::{Candidate, Crossing, LayerSpec, Leg, Space, StitchError};
use crate::family::{AnchorPairs, Directions, Family, FinalNorm};
use crate::graph::{Graph, Op};
use lanes::Lane;

pub mod figures;
mod lanes;

/// Enumerates all candidates of a family.
///
/// # Errors
/// [`StitchError::NoPosition`] when two neighbouring anchors share no position, [`StitchError::Segment`] when an anchor
/// cannot be cut at one of its cuts.
pub fn enumerate(family: &Family) -> Result<Space, StitchError> {
    let mut builder = Builder::new(family);
    builder.anchors();
    match family.config.stitching.directions {
        Directions::FastToSlow => builder.fast_to_slow()?,
        Directions::TwoWay => builder.both_ways()?,
    }
    builder.check_neighbours()?;
    Ok(builder.space)
}

/// A crossing with its layer, and how paths name it.
#[derive(Debug, Clone)]
struct Link {
    crossing: Crossing,
    layer: usize,
    /// Where the path leaves, e.g. `16x16/0`.
    leaves: String,
    /// Where it goes on.
    enters: String,
    /// Nothing of the anchor's blocks is left behind it.
    at_exit: bool,
}

struct Builder<'a> {
    family: &'a Family,
    space: Space,
    ledger: figures::Ledger<'a>,
}

impl<'a> Builder<'a> {
    fn new(family: &'a Family) -> Self {
        let space = Space { candidates: Vec::new(), layers: Vec::new(), warnings: family.stage_warnings() };
        Self { family, space, ledger: figures::Ledger::new(family) }
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

    /// Pairs of anchors that are joined directly, the smaller one first.
    fn joined(&self) -> Vec<(usize, usize)> {
        let count = self.family.anchors.len();
        let reach = match self.family.config.stitching.pairs {
            AnchorPairs::Nearest => 1,
            AnchorPairs::All => count,
        };
        (0..count)
            .flat_map(|small| (small + 1..count.min(small + 1 + reach)).map(move |large| (small, large)))
            .collect()
    }

    fn fast_to_slow(&mut self) -> Result<(), StitchError> {
        let mut links: HashMap<(usize, usize), Vec<Link>> = HashMap::new();
        for stage in lanes::stages(self.family) {
            for pair in self.joined() {
                let Some((from, to)) = lanes::lanes(self.family, pair, stage) else { continue };
                let found = pairs::positions(from.outputs.len(), to.outputs.len(), &self.family.config.stitching);
                let found = self.links(&from, &to, &found.list);
                for link in &found {
                    self.path(&[link])?;
                }
                links.entry(pair).or_default().extend(found);
            }
        }
        for crossings in 2..=self.family.config.stitching.crossings {
            for anchors in self.chains(crossings) {
                let lists: Vec<&[Link]> = anchors
                    .windows(2)
                    .map(|pair| links.get(&(pair[0], pair[1])).map_or(&[][..], Vec::as_slice))
                    .collect();
                for path in paths(&lists) {
                    self.path(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Ascending sequences of anchors in which neighbours are joined directly.
    fn chains(&self, crossings: usize) -> Vec<Vec<usize>> {
        let joined = self.joined();
        let mut chains: Vec<Vec<usize>> = (0..self.family.anchors.len()).map(|anchor| vec![anchor]).collect();
        for _ in 0..crossings {
            let longer = |chain: &Vec<usize>| {
                let last = chain.last().copied();
                let next = joined.iter().filter(move |(small, _)| Some(*small) == last).map(|&(_, large)| large);
                let chain = chain.clone();
                next.map(move |large| [chain.as_slice(), &[large]].concat()).collect::<Vec<_>>()
            };
            chains = chains.iter().flat_map(longer).collect();
        }
        chains
    }

    fn both_ways(&mut self) -> Result<(), StitchError> {
        for (small, large) in self.joined() {
            let (mut up, mut down) = (Vec::new(), Vec::new());
            let lanes: Vec<(Lane, Lane)> =
                lanes::stages(self.family).filter_map(|s| lanes::lanes(self.family, (small, large), s)).collect();
            for (from, to) in &lanes {
                up.extend(self.links(from, to, &pairs::two_way(from.outputs.len(), to.outputs.len()).up));
            }
            for (to, from) in &lanes {
                down.extend(self.links(from, to, &pairs::two_way(to.outputs.len(), from.outputs.len()).down));
            }
            for link in up.iter().chain(&down) {
                self.path(&[link])?;
            }
            if self.family.config.stitching.crossings < 2 {
                continue;
            }
            let useful: Vec<Link> = up.iter().filter(|link| !link.at_exit).cloned().collect();
            for path in paths(&[&down, &useful]).into_iter().chain(paths(&[&up, &down])) {
                self.path(&path)?;
            }
        }
        Ok(())
    }

    /// Crossings at the given positions, their stitching layers added to the space.
    fn links(&mut self, from: &Lane, to: &Lane, positions: &[pairs::Pair]) -> Vec<Link> {
        // Cuts of one stage may differ in channels, so a layer is shared only among equal shapes.
        let mut shared: HashMap<(usize, usize, usize, bool), usize> = HashMap::new();
        let mut links = Vec::new();
        for pair in positions {
            let Some(entry) = to.inputs[pair.end] else { continue };
            let crossing = Crossing { from: (from.anchor, from.outputs[pair.front]), to: (to.anchor, entry) };
            let (in_channels, out_channels) = (self.channels(crossing.from), self.channels(crossing.to));
            let Some(adapter) = Adapter::between(self.shape(crossing.from), self.shape(crossing.to)) else { continue };
            let (fresh, makes_token) = (self.space.layers.len(), adapter.has_token_map());
            let id = *shared.entry((pair.layer, in_channels, out_channels, makes_token)).or_insert(fresh);
            if id == fresh {
                let (from, to, uses) = (from.anchor, to.anchor, Vec::new());
                let rank = self.family.config.stitching.rank_between(in_channels, out_channels);
                self.space.layers.push(LayerSpec { id, from, to, in_channels, out_channels, rank, makes_token, uses });
            }
            self.space.layers[id].uses.push(crossing);
            links.push(Link {
                crossing,
                layer: id,
                leaves: format!("{}{}", from.label, pair.front),
                enters: format!("{}{}", to.label, pair.end),
                at_exit: pair.end == to.outputs.len(),
            });
        }
        links
    }

    /// Adds the path that changes anchors at these crossings.
    fn path(&mut self, links: &[&Link]) -> Result<(), StitchError> {
        let (mut legs, mut path) = (Vec::new(), String::new());
        let (mut entered, mut label) = (None, "");
        for link in links {
            let (anchor, cut) = link.crossing.from;
            legs.push(Leg { anchor, from: entered, to: Some(cut) });
            path += &format!("{}[{label}..{}] > ", self.family.anchors[anchor].name, link.leaves);
            (entered, label) = (Some(link.crossing.to.1), &link.enters);
        }
        let last = links.last().map_or(0, |link| link.crossing.to.0);
        legs.push(Leg { anchor: last, from: entered, to: None });
        path += &format!("{}[{label}..]", self.family.anchors[last].name);
        let layers = links.iter().map(|link| link.layer).collect();
        let mut candidate = Candidate { id: 0, path, legs, layers, macs: 0, params: 0 };
        let figures = self.ledger.figures(&candidate, figures::Count::Macs)?;
        (candidate.macs, candidate.params) = (figures.operations, figures.params);
        self.push(candidate);
        Ok(())
    }

    fn shape(&self, (anchor, cut): (usize, usize)) -> &'a [usize] {
        &self.family.anchors[anchor].cuts[cut].shape
    }

    fn channels(&self, at: (usize, usize)) -> usize {
        self.shape(at).last().copied().unwrap_or(1)
    }

    fn check_neighbours(&self) -> Result<(), StitchError> {
        for (small, pair) in self.family.anchors.windows(2).enumerate() {
            if self.space.layers.iter().any(|layer| layer.from == small) {
                continue;
            }
            let reason = if self.family.shared_stages(small).is_empty() {
                lanes::no_common_grid(self.family, &pair[0], &pair[1])
            } else {
                "the stages they share are skipped, or have too few blocks for these stitching settings".to_owned()
            };
            return Err(StitchError::NoPosition {
                small: pair[0].name.clone(),
                large: pair[1].name.clone(),
                reason,
                cuts: format!("{}\n{}", pair[0].describe_cuts(), pair[1].describe_cuts()),
            });
        }
        Ok(())
    }
}

/// One link of each list, first lists outermost, such that every anchor in between runs at least one block.
fn paths<'l>(lists: &[&'l [Link]]) -> Vec<Vec<&'l Link>> {
    lists.iter().fold(vec![Vec::new()], |paths: Vec<Vec<&Link>>, list| {
        let longer = |path: &Vec<&'l Link>| {
            let entered = path.last().map(|link| link.crossing.to.1);
            let fits = list.iter().filter(move |link| entered.is_none_or(|cut| link.crossing.from.1 > cut));
            let path = path.clone();
            fits.map(move |link| [path.as_slice(), &[link]].concat()).collect::<Vec<_>>()
        };
        paths.iter().flat_map(longer).collect()
    })
}

/// The part of an anchor that a leg runs, as a graph of its own. With [`FinalNorm::Skipped`] the layer norm behind the last
/// cut is left out of legs that enter the anchor behind its start.
///
/// # Errors
/// [`StitchError::Segment`] when the graph cannot be cut there.
pub fn segment(family: &Family, leg: Leg) -> Result<Graph, StitchError> {
    let mut graph = whole_segment(family, leg)?;
    if family.config.stitching.final_norm == FinalNorm::Skipped && leg.from.is_some() && leg.to.is_none() {
        let last = family.anchors[leg.anchor].cuts.last().map_or("", |cut| cut.tensor.as_str());
        skip_norm(&mut graph, last);
    }
    Ok(graph)
}

/// Turns the layer norm that reads a tensor into a copy.
fn skip_norm(graph: &mut Graph, tensor: &str) {
    let reads = |node: &crate::graph::Node| node.inputs.iter().any(|&input| graph.tensor(input) == tensor);
    let norm = graph.nodes.iter().position(|node| matches!(node.op, Op::LayerNorm { .. }) && reads(node));
    if let Some(index) = norm {
        graph.nodes[index].op = Op::Reshape;
    }
}

fn whole_segment(family: &Family, leg: Leg) -> Result<Graph, StitchError> {
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
mod published;
#[cfg(test)]
mod tests;
