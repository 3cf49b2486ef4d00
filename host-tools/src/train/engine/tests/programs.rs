//! Programs: sharing, freezing, taps, threads, rounding.

use super::{Draft, Linear, Random, compile_all_trained, weights};
use crate::graph::{Batch, Conv, Dense, Graph, Op, ValueId, Window, forward};
use crate::quantize::fake::{round_channel, round_value};
use crate::train::engine::*;
use stitchkit_runtime::bundle::Quant;

/// Stem, residual block, pool, classifier on 8x8x3 images. Values: 2 the input (moved), 4 the stem, 8 the block.
fn residual() -> Graph {
    let mut random = Random(1);
    let (mut draft, x) = Draft::new(&[8, 8, 3]);
    let window = Window { kernel: [3, 3], stride: [1, 1], pad: [1; 4], dilation: [1, 1] };
    let mut conv = |draft: &mut Draft, x: ValueId, depth: usize| {
        let weights = weights(&mut random, 8 * 9 * depth, 0.3);
        let op = Conv { window, groups: 1, out_channels: 8, weights, bias: vec![0.1; 8].into() };
        draft.push(Op::Conv(op), &[x], &[8, 8, 8])
    };
    let relu = |draft: &mut Draft, x| draft.push(Op::Clip { lo: 0.0, hi: f32::INFINITY }, &[x], &[8, 8, 8]);
    let stem = conv(&mut draft, x, 3);
    let stem = relu(&mut draft, stem);
    let inner = conv(&mut draft, stem, 8);
    let inner = relu(&mut draft, inner);
    let inner = conv(&mut draft, inner, 8);
    let sum = draft.push(Op::Add, &[inner, stem], &[8, 8, 8]);
    let block = relu(&mut draft, sum);
    let window = Window { kernel: [8, 8], stride: [1, 1], pad: [0; 4], dilation: [1, 1] };
    let pooled = draft.push(Op::AvgPool(window), &[block], &[1, 1, 8]);
    let flat = draft.push(Op::Reshape, &[pooled], &[8]);
    let dense = Dense { out_features: 5, weights: weights(&mut Random(2), 40, 0.5), bias: vec![0.0; 5].into() };
    draft.push(Op::Dense(dense), &[flat], &[5]);
    draft.graph
}

fn images(n: usize) -> Batch {
    Batch { n, shape: vec![8, 8, 3], data: Random(8).values(n * 192) }
}

fn gradients(program: &Program, params: &Params, batch: &Batch, factors: &[f32]) -> Vec<Vec<f32>> {
    let (mut workspace, mut grads) = (Workspace::new(), Grads::new(params));
    program.step(params, batch, &Linear(factors.to_vec()), &mut workspace, &mut grads);
    params.ids().map(|id| grads.get(id).to_vec()).collect()
}

#[test]
fn gradients_do_not_depend_on_threads_or_on_what_ran_before() {
    let graph = residual();
    let options = Options { chunk_samples: Some(3), ..Options::default() };
    let (params, program) = compile_all_trained(&graph, &options);
    let (batch, factors) = (images(50), Random(3).values(250));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| gradients(&program, &params, &batch, &factors))
    };
    let alone = run(1);
    assert_eq!(alone, run(3));
    // The same workspace again, after another batch.
    let (mut workspace, mut grads) = (Workspace::new(), Grads::new(&params));
    program.step(&params, &images(7), &Linear(Random(4).values(35)), &mut workspace, &mut grads);
    grads.clear();
    program.step(&params, &batch, &Linear(factors.clone()), &mut workspace, &mut grads);
    assert!(params.ids().all(|id| grads.get(id) == alone[id.0]));
    // A second step adds.
    program.step(&params, &batch, &Linear(factors.clone()), &mut workspace, &mut grads);
    for id in params.ids() {
        assert!(grads.get(id).iter().zip(&alone[id.0]).all(|(twice, once)| *twice == 2.0 * once));
    }
}

#[test]
fn segments_share_their_graphs_parameters() {
    let graph = residual();
    let mut params = Params::new();
    params.add_graph(&graph).unwrap();
    let count = params.len();
    let back = graph.segment(Some(ValueId(4)), None).unwrap();
    let program = Program::compile(&back, &mut params, &Options::default()).unwrap();
    assert_eq!(params.len(), count);
    assert_eq!(program.params(), params.of_graph(&back));
    // Another value in the store is another output of the segment, and of the exported graph.
    let id = *program.params().last().unwrap();
    params.values_mut(id)[0] += 1.0;
    let batch = Batch { n: 1, shape: vec![8, 8, 8], data: vec![0.5; 512] };
    let logits = program.forward(&params, &batch, &mut Workspace::new()).remove(0);
    let exported = params.export(&back);
    assert!((logits.data[0] - forward(&exported, &batch).data[0]).abs() < 1e-5);
    assert!((logits.data[0] - forward(&back, &batch).data[0] - 1.0).abs() < 1e-5);
}

