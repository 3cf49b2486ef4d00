//! Figures of the training engine: throughput of made-up networks, and gradients of ONNX networks for comparison.
//!
//! ```text
//! train-bench speed resnet20|vit BATCH SECONDS    images per CPU-second of forward, loss, backward and SGD
//! train-bench gradients MODEL.onnx                weights and gradients of a fixed input, as JSON
//! ```
//! `tests/train-bench.sh` and `tests/train-oracle.py` run both beside PyTorch. `RAYON_NUM_THREADS` sets the threads.

use std::path::Path;
use std::process::ExitCode;

use stitchkit::graph::{
    Arithmetic, Batch, ChannelMap, Conv, Dense, Function, Graph, Node, Op, ValueId, Weights, Window, import,
};
use stitchkit::train::engine::{Grads, Options, Params, Program, Training, Workspace};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["speed", network, batch, seconds] => speed(network, batch, seconds),
        ["gradients", model] => gradients(Path::new(model)),
        _ => Err("usage: train-bench speed resnet20|vit BATCH SECONDS | train-bench gradients MODEL.onnx".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("train-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn speed(network: &str, batch: &str, seconds: &str) -> Result<(), String> {
    let graph = match network {
        "resnet20" => resnet20(),
        "vit" => vit(),
        other => return Err(format!("no network {other}")),
    };
    let n: usize = batch.parse().map_err(|e| format!("{batch}: {e}"))?;
    let seconds: f64 = seconds.parse().map_err(|e| format!("{seconds}: {e}"))?;
    let mut params = Params::new();
    let program = Program::compile(&graph, &mut params, &Options::default()).map_err(|e| e.to_string())?;
    let data = (0..n * graph.elements(ValueId::INPUT)).map(pattern).collect();
    let images = Batch { n, shape: graph.input_shape.clone(), data };
    let labels: Vec<usize> = (0..n).map(|i| i * 7 % 10).collect();
    let loss = |samples: std::ops::Range<usize>, taps: &[&[f32]], seeds: &mut [Vec<f32>]| -> f64 {
        let rows = taps[0].chunks_exact(10).zip(seeds[0].chunks_exact_mut(10));
        rows.zip(&labels[samples]).map(|((logits, seed), &label)| cross_entropy(logits, label, n, seed)).sum()
    };
    let (mut workspace, mut grads) = (Workspace::new(), Grads::new(&params));
    let mut momentum: Vec<Vec<f32>> = params.ids().map(|id| vec![0.0; params.values(id).len()]).collect();
    let mut steps = 0;
    let mut started = None;
    loop {
        grads.clear();
        let last = program.step(&params, &images, &loss, &mut workspace, &mut grads);
        for id in params.ids() {
            let values = params.values_mut(id).iter_mut().zip(grads.get(id)).zip(&mut momentum[id.0]);
            values.for_each(|((value, gradient), momentum)| {
                *momentum = 0.9 * *momentum + gradient;
                *value -= 1e-3 * *momentum;
            });
        }
        // The first step allocates and is not counted.
        let Some(cpu) = started else {
            started = Some(cpu_seconds()?);
            continue;
        };
        steps += 1;
        let spent = cpu_seconds()? - cpu;
        if spent >= seconds {
            println!("{:.2} images per CPU-second, {steps} steps of {n}, loss {last:.4}", (steps * n) as f64 / spent);
            return Ok(());
        }
    }
}

fn cross_entropy(logits: &[f32], label: usize, n: usize, seed: &mut [f32]) -> f64 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|x| (x - top).exp()).sum();
    for (class, (seed, x)) in seed.iter_mut().zip(logits).enumerate() {
        *seed = ((x - top).exp() / sum - f32::from(u8::from(class == label))) / n as f32;
    }
    f64::from(sum.ln() + top - logits[label]) / n as f64
}

