//! What a report shows of the training run that made a family.

use serde::{Deserialize, Serialize};

/// A network as the run log names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedNetwork {
    /// Id in the enumeration.
    pub id: u32,
    /// Path through the anchors.
    pub path: String,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// Whether it is an anchor.
    pub is_anchor: bool,
}

/// The lines of a run log that a report needs.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line {
    Start {
        networks: Vec<LoggedNetwork>,
        validation_images: usize,
    },
    Validation {
        epoch: u32,
        accuracy: Vec<f64>,
    },
    Progress {
        draws: Vec<u64>,
    },
    #[serde(other)]
    Other,
}

/// Accuracies and draws over a run, by network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingData {
    /// The networks of the run.
    pub networks: Vec<LoggedNetwork>,
    /// Held-out images of a validation.
    pub images: usize,
    /// Validations in order, the one before the first step first.
    pub validations: Vec<ValidationData>,
    /// Times each network was drawn.
    pub draws: Vec<u64>,
}

/// One validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationData {
    /// Epochs done.
    pub epoch: u32,
    /// Accuracy of each network, as a share.
    pub accuracy: Vec<f64>,
}

impl TrainingData {
    /// Reads a run log.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn of_log(text: &str) -> Result<Self, String> {
        let mut data = Self { networks: Vec::new(), images: 0, validations: Vec::new(), draws: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            let line = serde_json::from_str(line).map_err(|error| format!("line {}: {error}", number + 1))?;
            match line {
                Line::Start { networks, validation_images } => {
                    (data.networks, data.images) = (networks, validation_images);
                }
                Line::Validation { epoch, accuracy } => data.validations.push(ValidationData { epoch, accuracy }),
                Line::Progress { draws } => data.draws = draws,
                Line::Other => {}
            }
        }
        let count = data.networks.len();
        if count == 0 {
            return Err("it does not begin with the start of a run".to_owned());
        }
        data.draws.resize(count, 0);
        match data.validations.iter().all(|validation| validation.accuracy.len() == count) {
            true => Ok(data),
            false => Err("a validation has not one accuracy for each network".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validations_and_draws_are_read_and_other_lines_are_skipped() {
        let text = r#"{"event":"start","schema_version":1,"networks":[{"id":0,"path":"a","macs":5,"is_anchor":true}],"validation_images":9}
{"event":"validation","step":0,"epoch":0,"accuracy":[0.5],"dropped":[]}
{"event":"resume","step":3}
{"event":"progress","step":4,"draws":[4]}
{"event":"validation","step":4,"epoch":1,"accuracy":[0.75],"dropped":[]}"#;
        let data = TrainingData::of_log(text).unwrap();
        let accuracies: Vec<f64> = data.validations.iter().map(|validation| validation.accuracy[0]).collect();
        assert_eq!((data.images, data.draws, accuracies), (9, vec![4], vec![0.5, 0.75]));
    }

    #[test]
    fn a_log_without_its_start_is_refused() {
        assert!(TrainingData::of_log("{\"event\":\"finish\",\"step\":3}\n").is_err());
        assert!(TrainingData::of_log("").is_err());
    }
}
