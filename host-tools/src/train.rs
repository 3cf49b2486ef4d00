//! Joint training of a family's anchors and stitching layers, on the host.
//!
//! Every step draws one network of the space (or several), runs it on a batch, and moves the parameters it uses. All
//! networks share their parameters, so one short run lifts all of them.
//!
//! | module | purpose |
//! |---|---|
//! | [`engine`] | reverse mode over the float graph: compiled programs, parameters, gradients |
//! | [`run`], `setup` | a run from the first step to the new family, and what it does not change |
//! | [`settings`] | everything that decides how a run goes |
//! | [`paths`] | the networks of a space as graphs over shared constants |
//! | [`model`] | parameters, compiled networks, low-rank updates |
//! | [`sampler`] | which network the next step trains |
//! | [`augment`] | from stored pixels to a training batch |
//! | [`loss`], [`objective`] | losses, and what a step minimises |
//! | [`rounding`] | quantization-aware training |
//! | [`teacher`] | networks that training learns from |
//! | [`learngene`], [`positions`] | students that follow a large network inside |
//! | [`optimizer`] | AdamW, Nesterov, learning rates |
//! | [`checkpoint`], [`log`] | the state and the history of a run on disk |
//! | [`output`] | the new family |
//! | [`random`], [`files`] | numbers that a resumed run draws again, files that are whole or absent |

pub mod augment;
pub mod checkpoint;
pub mod engine;
pub mod learngene;
pub mod log;
pub mod loss;
pub mod model;
pub mod norms;
pub mod objective;
pub mod optimizer;
pub mod output;
pub mod paths;
pub mod positions;
pub mod random;
pub mod rounding;
pub mod run;
pub mod sampler;
pub mod settings;
mod setup;
pub mod teacher;

use std::path::PathBuf;

use crate::family::DataError;
use crate::graph::rewrite::RewriteError;
use crate::stitch::StitchError;
use engine::EngineError;

pub use run::{Job, Outcome, Plan, Progress, Start, Watch, plan, train};
pub use settings::Settings;

/// Why a family cannot be trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The networks cannot be exported as they are.
    #[error(transparent)]
    Export(#[from] Box<crate::export::ExportError>),
    /// The space cannot be enumerated or evaluated.
    #[error(transparent)]
    Stitch(#[from] StitchError),
    /// Images cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Weights cannot be written back.
    #[error(transparent)]
    Rewrite(#[from] RewriteError),
    /// An anchor's constants cannot be read.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A network cannot be compiled.
    #[error("network {path} cannot be trained")]
    Network {
        /// Its path through the anchors.
        path: String,
        /// Why.
        #[source]
        source: EngineError,
    },
    /// A stitching layer cannot be added.
    #[error("stitching layer {name}: {reason}")]
    Weights {
        /// The layer.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A teacher that does not fit the family.
    #[error("teacher {name}: {reason}")]
    Teacher {
        /// The teacher.
        name: String,
        /// What does not fit.
        reason: String,
    },
    /// Settings that make no sense together, one line each.
    #[error("{}", .0.join("\n"))]
    Settings(Vec<String>),
    /// The loss is no number any more.
    #[error("step {step}: the loss of {path} is {loss}; lower the learning rates")]
    Diverged {
        /// The step.
        step: u64,
        /// The network that was trained.
        path: String,
        /// Its loss.
        loss: f64,
    },
    /// The folder holds a run that was not asked for.
    #[error("{} holds a run of {step} steps; go on with --resume, or name another folder", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// Steps done.
        step: u64,
    },
    /// Another process trains into the folder.
    #[error("another run is writing to {}; wait for it, or name another folder", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The run was asked to stop; its checkpoint is written.
    #[error("stopped after {step} steps, all of them kept in {}; go on with --resume", path.display())]
    Stopped {
        /// The folder.
        path: PathBuf,
        /// Steps done.
        step: u64,
    },
    /// A checkpoint that this run cannot go on from.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// `family.toml` could not be taken apart.
    #[error("{}: cannot be adapted to the new folder", path.display())]
    FamilyFile {
        /// The file.
        path: PathBuf,
    },
    /// A file of the run cannot be written or read.
    #[error("{}: cannot be written or read", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
