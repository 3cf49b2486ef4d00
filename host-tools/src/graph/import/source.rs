//! The model file: its nodes, its one input and output, and every tensor that is constant.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use tract_onnx::pb::tensor_shape_proto::dimension::Value as Extent;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use tract_onnx::tract_hir::internal::*;

use super::ImportError;
use super::constants::{Constants, Large};
use super::guard::guarded;

/// Most elements of any tensor; larger extents come from damaged files.
pub const MAX_ELEMENTS: usize = 1 << 30;

/// Larger ranks come from damaged files.
const MAX_RANK: i64 = 64;

/// A parsed model file.
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// Nodes and names as in the file.
    pub graph: GraphProto,
    /// Version of the default operator set.
    pub opset: i64,
    /// Name of the one input that is not a constant.
    pub input: String,
    /// ONNX extents of the input, batch first and 1.
    pub input_dims: Vec<usize>,
    /// Name of the one output.
    pub output: String,
    /// tract's view of the model with the batch fixed to 1, or why there is none.
    pub model: Result<InferenceModel, String>,
    constants: Constants,
    /// Elements of the file's float parameters by name.
    parameters: HashMap<String, usize>,
}

impl Source {
    /// Reads and checks a file's frame; nodes are not looked at yet.
    pub fn read(path: &Path) -> Result<Self, ImportError> {
        let bytes = std::fs::read(path).map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
        let broken = |detail: String| ImportError::Broken { path: path.to_owned(), detail };
        let mut proto = guarded(|| tract_onnx::onnx().proto_model_for_read(&mut bytes.as_slice())).map_err(broken)?;
        drop(bytes);
        let mut graph = proto.graph.take().ok_or_else(|| broken("the file holds no graph".into()))?;
        if graph.node.is_empty() {
            return Err(broken("the graph has no nodes".into()));
        }
        plausible_axes(&graph).map_err(broken)?;
        let (input, input_dims) = one_input(path, &graph)?;
        let output = one_output(path, &graph)?;
        graph.node.iter_mut().for_each(cast_to_float);
        let folder = folder_of(path);
        let parameters = parameters(&graph);
        let mut constants = Constants::take(&mut graph, folder.as_deref()).map_err(broken)?;
        proto.graph = Some(graph);
        let model = analysed(&proto, folder.as_deref(), &input, &input_dims, Some(&mut constants));
        let graph = proto.graph.take().unwrap_or_default();
        graph.node.iter().for_each(|node| constants.derive(node));
        let opset = proto.opset_import.iter().find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
        let opset = opset.map_or(0, |set| set.version);
        let mut source =
            Self { path: path.to_owned(), graph, opset, input, input_dims, output, model, constants, parameters };
        super::patterns::join(&mut source);
        Ok(source)
    }

    /// tract's view of the whole model, weights included.
    pub fn whole_model(&self) -> Result<InferenceModel, String> {
        if self.constants.large.is_empty() {
            return self.model.clone();
        }
        let bytes = std::fs::read(&self.path).map_err(|error| error.to_string())?;
        let mut proto = guarded(|| tract_onnx::onnx().proto_model_for_read(&mut bytes.as_slice()))?;
        drop(bytes);
        proto.graph.iter_mut().flat_map(|graph| &mut graph.node).for_each(cast_to_float);
        analysed(&proto, folder_of(&self.path).as_deref(), &self.input, &self.input_dims, None)
    }

    /// A large constant, whose values are not read yet.
    pub fn large(&self, name: &str) -> Option<&Large> {
        self.constants.large.get(name)
    }

    /// Whether a tensor does not depend on the input.
    pub fn is_constant(&self, name: &str) -> bool {
        self.constants.contains(name)
    }

    /// Extents of a constant.
    pub fn extents(&self, name: &str) -> Option<Vec<usize>> {
        let small = self.constant(name).map(|tensor| tensor.shape().to_vec());
        small.or_else(|| self.large(name).map(|large| large.dims.clone()))
    }

    /// The value of a small tensor that does not depend on the input.
    pub fn constant(&self, name: &str) -> Option<&Tensor> {
        self.constants.small.get(name).map(AsRef::as_ref)
    }

    /// Elements of the parameters that a constant is or was computed from; masks and tables that are no parameters count
    /// zero.
    pub fn parameters_behind(&self, name: &str) -> usize {
        let (mut seen, mut open, mut sum) = (HashSet::new(), vec![name], 0);
        while let Some(name) = open.pop() {
            if !seen.insert(name) {
                continue;
            }
            match self.parameters.get(name) {
                Some(elements) => sum += elements,
                None => {
                    let writes = |node: &&NodeProto| node.output.iter().any(|output| output == name);
                    // A shape does not depend on what it is the shape of.
                    let writer = self.graph.node.iter().find(writes).filter(|node| node.op_type != "Shape");
                    open.extend(writer.into_iter().flat_map(|node| node.input.iter().map(String::as_str)));
                }
            }
        }
        sum
    }

