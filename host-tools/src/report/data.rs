//! Everything a report shows, as data: written by `export --report-data`, embedded in the page.

use serde::{Deserialize, Serialize};

use super::trace::Trace;
use super::training::TrainingData;
use super::work::PlanWork;
use crate::export::{Export, Outcome};
use crate::family::{Anchor, Family};
use crate::fleet::Need;
use crate::fleet::limits::{Figures, most_accurate};
use crate::quantize::noise::StepNoise;
use crate::stitch::{Candidate, StitchError, space};

/// Version of this form; raised when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// A report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportData {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Name of the family.
    pub name: String,
    /// Height, width and channels of an image.
    pub input: [usize; 3],
    /// Size of the bundle that holds the kept networks.
    pub bundle_bytes: u64,
    /// Images that ranked the networks, if known.
    pub ranking_images: Option<usize>,
    /// Images that the kept networks were evaluated on, if known.
    pub evaluation_images: Option<usize>,
    /// Names of the stages, input to output; empty if unknown.
    pub stages: Vec<String>,
    /// The anchors, cheapest first.
    pub anchors: Vec<AnchorData>,
    /// All networks, anchors first.
    pub networks: Vec<NetworkData>,
    /// Boards with their predicted latencies.
    #[serde(default)]
    pub boards: Vec<BoardData>,
    /// Adaptation traces.
    #[serde(default)]
    pub traces: Vec<Trace>,
    /// The run that trained the family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingData>,
}

/// An anchor and its blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorData {
    /// Its name.
    pub name: String,
    /// For each block the stage it belongs to, as an index into [`ReportData::stages`]; `None` for the classifier, and
    /// where stages are unknown.
    pub blocks: Vec<Option<usize>>,
}

/// One network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkData {
    /// Id in the enumeration.
    pub id: u32,
    /// Index of its plan in the bundle; `None` if it was not kept.
    pub plan: Option<u16>,
    /// Path through the anchors.
    pub path: String,
    /// The blocks it runs, in order.
    pub route: Vec<BlockRef>,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// Weights and biases.
    pub params: u64,
    /// Arena of its plan.
    pub arena_bytes: u32,
    /// Accuracy on the ranking images, int8 and float.
    pub ranking: Option<[f64; 2]>,
    /// Accuracy on the evaluation images, int8 and float.
    pub evaluation: Option<[f64; 2]>,
    /// Id of a network that beats it.
    pub beaten_by: Option<u32>,
    /// What its plan does.
    pub work: PlanWork,
    /// Signal-to-noise ratio of every step, where measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub noise: Vec<NoiseData>,
}

/// Block of an anchor, by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRef {
    /// The anchor.
    pub anchor: usize,
    /// Its block.
    pub block: usize,
}

/// Signal-to-noise ratio of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoiseData {
    /// Name of the float node.
    pub name: String,
    /// In decibels; `None` where int8 and float agree exactly.
    pub snr_db: Option<f64>,
}

/// A board.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoardData {
    /// Its name, with the limits it was planned under.
    pub name: String,
    /// Bytes its arena may take.
    pub ram_bytes: Option<u64>,
    /// Time one inference may take.
    pub deadline_us: Option<u64>,
    /// The deadline less its reserve.
    pub usable_us: Option<u64>,
    /// Predicted latency of every network, in their order.
    pub latency_us: Vec<u64>,
    /// Id of the network it runs; `None` if none of the kept ones fits.
    pub pick: Option<u32>,
}

impl ReportData {
    /// What an export found: all networks, kept or not.
    ///
    /// # Errors
    /// [`StitchError`] if the family cannot be enumerated.
    pub fn of_export(family: &Family, export: &Export, boards: &[Need]) -> Result<Self, StitchError> {
        let space = space::enumerate(family)?;
        let networks = space.candidates.iter().zip(&export.outcomes).zip(&export.works);
        let mut data = Self {
            schema_version: SCHEMA_VERSION,
            name: family.config.name.clone(),
            input: family.config.input.shape,
            bundle_bytes: export.bytes.len() as u64,
            ranking_images: Some(export.images.0),
            evaluation_images: Some(export.images.1),
            stages: family.stages.iter().map(ToString::to_string).collect(),
            anchors: family.anchors.iter().map(anchor).collect(),
            networks: networks
                .map(|((candidate, outcome), work)| network(family, candidate, outcome, work, &export.plans))
                .collect(),
            boards: Vec::new(),
            traces: Vec::new(),
            training: None,
        };
        data.add_boards(boards);
        Ok(data)
    }

    /// Adds boards: latencies of all networks, and the kept one that each board runs.
    pub fn add_boards(&mut self, boards: &[Need]) {
        for need in boards {
            let latency_us: Vec<u64> = self.networks.iter().map(|n| n.work.latency_us(&need.model)).collect();
            let kept: Vec<usize> = (0..self.networks.len()).filter(|&i| self.networks[i].plan.is_some()).collect();
            let figures: Vec<Figures> = kept.iter().map(|&i| self.figures(i, latency_us[i])).collect();
            let pick = most_accurate(&figures, &need.limits).map(|at| self.networks[kept[at]].id);
            self.boards.push(BoardData {
                name: need.board.clone(),
                ram_bytes: need.limits.ram_bytes,
                deadline_us: need.limits.deadline_us,
                usable_us: need.limits.usable_us(),
                latency_us,
                pick,
            });
        }
    }

    fn figures(&self, index: usize, latency_us: u64) -> Figures {
        let network = &self.networks[index];
        let [accuracy, _] = network.evaluation.or(network.ranking).unwrap_or_default();
        Figures { ram_bytes: network.arena_bytes.into(), flash_bytes: self.bundle_bytes, latency_us, accuracy }
    }
}

fn anchor(anchor: &Anchor) -> AnchorData {
    let stages = anchor.cuts.iter().map(|cut| Some(cut.stage));
    AnchorData { name: anchor.name.clone(), blocks: stages.chain([None]).collect() }
}

fn network(family: &Family, candidate: &Candidate, outcome: &Outcome, work: &PlanWork, plans: &[u32]) -> NetworkData {
    NetworkData {
        id: candidate.id,
        plan: plans.iter().position(|&stitch| stitch == candidate.id).map(|plan| plan as u16),
        path: candidate.path.clone(),
        route: route(family, candidate),
        macs: candidate.macs,
        params: candidate.params,
        arena_bytes: outcome.arena_bytes,
        ranking: Some([outcome.search_accuracy, outcome.search_accuracy_float]),
        evaluation: outcome.accuracy.zip(outcome.accuracy_float).map(|(int8, float)| [int8, float]),
        beaten_by: outcome.beaten_by,
        work: work.clone(),
        noise: outcome.noise.iter().map(noise).collect(),
    }
}

/// The blocks of a candidate: block `i` of an anchor lies before its cut `i`.
fn route(family: &Family, candidate: &Candidate) -> Vec<BlockRef> {
    let mut blocks = Vec::new();
    for leg in &candidate.legs {
        let first = leg.from.map_or(0, |cut| cut + 1);
        let last = leg.to.unwrap_or(family.anchors[leg.anchor].cuts.len());
        blocks.extend((first..=last).map(|block| BlockRef { anchor: leg.anchor, block }));
    }
    blocks
}

fn noise(step: &StepNoise) -> NoiseData {
    NoiseData { name: step.name.clone(), snr_db: Some(step.snr_db).filter(|db| db.is_finite()) }
}
