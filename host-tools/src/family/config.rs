//! The contents of `family.toml` as plain types. [`super::parse`] reads and checks them.

use std::path::PathBuf;

use serde::Deserialize;

/// Everything `family.toml` says, checked for consistency; files it names are not yet opened.
#[derive(Debug, Clone, PartialEq)]
pub struct FamilyConfig {
    /// Short name of the family.
    pub name: String,
    /// Free text for people.
    pub description: String,
    /// Class names in the order of the anchors' outputs; empty when not given.
    pub labels: Vec<String>,
    /// What the anchors take as input.
    pub input: InputConfig,
    /// The anchors, cheapest first.
    pub anchors: Vec<AnchorConfig>,
    /// Which stitches exist.
    pub stitching: StitchingConfig,
    /// Images for the initialisation of stitching layers, for calibration and for ranking.
    pub calibration: Option<CalibrationConfig>,
    /// Images for the reported accuracy.
    pub evaluation: Option<EvaluationConfig>,
    /// How training images may be varied without changing what they show.
    pub training: TrainingConfig,
    /// The large network that the anchors are students of.
    pub teacher: Option<TeacherConfig>,
}

/// `[teacher]`: a network that training learns from and that no bundle holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeacherConfig {
    /// ONNX file, relative to `family.toml`. Only training opens it.
    pub model: PathBuf,
    /// Its positions, as those of an anchor.
    pub cuts: Cuts,
}

/// Image size and the map from pixels to the values an anchor takes.
#[derive(Debug, Clone, PartialEq)]
pub struct InputConfig {
    /// Height, width, channels of an image.
    pub shape: [usize; 3],
    /// Axis order of the ONNX input; in memory images are always HWC.
    pub layout: Layout,
    /// Factor on the pixel value, before mean and deviation.
    pub scale: f64,
    /// One mean per channel.
    pub mean: Vec<f64>,
    /// One deviation per channel.
    pub std: Vec<f64>,
}

impl InputConfig {
    /// Bytes of one image.
    #[must_use]
    pub fn pixels(&self) -> usize {
        self.shape.iter().product()
    }

    /// One table per channel that maps a pixel to `(pixel * scale - mean) / std`.
    #[must_use]
    pub fn lut(&self) -> Vec<[f32; 256]> {
        let value = |pixel: usize, mean: f64, std: f64| ((pixel as f64 * self.scale - mean) / std) as f32;
        self.mean.iter().zip(&self.std).map(|(&m, &s)| std::array::from_fn(|pixel| value(pixel, m, s))).collect()
    }

    /// Maps HWC pixels (of any number of images) to the values the anchors take, in the same order.
    #[must_use]
    pub fn normalize(&self, pixels: &[u8]) -> Vec<f32> {
        let lut = self.lut();
        let mut values = Vec::with_capacity(pixels.len());
        for position in pixels.chunks(lut.len()) {
            values.extend(position.iter().zip(&lut).map(|(&pixel, table)| table[usize::from(pixel)]));
        }
        values
    }
}

/// Axis order of an ONNX image input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Batch, channels, height, width.
    #[default]
    Nchw,
    /// Batch, height, width, channels.
    Nhwc,
}

/// One pretrained network.
#[derive(Debug, Clone, PartialEq)]
pub struct AnchorConfig {
    /// Name used in paths of candidates; unique in the family.
    pub name: String,
    /// ONNX file, relative to `family.toml`.
    pub model: PathBuf,
    /// Where the anchor may be cut.
    pub cuts: Cuts,
}

/// Where an anchor may be cut.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Cuts {
    /// Every tensor that alone carries all information from front to end.
    #[default]
    Auto,
    /// The block boundaries that [`crate::graph::find_blocks`] finds.
    Blocks,
    /// The named ONNX tensors.
    Named(Vec<String>),
}

/// The stitching space: which positions are joined and which of them share a stitching layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StitchingConfig {
    /// How cuts are grouped into sequences of blocks.
    pub space: SpaceKind,
    /// Blocks per window when both anchors are equally deep.
    pub kernel: usize,
    /// Blocks between the starts of two windows.
    pub stride: usize,
    /// Which positions are kept.
    pub filter: Filter,
    /// Whether the end of a stage is an entry into the larger anchor.
    pub stage_exits: StageExits,
    /// Which positions share a stitching layer.
    pub layer_ids: LayerIds,
    /// Indices into the family's stages that are not stitched.
    pub skip_stages: Vec<usize>,
    /// Which anchors are joined.
    pub pairs: AnchorPairs,
    /// Most changes of anchor on a path.
    pub crossings: usize,
    /// In which directions paths change anchors.
    pub directions: Directions,
    /// What a stitched transformer does before its head.
    pub final_norm: FinalNorm,
    /// Channels between the two layers of a stitching layer of low rank; layers that this would not make cheaper, and all
    /// of them with `None`, are one fully connected layer.
    pub rank: Option<usize>,
    /// How a layer that serves several positions starts.
    pub shared_layers: SharedLayers,
    /// Whether anchors are joined where only one has a class token, or where their grids differ.
    pub adapters: Adapters,
    /// Batch norms behind stitching layers that are solved by least squares.
    pub norms: Norms,
    /// Safetensors file of trained stitching layers, relative to `family.toml`; layers that it lacks are least squares.
    pub layers: Option<PathBuf>,
}

