use stitchkit_runtime::bundle::write::{BlockParts, BundleParts, PlanParts, write};
use stitchkit_runtime::bundle::{AlignedBytes, Bundle, Step};
use stitchkit_runtime::exec::{Executor, StepReport};
use stitchkit_runtime::kernels::Isa;

use super::*;
use crate::compile::{memory, pool::Pool};
use crate::graph::{Batch, ChannelMap, Conv, Dense, forward_keep};
use crate::quantize::integer::flatten;
use crate::quantize::scale::Range;
use crate::stitch::recalibrate::with_maps;

#[path = "tokens_tests.rs"]
mod tokens;

const POINT: Window = Window { kernel: [1, 1], stride: [1, 1], pad: [0; 4], dilation: [1, 1] };
const SAME: Window = Window { kernel: [3, 3], stride: [1, 1], pad: [1; 4], dilation: [1, 1] };
const RELU: Op = Op::Clip { lo: 0.0, hi: f32::INFINITY };

/// Uniform values in -1..1, the same for the same seed.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

struct Builder {
    graph: Graph,
}

impl Builder {
    fn new(shape: &[usize]) -> Self {
        let graph = Graph {
            name: "net".into(),
            input_tensor: "input".into(),
            input_shape: shape.to_vec(),
            nodes: Vec::new(),
            output: ValueId::INPUT,
            aliases: Vec::new(),
        };
        Self { graph }
    }

    fn node(&mut self, op: Op, inputs: &[usize], shape: &[usize]) -> usize {
        let name = format!("{}{}", op.name(), self.graph.nodes.len());
        let inputs = inputs.iter().map(|&i| ValueId(i)).collect();
        self.graph.nodes.push(Node {
            tensor: name.clone(),
            name,
            operator: String::new(),
            op,
            inputs,
            shape: shape.to_vec(),
        });
        self.graph.output = ValueId(self.graph.nodes.len());
        self.graph.nodes.len()
    }

    fn conv(&mut self, window: Window, groups: usize, input: usize, shape: &[usize]) -> usize {
        let (from, to) = (self.graph.shape(ValueId(input))[2], shape[2]);
        let seed = self.graph.nodes.len() as u32 + 1;
        let weights = noise(to * window.kernel[0] * window.kernel[1] * from / groups, seed);
        let conv =
            Conv { window, groups, out_channels: to, weights: weights.into(), bias: noise(to, seed + 100).into() };
        self.node(Op::Conv(conv), &[input], shape)
    }
}

/// Float values and quantizations from the values' own extremes, for eight inputs.
fn observe(graph: &Graph) -> (Batch, Vec<Batch>, Vec<Quant>) {
    let n = 8;
    let elements: usize = graph.input_shape.iter().product();
    let input = Batch { n, shape: graph.input_shape.clone(), data: noise(n * elements, 9) };
    let all: Vec<ValueId> = (0..=graph.nodes.len()).map(ValueId).collect();
    let values = forward_keep(graph, &input, &all);
    let range = |batch: &Batch| {
        let ends = batch.data.iter().fold((0f32, 0f32), |(lo, hi), &v| (lo.min(v), hi.max(v)));
        Range::new(ends.0, ends.1).quant()
    };
    let mut quants: Vec<Quant> = values.iter().map(range).collect();
    for (index, node) in graph.nodes.iter().enumerate() {
        match node.op {
            Op::MaxPool(_) | Op::Reshape | Op::Transpose { .. } | Op::Slice { .. } => {
                quants[index + 1] = quants[node.inputs[0].0];
            }
            Op::Attention(_) => {
                let ends = &values[node.inputs[0].0].data;
                let reach = ends.iter().fold(0f32, |reach, v| reach.max(v.abs()));
                quants[node.inputs[0].0] = Range::new(-reach, reach).centred_quant();
            }
            Op::Softmax => quants[index + 1] = crate::quantize::fuse::SOFTMAX_QUANT,
            _ => {}
        }
    }
    (input, values, quants)
}

