//! A family: the anchors that `family.toml` names, imported and cut, with the input they share and the data they need.
//!
//! | module | purpose |
//! |---|---|
//! | [`config`] | the contents of `family.toml` |
//! | [`parse`] | reading it, with every problem located |
//! | [`stages`] | grouping cuts into stages that anchors share |
//! | [`data`] | data sets: folders, tar files, npz files |
//! | [`image`] | single images |
//! | [`variant`] | fewer classes, other image sizes |

pub mod config;
pub mod data;
pub mod draft;
pub mod image;
pub mod parse;
pub mod stages;
#[cfg(test)]
mod tests;
pub mod variant;

use std::fmt;
use std::path::{Path, PathBuf};

pub use self::config::{
    Adapters, AnchorConfig, AnchorPairs, Border, CalibrationConfig, Cuts, Directions, EvaluationConfig, FamilyConfig,
    Filter, FinalNorm, InputConfig, LayerIds, Layout, Norms, SharedLayers, SpaceKind, StageExits, StitchingConfig,
    TeacherConfig, TrainingConfig,
};
pub use self::data::{DataError, DataSource, Dataset, TrainingImages, load_dataset};
pub use self::image::load_image;
pub use self::parse::Problem;
pub use self::stages::Grid;
pub use self::variant::{Variant, VariantError};
use crate::graph::{self, Graph, ValueId, attention, cost};

/// Name of the file that describes a family, inside its folder.
pub const FILE_NAME: &str = "family.toml";

/// A family with its anchors imported.
#[derive(Debug, Clone)]
pub struct Family {
    /// What `family.toml` says.
    pub config: FamilyConfig,
    /// Folder that relative paths start from.
    pub folder: PathBuf,
    /// Anchors, cheapest first.
    pub anchors: Vec<Anchor>,
    /// Grids of the stages in order from input to output; [`Cut::stage`] is an index into them.
    pub stages: Vec<Grid>,
    /// How it differs from what `family.toml` says.
    pub variant: Variant,
}

/// One pretrained network and where it may be cut.
#[derive(Debug, Clone)]
pub struct Anchor {
    /// Name used in paths of candidates.
    pub name: String,
    /// ONNX file.
    pub path: PathBuf,
    /// The network.
    pub graph: Graph,
    /// Cuts from front to end.
    pub cuts: Vec<Cut>,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// Weights and biases.
    pub params: u64,
}

/// A value at which an anchor may be left or entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The value in the anchor's graph.
    pub value: ValueId,
    /// Its ONNX tensor.
    pub tensor: String,
    /// Its per-sample shape, channels last.
    pub shape: Vec<usize>,
    /// Index into [`Family::stages`].
    pub stage: usize,
}

impl Anchor {
    /// Indices of the cuts in a stage, front to end.
    #[must_use]
    pub fn stage_cuts(&self, stage: usize) -> Vec<usize> {
        (0..self.cuts.len()).filter(|&index| self.cuts[index].stage == stage).collect()
    }

    /// One line that lists all cuts with their shapes, for messages.
    #[must_use]
    pub fn describe_cuts(&self) -> String {
        let cuts: Vec<String> = self.cuts.iter().map(|cut| format!("{} {:?}", cut.tensor, cut.shape)).collect();
        format!("  cuts of {}: {}", self.name, if cuts.is_empty() { "none".to_owned() } else { cuts.join(", ") })
    }
}

/// Why a family cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum FamilyError {
    /// `family.toml` cannot be read.
    #[error("{path}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// `family.toml` or a file it names is not as it must be.
    #[error("{path}: {}", Listed(.problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything found wrong.
        problems: Vec<Problem>,
    },
}

/// A problem and the index of the anchor it concerns, if one is to blame.
pub type Located = (Option<usize>, String);

