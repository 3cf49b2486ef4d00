//! The same network on images of another size: shapes are inferred anew from the first node to the last.
//!
//! Weights of convolutions do not depend on the extents of the map, and a mean or maximum over the whole map is one over
//! the whole of any map. Everything else that fixes extents (a flatten before a fully connected layer, a reshape of rows
//! and columns) is an error, not a guess.

use super::{Graph, Node, Op, ValueId, Window};

/// Why a graph does not take images of another size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResizeError {
    /// A node whose weights or form belong to one size.
    #[error("{graph}: `{node}` ({op}) works on {from:?} only, the new size gives {to:?}; {hint}")]
    Fixed {
        /// The graph's name.
        graph: String,
        /// The node.
        node: String,
        /// What it is.
        op: &'static str,
        /// Shape it takes in the model.
        from: Box<[usize]>,
        /// Shape it would get.
        to: Box<[usize]>,
        /// Why, and what networks can be resized.
        hint: &'static str,
    },
    /// A window that no longer fits the map.
    #[error("{graph}: the map that `{node}` reads would be {rows}x{columns}, smaller than its window")]
    TooSmall {
        /// The graph's name.
        graph: String,
        /// The node.
        node: String,
        /// Rows of the map.
        rows: usize,
        /// Columns of the map.
        columns: usize,
    },
    /// The input is no map.
    #[error("{graph}: the input is {shape:?}, only images can have another size")]
    NoMap {
        /// The graph's name.
        graph: String,
        /// The input.
        shape: Vec<usize>,
    },
}

impl Graph {
    /// The network on images of `rows` x `columns`.
    ///
    /// # Errors
    /// [`ResizeError`] names the first node that belongs to the original size.
    pub fn with_input_size(&self, rows: usize, columns: usize) -> Result<Self, ResizeError> {
        let &[_, _, channels] = self.input_shape.as_slice() else {
            return Err(ResizeError::NoMap { graph: self.name.clone(), shape: self.input_shape.clone() });
        };
        let mut graph = Self { input_shape: vec![rows, columns, channels], ..self.clone() };
        for index in 0..graph.nodes.len() {
            let node = self.refit(&graph, &self.nodes[index])?;
            graph.nodes[index] = node;
        }
        Ok(graph)
    }

    /// A node of this graph with the shapes that `resized` has before it.
    fn refit(&self, resized: &Self, node: &Node) -> Result<Node, ResizeError> {
        // A constant has no input: its own shape stands for it.
        let input = |graph: &Self| node.inputs.first().map_or(node.shape.clone(), |&value| graph.shape(value).to_vec());
        let (from, to) = (&*input(self), &*input(resized));
        let fixed = |hint| ResizeError::Fixed {
            graph: self.name.clone(),
            node: node.name.clone(),
            op: node.op.name(),
            from: from.into(),
            to: to.into(),
            hint,
        };
        let mut new = node.clone();
        new.shape = match &mut new.op {
            Op::Conv(conv) => self.slide(node, &conv.window, to)?,
            Op::MaxPool(window) | Op::AvgPool(window) => {
                if is_global(window, from) {
                    window.kernel = [to[0], to[1]];
                }
                self.slide(node, window, to)?
            }
            Op::Dense(_) if from.last() == to.last() => {
                let mut shape = to.to_vec();
                shape.pop();
                shape.extend(node.shape.last());
                shape
            }
            Op::Dense(_) => return Err(fixed("only a global pool before the fully connected layer takes any size")),
            Op::Add => {
                let other = resized.shape(node.inputs[1]);
                if other != to {
                    return Err(fixed("its two inputs no longer have one shape"));
                }
                to.to_vec()
            }
            Op::Clip { .. } | Op::Softmax => to.to_vec(),
            Op::Reshape if from == to => node.shape.clone(),
            Op::Reshape if is_map_to_tokens(from, &node.shape) => vec![to[0] * to[1], to[2]],
            Op::Reshape => return Err(fixed("only a global pool before the flatten takes any size")),
            Op::Transpose { perm } => perm.iter().map(|&axis| to[axis]).collect(),
            _ if from == to => node.shape.clone(),
            _ => return Err(fixed("only convolutional networks take any size")),
        };
        Ok(new)
    }

