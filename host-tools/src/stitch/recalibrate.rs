//! Batch norms behind a stitching layer, measured anew.
//!
//! A batch norm holds the mean and the deviation that each channel had in its own network. Behind a stitching layer features
//! have others: least squares gives values of too small a deviation, and every layer makes that worse. So each normalised
//! convolution of the entered anchor gets a scale and a shift per channel that give its results the anchor's own mean and
//! deviation again ("REPAIR: REnormalizing Permuted Activations for Interpolation Repair", Jordan et al. 2023). That is what a
//! batch norm with statistics of the stitched network would do, also where an exporter folded it into the convolution.
//! Weights stay those of the anchor; scale and shift become part of the multipliers and biases of the int8 convolution.

use std::borrow::Cow;
use std::collections::HashMap;

use super::space::segment;
use super::{Candidate, Crossing, Leg, Progress, Space, StitchError, StitchingLayer};
use crate::family::{Anchor, Dataset, Family};
use crate::graph::{Batch, ChannelMap, Graph, Node, Op, ValueId, forward, forward_adjust};

/// Values of the largest tensor that are looked at; fewer images serve for large ones.
const LARGEST_VALUES: usize = 1 << 26;
/// Fewest images looked at.
const LEAST_IMAGES: usize = 16;
/// End of the name of what a map gives.
const SUFFIX: &str = ".recalibrated";
/// Largest factor of a channel, and one over the smallest.
const LARGEST_SCALE: f64 = 4.0;

/// What follows the batch norms of the anchor that a crossing enters.
#[derive(Debug, Clone, PartialEq)]
pub struct Recalibration {
    /// Where.
    pub crossing: Crossing,
    /// Convolutions in the order of the anchor's nodes.
    pub norms: Vec<ChannelNorm>,
}

/// A factor and a summand for the results of one convolution.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelNorm {
    /// Tensor that the convolution gives in the anchor's file.
    pub tensor: String,
    /// Factor of each channel, above 0.
    pub scale: Vec<f32>,
    /// Summand of each channel.
    pub shift: Vec<f32>,
}

impl StitchingLayer {
    /// What follows the batch norms behind a crossing; empty if they stay as they are.
    #[must_use]
    pub fn norms_at(&self, crossing: Crossing) -> &[ChannelNorm] {
        self.norms.iter().find(|norms| norms.crossing == crossing).map_or(&[], |norms| &norms.norms)
    }
}

/// Where a path changes from one leg to the next.
#[must_use]
pub fn crossing(left: Leg, entered: Leg) -> Crossing {
    Crossing { from: (left.anchor, left.to.unwrap_or(0)), to: (entered.anchor, entered.from.unwrap_or(0)) }
}

/// The graph with an affine map behind each of the convolutions it has.
#[must_use]
pub fn recalibrated(graph: Graph, norms: &[ChannelNorm]) -> Graph {
    let maps: Vec<(&str, ChannelMap)> = norms
        .iter()
        .map(|norm| {
            let map = ChannelMap { scale: norm.scale.as_slice().into(), shift: norm.shift.as_slice().into() };
            (norm.tensor.as_str(), map)
        })
        .collect();
    with_maps(graph, &maps)
}

/// The graph with given affine maps behind the convolutions of these tensors.
#[must_use]
pub fn with_maps(graph: Graph, maps: &[(&str, ChannelMap)]) -> Graph {
    if maps.is_empty() {
        return graph;
    }
    let mut nodes: Vec<Node> = Vec::with_capacity(graph.nodes.len() + maps.len());
    let mut now = vec![ValueId::INPUT; graph.nodes.len() + 1];
    for (index, mut node) in graph.nodes.into_iter().enumerate() {
        node.inputs.iter_mut().for_each(|input| *input = now[input.0]);
        let map = maps.iter().find(|(tensor, map)| is_conv(&node, tensor, map.scale.len()));
        let added = map.map(|(_, map)| Node {
            name: node.name.clone(),
            tensor: format!("{}{SUFFIX}", node.tensor),
            operator: String::new(),
            op: Op::Affine(map.clone()),
            inputs: vec![ValueId(nodes.len() + 1)],
            shape: node.shape.clone(),
        });
        nodes.push(node);
        nodes.extend(added);
        now[index + 1] = ValueId(nodes.len());
    }
    let aliases = graph.aliases.into_iter().map(|(name, value)| (name, now[value.0])).collect();
    Graph { nodes, output: now[graph.output.0], aliases, ..graph }
}

