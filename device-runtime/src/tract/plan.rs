//! A plan as a runnable tract model.

use std::format;
use std::sync::Arc;
use std::vec::Vec;

use tract_core::internal::*;
use tract_core::runtime::RunOptions;

use super::op::{StepOp, dims};
use super::{PlanSteps, TractError, TractFamily};
use crate::bundle::PlacedStep;
use crate::exec::{NoObserver, Observer, StepReport};

/// A plan ready to run. Each run allocates its activations and frees each after its last use. Convolution weights are packed
/// when the first plan that uses them is built, all others stay in the bundle.
pub struct TractPlan {
    index: u16,
    input_shape: [usize; 3],
    state: TypedSimpleState,
    placed: Arc<[PlacedStep]>,
}

impl TractPlan {
    /// Checks a bundle and builds one plan of it. To build several plans, keep a [`TractFamily`]: it checks the bundle once
    /// and shares operators.
    ///
    /// # Errors
    /// As [`TractFamily::new`] and [`TractFamily::plan`].
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static, plan: u16) -> Result<Self, TractError> {
        TractFamily::new(bytes)?.plan(plan)
    }

    /// Index of the plan in its bundle.
    #[must_use]
    pub const fn index(&self) -> u16 {
        self.index
    }

    /// Runs the plan on `input`, int8 HWC; returns the int8 output.
    ///
    /// # Errors
    /// [`TractError::InputLength`]; [`TractError::Tract`] if a kernel refused its arguments, which a checked bundle never
    /// causes.
    pub fn run(&mut self, input: &[i8]) -> Result<Vec<i8>, TractError> {
        self.run_observed(input, &mut NoObserver)
    }

    /// Runs the plan and shows every step's output to `observer`, in the order and with the ordinals of
    /// [`Executor::run_observed`](crate::exec::Executor::run_observed). The arena ranges in the reports are those of the
    /// step loop; tract keeps its tensors elsewhere.
    ///
    /// # Errors
    /// As [`TractPlan::run`].
    pub fn run_observed(&mut self, input: &[i8], observer: &mut impl Observer) -> Result<Vec<i8>, TractError> {
        let need = self.input_shape.iter().product();
        if input.len() != need {
            return Err(TractError::InputLength { need, have: input.len() });
        }
        let placed = &self.placed;
        let mut ordinal = 0u16;
        let tensor = Tensor::from_shape(&self.input_shape, input).map_err(tract_error)?;
        let outputs = self.state.run_plan_with_eval(tvec!(tensor.into_tvalue()), |context, state, node, inputs| {
            if !node.op_is::<StepOp>() {
                return tract_core::plan::eval(context, state, node, inputs);
            }
            let step = placed.get(usize::from(ordinal)).context("more nodes than steps")?;
            observer.before(step);
            let outputs = tract_core::plan::eval(context, state, node, inputs)?;
            let output = outputs.first().context("a step without output")?;
            observer.after(StepReport { ordinal, placed: step, output: output.try_as_plain_ram()?.as_slice()? });
            ordinal = ordinal.saturating_add(1);
            Ok(outputs)
        });
        let outputs = outputs.map_err(tract_error)?;
        let output = outputs.first().ok_or(TractError::Changed)?;
        let view = output.try_as_plain_ram().map_err(tract_error)?;
        Ok(view.as_slice::<i8>().map_err(tract_error)?.to_vec())
    }

    /// Multiply-accumulates of one run, summed over what the model's nodes report as their cost.
    ///
    /// # Errors
    /// [`TractError::Tract`] if a node cannot state its cost.
    pub fn macs(&self) -> Result<u64, TractError> {
        let model = self.state.model();
        let mut macs = 0;
        for node in model.nodes() {
            let Some(op) = node.op_as::<StepOp>().filter(|op| op.0.op.macs() > 0) else { continue };
            let facts = model.node_input_facts(node.id).map_err(tract_error)?;
            for (cost, count) in op.cost(&facts).map_err(tract_error)? {
                if cost == Cost::FMA(i8::datum_type()) {
                    macs += count.to_usize().map_err(tract_error)? as u64;
                }
            }
        }
        Ok(macs)
    }

    /// Most bytes that activations occupy at once during a run, plus the largest scratch.
    ///
    /// # Errors
    /// [`TractError::Tract`] if tract cannot evaluate the model's order.
    pub fn peak_activation_bytes(&self) -> Result<u64, TractError> {
        let order = self.state.plan().order_without_consts();
        let steps = self.state.model().eval_tmp_memory_usage(order, |_| true).map_err(tract_error)?;
        let mut peak = 0;
        for (_, bytes) in &steps {
            peak = peak.max(bytes.to_usize().map_err(tract_error)?);
        }
        let scratch = self.placed.iter().map(|placed| placed.step.op.scratch_bytes()).max().unwrap_or(0);
        Ok((peak + scratch) as u64)
    }
}

