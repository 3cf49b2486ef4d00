//! Graphs compiled for training.

use std::ops::Range;

use super::{EngineError, Grads, ParamId, Params, Workspace};
use crate::graph::{Batch, Graph, ValueId};
use stitchkit_runtime::bundle::Quant;

/// What a program yields and how it computes.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Values that losses see and may seed with gradients, in this order; empty stands for the graph's output alone.
    pub taps: Vec<ValueId>,
    /// Values that are rounded to int8 as the exported bundle will, with straight-through gradients: inside the range the
    /// gradient passes, outside it is zero. A value that a later fusion makes disappear (a convolution before its ReLU) is
    /// simply not listed.
    pub fake_quant: Vec<(ValueId, Quant)>,
    /// Samples per chunk; `None` chooses by the size of the graph's values.
    pub chunk_samples: Option<usize>,
}

/// A loss over a chunk of samples.
pub trait Loss: Sync {
    /// Sum of the losses of the samples `samples` of the batch. `taps[i]` holds tap `i` of these samples one after the
    /// other, `seeds[i]` (zeros, same length) takes the gradient of the returned sum with respect to it; a tap whose seed
    /// is left all zero still runs backward, so tap only what is used.
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
pub struct Program {}

impl Program {
    /// Compiles a graph. Its constants are added to `params`; those frozen there get no gradient, and nothing is
    /// propagated to where only frozen ones are.
    ///
    /// # Errors
    /// [`EngineError`] names the node or value.
    pub fn compile(_graph: &Graph, _params: &mut Params, _options: &Options) -> Result<Self, EngineError> {
        todo!()
    }

    /// Parameters the program reads, in order of first use.
    #[must_use]
    pub fn params(&self) -> &[ParamId] {
        todo!()
    }

    /// Those of them that get gradients.
    #[must_use]
    pub fn trained(&self) -> &[ParamId] {
        todo!()
    }

    /// Bytes of memory that a step with `samples` samples on `threads` threads needs besides parameters and optimizer state.
    #[must_use]
    pub fn step_bytes(&self, _samples: usize, _threads: usize) -> usize {
        todo!()
    }

    /// Taps of a batch; keeps nothing for a backward pass.
    ///
    /// # Panics
    /// When the batch does not have the graph's input shape.
    #[must_use]
    pub fn forward(&self, _params: &Params, _batch: &Batch, _workspace: &mut Workspace) -> Vec<Batch> {
        todo!()
    }

    /// Forward, loss and backward of a batch; gradients are added to `grads`. Returns the sum of the chunks' losses, added in
    /// the order of the samples.
    ///
    /// # Panics
    /// When the batch does not have the graph's input shape.
    pub fn step(
        &self,
        _params: &Params,
        _batch: &Batch,
        _loss: &dyn Loss,
        _workspace: &mut Workspace,
        _grads: &mut Grads,
    ) -> f64 {
        todo!()
    }
}
