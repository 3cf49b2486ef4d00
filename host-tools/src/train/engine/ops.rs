//! What an operator of a program has to do.

use std::fmt::Debug;

use super::workspace::Scratch;
use super::{Grads, Params};

pub mod batch_norm;
pub mod conv;
pub mod dense;
pub mod depthwise;
pub mod moves;
pub mod pair;
pub mod pointwise;
pub mod pool;
pub mod product;
pub mod quant;
pub mod rows;

/// A step's computation, prepared for its shapes. All tensors hold the samples of a chunk one after the other.
pub trait Operator: Debug + Send + Sync {
    /// Elements of constants in the kernel's own order, made once per call of the program.
    fn packed_len(&self) -> usize {
        0
    }
    /// Writes them.
    fn pack(&self, _params: &Params, _packed: &mut [f32]) {}
    /// Elements of gradient sums in the kernel's own order; 0 without trained parameters.
    fn sums_len(&self) -> usize {
        0
    }
    /// Hands finished sums to the parameters.
    fn flush(&self, _sums: &[f32], _grads: &mut Grads) {}
    /// Elements per sample that the forward pass leaves for the backward pass besides its values.
    fn aux_len(&self) -> usize {
        0
    }
    /// Which values the backward pass reads.
    fn reads(&self) -> Reads;
    /// Computes the output, which may hold anything before.
    fn forward(&self, run: Forward<'_>);
    /// Adds to the gradient sums and yields the gradients of the inputs.
    fn backward(&self, run: Backward<'_, '_>);
}

/// Values that a backward pass reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reads {
    /// All inputs.
    pub inputs: bool,
    /// The output.
    pub output: bool,
}

/// One forward pass of a step.
pub struct Forward<'a> {
    pub params: &'a Params,
    pub packed: &'a [f32],
    pub inputs: &'a [&'a [f32]],
    pub output: &'a mut [f32],
    pub aux: &'a mut [f32],
    pub samples: usize,
    pub scratch: &'a mut Scratch,
}

/// One backward pass of a step.
pub struct Backward<'a, 's> {
    pub params: &'a Params,
    pub packed: &'a [f32],
    /// Values of the inputs; empty where [`Operator::reads`] does not ask for them.
    pub inputs: &'a [&'a [f32]],
    /// Value of the output; empty as above.
    pub output: &'a [f32],
    pub aux: &'a [f32],
    /// Gradient of the output; may be changed. What it holds afterwards goes to the inputs through which the gradient passes.
    pub gradient: &'a mut [f32],
    /// Per input: where its gradient goes, if it is wanted from here.
    pub sinks: &'a mut [Option<Sink<'s>>],
    pub sums: &'a mut [f32],
    pub samples: usize,
    pub scratch: &'a mut Scratch,
}

/// Destination of an input's gradient.
#[derive(Debug)]
pub struct Sink<'a> {
    /// One element per element of the input.
    pub values: &'a mut [f32],
    /// Whether they hold nothing yet; else what is computed is added.
    pub is_fresh: bool,
}

impl Sink<'_> {
    /// The values, ready to be added to.
    pub fn summed(&mut self) -> &mut [f32] {
        if self.is_fresh {
            self.values.fill(0.0);
            self.is_fresh = false;
        }
        self.values
    }

    /// Stores or adds a whole gradient.
    pub fn take(&mut self, gradient: &[f32]) {
        if self.is_fresh {
            self.values.copy_from_slice(gradient);
            self.is_fresh = false;
        } else {
            super::kernels::rows::add(self.values, gradient);
        }
    }
}

/// What follows the sum of a convolution or fully connected layer in the same step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tail {
    /// The second input is added.
    pub has_residual: bool,
    /// Then the clamp.
    pub clip: Option<(f32, f32)>,
}

/// The two parameters of a layer, and which are trained.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    pub first: super::ParamId,
    pub second: super::ParamId,
    pub first_trained: bool,
    pub second_trained: bool,
}

impl Pair {
    /// Whether any of both is trained.
    pub fn is_trained(&self) -> bool {
        self.first_trained || self.second_trained
    }

    /// Elements of the sums of both, one for each channel.
    pub fn channel_sums_len(&self, channels: usize) -> usize {
        if self.is_trained() { 2 * channels } else { 0 }
    }

    /// Hands out such sums.
    pub fn flush_channels(&self, sums: &[f32], channels: usize, grads: &mut Grads) {
        let (first, second) = sums.split_at(channels);
        self.flush(first, second, grads);
    }

    /// Hands out the sums of both, which lie one after the other.
    pub fn flush(&self, first: &[f32], second: &[f32], grads: &mut Grads) {
        if self.first_trained {
            grads.accumulate(self.first, first);
        }
        if self.second_trained {
            grads.accumulate(self.second, second);
        }
    }
}
