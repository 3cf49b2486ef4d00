//! Which values of a student follow which values of a teacher.
//!
//! Cuts of equal grid are matched by their share of the depth, so that the last block of a stage follows the last block of
//! the teacher's, whatever both numbers of blocks are.

use super::settings::Positions;
use super::teacher::Teacher;
use crate::family::{Anchor, Cut, Grid, SpaceKind};
use crate::graph::{Graph, Op, ValueId};

/// A value of a student and the teacher's that it follows, by way of a map. Both have one grid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// In the student.
    pub student: ValueId,
    /// In the teacher.
    pub teacher: ValueId,
}

/// Positions of a student, from front to end: blocks, and behind each block its attention where it has one.
///
/// # Errors
/// Why there is none, in words.
pub fn positions(
    student: &Anchor,
    teacher: &Teacher,
    space: SpaceKind,
    which: Positions,
) -> Result<Vec<Position>, String> {
    let (inputs, blocks) = pairs(&student.cuts, &teacher.cuts, space);
    let depth = blocks.len();
    let chosen: Vec<usize> = match which {
        Positions::All => (0..depth).collect(),
        Positions::End => depth.checked_sub(1).into_iter().collect(),
        Positions::Thirds => {
            let mut ends: Vec<usize> = (1..4).filter_map(|third| (third * depth / 3).checked_sub(1)).collect();
            ends.dedup();
            ends
        }
    };
    let mut found: Vec<Position> = Vec::new();
    if which == Positions::All {
        found.extend(inputs.map(|(s, t)| at(&student.cuts[s], &teacher.cuts[t])));
    }
    for (s, t) in chosen.into_iter().map(|index| blocks[index]) {
        found.push(at(&student.cuts[s], &teacher.cuts[t]));
        let inside = attention_output(&student.graph, start(&student.cuts, s), student.cuts[s].value);
        let wanted = attention_output(&teacher.graph, start(&teacher.cuts, t), teacher.cuts[t].value);
        let Some((inside, wanted)) = inside.zip(wanted) else { continue };
        let grid = |graph: &Graph, value| Grid::of_shape(graph.shape(value));
        if grid(&student.graph, inside).matches(&grid(&teacher.graph, wanted)) {
            found.push(Position { student: inside, teacher: wanted });
        }
    }
    match found.is_empty() {
        false => Ok(found),
        true => Err(format!(
            "no cut of the student {} has the grid of one of the teacher's; cuts of the student: {}; of the teacher: {}",
            student.name,
            shapes(&student.cuts),
            shapes(&teacher.cuts)
        )),
    }
}

/// Indices of a student's cut and the teacher's.
type Pair = (usize, usize);

fn at(student: &Cut, teacher: &Cut) -> Position {
    Position { student: student.value, teacher: teacher.value }
}

fn start(cuts: &[Cut], index: usize) -> ValueId {
    index.checked_sub(1).map_or(ValueId::INPUT, |before| cuts[before].value)
}

fn shapes(cuts: &[Cut]) -> String {
    if cuts.is_empty() {
        return "none".to_owned();
    }
    cuts.iter().map(|cut| format!("{:?}", cut.shape)).collect::<Vec<_>>().join(" ")
}

/// The inputs of the first blocks, where the space has them, and the outputs of matching blocks.
fn pairs(student: &[Cut], teacher: &[Cut], space: SpaceKind) -> (Option<Pair>, Vec<Pair>) {
    let first = usize::from(space == SpaceKind::Blocks);
    let alike = |s: &Cut, t: &Cut| Grid::of_shape(&s.shape).matches(&Grid::of_shape(&t.shape));
    let inputs = (student.first().zip(teacher.first())).filter(|(s, t)| first == 1 && alike(s, t)).map(|_| (0, 0));
    let (ours, theirs) = (runs(student, first), runs(teacher, first));
    let (mut blocks, mut next) = (Vec::new(), 0);
    for run in ours {
        let found = (next..theirs.len()).find(|&index| alike(&student[run[0]], &teacher[theirs[index][0]]));
        let Some(index) = found else { continue };
        next = index + 1;
        let depth = theirs[index].len();
        let of_block = |block: usize| theirs[index][((block + 1) * depth).div_ceil(run.len()) - 1];
        blocks.extend((0..run.len()).map(|block| (run[block], of_block(block))));
    }
    (inputs, blocks)
}