/// Output of every step of a block, through a bundle of one plan and the executor.
fn run(block: &IntegerBlock, input: &[i8], isa: Isa) -> Vec<Vec<i8>> {
    let mut pool = Pool::default();
    let steps = block.steps.iter().map(|s| Step { inputs: s.inputs, op: pool.record(&s.kernel, None) }).collect();
    let layout = memory::plan(block.input.len() as u32, &flatten([block])).expect("block has a layout");
    let plan = PlanParts {
        stitch: 0,
        path: "net".into(),
        blocks: vec![0],
        layout: layout.placements,
        input_offset: layout.input_offset,
        arena_bytes: layout.arena_bytes,
        arena_lower_bound_bytes: layout.lower_bound_bytes,
        macs: 0,
        params: 0,
        cost: 0,
        accuracy_ppm: 0,
        float_accuracy_ppm: 0,
        output_quant: block.output_quant,
        fast_bytes: 0,
    };
    let parts = BundleParts {
        name: "net".into(),
        labels: Vec::new(),
        input: block.input,
        input_quant: block.input_quant,
        output: block.output(),
        blocks: vec![BlockParts { name: "net".into(), input: block.input, steps }],
        plans: vec![plan],
        woven: Vec::new(),
        weights: pool.weights,
        tables: pool.tables,
        shifts: pool.shifts,
        input_lut: Vec::new(),
        golden: None,
    };
    let bytes = AlignedBytes::copy_of(&write(&parts).expect("bundle is valid"));
    let bundle = Bundle::parse(bytes.as_slice()).expect("bundle parses");
    let mut arena = AlignedBytes::new(layout.arena_bytes as usize);
    let mut executor = Executor::with_isa(&bundle, 0, arena.as_mut_slice(), isa).expect("arena fits");
    executor.input().expect("input").copy_from_slice(input);
    let mut outputs = Vec::new();
    executor.run_observed(&mut |report: StepReport<'_>| outputs.push(report.output.to_vec())).expect("runs");
    outputs
}

fn quantized(values: &[f32], quant: Quant) -> Vec<i8> {
    values.iter().map(|&v| to_int8(quant, f64::from(v))).collect()
}

/// Lowers a graph, runs it on eight samples and returns the signal-to-noise ratio of the output in decibels.
fn snr_db(graph: &Graph) -> f64 {
    let (input, values, quants) = observe(graph);
    let block = lower(graph, 0, &quants).expect("lowers");
    let (mut signal, mut error) = (0.0, 0.0);
    for sample in 0..input.n {
        let outputs = run(&block, &quantized(input.sample(sample), quants[0]), Isa::best());
        let want = values[graph.output.0].sample(sample);
        for (&got, &want) in outputs.last().expect("steps").iter().zip(want) {
            signal += f64::from(want).powi(2);
            error += (to_real(block.output_quant, got) - f64::from(want)).powi(2);
        }
    }
    10.0 * (signal / error.max(1e-30)).log10()
}

/// conv - ReLU - conv - add - ReLU, with a 1x1 convolution on the shortcut if `channels` differ.
fn residual(from: usize, channels: usize) -> Builder {
    let mut b = Builder::new(&[6, 6, from]);
    let shape = [6, 6, channels];
    let first = b.conv(SAME, 1, 0, &shape);
    let relu = b.node(RELU, &[first], &shape);
    let second = b.conv(SAME, 1, relu, &shape);
    let shortcut = if from == channels { 0 } else { b.conv(POINT, 1, 0, &shape) };
    let sum = b.node(Op::Add, &[second, shortcut], &shape);
    b.node(RELU, &[sum], &shape);
    b
}

#[test]
fn every_operator_stays_close_to_its_float_original() {
    type Build = fn() -> Builder;
    let cases: [(&str, Build); 9] = [
        ("strided conv and relu6", || {
            let mut b = Builder::new(&[7, 5, 3]);
            let window = Window { kernel: [3, 3], stride: [2, 2], pad: [1, 1, 1, 1], dilation: [1, 1] };
            let conv = b.conv(window, 1, 0, &[4, 3, 8]);
            b.node(Op::Clip { lo: 0.0, hi: 1.0 }, &[conv], &[4, 3, 8]);
            b
        }),
        ("grouped conv", || {
            let mut b = Builder::new(&[5, 5, 8]);
            b.conv(SAME, 2, 0, &[5, 5, 12]);
            b
        }),
        ("depthwise conv", || {
            let mut b = Builder::new(&[5, 5, 8]);
            b.conv(SAME, 8, 0, &[5, 5, 8]);
            b
        }),
        ("residual on the block's input", || residual(8, 8)),
        ("residual on a shortcut convolution", || residual(6, 8)),
        ("dense over tokens", || {
            let mut b = Builder::new(&[5, 16]);
            let dense = Dense { out_features: 10, weights: noise(160, 3).into(), bias: noise(10, 4).into() };
            b.node(Op::Dense(dense), &[0], &[5, 10]);
            b
        }),
        ("max pool, average pool, reshape", || {
            let mut b = Builder::new(&[8, 8, 4]);
            let half = Window { kernel: [2, 2], stride: [2, 2], pad: [0; 4], dilation: [1, 1] };
            let max = b.node(Op::MaxPool(half), &[0], &[4, 4, 4]);
            let mean = b.node(Op::AvgPool(half), &[max], &[2, 2, 4]);
            b.node(Op::Reshape, &[mean], &[16]);
            b
        }),
        ("doubling, clip and transpose", || {
            let mut b = Builder::new(&[4, 6, 3]);
            let twice = b.node(Op::Add, &[0, 0], &[4, 6, 3]);
            let clip = b.node(Op::Clip { lo: -0.5, hi: 1.5 }, &[twice], &[4, 6, 3]);
            b.node(Op::Transpose { perm: vec![2, 0, 1] }, &[clip], &[3, 4, 6]);
            b
        }),
        ("softmax over tokens", || {
            let mut b = Builder::new(&[4, 10]);
            b.node(Op::Softmax, &[0], &[4, 10]);
            b
        }),
    ];
    for (name, build) in cases {
        let snr = snr_db(&build().graph);
        assert!(snr > 26.0, "{name}: {snr:.1} dB");
    }
}

#[test]
fn clips_and_additions_disappear_into_the_convolutions() {
    for (from, kinds) in [(8, vec!["conv2d", "conv2d"]), (6, vec!["conv2d", "conv2d", "conv2d"])] {
        let graph = residual(from, 8).graph;
        let (_, _, quants) = observe(&graph);
        let block = lower(&graph, 0, &quants).expect("lowers");
        let names: Vec<_> = block.steps.iter().map(|s| s.kernel.outline().name()).collect();
        assert_eq!(names, kinds);
        let last = block.steps.last().expect("steps");
        assert_eq!(last.kernel.outline().arity(), 2);
        if from == 8 {
            assert_eq!(last.inputs, [1, 0]);
        }
    }
}

#[test]
fn a_map_behind_a_convolution_costs_no_step_and_no_weights() {
    let plain = residual(8, 8).graph;
    let convs: Vec<&str> =
        plain.nodes.iter().filter(|node| matches!(node.op, Op::Conv(_))).map(|node| node.tensor.as_str()).collect();
    let map = |seed: u32| ChannelMap {
        scale: noise(8, seed).iter().map(|value| 1.3 + value).collect(),
        shift: noise(8, seed + 1).into(),
    };
    let maps: Vec<(&str, ChannelMap)> = convs.iter().zip([50, 60]).map(|(tensor, seed)| (*tensor, map(seed))).collect();
    let mapped = with_maps(plain.clone(), &maps);
    let weights = |graph: &Graph| -> Vec<Vec<i8>> {
        let (_, _, quants) = observe(graph);
        let block = lower(graph, 0, &quants).expect("lowers");
        let of_step = |step: &IntegerStep| match &step.kernel {
            Kernel::Conv(conv) => conv.weights.clone(),
            other => panic!("{} is a step", other.outline().name()),
        };
        block.steps.iter().map(of_step).collect()
    };
    assert_eq!(weights(&mapped), weights(&plain), "weights are stored once");
    assert!(snr_db(&mapped) > snr_db(&plain) - 3.0, "{} dB with maps, {} without", snr_db(&mapped), snr_db(&plain));
}

#[test]
fn a_fused_addition_equals_convolution_then_addition() {
    let graph = residual(8, 8).graph;
    let (input, _, quants) = observe(&graph);
    let fused = lower(&graph, 0, &quants).expect("lowers");
    let mut apart = fused.clone();
    let last = apart.steps.len() - 1;
    let Kernel::Conv(conv) = &mut apart.steps[last].kernel else { panic!("the last step is a convolution") };
    let add = conv.residual.take().expect("the addition is fused");
    for sample in 0..input.n {
        let x = quantized(input.sample(sample), quants[0]);
        let convolved = run(&apart, &x, Isa::Reference).pop().expect("steps");
        let want: Vec<i8> = convolved.iter().zip(&x).map(|(&a, &b)| add.apply(a, b)).collect();
        assert_eq!(run(&fused, &x, Isa::best()).pop().expect("steps"), want, "sample {sample}");
    }
}

#[test]
fn an_addition_whose_operands_live_on_stays_a_step_of_its_own() {
    let mut b = Builder::new(&[4, 4, 4]);
    let shape = [4, 4, 4];
    let conv = b.conv(SAME, 1, 0, &shape);
    let first = b.node(Op::Add, &[conv, 0], &shape);
    let second = b.node(Op::Add, &[first, conv], &shape);
    let third = b.node(Op::Add, &[second, 0], &shape);
    b.node(RELU, &[third], &shape);
    let (_, _, quants) = observe(&b.graph);
    let block = lower(&b.graph, 0, &quants).expect("lowers");
    let names: Vec<_> = block.steps.iter().map(|s| s.kernel.outline().name()).collect();
    assert_eq!(names, ["conv2d", "add", "add", "add"]);
    assert!(snr_db(&b.graph) > 26.0);
}

#[test]
fn a_pool_with_another_output_quantization_gets_a_table() {
    let mut b = Builder::new(&[4, 4, 2]);
    let half = Window { kernel: [2, 2], stride: [2, 2], pad: [0; 4], dilation: [1, 1] };
    b.node(Op::MaxPool(half), &[0], &[2, 2, 2]);
    let (_, _, mut quants) = observe(&b.graph);
    quants[1] = Quant { scale: 2.0 * quants[0].scale, zero_point: 5 };
    let block = lower(&b.graph, 0, &quants).expect("lowers");
    let names: Vec<_> = block.steps.iter().map(|s| s.kernel.outline().name()).collect();
    assert_eq!(names, ["maxpool", "lut"]);
    assert_eq!(block.output_quant, quants[1]);
}

#[test]
fn what_has_no_integer_form_is_refused_by_name() {
    let mut four_axes = Builder::new(&[2, 2, 2, 2]);
    four_axes.node(RELU, &[0], &[2, 2, 2, 2]);
    let mut wide_window = Builder::new(&[300, 300, 1]);
    let window = Window { kernel: [300, 300], stride: [1, 1], pad: [0; 4], dilation: [1, 1] };
    wide_window.node(Op::AvgPool(window), &[0], &[1, 1, 1]);
    let mut broken = Builder::new(&[1, 1, 2]);
    let conv =
        Conv { window: POINT, groups: 1, out_channels: 1, weights: vec![1.0, f32::NAN].into(), bias: vec![0.0].into() };
    broken.node(Op::Conv(conv), &[0], &[1, 1, 1]);
    for (builder, want) in [(four_axes, "input"), (wide_window, "avgpool0"), (broken, "conv0")] {
        let quants = vec![Quant { scale: 0.1, zero_point: 0 }; 2];
        let error = lower(&builder.graph, 0, &quants).expect_err("is refused").to_string();
        assert!(error.contains(want), "{error}");
    }
}
