//! A family that is equalized before it is trained, so that what training rounds is what export rounds.

use super::equalize::equalize;
use crate::family::{Anchor, Family};
use crate::graph::{Dense, Graph, Op, Weights, attention};
use crate::stitch::space::segment;
use crate::stitch::{Leg, StitchError};

/// Which constants of the anchors can be written back: anchor, node, constant.
pub type Writable<'a> = &'a dyn Fn(usize, usize, usize) -> bool;

/// The family with the channels of every block equalized as export does it, and the same function. A block of which a
/// constant that would change cannot be written back, or is another block's too, stays as it is.
///
/// # Errors
/// [`StitchError::Segment`] if an anchor cannot be cut.
pub fn equalized(family: &Family, writable: Writable<'_>) -> Result<Family, StitchError> {
    let mut changed = family.clone();
    for (index, anchor) in family.anchors.iter().enumerate() {
        let writable = |node: usize, constant: usize| writable(index, node, constant);
        for block in 0..=anchor.cuts.len() {
            let from = block.checked_sub(1);
            let to = (block < anchor.cuts.len()).then_some(block);
            let part = segment(family, Leg { anchor: index, from, to })?;
            apply(&changes(&part), anchor, &writable, &mut changed.anchors[index].graph);
        }
    }
    Ok(changed)
}

/// A constant and what takes its place.
type Change = (Weights, Weights);

/// What equalizing a part of an anchor changes, in terms of the part's own constants.
fn changes(part: &Graph) -> Vec<Change> {
    let before = attention::join(part);
    let mut after = before.clone();
    equalize(&mut after);
    let mut changes = Vec::new();
    for (old, new) in before.nodes.iter().zip(&after.nodes) {
        match (&old.op, &new.op) {
            (Op::Dense(old), Op::Dense(new)) if !holds(part, &old.weights) => changes.extend(split(part, old, new)),
            _ => {
                let pairs = old.op.constants().into_iter().zip(new.op.constants());
                changes.extend(pairs.map(|(old, new)| (old.clone(), new.clone())));
            }
        }
    }
    changes.retain(|(old, new)| old.identity() != new.identity() && old[..] != new[..]);
    changes
}

fn holds(graph: &Graph, weights: &Weights) -> bool {
    graph.nodes.iter().flat_map(|node| node.op.constants()).any(|constant| constant.identity() == weights.identity())
}

/// The changes of a layer that [`attention::join`] made of several: each of them has its values in some of the rows.
fn split(part: &Graph, old: &Dense, new: &Dense) -> Vec<Change> {
    let inputs = (old.weights.len() / old.out_features.max(1)).max(1);
    let mut changes = Vec::new();
    let mut row = 0;
    while row < old.out_features {
        let begins = |dense: &&Dense| {
            let end = row + dense.out_features;
            end <= old.out_features
                && dense.weights.len() == dense.out_features * inputs
                && dense.weights[..] == old.weights[row * inputs..end * inputs]
                && dense.bias[..] == old.bias[row..end]
        };
        let layers =
            part.nodes.iter().filter_map(|node| if let Op::Dense(dense) = &node.op { Some(dense) } else { None });
        let Some(layer) = layers.filter(|dense| dense.out_features > 0).find(begins) else { return Vec::new() };
        let end = row + layer.out_features;
        let rows = |values: &Weights, width: usize, old: &Weights| {
            Weights::from(values[row * width..end * width].to_vec()).with_origin(old.origin)
        };
        changes.push((layer.weights.clone(), rows(&new.weights, inputs, &layer.weights)));
        changes.push((layer.bias.clone(), rows(&new.bias, 1, &layer.bias)));
        row = end;
    }
    changes
}

/// Puts changed constants into an anchor: all of them, or none if one has no place of its own in the file.
fn apply(changes: &[Change], anchor: &Anchor, writable: &dyn Fn(usize, usize) -> bool, graph: &mut Graph) {
    let places = |constant: &Weights| -> Vec<(usize, usize)> {
        let of_node = |(index, node): (usize, &crate::graph::Node)| {
            let is_it = |(_, other): &(usize, &Weights)| other.identity() == constant.identity();
            node.op.constants().into_iter().enumerate().filter(is_it).map(|(at, _)| (index, at)).collect::<Vec<_>>()
        };
        anchor.graph.nodes.iter().enumerate().flat_map(of_node).collect()
    };
    let found: Vec<Vec<(usize, usize)>> = changes.iter().map(|(old, _)| places(old)).collect();
    let is_free = |places: &Vec<(usize, usize)>| matches!(places[..], [(node, constant)] if writable(node, constant));
    if !found.iter().all(is_free) {
        return;
    }
    for ((_, new), places) in changes.iter().zip(&found) {
        for &(node, constant) in places {
            if let Some(place) = graph.nodes[node].op.constants_mut().into_iter().nth(constant) {
                *place = new.clone();
            }
        }
    }
}
