//! The networks of a space as graphs over shared constants.
//!
//! Every network becomes one graph from the image to the logits. Its constants are clones of those of the anchors and of one
//! set of stitching layers, so that a parameter store knows them as the same parameters in every network.

use std::ops::Range;

use crate::family::Family;
use crate::graph::{ChannelMap, Dense, Graph, Node, Op, ValueId, Weights};
use crate::stitch::adapter::{Adapter, Part};
use crate::stitch::recalibrate::{ChannelNorm, Recalibration, crossing, is_map, with_maps};
use crate::stitch::space::segment;
use crate::stitch::{AffineLayer, Candidate, Crossing, LayerSpec, Space, StitchError, StitchingLayer};

use super::norms::AnchorNorms;
use super::settings::StitchBiases;

/// Constants of one stitching layer.
#[derive(Debug, Clone)]
pub struct LayerConstants {
    /// Crossings it serves.
    pub uses: Vec<Crossing>,
    /// The map of all places.
    pub places: MapConstants,
    /// The map that makes class tokens.
    pub token: Option<MapConstants>,
    /// What follows the batch norms behind each use: tensors of convolutions, factors and summands.
    pub norms: Vec<Vec<(String, ChannelMap)>>,
}

/// Factors of batch norms stay above 0 however they are trained.
const LEAST_SCALE: f32 = 1e-3;

fn norm_constants(norm: &ChannelNorm) -> (String, ChannelMap) {
    let map = ChannelMap { scale: norm.scale.as_slice().into(), shift: norm.shift.as_slice().into() };
    (norm.tensor.clone(), map)
}

/// Constants of one affine map.
#[derive(Debug, Clone)]
pub struct MapConstants {
    /// `[rank][in]` weights of a first layer, and its bias of zeros.
    pub down: Option<(Weights, Weights)>,
    /// `[out][in]` weights, `[out][rank]` behind a first layer.
    pub weights: Weights,
    /// Bias of each use; clones of one where the layer has a single bias.
    pub biases: Vec<Weights>,
    /// Channels taken and given.
    pub channels: [usize; 2],
}

impl LayerConstants {
    /// The constants of all layers of a space, started from given values.
    #[must_use]
    pub fn of_space(space: &Space, layers: &[StitchingLayer], biases: StitchBiases) -> Vec<Self> {
        let constants = |(spec, layer): (&LayerSpec, &StitchingLayer)| Self {
            uses: spec.uses.clone(),
            places: MapConstants::new(&layer.places, spec.uses.len(), biases),
            token: layer.token.as_ref().map(|token| MapConstants::new(token, spec.uses.len(), biases)),
            norms: spec.uses.iter().map(|&usage| layer.norms_at(usage).iter().map(norm_constants).collect()).collect(),
        };
        space.layers.iter().zip(layers).map(constants).collect()
    }

    /// All maps with the ends of their names.
    pub fn maps(&self) -> impl Iterator<Item = (&'static str, &MapConstants)> {
        [("", &self.places)].into_iter().chain(self.token.iter().map(|token| (".token", token)))
    }

    /// The layer at one of its uses, with the values that `value` says.
    #[must_use]
    pub fn at_use(&self, usage: usize, value: &dyn Fn(&Weights) -> Vec<f32>) -> StitchingLayer {
        let map = |constants: &MapConstants| AffineLayer {
            down: constants.down.as_ref().map(|(down, _)| value(down)),
            weights: value(&constants.weights),
            bias: value(&constants.biases[usage]),
            in_channels: constants.channels[0],
            out_channels: constants.channels[1],
        };
        let norm = |(tensor, map): &(String, ChannelMap)| ChannelNorm {
            tensor: tensor.clone(),
            scale: value(&map.scale).into_iter().map(|scale| scale.max(LEAST_SCALE)).collect(),
            shift: value(&map.shift),
        };
        let norms: Vec<ChannelNorm> = self.norms[usage].iter().map(norm).collect();
        let norms = (!norms.is_empty()).then(|| Recalibration { crossing: self.uses[usage], norms });
        let token = self.token.as_ref().map(map);
        StitchingLayer { places: map(&self.places), token, norms: norms.into_iter().collect() }
    }
}

