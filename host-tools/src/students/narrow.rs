//! Fewer channels: each group keeps the ones that its layers give and take with the largest weights.

use std::collections::HashMap;
use std::path::Path;

use tract_onnx::pb::{GraphProto, ModelProto, TensorProto};

use super::StudentError;
use super::channels::{Channels, Role, Use};
use crate::graph::import::label;
use crate::graph::rewrite::RewriteError;

/// Channel counts that were multiples of this stay so: integer kernels take so many at once.
const STEP: usize = 4;

/// Takes channels away from every group of a file but its input and outputs. Returns the channels that layers, by name, still
/// give, where these are fewer.
///
/// # Errors
/// [`StudentError::Operator`] where channels cannot be followed.
pub fn narrow(model: &mut ModelProto, path: &Path, width: f64) -> Result<HashMap<String, Vec<usize>>, StudentError> {
    let broken = || RewriteError::Broken { path: path.to_owned(), detail: "the file holds no graph".into() };
    let graph = model.graph.as_mut().ok_or_else(broken)?;
    let channels = Channels::of(graph, path)?;
    // All strengths first: they are those of the whole network.
    let chosen: Vec<(usize, Vec<usize>)> = channels
        .free()
        .map(|(group, size)| (group, strongest(&strengths(graph, &channels, group, size), kept(size, width))))
        .collect();
    let mut left = HashMap::new();
    for (group, kept) in chosen {
        for usage in channels.uses(group) {
            if matches!(usage.role, Role::Writes | Role::Filters) {
                let name = &graph.initializer[usage.tensor].name;
                let layer = graph.node.iter().find(|node| node.input.contains(name));
                left.extend(layer.map(|node| (label(node), kept.clone())));
            }
            take(&mut graph.initializer[usage.tensor], usage.axis, usage.repeat, &kept);
        }
        for node in channels.depthwise(group) {
            let attributes = graph.node[node].attribute.iter_mut();
            attributes.filter(|attribute| attribute.name == "group").for_each(|a| a.i = kept.len() as i64);
        }
    }
    graph.value_info.clear();
    Ok(left)
}

/// Channels left of so many at a width.
#[must_use]
pub fn kept(channels: usize, width: f64) -> usize {
    let step = if channels.is_multiple_of(STEP) { STEP } else { 1 };
    let steps = (channels as f64 * width / step as f64).round() as usize;
    (steps * step).clamp(step.min(channels), channels)
}

/// How much each channel of a group does: the square norm of the weights that write it (as the batch norm behind them scales
/// them) times that of the weights that read it.
fn strengths(graph: &GraphProto, channels: &Channels, group: usize, size: usize) -> Vec<f64> {
    let sum = |role: Role| {
        let mut sum: Option<Vec<f64>> = None;
        for usage in channels.uses(group).filter(|usage| usage.role == role) {
            let norms = square_norms(graph, usage, size);
            match &mut sum {
                Some(sum) => sum.iter_mut().zip(norms).for_each(|(sum, norm)| *sum += norm),
                None => sum = Some(norms),
            }
        }
        sum.unwrap_or_else(|| vec![1.0; size])
    };
    let (writes, reads, filters) = (sum(Role::Writes), sum(Role::Reads), sum(Role::Filters));
    (0..size).map(|channel| writes[channel] * reads[channel] * filters[channel]).collect()
}

/// Square norm of a use's part of each channel.
fn square_norms(graph: &GraphProto, usage: &Use, size: usize) -> Vec<f64> {
    let tensor = &graph.initializer[usage.tensor];
    let (outer, extent, inner) = layout(tensor, usage.axis);
    let values = floats(tensor);
    let mut norms = vec![0.0; size];
    for (index, value) in values.iter().enumerate().take(outer * extent * inner) {
        norms[index / inner % extent / usage.repeat.max(1)] += f64::from(*value).powi(2);
    }
    if let Some((scale, variance, epsilon)) = usage.norm {
        let (scale, variance) = (floats(&graph.initializer[scale]), floats(&graph.initializer[variance]));
        for ((norm, scale), variance) in norms.iter_mut().zip(scale).zip(variance) {
            *norm *= f64::from(scale).powi(2) / f64::from(variance + epsilon);
        }
    }
    norms
}

/// Indices of the `count` largest numbers, in ascending order; of equal ones the first.
fn strongest(strengths: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..strengths.len()).collect();
    order.sort_by(|&a, &b| strengths[b].total_cmp(&strengths[a]));
    order.truncate(count);
    order.sort_unstable();
    order
}

/// Keeps the listed channels of an axis.
fn take(tensor: &mut TensorProto, axis: usize, repeat: usize, kept: &[usize]) {
    let (outer, extent, inner) = layout(tensor, axis);
    let bytes = 4 * inner * repeat;
    let mut data = Vec::with_capacity(outer * kept.len() * bytes);
    for row in 0..outer {
        for channel in kept {
            let start = 4 * row * extent * inner + channel * bytes;
            data.extend_from_slice(&tensor.raw_data[start..start + bytes]);
        }
    }
    tensor.raw_data = data;
    tensor.dims[axis] = (kept.len() * repeat) as i64;
}

/// Elements before an axis, along it, and behind it.
fn layout(tensor: &TensorProto, axis: usize) -> (usize, usize, usize) {
    let extent = |dims: &[i64]| dims.iter().map(|&extent| usize::try_from(extent).unwrap_or(0)).product::<usize>();
    (extent(&tensor.dims[..axis]), extent(&tensor.dims[axis..=axis]), extent(&tensor.dims[axis + 1..]))
}

fn floats(tensor: &TensorProto) -> Vec<f32> {
    tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