/// Indices of cuts in runs of one grid.
fn runs(cuts: &[Cut], first: usize) -> Vec<Vec<usize>> {
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let grid = |index: usize| Grid::of_shape(&cuts[index].shape);
    for index in first..cuts.len() {
        match runs.last_mut() {
            Some(run) if grid(run[0]) == grid(index) => run.push(index),
            _ => runs.push(vec![index]),
        }
    }
    runs
}

/// What the attention of a block gives, before it is added to the block's input: the fully connected layer behind the last
/// product of activations between two values. `None` for blocks without attention.
#[must_use]
pub fn attention_output(graph: &Graph, from: ValueId, to: ValueId) -> Option<ValueId> {
    let is_product = |&index: &usize| matches!(graph.nodes[index].op, Op::MatMul { .. });
    let product = (from.0..to.0.min(graph.nodes.len())).rev().find(is_product)?;
    let mut value = ValueId(product + 1);
    loop {
        let reader = (value.0..to.0).find(|&index| graph.nodes[index].inputs.contains(&value))?;
        value = ValueId(reader + 1);
        match graph.nodes[reader].op {
            Op::Dense(_) => return Some(value),
            Op::Reshape | Op::Transpose { .. } | Op::Unary(_) | Op::Clip { .. } => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(shapes: &[&[usize]]) -> Vec<Cut> {
        let cut = |(index, shape): (usize, &&[usize])| Cut {
            value: ValueId(index + 1),
            tensor: format!("t{index}"),
            shape: shape.to_vec(),
            stage: 0,
        };
        shapes.iter().enumerate().map(cut).collect()
    }

    #[test]
    fn blocks_are_matched_by_their_share_of_the_depth_within_a_grid() {
        let student = cuts(&[&[8, 8, 2], &[4, 4, 3], &[4, 4, 3]]);
        let teacher = cuts(&[&[8, 8, 4], &[8, 8, 4], &[4, 4, 6], &[4, 4, 6], &[4, 4, 6], &[4, 4, 6], &[2, 2, 6]]);
        assert_eq!(pairs(&student, &teacher, SpaceKind::Stages), (None, vec![(0, 1), (1, 3), (2, 5)]));
    }

    #[test]
    fn six_transformer_blocks_follow_every_second_of_twelve_and_the_embedding_the_embedding() {
        let (student, teacher) = (cuts(&[&[17, 4][..]; 7]), cuts(&[&[17, 8][..]; 13]));
        let (inputs, blocks) = pairs(&student, &teacher, SpaceKind::Blocks);
        assert_eq!(inputs, Some((0, 0)));
        assert_eq!(blocks, [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10), (6, 12)]);
    }

    #[test]
    fn attention_is_followed_behind_its_last_layer_before_the_sum() {
        let family = crate::family::Family::load_structure(
            &std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/cifar10-vit"),
        )
        .unwrap();
        let (small, large) = (&family.anchors[0], &family.anchors[2]);
        let teacher = Teacher { graph: large.graph.clone(), cuts: large.cuts.clone() };
        let space = SpaceKind::Blocks;
        let all = positions(small, &teacher, space, Positions::All).unwrap();
        assert_eq!(all.len(), 13, "the embedding, six blocks, six attentions");
        let attention = &all[2];
        assert!(attention.student < all[1].student);
        assert_eq!(small.graph.shape(attention.student), [64, 48]);
        assert_eq!(large.graph.shape(attention.teacher), [64, 96]);
        let reader = small.graph.nodes.iter().find(|node| node.inputs.contains(&attention.student)).unwrap();
        assert!(matches!(reader.op, Op::Add), "{}", reader.op.name());
        assert_eq!(positions(small, &teacher, space, Positions::Thirds).unwrap().len(), 6);
        let end = positions(small, &teacher, space, Positions::End).unwrap();
        assert_eq!((end.len(), end[0].student), (2, small.cuts[6].value));
    }
}
