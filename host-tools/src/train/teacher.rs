//! Networks that training learns from: their logits, and the features of the anchors as they were.

use super::TrainError;
use super::engine::{Options, Params, Program, Workspace};
use super::paths::ends;
use crate::family::{Cut, Family};
use crate::graph::{Batch, Graph, ValueId};
use crate::stitch::Candidate;

/// The network to learn from.
#[derive(Debug, Clone)]
pub struct Teacher {
    /// The network, weights loaded.
    pub graph: Graph,
    /// Its positions, from front to end; empty if only its answers are learned.
    pub cuts: Vec<Cut>,
}

/// A network that answers and is not trained.
#[derive(Debug)]
pub struct Frozen {
    program: Program,
    params: Params,
    workspace: Workspace,
}

impl Frozen {
    /// Compiles a graph that yields the given values.
    ///
    /// # Errors
    /// [`TrainError::Network`] if the graph cannot be compiled.
    pub fn new(graph: &Graph, taps: Vec<ValueId>) -> Result<Self, TrainError> {
        let mut params = Params::new();
        let program = Program::compile(graph, &mut params, &Options { taps, ..Options::default() })
            .map_err(|source| TrainError::Network { path: graph.name.clone(), source })?;
        Ok(Self { program, params, workspace: Workspace::new() })
    }

    /// The values for a batch of images.
    pub fn answer(&mut self, images: &Batch) -> Vec<Batch> {
        self.program.forward(&self.params, images, &mut self.workspace)
    }
}

/// A teacher of logits that also yields the given values.
///
/// # Errors
/// [`TrainError::Teacher`] when it does not take the family's images or does not give its classes.
pub fn teacher(family: &Family, graph: &Graph, values: &[ValueId]) -> Result<Frozen, TrainError> {
    let (anchor, wrong) =
        (&family.anchors[0].graph, |reason: String| TrainError::Teacher { name: graph.name.clone(), reason });
    if graph.input_shape != anchor.input_shape {
        return Err(wrong(format!(
            "it takes {:?}, the family's images are {:?}",
            graph.input_shape, anchor.input_shape
        )));
    }
    let (classes, wanted) = (graph.elements(graph.output), anchor.elements(anchor.output));
    if classes != wanted {
        return Err(wrong(format!("it gives {classes} outputs, the family has {wanted}")));
    }
    Frozen::new(graph, [&[ends(graph).0], values].concat())
}

/// What the anchors themselves have where a network has stitched features: at the entry of each later leg, and before the
/// classifier of the last one.
#[derive(Debug)]
pub struct FeatureTargets {
    anchors: Vec<Option<Frozen>>,
    /// For each anchor the values it yields.
    values: Vec<Vec<ValueId>>,
}

impl FeatureTargets {
    /// Targets for all networks of a space.
    ///
    /// # Errors
    /// [`TrainError::Network`] if an anchor cannot be compiled.
    pub fn new(family: &Family, candidates: &[Candidate]) -> Result<Self, TrainError> {
        let mut values: Vec<Vec<ValueId>> = vec![Vec::new(); family.anchors.len()];
        for (anchor, value) in candidates.iter().flat_map(|candidate| wanted(family, candidate)) {
            if !values[anchor].contains(&value) {
                values[anchor].push(value);
            }
        }
        let compile = |(anchor, values): (usize, &Vec<ValueId>)| match values.is_empty() {
            true => Ok(None),
            false => Frozen::new(&family.anchors[anchor].graph, values.clone()).map(Some),
        };
        let anchors = values.iter().enumerate().map(compile).collect::<Result<_, _>>()?;
        Ok(Self { anchors, values })
    }

    /// The features a network should have, in the order of its taps behind the logits.
    pub fn of(&mut self, family: &Family, candidate: &Candidate, images: &Batch) -> Vec<Batch> {
        let wanted = wanted(family, candidate);
        let mut answers: Vec<Option<Vec<Batch>>> = vec![None; self.anchors.len()];
        let mut features = Vec::new();
        for (anchor, value) in wanted {
            let Some(position) = self.values[anchor].iter().position(|&v| v == value) else { continue };
            if answers[anchor].is_none() {
                answers[anchor] = self.anchors[anchor].as_mut().map(|frozen| frozen.answer(images));
            }
            features.extend(answers[anchor].as_ref().map(|all| all[position].clone()));
        }
        features
    }
}

/// Anchors and values whose features a stitched network should reproduce.
fn wanted(family: &Family, candidate: &Candidate) -> Vec<(usize, ValueId)> {
    let entry = |leg: &crate::stitch::Leg| Some((leg.anchor, family.anchors[leg.anchor].cuts[leg.from?].value));
    let mut wanted: Vec<(usize, ValueId)> = candidate.legs.iter().skip(1).filter_map(entry).collect();
    let last = candidate.legs.last().map_or(0, |leg| leg.anchor);
    wanted.extend(ends(&family.anchors[last].graph).1.map(|value| (last, value)));
    wanted
}
