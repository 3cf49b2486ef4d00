//! Adapters: what a stitching layer needs beside its affine map where two anchors do not share a grid.
//!
//! A class token of the anchor that is left is dropped. One that the entered anchor expects is made by an affine map of its
//! own, from the other class token or else from the mean of all positions. Grids of other extents are resampled: means over
//! whole windows where the extents divide, else the nearest position.

use crate::graph::{Graph, Node, Op, ValueId, Window};

/// The way from a value of one anchor to one of another, derived from their per-sample shapes alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    from: Layout,
    to: Layout,
    from_shape: Vec<usize>,
    to_shape: Vec<usize>,
}

/// What the positions of a value are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layout {
    /// Tokens that stand for no place in the image; they come first.
    extra: usize,
    /// Rows and columns of the others. Where the two grids are equal only their product is known to be right.
    grid: [usize; 2],
}

impl Layout {
    fn places(&self) -> usize {
        self.grid[0] * self.grid[1]
    }
}

/// Tokens beside the places of a grid at most: class and distillation token.
const MOST_EXTRA: usize = 2;

impl Adapter {
    /// The adapter between two shapes (channels last); `None` where none is known.
    #[must_use]
    pub fn between(from_shape: &[usize], to_shape: &[usize]) -> Option<Self> {
        let (from, to) = layouts(positions(from_shape)?, positions(to_shape)?, from_shape, to_shape)?;
        if to.extra > 1 && from.extra != to.extra {
            return None;
        }
        Some(Self { from, to, from_shape: from_shape.to_vec(), to_shape: to_shape.to_vec() })
    }

    /// Whether nothing but the affine map is needed.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.from == self.to
    }

    /// Whether class tokens have a map of their own.
    #[must_use]
    pub fn has_token_map(&self) -> bool {
        self.to.extra > 0 && !self.is_plain()
    }

    /// Positions at which the affine map runs.
    #[must_use]
    pub fn map_positions(&self) -> usize {
        if self.is_plain() { self.from.places() + self.from.extra } else { self.from.places().min(self.to.places()) }
    }

    /// What the adapter does, for people; empty if it does nothing.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut parts = Vec::new();
        if self.from.extra > self.to.extra {
            parts.push("drops the class token".to_owned());
        }
        if self.to.extra > self.from.extra {
            parts.push("makes a class token".to_owned());
        }
        if self.from.grid != self.to.grid {
            let [[a, b], [c, d]] = [self.from.grid, self.to.grid];
            parts.push(format!("resamples {a}x{b} to {c}x{d}"));
        }
        parts.join(", ")
    }

    /// The graph from one shape to the other around `dense`, which makes the node of an affine map: of the class token or
    /// of the places.
    #[must_use]
    pub fn graph(&self, dense: &dyn Fn(Part) -> Vec<Op>) -> Graph {
        let mut build = Build::new(&self.from_shape);
        let output = if self.is_plain() {
            let mapped = build.chain(dense(Part::Places), ValueId::INPUT);
            build.reshaped(mapped, &self.to_shape)
        } else {
            let places = self.places(&mut build, dense);
            self.joined(&mut build, dense, places)
        };
        build.finish(output)
    }

    /// The graph that turns a value into rows to fit a map on, one per row of [`Adapter::target_rows`].
    #[must_use]
    pub fn inputs(&self, part: Part) -> Graph {
        let mut build = Build::new(&self.from_shape);
        let output = match part {
            Part::Token => self.token(&mut build),
            Part::Places if self.is_plain() => ValueId::INPUT,
            Part::Places => {
                let places = self.without_extra(&mut build);
                self.resampled(&mut build, places)
            }
        };
        build.finish(output)
    }

    /// First row and rows of a value of the entered anchor that a map has to give.
    #[must_use]
    pub fn target_rows(&self, part: Part) -> std::ops::Range<usize> {
        match part {
            Part::Token => 0..self.to.extra,
            Part::Places if self.is_plain() => 0..self.to.extra + self.to.places(),
            Part::Places => self.to.extra..self.to.extra + self.to.places(),
        }
    }

    fn places(&self, build: &mut Build, dense: &dyn Fn(Part) -> Vec<Op>) -> ValueId {
        let places = self.without_extra(build);
        if self.from.places() > self.to.places() {
            let places = self.resampled(build, places);
            return build.chain(dense(Part::Places), places);
        }
        let mapped = build.chain(dense(Part::Places), places);
        self.resampled(build, mapped)
    }

    fn joined(&self, build: &mut Build, dense: &dyn Fn(Part) -> Vec<Op>, places: ValueId) -> ValueId {
        if self.to.extra == 0 {
            return build.reshaped(places, &self.to_shape);
        }
        let channels = channels(build.shape(places));
        let rows = build.reshaped(places, &[self.to.places(), channels]);
        let token = self.token(build);
        let token = build.chain(dense(Part::Token), token);
        build.push(Op::Concat { axis: 0 }, &[token, rows], &self.to_shape)
    }

    fn without_extra(&self, build: &mut Build) -> ValueId {
        if self.from.extra == 0 {
            return ValueId::INPUT;
        }
        let op = Op::Slice { axis: 0, start: self.from.extra, step: 1 };
        build.push(op, &[ValueId::INPUT], &[self.from.places(), channels(&self.from_shape)])
    }

    /// The rows that class tokens are made from.
    fn token(&self, build: &mut Build) -> ValueId {
        let width = channels(&self.from_shape);
        if self.from.extra > 0 {
            let rows = self.to.extra.min(self.from.extra);
            return build.push(Op::Slice { axis: 0, start: 0, step: 1 }, &[ValueId::INPUT], &[rows, width]);
        }
        let rows = build.reshaped(ValueId::INPUT, &[self.from.places(), width]);
        build.push(Op::Mean { axis: 0 }, &[rows], &[1, width])
    }

    fn resampled(&self, build: &mut Build, value: ValueId) -> ValueId {
        let ([from_rows, from_columns], [rows, columns]) = (self.from.grid, self.to.grid);
        if self.from.grid == self.to.grid {
            return value;
        }
        let width = channels(build.shape(value));
        let map = build.reshaped(value, &[from_rows, from_columns, width]);
        if from_rows % rows == 0 && from_columns % columns == 0 {
            let kernel = [from_rows / rows, from_columns / columns];
            let window = Window { kernel, stride: kernel, pad: [0; 4], dilation: [1, 1] };
            return build.push(Op::AvgPool(window), &[map], &[rows, columns, width]);
        }
        let down = build.gathered(map, 0, nearest(from_rows, rows), &[rows, from_columns, width]);
        build.gathered(down, 1, nearest(from_columns, columns), &[rows, columns, width])
    }
}

