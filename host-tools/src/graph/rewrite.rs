//! Weights written back into the ONNX file they came from.
//!
//! Structure, names and operators of the file stay as they are. Import folds batch norms and other affine maps into the
//! layers before them, so a trained layer has no separate factors any more: its weights are written into the layer, the
//! maps behind it become identities (a batch norm of scale 1, mean 0 and variance 1 - epsilon), and the last of them takes
//! the bias. The file read again has the trained constants bit for bit.
//!
//! Where a constant of the graph lies in the file is found by experiment: every float tensor of the file is filled with
//! numbers that stand for their places, the file is imported, and the graph's constants say where their elements came from.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use prost::Message;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, TensorProto};
use tract_onnx::tensor::load_tensor;
use tract_onnx::tract_hir::internal::*;

use super::import::guarded;
use super::{Graph, ImportError, Op, Weights, import_structure};

/// Why weights cannot be written into a model file.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The file is not what was imported, or cannot be imported.
    #[error(transparent)]
    Import(#[from] Box<ImportError>),
    /// A file cannot be read or written.
    #[error("{path}: cannot be read or written")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be taken apart.
    #[error("{path}: {detail}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The graph is not that of the file.
    #[error("{path}: the graph to be written has other nodes than the file")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A constant changed that has no place of its own in the file.
    #[error("{path}: the constants of node `{node}` have no place of their own in the file")]
    NoPlace {
        /// The file.
        path: PathBuf,
        /// The node.
        node: String,
    },
}

/// Where the elements of a constant lie: initializer, and element there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    tensor: usize,
    elements: Vec<u32>,
}

/// A model file that can take other weights.
#[derive(Debug, Clone)]
pub struct Rewriter {
    path: PathBuf,
    /// The file with affine maps behind rewritten layers made identities.
    model: ModelProto,
    /// For each node of the imported graph, for each of its constants.
    places: Vec<Vec<Option<Place>>>,
    before: Graph,
}

impl Rewriter {
    /// Reads a file and finds the places of its constants.
    ///
    /// # Errors
    /// [`RewriteError::Import`], [`RewriteError::Io`], [`RewriteError::Broken`].
    pub fn read(path: &Path) -> Result<Self, RewriteError> {
        let before = import_structure(path).map_err(Box::new)?;
        let original = own_tensors(path)?;
        let mut fixed: HashSet<usize> = HashSet::new();
        // A layer whose constants have no places keeps the maps behind it; leaving it out may take others with it.
        loop {
            let (mut model, mut neutral) = (original.clone(), HashSet::new());
            let layers = (0..before.nodes.len()).filter(|&index| is_layer(&before, index) && !fixed.contains(&index));
            let refused = layers.clone().find(|&index| {
                let node = &before.nodes[index];
                neutralize(&mut model, &mut neutral, &node.name, &node.tensor).is_none()
            });
            if let Some(index) = refused {
                fixed.insert(index);
                continue;
            }
            let places = probe(path, &model, &neutral, &before)?;
            let lost: Vec<usize> = layers.filter(|&index| lacks_place(&before, &places, index)).collect();
            if lost.is_empty() {
                let mut rewriter = Self { path: path.to_owned(), model, places, before };
                rewriter.forget(&fixed);
                return Ok(rewriter);
            }
            fixed.extend(lost);
        }
    }

    fn forget(&mut self, nodes: &HashSet<usize>) {
        nodes.iter().for_each(|&node| self.places[node].fill(None));
    }

    /// Whether constant `constant` (in the order of [`Op::constants`]) of node `node` can be written.
    #[must_use]
    pub fn is_writable(&self, node: usize, constant: usize) -> bool {
        self.places.get(node).and_then(|places| places.get(constant)).is_some_and(Option::is_some)
    }

