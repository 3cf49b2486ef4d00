//! Which float nodes become one integer step, and in which order the steps run.
//!
//! Clips move into the clamp of the step before them; an addition becomes part of a convolution that feeds it, in place on
//! the other operand, wherever that operand is not needed afterwards. Among all such choices and all orders of the steps
//! between two single-tensor points, those of least peak memory are taken, then those of fewest steps.

use stitchkit_runtime::bundle::{InPlace, Quant};

use super::lower::{LowerError, shape_of};
use crate::compile::accesses::Accesses;
use crate::compile::memory::{FlatStep, lower_bound_bytes};
use crate::graph::{ChannelMap, Graph, Op, ValueId};

/// Orders tried per choice of fusions and stretch between single-tensor points.
const ORDER_LIMIT: usize = 2000;
/// Choices of fusions tried per stretch.
const CHOICE_LIMIT: usize = 243;

/// What a unit computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The float node's own operator.
    Node,
    /// A change of quantization, with the unit's clip.
    Requantize,
}

/// An addition fused into a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Residual {
    /// Quantization and clip of the convolution's own result.
    pub quant: Quant,
    pub clip: (f32, f32),
}

/// One future step. Values are numbered as in a block: 0 is the input, `i + 1` the output of unit `i`.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub kind: Kind,
    /// Index of the float node.
    pub node: usize,
    /// The float value the output stands for.
    pub value: ValueId,
    pub inputs: Vec<usize>,
    pub quant: Quant,
    pub clip: (f32, f32),
    pub residual: Option<Residual>,
    /// Node of an affine map that the unit's convolution does as well, before clip and addition.
    pub map: Option<usize>,
}

/// The values of a graph that int8 tensors hold, the input first, with their quantization. `quants` has one entry per
/// value. What a step's clamp or another step absorbs is not among them.
#[must_use]
pub fn held_values(graph: &Graph, quants: &[Quant]) -> Vec<(ValueId, Quant)> {
    let units = form(graph, quants);
    let input = quants.first().map(|&quant| (ValueId::INPUT, quant));
    input.into_iter().chain(units.iter().map(|unit| (unit.value, unit.quant))).collect()
}

const UNCLIPPED: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

/// Turns a graph into units in execution order. Constant tensors are no units; who reads them holds them. `quants` has one entry per value.
///
/// # Errors
/// [`LowerError`] for shapes that the runtime cannot hold.
pub(super) fn units(graph: &Graph, quants: &[Quant]) -> Result<Vec<Unit>, LowerError> {
    let units = form(graph, quants);
    let sizes = sizes(graph, &units)?;
    let mut ordered = Ordered::default();
    let mut start = 0;
    for end in 1..=units.len() {
        if end == units.len() || is_single_tensor_point(&units, end) {
            ordered.append(stretch(graph, &units, &sizes, start..end));
            start = end;
        }
    }
    Ok(ordered.units)
}

