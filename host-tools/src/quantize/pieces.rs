//! The parts that shipped plans are made of. A part that several plans pass through exists once.

use super::Channels;
use super::equalize::equalize;
use crate::family::Family;
use crate::graph::{Graph, attention};
use crate::stitch::recalibrate::{ChannelNorm, crossing, recalibrated};
use crate::stitch::space::segment;
use crate::stitch::{Candidate, Crossing, Leg, StitchError, StitchingLayer, trained};

/// A value at which pieces meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Boundary {
    /// The image.
    Input,
    /// A cut: anchor and index of the cut.
    Cut(usize, usize),
    /// The output of an anchor.
    Output(usize),
}

impl Boundary {
    fn shape(self, family: &Family) -> &[usize] {
        match self {
            Self::Input => &family.config.input.shape,
            Self::Cut(anchor, cut) => &family.anchors[anchor].cuts[cut].shape,
            Self::Output(anchor) => family.anchors[anchor].graph.shape(family.anchors[anchor].graph.output),
        }
    }

    fn name(self, family: &Family) -> String {
        match self {
            Self::Input => "input".to_owned(),
            Self::Cut(anchor, cut) => format!("{}/{cut}", family.anchors[anchor].name),
            Self::Output(anchor) => format!("{}/output", family.anchors[anchor].name),
        }
    }
}

/// What a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PieceKind {
    /// What an anchor computes between two neighbouring cuts.
    Segment {
        /// Anchor.
        anchor: usize,
        /// Number of cuts before it.
        index: usize,
        /// The crossing behind which its batch norms were measured anew; `None` for those of the anchor.
        behind: Option<Crossing>,
    },
    /// A stitching layer at one of its crossings.
    Stitch {
        /// Layer.
        layer: usize,
        /// Where it leaves an anchor.
        from: Boundary,
        /// Where it enters another.
        to: Boundary,
    },
}

/// A part of one or more plans.
#[derive(Debug, Clone)]
pub struct Piece {
    /// What it is.
    pub kind: PieceKind,
    /// The float computation; its name is the piece's name for people.
    pub graph: Graph,
    /// Where it starts.
    pub input: Boundary,
    /// Where it ends.
    pub output: Boundary,
}

/// All pieces of a set of candidates, and each candidate's way through them.
#[derive(Debug, Clone)]
pub struct Pieces {
    /// Pieces, in the order in which candidates first use them.
    pub pieces: Vec<Piece>,
    /// For each candidate the indices of its pieces in order of execution.
    pub routes: Vec<Vec<usize>>,
    /// Whether the constants are those of the family.
    pub channels: Channels,
}

impl Pieces {
    /// Cuts the candidates into pieces; `channels` says whether constants are those of the family.
    ///
    /// # Errors
    /// [`StitchError::Segment`] if an anchor cannot be cut.
    pub fn new(
        family: &Family,
        candidates: &[Candidate],
        layers: &[StitchingLayer],
        channels: Channels,
    ) -> Result<Self, StitchError> {
        let mut pieces = Self { pieces: Vec::new(), routes: Vec::new(), channels };
        for candidate in candidates {
            let mut route = Vec::new();
            for (position, &leg) in candidate.legs.iter().enumerate() {
                let mut entry = None;
                if position > 0 {
                    let (before, layer) = (candidate.legs[position - 1], candidate.layers[position - 1]);
                    route.push(pieces.stitch(family, layers, layer, before, leg));
                    let crossing = crossing(before, leg);
                    entry = Some((crossing, layers[layer].norms_at(crossing)));
                }
                pieces.walk_leg(family, leg, entry, &mut route)?;
            }
            pieces.routes.push(route);
        }
        if channels == Channels::Equalized {
            let segments = pieces.pieces.iter_mut().filter(|piece| matches!(piece.kind, PieceKind::Segment { .. }));
            segments.for_each(|piece| equalize(&mut piece.graph));
        }
        Ok(pieces)
    }

    /// Appends the segments between neighbouring cuts that a leg runs through, with what follows their batch norms behind the
    /// crossing where the leg begins.
    fn walk_leg(
        &mut self,
        family: &Family,
        leg: Leg,
        entry: Option<(Crossing, &[ChannelNorm])>,
        route: &mut Vec<usize>,
    ) -> Result<(), StitchError> {
        let first = leg.from.map_or(0, |cut| cut + 1);
        let last = leg.to.unwrap_or(family.anchors[leg.anchor].cuts.len());
        for index in first..=last {
            let kind = |behind| PieceKind::Segment { anchor: leg.anchor, index, behind };
            let known = entry.and_then(|(crossing, _)| self.find(kind(Some(crossing))));
            route.push(match known {
                Some(piece) => piece,
                None => self.segment(family, leg.anchor, index, entry)?,
            });
        }
        Ok(())
    }

    fn find(&self, kind: PieceKind) -> Option<usize> {
        self.pieces.iter().position(|piece| piece.kind == kind)
    }

    /// The piece of a segment that no crossing has one of its own of yet; one of its own is made if there is something to
    /// change.
    fn segment(
        &mut self,
        family: &Family,
        anchor: usize,
        index: usize,
        entry: Option<(Crossing, &[ChannelNorm])>,
    ) -> Result<usize, StitchError> {
        let cuts = family.anchors[anchor].cuts.len();
        let from = index.checked_sub(1);
        let to = (index < cuts).then_some(index);
        let plain = attention::join(&segment(family, Leg { anchor, from, to })?);
        let nodes = plain.nodes.len();
        let mut graph = recalibrated(plain, entry.map_or(&[], |(_, norms)| norms));
        let behind = entry.map(|(crossing, _)| crossing).filter(|_| graph.nodes.len() > nodes);
        if let (None, Some(known)) = (behind, self.find(PieceKind::Segment { anchor, index, behind: None })) {
            return Ok(known);
        }
        graph.name = format!("{}/{index}", family.anchors[anchor].name);
        if let Some(crossing) = behind {
            graph.name = format!("{} behind {}", graph.name, trained::key(family, crossing));
        }
        let input = from.map_or(Boundary::Input, |cut| Boundary::Cut(anchor, cut));
        let output = to.map_or(Boundary::Output(anchor), |cut| Boundary::Cut(anchor, cut));
        let kind = PieceKind::Segment { anchor, index, behind };
        self.pieces.push(Piece { kind, graph, input, output });
        Ok(self.pieces.len() - 1)
    }

    fn stitch(&mut self, family: &Family, layers: &[StitchingLayer], layer: usize, before: Leg, after: Leg) -> usize {
        let from = before.to.map_or(Boundary::Output(before.anchor), |cut| Boundary::Cut(before.anchor, cut));
        let to = after.from.map_or(Boundary::Input, |cut| Boundary::Cut(after.anchor, cut));
        let kind = PieceKind::Stitch { layer, from, to };
        if let Some(piece) = self.find(kind) {
            return piece;
        }
        let mut graph = layers[layer].to_graph(from.shape(family), to.shape(family));
        graph.name = format!("{}>{}", from.name(family), to.name(family));
        self.pieces.push(Piece { kind, graph, input: from, output: to });
        self.pieces.len() - 1
    }
}
