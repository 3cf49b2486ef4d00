//! From a graph to fused steps over slots.
//!
//! A slot is a value in memory; a reshape shares its input's slot. A convolution or fully connected layer takes in the sum
//! and the clamp that alone follow it.

use std::collections::HashMap;

use super::kernels::depthwise::Depthwise;
use super::ops::batch_norm::BatchNormStep;
use super::ops::conv::ConvStep;
use super::ops::dense::DenseStep;
use super::ops::depthwise::DepthwiseStep;
use super::ops::moves::{ConcatStep, TakeStep};
use super::ops::pair::{BinaryStep, SumStep, Walk};
use super::ops::pointwise::{ClipStep, UnaryStep};
use super::ops::pool::{Kind, PoolStep};
use super::ops::product::MatMulStep;
use super::ops::quant::RoundStep;
use super::ops::rows::{AffineStep, ConstantStep, LayerNormStep, MeanStep, SoftmaxStep};
use super::ops::{Operator, Pair, Tail};
use super::{EngineError, Options, ParamId, Params, Training};
use crate::graph::{Conv, Graph, Node, Op, ValueId, Weights, Window};
use stitchkit_runtime::bundle::Quant;

/// One computation of a program.
#[derive(Debug)]
pub struct Step {
    pub op: Box<dyn Operator>,
    /// Slots read.
    pub inputs: Vec<usize>,
    /// Slot written.
    pub output: usize,
    /// Inputs whose gradient is what the backward pass leaves in the output's gradient.
    pub passes: Vec<usize>,
    /// Whether the backward pass has anything to do.
    pub is_trained: bool,
}

/// A graph's steps.
#[derive(Debug, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Elements per sample of each slot; slot 0 is the input.
    pub slots: Vec<usize>,
    /// Whether a slot's value depends on a trained parameter.
    pub wants_gradient: Vec<bool>,
    /// Slot of each tap.
    pub taps: Vec<usize>,
    /// Parameters read, in order of first use.
    pub params: Vec<ParamId>,
}

/// Compiles `graph`, whose constants are in `params`.
pub fn plan(graph: &Graph, params: &Params, options: &Options) -> Result<Plan, EngineError> {
    let taps = if options.taps.is_empty() { vec![graph.output] } else { options.taps.clone() };
    for &value in taps.iter().chain(options.fake_quant.iter().map(|(value, _)| value)) {
        if value.0 > graph.nodes.len() {
            return Err(EngineError::NoSuchValue { value, values: graph.nodes.len() + 1 });
        }
    }
    let mut planner = Planner::new(graph, params, &taps, options);
    planner.enter(ValueId::INPUT, 0);
    for index in 0..graph.nodes.len() {
        let value = ValueId(index + 1);
        if planner.readers[value.0] > 0 && planner.holder[value.0].is_none() {
            check(graph, &graph.nodes[index])?;
            planner.node(value);
        }
    }
    planner.plan.taps = taps.iter().filter_map(|tap| planner.holder[tap.0]).collect();
    Ok(planner.plan)
}

