//! Channels that belong together: what a layer gives, what the next one takes, both sides of a sum. They are kept or left
//! out in all of these places at once.
//!
//! Values of an ONNX file in NCHW order are followed from the input to the outputs; axis 1 holds the channels, of maps and
//! of vectors.

use std::collections::HashMap;
use std::path::Path;

use tract_onnx::pb::tensor_shape_proto::dimension::Value as Extent;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};

use super::StudentError;
use crate::graph::import::label;

/// What a tensor does with the channels of one of its axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Weights whose outputs they are.
    Writes,
    /// Weights that read them.
    Reads,
    /// Weights of a depthwise convolution.
    Filters,
    /// One number each: bias, batch norm.
    Follows,
}

/// An axis of an initializer that holds the channels of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Use {
    /// Index of the initializer.
    pub tensor: usize,
    /// The axis.
    pub axis: usize,
    /// The group.
    pub group: usize,
    /// Indices of the axis for each channel: more than one behind a flattened map.
    pub repeat: usize,
    /// What the tensor does.
    pub role: Role,
    /// Factor and variance of the batch norm right behind weights, as initializers, with its epsilon.
    pub norm: Option<(usize, usize, f32)>,
}

/// The channel groups of a file.
#[derive(Debug, Default)]
pub struct Channels {
    /// Group that each one was joined into, itself for those that were not.
    parents: Vec<usize>,
    sizes: Vec<usize>,
    fixed: Vec<bool>,
    uses: Vec<Use>,
    /// Depthwise convolutions by node, with their group.
    depthwise: Vec<(usize, usize)>,
}

/// Where a value has its channels.
#[derive(Debug, Clone, Copy)]
struct Place {
    group: usize,
    /// Maps have rank 4, vectors 2.
    rank: usize,
    /// Each channel is several neighbouring features.
    is_flat: bool,
    /// Last use that wrote it, for the batch norm behind.
    writer: Option<usize>,
}

/// Operators that treat every channel alike and alone.
const ALONE: [&str; 22] = [
    "Relu",
    "Clip",
    "LeakyRelu",
    "HardSwish",
    "HardSigmoid",
    "Sigmoid",
    "Tanh",
    "Gelu",
    "Elu",
    "Erf",
    "Exp",
    "Sqrt",
    "Abs",
    "Neg",
    "Identity",
    "Dropout",
    "Cast",
    "Pad",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
];

impl Channels {
    /// Follows the channels of a file whose float tensors are initializers with a single reader.
    ///
    /// # Errors
    /// [`StudentError::Operator`] at the first node through which channels cannot be followed.
    pub fn of(graph: &GraphProto, path: &Path) -> Result<Self, StudentError> {
        let tensors: HashMap<&str, usize> =
            graph.initializer.iter().enumerate().map(|(index, tensor)| (tensor.name.as_str(), index)).collect();
        let mut follow = Follow { graph, tensors, channels: Self::default(), places: HashMap::new() };
        for input in graph.input.iter().filter(|input| !follow.tensors.contains_key(input.name.as_str())) {
            let dims = extents(input);
            let group = follow.channels.group(dims.get(1).copied().unwrap_or(0));
            follow.channels.fixed[group] = true;
            let place = Place { group, rank: dims.len(), is_flat: false, writer: None };
            follow.places.insert(input.name.clone(), place);
        }
        for (index, node) in graph.node.iter().enumerate() {
            follow.node(index, node).map_err(|reason| StudentError::Operator {
                path: path.to_owned(),
                node: label(node),
                operator: node.op_type.clone(),
                reason,
            })?;
        }
        for output in &graph.output {
            if let Some(place) = follow.places.get(&output.name) {
                let root = follow.channels.root(place.group);
                follow.channels.fixed[root] = true;
            }
        }
        Ok(follow.channels)
    }

    /// Groups that may lose channels, with their sizes.
    pub fn free(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let is_free = |&group: &usize| self.root(group) == group && !self.fixed[group];
        (0..self.parents.len()).filter(is_free).map(|group| (group, self.sizes[group]))
    }

    /// Everything that holds channels of a group.
    pub fn uses(&self, group: usize) -> impl Iterator<Item = &Use> {
        self.uses.iter().filter(move |usage| self.root(usage.group) == group)
    }

    /// Nodes that are depthwise convolutions over a group.
    pub fn depthwise(&self, group: usize) -> impl Iterator<Item = usize> + '_ {
        self.depthwise.iter().filter(move |(_, of)| self.root(*of) == group).map(|(node, _)| *node)
    }

    fn group(&mut self, size: usize) -> usize {
        self.parents.push(self.parents.len());
        self.sizes.push(size);
        self.fixed.push(false);
        self.parents.len() - 1
    }

    fn root(&self, mut group: usize) -> usize {
        while self.parents[group] != group {
            group = self.parents[group];
        }
        group
    }

    fn join(&mut self, a: usize, b: usize) -> Result<(), String> {
        let (a, b) = (self.root(a), self.root(b));
        if self.sizes[a] != self.sizes[b] {
            return Err(format!("it joins {} channels with {}", self.sizes[a], self.sizes[b]));
        }
        self.fixed[a] |= self.fixed[b];
        self.parents[b] = a;
        Ok(())
    }
}