/// CPU time of this process, all threads.
fn cpu_seconds() -> Result<f64, String> {
    let stat = std::fs::read_to_string("/proc/self/stat").map_err(|e| format!("/proc/self/stat: {e}"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok());
    Ok((ticks(11).ok_or("no user time")? + ticks(12).ok_or("no system time")?) / 100.0)
}

/// A fixed number in -1 .. 1 for each index; the comparison script has the same.
fn pattern(index: usize) -> f32 {
    (index * 7919 % 2003) as f32 / 1001.5 - 1.0
}

fn gradients(model: &Path) -> Result<(), String> {
    let graph = import(model).map_err(|e| e.to_string())?;
    let mut params = Params::new();
    params.add_graph(&graph).map_err(|e| e.to_string())?;
    params.ids().for_each(|id| params.set_training(id, Training::Trained));
    let program = Program::compile(&graph, &mut params, &Options::default()).map_err(|e| e.to_string())?;
    let n = 3;
    let data = (0..n * graph.elements(ValueId::INPUT)).map(pattern).collect();
    let batch = Batch { n, shape: graph.input_shape.clone(), data };
    let (mut workspace, mut grads) = (Workspace::new(), Grads::new(&params));
    let outputs = program.forward(&params, &batch, &mut workspace).remove(0);
    let loss = |samples: std::ops::Range<usize>, taps: &[&[f32]], seeds: &mut [Vec<f32>]| -> f64 {
        let width = taps[0].len() / samples.len();
        seeds[0].iter_mut().enumerate().for_each(|(i, seed)| *seed = pattern(samples.start * width + i));
        taps[0].iter().zip(&seeds[0]).map(|(y, f)| f64::from(*y) * f64::from(*f)).sum()
    };
    let total = program.step(&params, &batch, &loss, &mut workspace, &mut grads);
    let list: Vec<serde_json::Value> = params
        .ids()
        .map(|id| {
            let info = params.info(id);
            serde_json::json!({
                "name": info.name, "shape": info.shape, "values": params.values(id), "gradient": grads.get(id),
            })
        })
        .collect();
    let result = serde_json::json!({
        "input_shape": graph.input_shape, "loss": total, "outputs": outputs.data, "params": list,
    });
    println!("{result}");
    Ok(())
}

/// Builds a network node by node, with weights like those of a fresh one.
struct Draft {
    graph: Graph,
    seed: u64,
}

impl Draft {
    fn new(name: &str, shape: &[usize]) -> Self {
        let graph = Graph {
            name: name.into(),
            input_tensor: "input".into(),
            input_shape: shape.to_vec(),
            nodes: Vec::new(),
            output: ValueId::INPUT,
            aliases: Vec::new(),
        };
        Self { graph, seed: 1 }
    }

    fn push(&mut self, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        let name = format!("n{}", self.graph.nodes.len() + 1);
        let (tensor, operator) = (name.clone(), String::new());
        self.graph.nodes.push(Node { name, tensor, operator, op, inputs: inputs.to_vec(), shape: shape.to_vec() });
        self.graph.output = ValueId(self.graph.nodes.len());
        self.graph.output
    }

    fn weights(&mut self, count: usize, fan_in: usize) -> Weights {
        let scale = (3.0 / fan_in as f32).sqrt();
        let mut next = || {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.seed >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale
        };
        (0..count).map(|_| next()).collect()
    }

    fn conv(&mut self, x: ValueId, channels: usize, kernel: usize, stride: usize, pad: usize) -> ValueId {
        let [rows, columns, depth] = [0, 1, 2].map(|axis| self.graph.shape(x)[axis]);
        let window = Window { kernel: [kernel; 2], stride: [stride; 2], pad: [pad; 4], dilation: [1, 1] };
        let weights = self.weights(channels * kernel * kernel * depth, kernel * kernel * depth);
        let bias = vec![0.0; channels].into();
        let extent = |extent: usize| (extent + 2 * pad - kernel) / stride + 1;
        let op = Op::Conv(Conv { window, groups: 1, out_channels: channels, weights, bias });
        self.push(op, &[x], &[extent(rows), extent(columns), channels])
    }

    fn same(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        let shape = self.graph.shape(inputs[0]).to_vec();
        self.push(op, inputs, &shape)
    }

    fn relu(&mut self, x: ValueId) -> ValueId {
        self.same(Op::Clip { lo: 0.0, hi: f32::INFINITY }, &[x])
    }

    fn dense(&mut self, x: ValueId, width: usize) -> ValueId {
        let mut shape = self.graph.shape(x).to_vec();
        let depth = shape[shape.len() - 1];
        *shape.last_mut().unwrap_or(&mut 0) = width;
        let (weights, bias) = (self.weights(width * depth, depth), vec![0.0; width].into());
        self.push(Op::Dense(Dense { out_features: width, weights, bias }), &[x], &shape)
    }

    fn norm(&mut self, x: ValueId) -> ValueId {
        let width = self.graph.shape(x)[1];
        let affine = ChannelMap { scale: vec![1.0; width].into(), shift: vec![0.0; width].into() };
        self.same(Op::LayerNorm { affine, epsilon: 1e-6 }, &[x])
    }
}

/// The residual network of 20 layers for 32x32 images, widths 16, 32 and 64, norms folded.
fn resnet20() -> Graph {
    let mut draft = Draft::new("resnet20", &[32, 32, 3]);
    let stem = draft.conv(ValueId::INPUT, 16, 3, 1, 1);
    let mut x = draft.relu(stem);
    for (stage, width) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..3 {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let shortcut = if stride == 2 { draft.conv(x, width, 1, 2, 0) } else { x };
            let inner = draft.conv(x, width, 3, stride, 1);
            let inner = draft.relu(inner);
            let inner = draft.conv(inner, width, 3, 1, 1);
            let sum = draft.same(Op::Add, &[inner, shortcut]);
            x = draft.relu(sum);
        }
    }
    let window = Window { kernel: [8, 8], stride: [1, 1], pad: [0; 4], dilation: [1, 1] };
    let pooled = draft.push(Op::AvgPool(window), &[x], &[1, 1, 64]);
    let flat = draft.push(Op::Reshape, &[pooled], &[64]);
    draft.dense(flat, 10);
    draft.graph
}

