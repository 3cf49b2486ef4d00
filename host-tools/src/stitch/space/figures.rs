//! What a candidate costs, from the graphs of its parts.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::super::adapter::{Adapter, Part};
use super::super::{Candidate, Leg, StitchError};
use super::{segment, whole_segment};
use crate::family::Family;
use crate::graph::{Graph, Op, cost, find_blocks};

/// Convention of counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Count {
    /// Multiply-accumulates of weights and of products of activations; parameters after folding.
    #[default]
    Macs,
    /// The papers' FLOPs, as fvcore counts them, and their parameters: without the class token, positions and patch-merging
    /// layers of anchors that a stitch leaves, and with the final norm even where it is skipped.
    Fvcore,
}

/// Cost of a candidate for one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Multiply-accumulates or FLOPs.
    pub operations: u64,
    /// Parameters.
    pub params: u64,
    /// Bytes of the parameters as 32-bit floats.
    pub weight_bytes: u64,
    /// Most bytes of activations alive at once, as 32-bit floats, when nodes run in order.
    pub activation_bytes: u64,
}

/// Figures of candidates of one family; those of shared parts are kept.
pub struct Ledger<'a> {
    family: &'a Family,
    known: HashMap<(Leg, Count), Figures>,
}

impl<'a> Ledger<'a> {
    /// An empty ledger.
    #[must_use]
    pub fn new(family: &'a Family) -> Self {
        Self { family, known: HashMap::new() }
    }

    /// Cost of a candidate.
    ///
    /// # Errors
    /// [`StitchError::Segment`] when an anchor cannot be cut where the path wants it.
    pub fn figures(&mut self, candidate: &Candidate, count: Count) -> Result<Figures, StitchError> {
        let mut sum = Figures { operations: 0, params: 0, weight_bytes: 0, activation_bytes: 0 };
        for &leg in &candidate.legs {
            let part = self.leg(leg, count)?;
            sum.operations += part.operations;
            sum.params += part.params;
            sum.activation_bytes = sum.activation_bytes.max(part.activation_bytes);
        }
        for pair in candidate.legs.windows(2) {
            let (from, to) = (self.shape(pair[0].anchor, pair[0].to), self.shape(pair[1].anchor, pair[1].from));
            let (inputs, outputs) = (channels(from), channels(to));
            let rank = self.family.config.stitching.rank_between(inputs as usize, outputs as usize);
            let weights = rank.map_or(inputs * outputs, |rank| rank as u64 * (inputs + outputs));
            let adapter = Adapter::between(from, to);
            let positions = adapter.as_ref().map_or(1, Adapter::map_positions) as u64;
            let tokens =
                adapter.filter(Adapter::has_token_map).map_or(0, |it| it.target_rows(Part::Token).len() as u64);
            sum.operations += positions * weights + tokens * inputs * outputs;
            sum.params += weights + outputs + u64::from(tokens > 0) * (inputs * outputs + outputs);
            sum.activation_bytes = sum.activation_bytes.max(4 * positions * (inputs + outputs));
        }
        sum.weight_bytes = 4 * sum.params;
        Ok(sum)
    }

    fn shape(&self, anchor: usize, cut: Option<usize>) -> &'a [usize] {
        cut.map_or(&[][..], |cut| &self.family.anchors[anchor].cuts[cut].shape)
    }

    fn leg(&mut self, leg: Leg, count: Count) -> Result<Figures, StitchError> {
        if let Some(&known) = self.known.get(&(leg, count)) {
            return Ok(known);
        }
        let graph = segment(self.family, leg)?;
        let (operations, params) = match count {
            Count::Macs => (cost::macs(&graph), cost::params(&graph)),
            Count::Fvcore => (cost::flops(&graph), self.published_params(leg)?),
        };
        let activation_bytes = 4 * cost::peak_activations(&graph);
        let figures = Figures { operations, params, weight_bytes: 4 * params, activation_bytes };
        self.known.insert((leg, count), figures);
        Ok(figures)
    }

    fn published_params(&self, leg: Leg) -> Result<u64, StitchError> {
        let params = cost::published_params(&whole_segment(self.family, leg)?);
        let leaves_stem = leg.from.is_none() && leg.to.is_some();
        if !leaves_stem {
            return Ok(params);
        }
        Ok(params.saturating_sub(self.embedding_constants(leg.anchor) + self.merging_params(leg)))
    }

    /// Class token and positions: the constants in front of an anchor's first block.
    fn embedding_constants(&self, anchor: usize) -> u64 {
        let graph = &self.family.anchors[anchor].graph;
        let embedded = find_blocks(graph).first().and_then(|stage| stage.input);
        let stem = embedded.and_then(|value| graph.segment(None, Some(value)).ok());
        stem.map_or(0, |stem| cost::constant_tensors(&stem))
    }

    /// Parameters of the patch-merging layers (a layer norm and one fully connected layer between two stages) that a leg
    /// from the image runs; the published tables of Swin leave them out.
    fn merging_params(&self, leg: Leg) -> u64 {
        let anchor = &self.family.anchors[leg.anchor];
        let end = leg.to.map(|cut| anchor.cuts[cut].value);
        let stages = find_blocks(&anchor.graph);
        let between = stages.windows(2).filter_map(|pair| Some((*pair[0].outputs.last()?, pair[1].input?)));
        let run = between.filter(|(_, input)| end.is_none_or(|end| *input < end));
        let graphs = run.filter_map(|(from, to)| anchor.graph.segment(Some(from), Some(to)).ok());
        let count = |graph: &Graph, kind: fn(&Op) -> bool| graph.nodes.iter().filter(|node| kind(&node.op)).count();
        let is_merging = |graph: &Graph| {
            let heavy = count(graph, |op| matches!(op, Op::Dense(_) | Op::Conv(_) | Op::MatMul { .. }));
            heavy == 1 && count(graph, |op| matches!(op, Op::LayerNorm { .. })) == 1
        };
        graphs.filter(is_merging).map(|graph| cost::published_params(&graph)).sum()
    }
}

fn channels(shape: &[usize]) -> u64 {
    shape.last().copied().unwrap_or(1) as u64
}
