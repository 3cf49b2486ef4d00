//! Activation quantization from calibration images.
//!
//! Every shipped plan runs in floats on every calibration image; prefixes that plans share run once. What a tensor was seen
//! to hold under *all* plans together chooses its range, so that one scale serves every plan and blocks can be shared.

use std::collections::HashMap;

use stitchkit_runtime::bundle::Quant;

use super::Channels;
use super::equalize::floor_of;
use super::fuse::SOFTMAX_QUANT;
use super::histogram::{Histogram, Method};
use super::pieces::{Boundary, PieceKind, Pieces};
use super::scale::Range;
use crate::family::InputConfig;
use crate::graph::{Batch, Op, ValueId, forward_observe};

/// Images that run at a time.
const BATCH_IMAGES: usize = 32;

/// Which values count at a cut where stitching layers land.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CutRange {
    /// What the anchor's own blocks and the stitching layers yield, negative values included: stitching layers have no
    /// activation, in floats and here. Over all candidates of the CIFAR-10 family the int8 class equals the float class on
    /// 96.8 % of the images this way, on 95.1 % with [`Anchor`](Self::Anchor); the anchors themselves do not differ.
    #[default]
    Union,
    /// What the anchor's own blocks yield. A stitching layer's result is clamped to it; behind a ReLU this acts as one,
    /// which the float network has not.
    Anchor,
}

/// How ranges are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Options {
    /// Range of tensors inside the network. Anchors' outputs always keep all observed values, because a clipped logit can
    /// tie with another.
    pub method: Method,
    /// Which values count where stitching layers land.
    pub cuts: CutRange,
}

/// What was observed.
#[derive(Debug, Clone, Default)]
struct Observations {
    /// Values inside pieces, by piece and value.
    inner: HashMap<(usize, ValueId), Histogram>,
    /// Values at boundaries that an anchor's own segment yields.
    own: HashMap<Boundary, Histogram>,
    /// Values at boundaries that stitching layers yield.
    stitched: HashMap<Boundary, Histogram>,
}

/// The quantization of every value of every piece.
#[derive(Debug, Clone)]
pub struct Calibration {
    /// For each piece one entry per value of its graph, the input first.
    pub quants: Vec<Vec<Quant>>,
    /// The network's input.
    pub input: Quant,
    /// The constants that the ranges go with.
    pub channels: Channels,
}

/// Range of the normalised input, from the pixel values 0 and 255 alone.
#[must_use]
pub fn input_quant(input: &InputConfig) -> Quant {
    let ends = input
        .mean
        .iter()
        .zip(&input.std)
        .flat_map(|(&mean, &std)| [0.0, 255.0].map(|pixel| ((pixel * input.scale - mean) / std) as f32));
    let (lo, hi) = ends.fold((0f32, 0f32), |(lo, hi), v| (lo.min(v), hi.max(v)));
    Range::new(lo, hi).quant()
}

/// Runs all plans on `pixels` (any number of HWC images) and chooses every quantization.
#[must_use]
pub fn calibrate(pieces: &Pieces, input: &InputConfig, pixels: &[u8], options: Options) -> Calibration {
    let mut observations = Observations::default();
    let all: Vec<usize> = (0..pieces.routes.len()).collect();
    for images in pixels.chunks(BATCH_IMAGES * input.pixels().max(1)) {
        let n = images.len() / input.pixels().max(1);
        let shape = pieces.pieces.first().map_or_else(Vec::new, |piece| piece.graph.input_shape.clone());
        let batch = Batch { n, shape, data: input.normalize(&images[..n * input.pixels()]) };
        observations.descend(pieces, &all, 0, &batch);
    }
    let fixed = input_quant(input);
    Calibration { quants: choose(pieces, &observations, fixed, options), input: fixed, channels: pieces.channels }
}

impl Observations {
    /// Runs the pieces at `depth` of the given routes, all of which share what came before.
    fn descend(&mut self, pieces: &Pieces, routes: &[usize], depth: usize, batch: &Batch) {
        let mut next: Vec<(usize, Vec<usize>)> = Vec::new();
        for &route in routes {
            let Some(&piece) = pieces.routes[route].get(depth) else { continue };
            match next.iter_mut().find(|(p, _)| *p == piece) {
                Some((_, members)) => members.push(route),
                None => next.push((piece, vec![route])),
            }
        }
        for (piece, members) in next {
            let output = self.run(pieces, piece, batch);
            self.descend(pieces, &members, depth + 1, &output);
        }
    }

    fn run(&mut self, pieces: &Pieces, index: usize, batch: &Batch) -> Batch {
        let piece = &pieces.pieces[index];
        let mut output = Batch { n: batch.n, shape: piece.graph.shape(piece.graph.output).to_vec(), data: Vec::new() };
        let is_stitch = matches!(piece.kind, PieceKind::Stitch { .. });
        let input = Batch { n: batch.n, shape: piece.graph.input_shape.clone(), data: batch.data.clone() };
        forward_observe(&piece.graph, &input, &mut |value, values| {
            if value == piece.graph.output {
                output.data = values.to_vec();
                let seen = if is_stitch { &mut self.stitched } else { &mut self.own };
                seen.entry(piece.output).or_default().observe(values);
            } else if value != ValueId::INPUT {
                self.inner.entry((index, value)).or_default().observe(values);
            }
        });
        output
    }

