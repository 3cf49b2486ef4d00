//! Batch norms that are trained: every network is normalised with the statistics of its own images, and all networks share one
//! factor and one summand per channel.
//!
//! Anchors come with their norms folded away. What is normalised are the results of the convolutions that had one
//! ([`recalibrate::normalised`]); factors and summands start as the deviation and the mean that each channel has in its anchor, so
//! that anchors start as they are. Before anything is validated or written the anchors' norms are folded in again with the
//! statistics of the calibration images, and those behind every crossing are measured anew ([`recalibrate::fit`]).

use super::engine::Params;
use crate::family::{Anchor, Family};
use crate::graph::{Batch, ChannelMap, Conv, Graph, Op, Weights, forward_adjust};
use crate::stitch::recalibrate::{self, own, with_maps};

/// Factors and summands of all anchors.
#[derive(Debug, Clone, Default)]
pub struct AnchorNorms {
    /// For each anchor the tensors of its normalised convolutions.
    pub of_anchors: Vec<Vec<(String, ChannelMap)>>,
}

impl AnchorNorms {
    /// The norms of a family as it is. `batch` holds the calibration images.
    #[must_use]
    pub fn new(family: &Family, batch: &Batch) -> Self {
        let of_anchor = |anchor: &Anchor| {
            let statistics = own(anchor, batch);
            let tensors = recalibrate::normalised(&anchor.graph).into_iter();
            let map = |tensor: &str| {
                let values = statistics.get(tensor)?;
                let scale: Vec<f32> = values.iter().map(|(_, variance)| variance.sqrt() as f32).collect();
                let shift: Vec<f32> = values.iter().map(|(mean, _)| *mean as f32).collect();
                Some((tensor.to_owned(), ChannelMap { scale: scale.into(), shift: shift.into() }))
            };
            tensors.filter_map(map).collect()
        };
        Self { of_anchors: family.anchors.iter().map(of_anchor).collect() }
    }

    /// The maps behind an anchor's convolutions.
    #[must_use]
    pub fn maps(&self, anchor: usize) -> Vec<(&str, ChannelMap)> {
        let maps = self.of_anchors.get(anchor).map_or(&[][..], Vec::as_slice);
        maps.iter().map(|(tensor, map)| (tensor.as_str(), map.clone())).collect()
    }

    /// An anchor with its norms folded in, with the statistics of `batch`. `graph` is the anchor's with weights as they are now.
    #[must_use]
    pub fn folded(&self, anchor: usize, graph: &Graph, params: &Params, batch: &Batch) -> Graph {
        let now = |weights: &Weights| {
            let values = params.find(weights).map_or_else(|| weights.to_vec(), |id| params.values(id).to_vec());
            Weights::from(values)
        };
        let maps: Vec<(&str, ChannelMap)> = self
            .maps(anchor)
            .into_iter()
            .map(|(tensor, map)| (tensor, ChannelMap { scale: now(&map.scale), shift: now(&map.shift) }))
            .collect();
        let normalised = with_maps(graph.clone(), &maps);
        let mut folded = graph.clone();
        forward_adjust(&normalised, batch, &mut |value, values| {
            let Some(node) = normalised.producer(value).filter(|node| matches!(node.op, Op::Conv(_))) else { return };
            let Some((tensor, map)) = maps.iter().find(|(tensor, _)| *tensor == node.tensor) else { return };
            let statistics = recalibrate::statistics(values, map.scale.len());
            let deviation: Vec<f64> =
                statistics.iter().map(|(_, variance)| variance.max(LEAST_VARIANCE).sqrt()).collect();
            for row in values.chunks_exact_mut(deviation.len().max(1)) {
                for ((value, (mean, _)), deviation) in row.iter_mut().zip(&statistics).zip(&deviation) {
                    *value = ((f64::from(*value) - mean) / deviation) as f32;
                }
            }
            let place = folded.nodes.iter_mut().find(|node| node.tensor == *tensor && matches!(node.op, Op::Conv(_)));
            if let Some(Op::Conv(conv)) = place.map(|node| &mut node.op) {
                fold(conv, map, &statistics, &deviation);
            }
        });
        folded
    }
}

/// Channels whose variance is below hold one value.
const LEAST_VARIANCE: f64 = 1e-8;

/// `(conv - mean) / deviation * scale + shift` as one convolution.
fn fold(conv: &mut Conv, map: &ChannelMap, statistics: &[(f64, f64)], deviation: &[f64]) {
    let taps = (conv.weights.len() / conv.out_channels.max(1)).max(1);
    let factors: Vec<f64> =
        map.scale.iter().zip(deviation).map(|(&scale, deviation)| f64::from(scale) / deviation).collect();
    let weights: Vec<f32> =
        conv.weights.iter().enumerate().map(|(i, &weight)| (f64::from(weight) * factors[i / taps]) as f32).collect();
    let bias: Vec<f32> = (0..conv.out_channels)
        .map(|i| ((f64::from(conv.bias[i]) - statistics[i].0) * factors[i] + f64::from(map.shift[i])) as f32)
        .collect();
    conv.weights = Weights::from(weights).with_origin(conv.weights.origin);
    conv.bias = Weights::from(bias).with_origin(conv.bias.origin);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::forward;
    use crate::stitch::testnet;

    #[test]
    fn norms_of_untrained_anchors_change_nothing_when_folded_in() {
        let family = testnet::family(&[3, 4], &[1, 2]);
        let images = testnet::images(24);
        let batch = images.batch(0..24, &family.config.input);
        let norms = AnchorNorms::new(&family, &batch);
        for (index, anchor) in family.anchors.iter().enumerate() {
            assert!(!norms.of_anchors[index].is_empty());
            let folded = norms.folded(index, &anchor.graph, &Params::new(), &batch);
            let (before, after) = (forward(&anchor.graph, &batch).data, forward(&folded, &batch).data);
            let span = before.iter().fold(1e-3f32, |most, value| most.max(value.abs()));
            assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-3 * span), "{}", anchor.name);
        }
    }
}
