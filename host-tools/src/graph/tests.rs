//! Cuts, segments and costs on hand-made graphs.

use super::cost::{macs, node_macs, node_params, params};
use super::*;

/// Builds graphs with made-up weights; tensors are named `t1`, `t2`, ..., nodes `n1`, `n2`, ...
pub struct Builder(Graph);

impl Builder {
    pub fn new(input_shape: &[usize]) -> Self {
        Self(Graph {
            name: "hand-made".into(),
            input_tensor: "input".into(),
            input_shape: input_shape.to_vec(),
            nodes: Vec::new(),
            output: ValueId::INPUT,
            aliases: Vec::new(),
        })
    }

    pub fn push(&mut self, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        let i = self.0.nodes.len() + 1;
        self.0.nodes.push(Node {
            name: format!("n{i}"),
            tensor: format!("t{i}"),
            operator: String::new(),
            op,
            inputs: inputs.to_vec(),
            shape: shape.to_vec(),
        });
        self.0.output = ValueId(i);
        ValueId(i)
    }

    pub fn conv(&mut self, input: ValueId, channels: usize, kernel: usize, stride: usize) -> ValueId {
        let &[height, width, depth] = self.0.shape(input) else { panic!("not a map") };
        let pad = kernel / 2;
        let window = Window { kernel: [kernel; 2], stride: [stride; 2], pad: [pad; 4], dilation: [1, 1] };
        let weights: Weights =
            (0..channels * kernel * kernel * depth).map(|i| (i * 37 % 19) as f32 / 19.0 - 0.5).collect();
        let bias = (0..channels).map(|i| i as f32 * 0.1).collect();
        let op = Op::Conv(Conv { window, groups: 1, out_channels: channels, weights, bias });
        let extent = |extent: usize| (extent + 2 * pad - kernel) / stride + 1;
        self.push(op, &[input], &[extent(height), extent(width), channels])
    }

    pub fn relu(&mut self, input: ValueId) -> ValueId {
        let shape = self.0.shape(input).to_vec();
        self.push(Op::Clip { lo: 0.0, hi: f32::INFINITY }, &[input], &shape)
    }

    pub fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let shape = self.0.shape(a).to_vec();
        self.push(Op::Add, &[a, b], &shape)
    }

    /// Global average pool, flattening, fully connected layer.
    pub fn head(&mut self, input: ValueId, classes: usize) -> ValueId {
        let &[height, width, depth] = self.0.shape(input) else { panic!("not a map") };
        let window = Window { kernel: [height, width], stride: [1, 1], pad: [0; 4], dilation: [1, 1] };
        let pooled = self.push(Op::AvgPool(window), &[input], &[1, 1, depth]);
        let flat = self.push(Op::Reshape, &[pooled], &[depth]);
        let weights = (0..classes * depth).map(|i| (i * 53 % 23) as f32 / 23.0 - 0.5).collect();
        let dense = Dense { out_features: classes, weights, bias: vec![0.0; classes].into() };
        self.push(Op::Dense(dense), &[flat], &[classes])
    }

    pub fn finish(self) -> Graph {
        self.0
    }
}

/// The residual network of MLPerf Tiny: three stages of one basic block on 32x32x3 images.
fn resnet8() -> Graph {
    let mut build = Builder::new(&[32, 32, 3]);
    let stem = build.conv(ValueId::INPUT, 16, 3, 1);
    let mut x = build.relu(stem);
    for (channels, stride) in [(16, 1), (32, 2), (64, 2)] {
        let first = build.conv(x, channels, 3, stride);
        let first = build.relu(first);
        let second = build.conv(first, channels, 3, 1);
        let shortcut = if stride == 1 { x } else { build.conv(x, channels, 1, stride) };
        let sum = build.add(second, shortcut);
        x = build.relu(sum);
    }
    build.head(x, 10);
    build.finish()
}

fn tensors(graph: &Graph, cuts: &[ValueId]) -> Vec<String> {
    cuts.iter().map(|&cut| graph.tensor(cut).to_owned()).collect()
}

#[test]
fn the_mlperf_resnet8_has_its_known_size() {
    let graph = resnet8();
    assert_eq!(macs(&graph), 12_501_632);
    assert_eq!(params(&graph), 77_706);
    assert_eq!((node_macs(&graph.nodes[0]), node_params(&graph.nodes[0])), (1024 * 27 * 16, 27 * 16 + 16));
    assert_eq!((node_macs(&graph.nodes[1]), node_params(&graph.nodes[1])), (0, 0));
}

#[test]
fn cuts_of_a_residual_network_lie_behind_the_activations_outside_its_blocks() {
    let graph = resnet8();
    let cuts = find_cuts(&graph);
    assert_eq!(tensors(&graph, &cuts), ["t2", "t7", "t13", "t19"]);
    for cut in cuts {
        assert!(matches!(graph.producer(cut).unwrap().op, Op::Clip { .. }));
    }
}

