//! Stitching: which networks lie between the anchors, how their stitching layers start, how good they are, and which of
//! them are worth keeping.
//!
//! | module | purpose |
//! |---|---|
//! | [`pairs`] | stitching positions between two sequences of blocks |
//! | [`adapter`] | class tokens and grids that only one of two anchors has |
//! | [`space`] | all candidates of a family |
//! | [`init`] | least-squares initialisation of stitching layers |
//! | [`trained`] | stitching layers that training wrote |
//! | [`recalibrate`] | batch norms behind stitching layers, measured anew |
//! | [`learned`] | stitching layers from the maps of students to their teacher |
//! | [`linalg`] | the solver behind it |
//! | [`rank`] | which stitches are likely to be good, before any runs |
//! | [`evaluate`] | float logits and accuracy of candidates |
//! | [`pareto`] | candidates that no other one dominates |

pub mod adapter;
pub mod evaluate;
pub mod init;
pub mod learned;
pub mod linalg;
pub mod pairs;
pub mod pareto;
pub mod rank;
pub mod recalibrate;
pub mod space;
#[cfg(test)]
pub(crate) mod testnet;
pub mod trained;

use crate::family::DataError;
use crate::graph::{Dense, Graph, Op, SegmentError};
use adapter::{Adapter, Part};
use recalibrate::Recalibration;

/// Part of one anchor that a candidate runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Leg {
    /// Index of the anchor in the family.
    pub anchor: usize,
    /// Index of the cut at which the anchor is entered; `None` is the image.
    pub from: Option<usize>,
    /// Index of the cut after which the anchor is left; `None` is its end.
    pub to: Option<usize>,
}

/// One network of the stitching space: a path through the anchors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Position in the space's list; anchors come first.
    pub id: u32,
    /// Unique readable name, e.g. `small[..16x16/0] > large[16x16/1..]`: the small anchor up to block 0 of the stage with a
    /// grid of 16x16, then the large one from block 1 of that stage.
    pub path: String,
    /// Parts in order of execution.
    pub legs: Vec<Leg>,
    /// Stitching layer after each leg but the last, as indices into [`Space::layers`].
    pub layers: Vec<usize>,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// Weights and biases.
    pub params: u64,
}

/// One place where a path changes anchors: after a cut of one, before what follows a cut of the other. Both are indices of
/// the anchor in the family and of the cut in the anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Crossing {
    /// Anchor and cut whose value is taken.
    pub from: (usize, usize),
    /// Anchor and cut whose value is replaced.
    pub to: (usize, usize),
}

/// A stitching layer of a space, before it has weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSpec {
    /// Position in [`Space::layers`].
    pub id: usize,
    /// Anchor it leaves.
    pub from: usize,
    /// Anchor it enters.
    pub to: usize,
    /// Channels of the anchor it leaves.
    pub in_channels: usize,
    /// Channels of the anchor it enters.
    pub out_channels: usize,
    /// Channels between its two layers, if it is of low rank.
    pub rank: Option<usize>,
    /// Whether it makes class tokens.
    pub makes_token: bool,
    /// Crossings it serves, at least one.
    pub uses: Vec<Crossing>,
}

impl LayerSpec {
    /// The layer with all weights and biases zero.
    #[must_use]
    pub fn zeros(&self) -> StitchingLayer {
        let map = |rank: Option<usize>| AffineLayer {
            down: rank.map(|rank| vec![0.0; rank * self.in_channels]),
            weights: vec![0.0; rank.unwrap_or(self.in_channels) * self.out_channels],
            bias: vec![0.0; self.out_channels],
            in_channels: self.in_channels,
            out_channels: self.out_channels,
        };
        StitchingLayer { places: map(self.rank), token: self.makes_token.then(|| map(None)), norms: Vec::new() }
    }
}

/// What is applied to the value taken: an affine map of every position (pixel or token), and where the two anchors do not
/// share a grid the parts of an [`adapter`] around it.
#[derive(Debug, Clone, PartialEq)]
pub struct StitchingLayer {
    /// The map of all positions but class tokens that an adapter makes.
    pub places: AffineLayer,
    /// The map that makes class tokens, if an adapter does.
    pub token: Option<AffineLayer>,
    /// What follows the batch norms behind the crossings it serves; where there is nothing they stay as they are.
    pub norms: Vec<Recalibration>,
}

