//! Reverse mode over the float graph, in `f32` on the CPU.
//!
//! A [`Graph`](crate::graph::Graph) is compiled once into a [`Program`]: fused steps in topological order, a plan of what
//! is kept for the backward pass, and the parameters it reads. Parameters live in one [`Params`] store. A constant is known
//! by its identity, not by its name: clones of a [`Weights`](crate::graph::Weights) (a graph's segments hold clones) are one
//! parameter, so plans that share blocks share their weights without further ado.
//!
//! ```text
//! let mut params = Params::new();
//! let program = Program::compile(&plan_graph, &mut params, &Options::default())?;   // once per plan
//! let mut workspace = Workspace::new();                                              // one for all programs
//! let mut grads = Grads::new(&params);
//! loop {
//!     grads.clear();
//!     let loss = program.step(&params, &batch, &loss, &mut workspace, &mut grads);   // forward, loss, backward
//!     for id in grads.touched() { optimizer.update(params.values_mut(id), grads.get(id)) }
//! }
//! let trained = params.export(&anchor_graph);                                        // same graph, new weights
//! ```
//!
//! A batch is cut into chunks of a few samples that walk the whole program, forward, loss and backward, while their
//! values are in the cache. Chunks belong to a fixed number of lanes; each lane sums its gradients, lanes are added in
//! order. Chunks and lanes depend on the program and the batch alone, so results are bit-exact for any number of threads.
//! rayon's current pool runs the lanes: call inside `ThreadPool::install` to choose its size.
//!
//! Losses are computed per chunk ([`Loss`]): everything a sample's loss needs must be a tapped value of the program
//! ([`Options::taps`]) or data indexed by the sample's number in the batch.

mod chunk;
pub(crate) mod kernels;
mod ops;
mod params;
mod plan;
mod program;
#[cfg(test)]
pub(crate) mod tests;
mod workspace;

pub use params::{Grads, ParamId, ParamInfo, Params, Role, Training};
pub use program::{Loss, Options, Program};
pub use workspace::Workspace;

use crate::graph::ValueId;

/// Why a graph cannot be trained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// A constant could not be read from its file.
    #[error("`{node}`: {reason}")]
    Weights {
        /// Node that owns the constant.
        node: String,
        /// What went wrong.
        reason: String,
    },
    /// An operator that only exists in graphs prepared for export; train the graph as it was imported.
    #[error("`{node}`: {op} nodes are made for export and have no gradient; train the graph as it was imported")]
    NoGradient {
        /// The node.
        node: String,
        /// Its operator.
        op: &'static str,
    },
    /// A node's shapes do not fit its operator.
    #[error("`{node}` ({op}): inputs {inputs:?} do not give {output:?}")]
    Shape {
        /// The node.
        node: String,
        /// Its operator.
        op: &'static str,
        /// Per-sample shapes of its inputs.
        inputs: Vec<Vec<usize>>,
        /// Per-sample shape of its output.
        output: Vec<usize>,
    },
    /// A tap or quantization names a value the graph does not have.
    #[error("{value} does not exist, the graph has {values} values")]
    NoSuchValue {
        /// The offending value.
        value: ValueId,
        /// Values of the graph, its input included.
        values: usize,
    },
}
