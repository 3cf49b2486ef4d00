//! Float execution of a [`Graph`] on batches, for calibration, initialisation and evaluation.
//!
//! Samples are cut into small chunks that stay in the cache; rayon runs chunks in parallel and every chunk walks the whole
//! graph. Buffers return to a per-thread pool after a value's last use. The chunk size depends on the graph alone, so
//! results do not depend on the number of threads.

use rayon::prelude::*;

use super::{Graph, Op, ValueId};
use kernel::{Kernel, Scratch};

mod attention;
mod conv;
mod kernel;
pub(super) mod pointwise;
mod pool;
mod tensor;
pub use tensor::apply;
#[cfg(test)]
mod tests;

/// Elements of the largest value in a chunk; 256 KiB of `f32`, well inside a second-level cache.
const CHUNK_ELEMENTS: usize = 1 << 16;

/// Samples of one value, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Samples.
    pub n: usize,
    /// Per-sample shape (HWC for feature maps).
    pub shape: Vec<usize>,
    /// `n` times the product of `shape` elements.
    pub data: Vec<f32>,
}

impl Batch {
    /// Elements per sample.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// One sample.
    ///
    /// # Panics
    /// When `index` is not below `n`.
    #[must_use]
    pub fn sample(&self, index: usize) -> &[f32] {
        let elements = self.elements();
        &self.data[index * elements..][..elements]
    }
}

/// Runs a graph on a batch of its inputs and returns its outputs.
///
/// # Panics
/// When the batch does not have the graph's input shape, or the graph breaks its own invariants.
#[must_use]
pub fn forward(graph: &Graph, batch: &Batch) -> Batch {
    forward_keep(graph, batch, &[graph.output]).swap_remove(0)
}

/// Runs a graph on a batch and returns the values of `keep` in that order; nothing behind the last of them is computed.
///
/// # Panics
/// When the batch does not have the graph's input shape, or `keep` names a value the graph does not have.
#[must_use]
pub fn forward_keep(graph: &Graph, batch: &Batch, keep: &[ValueId]) -> Vec<Batch> {
    check(graph, batch);
    let schedule = Schedule::new(graph, keep);
    let mut results: Vec<Batch> = keep
        .iter()
        .map(|&value| {
            let data = vec![0.0; batch.n * graph.elements(value)];
            Batch { n: batch.n, shape: graph.shape(value).to_vec(), data }
        })
        .collect();
    let chunk = schedule.chunk_samples();
    let mut jobs: Vec<Job> = batch
        .data
        .chunks(chunk * batch.elements().max(1))
        .map(|input| Job { input, outputs: Vec::with_capacity(keep.len()) })
        .collect();
    for (result, &value) in results.iter_mut().zip(keep) {
        let pieces = result.data.chunks_mut(chunk * graph.elements(value).max(1));
        for (job, piece) in jobs.iter_mut().zip(pieces) {
            job.outputs.push(piece);
        }
    }
    jobs.par_iter_mut().for_each_init(Scratch::default, |scratch, job| {
        let values = schedule.run(job.input, scratch);
        for (output, &value) in job.outputs.iter_mut().zip(keep) {
            match value {
                ValueId::INPUT => output.copy_from_slice(job.input),
                _ => output.copy_from_slice(&values[value.0][..output.len()]),
            }
        }
        values.into_iter().for_each(|buffer| scratch.give(buffer));
    });
    results
}

/// Runs a graph on a batch and hands every value of the whole batch to `observe` exactly once, the input first, then in
/// the order of the nodes. Each value is freed after its last use.
///
/// # Panics
/// When the batch does not have the graph's input shape.
pub fn forward_observe(graph: &Graph, batch: &Batch, observe: &mut dyn FnMut(ValueId, &[f32])) {
    observe(ValueId::INPUT, &batch.data);
    forward_adjust(graph, batch, &mut |value, values| observe(value, values));
}

/// Runs a graph on a batch and hands the result of every node to `adjust`, in order, which may change it before other nodes
/// read it.
///
/// # Panics
/// When the batch does not have the graph's input shape.
pub fn forward_adjust(graph: &Graph, batch: &Batch, adjust: &mut dyn FnMut(ValueId, &mut [f32])) {
    check(graph, batch);
    let every: Vec<ValueId> = (0..=graph.nodes.len()).map(ValueId).collect();
    let schedule = Schedule::new(graph, &every);
    let chunk = schedule.chunk_samples();
    let last_use = last_uses(graph);
    let mut values: Vec<Vec<f32>> = vec![Vec::new(); graph.nodes.len() + 1];
    for (index, node) in graph.nodes.iter().enumerate() {
        let mut output = vec![0.0; batch.n * graph.elements(ValueId(index + 1))];
        let inputs: Vec<(&[f32], usize)> = node
            .inputs
            .iter()
            .map(|&input| {
                let data = if input == ValueId::INPUT { &batch.data } else { &values[input.0] };
                (data.as_slice(), graph.elements(input))
            })
            .collect();
        let elements = graph.elements(ValueId(index + 1)).max(1);
        output.par_chunks_mut(chunk * elements).enumerate().for_each_init(Scratch::default, |scratch, (i, piece)| {
            let samples = piece.len() / elements;
            let pieces: Vec<&[f32]> = inputs
                .iter()
                .map(|&(data, per_sample)| &data[i * chunk * per_sample..][..samples * per_sample])
                .collect();
            schedule.kernels[index].run(&pieces, piece, samples, scratch);
        });
        adjust(ValueId(index + 1), &mut output);
        values[index + 1] = output;
        for &input in &node.inputs {
            if last_use[input.0] == index {
                values[input.0] = Vec::new();
            }
        }
    }
}