/// Whether a node is a map that [`with_maps`] put there.
#[must_use]
pub fn is_map(node: &Node) -> bool {
    matches!(node.op, Op::Affine(_)) && node.tensor.ends_with(SUFFIX)
}

fn is_conv(node: &Node, tensor: &str, channels: usize) -> bool {
    matches!(&node.op, Op::Conv(conv) if conv.out_channels == channels) && node.tensor == tensor
}

/// Convolutions of an anchor that a batch norm follows, by tensor. Where exporters folded all of them away these are all
/// convolutions, unless the network normalises in another way.
#[must_use]
pub fn normalised(graph: &Graph) -> Vec<&str> {
    let convs =
        || graph.nodes.iter().filter_map(|node| if let Op::Conv(conv) = &node.op { Some((node, conv)) } else { None });
    let has_others = graph.nodes.iter().any(|node| matches!(node.op, Op::LayerNorm { .. }));
    let any = convs().any(|(_, conv)| conv.weights.origin.has_norm);
    convs()
        .filter(|(_, conv)| if any { conv.weights.origin.has_norm } else { !has_others })
        .map(|(node, _)| node.tensor.as_str())
        .collect()
}

/// Mean and variance of each channel.
pub type Statistics = Vec<(f64, f64)>;

/// Measures the batch norms behind all crossings of the layers that `chosen` names. `progress` counts crossings.
///
/// # Errors
/// [`StitchError::Segment`] if an anchor cannot be cut, [`StitchError::NoImages`] without images.
pub fn fit(
    family: &Family,
    space: &Space,
    layers: &mut [StitchingLayer],
    chosen: &dyn Fn(usize) -> bool,
    images: &Dataset,
    progress: Progress<'_>,
) -> Result<(), StitchError> {
    if images.is_empty() {
        return Err(StitchError::NoImages { task: "recalibration of batch norms" });
    }
    let batch = batch_of(family, images);
    let own: Vec<HashMap<&str, Statistics>> = family.anchors.iter().map(|anchor| own(anchor, &batch)).collect();
    let mut candidates: Vec<&Candidate> = space.candidates.iter().filter(|c| !c.layers.is_empty()).collect();
    candidates.sort_by_key(|candidate| (candidate.legs.len(), candidate.legs[0]));
    let all = candidates.len() as u64;
    // What the first leg of the candidates at hand gives.
    let mut front: Option<(Leg, Batch)> = None;
    for (done, candidate) in candidates.into_iter().enumerate() {
        let (Some(&layer), [.., left, last]) = (candidate.layers.last(), &candidate.legs[..]) else { continue };
        let crossing = crossing(*left, *last);
        let own = &own[last.anchor];
        if chosen(layer) && !own.is_empty() && layers[layer].norms_at(crossing).is_empty() {
            let first = candidate.legs[0];
            let features = match front.take() {
                Some((leg, features)) if leg == first => features,
                _ => forward(&segment(family, first)?, &batch),
            };
            let norms = behind(family, candidate, layers, own, &features)?;
            front = Some((first, features));
            if !norms.is_empty() {
                layers[layer].norms.push(Recalibration { crossing, norms });
            }
        }
        progress(done as u64 + 1, all);
    }
    Ok(())
}

/// The first images, as many as fit.
#[must_use]
pub fn batch_of(family: &Family, images: &Dataset) -> Batch {
    images.batch(0..images.len().min(image_limit(family)), &family.config.input)
}