    /// The bytes of the file with the constants of `graph`, which has the nodes of the file's own graph.
    ///
    /// # Errors
    /// [`RewriteError::Foreign`] for another graph, [`RewriteError::NoPlace`] when a constant changed that cannot be written.
    pub fn write(&self, graph: &Graph) -> Result<Vec<u8>, RewriteError> {
        if graph.nodes.len() != self.before.nodes.len() {
            return Err(RewriteError::Foreign { path: self.path.clone() });
        }
        let mut model = self.model.clone();
        let Some(target) = model.graph.as_mut() else { return Err(self.broken("the file holds no graph".into())) };
        for ((node, before), places) in graph.nodes.iter().zip(&self.before.nodes).zip(&self.places) {
            let (constants, originals) = (node.op.constants(), before.op.constants());
            if constants.len() != originals.len() || node.name != before.name {
                return Err(RewriteError::Foreign { path: self.path.clone() });
            }
            for ((values, original), place) in constants.into_iter().zip(originals).zip(places) {
                let values = values.load().map_err(|detail| self.broken(detail))?;
                match place {
                    Some(place) if place.elements.len() == values.len() => {
                        store(&mut target.initializer[place.tensor], place, values);
                    }
                    Some(_) => return Err(RewriteError::Foreign { path: self.path.clone() }),
                    None if original.load().is_ok_and(|original| original == values) => {}
                    None => return Err(RewriteError::NoPlace { path: self.path.clone(), node: node.name.clone() }),
                }
            }
        }
        let bytes = model.encode_to_vec();
        self.check(&bytes, graph)?;
        Ok(bytes)
    }

    /// The file, read again, must have the constants bit for bit.
    fn check(&self, bytes: &[u8], graph: &Graph) -> Result<(), RewriteError> {
        let io = |source| RewriteError::Io { path: self.path.clone(), source };
        let file = tempfile::Builder::new().suffix(".onnx").tempfile().map_err(io)?;
        std::fs::write(file.path(), bytes).map_err(io)?;
        let again = import_structure(file.path()).map_err(Box::new)?;
        for (node, again) in graph.nodes.iter().zip(&again.nodes) {
            let pairs = node.op.constants().into_iter().zip(again.op.constants());
            let same = |(a, b): (&Weights, &Weights)| a.load().is_ok() && a.load() == b.load();
            if !pairs.into_iter().all(same) {
                return Err(
                    self.broken(format!("node `{}` reads back with other weights than were written", node.name))
                );
            }
        }
        Ok(())
    }

    fn broken(&self, detail: String) -> RewriteError {
        RewriteError::Broken { path: self.path.clone(), detail }
    }
}

fn is_layer(graph: &Graph, index: usize) -> bool {
    matches!(graph.nodes[index].op, Op::Conv(_) | Op::Dense(_))
}

/// Whether a node has a constant from the file that has no place in it.
fn lacks_place(graph: &Graph, places: &[Vec<Option<Place>>], index: usize) -> bool {
    let from_file = |weights: &Weights| !weights.origin.is_absent || weights.origin.has_norm;
    let constants = graph.nodes[index].op.constants().into_iter().zip(&places[index]);
    constants.into_iter().any(|(weights, place)| place.is_none() && from_file(weights))
}

