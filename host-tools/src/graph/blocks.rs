//! Block boundaries: the cuts at which a network repeats itself.
//!
//! Cuts are grouped into stages, runs of one grid. Inside a stage the parts between neighbouring cuts are compared by what
//! they compute, channel counts, moves and arithmetic between tensors left aside, and the repetition that covers most of
//! the stage gives its blocks. In a transformer two parts (attention, MLP) are one block, in a residual network one is.

use super::{Graph, Op, ValueId, find_cuts};

/// The blocks of one stage of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageBlocks {
    /// Extents of the stage's tensors but the channels: height and width, or tokens.
    pub grid: Vec<usize>,
    /// The tensor that the first block reads, where it is on the stage's grid: a patch embedding, a merging layer's output.
    pub input: Option<ValueId>,
    /// Output of every block, in order.
    pub outputs: Vec<ValueId>,
}

/// The part between two neighbouring cuts.
struct Part {
    end: ValueId,
    /// What it computes, one word per operation.
    kinds: Vec<String>,
    /// Operations with weights or products of activations.
    heavy: usize,
}

/// Blocks of a graph by stage. Stages without a block are left out; the part that reads the graph's input is the stem, and
/// no block.
#[must_use]
pub fn find_blocks(graph: &Graph) -> Vec<StageBlocks> {
    let cuts = find_cuts(graph);
    let mut stages: Vec<(Vec<usize>, Vec<Part>)> = Vec::new();
    let mut start = ValueId::INPUT;
    for cut in cuts {
        let shape = graph.shape(cut);
        let grid = shape[..shape.len().saturating_sub(1)].to_vec();
        let mut part = part(graph, start, cut);
        if start == ValueId::INPUT {
            part = Part { kinds: vec!["stem".into()], heavy: 0, ..part };
        }
        start = cut;
        // A transformer may hold one stage in turns as a map and as tokens.
        let positions = |grid: &[usize]| grid.iter().product::<usize>();
        match stages.last_mut() {
            Some((last, parts)) if positions(last) == positions(&grid) => parts.push(part),
            _ => stages.push((grid, vec![part])),
        }
    }
    let blocks = stages.into_iter().map(|(grid, parts)| {
        let mut stage = stage_blocks(grid, &parts);
        if let Some(&last) = stage.outputs.last() {
            stage.grid = graph.shape(last).split_last().map_or_else(Vec::new, |(_, grid)| grid.to_vec());
        }
        stage
    });
    blocks.filter(|stage| !stage.outputs.is_empty()).collect()
}

fn part(graph: &Graph, start: ValueId, end: ValueId) -> Part {
    let kinds: Vec<String> = (start.0..end.0).filter_map(|index| kind(graph, ValueId(index + 1))).collect();
    let heavy = kinds.iter().filter(|kind| kind.ends_with('!')).count();
    Part { end, kinds, heavy }
}

/// What an operation contributes to the comparison; heavy ones end with an exclamation mark.
fn kind(graph: &Graph, value: ValueId) -> Option<String> {
    let node = graph.producer(value)?;
    match &node.op {
        Op::Conv(conv) => {
            let depthwise = conv.groups > 1 && conv.groups == conv.out_channels;
            let [rows, columns] = conv.window.kernel;
            Some(format!("{}{rows}x{columns}!", if depthwise { "dw" } else { "conv" }))
        }
        Op::Dense(_) => Some("dense!".into()),
        Op::MatMul { .. } => Some("matmul!".into()),
        Op::LayerNorm { .. } | Op::Softmax | Op::MaxPool(_) => Some(node.op.name().into()),
        Op::Unary(function) => Some(format!("{function:?}")),
        _ => None,
    }
}

fn stage_blocks(grid: Vec<usize>, parts: &[Part]) -> StageBlocks {
    let (start, period, count) = repetition(parts);
    if period > 1 {
        let input = start.checked_sub(1).map(|before| parts[before].end);
        let outputs = (1..=count).map(|block| parts[start + block * period - 1].end).collect();
        return StageBlocks { grid, input, outputs };
    }
    let unit = &parts[start];
    let mut stage = StageBlocks { grid, input: None, outputs: Vec::new() };
    if unit.heavy == 0 {
        return stage;
    }
    let (mut pending, mut last) = (0, None);
    for part in parts {
        if part.kinds == unit.kinds {
            settle(&mut stage, pending, last, unit);
            stage.outputs.push(part.end);
            (pending, last) = (0, None);
        } else {
            (pending, last) = (pending + part.heavy, Some(part.end));
        }
    }
    settle(&mut stage, pending, last, unit);
    stage
}