fn image_limit(family: &Family) -> usize {
    let values = family
        .anchors
        .iter()
        .flat_map(|anchor| (0..=anchor.graph.nodes.len()).map(ValueId).map(|v| anchor.graph.elements(v)));
    (LARGEST_VALUES / values.max().unwrap_or(1).max(1)).max(LEAST_IMAGES)
}

/// The statistics of an anchor's normalised convolutions in the anchor itself.
#[must_use]
pub fn own<'a>(anchor: &'a Anchor, batch: &Batch) -> HashMap<&'a str, Statistics> {
    let mut found = HashMap::new();
    let tensors = normalised(&anchor.graph);
    if tensors.is_empty() {
        return found;
    }
    forward_adjust(&anchor.graph, batch, &mut |value, values| {
        let Some(node) = anchor.graph.producer(value) else { return };
        if let Some(&tensor) = tensors.iter().find(|&&tensor| matches!(node.op, Op::Conv(_)) && tensor == node.tensor) {
            found.insert(tensor, statistics(values, node.shape.last().copied().unwrap_or(1)));
        }
    });
    found
}

/// The norms behind the last crossing of a candidate, whose first leg gives `front`. Each is measured behind those in front of
/// it.
fn behind(
    family: &Family,
    candidate: &Candidate,
    layers: &[StitchingLayer],
    own: &HashMap<&str, Statistics>,
    front: &Batch,
) -> Result<Vec<ChannelNorm>, StitchError> {
    let mut norms = Vec::new();
    let mut features = Cow::Borrowed(front);
    for (index, (pair, &layer)) in candidate.legs.windows(2).zip(&candidate.layers).enumerate() {
        let (left, entered) = (pair[0], pair[1]);
        let graph = segment(family, entered)?;
        features = Cow::Owned(forward(&layers[layer].to_graph(&features.shape, &graph.input_shape), &features));
        if index + 1 < candidate.layers.len() {
            let graph = recalibrated(graph, layers[layer].norms_at(crossing(left, entered)));
            features = Cow::Owned(forward(&graph, &features));
            continue;
        }
        forward_adjust(&graph, &features, &mut |value, values| {
            let Some(node) = graph.producer(value).filter(|node| matches!(node.op, Op::Conv(_))) else { return };
            if let Some(wanted) = own.get(node.tensor.as_str()) {
                let norm = norm(&node.tensor, wanted, &statistics(values, wanted.len()));
                apply(&norm, values);
                norms.push(norm);
            }
        });
    }
    Ok(norms)
}

/// Mean and variance of each channel over rows of channels.
#[must_use]
pub fn statistics(values: &[f32], channels: usize) -> Statistics {
    let mut sums = vec![(0f64, 0f64); channels];
    for row in values.chunks_exact(channels.max(1)) {
        for ((sum, squares), &value) in sums.iter_mut().zip(row) {
            *sum += f64::from(value);
            *squares += f64::from(value) * f64::from(value);
        }
    }
    let rows = (values.len() / channels.max(1)).max(1) as f64;
    sums.into_iter().map(|(sum, squares)| (sum / rows, (squares / rows - (sum / rows).powi(2)).max(0.0))).collect()
}

/// What gives results of the statistics `now` those of `wanted`.
fn norm(tensor: &str, wanted: &Statistics, now: &Statistics) -> ChannelNorm {
    let scale = |(&(_, wanted), &(_, now)): (&(f64, f64), &(f64, f64))| {
        if wanted <= 0.0 || now <= 0.0 { 1.0 } else { (wanted / now).sqrt().clamp(1.0 / LARGEST_SCALE, LARGEST_SCALE) }
    };
    let scale: Vec<f64> = wanted.iter().zip(now).map(scale).collect();
    let shift = wanted.iter().zip(now).zip(&scale).map(|((wanted, now), scale)| (wanted.0 - scale * now.0) as f32);
    ChannelNorm {
        tensor: tensor.to_owned(),
        shift: shift.collect(),
        scale: scale.iter().map(|&scale| scale as f32).collect(),
    }
}

