//! Graphs compiled for training.

use std::ops::Range;
use std::sync::Mutex;

use rayon::prelude::*;

use super::chunk::{Chunk, Purpose};
use super::plan::{Plan, plan};
use super::workspace::{Scratch, grown};
use super::{EngineError, Grads, ParamId, Params, Training, Workspace};
use crate::graph::{Batch, Graph, ValueId};
use stitchkit_runtime::bundle::Quant;

/// Elements of all kept values of a chunk that fit a core's share of the caches; 8 MiB.
const CHUNK_ELEMENTS: usize = 1 << 21;
/// Most lanes of a batch: more threads than this find no work.
const MAX_LANES: usize = 16;
/// Elements that the gradient sums of all lanes may take; 512 MiB.
const LANE_ELEMENTS: usize = 1 << 27;

/// What a program yields and how it computes.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Values that losses see and may seed with gradients, in this order; empty stands for the graph's output alone.
    pub taps: Vec<ValueId>,
    /// Values that are rounded to int8 as the exported bundle will, with straight-through gradients: inside the range the
    /// gradient passes, outside it is zero. A value that a later fusion makes disappear (a convolution before its ReLU) is
    /// simply not listed. Weights and biases of a convolution or fully connected layer that reads a rounded value are rounded
    /// as export rounds them; their gradients pass straight through.
    pub fake_quant: Vec<(ValueId, Quant)>,
    /// Affine maps that are batch norms: their input is normalised with the statistics of the chunk's samples, in the forward
    /// passes of inference too.
    pub batch_norms: Vec<ValueId>,
    /// Samples per chunk; `None` chooses by the size of the graph's values. Other chunks add in another order.
    pub chunk_samples: Option<usize>,
}

/// A loss over a chunk of samples. Closures of this signature are losses.
pub trait Loss: Sync {
    /// Sum of the losses of the samples `samples` of the batch. `taps[i]` holds tap `i` of these samples one after the
    /// other, `seeds[i]` (zeros, same length) takes the gradient of the returned sum with respect to it.
    ///
    /// Divide by the batch size here if the mean is wanted.
    fn chunk(&self, samples: Range<usize>, taps: &[&[f32]], seeds: &mut [Vec<f32>]) -> f64;
}

impl<F: Fn(Range<usize>, &[&[f32]], &mut [Vec<f32>]) -> f64 + Sync> Loss for F {
    fn chunk(&self, samples: Range<usize>, taps: &[&[f32]], seeds: &mut [Vec<f32>]) -> f64 {
        self(samples, taps, seeds)
    }
}

/// A graph ready to run forward and backward.
#[derive(Debug)]
pub struct Program {
    pub(super) plan: Plan,
    trained: Vec<ParamId>,
    tap_shapes: Vec<Vec<usize>>,
    /// Where each step's packed constants and gradient sums begin, and their ends.
    packed: Vec<Range<usize>>,
    sums: Vec<Range<usize>>,
    /// Slots that nothing reads after each step, in inference and in training.
    dead: [Vec<Vec<usize>>; 2],
    chunk_samples: usize,
}

impl Program {
    /// Compiles a graph. Its constants are added to `params`; those frozen there get no gradient, and nothing is
    /// propagated to where only frozen ones are.
    ///
    /// # Errors
    /// [`EngineError`] names the node or value.
    pub fn compile(graph: &Graph, params: &mut Params, options: &Options) -> Result<Self, EngineError> {
        params.add_graph(graph)?;
        let plan = plan(graph, params, options)?;
        let is_trained = |id: &ParamId| params.info(*id).training == Training::Trained;
        let trained = plan.params.iter().copied().filter(is_trained).collect();
        let taps = if options.taps.is_empty() { vec![graph.output] } else { options.taps.clone() };
        let tap_shapes = taps.iter().map(|&tap| graph.shape(tap).to_vec()).collect();
        let packed = ranges(plan.steps.iter().map(|step| step.op.packed_len()));
        let sums = ranges(plan.steps.iter().map(|step| step.op.sums_len()));
        let dead = [Purpose::Inference, Purpose::Training].map(|purpose| dead_slots(&plan, purpose));
        let elements = kept_elements(&plan, &dead[1]).max(1);
        let chunk_samples = options.chunk_samples.unwrap_or((CHUNK_ELEMENTS / elements).clamp(1, 64)).max(1);
        Ok(Self { plan, trained, tap_shapes, packed, sums, dead, chunk_samples })
    }

    /// Parameters the program reads, in order of first use.
    #[must_use]
    pub fn params(&self) -> &[ParamId] {
        &self.plan.params
    }

