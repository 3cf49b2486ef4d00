//! Stitching: which networks lie between the anchors, how their stitching layers start, how good they are, and which of
//! them are worth keeping.
//!
//! | module | purpose |
//! |---|---|
//! | [`pairs`] | stitching positions between two sequences of blocks |
//! | [`space`] | all candidates of a family |
//! | [`init`] | least-squares initialisation of stitching layers |
//! | [`linalg`] | the solver behind it |
//! | [`evaluate`] | float logits and accuracy of candidates |
//! | [`pareto`] | candidates that no other one dominates |

pub mod evaluate;
pub mod init;
pub mod linalg;
pub mod pairs;
pub mod pareto;
pub mod space;
#[cfg(test)]
pub(crate) mod testnet;

use crate::family::DataError;
use crate::graph::{Dense, Graph, Node, Op, SegmentError, ValueId};

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
    /// Crossings it serves, at least one.
    pub uses: Vec<Crossing>,
}

/// An affine map applied to every position (pixel or token) of a feature map.
#[derive(Debug, Clone, PartialEq)]
pub struct StitchingLayer {
    /// `[out][in]` weights.
    pub weights: Vec<f32>,
    /// One bias per output channel.
    pub bias: Vec<f32>,
    /// Channels taken.
    pub in_channels: usize,
    /// Channels given.
    pub out_channels: usize,
}

impl StitchingLayer {
    /// The layer as a graph of its own from a value of `from_shape` to one of `to_shape`. Grids of the same positions in
    /// another form (`[h, w, c]` and `[h * w, c]`) differ only in shape, as both are channel-fastest.
    #[must_use]
    pub fn to_graph(&self, from_shape: &[usize], to_shape: &[usize]) -> Graph {
        let node = |op: Op, input: usize, shape: Vec<usize>| {
            let name = format!("stitch/{}", op.name());
            Node { tensor: name.clone(), name, op, inputs: vec![ValueId(input)], shape }
        };
        let dense = Dense {
            out_features: self.out_channels,
            weights: self.weights.as_slice().into(),
            bias: self.bias.as_slice().into(),
        };
        let mut shape = from_shape.to_vec();
        if let Some(channels) = shape.last_mut() {
            *channels = self.out_channels;
        }
        let reshaped = shape != to_shape;
        let mut nodes = vec![node(Op::Dense(dense), 0, shape)];
        if reshaped {
            nodes.push(node(Op::Reshape, 1, to_shape.to_vec()));
        }
        Graph {
            name: "stitch".to_owned(),
            input_tensor: "stitch/input".to_owned(),
            input_shape: from_shape.to_vec(),
            output: ValueId(nodes.len()),
            nodes,
            aliases: Vec::new(),
        }
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
    /// Images that do not fit the anchors.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// Called with finished and total units of work; the unit is the caller's business.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Progress that nobody watches.
pub fn silent(_done: u64, _total: u64) {}