fn check(graph: &Graph, batch: &Batch) {
    let elements: usize = graph.input_shape.iter().product();
    assert!(
        batch.elements() == elements && batch.data.len() == batch.n * elements,
        "{}: a batch of {} x {:?} with {} elements does not fit the input {:?}",
        graph.name,
        batch.n,
        batch.shape,
        batch.data.len(),
        graph.input_shape
    );
}

/// The last node that reads each value, `usize::MAX` where none does.
fn last_uses(graph: &Graph) -> Vec<usize> {
    let mut last = vec![usize::MAX; graph.nodes.len() + 1];
    for (index, node) in graph.nodes.iter().enumerate() {
        for input in &node.inputs {
            last[input.0] = index;
        }
    }
    last
}

/// One chunk of samples and where its results go.
struct Job<'a> {
    input: &'a [f32],
    outputs: Vec<&'a mut [f32]>,
}

/// A graph ready to run: kernels with repacked weights and each value's last use.
struct Schedule<'g> {
    graph: &'g Graph,
    kernels: Vec<Kernel<'g>>,
    needed: Vec<bool>,
    /// Last node that reads a value; values that are kept are never free.
    last_use: Vec<usize>,
}

impl<'g> Schedule<'g> {
    fn new(graph: &'g Graph, keep: &[ValueId]) -> Self {
        let mut needed = vec![false; graph.nodes.len() + 1];
        keep.iter().for_each(|value| needed[value.0] = true);
        for index in (0..graph.nodes.len()).rev() {
            if needed[index + 1] {
                graph.nodes[index].inputs.iter().for_each(|input| needed[input.0] = true);
            }
        }
        let mut last_use = vec![usize::MAX; graph.nodes.len() + 1];
        for (index, node) in graph.nodes.iter().enumerate().filter(|&(index, _)| needed[index + 1]) {
            node.inputs.iter().for_each(|input| last_use[input.0] = index);
        }
        keep.iter().for_each(|value| last_use[value.0] = usize::MAX);
        let kernels = graph.nodes.iter().map(|node| Kernel::new(graph, node)).collect();
        Self { graph, kernels, needed, last_use }
    }

    fn chunk_samples(&self) -> usize {
        let largest = (0..=self.graph.nodes.len()).map(|value| self.graph.elements(ValueId(value))).max().unwrap_or(1);
        (CHUNK_ELEMENTS / largest.max(1)).clamp(1, 64)
    }

    /// All needed values of one chunk; those past their last use are empty.
    fn run(&self, input: &[f32], scratch: &mut Scratch) -> Vec<Vec<f32>> {
        let samples = input.len() / self.graph.elements(ValueId::INPUT).max(1);
        let mut values: Vec<Vec<f32>> = vec![Vec::new(); self.graph.nodes.len() + 1];
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if !self.needed[index + 1] {
                continue;
            }
            let length = samples * self.graph.elements(ValueId(index + 1));
            if let Some(reused) = self.reusable(index) {
                let mut buffer = std::mem::take(&mut values[node.inputs[reused].0]);
                let other = node.inputs.iter().enumerate().find(|&(i, _)| i != reused).map(|(_, id)| *id);
                let other = other.map(|id| slice(&values, input, id, samples * self.graph.elements(id)));
                self.kernels[index].run_in_place(&mut buffer[..length], other);
                values[index + 1] = buffer;
            } else {
                let mut buffer = scratch.take(length);
                let inputs: Vec<&[f32]> = node
                    .inputs
                    .iter()
                    .map(|&id| slice(&values, input, id, samples * self.graph.elements(id)))
                    .collect();
                self.kernels[index].run(&inputs, &mut buffer[..length], samples, scratch);
                values[index + 1] = buffer;
            }
            for id in &node.inputs {
                if self.last_use[id.0] == index {
                    scratch.give(std::mem::take(&mut values[id.0]));
                }
            }
        }
        values
    }

    /// An input whose buffer the node may overwrite with its output.
    fn reusable(&self, index: usize) -> Option<usize> {
        let node = &self.graph.nodes[index];
        if !matches!(node.op, Op::Add | Op::Clip { .. } | Op::Reshape) {
            return None;
        }
        if node.inputs.len() == 2 && node.inputs[0] == node.inputs[1] {
            return None;
        }
        node.inputs.iter().position(|&id| id != ValueId::INPUT && self.last_use[id.0] == index)
    }
}

fn slice<'a>(values: &'a [Vec<f32>], input: &'a [f32], id: ValueId, length: usize) -> &'a [f32] {
    if id == ValueId::INPUT { &input[..length] } else { &values[id.0][..length] }
}
