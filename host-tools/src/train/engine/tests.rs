//! Gradients against finite differences, forward passes against the graph's own (which import compares with tract).

use super::*;
use crate::graph::{Batch, Graph, Node, Op, ValueId, Weights, forward};

mod batch_norm;
mod layers;
mod operators;
mod oracle;
mod programs;

/// A small deterministic generator.
pub struct Random(pub u64);

impl Random {
    pub fn next_bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.next_bits() as usize % bound
    }

    /// Uniform in -1 ..= 1.
    pub fn value(&mut self) -> f32 {
        (self.next_bits() % 20_001) as f32 / 10_000.0 - 1.0
    }

    pub fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.value()).collect()
    }

    /// Distinct values, at least `gap` apart and at least half of that from 0.
    pub fn spread(&mut self, count: usize, gap: f32) -> Vec<f32> {
        let mut values: Vec<f32> = (0..count).map(|i| (i as f32 - (count / 2) as f32 + 0.5) * gap).collect();
        for i in (1..count).rev() {
            values.swap(i, self.below(i + 1));
        }
        values
    }
}

/// Builds graphs whose input passes through a trained constant, so that input gradients show up as that constant's.
pub struct Draft {
    pub graph: Graph,
}

impl Draft {
    /// A graph of one input; the value returned is the input plus a trained zero tensor.
    pub fn new(shape: &[usize]) -> (Self, ValueId) {
        let graph = Graph {
            name: "draft".into(),
            input_tensor: "input".into(),
            input_shape: shape.to_vec(),
            nodes: Vec::new(),
            output: ValueId::INPUT,
            aliases: Vec::new(),
        };
        let mut draft = Self { graph };
        let offset = draft.constant(vec![0.0; shape.iter().product()], shape);
        let moved = draft.push(Op::Add, &[ValueId::INPUT, offset], shape);
        (draft, moved)
    }

    pub fn push(&mut self, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        let i = self.graph.nodes.len() + 1;
        self.graph.nodes.push(Node {
            name: format!("n{i}"),
            tensor: format!("t{i}"),
            operator: String::new(),
            op,
            inputs: inputs.to_vec(),
            shape: shape.to_vec(),
        });
        self.graph.output = ValueId(i);
        ValueId(i)
    }

    pub fn constant(&mut self, values: Vec<f32>, shape: &[usize]) -> ValueId {
        self.push(Op::Constant(values.into()), &[], shape)
    }
}

/// `sum of factors * output`, a loss whose gradient is `factors`.
pub struct Linear(pub Vec<f32>);

impl Loss for Linear {
    fn chunk(&self, samples: std::ops::Range<usize>, taps: &[&[f32]], seeds: &mut [Vec<f32>]) -> f64 {
        let len = taps[0].len() / samples.len();
        let factors = &self.0[samples.start * len..samples.end * len];
        seeds[0].copy_from_slice(factors);
        taps[0].iter().zip(factors).map(|(y, f)| f64::from(*y) * f64::from(*f)).sum()
    }
}

/// Compiles with every parameter trained.
pub fn compile_all_trained(graph: &Graph, options: &Options) -> (Params, Program) {
    let mut params = Params::new();
    params.add_graph(graph).unwrap();
    params.ids().for_each(|id| params.set_training(id, Training::Trained));
    let program = Program::compile(graph, &mut params, options).unwrap();
    (params, program)
}

/// Compares the forward pass with the graph's, and every gradient with central differences of step `step`.
pub fn check_graph(what: &str, graph: &Graph, input: Vec<f32>, step: f32) {
    let n = input.len() / graph.elements(ValueId::INPUT);
    let batch = Batch { n, shape: graph.input_shape.clone(), data: input };
    let options = Options { chunk_samples: Some(2), ..Options::default() };
    check_gradients(what, graph, &batch, &forward(graph, &batch), &options, step);
}

/// Rounding of slopes that are 0.
const NOISE: f64 = 2e-4;

/// As [`check_graph`], for options that make the outputs others than the graph's.
pub fn check_gradients(what: &str, graph: &Graph, batch: &Batch, expected: &Batch, options: &Options, step: f32) {
    let (mut params, program) = compile_all_trained(graph, options);
    let mut workspace = Workspace::new();
    let output = program.forward(&params, batch, &mut workspace).remove(0);
    for (i, (a, b)) in output.data.iter().zip(&expected.data).enumerate() {
        assert!((a - b).abs() <= 1e-4 * (1.0 + b.abs()), "{what}: output {i} is {a}, expected {b}");
    }
    let mut random = Random(77);
    let loss = Linear(random.values(output.data.len()));
    let mut grads = Grads::new(&params);
    let value = program.step(&params, batch, &loss, &mut workspace, &mut grads);
    let mut at = |params: &Params| -> f64 {
        let output = program.forward(params, batch, &mut workspace).remove(0);
        output.data.iter().zip(&loss.0).map(|(y, f)| f64::from(*y) * f64::from(*f)).sum()
    };
    assert!((value - at(&params)).abs() <= 1e-4 * (1.0 + value.abs()), "{what}: loss {value}");
    let ids: Vec<ParamId> = params.ids().collect();
    for id in ids {
        let gradient = grads.get(id).to_vec();
        assert_eq!(gradient.len(), params.values(id).len(), "{what}: {} has no gradient", params.info(id).name);
        let size = gradient.iter().fold(1e-2f32, |m, g| m.max(g.abs()));
        let every = gradient.len().div_ceil(24);
        for i in (0..gradient.len()).step_by(every) {
            let old = params.values(id)[i];
            params.values_mut(id)[i] = old + step;
            let above = at(&params);
            params.values_mut(id)[i] = old - step;
            let slope = (above - at(&params)) / (2.0 * f64::from(step));
            params.values_mut(id)[i] = old;
            let error = (f64::from(gradient[i]) - slope).abs() / f64::from(size);
            let name = &params.info(id).name;
            // What cancels, as the bias in front of a norm does, leaves rounding of the differences.
            let is_noise = gradient[i].abs() < 1e-5 && slope.abs() < NOISE;
            assert!(
                error < 1e-3 || is_noise,
                "{what}: {name}[{i}] is {}, differences say {slope}, largest {size}",
                gradient[i]
            );
        }
    }
}

/// Weights of random values.
pub fn weights(random: &mut Random, count: usize, scale: f32) -> Weights {
    (0..count).map(|_| random.value() * scale).collect()
}