    /// Nodes that the output depends on and that are not constant, in file order.
    pub fn live_nodes(&self) -> Vec<&NodeProto> {
        let mut wanted: HashSet<&str> = HashSet::from([self.output.as_str()]);
        let mut live = Vec::new();
        for node in self.graph.node.iter().rev() {
            let asked = node.output.iter().any(|name| wanted.contains(name.as_str()));
            if !asked || node.output.iter().all(|name| self.constants.contains(name)) {
                continue;
            }
            let inputs = node.input.iter().map(String::as_str);
            wanted.extend(inputs.filter(|name| !name.is_empty() && !self.constants.contains(name)));
            live.push(node);
        }
        live.reverse();
        live
    }
}

/// Float tensors that a file holds as parameters: its initializers, and in a file without weights the fillings that stand
/// for them. Fillings of zeros stand for constants that are no parameters.
fn parameters(graph: &GraphProto) -> HashMap<String, usize> {
    let extent = |dims: &[i64]| dims.iter().map(|&extent| usize::try_from(extent).unwrap_or(0)).product::<usize>();
    let floats = graph.initializer.iter().filter(|tensor| tensor.data_type == 1);
    let mut found: HashMap<String, usize> = floats.map(|tensor| (tensor.name.clone(), extent(&tensor.dims))).collect();
    for node in graph.node.iter().filter(|node| node.op_type == "ConstantOfShape") {
        let value = node.attribute.iter().find_map(|attribute| attribute.t.as_ref());
        let is_filling = value.is_some_and(|value| value.data_type == 1 && value.float_data.iter().any(|&v| v != 0.0));
        let shape = graph.initializer.iter().find(|tensor| Some(&tensor.name) == node.input.first());
        if let (true, Some(shape), Some(output)) = (is_filling, shape, node.output.first()) {
            found.insert(output.clone(), extent(&stored_integers(shape)));
        }
    }
    found
}

/// Refuses axis numbers that no tensor has; tract would allocate memory in proportion.
fn plausible_axes(graph: &GraphProto) -> Result<(), String> {
    for node in &graph.node {
        let axes =
            node.attribute.iter().filter(|attribute| matches!(attribute.name.as_str(), "axis" | "axes" | "perm"));
        let mut numbers: Vec<i64> =
            axes.flat_map(|attribute| attribute.ints.iter().copied().chain([attribute.i])).collect();
        if matches!(node.op_type.as_str(), "Squeeze" | "Unsqueeze" | "ReduceMean") {
            let operand = graph.initializer.iter().find(|tensor| Some(&tensor.name) == node.input.get(1));
            numbers.extend(operand.into_iter().flat_map(stored_integers));
        }
        if let Some(axis) = numbers.into_iter().find(|axis| !(-MAX_RANK..MAX_RANK).contains(axis)) {
            return Err(format!("node `{}` of type {} refers to axis {axis}", super::lower::label(node), node.op_type));
        }
    }
    Ok(())
}

/// Elements of an int64 tensor, however it is stored.
fn stored_integers(tensor: &TensorProto) -> Vec<i64> {
    let raw = tensor
        .raw_data
        .chunks_exact(8)
        .map(|bytes| bytes.iter().rev().fold(0, |all, &byte| all << 8 | i64::from(byte)));
    tensor.int64_data.iter().copied().chain(raw).collect()
}

fn one_input(path: &Path, graph: &GraphProto) -> Result<(String, Vec<usize>), ImportError> {
    let constant: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs: Vec<&ValueInfoProto> =
        graph.input.iter().filter(|info| !constant.contains(info.name.as_str())).collect();
    let [info] = inputs.as_slice() else {
        let names = inputs.iter().map(|info| info.name.clone()).collect();
        return Err(ImportError::Inputs { path: path.to_owned(), names });
    };
    let fault = |reason: String| ImportError::Input { path: path.to_owned(), tensor: info.name.clone(), reason };
    let Some(TypeValue::TensorType(kind)) = info.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return Err(fault("the file does not say its type; export with shapes".into()));
    };
    if kind.elem_type != 1 {
        return Err(fault(format!(
            "its elements are of ONNX type {}; export a float32 model, preprocessing is configured in the family file",
            kind.elem_type
        )));
    }
    let Some(shape) = &kind.shape else {
        return Err(fault("the file does not say its shape; export with a fixed shape".into()));
    };
    let extents: Vec<Option<usize>> = shape.dim.iter().map(|dim| extent(dim.value.as_ref())).collect();
    let dims = input_dims(&extents).map_err(|text| match text {
        Some(reason) => fault(reason),
        None => ImportError::DynamicShape {
            path: path.to_owned(),
            tensor: info.name.clone(),
            dims: shape.dim.iter().map(|dim| written(dim.value.as_ref())).collect::<Vec<_>>().join(", "),
        },
    })?;
    Ok((info.name.clone(), dims))
}

