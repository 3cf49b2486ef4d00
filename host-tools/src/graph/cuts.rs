//! Cuts: the values at which a graph falls into two parts that share one tensor.

use super::{Graph, Op, ValueId};

/// Why a name in a family file is not a usable cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// No tensor of that name.
    #[error("{graph}: no tensor `{name}`{}", suggest(.near))]
    Unknown {
        /// The graph's name.
        graph: String,
        /// The name asked for.
        name: String,
        /// Names that resemble it, best first.
        near: Vec<String>,
    },
    /// The name stands for several values.
    #[error("{graph}: `{name}` could be any of: {}", .tensors.join(", "))]
    Ambiguous {
        /// The graph's name.
        graph: String,
        /// The name asked for.
        name: String,
        /// Tensors it may stand for.
        tensors: Vec<String>,
    },
    /// Part of the network bypasses the value.
    #[error("{graph}: `{name}` is not a cut, `{node}` bypasses it by reading `{tensor}`{}", suggest(.near))]
    Bypassed {
        /// The graph's name.
        graph: String,
        /// The name asked for.
        name: String,
        /// Node after the cut that reads the other value.
        node: String,
        /// Tensor of the other value.
        tensor: String,
        /// The nearest usable cuts.
        near: Vec<String>,
    },
    /// The name is the graph's input or output, or nothing reads it.
    #[error("{graph}: `{name}` is an end of the network, a cut lies between two parts of it")]
    End {
        /// The graph's name.
        graph: String,
        /// The name asked for.
        name: String,
    },
}

fn suggest(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; near it: {}", near.join(", ")) }
}

/// Where a value is bypassed: the reading node and the other value.
type Bypass = (usize, ValueId);

/// The cuts of a graph in order: values that every path from the input to the output passes through, as candidates for
/// block boundaries.
///
/// Left out are the input and the output, a value that only a [`Op::Clip`] reads (its output is listed instead), results
/// of reshapes, transposes, slices and products of activations, and for networks on feature maps everything from the global pool on (one position).
#[must_use]
pub fn find_cuts(graph: &Graph) -> Vec<ValueId> {
    let readers = readers(graph);
    let last_reads = last_reads(graph, &readers);
    let mut longest: Option<Bypass> = last_reads[0];
    let mut cuts = Vec::new();
    for value in (1..=graph.nodes.len()).map(ValueId) {
        let bypassed = longest.is_some_and(|(node, _)| node + 1 > value.0);
        longest = longest.max(last_reads[value.0]);
        if !bypassed && value < graph.output && usable(graph, value, &readers[value.0]) {
            cuts.push(value);
        }
    }
    cuts
}

/// The value a tensor name stands for, checked to be a single-tensor cut.
///
/// Names of tensors that were folded away at import resolve to the value that holds their result now. Unlike
/// [`find_cuts`] this accepts any cut, also one before an activation or on a vector.
///
/// # Errors
/// [`CutError`], with similar names or the nearest cuts where there are any.
pub fn resolve_cut(graph: &Graph, tensor_name: &str) -> Result<ValueId, CutError> {
    let (graph_name, name) = (graph.name.clone(), tensor_name.to_owned());
    let value = match named(graph, tensor_name).as_slice() {
        [] => return Err(CutError::Unknown { graph: graph_name, name, near: similar(graph, tensor_name) }),
        [value] => *value,
        several => {
            let tensors = several.iter().map(|&value| graph.tensor(value).to_owned()).collect();
            return Err(CutError::Ambiguous { graph: graph_name, name, tensors });
        }
    };
    let readers = readers(graph);
    if value == ValueId::INPUT || value == graph.output || readers[value.0].is_empty() {
        return Err(CutError::End { graph: graph_name, name });
    }
    match bypass(graph, &readers, value) {
        None => Ok(value),
        Some((node, other)) => Err(CutError::Bypassed {
            graph: graph_name,
            name,
            node: graph.nodes[node].name.clone(),
            tensor: graph.tensor(other).to_owned(),
            near: neighbours(graph, value),
        }),
    }
}