struct Planner<'a> {
    graph: &'a Graph,
    params: &'a Params,
    /// Readers of each value among the needed nodes; taps count as one each.
    readers: Vec<usize>,
    is_tap: Vec<bool>,
    quants: HashMap<ValueId, Quant>,
    batch_norms: &'a [ValueId],
    /// Slot of each value once it is computed.
    holder: Vec<Option<usize>>,
    /// Quantization that a slot's values were rounded to.
    rounded: Vec<Option<Quant>>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(graph: &'a Graph, params: &'a Params, taps: &[ValueId], options: &'a Options) -> Self {
        let mut readers = vec![0; graph.nodes.len() + 1];
        let mut is_tap = vec![false; graph.nodes.len() + 1];
        for tap in taps {
            readers[tap.0] += 1;
            is_tap[tap.0] = true;
        }
        for value in (1..=graph.nodes.len()).rev().filter(|&value| value > 0) {
            if readers[value] > 0 {
                graph.nodes[value - 1].inputs.iter().for_each(|input| readers[input.0] += 1);
            }
        }
        let plan = Plan { slots: vec![graph.elements(ValueId::INPUT)], wants_gradient: vec![false], ..Plan::default() };
        let quants = options.fake_quant.iter().copied().collect();
        let batch_norms = &options.batch_norms;
        let holder = vec![None; graph.nodes.len() + 1];
        Self { graph, params, readers, is_tap, quants, batch_norms, holder, rounded: vec![None], plan }
    }

    /// Notes that `value` is in `slot`, rounded if it is to be.
    fn enter(&mut self, value: ValueId, slot: usize) {
        let slot = match self.quants.get(&value) {
            Some(&quant) => {
                let rounded = self.push(Box::new(RoundStep { quant }), vec![slot], value, &[], false);
                self.rounded[rounded] = Some(quant);
                rounded
            }
            None => slot,
        };
        self.holder[value.0] = Some(slot);
    }

    /// Adds a step and its output's slot.
    fn push(
        &mut self,
        op: Box<dyn Operator>,
        inputs: Vec<usize>,
        value: ValueId,
        passes: &[usize],
        has_trained: bool,
    ) -> usize {
        let is_trained = has_trained || inputs.iter().any(|&slot| self.plan.wants_gradient[slot]);
        let output = self.plan.slots.len();
        self.plan.slots.push(self.graph.elements(value));
        self.plan.wants_gradient.push(is_trained);
        self.rounded.push(None);
        self.plan.steps.push(Step { op, inputs, output, passes: passes.to_vec(), is_trained });
        output
    }

    fn slot(&self, value: ValueId) -> usize {
        self.holder[value.0].expect("inputs come before their readers")
    }

    fn param(&mut self, weights: &Weights) -> (ParamId, bool) {
        let id = self.params.find(weights).expect("all constants of the graph were added");
        if !self.plan.params.contains(&id) {
            self.plan.params.push(id);
        }
        (id, self.params.info(id).training == Training::Trained)
    }

    fn pair(&mut self, first: &Weights, second: &Weights) -> Pair {
        let ((first, first_trained), (second, second_trained)) = (self.param(first), self.param(second));
        Pair { first, second, first_trained, second_trained }
    }

    /// Compiles the node of `value`, and what it takes in.
    fn node(&mut self, value: ValueId) {
        let graph = self.graph;
        let node = &graph.nodes[value.0 - 1];
        if matches!(node.op, Op::Conv(_) | Op::Dense(_)) {
            return self.layer(value, node);
        }
        let inputs: Vec<usize> = node.inputs.iter().map(|&input| self.slot(input)).collect();
        if matches!(node.op, Op::Reshape) {
            return self.enter(value, inputs[0]);
        }
        let is_sum = matches!(node.op, Op::Add);
        let (op, has_trained) = match &node.op {
            _ if is_sum => (Box::new(SumStep) as Box<dyn Operator>, false),
            Op::Affine(map) if self.batch_norms.contains(&value) => {
                let params = self.pair(&map.scale, &map.shift);
                let channels = map.scale.len();
                (Box::new(BatchNormStep { params, channels }) as Box<dyn Operator>, params.is_trained())
            }
            _ => self.simple(node),
        };
        let slot = self.push(op, inputs, value, if is_sum { &[0, 1] } else { &[] }, has_trained);
        self.enter(value, slot);
    }

    /// A convolution or fully connected layer with its tail.
    fn layer(&mut self, value: ValueId, node: &Node) {
        let (tail, residual, last) = self.tail(value);
        let mut inputs = vec![self.slot(node.inputs[0])];
        inputs.extend(residual);
        let passes: &[usize] = if residual.is_some() { &[1] } else { &[] };
        let wants_input = self.plan.wants_gradient[inputs[0]];
        let quant = self.rounded[inputs[0]];
        let shape = self.graph.shape(node.inputs[0]);
        let (op, pair): (Box<dyn Operator>, Pair) = match &node.op {
            Op::Conv(conv) => {
                let params = self.pair(&conv.weights, &conv.bias);
                (conv_step(conv, [hwc(shape), hwc(&node.shape)], params, tail, wants_input, quant), params)
            }
            Op::Dense(dense) => {
                let params = self.pair(&dense.weights, &dense.bias);
                let features = [shape.last().copied().unwrap_or(1), dense.out_features];
                (Box::new(DenseStep { params, tail, features, quant }), params)
            }
            _ => return,
        };
        let slot = self.push(op, inputs, last, passes, pair.is_trained());
        // What the step took in has no reader but the next of them; it counts as computed.
        let mut absorbed = value;
        while absorbed != last {
            self.holder[absorbed.0] = Some(slot);
            let Some((next, _)) = self.sole_reader(absorbed) else { break };
            absorbed = next;
        }
        self.enter(last, slot);
    }

    /// The sum and the clamp that can run in the same step, the slot of the sum's other operand, and the value then yielded.
    fn tail(&mut self, layer: ValueId) -> (Tail, Option<usize>, ValueId) {
        let (mut tail, mut residual, mut value) = (Tail::default(), None, layer);
        if let Some((sum, node)) = self.sole_reader(value)
            && matches!(node.op, Op::Add)
        {
            let other = if node.inputs[0] == value { node.inputs[1] } else { node.inputs[0] };
            if let Some(slot) = self.holder[other.0] {
                (tail.has_residual, residual, value) = (true, Some(slot), sum);
            }
        }
        if let Some((clip, node)) = self.sole_reader(value)
            && let Op::Clip { lo, hi } = node.op
        {
            (tail.clip, value) = (Some((lo, hi)), clip);
        }
        (tail, residual, value)
    }

    /// The only node that reads `value`, if its output can take the value's place.
    fn sole_reader(&self, value: ValueId) -> Option<(ValueId, &'a Node)> {
        if self.readers[value.0] != 1 || self.is_tap[value.0] || self.quants.contains_key(&value) {
            return None;
        }
        let graph = self.graph;
        let index = (value.0..graph.nodes.len())
            .find(|&index| self.readers[index + 1] > 0 && graph.nodes[index].inputs.contains(&value))?;
        Some((ValueId(index + 1), &graph.nodes[index]))
    }

    /// Operators that are a step of their own, and whether a parameter of theirs is trained.
    fn simple(&mut self, node: &Node) -> (Box<dyn Operator>, bool) {
        let graph = self.graph;
        let shape = |i: usize| node.inputs.get(i).map_or(&[][..], |&value| graph.shape(value));
        let input = shape(0);
        let channels = node.shape.last().copied().unwrap_or(1);
        let op: Box<dyn Operator> = match &node.op {
            Op::Affine(map) => {
                let params = self.pair(&map.scale, &map.shift);
                return (Box::new(AffineStep { params, channels }), params.is_trained());
            }
            Op::LayerNorm { affine, epsilon } => {
                let params = self.pair(&affine.scale, &affine.shift);
                let rows = node.shape.iter().product::<usize>() / channels.max(1);
                return (Box::new(LayerNormStep { params, channels, rows, epsilon: *epsilon }), params.is_trained());
            }
            Op::Constant(values) => {
                let (param, trained) = self.param(values);
                return (Box::new(ConstantStep { param, trained, elements: values.len() }), trained);
            }
            Op::Clip { lo, hi } => Box::new(ClipStep { lo: *lo, hi: *hi }),
            Op::MaxPool(window) => pool(Kind::Max, *window, input, &node.shape),
            Op::AvgPool(window) => pool(Kind::Average, *window, input, &node.shape),
            Op::Softmax => Box::new(SoftmaxStep { channels }),
            Op::Transpose { perm } => take(&transposed(input, perm), input),
            Op::Slice { axis, start, step } => {
                let at = |i: usize| start.wrapping_add_signed(i as isize * step);
                let indices: Vec<usize> = (0..node.shape[*axis]).map(at).collect();
                take(&taken(input, *axis, &indices), input)
            }
            Op::Gather { axis, indices } => take(&taken(input, *axis, indices), input),
            Op::Unary(function) => Box::new(UnaryStep { function: *function }),
            Op::Binary(arithmetic) => Box::new(BinaryStep {
                arithmetic: *arithmetic,
                walks: [0, 1].map(|i| Walk::new(shape(i), &node.shape)),
                lens: [0, 1].map(|i| shape(i).iter().product()),
                len: node.shape.iter().product(),
            }),
            Op::MatMul { transpose_b } => Box::new(MatMulStep::new(input, shape(1), &node.shape, *transpose_b)),
            Op::Concat { axis } => {
                let lengths = (0..node.inputs.len()).map(|i| shape(i)[*axis..].iter().product()).collect();
                Box::new(ConcatStep { lengths })
            }
            Op::Mean { axis } => Box::new(MeanStep { extent: input[*axis], inner: input[axis + 1..].iter().product() }),
            Op::Conv(_) | Op::Dense(_) | Op::Add | Op::Reshape | Op::Attention(_) => {
                unreachable!("compiled elsewhere, or refused before")
            }
        };
        (op, false)
    }
}

