//! Segments: the part of a graph between two cuts, as a graph of its own.

use std::collections::HashMap;

use super::{Graph, Node, ValueId};

/// Why a part of a graph cannot stand alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// A value other than the cut enters the segment.
    #[error(
        "{graph}: node `{node}` after the cut `{cut}` also reads `{tensor}`, which is computed without it; cut where \
         `{tensor}` is no longer needed"
    )]
    Crossing {
        /// The graph's name.
        graph: String,
        /// Tensor of the cut.
        cut: String,
        /// Node that reads the other value.
        node: String,
        /// Tensor of the other value.
        tensor: String,
    },
    /// The end of the segment does not depend on its start.
    #[error("{graph}: `{to}` is not computed from `{from}`; the cut `{from}` must come first")]
    NotDownstream {
        /// The graph's name.
        graph: String,
        /// Tensor of the start.
        from: String,
        /// Tensor of the end.
        to: String,
    },
    /// A value that the graph does not have.
    #[error("{graph}: {value} does not exist, the graph has {values} values")]
    NoSuchValue {
        /// The graph's name.
        graph: String,
        /// The offending value.
        value: ValueId,
        /// Values in the graph, its input included.
        values: usize,
    },
}

impl Graph {
    /// The nodes that compute `to` from `from` alone, as a graph whose input is `from` and whose output is `to`.
    ///
    /// `None` stands for the graph's input and output. Nodes that `to` does not need are left out; `from == to` gives a
    /// graph without nodes. Tensor names and aliases are kept.
    ///
    /// # Errors
    /// [`SegmentError`] when another value crosses the cut, or `to` does not depend on `from`.
    pub fn segment(&self, from: Option<ValueId>, to: Option<ValueId>) -> Result<Self, SegmentError> {
        let from = from.unwrap_or(ValueId::INPUT);
        let to = to.unwrap_or(self.output);
        for value in [from, to] {
            if value.0 > self.nodes.len() {
                return Err(SegmentError::NoSuchValue {
                    graph: self.name.clone(),
                    value,
                    values: self.nodes.len() + 1,
                });
            }
        }
        if to < from {
            return Err(self.not_downstream(from, to));
        }
        let needed = self.needed_between(from, to)?;
        Ok(self.extract(from, to, &needed))
    }

    fn needed_between(&self, from: ValueId, to: ValueId) -> Result<Vec<bool>, SegmentError> {
        let mut needed = vec![false; self.nodes.len() + 1];
        needed[to.0] = true;
        let mut reached = from == to;
        for value in (from.0 + 1..=to.0).rev() {
            if !needed[value] {
                continue;
            }
            let node = &self.nodes[value - 1];
            for &input in &node.inputs {
                if input < from && !self.is_constant(input) {
                    return Err(self.crossing(from, to, value, input));
                }
                reached |= input == from;
                needed[input.0] = true;
            }
        }
        if reached { Ok(needed) } else { Err(self.not_downstream(from, to)) }
    }

    /// Names the crossing, or says that nothing depends on the cut at all.
    fn crossing(&self, from: ValueId, to: ValueId, value: usize, input: ValueId) -> SegmentError {
        if !self.depends(to, from) {
            return self.not_downstream(from, to);
        }
        SegmentError::Crossing {
            graph: self.name.clone(),
            cut: self.tensor(from).to_owned(),
            node: self.nodes[value - 1].name.clone(),
            tensor: self.tensor(input).to_owned(),
        }
    }

    fn depends(&self, value: ValueId, on: ValueId) -> bool {
        let mut from_it = vec![false; self.nodes.len() + 1];
        from_it[on.0] = true;
        for id in on.0 + 1..=value.0 {
            from_it[id] = self.nodes[id - 1].inputs.iter().any(|input| from_it[input.0]);
        }
        from_it[value.0]
    }

    fn not_downstream(&self, from: ValueId, to: ValueId) -> SegmentError {
        SegmentError::NotDownstream {
            graph: self.name.clone(),
            from: self.tensor(from).to_owned(),
            to: self.tensor(to).to_owned(),
        }
    }

    fn extract(&self, from: ValueId, to: ValueId, needed: &[bool]) -> Self {
        let mut renumbered = HashMap::from([(from, ValueId::INPUT)]);
        let mut nodes: Vec<Node> = Vec::new();
        for value in (1..=to.0).filter(|&value| value != from.0 && needed[value]) {
            let mut node = self.nodes[value - 1].clone();
            for input in &mut node.inputs {
                *input = renumbered[input];
            }
            nodes.push(node);
            renumbered.insert(ValueId(value), ValueId(nodes.len()));
        }
        let aliases =
            self.aliases.iter().filter_map(|(name, value)| Some((name.clone(), *renumbered.get(value)?))).collect();
        Self {
            name: self.name.clone(),
            input_tensor: self.tensor(from).to_owned(),
            input_shape: self.shape(from).to_vec(),
            nodes,
            output: renumbered[&to],
            aliases,
        }
    }
}
