//! The run log: one JSON object per line.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::files;
pub use crate::report::training::LoggedNetwork;

/// Version of the log; raised when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;
/// Name of the log in the folder of a run.
pub const FILE_NAME: &str = "run.log.jsonl";

/// A line of the log. Lists have one entry per network, in the order of the first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The first line.
    Start {
        /// [`SCHEMA_VERSION`].
        schema_version: u32,
        /// Name of the family.
        family: String,
        /// All settings, the seed among them.
        settings: Box<Settings>,
        /// The networks.
        networks: Vec<LoggedNetwork>,
        /// Images trained on.
        training_images: usize,
        /// Images of a validation.
        validation_images: usize,
        /// Steps of the whole run.
        steps: u64,
    },
    /// What happened since the last such line.
    Progress {
        /// Steps done.
        step: u64,
        /// Epochs done.
        epoch: u32,
        /// Mean loss of each network in this time; none if it was not drawn.
        losses: Vec<Option<f64>>,
        /// Times each network was drawn since the start.
        draws: Vec<u64>,
        /// Share of the largest learning rates at the last step.
        rate: f64,
        /// Mean norm of the gradients before clipping.
        gradient_norm: f64,
        /// Training images per second, validation left out.
        images_per_second: f64,
    },
    /// Accuracies on the held-out images, as shares.
    Validation {
        /// Steps done.
        step: u64,
        /// Epochs done.
        epoch: u32,
        /// Accuracy of each network.
        accuracy: Vec<f64>,
        /// Ids of networks that are not drawn any more.
        dropped: Vec<u32>,
    },
    /// The run went on from a checkpoint.
    Resume {
        /// Steps done.
        step: u64,
    },
    /// The new family is written.
    Finish {
        /// Steps done.
        step: u64,
    },
}

impl Event {
    fn step(&self) -> u64 {
        match self {
            Self::Start { .. } => 0,
            Self::Progress { step, .. }
            | Self::Validation { step, .. }
            | Self::Resume { step }
            | Self::Finish { step } => *step,
        }
    }
}

/// A log file.
#[derive(Debug)]
pub struct RunLog {
    path: PathBuf,
}

impl RunLog {
    /// An empty log in a folder; one that is there is replaced.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(folder: &Path) -> std::io::Result<Self> {
        let path = folder.join(FILE_NAME);
        files::replace(&path, b"")?;
        Ok(Self { path })
    }

    /// The log of a folder up to a step; what came later, or was written in part, is cut off, and so is the end of a run
    /// that goes on.
    ///
    /// # Errors
    /// What the file system says.
    pub fn resume(folder: &Path, step: u64) -> std::io::Result<Self> {
        let path = folder.join(FILE_NAME);
        let text = std::fs::read_to_string(&path)?;
        let stays = |event: Event| event.step() <= step && !matches!(event, Event::Finish { .. });
        let kept = text.lines().filter(|line| serde_json::from_str(line).is_ok_and(stays));
        let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
        files::replace(&path, kept.as_bytes())?;
        Ok(Self { path })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// What the file system says.
    pub fn add(&self, event: &Event) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        OpenOptions::new().append(true).create(true).open(&self.path)?.write_all(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validation(step: u64) -> Event {
        Event::Validation { step, epoch: 1, accuracy: vec![0.5], dropped: Vec::new() }
    }

    #[test]
    fn a_resumed_log_ends_at_its_checkpoint_and_goes_on_from_there() {
        let folder = tempfile::tempdir().unwrap();
        let log = RunLog::create(folder.path()).unwrap();
        [10, 20].into_iter().for_each(|step| log.add(&validation(step)).unwrap());
        let path = folder.path().join(FILE_NAME);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text += "{\"event\":\"valid";
        std::fs::write(&path, text).unwrap();
        let log = RunLog::resume(folder.path(), 10).unwrap();
        log.add(&Event::Resume { step: 10 }).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let events: Vec<Event> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events, [validation(10), Event::Resume { step: 10 }]);
    }
}