fn conv_step(
    conv: &Conv,
    shapes: [[usize; 3]; 2],
    params: Pair,
    tail: Tail,
    wants_input: bool,
    quant: Option<Quant>,
) -> Box<dyn Operator> {
    let (window, [input, output]) = (conv.window, shapes);
    let is_pointwise = window.kernel == [1, 1] && window.stride == [1, 1] && window.pad == [0; 4] && conv.groups == 1;
    if is_pointwise {
        return Box::new(DenseStep { params, tail, features: [input[2], output[2]], quant });
    }
    if conv.groups > 1 && conv.groups == input[2] && conv.groups == output[2] {
        let maps = shapes.map(|[rows, columns, _]| [rows, columns]);
        let shape = Depthwise { window, input: maps[0], output: maps[1], channels: input[2] };
        return Box::new(DepthwiseStep { params, tail, shape, quant });
    }
    Box::new(ConvStep::new(conv, shapes, params, tail, wants_input, quant))
}

fn pool(kind: Kind, window: Window, input: &[usize], output: &[usize]) -> Box<dyn Operator> {
    Box::new(PoolStep { kind, window, input: hwc(input), output: hwc(output) })
}

fn take(order: &[usize], input: &[usize]) -> Box<dyn Operator> {
    Box::new(TakeStep::new(order, input.iter().product()))
}