impl StitchingConfig {
    /// Rank of a stitching layer between so many channels.
    #[must_use]
    pub fn rank_between(&self, in_channels: usize, out_channels: usize) -> Option<usize> {
        self.rank.filter(|rank| rank * (in_channels + out_channels) < in_channels * out_channels)
    }
}

/// Batch norms behind a stitching layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norms {
    /// Measured anew on the calibration images: [`crate::stitch::recalibrate`].
    #[default]
    Recalibrated,
    /// Those of the anchor.
    Anchor,
}

/// How a stitching layer that serves several positions starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SharedLayers {
    /// As the mean of the maps solved for each position.
    #[default]
    Mean,
    /// As the one map that serves all positions best, all rows counting alike.
    Joint,
}

/// Whether anchors are joined where they do not share a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Adapters {
    /// No.
    #[default]
    None,
    /// Yes: see [`crate::stitch::adapter`].
    Allowed,
}

/// What lies around a training image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Border {
    /// Its mirror image.
    #[default]
    Mirror,
    /// Pixels of value 0.
    Zero,
}

/// `[training]`: variations of training images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrainingConfig {
    /// Pixels by which an image may be moved in each direction.
    pub crop_padding: usize,
    /// What comes in at the edge then.
    pub border: Border,
    /// Whether an image mirrored left to right is as good as the image.
    pub flip: bool,
}

/// Which anchors are joined directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnchorPairs {
    /// Neighbours in the order of cost.
    #[default]
    Nearest,
    /// Any two.
    All,
}

/// In which directions paths change anchors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Directions {
    /// From cheaper to costlier anchors, at the positions of SN-Net.
    #[default]
    FastToSlow,
    /// Both ways, at the depth-aligned positions of SN-Netv2: SL, LS and, with two crossings, LSL and SLS.
    TwoWay,
}

/// The last layer norm of a path that was stitched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinalNorm {
    /// Runs, as in the anchor.
    #[default]
    Applied,
    /// Is left out, as in the code with which SN-Net's DeiT results were made.
    Skipped,
}

/// How cuts are grouped into sequences of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpaceKind {
    /// One sequence per run of cuts with the same grid; cut `i` of a run is the output of its block `i`.
    #[default]
    Stages,
    /// One sequence per anchor, its longest run of cuts; the first cut is the input of block 0 (a plain vision
    /// transformer's patch embedding), cut `i + 1` the output of block `i`.
    Blocks,
}

/// Which positions (front block `j`, end block `k`) are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Only `j < k`.
    Forward,
    /// All.
    Any,
}

/// Whether the larger anchor may be entered after the last block of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageExits {
    /// End blocks are `0 .. depth`, as in the paper.
    Closed,
    /// End blocks are `0 ..= depth`; stages of a single block need this.
    Open,
}

/// Which positions share a stitching layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerIds {
    /// None: every position has a layer of its own. The published ways of sharing rely on training afterwards; the mean of
    /// two least-squares maps often serves neither position.
    #[default]
    Own,
    /// All positions of a window; between stages of unequal depth, all positions of a front block.
    Fixed,
    /// The same, with the published code's numbering between stages of unequal depth, which lags behind the front block.
    Released,
}

/// `[calibration]`: training images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalibrationConfig {
    /// Folder, tar or npz, relative to `family.toml`.
    pub data: PathBuf,
    /// Sub-folder, or suffix of the npz keys.
    pub split: Option<String>,
    /// Images used for initialisation and calibration.
    pub images: usize,
    /// Seed of the choice of images.
    pub seed: u64,
    /// The last images of each class, in the order of their names (npz: of the array), on which the anchors were not
    /// trained. They rank the candidates, and never calibrate. 0 if the anchors saw all images.
    pub held_out_per_class: usize,
}

/// `[evaluation]`: test images, and how many other images rank the candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationConfig {
    /// Folder, tar or npz, relative to `family.toml`.
    pub data: PathBuf,
    /// Sub-folder, or suffix of the npz keys.
    pub split: Option<String>,
    /// Images of the calibration source that rank candidates, at most: the held-out ones where there are any, else any
    /// but the calibration images.
    pub search_images: usize,
}