    /// Those of them that get gradients.
    #[must_use]
    pub fn trained(&self) -> &[ParamId] {
        &self.trained
    }

    /// Samples that walk the program together.
    #[must_use]
    pub fn chunk_samples(&self) -> usize {
        self.chunk_samples
    }

    /// Bytes of memory that a step with `samples` samples on `threads` threads needs besides parameters, gradients and
    /// optimizer state. Gradients on their way through the program are estimated at twice the largest value.
    #[must_use]
    pub fn step_bytes(&self, samples: usize, threads: usize) -> usize {
        let largest = self.plan.slots.iter().max().copied().unwrap_or(0);
        let chunk = (kept_elements(&self.plan, &self.dead[1]) + 2 * largest) * self.chunk_samples.min(samples);
        let lanes = self.lanes(samples.div_ceil(self.chunk_samples)) * last(&self.sums);
        4 * (threads.max(1) * chunk + lanes + last(&self.packed))
    }

    /// Taps of a batch; keeps nothing for a backward pass.
    ///
    /// # Panics
    /// When the batch does not have the graph's input shape.
    #[must_use]
    pub fn forward(&self, params: &Params, batch: &Batch, workspace: &mut Workspace) -> Vec<Batch> {
        self.check(batch);
        self.pack(params, workspace);
        let Workspace { packed, idle, .. } = workspace;
        let chunk_len = (self.chunk_samples * batch.elements()).max(1);
        let mut results: Vec<Batch> = self
            .tap_shapes
            .iter()
            .map(|shape| Batch {
                n: batch.n,
                shape: shape.clone(),
                data: vec![0.0; batch.n * shape.iter().product::<usize>()],
            })
            .collect();
        let mut jobs: Vec<(&[f32], Vec<&mut [f32]>)> =
            batch.data.chunks(chunk_len).map(|input| (input, Vec::new())).collect();
        for result in &mut results {
            let len = (self.chunk_samples * result.elements()).max(1);
            jobs.iter_mut().zip(result.data.chunks_mut(len)).for_each(|(job, part)| job.1.push(part));
        }
        let packed = &packed[..];
        jobs.par_iter_mut().for_each(|(input, outputs)| {
            let samples = input.len() / batch.elements().max(1);
            let chunk = Chunk { program: self, params, packed, input, samples };
            Workspace::with_scratch(idle, |scratch| {
                let values = chunk.forward(Purpose::Inference, scratch);
                for (output, &slot) in outputs.iter_mut().zip(&self.plan.taps) {
                    output.copy_from_slice(chunk.value(&values, slot));
                }
                Chunk::finish(values, scratch);
            });
        });
        results
    }

    /// Forward, loss and backward of a batch; gradients are added to `grads`. Returns the sum of the chunks' losses, added in
    /// the order of the samples.
    ///
    /// # Panics
    /// When the batch does not have the graph's input shape.
    pub fn step(
        &self,
        params: &Params,
        batch: &Batch,
        loss: &dyn Loss,
        workspace: &mut Workspace,
        grads: &mut Grads,
    ) -> f64 {
        self.check(batch);
        self.pack(params, workspace);
        let chunks = batch.n.div_ceil(self.chunk_samples);
        let (count, length) = (self.lanes(chunks), last(&self.sums));
        let Workspace { packed, lanes, idle } = workspace;
        lanes.resize_with(count.max(lanes.len()), Vec::new);
        let lanes = &mut lanes[..count];
        let pass = Pass { program: self, params, packed, batch, loss, idle };
        let losses: Vec<Vec<f64>> = lanes
            .par_iter_mut()
            .enumerate()
            .map(|(lane, sums)| {
                let sums = grown(sums, length);
                sums.fill(0.0);
                (lane * chunks / count..(lane + 1) * chunks / count).map(|chunk| pass.chunk(chunk, sums)).collect()
            })
            .collect();
        if let Some((total, others)) = lanes.split_first_mut() {
            reduce(&mut total[..length], others);
            for (index, step) in self.plan.steps.iter().enumerate().filter(|(_, step)| step.op.sums_len() > 0) {
                step.op.flush(&total[self.sums[index].clone()], grads);
            }
        }
        losses.iter().flatten().sum()
    }

    /// Lanes of a batch of `chunks` chunks.
    fn lanes(&self, chunks: usize) -> usize {
        (LANE_ELEMENTS / last(&self.sums).max(1)).clamp(1, MAX_LANES).min(chunks)
    }

    fn check(&self, batch: &Batch) {
        assert_eq!(batch.elements(), self.plan.slots[0], "the batch has another input shape than the graph");
        assert_eq!(batch.data.len(), batch.n * batch.elements(), "the batch is not whole");
    }

