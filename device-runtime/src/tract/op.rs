//! A step as a tract operator.

use std::format;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use tract_core::internal::*;

use super::constants::PreparedStep;
use crate::bundle::{self, InPlace};
use crate::kernels::Shape;

/// One step: `i8` tensors `[h, w, c]` in and out. A fused residual is the second input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StepOp(pub(super) Arc<PreparedStep>);

/// tract's spelling of a shape.
pub(super) fn dims(shape: Shape) -> [usize; 3] {
    [usize::from(shape.h), usize::from(shape.w), usize::from(shape.c)]
}

impl StepOp {
    /// A tensor for the output, and the inputs still to be read. The memory of an input that the kernel overwrites is taken
    /// over when no other node holds it, and copied otherwise.
    fn claim_output(&self, mut inputs: TVec<TValue>) -> TractResult<(Tensor, TVec<TValue>)> {
        let op = &self.0.op;
        ensure!(inputs.len() == op.arity(), "{} takes {} inputs, {} given", op.name(), op.arity(), inputs.len());
        let mut output = match op.in_place() {
            InPlace::SecondInput => inputs.remove(1).into_tensor(),
            InPlace::FirstInputIfWanted if inputs[0].is_exclusive() => inputs.remove(0).into_tensor(),
            _ => Tensor::zero::<i8>(&dims(op.output()))?,
        };
        output.set_shape(&dims(op.output()))?;
        Ok((output, inputs))
    }
}

impl Op for StepOp {
    fn name(&self) -> StaticName {
        format!("Stitchkit.{}", self.0.op.name()).into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let (input, output) = (dims(self.0.op.input()), dims(self.0.op.output()));
        Ok(vec![format!("{input:?} -> {output:?}, {} weights", self.0.weight_count())])
    }

    op_as_typed_op!();
}

impl EvalOp for StepOp {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (mut output, inputs) = self.claim_output(inputs)?;
        let views = inputs.iter().map(|value| value.try_as_plain_ram()).collect::<TractResult<TVec<_>>>()?;
        let operands = views.iter().map(|view| view.as_slice::<i8>()).collect::<TractResult<TVec<_>>>()?;
        self.0.run(&operands, output.try_as_plain_ram_mut()?.as_slice_mut::<i8>()?)?;
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for StepOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let op = &self.0.op;
        let expected = [op.input(), op.output()];
        ensure!(inputs.len() == op.arity(), "{} takes {} inputs, {} given", op.name(), op.arity(), inputs.len());
        for (fact, shape) in inputs.iter().zip(expected) {
            let elements = TDim::from(shape.len());
            ensure!(fact.datum_type == i8::datum_type(), "{} takes i8, not {:?}", op.name(), fact.datum_type);
            ensure!(fact.shape.volume() == elements, "{} takes {:?}, not {:?}", op.name(), dims(shape), fact.shape);
        }
        Ok(tvec!(i8::fact(dims(op.output()))))
    }

    /// An axis is linked only where moving or slicing it in the input does the same to the output: never the channels of
    /// operators with per-channel tables, never an axis that a window or a sum runs along.
    fn axes_mapping(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        let linked: String = match &self.0.op {
            bundle::Op::Lut { .. } => "hwc->hwc".into(),
            bundle::Op::Add { .. } => "hwc,hwc->hwc".into(),
            bundle::Op::Softmax { .. } => "hwa->hwc".into(),
            bundle::Op::MaxPool(_) | bundle::Op::AvgPool { .. } => "abc->hwc".into(),
            bundle::Op::Conv2d { geometry, residual: None, .. } if geometry.is_pointwise() => "hwa->hwc".into(),
            bundle::Op::Conv2d { geometry, .. } if geometry.is_pointwise() => "hwa,hwc->hwc".into(),
            bundle::Op::Transpose { perm, .. } => {
                let axis = |&i: &u8| ['h', 'w', 'c'].get(usize::from(i)).copied();
                format!("hwc->{}", perm.iter().filter_map(axis).collect::<String>())
            }
            bundle::Op::LayerNorm { .. } => "hwa->hwc".into(),
            bundle::Op::Conv2d { .. }
            | bundle::Op::Depthwise { .. }
            | bundle::Op::Attention(_)
            | bundle::Op::AddConstant { .. }
            | bundle::Op::Concat { .. }
            | bundle::Op::Slice { .. } => {
                return AxesMapping::disconnected(inputs, outputs);
            }
        };
        linked.parse()
    }

    fn cost(&self, _: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let op = &self.0.op;
        let elements = op.output().elements();
        let i8 = i8::datum_type();
        let operations = match op {
            bundle::Op::Conv2d { .. } | bundle::Op::Depthwise { .. } | bundle::Op::Attention(_) => {
                (Cost::FMA(i8), op.macs())
            }
            bundle::Op::Add { .. } | bundle::Op::AddConstant { .. } => (Cost::FMA(i8), 2 * elements),
            bundle::Op::LayerNorm { .. } => (Cost::FMA(i8), 3 * elements),
            bundle::Op::MaxPool(pool) | bundle::Op::AvgPool { geometry: pool, .. } => {
                let [rows, columns] = pool.window.kernel.map(u64::from);
                (Cost::FMA(i8), elements * rows * columns)
            }
            bundle::Op::Softmax { .. } => (Cost::Div(i8), elements),
            bundle::Op::Lut { .. }
            | bundle::Op::Transpose { .. }
            | bundle::Op::Concat { .. }
            | bundle::Op::Slice { .. } => (Cost::Custom(true, op.name().into()), elements),
        };
        Ok(tvec!(
            (operations.0, operations.1.to_dim()),
            (Cost::Params(i8), self.0.weight_count().to_dim()),
            (Cost::Params(i32::datum_type()), self.0.word_count().to_dim()),
            (Cost::Buffer(i8), op.scratch_bytes().to_dim()),
        ))
    }

    as_op!();
}