#[test]
fn frozen_parameters_get_nothing_and_stop_the_way_to_others() {
    let graph = residual();
    let (mut params, all) = compile_all_trained(&graph, &Options::default());
    let (batch, factors) = (images(4), Random(3).values(20));
    let full = gradients(&all, &params, &batch, &factors);
    let front = params.of_graph(&graph.segment(None, Some(ValueId(4))).unwrap());
    front.iter().for_each(|&id| params.set_training(id, Training::Frozen));
    let program = Program::compile(&graph, &mut params, &Options::default()).unwrap();
    let part = gradients(&program, &params, &batch, &factors);
    for id in params.ids() {
        if front.contains(&id) {
            assert!(part[id.0].is_empty() && !program.trained().contains(&id));
        } else {
            assert_eq!(part[id.0], full[id.0], "{}", params.info(id).name);
        }
    }
    assert!(program.step_bytes(64, 2) < all.step_bytes(64, 2), "nothing of the front is kept");
}

#[test]
fn taps_inside_the_network_can_be_seeded() {
    let graph = residual();
    let taps = vec![ValueId(4), graph.output, ValueId::INPUT];
    let (params, program) = compile_all_trained(&graph, &Options { taps: taps.clone(), ..Options::default() });
    let batch = images(6);
    let values = program.forward(&params, &batch, &mut Workspace::new());
    assert_eq!(values[0].shape, [8, 8, 8]);
    for (value, tap) in values.iter().zip(&taps) {
        let expected = crate::graph::forward_keep(&graph, &batch, &[*tap]).remove(0);
        assert!(value.data.iter().zip(&expected.data).all(|(a, b)| (a - b).abs() < 1e-4), "{tap}");
    }
    // A loss on the stem alone: the parameters behind it get zero gradients or none.
    let loss = |_: std::ops::Range<usize>, taps: &[&[f32]], seeds: &mut [Vec<f32>]| {
        seeds[0].fill(1.0);
        taps[0].iter().map(|&x| f64::from(x)).sum::<f64>()
    };
    let (mut workspace, mut grads) = (Workspace::new(), Grads::new(&params));
    let total = program.step(&params, &batch, &loss, &mut workspace, &mut grads);
    assert!((total - values[0].data.iter().map(|&x| f64::from(x)).sum::<f64>()).abs() < 1e-2);
    let ids = params.of_graph(&graph);
    assert!(grads.get(ids[2]).iter().all(|&g| g > 0.0), "the stem's bias");
    assert!(grads.get(*ids.last().unwrap()).iter().all(|&g| g == 0.0), "the classifier's bias");
}

#[test]
fn rounded_values_and_weights_are_those_of_export() {
    let graph = residual();
    let input = Quant { scale: 2.0 / 255.0, zero_point: 0 };
    let stem = Quant { scale: 0.02, zero_point: -128 };
    let fake_quant = vec![(ValueId(2), input), (ValueId(4), stem)];
    let taps = vec![ValueId(2), ValueId(4)];
    let (params, program) = compile_all_trained(&graph, &Options { taps, fake_quant, ..Options::default() });
    let batch = images(3);
    let values = program.forward(&params, &batch, &mut Workspace::new());
    let rounded: Vec<f32> = batch.data.iter().map(|&x| round_value(input, x)).collect();
    assert_eq!(values[0].data, rounded);
    let mut expected = graph.clone();
    let Op::Conv(conv) = &mut expected.nodes[2].op else { panic!("the stem is a convolution") };
    let (mut weights, mut bias) = (conv.weights.to_vec(), conv.bias.to_vec());
    weights.chunks_mut(27).zip(&mut bias).for_each(|(row, bias)| round_channel(row, bias, input));
    (conv.weights, conv.bias) = (weights.into(), bias.into());
    let batch = Batch { data: rounded, ..batch };
    let real = crate::graph::forward_keep(&expected, &batch, &[ValueId(4)]).remove(0);
    for (value, real) in values[1].data.iter().zip(&real.data) {
        let steps = value / stem.scale;
        assert!((steps - steps.round()).abs() < 1e-3, "{value} is a whole number of steps");
        assert!((value - real.min(255.0 * stem.scale)).abs() <= 0.5001 * stem.scale + 1e-5, "{value} for {real}");
    }
}

#[test]
fn straight_through_gradients_stop_where_values_saturate() {
    let (mut draft, x) = Draft::new(&[4]);
    let dense = Dense { out_features: 1, weights: vec![1.0; 4].into(), bias: vec![0.0].into() };
    draft.push(Op::Dense(dense), &[x], &[1]);
    let quant = Quant { scale: 0.1, zero_point: 0 };
    let options = Options { fake_quant: vec![(x, quant)], ..Options::default() };
    let (params, program) = compile_all_trained(&draft.graph, &options);
    let batch = Batch { n: 1, shape: vec![4], data: vec![0.33, -12.0, 13.0, 12.7] };
    let grads = gradients(&program, &params, &batch, &[1.0]);
    assert_eq!(grads[0], [1.0, 1.0, 0.0, 1.0], "-12 and 12.7 are representable, 13 is not");
}

#[test]
fn what_does_not_fit_is_named() {
    let mut graph = residual();
    let error = |graph: &Graph, options: &Options| {
        Program::compile(graph, &mut Params::new(), options).unwrap_err().to_string()
    };
    let options = Options { taps: vec![ValueId(99)], ..Options::default() };
    assert!(error(&graph, &options).contains("value#99"));
    graph.nodes[2].shape = vec![8, 8, 9];
    let message = error(&graph, &Options::default());
    assert!(message.contains("n3") && message.contains("conv"), "{message}");
}