#[test]
fn hidden_vectors_of_a_perceptron_are_cuts() {
    let mut build = Builder::new(&[4]);
    let dense =
        |n: usize| Op::Dense(Dense { out_features: n, weights: vec![0.5; 4 * n].into(), bias: vec![0.0; n].into() });
    let hidden = build.push(dense(4), &[ValueId::INPUT], &[4]);
    let hidden = build.relu(hidden);
    build.push(dense(2), &[hidden], &[2]);
    let graph = build.finish();
    assert_eq!(find_cuts(&graph), [hidden]);
}

#[test]
fn two_segments_compute_what_the_whole_graph_computes() {
    let graph = resnet8();
    let image =
        Batch { n: 3, shape: vec![32, 32, 3], data: (0..3 * 3072).map(|i| (i % 101) as f32 / 50.0 - 1.0).collect() };
    let whole = forward(&graph, &image);
    for cut in find_cuts(&graph) {
        let front = graph.segment(None, Some(cut)).unwrap();
        let back = graph.segment(Some(cut), None).unwrap();
        assert_eq!(back.input_shape, graph.shape(cut));
        assert_eq!(front.nodes.len() + back.nodes.len(), graph.nodes.len());
        assert_eq!(macs(&front) + macs(&back), macs(&graph));
        let halves = forward(&back, &forward(&front, &image));
        let worst = halves.data.iter().zip(&whole.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "cut at {}: {worst}", graph.tensor(cut));
    }
}

#[test]
fn a_segment_between_equal_values_is_empty() {
    let graph = resnet8();
    let empty = graph.segment(Some(ValueId(2)), Some(ValueId(2))).unwrap();
    assert!(empty.nodes.is_empty());
    let batch = Batch { n: 1, shape: vec![32, 32, 16], data: vec![0.25; 32 * 32 * 16] };
    assert_eq!(forward(&empty, &batch), batch);
}

#[test]
fn a_segment_names_the_tensor_that_crosses_its_start() {
    let graph = resnet8();
    let inside = ValueId(3);
    let error = graph.segment(Some(inside), None).unwrap_err();
    let SegmentError::Crossing { cut, node, tensor, .. } = &error else { panic!("{error}") };
    assert_eq!((cut.as_str(), node.as_str(), tensor.as_str()), ("t3", "n6", "t2"));
}

#[test]
fn a_segment_must_run_forward() {
    let graph = resnet8();
    assert!(matches!(graph.segment(Some(ValueId(6)), Some(ValueId(2))), Err(SegmentError::NotDownstream { .. })));
    assert!(matches!(graph.segment(Some(ValueId(600)), None), Err(SegmentError::NoSuchValue { .. })));
    // Two branches of one stem: neither depends on the other.
    let mut build = Builder::new(&[4, 4, 2]);
    let a = build.conv(ValueId::INPUT, 2, 1, 1);
    let b = build.conv(ValueId::INPUT, 2, 1, 1);
    build.add(a, b);
    assert!(matches!(build.finish().segment(Some(a), Some(b)), Err(SegmentError::NotDownstream { .. })));
}

#[test]
fn cut_names_resolve_to_tensors_aliases_and_nodes() {
    let mut graph = resnet8();
    graph.aliases.push(("stem/before_bn".into(), ValueId(1)));
    for (name, value) in [("t2", 2), ("stem/before_bn", 1), ("n2", 2), ("t1", 1)] {
        assert_eq!(resolve_cut(&graph, name), Ok(ValueId(value)), "{name}");
    }
}

#[test]
fn a_wrong_cut_name_says_what_is_wrong_with_it() {
    let graph = resnet8();
    let error = resolve_cut(&graph, "stem/t6x").unwrap_err();
    assert!(matches!(error, CutError::Unknown { .. }), "{error}");
    let CutError::Unknown { near, .. } = resolve_cut(&graph, "T7").unwrap_err() else { panic!() };
    assert!(near.contains(&"t7".to_owned()), "{near:?}");
    let CutError::Bypassed { node, tensor, near, .. } = resolve_cut(&graph, "t3").unwrap_err() else { panic!() };
    assert_eq!((node.as_str(), tensor.as_str()), ("n6", "t2"));
    assert_eq!(near, ["t2", "t7"]);
    for end in ["input", graph.tensor(graph.output)] {
        assert!(matches!(resolve_cut(&graph, end), Err(CutError::End { .. })), "{end}");
    }
    let mut twice = graph.clone();
    twice.nodes[4].tensor = "t2".into();
    assert!(matches!(resolve_cut(&twice, "t2"), Err(CutError::Ambiguous { .. })));
}
