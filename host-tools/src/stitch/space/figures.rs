//! What a candidate costs, from the graphs of its parts.

use std::collections::HashMap;

use serde::Serialize;

use super::super::adapter::{Adapter, Part};
use super::super::{Candidate, Leg, StitchError};
use super::{segment, whole_segment};
use crate::family::Family;
use crate::graph::cost;

/// Convention of counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Count {
    /// Multiply-accumulates of weights and of products of activations; parameters after folding.
    #[default]
    Macs,
    /// The papers' FLOPs, as fvcore counts them, and their parameters: without the class token and positions of anchors
    /// that a stitch leaves, and with the final norm even where it is skipped.
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
        if !leaves_stem || self.family.anchors[leg.anchor].cuts.is_empty() {
            return Ok(params);
        }
        let stem = whole_segment(self.family, Leg { to: Some(0), ..leg })?;
        Ok(params - cost::constant_tensors(&stem))
    }
}

fn channels(shape: &[usize]) -> u64 {
    shape.last().copied().unwrap_or(1) as u64
}
