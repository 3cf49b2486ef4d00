//! From ONNX nodes to the draft: what each tensor is stored as, and which function lowers which operator.

use std::collections::HashMap;
use std::path::Path;

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{DatumType, Tensor};

use super::super::{Graph, Op, ValueId, Weights};
use super::attributes::Attributes;
use super::draft::{Draft, DraftNode, DraftOp};
use super::operators::{operator, unknown_operator};
use super::source::{MAX_ELEMENTS, Source, elements};
use super::{ImportError, Unsupported};

/// A tensor of the model that depends on the input.
#[derive(Clone)]
pub struct Held {
    /// The stored value.
    pub id: ValueId,
    /// ONNX extents, batch (1) first.
    pub dims: Vec<usize>,
    /// ONNX axis of each stored axis. Axes that are left out, usually the batch, have the extent 1.
    pub axes: Vec<usize>,
    /// Zeros around the map (top, left, bottom, right) that the next window takes over; not part of the stored value
    /// but of `dims`.
    pub pad: [usize; 4],
}

impl Held {
    /// The same with axes of extent 1 in front, up to `rank`.
    pub fn with_rank(mut self, rank: usize) -> Self {
        let more = rank.saturating_sub(self.dims.len());
        self.dims.splice(0..0, vec![1; more]);
        self.axes.iter_mut().for_each(|axis| *axis += more);
        self
    }
}

/// Storage in ONNX order; a leading axis of extent 1 is the batch and left out.
pub fn plain(dims: &[usize]) -> Vec<usize> {
    let skipped = usize::from(dims.len() > 1 && dims[0] == 1);
    (skipped..dims.len()).collect()
}

/// HWC storage of an ONNX NCHW map.
pub const HWC: [usize; 3] = [2, 3, 1];

/// What a tensor name stands for.
enum Slot {
    Held(Held),
    /// Comes from a node that could not be lowered.
    Lost,
    /// The shape of a lost tensor, or computed from one.
    LostShape,
}

/// Why a node was not lowered.
pub enum Fault {
    /// Not supported, with the reason.
    Unsupported(String),
    /// The named constant holds NaN or infinity.
    NonFinite(String),
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Unsupported(reason)
    }
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Self::Unsupported(reason.into())
    }
}

/// Extents and values of a float constant.
pub type Floats = (Vec<usize>, Vec<f32>);

/// Storage orders of the graph's ends: the ONNX axis of each stored axis.
pub struct EndAxes {
    pub input: Vec<usize>,
    pub output: Vec<usize>,
}

/// The state of a lowering.
pub struct Lowerer<'s> {
    /// The file.
    pub source: &'s Source,
    /// Nodes so far.
    pub draft: Draft,
    slots: HashMap<String, Slot>,
    /// Outputs beside the first of the node at hand.
    further: Vec<(String, Held)>,
}

/// Lowers a file; all unsupported nodes are reported together.
pub fn lower(source: &Source) -> Result<(Graph, EndAxes), ImportError> {
    let input_axes = input_axes(source);
    let input_shape: Vec<usize> = input_axes.iter().map(|&axis| source.input_dims[axis]).collect();
    let input = Held { id: ValueId::INPUT, dims: source.input_dims.clone(), axes: input_axes.clone(), pad: [0; 4] };
    let draft = Draft { input_shape, nodes: Vec::new(), aliases: Vec::new() };
    let slots = HashMap::from([(source.input.clone(), Slot::Held(input))]);
    let mut lowerer = Lowerer { source, draft, slots, further: Vec::new() };
    lowerer.run()?;
    let output = lowerer.finished_output()?;
    let stem = source.path.file_stem().or(source.path.file_name()).unwrap_or(Path::new("model").as_os_str());
    let graph = lowerer.draft.finish(stem.to_string_lossy().into_owned(), source.input.clone(), output.id);
    Ok((graph, EndAxes { input: input_axes, output: output.axes }))
}

/// Rank-4 inputs are taken for NCHW maps and stored HWC, unless the model itself starts by moving channels forward.
pub fn input_axes(source: &Source) -> Vec<usize> {
    let rank = source.input_dims.len();
    let reads =
        || source.graph.node.iter().filter(|node| node.input.contains(&source.input) && node.op_type != "Shape");
    let to_nchw = |node: &NodeProto| {
        node.op_type == "Transpose" && node.attribute.iter().any(|attribute| attribute.ints == [0, 3, 1, 2])
    };
    if rank == 4 && !(reads().count() > 0 && reads().all(to_nchw)) { HWC.to_vec() } else { (1..rank).collect() }
}