/// An affine map of channels: fully connected, or by way of fewer channels.
#[derive(Debug, Clone, PartialEq)]
pub struct AffineLayer {
    /// `[rank][in]` weights of a first layer without bias, in a map of low rank.
    pub down: Option<Vec<f32>>,
    /// `[out][in]` weights, `[out][rank]` behind a first layer.
    pub weights: Vec<f32>,
    /// One bias per output channel.
    pub bias: Vec<f32>,
    /// Channels taken.
    pub in_channels: usize,
    /// Channels given.
    pub out_channels: usize,
}

impl AffineLayer {
    /// Channels between the two layers of a map of low rank.
    #[must_use]
    pub fn rank(&self) -> Option<usize> {
        self.down.as_ref().map(|down| down.len() / self.in_channels.max(1))
    }

    fn layers(&self) -> Vec<Op> {
        let dense = |weights: &[f32], bias: Vec<f32>| {
            Op::Dense(Dense { out_features: bias.len(), weights: weights.into(), bias: bias.into() })
        };
        let down = self.down.as_deref().map(|down| dense(down, vec![0.0; self.rank().unwrap_or(0)]));
        down.into_iter().chain([dense(&self.weights, self.bias.clone())]).collect()
    }
}

impl StitchingLayer {
    /// The layer as a graph of its own from a value of `from_shape` to one of `to_shape`. Grids of the same positions in
    /// another form (`[h, w, c]` and `[h * w, c]`) differ only in shape, as both are channel-fastest.
    ///
    /// # Panics
    /// When no [`Adapter`] joins the shapes; spaces hold no such crossing.
    #[must_use]
    pub fn to_graph(&self, from_shape: &[usize], to_shape: &[usize]) -> Graph {
        let adapter =
            Adapter::between(from_shape, to_shape).expect("crossings are between shapes that an adapter joins");
        adapter.graph(&|part| match part {
            Part::Places => self.places.layers(),
            Part::Token => self.token.as_ref().unwrap_or(&self.places).layers(),
        })
    }
}

/// All candidates of a family and the stitching layers they need.
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    /// Candidates by id.
    pub candidates: Vec<Candidate>,
    /// Stitching layers by id.
    pub layers: Vec<LayerSpec>,
    /// What was left out and why, for people.
    pub warnings: Vec<String>,
}

/// Why a family cannot be stitched or evaluated.
#[derive(Debug, thiserror::Error)]
pub enum StitchError {
    /// Two neighbouring anchors share no position.
    #[error("no stitching position between {small} and {large}: {reason}\n{cuts}")]
    NoPosition {
        /// Smaller anchor.
        small: String,
        /// Larger anchor.
        large: String,
        /// What is missing.
        reason: String,
        /// Both anchors' cuts with their shapes, one per line.
        cuts: String,
    },
    /// An anchor cannot be cut where the path wants it.
    #[error("anchor {anchor} cannot be cut between {from} and {to}")]
    Segment {
        /// Name of the anchor.
        anchor: String,
        /// Tensor at which the segment begins.
        from: String,
        /// Tensor at which the segment ends.
        to: String,
        /// What the graph says.
        #[source]
        source: Box<SegmentError>,
    },
    /// A candidate names a stitching layer that was not given.
    #[error("candidate {path} needs stitching layer {layer}, {given} were given")]
    MissingLayer {
        /// Path of the candidate.
        path: String,
        /// Index it names.
        layer: usize,
        /// Layers given.
        given: usize,
    },
    /// There are no images to work with.
    #[error("{task} needs at least one image")]
    NoImages {
        /// What was to be done.
        task: &'static str,
    },
    /// A file of trained stitching layers that cannot be used.
    #[error("{}: {reason}", path.display())]
    Layers {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong, and with which layer.
        reason: String,
    },
    /// Images that do not fit the anchors.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// Called with finished and total units of work; the unit is the caller's business.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Progress that nobody watches.
pub fn silent(_done: u64, _total: u64) {}