    fn pack(&self, params: &Params, workspace: &mut Workspace) {
        let packed = grown(&mut workspace.packed, last(&self.packed));
        for (step, range) in self.plan.steps.iter().zip(&self.packed) {
            step.op.pack(params, &mut packed[range.clone()]);
        }
    }

    /// A step's part of the packed constants.
    pub(super) fn packed_of<'a>(&self, step: usize, packed: &'a [f32]) -> &'a [f32] {
        &packed[self.packed[step].clone()]
    }

    /// A step's part of the gradient sums.
    pub(super) fn sums_of<'a>(&self, step: usize, sums: &'a mut [f32]) -> &'a mut [f32] {
        &mut sums[self.sums[step].clone()]
    }

    /// Slots that are not read after a step.
    pub(super) fn dead_after(&self, step: usize, purpose: Purpose) -> &[usize] {
        &self.dead[usize::from(purpose == Purpose::Training)][step]
    }
}

/// What the chunks of one step share.
struct Pass<'a> {
    program: &'a Program,
    params: &'a Params,
    packed: &'a [f32],
    batch: &'a Batch,
    loss: &'a dyn Loss,
    idle: &'a Mutex<Vec<Scratch>>,
}

impl Pass<'_> {
    /// Forward, loss and backward of one chunk; its loss.
    fn chunk(&self, index: usize, sums: &mut [f32]) -> f64 {
        let size = self.program.chunk_samples;
        let range = index * size..((index + 1) * size).min(self.batch.n);
        let elements = self.batch.elements();
        let input = &self.batch.data[range.start * elements..range.end * elements];
        let Self { program, params, packed, .. } = *self;
        let chunk = Chunk { program, params, packed, input, samples: range.len() };
        Workspace::with_scratch(self.idle, |scratch| {
            let values = chunk.forward(Purpose::Training, scratch);
            let taps: Vec<&[f32]> = program.plan.taps.iter().map(|&slot| chunk.value(&values, slot)).collect();
            let mut seeds: Vec<Vec<f32>> = taps.iter().map(|tap| vec![0.0; tap.len()]).collect();
            let loss = self.loss.chunk(range, &taps, &mut seeds);
            chunk.backward(&values, &seeds, sums, scratch);
            Chunk::finish(values, scratch);
            loss
        })
    }
}

/// Adds all lanes to the first, in order.
fn reduce(total: &mut [f32], others: &[Vec<f32>]) {
    const PART: usize = 1 << 14;
    total.par_chunks_mut(PART).enumerate().for_each(|(part, total)| {
        for other in others {
            super::kernels::rows::add(total, &other[part * PART..][..total.len()]);
        }
    });
}

fn ranges(lens: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let mut start = 0;
    lens.map(|len| {
        start += len;
        start - len..start
    })
    .collect()
}

fn last(ranges: &[Range<usize>]) -> usize {
    ranges.last().map_or(0, |range| range.end)
}

/// Slots to free after each step: those whose last reader it is, unless taps or the backward pass read them.
fn dead_slots(plan: &Plan, purpose: Purpose) -> Vec<Vec<usize>> {
    let mut is_kept = vec![false; plan.slots.len()];
    plan.taps.iter().for_each(|&slot| is_kept[slot] = true);
    if purpose == Purpose::Training {
        for step in plan.steps.iter().filter(|step| step.is_trained) {
            let reads = step.op.reads();
            is_kept[step.output] |= reads.output;
            step.inputs.iter().for_each(|&slot| is_kept[slot] |= reads.inputs);
        }
    }
    let mut last_use: Vec<Option<usize>> = vec![None; plan.slots.len()];
    for (index, step) in plan.steps.iter().enumerate() {
        last_use[step.output] = Some(index);
        step.inputs.iter().for_each(|&slot| last_use[slot] = Some(index));
    }
    let mut dead = vec![Vec::new(); plan.steps.len()];
    for (slot, last) in last_use.into_iter().enumerate().skip(1).filter(|(slot, _)| !is_kept[*slot]) {
        if let Some(last) = last {
            dead[last].push(slot);
        }
    }
    dead
}

/// Elements per sample that are alive when the forward pass of a training step ends.
fn kept_elements(plan: &Plan, dead: &[Vec<usize>]) -> usize {
    let mut is_dead = vec![false; plan.slots.len()];
    dead.iter().flatten().for_each(|&slot| is_dead[slot] = true);
    plan.slots.iter().zip(is_dead).filter(|(_, is_dead)| !is_dead).map(|(len, _)| len).sum()
}
