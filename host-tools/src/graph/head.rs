//! Cutting a classifier down to some of its outputs.

use super::{Conv, Dense, Graph, Op, ValueId, Weights};

/// Why a graph's outputs cannot be cut down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// An operator between the last layer with weights and the output mixes or moves outputs.
    #[error(
        "{graph}: `{node}` ({op}) lies between the last layer with weights and the output, so outputs cannot be left out"
    )]
    Mixed {
        /// The graph's name.
        graph: String,
        /// The operator.
        node: String,
        /// What it is.
        op: &'static str,
    },
    /// The logits, or what follows them, are read more than once.
    #[error("{graph}: `{node}` is read more than once, so outputs cannot be left out")]
    Shared {
        /// The graph's name.
        graph: String,
        /// The operator.
        node: String,
    },
    /// There is no layer with weights.
    #[error("{graph}: no fully connected layer or 1x1 convolution gives the outputs")]
    None {
        /// The graph's name.
        graph: String,
    },
}

impl Graph {
    /// The same network with only the given outputs, in the given order: rows of the last fully connected layer (or
    /// convolution) are taken. A softmax behind it then runs over these alone.
    ///
    /// # Errors
    /// [`HeadError`] if the outputs are not those of one layer.
    ///
    /// # Panics
    /// If an index is not below the number of outputs.
    pub fn keep_outputs(&self, kept: &[usize]) -> Result<Self, HeadError> {
        let mut graph = self.clone();
        let mut value = graph.output;
        loop {
            let Some(index) = value.0.checked_sub(1) else { return Err(HeadError::None { graph: self.name.clone() }) };
            let readers = self.nodes.iter().flat_map(|node| &node.inputs).filter(|&&input| input == value).count();
            if readers > usize::from(value != self.output) {
                return Err(HeadError::Shared { graph: self.name.clone(), node: self.nodes[index].name.clone() });
            }
            let is_last = self.is_vector_op(value)?;
            let node = &mut graph.nodes[index];
            *node.shape.last_mut().ok_or(HeadError::None { graph: self.name.clone() })? = kept.len();
            if is_last {
                node.op = rows(&node.op, kept);
                return Ok(graph);
            }
            value = node.inputs[0];
        }
    }

    /// Whether the value comes from a layer with weights; false for what passes each output through.
    fn is_vector_op(&self, value: ValueId) -> Result<bool, HeadError> {
        let node = &self.nodes[value.0 - 1];
        let input = self.shape(node.inputs[0]);
        match &node.op {
            Op::Dense(_) => Ok(true),
            Op::Conv(conv) if conv.groups == 1 => Ok(true),
            Op::Softmax | Op::Clip { .. } | Op::AvgPool(_) | Op::MaxPool(_) => Ok(false),
            // A reshape passes outputs through if it only drops or adds extents of 1.
            Op::Reshape if input.last() == node.shape.last() => Ok(false),
            op => Err(HeadError::Mixed { graph: self.name.clone(), node: node.name.clone(), op: op.name() }),
        }
    }
}

fn rows(op: &Op, kept: &[usize]) -> Op {
    let take = |values: &[f32], row: usize| -> Weights {
        kept.iter().flat_map(|&k| &values[k * row..(k + 1) * row]).copied().collect::<Vec<f32>>().into()
    };
    match op {
        Op::Dense(dense) => {
            let row = dense.weights.len() / dense.out_features.max(1);
            let (weights, bias) = (take(&dense.weights, row), take(&dense.bias, 1));
            Op::Dense(Dense { out_features: kept.len(), weights, bias })
        }
        Op::Conv(conv) => {
            let row = conv.weights.len() / conv.out_channels.max(1);
            let (weights, bias) = (take(&conv.weights, row), take(&conv.bias, 1));
            Op::Conv(Conv { out_channels: kept.len(), weights, bias, ..conv.clone() })
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::forward;
    use crate::stitch::testnet;

    #[test]
    fn kept_outputs_have_the_values_they_had() {
        let family = testnet::family(&[3], &[1]);
        let graph = &family.anchors[0].graph;
        let cut = graph.keep_outputs(&[4, 1]).unwrap();
        let batch = testnet::images(3).batch(0..3, &family.config.input);
        let (all, some) = (forward(graph, &batch), forward(&cut, &batch));
        assert_eq!(some.shape, [2]);
        for image in 0..3 {
            assert_eq!(some.sample(image), [all.sample(image)[4], all.sample(image)[1]]);
        }
    }

    #[test]
    fn outputs_that_a_sum_makes_cannot_be_left_out() {
        let family = testnet::family(&[3], &[1]);
        let mut graph = family.anchors[0].graph.clone();
        graph.output = ValueId(graph.nodes.iter().position(|n| n.op.name() == "add").unwrap() + 1);
        let error = graph.keep_outputs(&[0]).unwrap_err();
        assert!(matches!(error, HeadError::Shared { .. } | HeadError::Mixed { .. }), "{error}");
    }
}