struct Follow<'a> {
    graph: &'a GraphProto,
    tensors: HashMap<&'a str, usize>,
    channels: Channels,
    places: HashMap<String, Place>,
}

impl Follow<'_> {
    /// Gives the node's output its place; an error says why that cannot be done.
    fn node(&mut self, index: usize, node: &NodeProto) -> Result<(), String> {
        let moving: Vec<Place> = node.input.iter().filter_map(|input| self.places.get(input).copied()).collect();
        let Some(&place) = moving.first() else { return Ok(()) };
        let place = match node.op_type.as_str() {
            "Conv" => self.conv(index, node, place)?,
            "Gemm" => self.dense(node, place, 1 - usize::from(integer(node, "transB").unwrap_or(0) == 1))?,
            "MatMul" => self.dense(node, place, 1)?,
            "BatchNormalization" => self.norm(node, place)?,
            "Add" | "Sub" | "Mul" | "Div" | "Max" | "Min" | "Sum" => self.arithmetic(node, &moving)?,
            "Flatten" if integer(node, "axis").unwrap_or(1) == 1 => flat(place),
            "Reshape" if self.flattens(node) => flat(place),
            "Squeeze" => Place { rank: 2, ..place },
            "ReduceMean" if self.is_spatial(node) => {
                Place { rank: if integer(node, "keepdims") == Some(0) { 2 } else { place.rank }, ..place }
            }
            "Softmax" if self.graph.output.iter().any(|output| node.output.contains(&output.name)) => place,
            operator if ALONE.contains(&operator) => Place { writer: None, ..place },
            _ => return Err("channels cannot be taken away through it".into()),
        };
        let Some(output) = node.output.first() else { return Ok(()) };
        self.places.insert(output.clone(), place);
        Ok(())
    }

    fn tensor(&self, node: &NodeProto, input: usize) -> Option<(usize, &TensorProto)> {
        let index = *self.tensors.get(node.input.get(input)?.as_str())?;
        Some((index, &self.graph.initializer[index]))
    }

    /// An initializer whose extents are needed.
    fn weights(&self, node: &NodeProto, input: usize) -> Result<(usize, Vec<usize>), String> {
        let (index, tensor) = self.tensor(node, input).ok_or("its weights are no constant of the file")?;
        Ok((index, tensor.dims.iter().map(|&extent| usize::try_from(extent).unwrap_or(0)).collect()))
    }

    fn add(&mut self, tensor: usize, axis: usize, group: usize, role: Role) -> usize {
        self.channels.uses.push(Use { tensor, axis, group, repeat: 1, role, norm: None });
        self.channels.uses.len() - 1
    }

    fn conv(&mut self, index: usize, node: &NodeProto, place: Place) -> Result<Place, String> {
        let (tensor, dims) = self.weights(node, 1)?;
        let groups = usize::try_from(integer(node, "group").unwrap_or(1)).unwrap_or(0);
        let size = self.size(place);
        let &[outputs, inputs, ..] = dims.as_slice() else { return Err("its weights have no channels".into()) };
        let (group, writer) = match groups {
            1 if inputs == size => {
                self.add(tensor, 1, place.group, Role::Reads);
                let group = self.channels.group(outputs);
                (group, self.add(tensor, 0, group, Role::Writes))
            }
            _ if groups == size && inputs == 1 && outputs == size => {
                self.channels.depthwise.push((index, place.group));
                (place.group, self.add(tensor, 0, place.group, Role::Filters))
            }
            _ => return Err(format!("{groups} groups of {inputs} channels; only depthwise ones can be narrowed")),
        };
        if let Some((bias, _)) = self.tensor(node, 2) {
            self.add(bias, 0, group, Role::Follows);
        }
        Ok(Place { group, writer: Some(writer), ..place })
    }

    /// A fully connected layer whose outputs are along an axis of its weights.
    fn dense(&mut self, node: &NodeProto, place: Place, outputs: usize) -> Result<Place, String> {
        let (tensor, dims) = self.weights(node, 1)?;
        if dims.len() != 2 || place.rank != 2 || integer(node, "transA").unwrap_or(0) != 0 {
            return Err("only products of vectors with a matrix can be narrowed".into());
        }
        let (features, size) = (dims[1 - outputs], self.size(place));
        if size == 0 || !features.is_multiple_of(size) || !place.is_flat && features != size {
            return Err(format!("it reads {features} features of {size} channels"));
        }
        let read = self.add(tensor, 1 - outputs, place.group, Role::Reads);
        self.channels.uses[read].repeat = features / size;
        let group = self.channels.group(dims[outputs]);
        let writer = self.add(tensor, outputs, group, Role::Writes);
        if let Some((bias, TensorProto { dims, .. })) = self.tensor(node, 2)
            && dims.last().is_some_and(|&extent| extent > 1)
        {
            let axis = dims.len() - 1;
            self.add(bias, axis, group, Role::Follows);
        }
        Ok(Place { group, rank: 2, is_flat: false, writer: Some(writer) })
    }

    fn norm(&mut self, node: &NodeProto, place: Place) -> Result<Place, String> {
        let mut parts = Vec::new();
        for input in 1..5 {
            let (tensor, _) = self.weights(node, input)?;
            parts.push(tensor);
            self.add(tensor, 0, place.group, Role::Follows);
        }
        let epsilon = node.attribute.iter().find(|attribute| attribute.name == "epsilon").map_or(1e-5, |a| a.f);
        if let Some(writer) = place.writer {
            self.channels.uses[writer].norm = Some((parts[0], parts[3], epsilon));
        }
        Ok(Place { writer: None, ..place })
    }

    fn arithmetic(&mut self, node: &NodeProto, moving: &[Place]) -> Result<Place, String> {
        let place = moving[0];
        for other in &moving[1..] {
            if other.is_flat != place.is_flat || other.rank != place.rank {
                return Err("it joins a map with a vector".into());
            }
            self.channels.join(place.group, other.group)?;
        }
        for input in 0..node.input.len() {
            let Some((tensor, TensorProto { dims, .. })) = self.tensor(node, input) else { continue };
            let Some(axis) = (dims.len() + 1).checked_sub(place.rank) else { continue };
            match usize::try_from(dims.get(axis).copied().unwrap_or(1)).unwrap_or(0) {
                1 => {}
                extent if extent == self.size(place) && !place.is_flat => {
                    self.add(tensor, axis, place.group, Role::Follows);
                }
                extent => return Err(format!("its constant has {extent} channels for {}", self.size(place))),
            }
        }
        Ok(Place { writer: None, ..place })
    }

    fn size(&self, place: Place) -> usize {
        self.channels.sizes[self.channels.root(place.group)]
    }

    /// Whether a reshape makes vectors of maps, whatever the channels are: a shape of `[batch, -1]`.
    fn flattens(&self, node: &NodeProto) -> bool {
        let shape = self.tensor(node, 1).map(|(_, tensor)| integers(tensor));
        let shape = shape.or_else(|| {
            let writer = self.graph.node.iter().find(|other| other.output.first() == node.input.get(1))?;
            writer.attribute.iter().find_map(|attribute| attribute.t.as_ref()).map(integers)
        });
        shape.is_some_and(|shape| matches!(shape[..], [-1..=1, -1]))
    }

    /// Whether a mean runs over height and width alone.
    fn is_spatial(&self, node: &NodeProto) -> bool {
        let listed = node.attribute.iter().find(|attribute| attribute.name == "axes").map(|a| a.ints.clone());
        let constant = || {
            let of_node = |name: &String| {
                let writer = self.graph.node.iter().find(|other| other.output.first() == Some(name))?;
                writer.attribute.iter().find_map(|attribute| attribute.t.as_ref()).map(integers)
            };
            let name = node.input.get(1)?;
            self.tensor(node, 1).map(|(_, tensor)| integers(tensor)).or_else(|| of_node(name))
        };
        let axes = listed.or_else(constant);
        axes.is_some_and(|axes| !axes.is_empty() && axes.iter().all(|axis| matches!(axis, 2 | 3 | -1 | -2)))
    }
}

fn flat(place: Place) -> Place {
    Place { rank: 2, is_flat: place.is_flat || place.rank > 2, writer: None, ..place }
}

fn integer(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|attribute: &&AttributeProto| attribute.name == name).map(|attribute| attribute.i)
}

/// Values of a tensor of 64-bit integers.
fn integers(tensor: &TensorProto) -> Vec<i64> {
    if !tensor.int64_data.is_empty() {
        return tensor.int64_data.clone();
    }
    let words = tensor.raw_data.chunks_exact(8);
    words.map(|word| i64::from_le_bytes(word.try_into().unwrap_or_default())).collect()
}

/// Extents of an input, 0 where they are not fixed.
fn extents(input: &ValueInfoProto) -> Vec<usize> {
    let Some(TypeValue::TensorType(tensor)) = input.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return Vec::new();
    };
    let dims = tensor.shape.iter().flat_map(|shape| &shape.dim);
    dims.map(|dim| match &dim.value {
        Some(Extent::DimValue(extent)) => usize::try_from(*extent).unwrap_or(0),
        _ => 0,
    })
    .collect()
}