fn named(graph: &Graph, name: &str) -> Vec<ValueId> {
    let mut found: Vec<ValueId> =
        (0..=graph.nodes.len()).map(ValueId).filter(|&value| graph.tensor(value) == name).collect();
    if found.is_empty() {
        found = graph.aliases.iter().filter(|(alias, _)| alias == name).map(|&(_, value)| value).collect();
    }
    if found.is_empty() {
        found = (1..=graph.nodes.len()).map(ValueId).filter(|value| graph.nodes[value.0 - 1].name == name).collect();
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Nodes that read each value, dead nodes left out.
fn readers(graph: &Graph) -> Vec<Vec<usize>> {
    let mut readers = vec![Vec::new(); graph.nodes.len() + 1];
    for index in (0..graph.output.0).rev() {
        if index + 1 != graph.output.0 && readers[index + 1].is_empty() {
            continue;
        }
        for input in &graph.nodes[index].inputs {
            readers[input.0].push(index);
        }
    }
    readers
}

/// The last node that reads each value.
fn last_reads(graph: &Graph, readers: &[Vec<usize>]) -> Vec<Option<Bypass>> {
    let is_constant = |value: usize| value > 0 && matches!(graph.nodes[value - 1].op, Op::Constant(_));
    let last = |value: usize| Some((*readers[value].iter().max()?, ValueId(value))).filter(|_| !is_constant(value));
    (0..=graph.nodes.len()).map(last).collect()
}

/// In topological order a value is bypassed exactly when an earlier value is read after it was produced.
fn bypass(graph: &Graph, readers: &[Vec<usize>], value: ValueId) -> Option<Bypass> {
    let last_reads = last_reads(graph, readers);
    last_reads[..value.0].iter().flatten().copied().filter(|&(node, _)| node + 1 > value.0).max()
}

fn usable(graph: &Graph, value: ValueId, readers: &[usize]) -> bool {
    let is_clip = |node: &usize| matches!(graph.nodes[*node].op, Op::Clip { .. });
    if readers.is_empty() || readers.iter().all(is_clip) {
        return false;
    }
    let op = &graph.nodes[value.0 - 1].op;
    if matches!(op, Op::Reshape | Op::Transpose { .. } | Op::Slice { .. } | Op::Gather { .. } | Op::Constant(_)) {
        return false;
    }
    // The inside of an attention.
    if matches!(op, Op::MatMul { .. }) {
        return false;
    }
    positions(&graph.input_shape) == 1 || positions(graph.shape(value)) > 1
}

/// Positions of a map or sequence: the product of all extents but the channels'.
fn positions(shape: &[usize]) -> usize {
    shape.split_last().map_or(1, |(_, rest)| rest.iter().product())
}

/// The usable cuts around a value, before and after.
fn neighbours(graph: &Graph, value: ValueId) -> Vec<String> {
    let cuts = find_cuts(graph);
    let before = cuts.iter().rev().find(|&&cut| cut < value);
    let after = cuts.iter().find(|&&cut| cut > value);
    before.into_iter().chain(after).map(|&cut| graph.tensor(cut).to_owned()).collect()
}

/// Up to three tensor names close to `name` by edit distance, or containing it.
fn similar(graph: &Graph, name: &str) -> Vec<String> {
    let names = (1..=graph.nodes.len()).map(|value| graph.tensor(ValueId(value)));
    let mut scored: Vec<(usize, &str)> = names
        .chain(graph.aliases.iter().map(|(alias, _)| alias.as_str()))
        .map(|other| (if other.contains(name) { 1 } else { edit_distance(name, other) }, other))
        .filter(|&(distance, _)| distance <= (name.len() / 3).max(2))
        .collect();
    scored.sort_unstable();
    scored.dedup();
    scored.truncate(3);
    scored.into_iter().map(|(_, other)| other.to_owned()).collect()
}

/// Levenshtein distance over bytes, case ignored.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(!x.eq_ignore_ascii_case(&y));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