/// A vision transformer of 64 tokens, width 96, depth 6 and 3 heads for 32x32 images.
fn vit() -> Graph {
    let (tokens, width, heads) = (64, 96, 3);
    let head = width / heads;
    let mut draft = Draft::new("vit", &[32, 32, 3]);
    let patches = draft.conv(ValueId::INPUT, width, 4, 4, 0);
    let patches = draft.push(Op::Reshape, &[patches], &[tokens, width]);
    let positions = draft.weights(tokens * width, 1200);
    let positions = draft.push(Op::Constant(positions), &[], &[tokens, width]);
    let mut x = draft.same(Op::Add, &[patches, positions]);
    for _ in 0..6 {
        let normed = draft.norm(x);
        let qkv = draft.dense(normed, 3 * width);
        let split = draft.push(Op::Reshape, &[qkv], &[tokens, 3, heads, head]);
        let moved = draft.push(Op::Transpose { perm: vec![1, 2, 0, 3] }, &[split], &[3, heads, tokens, head]);
        let parts = [0, 1, 2].map(|start| {
            let part = draft.push(Op::Slice { axis: 0, start, step: 1 }, &[moved], &[1, heads, tokens, head]);
            draft.push(Op::Reshape, &[part], &[heads, tokens, head])
        });
        let factor = draft.push(Op::Constant(vec![(head as f32).powf(-0.5)].into()), &[], &[1, 1, 1]);
        let q = draft.same(Op::Binary(Arithmetic::Mul), &[parts[0], factor]);
        let scores = draft.push(Op::MatMul { transpose_b: true }, &[q, parts[1]], &[heads, tokens, tokens]);
        let shares = draft.same(Op::Softmax, &[scores]);
        let mixed = draft.push(Op::MatMul { transpose_b: false }, &[shares, parts[2]], &[heads, tokens, head]);
        let mixed = draft.push(Op::Transpose { perm: vec![1, 0, 2] }, &[mixed], &[tokens, heads, head]);
        let mixed = draft.push(Op::Reshape, &[mixed], &[tokens, width]);
        let out = draft.dense(mixed, width);
        x = draft.same(Op::Add, &[out, x]);
        let normed = draft.norm(x);
        let hidden = draft.dense(normed, 4 * width);
        let hidden = draft.same(Op::Unary(Function::Gelu), &[hidden]);
        let out = draft.dense(hidden, width);
        x = draft.same(Op::Add, &[out, x]);
    }
    let x = draft.norm(x);
    let mean = draft.push(Op::Mean { axis: 0 }, &[x], &[1, width]);
    let mean = draft.push(Op::Reshape, &[mean], &[width]);
    draft.dense(mean, 10);
    draft.graph
}
