//! Constant tensors of a file. Large ones stay where they are until their values are needed: tract, which infers shapes
//! and evaluates what is constant, gets them as further inputs of known shape.

use std::collections::HashMap;
use std::sync::Arc;

use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Extent};
use tract_onnx::pb::type_proto::{Tensor as TensorType, Value as TypeValue};
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto};
use tract_onnx::tensor::load_tensor;
use tract_onnx::tract_hir::internal::*;

use super::super::Weights;
use super::attributes::Attributes;
use super::guard::guarded;
use super::source::{MAX_ELEMENTS, elements};

/// Floats in a tensor from which on it is large.
const LARGE_ELEMENTS: usize = 1 << 15;

/// A large float tensor.
#[derive(Clone)]
pub struct Large {
    /// Extents.
    pub dims: Vec<usize>,
    /// Values, read when needed.
    pub weights: Weights,
}

/// All constants of a file by tensor name.
#[derive(Default)]
pub struct Constants {
    /// With their values.
    pub small: HashMap<String, Arc<Tensor>>,
    /// Without.
    pub large: HashMap<String, Large>,
}

impl Constants {
    /// Takes the large tensors out of a graph, leaving inputs in their place, and reads the small ones. Those of types
    /// tract does not know are left out.
    pub fn take(graph: &mut GraphProto, folder: Option<&str>) -> Result<Self, String> {
        let mut constants = Self::default();
        let names: Vec<String> = graph.initializer.iter().map(|tensor| tensor.name.clone()).collect();
        graph.input.retain(|info| !names.contains(&info.name));
        let (large, small): (Vec<TensorProto>, Vec<TensorProto>) =
            std::mem::take(&mut graph.initializer).into_iter().partition(is_large);
        for tensor in &small {
            constants.read(&tensor.name, tensor, folder)?;
        }
        graph.initializer = small;
        let mut taken: Vec<(String, Large)> = Vec::new();
        for tensor in large {
            taken.push((tensor.name.clone(), from_file(tensor, folder)?));
        }
        let mut kept = Vec::new();
        for mut node in std::mem::take(&mut graph.node) {
            let value = constant_value(&mut node);
            match (value, node.output.first()) {
                (Some(tensor), Some(name)) if is_large(&tensor) => {
                    taken.push((name.clone(), from_file(tensor, folder)?));
                    continue;
                }
                (Some(tensor), Some(name)) => {
                    constants.read(name, &tensor, folder)?;
                    restore(&mut node, tensor);
                }
                _ => {}
            }
            match constants.filled(&node) {
                Some(filled) => taken.push((node.output[0].clone(), filled)),
                None => kept.push(node),
            }
        }
        graph.node = kept;
        graph.input.extend(taken.iter().map(|(name, large)| input(name, &large.dims)));
        constants.large = taken.into_iter().collect();
        Ok(constants)
    }

    fn read(&mut self, name: &str, tensor: &TensorProto, folder: Option<&str>) -> Result<(), String> {
        let provider = tract_onnx::data_resolver::MmapDataResolver;
        let value = guarded(|| load_tensor(&provider, tensor, folder));
        self.small.insert(name.to_owned(), Arc::new(value.map_err(|detail| format!("tensor `{name}`: {detail}"))?));
        Ok(())
    }

    /// The result of a ConstantOfShape node if it is large.
    fn filled(&self, node: &NodeProto) -> Option<Large> {
        if node.op_type != "ConstantOfShape" || node.output.len() != 1 {
            return None;
        }
        let shape = self.small.get(node.input.first()?)?.cast_to::<i64>().ok()?.into_owned();
        let dims = shape.to_plain_array_view::<i64>().ok()?;
        let dims: Vec<usize> = dims.iter().map(|&extent| usize::try_from(extent).ok()).collect::<Option<_>>()?;
        let count = elements(&dims).filter(|count| (LARGE_ELEMENTS..=MAX_ELEMENTS).contains(count))?;
        let value = Attributes(node).tensor("value")?;
        if value.data_type != 1 {
            return None;
        }
        let provider = tract_onnx::data_resolver::MmapDataResolver;
        let value = guarded(|| load_tensor(&provider, value, None)).ok()?.cast_to_scalar::<f32>().ok()?;
        Some(Large { dims, weights: Weights::lazy(count, move || Ok(vec![value; count])) })
    }

    /// Adds what follows from large constants by renaming or moving axes alone.
    pub fn derive(&mut self, node: &NodeProto) {
        let Some(large) = node.input.first().and_then(|name| self.large.get(name)).cloned() else { return };
        let (Some(name), false) = (node.output.first(), self.contains(node.output.first().map_or("", String::as_str)))
        else {
            return;
        };
        let derived = match node.op_type.as_str() {
            "Identity" => Some(large),
            "Cast" if Attributes(node).int("to", 1) == 1 => Some(large),
            "Transpose" => transposed(&large, Attributes(node).ints("perm")),
            "Reshape" => node.input.get(1).and_then(|shape| self.small.get(shape)).and_then(|s| reshaped(&large, s)),
            "Unsqueeze" => {
                let operand = node.input.get(1).and_then(|axes| self.small.get(axes));
                unsqueezed(&large, Attributes(node).ints("axes"), operand.map(AsRef::as_ref))
            }
            _ => None,
        };
        if let Some(derived) = derived {
            self.large.insert(name.clone(), derived);
        }
    }