fn store(tensor: &mut TensorProto, place: &Place, values: &[f32]) {
    for (&element, value) in place.elements.iter().zip(values) {
        let at = 4 * element as usize;
        tensor.raw_data[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// The file with every float tensor stored in it as raw data, and read by a single operand.
pub(crate) fn own_tensors(path: &Path) -> Result<ModelProto, RewriteError> {
    let broken = |detail: String| RewriteError::Broken { path: path.to_owned(), detail };
    let bytes = std::fs::read(path).map_err(|source| RewriteError::Io { path: path.to_owned(), source })?;
    let mut model = guarded(|| tract_onnx::onnx().proto_model_for_read(&mut bytes.as_slice())).map_err(broken)?;
    let Some(graph) = model.graph.as_mut() else { return Err(broken("the file holds no graph".into())) };
    let folder = path.parent().and_then(Path::to_str);
    let names: HashSet<String> = graph.initializer.iter().map(|tensor| tensor.name.clone()).collect();
    graph.input.retain(|info| !names.contains(&info.name));
    for mut node in std::mem::take(&mut graph.node) {
        match constant_tensor(&mut node) {
            Some(mut tensor) => {
                tensor.name.clone_from(&node.output[0]);
                graph.initializer.push(tensor);
            }
            None => graph.node.push(node),
        }
    }
    for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.data_type == 1) {
        let provider = tract_onnx::data_resolver::MmapDataResolver;
        let value = guarded(|| load_tensor(&provider, tensor, folder)).map_err(broken)?;
        let view = value.to_plain_array_view::<f32>().map_err(|error| broken(error.to_string()))?;
        let values: Vec<f32> = view.iter().copied().collect();
        fill(tensor, values.into_iter());
    }
    let mut seen: HashSet<String> = HashSet::new();
    let mut copies: Vec<TensorProto> = Vec::new();
    let known: HashMap<String, usize> =
        graph.initializer.iter().enumerate().map(|(index, tensor)| (tensor.name.clone(), index)).collect();
    for input in graph.node.iter_mut().flat_map(|node| &mut node.input) {
        let Some(&index) = known.get(input.as_str()).filter(|&&index| graph.initializer[index].data_type == 1) else {
            continue;
        };
        if !seen.insert(input.clone()) {
            let name = format!("{input}.copy{}", copies.len());
            copies.push(TensorProto { name: name.clone(), ..graph.initializer[index].clone() });
            *input = name;
        }
    }
    graph.initializer.extend(copies);
    Ok(model)
}

/// Takes the tensor out of a Constant node that holds several floats.
fn constant_tensor(node: &mut NodeProto) -> Option<TensorProto> {
    let is_floats = |tensor: &TensorProto| tensor.data_type == 1 && tensor.dims.iter().product::<i64>() > 1;
    if node.op_type != "Constant" || node.output.len() != 1 {
        return None;
    }
    node.attribute.iter_mut().find(|a| a.t.as_ref().is_some_and(is_floats)).and_then(|attribute| attribute.t.take())
}

fn fill(tensor: &mut TensorProto, values: impl Iterator<Item = f32>) {
    tensor.raw_data = values.flat_map(f32::to_le_bytes).collect();
    tensor.float_data.clear();
    tensor.external_data.clear();
    tensor.data_location = None;
}

fn repeat(tensor: &mut TensorProto, value: f32) {
    let count = tensor.raw_data.len() / 4;
    fill(tensor, std::iter::repeat_n(value, count));
}

/// Makes the affine maps between a layer and the tensor that holds its folded result identities, but for the last bias.
/// Tensors that were made so are added to `neutral`. `None` where that cannot be done; the model may then be changed in part.
fn neutralize(model: &mut ModelProto, neutral: &mut HashSet<String>, layer: &str, result: &str) -> Option<()> {
    let graph = model.graph.as_mut()?;
    let is_layer = |node: &NodeProto| matches!(node.op_type.as_str(), "Conv" | "Gemm" | "MatMul");
    let mut found =
        (0..graph.node.len()).filter(|&i| is_layer(&graph.node[i]) && super::import::label(&graph.node[i]) == layer);
    let (at, None) = (found.next()?, found.next()) else { return None };
    for name in ["alpha", "beta"] {
        graph.node[at].attribute.iter_mut().filter(|attribute| attribute.name == name).for_each(|a| a.f = 1.0);
    }
    let steps = chain(&graph.node, at, result)?;
    let mut settings: Vec<(String, f32)> = Vec::new();
    let mut biases: Vec<String> = graph.node[at].input.get(2).cloned().into_iter().collect();
    for (step, constant) in steps {
        let node = &graph.node[step];
        let operand = |i: usize| node.input.get(i).cloned();
        match node.op_type.as_str() {
            "BatchNormalization" => {
                let epsilon =
                    node.attribute.iter().find(|a| a.name == "epsilon").map_or(1e-5, |a: &AttributeProto| a.f);
                settings.extend([(operand(1)?, 1.0), (operand(3)?, 0.0), (operand(4)?, 1.0 - epsilon)]);
                biases.push(operand(2)?);
            }
            "Mul" => settings.push((operand(constant)?, 1.0)),
            "Div" if constant == 1 => settings.push((operand(constant)?, 1.0)),
            "Add" => biases.push(operand(constant)?),
            "Sub" if constant == 1 => settings.push((operand(constant)?, 0.0)),
            "Sub" | "Div" | "Neg" => return None,
            _ => {}
        }
    }
    let tensors: HashMap<String, usize> =
        graph.initializer.iter().enumerate().map(|(index, tensor)| (tensor.name.clone(), index)).collect();
    let length = |name: &String| tensors.get(name).map(|&index| graph.initializer[index].raw_data.len());
    let widest = biases.iter().filter_map(length).max();
    let keeper = biases.iter().rposition(|name| length(name) == widest);
    let zeros = biases.into_iter().enumerate().filter(|(index, _)| Some(*index) != keeper).map(|(_, name)| (name, 0.0));
    for (name, value) in settings.into_iter().chain(zeros) {
        let tensor = &mut graph.initializer[*tensors.get(&name)?];
        if tensor.data_type != 1 {
            return None;
        }
        repeat(tensor, value);
        neutral.insert(name);
    }
    Some(())
}

/// The nodes between a layer and a tensor, each with the operand that is not the running value. Each is the only reader of
/// the one before.
fn chain(nodes: &[NodeProto], layer: usize, result: &str) -> Option<Vec<(usize, usize)>> {
    let (mut steps, mut cursor) = (Vec::new(), nodes[layer].output.first()?);
    while cursor != result {
        let mut readers = (0..nodes.len()).filter(|&i| nodes[i].input.contains(cursor));
        let (reader, None) = (readers.next()?, readers.next()) else { return None };
        steps.push((reader, usize::from(nodes[reader].input.first() == Some(cursor))));
        cursor = nodes[reader].output.first()?;
    }
    Some(steps)
}

/// Bits of the number 1; a place is the number this many steps above it, so that no arithmetic with 0 and 1 changes it.
const FIRST: u32 = 0x3f80_0000;
/// Places that numbers can stand for.
const MOST: usize = 1 << 29;

/// Finds the places of a graph's constants.
fn probe(
    path: &Path,
    model: &ModelProto,
    neutral: &HashSet<String>,
    before: &Graph,
) -> Result<Vec<Vec<Option<Place>>>, RewriteError> {
    let broken = |detail: String| RewriteError::Broken { path: path.to_owned(), detail };
    let io = |source| RewriteError::Io { path: path.to_owned(), source };
    let mut probe = model.clone();
    let Some(graph) = probe.graph.as_mut() else { return Err(broken("the file holds no graph".into())) };
    let kept = norm_constants(model, neutral);
    let (mut starts, mut next) = (Vec::new(), 0);
    for tensor in &mut graph.initializer {
        let count = tensor.raw_data.len() / 4;
        starts.push(next);
        if tensor.data_type != 1 || count < 2 || kept.contains(&tensor.name) || next + count > MOST {
            continue;
        }
        fill(tensor, (next..next + count).map(|place| f32::from_bits(FIRST + place as u32)));
        next += count;
    }
    let file = tempfile::Builder::new().suffix(".onnx").tempfile().map_err(io)?;
    std::fs::write(file.path(), probe.encode_to_vec()).map_err(io)?;
    let found = import_structure(file.path()).map_err(Box::new)?;
    if found.nodes.len() != before.nodes.len() {
        return Err(broken("its structure depends on its weights".into()));
    }
    let place = |values: &[f32]| place_of(values, &starts, next);
    let of_node = |node: &super::Node| {
        let constants = node.op.constants().into_iter();
        constants.map(|c| c.load().ok().and_then(place)).collect()
    };
    Ok(found.nodes.iter().map(of_node).collect())
}

/// Tensors that keep their values while places are sought: those made neutral, and of batch norms that were not all.
fn norm_constants(model: &ModelProto, neutral: &HashSet<String>) -> HashSet<String> {
    let nodes = model.graph.iter().flat_map(|graph| &graph.node);
    let norms = nodes.filter(|node| node.op_type == "BatchNormalization");
    let untouched = norms.filter(|node| node.input.get(1).is_none_or(|scale| !neutral.contains(scale)));
    let names = untouched.flat_map(|node| node.input.iter().skip(1).cloned());
    names.chain(neutral.iter().cloned()).collect()
}

/// The places that values stand for: at least two, all different, all of one tensor.
fn place_of(values: &[f32], starts: &[usize], end: usize) -> Option<Place> {
    let number = |value: &f32| value.to_bits().checked_sub(FIRST).map(|n| n as usize).filter(|&n| n < end);
    let numbers: Vec<usize> = values.iter().map(number).collect::<Option<_>>()?;
    let lowest = *numbers.iter().min().filter(|_| numbers.len() > 1)?;
    // Of tensors that got no places the start equals the next one's.
    let tensor = starts.iter().rposition(|&start| start <= lowest)?;
    let mut seen = vec![false; numbers.len()];
    for &number in &numbers {
        let seen = seen.get_mut(number - starts[tensor])?;
        if std::mem::replace(seen, true) {
            return None;
        }
    }
    Some(Place { tensor, elements: numbers.iter().map(|&number| (number - starts[tensor]) as u32).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Batch, forward, import};

    fn shipped() -> Vec<PathBuf> {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
        let files = [
            "digits/digits-s",
            "digits/digits-m",
            "digits/digits-l",
            "cifar10-resnet/resnet-s",
            "cifar10-resnet/resnet-8",
        ];
        files.iter().map(|file| models.join(format!("{file}.onnx"))).collect()
    }

    /// The graph with every writable constant changed.
    fn changed(graph: &Graph, rewriter: &Rewriter) -> Graph {
        let mut graph = graph.clone();
        for (index, node) in graph.nodes.iter_mut().enumerate() {
            for (c, weights) in node.op.constants_mut().into_iter().enumerate() {
                if rewriter.is_writable(index, c) {
                    let at = |i: usize| (i as f32 * 0.37).sin() * 0.05;
                    *weights = weights.iter().enumerate().map(|(i, w)| w * 0.9 + at(i)).collect();
                }
            }
        }
        graph
    }

    #[test]
    fn changed_weights_read_back_bit_for_bit_and_tract_agrees_with_them() {
        for path in shipped() {
            let graph = import(&path).unwrap();
            let rewriter = Rewriter::read(&path).unwrap();
            let writable =
                |index: usize| (0..graph.nodes[index].op.constants().len()).all(|c| rewriter.is_writable(index, c));
            assert!((0..graph.nodes.len()).all(writable), "{}", path.display());
            let wanted = changed(&graph, &rewriter);
            let file = tempfile::Builder::new().suffix(".onnx").tempfile().unwrap();
            std::fs::write(file.path(), rewriter.write(&wanted).unwrap()).unwrap();
            let again = import(file.path()).unwrap();
            let elements = graph.input_shape.iter().product::<usize>();
            let data = (0..2 * elements).map(|i| (i as f32 * 0.61).sin()).collect();
            let batch = Batch { n: 2, shape: graph.input_shape.clone(), data };
            assert_eq!(forward(&again, &batch), forward(&wanted, &batch));
            assert_ne!(forward(&again, &batch), forward(&graph, &batch));
        }
    }

    #[test]
    fn unchanged_weights_leave_the_network_as_it_is() {
        let path = &shipped()[1];
        let graph = import(path).unwrap();
        let file = tempfile::Builder::new().suffix(".onnx").tempfile().unwrap();
        std::fs::write(file.path(), Rewriter::read(path).unwrap().write(&graph).unwrap()).unwrap();
        let again = import(file.path()).unwrap();
        for (a, b) in graph.nodes.iter().zip(&again.nodes) {
            assert_eq!((&a.name, &a.tensor), (&b.name, &b.tensor));
            assert!(a.op.constants().iter().zip(b.op.constants()).all(|(a, b)| a[..] == b[..]));
        }
    }

    #[test]
    fn a_graph_of_another_file_is_refused() {
        let files = shipped();
        let rewriter = Rewriter::read(&files[0]).unwrap();
        assert!(matches!(rewriter.write(&import(&files[1]).unwrap()), Err(RewriteError::Foreign { .. })));
    }
}