/// Reads all weights; they must be finite.
pub fn finite(source: &Source, graph: &Graph) -> Result<(), ImportError> {
    for node in &graph.nodes {
        for weights in node.op.constants() {
            let values = weights.load().map_err(|detail| ImportError::Broken {
                path: source.path.clone(),
                detail: format!("node `{}`: {detail}", node.name),
            })?;
            if !values.iter().all(|weight| weight.is_finite()) {
                let (node, tensor) = (node.name.clone(), node.tensor.clone());
                return Err(ImportError::NonFinite { path: source.path.clone(), node, tensor });
            }
        }
    }
    Ok(())
}

/// Node name, or its first output's where it has none.
pub fn label(node: &NodeProto) -> String {
    let fallback = node.output.first().cloned().unwrap_or_default();
    if node.name.is_empty() { fallback } else { node.name.clone() }
}

impl Lowerer<'_> {
    fn run(&mut self) -> Result<(), ImportError> {
        let (mut problems, mut non_finite) = (self.misread(), None);
        for node in self.source.live_nodes() {
            let slot = match self.lower_node(node)? {
                Ok(slot) => slot,
                Err(Fault::Unsupported(reason)) => {
                    problems.push(Unsupported { node: label(node), op: node.op_type.clone(), reason });
                    Slot::Lost
                }
                Err(Fault::NonFinite(tensor)) => {
                    non_finite.get_or_insert((label(node), tensor));
                    Slot::Lost
                }
            };
            for (name, held) in std::mem::take(&mut self.further) {
                self.slots.insert(name, Slot::Held(held));
            }
            if matches!(slot, Slot::Lost) {
                let others = node.output.iter().skip(1).filter(|name| !name.is_empty());
                self.slots.extend(others.map(|name| (name.clone(), Slot::Lost)));
            }
            self.slots.insert(node.output[0].clone(), slot);
        }
        let path = self.source.path.clone();
        if let Some((node, tensor)) = non_finite.filter(|_| problems.is_empty()) {
            return Err(ImportError::NonFinite { path, node, tensor });
        }
        if problems.is_empty() { Ok(()) } else { Err(ImportError::Unsupported { path, problems }) }
    }

    /// Nodes that tract evaluates without heeding an attribute; constants may come from them.
    fn misread(&self) -> Vec<Unsupported> {
        let swish = |node: &&NodeProto| node.op_type == "Swish" && Attributes(node).float("alpha", 1.0) != 1.0;
        let problem = |node: &NodeProto| Unsupported {
            node: label(node),
            op: node.op_type.clone(),
            reason: "a swish with a slope other than 1".into(),
        };
        let constant = |node: &&NodeProto| node.output.iter().all(|name| self.source.is_constant(name));
        self.source.graph.node.iter().filter(swish).filter(constant).map(problem).collect()
    }

    fn lower_node(&mut self, node: &NodeProto) -> Result<Result<Slot, Fault>, ImportError> {
        let inputs: Vec<&String> =
            node.input.iter().filter(|name| !name.is_empty() && !self.source.is_constant(name)).collect();
        let (mut lost, mut lost_shapes) = (0, 0);
        for name in &inputs {
            match self.slots.get(*name) {
                Some(Slot::Held(_)) => {}
                Some(Slot::Lost) => lost += 1,
                Some(Slot::LostShape) => lost_shapes += 1,
                None => return Err(self.undefined(node, name)),
            }
        }
        // Where tract gave up, shape arithmetic is not evaluated; its error is reported unless a node explains it.
        let unevaluated = self.source.model.is_err() && matches!(node.op_type.as_str(), "Shape" | "Constant");
        let lost_shape = lost > 0 && node.op_type == "Shape" || lost_shapes > 0 && lost_shapes == inputs.len();
        if unevaluated || lost_shape {
            return Ok(Ok(Slot::LostShape));
        }
        let Some(lowering) = operator(node) else {
            return Ok(Err(unknown_operator(node)));
        };
        if lost + lost_shapes > 0 {
            return Ok(super::window::check_attributes(node).map(|()| Slot::Lost));
        }
        Ok(lowering(self, node).map(Slot::Held))
    }

    fn undefined(&self, node: &NodeProto, tensor: &str) -> ImportError {
        let detail = match &self.source.model {
            _ if !self.source.graph.node.iter().any(|other| other.output.iter().any(|name| name == tensor)) => {
                format!("node `{}` reads `{tensor}`, which nothing produces", label(node))
            }
            Err(detail) => detail.clone(),
            Ok(_) => format!("node `{}` reads `{tensor}` before it is produced", label(node)),
        };
        ImportError::Broken { path: self.source.path.clone(), detail }
    }

    fn finished_output(&mut self) -> Result<Held, ImportError> {
        let Some(Slot::Held(output)) = self.slots.remove(&self.source.output) else {
            if let Err(detail) = &self.source.model {
                return Err(ImportError::Tract { path: self.source.path.clone(), detail: detail.clone() });
            }
            let detail = format!("the output `{}` does not depend on the input", self.source.output);
            return Err(ImportError::Broken { path: self.source.path.clone(), detail });
        };
        let last =
            NodeProto { op_type: "output".into(), output: vec![self.source.output.clone()], ..Default::default() };
        let plain = plain(&output.dims);
        let arranged = match self.unpadded(output) {
            Ok(output) if output.axes == HWC || output.axes == plain => Ok(output),
            Ok(output) => Ok(self.arranged(&last, output, &plain)),
            Err(fault) => Err(fault),
        };
        arranged.map_err(|fault| {
            let (Fault::Unsupported(reason) | Fault::NonFinite(reason)) = fault;
            let problems = vec![Unsupported { node: label(&last), op: last.op_type.clone(), reason }];
            ImportError::Unsupported { path: self.source.path.clone(), problems }
        })
    }

    /// The input-dependent tensor at an operand position.
    pub fn held(&self, node: &NodeProto, operand: usize) -> Result<Held, Fault> {
        let name = node.input.get(operand).map(String::as_str).unwrap_or_default();
        match self.slots.get(name) {
            Some(Slot::Held(held)) => Ok(held.clone()),
            _ if self.source.is_constant(name) => {
                Err(format!("operand {operand} (`{name}`) is a constant; only activations are supported there").into())
            }
            _ => Err(format!("operand {operand} is missing").into()),
        }
    }

    /// The constant at an operand position; `None` where it is left out.
    pub fn constant(&self, node: &NodeProto, operand: usize) -> Result<Option<&Tensor>, Fault> {
        let Some(name) = node.input.get(operand).filter(|name| !name.is_empty()) else { return Ok(None) };
        match self.source.constant(name) {
            Some(tensor) => Ok(Some(tensor)),
            None if self.source.is_constant(name) => Err(format!("operand {operand} (`{name}`) is too large").into()),
            None => Err(format!("operand {operand} (`{name}`) must be a constant but depends on the input").into()),
        }
    }

    /// A float constant with its extents, read later if it is large; `None` where it is left out.
    pub fn weights(&self, node: &NodeProto, operand: usize) -> Result<Option<(Vec<usize>, Weights)>, Fault> {
        if let Some(large) = node.input.get(operand).and_then(|name| self.source.large(name)) {
            return Ok(Some((large.dims.clone(), large.weights.clone())));
        }
        Ok(self.floats(node, operand)?.map(|(dims, values)| (dims, values.into())))
    }

    /// The same; `None` also where the operand depends on the input.
    pub fn weights_if_constant(
        &self,
        node: &NodeProto,
        operand: usize,
    ) -> Result<Option<(Vec<usize>, Weights)>, Fault> {
        match node.input.get(operand) {
            Some(name) if self.source.is_constant(name) => self.weights(node, operand),
            _ => Ok(None),
        }
    }

    /// Hands over an output beside the first.
    pub fn hand_over(&mut self, name: &str, held: Held) {
        self.further.push((name.to_owned(), held));
    }

    /// A constant as finite floats with its extents; `None` where it is left out.
    pub fn floats(&self, node: &NodeProto, operand: usize) -> Result<Option<Floats>, Fault> {
        let Some(tensor) = self.constant(node, operand)? else { return Ok(None) };
        let name = &node.input[operand];
        if !matches!(tensor.datum_type(), DatumType::F32 | DatumType::F64 | DatumType::F16) {
            let kind = tensor.datum_type();
            return Err(format!("the constant `{name}` is of type {kind:?}; export a float32 model").into());
        }
        let cast = tensor.cast_to::<f32>().map_err(|error| error.to_string())?;
        let view = cast.to_plain_array_view::<f32>().map_err(|error| error.to_string())?;
        let values: Vec<f32> = view.iter().copied().collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(Fault::NonFinite(name.clone()));
        }
        Ok(Some((tensor.shape().to_vec(), values)))
    }

    /// A constant as integers; `None` where it is left out.
    pub fn integers(&self, node: &NodeProto, operand: usize) -> Result<Option<Vec<i64>>, Fault> {
        let Some(tensor) = self.constant(node, operand)? else { return Ok(None) };
        let cast = tensor.cast_to::<i64>().map_err(|error| error.to_string())?;
        let view = cast.to_plain_array_view::<i64>().map_err(|error| error.to_string())?;
        Ok(Some(view.iter().copied().collect()))
    }

    /// Refuses a tensor with zeros around it that the operator cannot take over.
    pub fn unpadded(&self, held: Held) -> Result<Held, Fault> {
        if held.pad == [0; 4] {
            return Ok(held);
        }
        Err("zero padding in front of it; only a convolution or pool can take over a Pad".into())
    }

    /// Appends a node named after `node` with its first output; `dims` and `axes` describe the result.
    pub fn emit(
        &mut self,
        node: &NodeProto,
        op: DraftOp,
        inputs: Vec<ValueId>,
        dims: Vec<usize>,
        axes: Vec<usize>,
    ) -> Result<Held, Fault> {
        if !matches!(elements(&dims), Some(1..=MAX_ELEMENTS)) {
            return Err(format!("its output shape {dims:?} is empty or too large").into());
        }
        let (name, tensor, operator) = (label(node), node.output[0].clone(), node.op_type.clone());
        let shape = axes.iter().map(|&axis| dims[axis]).collect();
        let id = self.draft.push(DraftNode { name, tensor, operator, op, inputs, shape });
        Ok(Held { id, dims, axes, pad: [0; 4] })
    }

    /// Appends a node that the file does not have.
    pub fn push(
        &mut self,
        name: String,
        tensor: String,
        op: DraftOp,
        inputs: Vec<ValueId>,
        shape: Vec<usize>,
    ) -> ValueId {
        self.draft.push(DraftNode { name, tensor, operator: String::new(), op, inputs, shape })
    }

    /// The same elements under a node's output name.
    pub fn alias(&mut self, node: &NodeProto, held: Held) -> Held {
        self.draft.aliases.push((node.output[0].clone(), held.id));
        held
    }

    /// The tensor stored in the given order of ONNX axes; a transpose is added where the elements have to move. Axes that
    /// are not listed have the extent 1.
    pub fn arranged(&mut self, node: &NodeProto, held: Held, axes: &[usize]) -> Held {
        if held.axes == axes {
            return held;
        }
        let moving =
            |order: &[usize]| -> Vec<usize> { order.iter().copied().filter(|&axis| held.dims[axis] > 1).collect() };
        let extents =
            |order: &[usize]| -> Vec<usize> { order.iter().map(|&axis| self.stored_extent(&held, axis)).collect() };
        let shape = extents(axes);
        let (from, to) = (moving(&held.axes), moving(axes));
        if from == to {
            let same = self.draft.shape(held.id) == shape;
            let id = if same { held.id } else { self.reorder(node, Op::Reshape, held.id, shape) };
            return Held { id, axes: axes.to_vec(), ..held };
        }
        let position = |axis: &usize| from.iter().position(|other| other == axis).unwrap_or_default();
        let same_axes = axes.len() == held.axes.len() && axes.iter().all(|axis| held.axes.contains(axis));
        if !same_axes {
            let (packed, turned) = (extents(&from), extents(&to));
            let perm = to.iter().map(position).collect();
            let same = self.draft.shape(held.id) == packed;
            let id = if same { held.id } else { self.reorder(node, Op::Reshape, held.id, packed) };
            let id = self.reorder(node, Op::Transpose { perm }, id, turned.clone());
            let id = if turned == shape { id } else { self.reorder(node, Op::Reshape, id, shape) };
            return Held { id, axes: axes.to_vec(), ..held };
        }
        let position = |axis: &usize| held.axes.iter().position(|other| other == axis).unwrap_or_default();
        let perm: Vec<usize> = axes.iter().map(position).collect();
        let id = self.reorder(node, Op::Transpose { perm }, held.id, shape);
        Held { id, axes: axes.to_vec(), ..held }
    }

    /// Extent of an ONNX axis as stored, that is without zeros around it.
    fn stored_extent(&self, held: &Held, axis: usize) -> usize {
        held.axes.iter().position(|&other| other == axis).map_or(1, |i| self.draft.shape(held.id)[i])
    }

    fn reorder(&mut self, node: &NodeProto, op: Op, input: ValueId, shape: Vec<usize>) -> ValueId {
        let name = format!("{}.reordered", label(node));
        self.push(name.clone(), name, DraftOp::Op(op), vec![input], shape)
    }

    /// The tensor stored with an ONNX axis last and the others in their ONNX order; as it is where that axis already is.
    pub fn with_last(&mut self, node: &NodeProto, held: Held, last: usize) -> Held {
        if held.axes.last() == Some(&last) {
            return held;
        }
        let axes: Vec<usize> = plain(&held.dims).into_iter().filter(|&axis| axis != last).chain([last]).collect();
        self.arranged(node, held, &axes)
    }
}