impl MapConstants {
    fn new(map: &AffineLayer, uses: usize, biases: StitchBiases) -> Self {
        let bias = Weights::from(map.bias.as_slice());
        let own = |_| match biases {
            StitchBiases::Shared => bias.clone(),
            StitchBiases::PerCrossing => Weights::from(map.bias.as_slice()),
        };
        let rank = map.rank().unwrap_or(0);
        Self {
            down: map.down.as_deref().map(|down| (down.into(), Weights::filler(rank, 0.0))),
            weights: map.weights.as_slice().into(),
            biases: (0..uses).map(own).collect(),
            channels: [map.in_channels, map.out_channels],
        }
    }

    /// The operators of the map at a use.
    fn operators(&self, usage: usize) -> Vec<Op> {
        let dense = |weights: &Weights, bias: &Weights| {
            Op::Dense(Dense { out_features: bias.len(), weights: weights.clone(), bias: bias.clone() })
        };
        let down = self.down.as_ref().map(|(down, zeros)| dense(down, zeros));
        down.into_iter().chain([dense(&self.weights, &self.biases[usage])]).collect()
    }
}

/// A network as one graph, and the values that losses look at.
#[derive(Debug, Clone)]
pub struct Path {
    /// From the image to the anchor's output.
    pub graph: Graph,
    /// The nodes of each leg and of the stitching layers between them, front to end.
    pub parts: Vec<Range<usize>>,
    /// Result of each stitching layer.
    pub stitched: Vec<ValueId>,
    /// Logits: the output, or what a last softmax reads.
    pub logits: ValueId,
    /// What the classifier reads, if it is a fully connected layer.
    pub features: Option<ValueId>,
}

impl Path {
    /// The graph of a network. With `norms` the batch norms of all anchors, which are trained, are in it; else those that were
    /// measured anew behind the path's crossings.
    ///
    /// # Errors
    /// [`StitchError::Segment`] if an anchor cannot be cut where the path wants it.
    pub fn new(
        family: &Family,
        candidate: &Candidate,
        layers: &[LayerConstants],
        norms: Option<&AnchorNorms>,
    ) -> Result<Self, StitchError> {
        let first = candidate.legs[0];
        let mut graph =
            with_maps(segment(family, first)?, &norms.map_or_else(Vec::new, |norms| norms.maps(first.anchor)));
        graph.name.clone_from(&candidate.path);
        let mut stitched = Vec::new();
        let whole = 0..graph.nodes.len();
        let mut parts = vec![whole];
        for (pair, &layer) in candidate.legs.windows(2).zip(&candidate.layers) {
            let crossing = crossing(pair[0], pair[1]);
            let usage = layers[layer].uses.iter().position(|&usage| usage == crossing).unwrap_or(0);
            let maps = match norms {
                Some(norms) => norms.maps(pair[1].anchor),
                None => layers[layer].norms[usage].iter().map(|(tensor, map)| (tensor.as_str(), map.clone())).collect(),
            };
            let entered = with_maps(segment(family, pair[1])?, &maps);
            let stitch = stitch_graph(&layers[layer], usage, graph.shape(graph.output), &entered.input_shape);
            parts.push(append(&mut graph, stitch));
            stitched.push(graph.output);
            parts.push(append(&mut graph, entered));
        }
        let (logits, features) = ends(&graph);
        Ok(Self { graph, parts, stitched, logits, features })
    }
}

impl Path {
    /// The affine maps that batch norms became.
    #[must_use]
    pub fn maps(&self) -> Vec<ValueId> {
        let nodes = self.graph.nodes.iter().enumerate();
        nodes.filter(|(_, node)| is_map(node)).map(|(index, _)| ValueId(index + 1)).collect()
    }
}