    /// Whether a tensor is constant.
    pub fn contains(&self, name: &str) -> bool {
        self.small.contains_key(name) || self.large.contains_key(name)
    }
}

fn is_large(tensor: &TensorProto) -> bool {
    let extents: Option<Vec<usize>> = tensor.dims.iter().map(|&extent| usize::try_from(extent).ok()).collect();
    let count = extents.and_then(|extents| elements(&extents));
    tensor.data_type == 1 && count.is_some_and(|count| (LARGE_ELEMENTS..=MAX_ELEMENTS).contains(&count))
}

fn from_file(tensor: TensorProto, folder: Option<&str>) -> Result<Large, String> {
    let dims: Vec<usize> = tensor.dims.iter().map(|&extent| extent as usize).collect();
    let count: usize = dims.iter().product();
    let inline = tensor.raw_data.len() / 4 + tensor.float_data.len();
    if tensor.external_data.is_empty() && inline != count {
        return Err(format!("tensor `{}` of shape {dims:?} holds {inline} numbers", tensor.name));
    }
    let folder = folder.map(str::to_owned);
    let read = move || {
        let provider = tract_onnx::data_resolver::MmapDataResolver;
        let value = guarded(|| load_tensor(&provider, &tensor, folder.as_deref()))
            .map_err(|detail| format!("tensor `{}`: {detail}", tensor.name))?;
        let view = value.to_plain_array_view::<f32>().map_err(|error| error.to_string())?;
        Ok(view.iter().copied().collect())
    };
    Ok(Large { dims, weights: Weights::lazy(count, read) })
}

/// Takes the tensor out of a Constant node.
fn constant_value(node: &mut NodeProto) -> Option<TensorProto> {
    if node.op_type != "Constant" || node.output.len() != 1 {
        return None;
    }
    node.attribute.iter_mut().find_map(|attribute| attribute.t.take())
}

fn restore(node: &mut NodeProto, tensor: TensorProto) {
    if let Some(attribute) = node.attribute.iter_mut().find(|attribute| attribute.name == "value") {
        attribute.t = Some(tensor);
    }
}

fn transposed(large: &Large, perm: Option<&[i64]>) -> Option<Large> {
    let rank = large.dims.len();
    let perm: Vec<usize> = match perm {
        Some(perm) => {
            perm.iter().map(|&axis| usize::try_from(axis).ok().filter(|&axis| axis < rank)).collect::<Option<_>>()?
        }
        None => (0..rank).rev().collect(),
    };
    if perm.len() != rank {
        return None;
    }
    let before = large.dims.clone();
    let dims = perm.iter().map(|&axis| before[axis]).collect();
    let weights = large.weights.map(move |values| {
        let order = super::super::forward::pointwise::transposed_order(&before, &perm);
        order.into_iter().map(|at| values[at]).collect()
    });
    Some(Large { dims, weights })
}

fn unsqueezed(large: &Large, listed: Option<&[i64]>, operand: Option<&Tensor>) -> Option<Large> {
    let axes: Vec<i64> = match (listed, operand) {
        (Some(axes), _) => axes.to_vec(),
        (None, operand) => operand?.cast_to::<i64>().ok()?.to_plain_array_view::<i64>().ok()?.iter().copied().collect(),
    };
    let rank = large.dims.len() + axes.len();
    let added: Vec<usize> =
        axes.into_iter().map(|axis| super::attributes::axis(axis, rank).ok()).collect::<Option<_>>()?;
    let mut old = large.dims.iter().copied();
    let dims = (0..rank).map(|axis| if added.contains(&axis) { 1 } else { old.next().unwrap_or(1) }).collect();
    Some(Large { dims, weights: large.weights.clone() })
}

fn reshaped(large: &Large, shape: &Tensor) -> Option<Large> {
    let shape = shape.cast_to::<i64>().ok()?.into_owned();
    let view = shape.to_plain_array_view::<i64>().ok()?;
    let dims: Vec<usize> = view.iter().map(|&extent| usize::try_from(extent).ok()).collect::<Option<_>>()?;
    (elements(&dims) == Some(large.weights.len())).then(|| Large { dims, weights: large.weights.clone() })
}

fn input(name: &str, dims: &[usize]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|&extent| Dimension { value: Some(Extent::DimValue(extent as i64)), ..Dimension::default() })
        .collect();
    let tensor = TensorType { elem_type: 1, shape: Some(TensorShapeProto { dim }) };
    let kind = TypeProto { value: Some(TypeValue::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), r#type: Some(kind), ..ValueInfoProto::default() }
}
