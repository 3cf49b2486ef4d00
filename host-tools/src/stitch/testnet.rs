//! Small families of random residual networks for tests.

use crate::family::{
    Adapters, AnchorConfig, AnchorPairs, Cuts, Dataset, Directions, Family, FamilyConfig, Filter, FinalNorm,
    InputConfig, LayerIds, Layout, Located, Norms, SharedLayers, SpaceKind, StageExits, StitchingConfig,
};
use crate::graph::{Conv, Dense, Graph, Node, Op, ValueId, Weights, Window};

/// Outputs of every anchor.
pub const CLASSES: usize = 5;
const SIDE: usize = 4;
const CHANNELS: usize = 6;

/// Anchors `anchor0`, `anchor1`, ... of one 4x4 stage: a stem (block 0) and `depths[i] - 1` residual blocks, then pooling
/// and a classifier; equal depth and seed give equal anchors. Depths must not fall.
pub fn family(depths: &[usize], seeds: &[u64]) -> Family {
    let graphs: Vec<Graph> = depths.iter().zip(seeds).map(|(&depth, &seed)| graph(depth, seed)).collect();
    Family::assemble(config(depths), "test".into(), graphs).expect("the test family is well formed")
}

/// Stages of a chain: side of the map, channels, blocks.
pub type Stages<'a> = &'a [(usize, usize, usize)];

/// Anchors without residuals, each a chain of 1x1 convolutions; every block's output is a cut. Settings can be changed
/// before assembly.
pub fn chains(anchors: &[Stages<'_>], change: impl Fn(&mut FamilyConfig)) -> Result<Family, Vec<Located>> {
    let depths: Vec<usize> = anchors.iter().map(|stages| stages.iter().map(|stage| stage.2).sum()).collect();
    let mut config = config(&depths);
    config.input.shape = [8, 8, 3];
    change(&mut config);
    Family::assemble(config, "test".into(), anchors.iter().map(|stages| chain(stages)).collect())
}

fn config(depths: &[usize]) -> FamilyConfig {
    let anchor = |index: usize| AnchorConfig {
        name: format!("anchor{index}"),
        model: format!("anchor{index}.onnx").into(),
        cuts: Cuts::Named((0..depths[index]).map(|block| format!("block{block}")).collect()),
    };
    FamilyConfig {
        name: "test".into(),
        description: String::new(),
        labels: Vec::new(),
        input: InputConfig {
            shape: [SIDE, SIDE, 3],
            layout: Layout::Nchw,
            scale: 1.0 / 255.0,
            mean: vec![0.5; 3],
            std: vec![0.25; 3],
        },
        anchors: (0..depths.len()).map(anchor).collect(),
        stitching: StitchingConfig {
            space: SpaceKind::Stages,
            kernel: 2,
            stride: 1,
            filter: Filter::Forward,
            stage_exits: StageExits::Open,
            layer_ids: LayerIds::Fixed,
            skip_stages: Vec::new(),
            pairs: AnchorPairs::Nearest,
            crossings: 1,
            directions: Directions::FastToSlow,
            final_norm: FinalNorm::Applied,
            rank: None,
            shared_layers: SharedLayers::Mean,
            norms: Norms::Anchor,
            adapters: Adapters::None,
            layers: None,
        },
        calibration: None,
        evaluation: None,
        training: crate::family::TrainingConfig::default(),
        teacher: None,
    }
}

/// Random images with label 0.
pub fn images(count: usize) -> Dataset {
    let mut random = Random(99);
    let images = (0..count * SIDE * SIDE * 3).map(|_| random.next_bits() as u8).collect();
    Dataset { images, labels: vec![0; count], shape: [SIDE, SIDE, 3] }
}

struct Random(u64);

impl Random {
    fn next_bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 40
    }

    fn weights(&mut self, count: usize, fan_in: usize) -> Weights {
        let scale = (3.0 / fan_in as f32).sqrt();
        (0..count).map(|_| (self.next_bits() as f32 / (1 << 23) as f32 - 1.0) * scale).collect()
    }
}

struct Draft {
    random: Random,
    nodes: Vec<Node>,
}

