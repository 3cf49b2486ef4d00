//! Operators that treat every element alone.

use super::{Backward, Forward, Operator, Reads};
use crate::graph::Function;
use crate::train::engine::kernels::{rows, unary};

/// Clamp to `lo ..= hi`.
#[derive(Debug)]
pub struct ClipStep {
    pub lo: f32,
    pub hi: f32,
}

impl Operator for ClipStep {
    fn reads(&self) -> Reads {
        Reads { inputs: false, output: true }
    }

    fn forward(&self, run: Forward<'_>) {
        run.output.copy_from_slice(run.inputs[0]);
        rows::clip(run.output, self.lo, self.hi);
    }

    fn backward(&self, run: Backward<'_, '_>) {
        rows::mask(run.gradient, run.output, self.lo, self.hi);
        if let Some(sink) = &mut run.sinks[0] {
            sink.take(run.gradient);
        }
    }
}

/// A function of every element.
#[derive(Debug)]
pub struct UnaryStep {
    pub function: Function,
}

impl Operator for UnaryStep {
    fn reads(&self) -> Reads {
        Reads { inputs: true, output: false }
    }

    fn forward(&self, run: Forward<'_>) {
        unary::apply(self.function, run.inputs[0], run.output);
    }

    fn backward(&self, run: Backward<'_, '_>) {
        unary::chain(self.function, run.inputs[0], run.gradient);
        if let Some(sink) = &mut run.sinks[0] {
            sink.take(run.gradient);
        }
    }
}
