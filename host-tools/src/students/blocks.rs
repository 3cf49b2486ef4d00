//! Fewer blocks: a block whose input and output have one shape is left out by letting what reads its output read its input.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use tract_onnx::pb::ModelProto;

use super::StudentError;
use crate::family::{Anchor, Family, SpaceKind};
use crate::graph::rewrite::RewriteError;

/// Blocks of an anchor by stage: indices of the cuts that are their outputs.
#[must_use]
pub fn by_stage(family: &Family, anchor: &Anchor) -> Vec<Vec<usize>> {
    let mut stages: Vec<Vec<usize>> = Vec::new();
    // In a space of blocks the first cut is the input of the first block.
    let first = usize::from(family.config.stitching.space == SpaceKind::Blocks);
    for index in first..anchor.cuts.len() {
        match stages.last_mut() {
            Some(stage) if index > first && anchor.cuts[index].stage == anchor.cuts[index - 1].stage => {
                stage.push(index);
            }
            _ => stages.push(vec![index]),
        }
    }
    stages
}

/// Cuts whose blocks are left out so that every stage has the wanted number of them. What may go is taken evenly from the
/// whole stage, the last block stays where there is a choice.
///
/// # Errors
/// [`StudentError::Blocks`] says how many blocks each stage has and how many of them can go.
pub fn left_out(family: &Family, anchor: &Anchor, counts: &[usize]) -> Result<Vec<usize>, StudentError> {
    let stages = by_stage(family, anchor);
    let wrong = |reason: String| StudentError::Blocks { network: anchor.name.clone(), reason };
    let list = |numbers: &mut dyn Iterator<Item = usize>| {
        numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(",")
    };
    let all = list(&mut stages.iter().map(Vec::len));
    if counts.len() != stages.len() {
        return Err(wrong(format!("it has {} stages of {all} blocks; give one number for each", stages.len())));
    }
    let mut gone = Vec::new();
    for (number, (stage, &wanted)) in stages.iter().zip(counts).enumerate() {
        let removable: Vec<usize> = stage.iter().copied().filter(|&cut| is_removable(anchor, cut)).collect();
        let fixed = stage.len() - removable.len();
        if wanted < fixed || wanted > stage.len() {
            return Err(wrong(format!(
                "stage {} has {} blocks, {fixed} of which change the shape and must stay; {wanted} are impossible",
                number + 1,
                stage.len()
            )));
        }
        let kept = wanted - fixed;
        let stays = |position: usize| {
            let share = |blocks: usize| blocks * kept / removable.len();
            share(position + 1) > share(position)
        };
        gone.extend(removable.iter().enumerate().filter(|(position, _)| !stays(*position)).map(|(_, &cut)| cut));
    }
    Ok(gone)
}

/// Whether the block before a cut takes and gives one shape.
fn is_removable(anchor: &Anchor, cut: usize) -> bool {
    cut > 0 && anchor.cuts[cut].shape == anchor.cuts[cut - 1].shape
}

/// For each cut whose block goes, its tensor and the tensor that takes its place.
#[must_use]
pub fn bypasses(anchor: &Anchor, left_out: &[usize]) -> Vec<(String, String)> {
    let source = |cut: usize| (0..cut).rev().find(|index| !left_out.contains(index));
    let tensor = |cut: usize| anchor.cuts[cut].tensor.clone();
    left_out.iter().filter_map(|&cut| Some((tensor(cut), tensor(source(cut)?)))).collect()
}

/// Lets everything that reads the first tensor of a pair read the second, and drops what nothing reads any more.
///
/// # Errors
/// [`RewriteError::Broken`] if the file does not name one of the tensors.
pub fn remove(model: &mut ModelProto, path: &Path, bypasses: &[(String, String)]) -> Result<(), StudentError> {
    let broken = |detail: String| RewriteError::Broken { path: path.to_owned(), detail };
    let Some(graph) = model.graph.as_mut() else { return Err(broken("the file holds no graph".into()).into()) };
    let outputs: HashSet<&String> = graph.node.iter().flat_map(|node| &node.output).collect();
    if let Some((lost, _)) = bypasses.iter().find(|(from, to)| !outputs.contains(from) || !outputs.contains(to)) {
        return Err(broken(format!("no node of the file gives `{lost}`, so its block cannot be left out")).into());
    }
    let replaced: HashMap<&String, &String> = bypasses.iter().map(|(from, to)| (from, to)).collect();
    for input in graph.node.iter_mut().flat_map(|node| &mut node.input) {
        if let Some(&other) = replaced.get(&*input) {
            input.clone_from(other);
        }
    }
    drop_unread(model);
    Ok(())
}

/// Drops nodes and initializers that the outputs do not need, and notes on shapes, which may not hold any more.
fn drop_unread(model: &mut ModelProto) {
    let Some(graph) = model.graph.as_mut() else { return };
    let mut read: HashSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    let mut nodes = Vec::new();
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node.output.iter().any(|output| read.contains(output)) {
            read.extend(node.input.iter().cloned());
            nodes.push(node);
        }
    }
    nodes.reverse();
    graph.node = nodes;
    graph.initializer.retain(|tensor| read.contains(&tensor.name));
    graph.value_info.clear();
}
