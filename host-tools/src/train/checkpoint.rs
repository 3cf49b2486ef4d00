//! The state of a run on disk, complete enough to go on bit for bit.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::engine::Params;
use super::optimizer::Moments;
use super::sampler::Sampler;
use super::settings::Settings;
use crate::files;
use crate::safetensors::Tensors;

/// Name of the checkpoint in the folder of a run.
pub const FILE_NAME: &str = "checkpoint.safetensors";
const SCHEMA: u32 = 1;

/// Sums since the last line of the log.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Sums {
    /// Loss of each network.
    pub losses: Vec<f64>,
    /// Draws of each network.
    pub draws: Vec<u64>,
    /// Norms of gradients.
    pub norms: f64,
    /// Steps.
    pub steps: u64,
}

/// What a run knows besides its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    schema: u32,
    /// Settings it was started with.
    pub settings: Settings,
    /// Networks by path; a changed family does not go on.
    pub networks: Vec<String>,
    /// Steps done.
    pub step: u64,
    /// Draws, signals, dropped networks.
    pub sampler: Sampler,
    /// Sums since the last line of the log.
    pub sums: Sums,
    /// Accuracies before the first step.
    pub before: Vec<f64>,
    /// Accuracies at the last validation.
    pub last: Vec<f64>,
    /// Updates of each parameter, by name.
    updates: BTreeMap<String, u64>,
}

impl State {
    /// The state before the first step.
    #[must_use]
    pub fn new(settings: Settings, networks: Vec<String>, sampler: Sampler, before: Vec<f64>) -> Self {
        let count = networks.len();
        Self {
            schema: SCHEMA,
            settings,
            networks,
            step: 0,
            sampler,
            sums: Sums { losses: vec![0.0; count], draws: vec![0; count], ..Sums::default() },
            last: before.clone(),
            before,
            updates: BTreeMap::new(),
        }
    }
}

/// Writes a checkpoint: at any moment the folder holds the one before or this one.
///
/// # Errors
/// What the file system says.
pub fn write(folder: &Path, state: &State, params: &Params, moments: &[Moments]) -> std::io::Result<()> {
    let mut file = Tensors::default();
    let mut state = state.clone();
    for (id, moments) in params.ids().zip(moments) {
        let info = params.info(id);
        file.insert(format!("values/{}", info.name), info.shape.clone(), params.values(id).to_vec());
        if moments.steps == 0 {
            continue;
        }
        state.updates.insert(info.name.clone(), moments.steps);
        for (kind, values) in [("first", &moments.first), ("second", &moments.second)] {
            if !values.is_empty() {
                file.insert(format!("{kind}/{}", info.name), info.shape.clone(), values.clone());
            }
        }
    }
    file.metadata.insert("state".into(), serde_json::to_string(&state)?);
    files::replace(&folder.join(FILE_NAME), &file.to_bytes())
}

/// Reads the state of a checkpoint; `None` if the folder has none.
///
/// # Errors
/// What is wrong with the file, in words.
pub fn read(folder: &Path) -> Result<Option<(State, Tensors)>, String> {
    let bytes = match std::fs::read(folder.join(FILE_NAME)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| error.to_string())?,
    };
    let file = Tensors::from_bytes(&bytes)?;
    let text = file.metadata.get("state").ok_or("it is no checkpoint of a training run")?;
    let state: State = serde_json::from_str(text).map_err(|error| format!("its state cannot be read: {error}"))?;
    if state.schema != SCHEMA {
        return Err(format!("it is of version {}, this program goes on from {SCHEMA}", state.schema));
    }
    Ok(Some((state, file)))
}

/// Puts the parameters of a checkpoint back.
///
/// # Errors
/// The parameter that is missing or has another shape.
pub fn restore(state: &State, file: &mut Tensors, params: &mut Params) -> Result<Vec<Moments>, String> {
    let mut all = Vec::new();
    for id in params.ids() {
        let info = params.info(id).clone();
        let tensor = file.tensors.remove(&format!("values/{}", info.name));
        let tensor = tensor.filter(|tensor| tensor.shape == info.shape);
        let tensor = tensor.ok_or_else(|| format!("it has no `{}` of shape {:?}", info.name, info.shape))?;
        params.values_mut(id).copy_from_slice(&tensor.values);
        let mut moment = |kind: &str| {
            let tensor = file.tensors.remove(&format!("{kind}/{}", info.name));
            tensor.map(|tensor| tensor.values).unwrap_or_default()
        };
        let steps = state.updates.get(&info.name).copied().unwrap_or(0);
        all.push(Moments { steps, first: moment("first"), second: moment("second") });
    }
    Ok(all)
}