fn hwc(shape: &[usize]) -> [usize; 3] {
    shape.try_into().expect("checked before")
}

/// Input element of each element of a transposed tensor.
fn transposed(shape: &[usize], perm: &[usize]) -> Vec<usize> {
    let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    perm.iter().fold(vec![0], |order: Vec<usize>, &axis| {
        order.iter().flat_map(|base| (0..shape[axis]).map(move |i| base + i * stride(axis))).collect()
    })
}

/// Input element of each element of a tensor whose `axis` is replaced by the listed indices of it.
fn taken(shape: &[usize], axis: usize, indices: &[usize]) -> Vec<usize> {
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let row = |at: usize| (0..inner).map(move |i| at * inner + i);
    (0..outer).flat_map(|block| indices.iter().flat_map(move |index| row(block * shape[axis] + index))).collect()
}

/// Whether a node's shapes and constants fit its operator.
fn check(graph: &Graph, node: &Node) -> Result<(), EngineError> {
    if matches!(node.op, Op::Attention(_)) {
        return Err(EngineError::NoGradient { node: node.name.clone(), op: node.op.name() });
    }
    let inputs: Vec<&[usize]> = node.inputs.iter().map(|&value| graph.shape(value)).collect();
    if fits(node, &inputs) {
        return Ok(());
    }
    Err(EngineError::Shape {
        node: node.name.clone(),
        op: node.op.name(),
        inputs: inputs.into_iter().map(<[usize]>::to_vec).collect(),
        output: node.shape.clone(),
    })
}

fn fits(node: &Node, inputs: &[&[usize]]) -> bool {
    let count = |shape: &[usize]| shape.iter().product::<usize>();
    let wanted = match node.op {
        Op::Add | Op::Binary(_) | Op::MatMul { .. } => 2,
        Op::Concat { .. } => inputs.len().max(1),
        Op::Constant(_) => 0,
        _ => 1,
    };
    if inputs.len() != wanted {
        return false;
    }
    let first = inputs.first().copied().unwrap_or(&[]);
    let rank = first.len();
    match &node.op {
        Op::Conv(conv) => {
            let (&[_, _, depth], &[_, _, width]) = (first, node.shape.as_slice()) else { return false };
            let taps = conv.window.kernel[0] * conv.window.kernel[1];
            width == conv.out_channels
                && conv.groups > 0
                && depth % conv.groups == 0
                && width % conv.groups == 0
                && conv.weights.len() == width * taps * (depth / conv.groups)
                && conv.bias.len() == width
        }
        Op::Dense(dense) => {
            let depth = first.last().copied().unwrap_or(1);
            dense.weights.len() == depth * dense.out_features
                && dense.bias.len() == dense.out_features
                && count(first) / depth.max(1) * dense.out_features == count(&node.shape)
        }
        Op::Add => first == inputs[1] && first == node.shape,
        Op::Reshape => count(first) == count(&node.shape),
        Op::Clip { .. } | Op::Softmax | Op::Unary(_) => first == node.shape,
        Op::Affine(map) | Op::LayerNorm { affine: map, .. } => {
            let channels = first.last().copied().unwrap_or(1);
            first == node.shape && map.scale.len() == channels && map.shift.len() == channels
        }
        Op::MaxPool(_) | Op::AvgPool(_) => rank == 3 && node.shape.len() == 3 && first[2] == node.shape[2],
        Op::Transpose { perm } => {
            perm.len() == rank
                && node.shape.len() == rank
                && perm.iter().zip(&node.shape).all(|(&axis, &extent)| first.get(axis) == Some(&extent))
        }
        Op::Slice { axis, start, step } => {
            let count = node.shape.get(*axis).copied().unwrap_or(0) as isize;
            let last = *start as isize + (count - 1).max(0) * step;
            *axis < rank && *start < first[*axis] && (0..first[*axis] as isize).contains(&last)
        }
        Op::Gather { axis, indices } => *axis < rank && indices.iter().all(|&index| index < first[*axis]),
        Op::Concat { axis } => inputs.iter().all(|shape| shape.len() == rank && *axis < rank),
        Op::Mean { axis } => *axis < rank,
        Op::Binary(_) => {
            let repeats = |shape: &[usize]| {
                shape.len() == node.shape.len() && shape.iter().zip(&node.shape).all(|(a, b)| a == b || *a == 1)
            };
            inputs.iter().all(|shape| repeats(shape))
        }
        Op::MatMul { .. } => rank >= 2 && inputs[1].len() == rank && node.shape.len() == rank,
        Op::Constant(values) => values.len() == count(&node.shape),
        Op::Attention(_) => false,
    }
}