/// Which of a stitching layer's maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The one of all places.
    Places,
    /// The one of the class token.
    Token,
}

/// For each of `to` positions the nearest of `from`.
fn nearest(from: usize, to: usize) -> Vec<usize> {
    (0..to).map(|i| (2 * i + 1) * from / (2 * to)).collect()
}

fn channels(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1)
}

fn positions(shape: &[usize]) -> Option<usize> {
    let (_, grid) = shape.split_last()?;
    Some(grid.iter().product())
}

fn layouts(p: usize, q: usize, from: &[usize], to: &[usize]) -> Option<(Layout, Layout)> {
    let known = |shape: &[usize]| <[usize; 3]>::try_from(shape).ok().map(|[rows, columns, _]| [rows, columns]);
    let (from_grid, to_grid) = (known(from), known(to));
    let grid = from_grid.or(to_grid);
    if p == q && (from_grid.is_none() || to_grid.is_none() || from_grid == to_grid) {
        let same = Layout { extra: 0, grid: grid.unwrap_or([1, p]) };
        return Some((same.clone(), same));
    }
    // The same places, with tokens on one side alone.
    let (less, more) = (p.min(q), p.max(q));
    let fewer_has_map = if p < q { from_grid } else { to_grid };
    let more_is_tokens = if p < q { to_grid.is_none() } else { from_grid.is_none() };
    if more_is_tokens && more - less <= MOST_EXTRA && more > less {
        let grid = fewer_has_map.unwrap_or([1, less]);
        let (plain, with) = (Layout { extra: 0, grid }, Layout { extra: more - less, grid });
        return Some(if p < q { (plain, with) } else { (with, plain) });
    }
    let guess = |positions: usize, known: Option<[usize; 2]>| match known {
        Some(grid) => Some(Layout { extra: 0, grid }),
        None => (0..=MOST_EXTRA).find_map(|extra| {
            let places = positions.checked_sub(extra).filter(|&places| places > 0)?;
            let side = places.isqrt();
            (side * side == places).then_some(Layout { extra, grid: [side; 2] })
        }),
    };
    Some((guess(p, from_grid)?, guess(q, to_grid)?))
}

/// A graph of one input in the making.
struct Build(Graph);

impl Build {
    fn new(shape: &[usize]) -> Self {
        Self(Graph {
            name: "stitch".to_owned(),
            input_tensor: "stitch/input".to_owned(),
            input_shape: shape.to_vec(),
            output: ValueId::INPUT,
            nodes: Vec::new(),
            aliases: Vec::new(),
        })
    }

    fn shape(&self, value: ValueId) -> &[usize] {
        self.0.shape(value)
    }