/// One unit per node, except for clips that an earlier unit absorbs and reshapes that change nothing.
fn form(graph: &Graph, quants: &[Quant]) -> Vec<Unit> {
    let uses = uses(graph);
    let mut units: Vec<Unit> = Vec::new();
    // Block value that holds each float value.
    let mut holder = vec![0usize; graph.nodes.len() + 1];
    // The float value at which a unit may still absorb a clip.
    let mut tip: Vec<ValueId> = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let value = ValueId(index + 1);
        if graph.is_constant(value) {
            continue;
        }
        let sources: Vec<ValueId> = node.inputs.iter().copied().filter(|&input| !graph.is_constant(input)).collect();
        let inputs: Vec<usize> = sources.iter().map(|input| holder[input.0]).collect();
        let quant_of = |held: usize, units: &[Unit]| held.checked_sub(1).map_or(quants[0], |unit| units[unit].quant);
        let input = sources.first().copied().unwrap_or(ValueId::INPUT);
        let held = inputs.first().copied().unwrap_or(0);
        let sole = uses[input.0] == 1;
        let at_tip = held > 0 && tip[held - 1] == input && sole;
        let new = |kind, quant, inputs, clip| Unit {
            kind,
            node: index,
            value,
            inputs,
            quant,
            clip,
            residual: None,
            map: None,
        };
        match &node.op {
            Op::Reshape if quant_of(held, &units) == quants[value.0] => {
                if at_tip {
                    tip[held - 1] = value;
                }
                holder[value.0] = held;
                continue;
            }
            Op::Clip { lo, hi } if at_tip && absorbs_clip(graph, &units[held - 1]) => {
                let unit = &mut units[held - 1];
                unit.clip = (unit.clip.0.max(*lo), unit.clip.1.min(*hi));
                (unit.quant, unit.value) = (quants[value.0], value);
                tip[held - 1] = value;
                holder[value.0] = held;
                continue;
            }
            Op::Affine(map) if at_tip && absorbs_map(graph, &units[held - 1], map) => {
                let unit = &mut units[held - 1];
                (unit.quant, unit.value, unit.map) = (quants[value.0], value, Some(index));
                tip[held - 1] = value;
                holder[value.0] = held;
                continue;
            }
            Op::Clip { lo, hi } => units.push(new(Kind::Requantize, quants[value.0], inputs, (*lo, *hi))),
            Op::Reshape => units.push(new(Kind::Requantize, quants[value.0], inputs, UNCLIPPED)),
            Op::Add if inputs.len() == 2 && inputs[0] == inputs[1] => {
                units.push(new(Kind::Node, quants[value.0], vec![held], UNCLIPPED))
            }
            Op::MaxPool(_) | Op::Transpose { .. } | Op::Slice { .. } | Op::Concat { .. } | Op::Softmax => {
                let kept = match node.op {
                    Op::Softmax => SOFTMAX_QUANT,
                    _ => quant_of(held, &units),
                };
                units.push(new(Kind::Node, kept, inputs, UNCLIPPED));
                if kept != quants[value.0] {
                    tip.push(value);
                    units.push(new(Kind::Requantize, quants[value.0], vec![units.len()], UNCLIPPED));
                }
            }
            // Operators without an integer form are refused when the unit is lowered.
            _ => {
                units.push(new(Kind::Node, quants[value.0], inputs, UNCLIPPED));
            }
        }
        tip.push(value);
        holder[value.0] = units.len();
    }
    units
}

/// What [`Op::Softmax`](stitchkit_runtime::bundle::Op::Softmax) yields.
pub(super) const SOFTMAX_QUANT: Quant = Quant { scale: 1.0 / 256.0, zero_point: -128 };

/// Whether a unit is a bare convolution, and a map of factors that multipliers can take.
fn absorbs_map(graph: &Graph, unit: &Unit, map: &ChannelMap) -> bool {
    let is_bare = unit.map.is_none() && unit.clip == UNCLIPPED && unit.kind == Kind::Node;
    is_bare
        && matches!(graph.nodes[unit.node].op, Op::Conv(_) | Op::Dense(_))
        && map.scale.iter().all(|scale| scale.is_normal() && *scale > 0.0)
}

fn absorbs_clip(graph: &Graph, unit: &Unit) -> bool {
    match unit.kind {
        Kind::Requantize => true,
        Kind::Node => matches!(graph.nodes[unit.node].op, Op::Conv(_) | Op::Dense(_) | Op::AvgPool(_) | Op::Add),
    }
}

/// Readers of each float value; the output has one more.
fn uses(graph: &Graph) -> Vec<usize> {
    let mut uses = vec![0; graph.nodes.len() + 1];
    uses[graph.output.0] += 1;
    for input in graph.nodes.iter().flat_map(|node| &node.inputs) {
        uses[input.0] += 1;
    }
    uses
}

/// Bytes of output and scratch per block value.
fn sizes(graph: &Graph, units: &[Unit]) -> Result<Vec<u32>, LowerError> {
    let bytes = |name: &str, shape: &[usize]| shape_of(name, shape).map(|s| s.len() as u32);
    let mut sizes = vec![bytes(&graph.input_tensor, &graph.input_shape)?];
    for unit in units {
        let node = &graph.nodes[unit.node];
        sizes.push(bytes(&node.name, graph.shape(unit.value))?);
    }
    Ok(sizes)
}