fn apply(norm: &ChannelNorm, values: &mut [f32]) {
    for row in values.chunks_exact_mut(norm.scale.len().max(1)) {
        row.iter_mut()
            .zip(norm.scale.iter().zip(&norm.shift))
            .for_each(|(value, (scale, shift))| *value = *value * scale + shift);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stitch::init::least_squares;
    use crate::stitch::{silent, space, testnet};

    /// A family with its space and recalibrated layers, and the images they were measured on.
    fn start() -> (Family, Space, Vec<StitchingLayer>, Dataset) {
        let family = testnet::family(&[3, 4], &[1, 2]);
        let space = space::enumerate(&family).unwrap();
        let images = testnet::images(24);
        let mut layers = least_squares(&family, &space, &images, 0.0, &silent).unwrap().layers;
        fit(&family, &space, &mut layers, &|_| true, &images, &silent).unwrap();
        (family, space, layers, images)
    }

    #[test]
    fn convolutions_behind_a_crossing_have_the_anchors_own_statistics() {
        let (family, space, layers, images) = start();
        let batch = images.batch(0..images.len(), &family.config.input);
        let mut seen = 0;
        for candidate in space.candidates.iter().filter(|candidate| candidate.layers.len() == 1) {
            let [left, entered] = candidate.legs[..] else { panic!("two legs") };
            let layer = &layers[candidate.layers[0]];
            let wanted = own(&family.anchors[entered.anchor], &batch);
            let graph = recalibrated(segment(&family, entered).unwrap(), layer.norms_at(crossing(left, entered)));
            let front = forward(&segment(&family, left).unwrap(), &batch);
            let features = forward(&layer.to_graph(&front.shape, &graph.input_shape), &front);
            forward_adjust(&graph, &features, &mut |value, values| {
                let Some(tensor) = graph.producer(value).and_then(|node| node.tensor.strip_suffix(SUFFIX)) else {
                    return;
                };
                for (now, wanted) in statistics(values, wanted[tensor].len()).iter().zip(&wanted[tensor]) {
                    assert!((now.0 - wanted.0).abs() < 1e-3 * (1.0 + wanted.1.sqrt()), "{tensor}: {now:?} {wanted:?}");
                    let ratio = now.1 / wanted.1.max(1e-9);
                    assert!(wanted.1 == 0.0 || (0.99..1.01).contains(&ratio) || now.1 < wanted.1, "{tensor}: {ratio}");
                    seen += 1;
                }
            });
        }
        assert!(seen > 0, "nothing was normalised");
    }

    #[test]
    fn an_anchor_fed_with_its_own_features_stays_as_it_is() {
        let (family, _, _, images) = start();
        let batch = images.batch(0..images.len(), &family.config.input);
        let own = own(&family.anchors[0], &batch);
        for statistics in own.values() {
            let norm = norm("t", statistics, statistics);
            assert!(norm.scale.iter().all(|&scale| scale == 1.0) && norm.shift.iter().all(|shift| shift.abs() < 1e-6));
        }
    }

    #[test]
    fn maps_go_behind_the_convolutions_they_are_for_and_nothing_else_moves() {
        let (family, ..) = start();
        let graph = family.anchors[1].graph.clone();
        let tensor = normalised(&graph)[0].to_owned();
        let channels = graph.nodes.iter().find(|node| node.tensor == tensor).unwrap().shape.last().copied().unwrap();
        let norm = ChannelNorm { tensor, scale: vec![1.0; channels], shift: vec![0.0; channels] };
        let batch = testnet::images(3).batch(0..3, &family.config.input);
        let after = recalibrated(graph.clone(), &[norm]);
        assert_eq!(after.nodes.len(), graph.nodes.len() + 1);
        assert_eq!(forward(&after, &batch), forward(&graph, &batch));
    }
}
