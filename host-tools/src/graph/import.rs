//! ONNX import: a float model file becomes a checked [`Graph`].
//!
//! The file's protobuf gives structure and tensor names, tract evaluates what is constant (shape arithmetic included), and
//! every operator is lowered to the few that stitchkit knows. Feature maps are stored HWC: each value carries which ONNX
//! axis each stored axis is, so an ONNX transpose costs nothing and real ones appear only where the order of elements
//! matters. Finally tract runs the original model and [`super::forward`] the graph, on the same input.

use std::path::{Path, PathBuf};

use super::Graph;
pub(super) use draft::drop_dead;
pub(super) use guard::guarded;
pub(crate) use lower::label;
use source::Source;

mod affine;
mod attributes;
pub mod cases;
mod check;
mod constants;
mod draft;
mod elementwise;
mod guard;
mod linear;
mod lower;
mod moves;
mod operators;
mod patterns;
mod pooling;
mod reorder;
mod source;
#[cfg(test)]
mod tests;
mod window;

pub use operators::NAMES as OPERATORS;

/// A node that stitchkit cannot represent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// Node name in the file, or its first output's name where it has none.
    pub node: String,
    /// ONNX operator.
    pub op: String,
    /// What is not supported and what to do instead.
    pub reason: String,
}

/// Why a file did not become a [`Graph`].
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The file is not a valid ONNX model.
    #[error("{}: not a valid ONNX model: {detail}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Not exactly one input.
    #[error(
        "{}: expected one input, found {}: {}; export the network with a single image or feature tensor as input",
        path.display(), names.len(), names.join(", ")
    )]
    Inputs {
        /// The file.
        path: PathBuf,
        /// The inputs.
        names: Vec<String>,
    },
    /// Not exactly one output.
    #[error("{}: expected one output, found {}: {}; export the network so that it returns the logits alone",
        path.display(), names.len(), names.join(", "))]
    Outputs {
        /// The file.
        path: PathBuf,
        /// The outputs.
        names: Vec<String>,
    },
    /// An input that is not float32 or has no batch axis.
    #[error("{}: input `{tensor}`: {reason}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// The input tensor.
        tensor: String,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// Spatial extents that are not known.
    #[error(
        "{}: input `{tensor}` has the shape [{dims}]; only the batch (first) axis may be dynamic, export with fixed \
         extents for the others", path.display()
    )]
    DynamicShape {
        /// The file.
        path: PathBuf,
        /// The input tensor.
        tensor: String,
        /// Its extents as written in the file.
        dims: String,
    },
    /// Operators or attributes outside the supported set, all of them.
    #[error("{}: {} unsupported node(s):{}", path.display(), problems.len(), list(problems))]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Every offending node.
        problems: Vec<Unsupported>,
    },
    /// NaN or infinite weights.
    #[error(
        "{}: node `{node}`: tensor `{tensor}` holds NaN or infinite values; the training diverged or the export failed",
        path.display()
    )]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// The node that uses the tensor.
        node: String,
        /// The constant tensor.
        tensor: String,
    },
    /// tract cannot load or run the model.
    #[error("{}: tract cannot run this model: {detail}", path.display())]
    Tract {
        /// The file.
        path: PathBuf,
        /// tract's message.
        detail: String,
    },
    /// The imported graph does not compute what tract computes.
    #[error(
        "{}: the imported graph differs from the model: {difference:.3e} on outputs that span {range:.3e} (seeded random \
         input); please report this model", path.display()
    )]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Largest absolute difference of an output.
        difference: f32,
        /// Span of the model's outputs.
        range: f32,
    },
}

fn list(problems: &[Unsupported]) -> String {
    problems.iter().map(|p| format!("\n  {} `{}`: {}", p.op, p.node, p.reason)).collect()
}

/// Imports a float ONNX file (opset 9 and later; batch axis 1 or symbolic), reads all weights, and checks the result
/// against tract.
///
/// # Errors
/// [`ImportError`]; unsupported nodes are collected, so one run shows all of them.
pub fn import(path: &Path) -> Result<Graph, ImportError> {
    let source = Source::read(path)?;
    let (graph, output_axes) = lower::lower(&source)?;
    lower::finite(&source, &graph)?;
    check::against_tract(&source, &graph, &output_axes)?;
    Ok(graph)
}

/// Imports the structure of a float ONNX file, for counting, cutting and enumerating: large weights are not read, and the
/// result is not checked against tract.
///
/// # Errors
/// [`ImportError`]; unsupported nodes are collected, so one run shows all of them.
pub fn import_structure(path: &Path) -> Result<Graph, ImportError> {
    Ok(lower::lower(&Source::read(path)?)?.0)
}