impl std::fmt::Debug for TractPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TractPlan")
            .field("index", &self.index)
            .field("steps", &self.placed.len())
            .finish_non_exhaustive()
    }
}

/// Wires the steps of `record` into a model that runs them one after another.
pub(super) fn build(family: &TractFamily, index: u16, record: &PlanSteps) -> Result<TractPlan, TractError> {
    let (model, nodes) = wire(family, record).map_err(tract_error)?;
    let state = spawn(model, &nodes).map_err(tract_error)?;
    Ok(TractPlan { index, input_shape: dims(family.input), state, placed: record.placed.clone() })
}

/// The model, and the node of every step in order.
pub(super) fn wire(family: &TractFamily, record: &PlanSteps) -> TractResult<(TypedModel, Vec<usize>)> {
    let mut model = TypedModel::default();
    let mut nodes = Vec::new();
    let mut block_input = model.add_source("input", i8::fact(dims(family.input)))?;
    for index in &record.blocks {
        let block = family.blocks.get(usize::from(*index)).context("no such block")?;
        let mut values = vec![block_input];
        for at in 0..block.steps {
            let placed = record.placed.get(nodes.len()).context("more steps than placements")?;
            let prepared = family.steps.get(block.first_step + at).context("no such step")?;
            prepared.pack().context("the bundle changed after it was checked")?;
            let name = format!("{:03}.{}.{}", nodes.len(), block.name, prepared.op.name());
            let named = placed.step.inputs.iter().take(prepared.op.arity());
            let inputs =
                named.map(|value| values.get(usize::from(*value)).copied().context("a value not yet computed"));
            let inputs = inputs.collect::<TractResult<TVec<OutletId>>>()?;
            let output = *model.wire_node(name, StepOp(prepared.clone()), &inputs)?.first().context("no outlet")?;
            nodes.push(output.node);
            values.push(output);
            block_input = output;
        }
    }
    model.select_output_outlets(&[block_input])?;
    Ok((model, nodes))
}

/// A state that runs `nodes` in exactly this order: the order the exporter planned memory for, and the one in which steps
/// are reported. tract accepts an order only as extra dependencies, and only through this constructor.
fn spawn(model: TypedModel, nodes: &[usize]) -> TractResult<TypedSimpleState> {
    let after_previous: Vec<(usize, usize)> =
        nodes.windows(2).filter_map(|pair| Some((*pair.get(1)?, *pair.first()?))).collect();
    let outputs = model.output_outlets()?.to_vec();
    let options = RunOptions { skip_order_opt_ram: true, ..RunOptions::default() };
    #[allow(deprecated)]
    let plan = TypedSimplePlan::build_with_outputs_and_deps(model, &outputs, &after_previous, &options)?;
    Arc::new(plan).spawn()
}

fn tract_error(error: impl Into<tract_core::prelude::TractError>) -> TractError {
    TractError::Tract(format!("{:#}", error.into()))
}
