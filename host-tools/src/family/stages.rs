//! Stages: runs of cuts on the same grid, matched between anchors.

use std::fmt;

use super::Anchor;

/// The positions of a feature map or token sequence: every extent but the channels'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// Extents, e.g. height and width, or the token count.
    pub extents: Vec<usize>,
    /// 1 for the first stage on this grid, 2 for a later one, and so on.
    pub occurrence: usize,
}

impl Grid {
    /// The grid of a tensor, as if it were the first stage on it.
    #[must_use]
    pub fn of_shape(shape: &[usize]) -> Self {
        Self { extents: shape[..shape.len().saturating_sub(1)].to_vec(), occurrence: 1 }
    }

    /// Whether every position of one grid is one of the other: equal extents, or equally many positions where one is a
    /// map and the other a sequence of tokens.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        let positions = |grid: &Self| grid.extents.iter().product::<usize>();
        self.extents == other.extents
            || (self.extents.len() != other.extents.len() && positions(self) == positions(other))
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extents: Vec<String> = self.extents.iter().map(usize::to_string).collect();
        f.write_str(if extents.is_empty() { "1" } else { "" })?;
        f.write_str(&extents.join("x"))?;
        if self.occurrence > 1 { write!(f, "#{}", self.occurrence) } else { Ok(()) }
    }
}

/// Gives every cut its stage and returns the grids of all stages, input to output. Anchors are merged one by one: their
/// runs match the stages known so far in order; a run without a match becomes a stage of its own.
pub(super) fn assign(anchors: &mut [Anchor]) -> Vec<Grid> {
    // Stages in order, each with the number its cuts carry until all are known.
    let mut stages: Vec<(usize, Grid)> = Vec::new();
    for anchor in &mut *anchors {
        let mut next = 0;
        let mut previous: Option<(Grid, usize)> = None;
        for cut in &mut anchor.cuts {
            let grid = Grid::of_shape(&cut.shape);
            if let Some((_, number)) = previous.as_ref().filter(|(last, _)| *last == grid) {
                cut.stage = *number;
                continue;
            }
            let found = (next..stages.len()).find(|&index| stages[index].1.matches(&grid));
            let index = found.unwrap_or_else(|| {
                stages.insert(next, (stages.len(), grid.clone()));
                next
            });
            cut.stage = stages[index].0;
            next = index + 1;
            previous = Some((grid, cut.stage));
        }
    }
    for cut in anchors.iter_mut().flat_map(|anchor| &mut anchor.cuts) {
        cut.stage = stages.iter().position(|(number, _)| *number == cut.stage).unwrap_or_default();
    }
    let mut grids: Vec<Grid> = Vec::new();
    for (_, mut grid) in stages {
        grid.occurrence = 1 + grids.iter().filter(|known| known.extents == grid.extents).count();
        grids.push(grid);
    }
    grids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Cut;
    use crate::graph::{Graph, ValueId};

    fn anchor(shapes: &[&[usize]]) -> Anchor {
        let cut = |(index, shape): (usize, &&[usize])| Cut {
            value: ValueId(index + 1),
            tensor: format!("t{index}"),
            shape: shape.to_vec(),
            stage: usize::MAX,
        };
        Anchor {
            name: "a".into(),
            path: "a.onnx".into(),
            graph: Graph {
                name: "a".into(),
                input_tensor: "x".into(),
                input_shape: vec![1],
                nodes: Vec::new(),
                output: ValueId::INPUT,
                aliases: Vec::new(),
            },
            cuts: shapes.iter().enumerate().map(cut).collect(),
            macs: 0,
            params: 0,
        }
    }

    fn stages(lists: &[&[&[usize]]]) -> (Vec<String>, Vec<Vec<usize>>) {
        let mut anchors: Vec<Anchor> = lists.iter().map(|shapes| anchor(shapes)).collect();
        let grids = assign(&mut anchors).iter().map(Grid::to_string).collect();
        (grids, anchors.iter().map(|a| a.cuts.iter().map(|cut| cut.stage).collect()).collect())
    }

    #[test]
    fn runs_of_one_grid_are_one_stage_whatever_their_channels() {
        let (grids, cuts) = stages(&[&[&[8, 8, 4], &[8, 8, 6], &[4, 4, 8]]]);
        assert_eq!((grids, cuts), (vec!["8x8".into(), "4x4".into()], vec![vec![0, 0, 1]]));
    }

    #[test]
    fn a_stage_that_one_anchor_lacks_keeps_its_place() {
        let (grids, cuts) = stages(&[&[&[4, 4, 8], &[2, 2, 8]], &[&[8, 8, 4], &[4, 4, 8], &[3, 3, 8], &[2, 2, 8]]]);
        assert_eq!(grids, ["8x8", "4x4", "3x3", "2x2"]);
        assert_eq!(cuts, [vec![1, 3], vec![0, 1, 2, 3]]);
    }

    #[test]
    fn tokens_match_a_map_of_as_many_positions() {
        let (grids, cuts) = stages(&[&[&[4, 4, 8]], &[&[16, 12], &[16, 12]]]);
        assert_eq!((grids, cuts), (vec!["4x4".into()], vec![vec![0], vec![0, 0]]));
        let (grids, _) = stages(&[&[&[2, 8, 8]], &[&[4, 4, 8]]]);
        assert_eq!(grids.len(), 2);
    }

    #[test]
    fn a_grid_that_comes_back_is_a_stage_of_its_own() {
        let (grids, cuts) = stages(&[&[&[8, 8, 4], &[4, 4, 4], &[8, 8, 4]], &[&[8, 8, 2], &[4, 4, 2], &[8, 8, 2]]]);
        assert_eq!(grids, ["8x8", "4x4", "8x8#2"]);
        assert_eq!(cuts[0], cuts[1]);
    }
}
