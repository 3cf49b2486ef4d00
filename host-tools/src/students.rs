//! Auxiliary students: narrower and shorter copies of one large network, the start of a family made from it alone
//! ("Building Variable-sized Models via Learngene Pool", Shi et al., AAAI 2024).
//!
//! A student is the large network's ONNX file with blocks left out and channels taken away, and what remains of its
//! weights. Training then distils the large network into all students at once (`stitchkit train --learngene`).
//!
//! | module | purpose |
//! |---|---|
//! | [`blocks`] | which blocks go, and the file without them |
//! | [`channels`] | which channels of a file's tensors belong together |
//! | [`narrow`] | how strong each channel is, and the file without the weak ones |
//! | [`calibrate`] | layers brought back to the range they had |
//! | [`description`] | `family.toml` of the students |

pub mod blocks;
pub mod calibrate;
pub mod channels;
pub mod description;
pub mod narrow;

use std::collections::HashMap;
use std::path::PathBuf;

use prost::Message;

use crate::family::{Anchor, Dataset, Family};
use crate::graph::rewrite::{RewriteError, Rewriter, own_tensors};
use crate::graph::{Graph, ImportError, cost, import};

/// What is left of the large network in a student.
#[derive(Debug, Clone, PartialEq)]
pub struct StudentShape {
    /// Share of the channels of every layer inside the network, above 0 and at most 1.
    pub width: f64,
    /// Blocks of each stage, in the order of the large network's stages; `None` keeps all.
    pub blocks: Option<Vec<usize>>,
}

/// A student, not yet written.
#[derive(Debug, Clone)]
pub struct Student {
    /// Name in the family of students.
    pub name: String,
    /// The ONNX file.
    pub bytes: Vec<u8>,
    /// The file, imported and checked.
    pub graph: Graph,
    /// Tensors at which it may be cut, from front to end: the large network's, but for those of blocks left out.
    pub cuts: Vec<String>,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// Weights and biases.
    pub params: u64,
}

/// Why a student cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StudentError {
    /// The large network's file cannot be taken apart.
    #[error(transparent)]
    File(#[from] RewriteError),
    /// A width that is no share.
    #[error("a width of {width} is impossible; widths are shares of the channels, above 0 and at most 1")]
    Width {
        /// The width.
        width: f64,
    },
    /// Blocks that the network does not have, or cannot lose.
    #[error("{network}: {reason}")]
    Blocks {
        /// The large network.
        network: String,
        /// What does not fit, and what would.
        reason: String,
    },
    /// An operator through which channels cannot be followed.
    #[error(
        "{}: node `{node}` ({operator}): {reason}; make shorter students (--widths 1 with --blocks), or export narrower \
         networks of your own and name them in family.toml", path.display()
    )]
    Operator {
        /// The file.
        path: PathBuf,
        /// The node.
        node: String,
        /// Its ONNX operator.
        operator: String,
        /// Why channels cannot be taken away here.
        reason: String,
    },
    /// What was made cannot be imported.
    #[error("{name}: the student of width {width} cannot be used")]
    Import {
        /// The student.
        name: String,
        /// Its width.
        width: f64,
        /// Why.
        #[source]
        source: Box<ImportError>,
    },
    /// A temporary file cannot be written.
    #[error("a temporary file cannot be written")]
    Write(#[source] std::io::Error),
    /// `family.toml` could not be taken apart.
    #[error("{}: {reason}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Makes a student of one of a family's anchors, its weights loaded. With images, every layer is brought back to the range
/// that it has in the large network on these ([`calibrate`]); without, a student may give nothing but zeros inside.
///
/// # Errors
/// [`StudentError`] names the file and the node or stage.
pub fn student(
    family: &Family,
    anchor: &Anchor,
    shape: &StudentShape,
    images: Option<&Dataset>,
) -> Result<Student, StudentError> {
    if !(shape.width > 0.0 && shape.width <= 1.0) {
        return Err(StudentError::Width { width: shape.width });
    }
    let left_out = match &shape.blocks {
        Some(counts) => blocks::left_out(family, anchor, counts)?,
        None => Vec::new(),
    };
    let mut model = own_tensors(&anchor.path)?;
    blocks::remove(&mut model, &anchor.path, &blocks::bypasses(anchor, &left_out))?;
    let kept = match shape.width < 1.0 {
        true => narrow::narrow(&mut model, &anchor.path, shape.width)?,
        false => HashMap::new(),
    };
    let mut bytes = model.encode_to_vec();
    let name = name(anchor, shape);
    let folder = tempfile::tempdir().map_err(StudentError::Write)?;
    let file = folder.path().join(format!("{name}.onnx"));
    std::fs::write(&file, &bytes).map_err(StudentError::Write)?;
    let mut graph = import(&file).map_err(|source| StudentError::Import {
        name: name.clone(),
        width: shape.width,
        source: Box::new(source),
    })?;
    let is_changed = !kept.is_empty() || !left_out.is_empty();
    if let Some(images) = images.filter(|_| is_changed && calibrate::needs_calibration(&graph)) {
        let rewriter = Rewriter::read(&file)?;
        let batch = images.batch(0..images.len().min(calibrate::IMAGES), &family.config.input);
        let writable = |node, constant| rewriter.is_writable(node, constant);
        calibrate::calibrate(&mut graph, &anchor.graph, &kept, &batch, &writable);
        bytes = rewriter.write(&graph)?;
    }
    let kept = anchor.cuts.iter().enumerate().filter(|(index, _)| !left_out.contains(index));
    let cuts = kept.map(|(_, cut)| cut.tensor.clone()).collect();
    Ok(Student { name, bytes, cuts, macs: cost::macs(&graph), params: cost::params(&graph), graph })
}

/// `ANCHOR-w50` of half the width, `ANCHOR-w50-b1.1.2` of fewer blocks.
fn name(anchor: &Anchor, shape: &StudentShape) -> String {
    let percent = (100.0 * shape.width * 10.0).round() / 10.0;
    let blocks = shape.blocks.as_ref().map_or_else(String::new, |counts| {
        format!("-b{}", counts.iter().map(usize::to_string).collect::<Vec<_>>().join("."))
    });
    format!("{}-w{percent}{blocks}", anchor.name)
}

#[cfg(test)]
mod tests;