    /// Shape of a window operator's result on a map of another size. Importing turned `SAME` and ceil modes into padding
    /// of the original size; the padding is kept.
    fn slide(&self, node: &Node, window: &Window, map: &[usize]) -> Result<Vec<usize>, ResizeError> {
        let mut extents = [0; 2];
        for side in 0..2 {
            let span = (window.kernel[side] - 1) * window.dilation[side] + 1;
            let padded = map[side] + window.pad[side] + window.pad[side + 2];
            if padded < span || map[side] == 0 {
                let (graph, node) = (self.name.clone(), node.name.clone());
                return Err(ResizeError::TooSmall { graph, node, rows: map[0], columns: map[1] });
            }
            extents[side] = (padded - span) / window.stride[side] + 1;
        }
        let channels = node.shape.last().copied().unwrap_or(1);
        Ok(vec![extents[0], extents[1], channels])
    }

    /// Whether [`Self::with_input_size`] at the original size changes nothing: the check that the rules above are those of
    /// the import.
    #[must_use]
    pub fn keeps_its_shapes(&self) -> bool {
        let &[rows, columns, _] = self.input_shape.as_slice() else { return false };
        let same = |graph: Self| (0..=self.nodes.len()).all(|i| graph.shape(ValueId(i)) == self.shape(ValueId(i)));
        self.with_input_size(rows, columns).is_ok_and(same)
    }
}

fn is_global(window: &Window, map: &[usize]) -> bool {
    window.kernel == [map[0], map[1]] && window.pad == [0; 4] && window.dilation == [1, 1]
}

fn is_map_to_tokens(from: &[usize], to: &[usize]) -> bool {
    matches!((from, to), (&[h, w, c], &[tokens, channels]) if tokens == h * w && channels == c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Batch, Dense, cost, forward};
    use crate::stitch::testnet;

    fn graph() -> Graph {
        testnet::family(&[3], &[1]).anchors[0].graph.clone()
    }

    #[test]
    fn the_original_size_changes_nothing() {
        assert!(graph().keeps_its_shapes());
    }

    #[test]
    fn a_constant_image_gives_the_same_logits_at_any_size_without_padding() {
        let chain = testnet::chains(&[&[(4, 6, 2), (2, 8, 1)]], |_| ()).unwrap().anchors[0].graph.clone();
        let run = |graph: &Graph| {
            let shape = graph.input_shape.clone();
            let data = [0.3, -0.2, 0.9].repeat(shape[0] * shape[1]);
            forward(graph, &Batch { n: 1, shape, data }).data
        };
        let larger = chain.with_input_size(16, 12).unwrap();
        let (native, resized) = (run(&chain), run(&larger));
        for (a, b) in native.iter().zip(&resized) {
            assert!((a - b).abs() < 1e-4, "{a} is not {b}");
        }
        assert!(cost::macs(&larger) > cost::macs(&chain));
        assert_eq!(cost::params(&larger), cost::params(&chain));
    }

    #[test]
    fn a_flattened_map_belongs_to_one_size() {
        let mut graph = graph();
        let pool = graph.nodes.iter().position(|n| n.op.name() == "avgpool").unwrap();
        // Flatten the map instead of its mean.
        let map = graph.shape(graph.nodes[pool].inputs[0]).to_vec();
        let features: usize = map.iter().product();
        graph.nodes[pool + 1].inputs = graph.nodes[pool].inputs.clone();
        graph.nodes[pool + 1].shape = vec![features];
        let head = Dense { out_features: 5, weights: vec![0.0; 5 * features].into(), bias: vec![0.0; 5].into() };
        graph.nodes[pool + 2].op = Op::Dense(head);
        let error = graph.with_input_size(8, 8).unwrap_err().to_string();
        assert!(error.contains("flat") && error.contains("global pool"), "{error}");
    }

    #[test]
    fn a_map_smaller_than_the_window_is_named() {
        let mut graph = graph();
        if let Op::Conv(conv) = &mut graph.nodes[0].op {
            conv.window.pad = [0; 4];
        }
        assert!(matches!(graph.with_input_size(2, 2), Err(ResizeError::TooSmall { rows: 2, columns: 2, .. })));
    }
}