/// Logits of a graph, and what its last fully connected layer reads.
#[must_use]
pub fn ends(graph: &Graph) -> (ValueId, Option<ValueId>) {
    let mut logits = graph.output;
    while let Some(Node { op: Op::Softmax, inputs, .. }) = graph.producer(logits) {
        logits = inputs[0];
    }
    let mut at = logits;
    while let Some(Node { op: Op::Reshape, inputs, .. }) = graph.producer(at) {
        at = inputs[0];
    }
    let features = graph.producer(at).filter(|node| matches!(node.op, Op::Dense(_))).map(|node| node.inputs[0]);
    (logits, features)
}

fn stitch_graph(layer: &LayerConstants, usage: usize, from: &[usize], to: &[usize]) -> Graph {
    let adapter = Adapter::between(from, to).expect("crossings are between shapes that an adapter joins");
    adapter.graph(&|part| match part {
        Part::Places => layer.places.operators(usage),
        Part::Token => layer.token.as_ref().unwrap_or(&layer.places).operators(usage),
    })
}

/// Lets `part` go on where `graph` ends; the nodes it has there.
fn append(graph: &mut Graph, part: Graph) -> Range<usize> {
    let (start, entry) = (graph.nodes.len(), graph.output);
    let moved = |value: ValueId| if value == ValueId::INPUT { entry } else { ValueId(value.0 + start) };
    graph.output = moved(part.output);
    for mut node in part.nodes {
        node.inputs.iter_mut().for_each(|input| *input = moved(*input));
        graph.nodes.push(node);
    }
    start..graph.nodes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::forward;
    use crate::stitch::evaluate::Runner;
    use crate::stitch::init::least_squares;
    use crate::stitch::{silent, space, testnet};

    #[test]
    fn a_joined_network_computes_what_its_parts_compute_and_shares_their_constants() {
        let family = testnet::family(&[3, 4], &[1, 2]);
        let space = space::enumerate(&family).unwrap();
        let images = testnet::images(5);
        let layers = least_squares(&family, &space, &images, 0.0, &silent).unwrap().layers;
        let constants = LayerConstants::of_space(&space, &layers, StitchBiases::Shared);
        let batch = images.batch(0..5, &family.config.input);
        let wanted = Runner::new(&family, &space.candidates, &layers).unwrap().logits(&batch);
        for (candidate, wanted) in space.candidates.iter().zip(&wanted) {
            let path = Path::new(&family, candidate, &constants, None).unwrap();
            assert_eq!(forward(&path.graph, &batch), *wanted, "{}", candidate.path);
            assert_eq!(path.stitched.len(), candidate.layers.len());
            let last = candidate.legs.last().unwrap().anchor;
            let own = family.anchors[last].graph.nodes.last().unwrap().op.constants()[0].identity();
            assert_eq!(path.graph.nodes.last().unwrap().op.constants()[0].identity(), own);
            assert_eq!(path.features, Some(path.graph.nodes.last().unwrap().inputs[0]));
        }
    }

    #[test]
    fn shared_layers_may_have_a_bias_for_each_crossing() {
        let family = testnet::family(&[3, 6], &[1, 2]);
        let space = space::enumerate(&family).unwrap();
        assert!(space.layers.iter().any(|layer| layer.uses.len() > 1), "positions of one front block share a layer");
        let layers: Vec<StitchingLayer> = space.layers.iter().map(LayerSpec::zeros).collect();
        for kind in [StitchBiases::Shared, StitchBiases::PerCrossing] {
            let constants = LayerConstants::of_space(&space, &layers, kind);
            let shared = constants.iter().find(|layer| layer.uses.len() > 1).unwrap();
            let mut identities: Vec<usize> = shared.places.biases.iter().map(Weights::identity).collect();
            identities.dedup();
            assert_eq!(identities.len(), if kind == StitchBiases::Shared { 1 } else { shared.uses.len() });
        }
    }
}