/// The input's extents with the batch set to 1. `Err(None)` means that another axis is dynamic.
fn input_dims(extents: &[Option<usize>]) -> Result<Vec<usize>, Option<String>> {
    let Some((batch, rest)) = extents.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return Err(Some("it needs a batch axis and at least one more; export with a batch of 1".into()));
    };
    if batch.is_some_and(|batch| batch != 1) {
        let batch = batch.unwrap_or_default();
        return Err(Some(format!("the batch is fixed to {batch}; export with a batch of 1 or a dynamic batch")));
    }
    let mut dims = vec![1];
    for extent in rest {
        dims.push(extent.ok_or(None)?);
    }
    match elements(&dims) {
        Some(1..=MAX_ELEMENTS) => Ok(dims),
        _ => Err(Some(format!("the shape {dims:?} is empty or too large"))),
    }
}

/// Product of extents, `None` on overflow.
pub fn elements(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1_usize, |product, &extent| product.checked_mul(extent))
}

fn extent(value: Option<&Extent>) -> Option<usize> {
    match value {
        Some(Extent::DimValue(extent)) => usize::try_from(*extent).ok(),
        _ => None,
    }
}

fn written(value: Option<&Extent>) -> String {
    match value {
        Some(Extent::DimValue(extent)) => extent.to_string(),
        Some(Extent::DimParam(name)) if !name.is_empty() => name.clone(),
        _ => "?".into(),
    }
}

fn one_output(path: &Path, graph: &GraphProto) -> Result<String, ImportError> {
    match graph.output.as_slice() {
        [output] => Ok(output.name.clone()),
        outputs => {
            let names = outputs.iter().map(|info| info.name.clone()).collect();
            Err(ImportError::Outputs { path: path.to_owned(), names })
        }
    }
}

/// CastLike, which unoptimized exports of torch hold and tract does not know, as a cast to float32: the tensors of a float
/// network are of that type.
fn cast_to_float(node: &mut NodeProto) {
    if node.op_type != "CastLike" {
        return;
    }
    node.op_type = "Cast".to_owned();
    node.input.truncate(1);
    node.attribute = vec![AttributeProto { name: "to".into(), r#type: 2, i: 1, ..AttributeProto::default() }];
}

fn folder_of(path: &Path) -> Option<String> {
    path.parent().and_then(Path::to_str).map(str::to_owned)
}

/// Lets tract infer shapes and constants; adds the latter to `constants`.
fn analysed(
    proto: &ModelProto,
    folder: Option<&str>,
    input: &str,
    input_dims: &[usize],
    constants: Option<&mut Constants>,
) -> Result<InferenceModel, String> {
    let (mut model, outlets) = guarded(|| {
        let parsed = tract_onnx::onnx().with_ignore_value_info(true).parse(proto, folder)?;
        ensure!(parsed.unresolved_inputs.is_empty(), "undefined tensors: {}", parsed.unresolved_inputs.join(", "));
        let mut model = parsed.model;
        for (i, outlet) in model.inputs.clone().into_iter().enumerate() {
            let name = model.node(outlet.node).name.clone();
            let large = constants.as_ref().and_then(|constants| constants.large.get(&name));
            match large {
                Some(large) => model.set_input_fact(i, InferenceFact::dt_shape(f32::datum_type(), &large.dims))?,
                None if name == input => {
                    model.set_input_fact(i, InferenceFact::dt_shape(f32::datum_type(), input_dims))?;
                }
                None => {}
            }
        }
        Ok((model, parsed.outlets_by_name))
    })?;
    // An obstinate analysis goes on behind nodes it does not know, so that constants elsewhere are still found.
    let result = guarded(|| model.analyse(true));
    if let Some(constants) = constants {
        for (name, outlet) in outlets {
            if let Some(value) = model.outlet_fact(outlet).ok().and_then(|fact| fact.value.concretize()) {
                constants.small.entry(name).or_insert(value);
            }
        }
    }
    result.map(|_| model)
}