/// Parts unlike the unit are a block of their own if they do more than half of its work, else belong to what follows.
fn settle(stage: &mut StageBlocks, pending: usize, last: Option<ValueId>, unit: &Part) {
    let Some(end) = last else { return };
    if 2 * pending > unit.heavy {
        stage.outputs.push(end);
    } else if stage.outputs.is_empty() {
        stage.input = Some(end);
    }
}

/// Start, period and count of the repetition that covers most parts; short periods first, then late ends. Without any
/// repetition the heaviest part alone.
fn repetition(parts: &[Part]) -> (usize, usize, usize) {
    let mut best: Option<(usize, usize, usize)> = None;
    for period in 1..=parts.len() / 2 {
        for start in 0..parts.len() - period {
            let equal = |i: usize| parts[i].kinds == parts[start + (i - start) % period].kinds;
            let length = (start..parts.len()).take_while(|&i| equal(i)).count();
            let count = length / period;
            let heavy = parts[start..start + period].iter().any(|part| part.heavy > 0);
            let covered = |(_, period, count): (usize, usize, usize)| period * count;
            let better = best.is_none_or(|best| {
                let candidate = (start, period, count);
                covered(candidate) > covered(best) || covered(candidate) == covered(best) && period == best.1
            });
            if count >= 2 && heavy && better {
                best = Some((start, period, count));
            }
        }
    }
    let heaviest = || (0..parts.len()).max_by_key(|&i| parts[i].heavy).unwrap_or(0);
    best.unwrap_or_else(|| (heaviest(), 1, 1))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Builder;
    use super::*;

    #[test]
    fn a_residual_network_has_one_block_per_sum_and_its_stem_is_none() {
        let mut build = Builder::new(&[16, 16, 3]);
        let stem = build.conv(ValueId::INPUT, 8, 3, 1);
        let mut x = build.relu(stem);
        let mut expected = Vec::new();
        for (channels, stride) in [(8, 1), (8, 1), (16, 2), (16, 1)] {
            let first = build.conv(x, channels, 3, stride);
            let first = build.relu(first);
            let second = build.conv(first, channels, 3, 1);
            let shortcut = if stride == 1 { x } else { build.conv(x, channels, 1, stride) };
            let sum = build.add(second, shortcut);
            x = build.relu(sum);
            expected.push(x);
        }
        build.head(x, 5);
        let stages = find_blocks(&build.finish());
        assert_eq!(stages.iter().map(|stage| stage.grid.clone()).collect::<Vec<_>>(), [[16, 16], [8, 8]]);
        assert_eq!(stages.iter().flat_map(|stage| stage.outputs.clone()).collect::<Vec<_>>(), expected);
        assert_eq!(stages[0].input, Some(ValueId(2)));
    }

    #[test]
    fn parts_that_alternate_are_blocks_of_two() {
        let part = |end: usize, kinds: &[&str]| Part {
            end: ValueId(end),
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            heavy: kinds.iter().filter(|kind| kind.ends_with('!')).count(),
        };
        let (attention, mlp) = (["dense!", "matmul!", "dense!"], ["dense!", "Gelu", "dense!"]);
        let embedded = [part(1, &["conv!"]), part(2, &attention), part(3, &mlp), part(4, &attention), part(5, &mlp)];
        let stage = stage_blocks(vec![197], &[&embedded[..], &[part(6, &["layernorm"])]].concat_parts());
        assert_eq!((stage.input, stage.outputs), (Some(ValueId(1)), vec![ValueId(3), ValueId(5)]));
        // A down-sampling group that ends like a block does not shift the blocks behind it.
        let sampled = [
            part(1, &["dense!", "dense!"]),
            part(2, &mlp),
            part(3, &attention),
            part(4, &mlp),
            part(5, &attention),
            part(6, &mlp),
        ];
        let stage = stage_blocks(vec![49], &sampled);
        assert_eq!((stage.input, stage.outputs), (Some(ValueId(2)), vec![ValueId(4), ValueId(6)]));
    }

    trait ConcatParts {
        fn concat_parts(&self) -> Vec<Part>;
    }

    impl ConcatParts for [&[Part]; 2] {
        fn concat_parts(&self) -> Vec<Part> {
            let copy = |part: &Part| Part { end: part.end, kinds: part.kinds.clone(), heavy: part.heavy };
            self.iter().flat_map(|parts| parts.iter().map(copy)).collect()
        }
    }
}