struct Listed<'a>(&'a [Problem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [problem] => write!(f, "{problem}"),
            problems => {
                write!(f, "{} problems", problems.len())?;
                problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl Family {
    /// Reads `family.toml` (given as the file or its folder), imports the anchors and finds their cuts.
    ///
    /// # Errors
    /// [`FamilyError`] with all problems of the file and of all anchors.
    pub fn load(path: &Path) -> Result<Self, FamilyError> {
        Self::load_with(path, graph::import)
    }

    /// Reads the structure of a family alone: large weights stay on disk, so that counting and enumerating cost little. The
    /// anchors cannot be run.
    ///
    /// # Errors
    /// As [`Family::load`].
    pub fn load_structure(path: &Path) -> Result<Self, FamilyError> {
        Self::load_with(path, graph::import_structure)
    }

    fn load_with(path: &Path, import: Import) -> Result<Self, FamilyError> {
        let file = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
        let text = std::fs::read_to_string(&file).map_err(|source| FamilyError::Read { path: file.clone(), source })?;
        let folder = file.parent().map(Path::to_owned).unwrap_or_default();
        let invalid = |problems| FamilyError::Invalid { path: file.clone(), problems };
        let config = parse::parse(&text).map_err(invalid)?;
        let lines = parse::anchor_lines(&text);
        let located = |failed: Vec<Located>| {
            let line = |anchor: Option<usize>| anchor.and_then(|index| lines.get(index).copied());
            invalid(failed.into_iter().map(|(anchor, text)| Problem { line: line(anchor), text }).collect())
        };
        let graphs = import_anchors(&config, &folder, import).map_err(located)?;
        Self::assemble(config, folder, graphs).map_err(located)
    }

    /// Operations of the anchors that have no int8 form, one line each with anchor, node and operator. Nodes that make up
    /// self-attention have one together.
    #[must_use]
    pub fn float_only_nodes(&self) -> Vec<String> {
        let of_anchor = |anchor: &Anchor| {
            let graph = attention::join(&anchor.graph);
            let nodes = graph.nodes.iter().filter(|node| !node.op.has_int8_form());
            nodes.map(|node| format!("{}: {} `{}`", anchor.name, node.op.name(), node.name)).collect::<Vec<_>>()
        };
        self.anchors.iter().flat_map(of_anchor).collect()
    }

    /// Builds a family from anchors that are already graphs, one per entry of `config.anchors`.
    ///
    /// # Errors
    /// Every problem found.
    pub fn assemble(config: FamilyConfig, folder: PathBuf, graphs: Vec<Graph>) -> Result<Self, Vec<Located>> {
        let (mut anchors, mut problems) = (Vec::new(), Vec::new());
        for (index, (entry, graph)) in config.anchors.iter().zip(graphs).enumerate() {
            let cuts = resolve_cuts(&graph, &entry.cuts, config.stitching.space);
            problems
                .extend(cuts.problems.into_iter().map(|text| (Some(index), format!("anchor {}: {text}", entry.name))));
            anchors.push(Anchor {
                name: entry.name.clone(),
                path: folder.join(&entry.model),
                macs: cost::macs(&graph),
                params: cost::params(&graph),
                cuts: cuts.found,
                graph,
            });
        }
        let stages = stages::assign(&mut anchors);
        problems.extend(check_anchors(&config, &anchors));
        problems.extend(check_skipped(&config, &stages));
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self { config, folder, anchors, stages, variant: Variant::default() })
    }

    /// Stages in which both the anchor `small` and the next larger one have cuts.
    #[must_use]
    pub fn shared_stages(&self, small: usize) -> Vec<usize> {
        let has = |anchor: usize, stage: usize| self.anchors[anchor].cuts.iter().any(|cut| cut.stage == stage);
        (0..self.stages.len()).filter(|&stage| has(small, stage) && has(small + 1, stage)).collect()
    }

    /// What cannot be stitched because only one of two neighbouring anchors has it, one sentence each.
    #[must_use]
    pub fn stage_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (small, pair) in self.anchors.windows(2).enumerate() {
            let shared = self.shared_stages(small);
            if shared.is_empty() && self.config.stitching.adapters == Adapters::Allowed {
                continue;
            }
            for (stage, grid) in self.stages.iter().enumerate().filter(|(stage, _)| !shared.contains(stage)) {
                for (has, lacks) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                    if has.cuts.iter().any(|cut| cut.stage == stage) {
                        warnings.push(format!("stage {grid} of {} is not stitched: {} has none", has.name, lacks.name));
                    }
                }
            }
        }
        warnings
    }
}

type Import = fn(&Path) -> Result<Graph, graph::ImportError>;

