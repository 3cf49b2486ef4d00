//! Which values of a network are rounded in quantization-aware training, and how: those that the bundle's int8 steps hold,
//! with the quantizations that export will pin.

use stitchkit_runtime::bundle::Quant;

use crate::family::{Dataset, Family};
use crate::graph::ValueId;
use crate::quantize::pieces::Pieces;
use crate::quantize::{Calibration, Options, calibrate, held_values, pinned};
use crate::safetensors::Tensors;
use crate::stitch::{Candidate, StitchError, StitchingLayer};

/// The quantizations of all networks of a space.
#[derive(Debug)]
pub struct Rounding {
    pieces: Pieces,
    calibration: Calibration,
}

impl Rounding {
    /// Chooses the quantizations on calibration images, as export does.
    ///
    /// # Errors
    /// [`StitchError::Segment`] if an anchor cannot be cut.
    pub fn new(
        family: &Family,
        candidates: &[Candidate],
        layers: &[StitchingLayer],
        images: &Dataset,
    ) -> Result<Self, StitchError> {
        let pieces = Pieces::new(family, candidates, layers)?;
        let calibration = calibrate(&pieces, &family.config.input, &images.images, Options::default());
        Ok(Self { pieces, calibration })
    }

    /// The values of a network's graph that int8 steps hold. The graph is that of [`super::paths::Path`]: the nodes of the
    /// network's pieces one after the other.
    #[must_use]
    pub fn of_network(&self, candidate: usize) -> Vec<(ValueId, Quant)> {
        let mut values: Vec<(ValueId, Quant)> = Vec::new();
        let mut start = 0;
        for &piece in &self.pieces.routes[candidate] {
            let graph = &self.pieces.pieces[piece].graph;
            for (value, quant) in held_values(graph, &self.calibration.quants[piece]) {
                let value = ValueId(value.0 + start);
                if values.iter().all(|(known, _)| *known != value) {
                    values.push((value, quant));
                }
            }
            start += graph.nodes.len();
        }
        values
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
