//! One chunk of samples through the steps of a program, forward and backward.

use super::Params;
use super::ops::{Backward, Forward, Sink};
use super::plan::Step;
use super::program::Program;
use super::workspace::{Buffer, Scratch};

/// What a chunk's passes share.
pub struct Chunk<'a> {
    pub program: &'a Program,
    pub params: &'a Params,
    /// Packed constants of all steps.
    pub packed: &'a [f32],
    /// The chunk's part of the batch.
    pub input: &'a [f32],
    pub samples: usize,
}

/// Values of a chunk by slot, and what steps left for their backward passes.
pub struct Values {
    slots: Vec<Option<Buffer>>,
    aux: Vec<Option<Buffer>>,
}

/// Whether a backward pass follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Values are dropped after their last use.
    Inference,
    /// What the backward pass reads is kept.
    Training,
}

impl Chunk<'_> {
    /// A slot's values; empty if it is not kept.
    pub fn value<'v>(&'v self, values: &'v Values, slot: usize) -> &'v [f32] {
        match slot {
            0 => self.input,
            _ => values.slots[slot].as_deref().unwrap_or(&[]),
        }
    }

    /// Runs all steps.
    pub fn forward(&self, purpose: Purpose, scratch: &mut Scratch) -> Values {
        let plan = &self.program.plan;
        let mut values =
            Values { slots: plan.slots.iter().map(|_| None).collect(), aux: plan.steps.iter().map(|_| None).collect() };
        for (index, step) in plan.steps.iter().enumerate() {
            let mut output = scratch.take(self.samples * plan.slots[step.output]);
            let mut aux = scratch.take(self.samples * step.op.aux_len());
            let inputs: Vec<&[f32]> = step.inputs.iter().map(|&slot| self.value(&values, slot)).collect();
            step.op.forward(Forward {
                params: self.params,
                packed: self.program.packed_of(index, self.packed),
                inputs: &inputs,
                output: &mut output,
                aux: &mut aux,
                samples: self.samples,
                scratch,
            });
            values.slots[step.output] = Some(output);
            if purpose == Purpose::Training && step.is_trained {
                values.aux[index] = Some(aux);
            } else {
                scratch.give(aux);
            }
            for &slot in self.program.dead_after(index, purpose) {
                if let Some(buffer) = values.slots[slot].take() {
                    scratch.give(buffer);
                }
            }
        }
        values
    }

    /// Propagates the seeds of the taps and adds to the lane's sums.
    pub fn backward(&self, values: &Values, seeds: &[Vec<f32>], sums: &mut [f32], scratch: &mut Scratch) {
        let plan = &self.program.plan;
        let mut gradients: Vec<Option<Buffer>> = plan.slots.iter().map(|_| None).collect();
        for (&slot, seed) in plan.taps.iter().zip(seeds) {
            if plan.wants_gradient[slot] {
                receive(&mut gradients[slot], seed, scratch);
            }
        }
        for (index, step) in plan.steps.iter().enumerate().rev().filter(|(_, step)| step.is_trained) {
            let Some(mut gradient) = gradients[step.output].take() else { continue };
            self.step_backward(index, values, &mut gradient, &mut gradients, sums, scratch);
            self.pass_on(step, gradient, &mut gradients, scratch);
        }
        gradients.into_iter().flatten().for_each(|buffer| scratch.give(buffer));
    }

    fn step_backward(
        &self,
        index: usize,
        values: &Values,
        gradient: &mut [f32],
        gradients: &mut [Option<Buffer>],
        sums: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let plan = &self.program.plan;
        let step = &plan.steps[index];
        // A slot that is read twice gets a buffer of its own for the second gradient.
        let mut held: Vec<Option<(Buffer, bool)>> = Vec::with_capacity(step.inputs.len());
        for (i, &slot) in step.inputs.iter().enumerate() {
            let is_wanted = plan.wants_gradient[slot] && !step.passes.contains(&i);
            held.push(is_wanted.then(|| match gradients[slot].take() {
                Some(buffer) => (buffer, false),
                None => (scratch.take(self.samples * plan.slots[slot]), true),
            }));
        }
        let mut sinks: Vec<Option<Sink<'_>>> = held
            .iter_mut()
            .map(|held| held.as_mut().map(|(values, is_fresh)| Sink { values, is_fresh: *is_fresh }))
            .collect();
        let inputs: Vec<&[f32]> = step.inputs.iter().map(|&slot| self.value(values, slot)).collect();
        step.op.backward(Backward {
            params: self.params,
            packed: self.program.packed_of(index, self.packed),
            inputs: &inputs,
            output: self.value(values, step.output),
            aux: values.aux[index].as_deref().unwrap_or(&[]),
            gradient,
            sinks: &mut sinks,
            sums: self.program.sums_of(index, sums),
            samples: self.samples,
            scratch,
        });
        for (&slot, (buffer, _)) in step.inputs.iter().zip(held).filter_map(|(slot, held)| Some((slot, held?))) {
            match &mut gradients[slot] {
                Some(first) => {
                    super::kernels::rows::add(first, &buffer);
                    scratch.give(buffer);
                }
                empty => *empty = Some(buffer),
            }
        }
    }

    /// Hands the output's gradient to the inputs through which it passes, the last one without a copy.
    fn pass_on(&self, step: &Step, gradient: Buffer, gradients: &mut [Option<Buffer>], scratch: &mut Scratch) {
        let wanted = |i: &&usize| self.program.plan.wants_gradient[step.inputs[**i]];
        let mut slots: Vec<usize> = step.passes.iter().filter(wanted).map(|&i| step.inputs[i]).collect();
        let last = slots.pop();
        for slot in slots {
            receive(&mut gradients[slot], &gradient, scratch);
        }
        match last {
            Some(slot) if gradients[slot].is_none() => gradients[slot] = Some(gradient),
            Some(slot) => {
                receive(&mut gradients[slot], &gradient, scratch);
                scratch.give(gradient);
            }
            None => scratch.give(gradient),
        }
    }

    /// Returns all buffers.
    pub fn finish(values: Values, scratch: &mut Scratch) {
        values.slots.into_iter().chain(values.aux).flatten().for_each(|buffer| scratch.give(buffer));
    }
}

/// Stores or adds a gradient.
fn receive(to: &mut Option<Buffer>, gradient: &[f32], scratch: &mut Scratch) {
    match to {
        Some(sum) => super::kernels::rows::add(sum, gradient),
        None => {
            let mut buffer = scratch.take(gradient.len());
            buffer.copy_from_slice(gradient);
            *to = Some(buffer);
        }
    }
}