fn import_anchors(config: &FamilyConfig, folder: &Path, import: Import) -> Result<Vec<Graph>, Vec<Located>> {
    let (mut graphs, mut problems) = (Vec::new(), Vec::new());
    for (index, entry) in config.anchors.iter().enumerate() {
        match import(&folder.join(&entry.model)) {
            Ok(graph) => graphs.push(graph),
            Err(error) => problems.push((Some(index), format!("anchor {}: {}", entry.name, chain(&error)))),
        }
    }
    if problems.is_empty() { Ok(graphs) } else { Err(problems) }
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The positions that `cuts` stands for in a graph, from front to end; their stages are not known yet.
///
/// # Errors
/// What is wrong with `cuts`, one sentence each.
pub fn find_positions(graph: &Graph, cuts: &Cuts, space: SpaceKind) -> Result<Vec<Cut>, Vec<String>> {
    let cuts = resolve_cuts(graph, cuts, space);
    if cuts.problems.is_empty() { Ok(cuts.found) } else { Err(cuts.problems) }
}

/// Block boundaries as the space wants them: all block outputs, or the longest stage with its input.
#[must_use]
pub fn block_cuts(graph: &Graph, space: SpaceKind) -> Vec<ValueId> {
    let stages = graph::find_blocks(graph);
    match space {
        SpaceKind::Stages => stages.into_iter().flat_map(|stage| stage.outputs).collect(),
        SpaceKind::Blocks => {
            let longest = stages.into_iter().rev().max_by_key(|stage| stage.outputs.len());
            longest.map_or_else(Vec::new, |stage| stage.input.into_iter().chain(stage.outputs).collect())
        }
    }
}

struct ResolvedCuts {
    found: Vec<Cut>,
    problems: Vec<String>,
}

fn resolve_cuts(graph: &Graph, cuts: &Cuts, space: SpaceKind) -> ResolvedCuts {
    let mut problems = Vec::new();
    let mut values = match cuts {
        Cuts::Auto => graph::find_cuts(graph),
        Cuts::Blocks => block_cuts(graph, space),
        Cuts::Named(names) => names
            .iter()
            .filter_map(|name| graph::resolve_cut(graph, name).map_err(|error| problems.push(chain(&error))).ok())
            .collect(),
    };
    if *cuts == Cuts::Blocks && values.is_empty() {
        let text = "no part repeats between tensors that alone carry all information; list `cuts` by name";
        problems.push(format!("`cuts` = \"blocks\": {text}"));
    }
    values.sort_unstable();
    for pair in values.windows(2).filter(|pair| pair[0] == pair[1]) {
        problems.push(format!("`cuts` names {} twice", graph.tensor(pair[0])));
    }
    values.dedup();
    let cut = |value: ValueId| Cut {
        value,
        tensor: graph.tensor(value).to_owned(),
        shape: graph.shape(value).to_vec(),
        stage: 0,
    };
    ResolvedCuts { found: values.into_iter().map(cut).collect(), problems }
}

fn check_anchors(config: &FamilyConfig, anchors: &[Anchor]) -> Vec<Located> {
    let mut problems = Vec::new();
    for (index, anchor) in anchors.iter().enumerate() {
        let (takes, wanted) = (&anchor.graph.input_shape, &config.input.shape);
        if takes != wanted {
            problems
                .push((Some(index), format!("anchor {} takes {takes:?}, `input.shape` is {wanted:?}", anchor.name)));
        }
        let outputs = anchor.graph.elements(anchor.graph.output);
        if !config.labels.is_empty() && outputs != config.labels.len() {
            let labels = config.labels.len();
            problems.push((Some(index), format!("anchor {} has {outputs} outputs for {labels} labels", anchor.name)));
        }
    }
    for (index, pair) in anchors.windows(2).enumerate() {
        let (small, large) = (&pair[0], &pair[1]);
        if small.macs > large.macs {
            let text = format!(
                "anchors must be listed by cost: {} ({} MACs) comes before {} ({} MACs)",
                small.name, small.macs, large.name, large.macs
            );
            problems.push((Some(index + 1), text));
        }
        let outputs = pair.iter().map(|anchor| anchor.graph.elements(anchor.graph.output)).collect::<Vec<_>>();
        if outputs[0] != outputs[1] {
            let text = format!(
                "{} has {} outputs, {} has {}; a family answers one question",
                small.name, outputs[0], large.name, outputs[1]
            );
            problems.push((Some(index + 1), text));
        }
    }
    problems
}

fn check_skipped(config: &FamilyConfig, stages: &[Grid]) -> Option<Located> {
    let stage = config.stitching.skip_stages.iter().find(|&&stage| stage >= stages.len())?;
    let names: Vec<String> = stages.iter().enumerate().map(|(index, grid)| format!("{index} = {grid}")).collect();
    Some((None, format!("`stitching.skip-stages` names stage {stage}; there are {}", names.join(", "))))
}