/// True if the units from `at` on read no earlier value than the output of the unit before.
fn is_single_tensor_point(units: &[Unit], at: usize) -> bool {
    units[at..].iter().flat_map(|unit| &unit.inputs).all(|&value| value >= at)
}

/// Units whose order is final.
#[derive(Default)]
struct Ordered {
    units: Vec<Unit>,
}

impl Ordered {
    /// Appends a stretch whose value 0 is the output of the last unit so far.
    fn append(&mut self, stretch: Vec<Unit>) {
        let base = self.units.len();
        self.units.extend(stretch.into_iter().map(|mut unit| {
            unit.inputs.iter_mut().for_each(|value| *value += base);
            unit
        }));
    }
}

/// The best fusions and order of the units in `range`, whose only outside input is value `range.start`.
fn stretch(graph: &Graph, units: &[Unit], sizes: &[u32], range: std::ops::Range<usize>) -> Vec<Unit> {
    let base = range.start;
    let sizes = &sizes[base..=range.end];
    let local: Vec<Unit> = units[range]
        .iter()
        .cloned()
        .map(|mut unit| {
            unit.inputs.iter_mut().for_each(|value| *value -= base);
            unit
        })
        .collect();
    let mut best: Option<(u32, usize, Vec<Unit>)> = None;
    for fusions in choices(graph, &local) {
        let nodes = fuse(&local, &fusions);
        for order in orders(&nodes) {
            let Some((peak, ordered)) = arrange(graph, &nodes, &order, sizes) else { continue };
            let count = ordered.len();
            if best.as_ref().is_none_or(|b| (peak, count) < (b.0, b.1)) {
                best = Some((peak, count, ordered));
            }
        }
    }
    best.map_or(local, |(.., ordered)| ordered)
}

/// A convolution (unit) that takes in an addition (unit).
type Fusion = (usize, usize);

/// All combinations of fusions, the fullest first; every addition takes at most one convolution.
fn choices(graph: &Graph, units: &[Unit]) -> Vec<Vec<Fusion>> {
    let mut choices: Vec<Vec<Fusion>> = vec![Vec::new()];
    for (index, unit) in units.iter().enumerate() {
        let is_add = unit.kind == Kind::Node && matches!(graph.nodes[unit.node].op, Op::Add) && unit.inputs.len() == 2;
        if !is_add || choices.len() > CHOICE_LIMIT / 3 {
            continue;
        }
        let fusable: Vec<usize> = unit
            .inputs
            .iter()
            .filter_map(|&value| value.checked_sub(1))
            .filter(|&producer| is_fusable(graph, units, producer, index))
            .collect();
        choices = choices
            .into_iter()
            .flat_map(|choice| {
                let with = fusable.clone().into_iter().map(|conv| Some((conv, index)));
                with.chain([None]).map(move |fusion| choice.iter().copied().chain(fusion).collect())
            })
            .collect();
    }
    choices
}

/// A convolution that only the addition reads, and whose own input is not the other operand.
fn is_fusable(graph: &Graph, units: &[Unit], producer: usize, add: usize) -> bool {
    let unit = &units[producer];
    let is_conv = unit.kind == Kind::Node && matches!(graph.nodes[unit.node].op, Op::Conv(_) | Op::Dense(_));
    let readers = units.iter().flat_map(|u| &u.inputs).filter(|&&value| value == producer + 1).count();
    let other = other_operand(&units[add], producer);
    is_conv && readers == 1 && units[producer].inputs[0] != other && producer + 1 != units.len()
}

fn other_operand(add: &Unit, producer: usize) -> usize {
    add.inputs.iter().copied().find(|&value| value != producer + 1).unwrap_or(producer + 1)
}

/// A unit or a fused pair, with the block value (by the old numbering) it yields.
struct Node {
    unit: Unit,
    yields: usize,
}

fn fuse(units: &[Unit], fusions: &[Fusion]) -> Vec<Node> {
    let mut nodes = Vec::new();
    for (index, unit) in units.iter().enumerate() {
        if fusions.iter().any(|&(conv, _)| conv == index) {
            continue;
        }
        let Some(&(conv, _)) = fusions.iter().find(|&&(_, add)| add == index) else {
            nodes.push(Node { unit: unit.clone(), yields: index + 1 });
            continue;
        };
        let producer = &units[conv];
        let fused = Unit {
            kind: Kind::Node,
            node: producer.node,
            value: unit.value,
            inputs: vec![producer.inputs[0], other_operand(unit, conv)],
            quant: unit.quant,
            clip: unit.clip,
            residual: Some(Residual { quant: producer.quant, clip: producer.clip }),
            map: producer.map,
        };
        nodes.push(Node { unit: fused, yields: index + 1 });
    }
    nodes
}