    /// Everything seen at a slot; `None` where nothing was.
    fn at(&self, slot: Slot, cuts: CutRange) -> Option<Histogram> {
        match slot {
            Slot::Inner(piece, value) => self.inner.get(&(piece, value)).cloned(),
            Slot::Boundary(boundary) => {
                let own = self.own.get(&boundary);
                let stitched = self.stitched.get(&boundary).filter(|_| cuts == CutRange::Union || own.is_none());
                match (own.cloned(), stitched) {
                    (Some(mut merged), Some(other)) => {
                        merged.merge(other);
                        Some(merged)
                    }
                    (own, other) => own.or_else(|| other.cloned()),
                }
            }
        }
    }
}

/// A place that has a quantization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Slot {
    Boundary(Boundary),
    Inner(usize, ValueId),
}

fn slot_of(pieces: &Pieces, piece: usize, value: ValueId) -> Slot {
    let graph = &pieces.pieces[piece].graph;
    if value == ValueId::INPUT {
        Slot::Boundary(pieces.pieces[piece].input)
    } else if value == graph.output {
        Slot::Boundary(pieces.pieces[piece].output)
    } else {
        Slot::Inner(piece, value)
    }
}

/// Slots joined by operators that keep the quantization of their input.
#[derive(Default)]
struct Groups {
    index: HashMap<Slot, usize>,
    slots: Vec<Slot>,
    parent: Vec<usize>,
}

impl Groups {
    fn id(&mut self, slot: Slot) -> usize {
        let next = self.slots.len();
        let id = *self.index.entry(slot).or_insert(next);
        if id == next {
            self.slots.push(slot);
            self.parent.push(next);
        }
        id
    }

    fn root(&self, mut id: usize) -> usize {
        while self.parent[id] != id {
            id = self.parent[id];
        }
        id
    }

    fn join(&mut self, a: Slot, b: Slot) {
        let (a, b) = (self.id(a), self.id(b));
        let (a, b) = (self.root(a), self.root(b));
        self.parent[a.max(b)] = a.min(b);
    }
}

fn choose(pieces: &Pieces, observations: &Observations, input: Quant, options: Options) -> Vec<Vec<Quant>> {
    let mut groups = Groups::default();
    let mut fixed = vec![(Slot::Boundary(Boundary::Input), input)];
    let mut centred = Vec::new();
    let mut floors = HashMap::new();
    for (index, piece) in pieces.pieces.iter().enumerate() {
        groups.id(slot_of(pieces, index, ValueId::INPUT));
        for (at, node) in piece.graph.nodes.iter().enumerate() {
            let slot = slot_of(pieces, index, ValueId(at + 1));
            groups.id(slot);
            if let Some(floor) = floor_of(&piece.graph, ValueId(at + 1)) {
                floors.insert(slot, floor);
            }
            match node.op {
                Op::MaxPool(_) | Op::Reshape | Op::Transpose { .. } | Op::Slice { .. } | Op::Concat { .. } => {
                    for &input in node.inputs.iter().filter(|&&input| !piece.graph.is_constant(input)) {
                        groups.join(slot_of(pieces, index, input), slot);
                    }
                }
                Op::Attention(_) => centred.push(slot_of(pieces, index, node.inputs[0])),
                Op::Softmax => fixed.push((slot, SOFTMAX_QUANT)),
                _ => {}
            }
        }
        if piece.graph.output == ValueId::INPUT {
            groups.join(Slot::Boundary(piece.input), Slot::Boundary(piece.output));
        }
    }
    let mut chosen: HashMap<usize, Quant> = HashMap::new();
    for (slot, quant) in fixed {
        let id = groups.id(slot);
        chosen.entry(groups.root(id)).or_insert(quant);
    }
    let mut members: HashMap<usize, Vec<Slot>> = HashMap::new();
    for id in 0..groups.slots.len() {
        members.entry(groups.root(id)).or_default().push(groups.slots[id]);
    }
    for (root, slots) in members {
        let is_centred = slots.iter().any(|slot| centred.contains(slot));
        chosen.entry(root).or_insert_with(|| {
            let mut range = range_of(observations, &slots, options);
            if let [slot] = slots.as_slice()
                && let Some(&floor) = floors.get(slot)
            {
                range = Range::new(range.lo.max(floor), range.hi);
            }
            if is_centred { range.centred_quant() } else { range.quant() }
        });
    }
    let quant_of = |piece: usize, value: usize| {
        let slot = slot_of(pieces, piece, ValueId(value));
        chosen[&groups.root(groups.index[&slot])]
    };
    let values = |piece: usize| 0..=pieces.pieces[piece].graph.nodes.len();
    (0..pieces.pieces.len()).map(|piece| values(piece).map(|value| quant_of(piece, value)).collect()).collect()
}

fn range_of(observations: &Observations, slots: &[Slot], options: Options) -> Range {
    let mut merged = Histogram::default();
    for histogram in slots.iter().filter_map(|&slot| observations.at(slot, options.cuts)) {
        merged.merge(&histogram);
    }
    let is_output = slots.iter().any(|slot| matches!(slot, Slot::Boundary(Boundary::Output(_))));
    merged.range(if is_output { Method::MinMax } else { options.method })
}
