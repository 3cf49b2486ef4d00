//! Which values of a network are rounded in quantization-aware training, and how: those that the bundle's int8 steps hold,
//! with the quantizations that export will pin.

use std::ops::Range;

use stitchkit_runtime::bundle::Quant;

use super::paths::Path;
use crate::family::{Dataset, Family};
use crate::graph::{Graph, Node, Op, ValueId};
use crate::quantize::pieces::{PieceKind, Pieces};
use crate::quantize::{Calibration, Channels, Options, calibrate, constant_quant, held_values, pinned};
use crate::safetensors::Tensors;
use crate::stitch::{Candidate, StitchError, StitchingLayer};

/// The quantizations of all networks of a space.
#[derive(Debug)]
pub struct Rounding {
    pieces: Pieces,
    calibration: Calibration,
}

impl Rounding {
    /// Chooses the quantizations on calibration images, as export does. The family is one that [`crate::quantize::equalized`]
    /// made.
    ///
    /// # Errors
    /// [`StitchError::Segment`] if an anchor cannot be cut.
    pub fn new(
        family: &Family,
        candidates: &[Candidate],
        layers: &[StitchingLayer],
        images: &Dataset,
    ) -> Result<Self, StitchError> {
        let pieces = Pieces::new(family, candidates, layers, Channels::AsStored)?;
        let calibration = calibrate(&pieces, &family.config.input, &images.images, Options::default());
        Ok(Self { pieces, calibration })
    }

    /// The values of a network's graph that int8 steps hold. Pieces have an attention as one node where the graph has the
    /// nodes it was made of, so values are found by the names of their tensors, leg by leg: anchors may use the same names.
    #[must_use]
    pub fn of_network(&self, candidate: usize, path: &Path) -> Vec<(ValueId, Quant)> {
        let mut found = Found { graph: &path.graph, values: Vec::new() };
        let mut parts = path.parts.iter();
        let mut part = parts.next().cloned().unwrap_or_default();
        let mut was_stitch = false;
        for &piece in &self.pieces.routes[candidate] {
            let is_stitch = matches!(self.pieces.pieces[piece].kind, PieceKind::Stitch { .. });
            if is_stitch || was_stitch {
                part = parts.next().cloned().unwrap_or_default();
            }
            was_stitch = is_stitch;
            let graph = &self.pieces.pieces[piece].graph;
            for (value, quant) in held_values(graph, &self.calibration.quants[piece]) {
                found.add(graph, value, quant, &part);
            }
        }
        found.values
    }

    /// All quantizations.
    #[must_use]
    pub const fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// Adds them to the file of stitching layers.
    pub fn store(&self, file: &mut Tensors) {
        pinned::store(&self.pieces, &self.calibration, file);
    }
}

/// Values of a network's graph that were found so far.
struct Found<'a> {
    graph: &'a Graph,
    values: Vec<(ValueId, Quant)>,
}

impl Found<'_> {
    /// Adds the value that a piece's value stands for, one of the values that the nodes `part` read or give.
    fn add(&mut self, piece: &Graph, value: ValueId, quant: Quant, part: &Range<usize>) {
        let Some(node) = piece.producer(value) else {
            return self.insert(self.entry(piece, part), quant);
        };
        let nodes = || self.graph.nodes[part.clone()].iter().enumerate().rev();
        let named = |same_op: bool| {
            nodes().find(|(_, other)| other.tensor == node.tensor && (!same_op || other.op.name() == node.op.name()))
        };
        let Some((index, own)) = named(true).or_else(|| named(false)) else { return };
        self.insert(ValueId(part.start + index + 1), quant);
        if matches!(own.op, Op::Add) {
            own.inputs.iter().for_each(|&input| self.add_constant(input));
        }
        // One layer of the piece may be several of the graph, side by side over one value.
        if let (Op::Dense(joined), Op::Dense(first)) = (&node.op, &own.op)
            && joined.out_features > first.out_features
        {
            let is_beside = |(at, other): &(usize, &Node)| {
                *at != index && matches!(other.op, Op::Dense(_)) && other.inputs == own.inputs
            };
            let beside: Vec<usize> = nodes().filter(is_beside).map(|(at, _)| part.start + at + 1).collect();
            beside.into_iter().for_each(|value| self.insert(ValueId(value), quant));
        }
    }

    /// A constant tensor is rounded to the range it has before training.
    fn add_constant(&mut self, value: ValueId) {
        if let Some(Node { op: Op::Constant(values), .. }) = self.graph.producer(value) {
            self.insert(value, constant_quant(values));
        }
    }

    /// What a piece reads: the tensor of that name, or what enters the part.
    fn entry(&self, piece: &Graph, part: &Range<usize>) -> ValueId {
        let is_it = |index: &usize| self.graph.nodes[*index].tensor == piece.input_tensor;
        part.clone().rev().find(is_it).map_or(ValueId(part.start), |index| ValueId(index + 1))
    }

    fn insert(&mut self, value: ValueId, quant: Quant) {
        if self.values.iter().all(|(known, _)| *known != value) {
            self.values.push((value, quant));
        }
    }
}

#[cfg(test)]
mod tests;