/// Topological orders, at most [`ORDER_LIMIT`], the original one first where it is one.
fn orders(nodes: &[Node]) -> Vec<Vec<usize>> {
    let producer = |value: usize| nodes.iter().position(|node| node.yields == value);
    let mut before: Vec<Vec<usize>> =
        nodes.iter().map(|node| node.unit.inputs.iter().filter_map(|&v| producer(v)).collect()).collect();
    // A fused step overwrites its second input, so it runs after all other readers of that.
    for (at, node) in nodes.iter().enumerate().filter(|(_, node)| node.unit.residual.is_some()) {
        let overwritten = node.unit.inputs[1];
        let readers = nodes.iter().enumerate().filter(|(i, n)| *i != at && n.unit.inputs.contains(&overwritten));
        before[at].extend(readers.map(|(i, _)| i));
    }
    let mut found = Vec::new();
    extend_order(&before, &mut Vec::new(), &mut found);
    found
}

fn extend_order(before: &[Vec<usize>], order: &mut Vec<usize>, found: &mut Vec<Vec<usize>>) {
    if order.len() == before.len() {
        found.push(order.clone());
        return;
    }
    for next in 0..before.len() {
        let ready = !order.contains(&next) && before[next].iter().all(|b| order.contains(b));
        if ready && found.len() < ORDER_LIMIT {
            order.push(next);
            extend_order(before, order, found);
            order.pop();
        }
    }
}

/// The nodes in `order` with values renumbered, and their peak memory; `None` where an addition in place is impossible.
fn arrange(graph: &Graph, nodes: &[Node], order: &[usize], sizes: &[u32]) -> Option<(u32, Vec<Unit>)> {
    let mut renumbered = vec![0; sizes.len()];
    let mut units = Vec::with_capacity(order.len());
    let mut steps = Vec::with_capacity(order.len());
    for (at, &index) in order.iter().enumerate() {
        let node = &nodes[index];
        let mut unit = node.unit.clone();
        unit.inputs.iter_mut().for_each(|value| *value = renumbered[*value]);
        renumbered[node.yields] = at + 1;
        steps.push(FlatStep {
            inputs: unit.inputs.clone(),
            output_bytes: sizes[node.yields],
            scratch_bytes: scratch_bytes(graph, &unit),
            in_place: in_place(graph, &unit),
            clearance: None,
            accesses: Accesses::default(),
        });
        units.push(unit);
    }
    Some((lower_bound_bytes(sizes[0], &steps).ok()?, units))
}

/// What [`Conv2d::scratch_bytes`](stitchkit_runtime::kernels::Conv2d::scratch_bytes) will say, near enough to compare orders.
fn scratch_bytes(graph: &Graph, unit: &Unit) -> u32 {
    match &graph.nodes[unit.node].op {
        Op::Conv(conv) if unit.kind == Kind::Node => (8 * conv.weights.len() / conv.out_channels.max(1)) as u32,
        Op::Dense(dense) if unit.kind == Kind::Node => (2 * dense.weights.len() / dense.out_features.max(1)) as u32,
        Op::Attention(attention) => {
            let width = attention.heads * attention.value_features;
            let tokens = graph.nodes[unit.node].shape.iter().product::<usize>() / width.max(1);
            16 * tokens.next_multiple_of(4) as u32
        }
        _ => 0,
    }
}

fn in_place(graph: &Graph, unit: &Unit) -> InPlace {
    if unit.residual.is_some() {
        return InPlace::SecondInput;
    }
    match graph.nodes[unit.node].op {
        Op::Add | Op::Unary(_) => InPlace::FirstInputIfWanted,
        _ if unit.kind == Kind::Requantize => InPlace::FirstInputIfWanted,
        _ => InPlace::Never,
    }
}