impl Draft {
    fn push(&mut self, tensor: &str, op: Op, inputs: &[usize], shape: &[usize]) -> usize {
        let inputs = inputs.iter().map(|&input| ValueId(input)).collect();
        let (name, tensor, operator) = (tensor.into(), tensor.into(), String::new());
        self.nodes.push(Node { name, tensor, operator, op, inputs, shape: shape.to_vec() });
        self.nodes.len()
    }

    fn conv(&mut self, input: usize, in_channels: usize, name: &str) -> usize {
        let window = Window { kernel: [3, 3], stride: [1, 1], pad: [1; 4], dilation: [1, 1] };
        let weights = self.random.weights(CHANNELS * 9 * in_channels, 9 * in_channels);
        let bias = self.random.weights(CHANNELS, 16);
        let conv = Conv { window, groups: 1, out_channels: CHANNELS, weights, bias };
        self.push(name, Op::Conv(conv), &[input], &[SIDE, SIDE, CHANNELS])
    }
}

fn graph(depth: usize, seed: u64) -> Graph {
    let map = [SIDE, SIDE, CHANNELS];
    let relu = || Op::Clip { lo: 0.0, hi: f32::INFINITY };
    let mut draft = Draft { random: Random(seed), nodes: Vec::new() };
    let stem = draft.conv(0, 3, "stem");
    let mut value = draft.push("block0", relu(), &[stem], &map);
    for block in 1..depth {
        let conv = draft.conv(value, CHANNELS, &format!("conv{block}"));
        let sum = draft.push(&format!("sum{block}"), Op::Add, &[conv, value], &map);
        value = draft.push(&format!("block{block}"), relu(), &[sum], &map);
    }
    let window = Window { kernel: [SIDE, SIDE], stride: [1, 1], pad: [0; 4], dilation: [1, 1] };
    value = draft.push("pool", Op::AvgPool(window), &[value], &[1, 1, CHANNELS]);
    value = draft.push("flat", Op::Reshape, &[value], &[CHANNELS]);
    let weights = draft.random.weights(CLASSES * CHANNELS, CHANNELS);
    let head = Dense { out_features: CLASSES, weights, bias: vec![0.0; CLASSES].into() };
    value = draft.push("logits", Op::Dense(head), &[value], &[CLASSES]);
    Graph {
        name: "test".into(),
        input_tensor: "image".into(),
        input_shape: vec![SIDE, SIDE, 3],
        nodes: draft.nodes,
        output: ValueId(value),
        aliases: Vec::new(),
    }
}

fn chain(stages: Stages<'_>) -> Graph {
    let mut draft = Draft { random: Random(5), nodes: Vec::new() };
    let (mut value, mut side, mut channels, mut block) = (0, 8, 3, 0);
    for &(stage_side, stage_channels, blocks) in stages {
        for _ in 0..blocks {
            let stride = side / stage_side;
            let window = Window { kernel: [1, 1], stride: [stride; 2], pad: [0; 4], dilation: [1, 1] };
            let weights = draft.random.weights(stage_channels * channels, channels);
            let bias = vec![0.0; stage_channels].into();
            let conv = Conv { window, groups: 1, out_channels: stage_channels, weights, bias };
            let shape = [stage_side, stage_side, stage_channels];
            value = draft.push(&format!("block{block}"), Op::Conv(conv), &[value], &shape);
            (side, channels, block) = (stage_side, stage_channels, block + 1);
        }
    }
    let window = Window { kernel: [side; 2], stride: [1, 1], pad: [0; 4], dilation: [1, 1] };
    value = draft.push("pool", Op::AvgPool(window), &[value], &[1, 1, channels]);
    let weights = draft.random.weights(CLASSES * channels, channels);
    let head = Dense { out_features: CLASSES, weights, bias: vec![0.0; CLASSES].into() };
    value = draft.push("logits", Op::Dense(head), &[value], &[1, 1, CLASSES]);
    Graph {
        name: "chain".into(),
        input_tensor: "image".into(),
        input_shape: vec![8, 8, 3],
        nodes: draft.nodes,
        output: ValueId(value),
        aliases: Vec::new(),
    }
}