    fn push(&mut self, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        let same = self.0.nodes.iter().filter(|node| node.op.name() == op.name()).count();
        let name = if same == 0 { format!("stitch/{}", op.name()) } else { format!("stitch/{}{same}", op.name()) };
        let (inputs, shape) = (inputs.to_vec(), shape.to_vec());
        self.0.nodes.push(Node { tensor: name.clone(), name, operator: String::new(), op, inputs, shape });
        ValueId(self.0.nodes.len())
    }

    /// Fully connected layers, one after the other.
    fn chain(&mut self, layers: Vec<Op>, input: ValueId) -> ValueId {
        layers.into_iter().fold(input, |value, op| {
            let mut shape = self.shape(value).to_vec();
            if let (Some(last), Op::Dense(dense)) = (shape.last_mut(), &op) {
                *last = dense.out_features;
            }
            self.push(op, &[value], &shape)
        })
    }

    fn reshaped(&mut self, value: ValueId, shape: &[usize]) -> ValueId {
        if self.shape(value) == shape { value } else { self.push(Op::Reshape, &[value], shape) }
    }

    fn gathered(&mut self, value: ValueId, axis: usize, indices: Vec<usize>, shape: &[usize]) -> ValueId {
        if self.shape(value) == shape {
            return value;
        }
        self.push(Op::Gather { axis, indices }, &[value], shape)
    }

    fn finish(mut self, output: ValueId) -> Graph {
        self.0.output = output;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Batch, Dense, forward};

    /// Maps that pass `width` channels on; the one of the class token adds 100.
    fn identity(width: usize) -> impl Fn(Part) -> Vec<Op> {
        move |part| {
            let weights: Vec<f32> = (0..width * width).map(|i| f32::from(u8::from(i % (width + 1) == 0))).collect();
            let bias = vec![if part == Part::Token { 100.0 } else { 0.0 }; width];
            vec![Op::Dense(Dense { out_features: width, weights: weights.into(), bias: bias.into() })]
        }
    }

    fn run(from: &[usize], to: &[usize]) -> Vec<f32> {
        let adapter = Adapter::between(from, to).unwrap();
        let graph = adapter.graph(&identity(1));
        assert_eq!(graph.shape(graph.output), to);
        let count = from.iter().product::<usize>();
        let data = (0..count).map(|i| i as f32).collect();
        forward(&graph, &Batch { n: 1, shape: from.to_vec(), data }).data
    }

    #[test]
    fn equal_positions_need_a_reshape_at_most() {
        for (from, to) in [([2, 2, 1].as_slice(), [4, 1].as_slice()), (&[4, 1], &[2, 2, 1]), (&[5, 1], &[5, 1])] {
            let adapter = Adapter::between(from, to).unwrap();
            assert!(adapter.is_plain() && adapter.describe().is_empty());
            assert_eq!(run(from, to), (0..from.iter().product()).map(|i| i as f32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_class_token_is_dropped_or_made_from_the_mean() {
        assert_eq!(run(&[5, 1], &[2, 2, 1]), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(run(&[6, 1], &[4, 1]), [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(run(&[2, 2, 1], &[5, 1]), [101.5, 0.0, 1.0, 2.0, 3.0]);
        assert_eq!(Adapter::between(&[2, 2, 1], &[5, 3]).unwrap().describe(), "makes a class token");
        assert!(Adapter::between(&[2, 2, 1], &[6, 3]).is_none());
    }

    #[test]
    fn grids_are_pooled_repeated_or_picked_from() {
        assert_eq!(run(&[2, 2, 1], &[1, 1, 1]), [1.5]);
        assert_eq!(run(&[2, 1, 1], &[4, 1, 1]), [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(run(&[3, 1, 1], &[2, 1, 1]), [0.0, 2.0]);
        // 4 + class token to 1 + class token: the class tokens are joined by a map of their own.
        assert_eq!(run(&[5, 1], &[2, 1]), [100.0, 2.5]);
        assert_eq!(
            Adapter::between(&[17, 2], &[2, 2, 2]).unwrap().describe(),
            "drops the class token, resamples 4x4 to 2x2"
        );
        assert!(Adapter::between(&[7, 2], &[2, 2, 2]).is_none());
    }

    #[test]
    fn each_map_reads_as_many_rows_as_it_gives_or_repeats() {
        for (from, to) in [([5, 3], [2, 3]), ([16, 3], [5, 3]), ([4, 3], [17, 3])] {
            let adapter = Adapter::between(&from, &to).unwrap();
            for part in [Part::Places, Part::Token] {
                let rows = adapter.target_rows(part);
                if part == Part::Places || adapter.has_token_map() {
                    let graph = adapter.inputs(part);
                    let shape = graph.shape(graph.output);
                    assert_eq!(
                        shape[..shape.len() - 1].iter().product::<usize>(),
                        rows.len(),
                        "{from:?} {to:?} {part:?}"
                    );
                }
            }
        }
    }
}
