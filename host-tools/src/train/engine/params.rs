//! Parameters and their gradients.

use std::collections::HashMap;

use crate::graph::{Graph, Op, Weights};

/// A parameter of a [`Params`] store: its position there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamId(pub usize);

/// What a parameter does in its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// OHWI weights of a convolution or `[out][in]` weights of a fully connected layer.
    Weights,
    /// Bias of either.
    Bias,
    /// Factors per channel of an affine map or a layer norm.
    Scale,
    /// Summands per channel of an affine map or a layer norm.
    Shift,
    /// A tensor of its own: class token, position embedding, constant operand.
    Constant,
}

/// Whether a parameter gets a gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Training {
    /// It does.
    Trained,
    /// It keeps its values; nothing is propagated to it.
    Frozen,
}

/// What is known of a parameter besides its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamInfo {
    /// `graph/node.role` of the first graph that brought it, e.g. `resnet-8/conv1.weights`; unique in the store.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Extents as the graph stores them: OHWI, `[out, in]`, `[channels]`, or the constant's per-sample shape.
    pub shape: Vec<usize>,
    /// Whether it gets a gradient. Fillers that the source file does not hold and single numbers start frozen, all others trained.
    pub training: Training,
}

/// All parameters of a family, each once however many plans use it.
#[derive(Debug, Default)]
pub struct Params {
    entries: Vec<Entry>,
    by_identity: HashMap<usize, ParamId>,
    names: HashMap<String, usize>,
}

#[derive(Debug)]
struct Entry {
    info: ParamInfo,
    values: Vec<f32>,
    /// Keeps the constant alive, so that its identity is not given to another one.
    source: Weights,
}

impl Params {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of parameters; ids are `0 .. len`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All ids in order.
    pub fn ids(&self) -> impl Iterator<Item = ParamId> + use<> {
        (0..self.entries.len()).map(ParamId)
    }

    /// Adds all constants of a graph that are not there yet. [`Program::compile`](super::Program::compile) does so too; adding the
    /// anchors first gives parameters the anchors' names.
    ///
    /// # Errors
    /// [`EngineError::Weights`](super::EngineError::Weights) if a constant cannot be read.
    pub fn add_graph(&mut self, graph: &Graph) -> Result<(), super::EngineError> {
        for node in &graph.nodes {
            for (weights, (role, shape)) in node.op.constants().into_iter().zip(roles(&node.op, &node.shape)) {
                let name = format!("{}/{}.{}", graph.name, node.name, role.name());
                self.add(weights, &name, role, shape)
                    .map_err(|reason| super::EngineError::Weights { node: node.name.clone(), reason })?;
            }
        }
        Ok(())
    }

    /// Adds one constant, or finds it if it is there. A name that another parameter has gets a number appended.
    ///
    /// # Errors
    /// Why its values cannot be read, in words.
    pub fn add(&mut self, weights: &Weights, name: &str, role: Role, shape: Vec<usize>) -> Result<ParamId, String> {
        if let Some(id) = self.find(weights) {
            return Ok(id);
        }
        let values = weights.load()?.to_vec();
        let count = self.names.entry(name.to_owned()).or_default();
        *count += 1;
        let name = if *count == 1 { name.to_owned() } else { format!("{name}#{count}") };
        let frozen = weights.origin.is_absent || weights.len() == 1 && role == Role::Constant;
        let training = if frozen { Training::Frozen } else { Training::Trained };
        let id = ParamId(self.entries.len());
        self.by_identity.insert(weights.identity(), id);
        let info = ParamInfo { name, role, shape, training };
        self.entries.push(Entry { info, values, source: weights.clone() });
        Ok(id)
    }

    /// The parameter that stands for a graph's constant.
    #[must_use]
    pub fn find(&self, weights: &Weights) -> Option<ParamId> {
        self.by_identity.get(&weights.identity()).copied()
    }

    /// The parameters of a graph that are in the store, in the order of its nodes, each once.
    #[must_use]
    pub fn of_graph(&self, graph: &Graph) -> Vec<ParamId> {
        let mut ids = Vec::new();
        for id in graph.nodes.iter().flat_map(|node| node.op.constants()).filter_map(|weights| self.find(weights)) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    /// Name, role, shape and training of a parameter.
    #[must_use]
    pub fn info(&self, id: ParamId) -> &ParamInfo {
        &self.entries[id.0].info
    }

    /// Freezes a parameter or trains it. Programs compiled before keep what they were compiled with.
    pub fn set_training(&mut self, id: ParamId, training: Training) {
        self.entries[id.0].info.training = training;
    }

    /// Values of a parameter, in the graph's order.
    #[must_use]
    pub fn values(&self, id: ParamId) -> &[f32] {
        &self.entries[id.0].values
    }

    /// Values of a parameter, to be updated in place.
    pub fn values_mut(&mut self, id: ParamId) -> &mut [f32] {
        &mut self.entries[id.0].values
    }

    /// The graph with the values of this store in place of its own; constants that are not in the store stay as they are.
    /// The new constants are new identities: keep the original graph for compiling further programs.
    #[must_use]
    pub fn export(&self, graph: &Graph) -> Graph {
        let mut graph = graph.clone();
        for weights in graph.nodes.iter_mut().flat_map(|node| node.op.constants_mut()) {
            if let Some(id) = self.find(weights) {
                *weights = Weights::from(self.values(id)).with_origin(self.entries[id.0].source.origin);
            }
        }
        graph
    }
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Bias => "bias",
            Self::Scale => "scale",
            Self::Shift => "shift",
            Self::Constant => "constant",
        }
    }
}

/// Role and shape of each of an operator's constants, in the order of [`Op::constants`].
fn roles(op: &Op, shape: &[usize]) -> Vec<(Role, Vec<usize>)> {
    let vector = |role, weights: &Weights| (role, vec![weights.len()]);
    match op {
        Op::Conv(conv) => {
            let [rows, columns] = conv.window.kernel;
            let depth = conv.weights.len() / (conv.out_channels * rows * columns).max(1);
            vec![(Role::Weights, vec![conv.out_channels, rows, columns, depth]), vector(Role::Bias, &conv.bias)]
        }
        Op::Dense(dense) => {
            let depth = dense.weights.len() / dense.out_features.max(1);
            vec![(Role::Weights, vec![dense.out_features, depth]), vector(Role::Bias, &dense.bias)]
        }
        Op::Affine(map) | Op::LayerNorm { affine: map, .. } => {
            vec![vector(Role::Scale, &map.scale), vector(Role::Shift, &map.shift)]
        }
        Op::Constant(_) => vec![(Role::Constant, shape.to_vec())],
        _ => Vec::new(),
    }
}

/// Sums of gradients, one per parameter that got any.
#[derive(Debug, Default)]
pub struct Grads {
    sums: Vec<Option<Vec<f32>>>,
    touched: Vec<bool>,
}

impl Grads {
    /// Gradients of a store's parameters, all zero and untouched. Parameters added to the store later are covered too.
    #[must_use]
    pub fn new(params: &Params) -> Self {
        Self { sums: vec![None; params.len()], touched: vec![false; params.len()] }
    }

    /// Forgets all sums; their memory is kept.
    pub fn clear(&mut self) {
        self.touched.fill(false);
    }

    /// Parameters that got a gradient since [`clear`](Self::clear), in order.
    pub fn touched(&self) -> impl Iterator<Item = ParamId> + '_ {
        self.touched.iter().enumerate().filter(|(_, touched)| **touched).map(|(i, _)| ParamId(i))
    }

    /// Sum of a parameter's gradients, in the order of its values; empty if it got none.
    #[must_use]
    pub fn get(&self, id: ParamId) -> &[f32] {
        match self.sums.get(id.0) {
            Some(Some(sum)) if self.touched[id.0] => sum,
            _ => &[],
        }
    }

    /// As [`get`](Self::get), to be scaled or clipped in place.
    pub fn get_mut(&mut self, id: ParamId) -> &mut [f32] {
        match self.sums.get_mut(id.0) {
            Some(Some(sum)) if self.touched[id.0] => sum,
            _ => &mut [],
        }
    }

    /// Adds to a parameter's gradient: weight decay towards a reference, penalties, gradients from elsewhere.
    pub fn accumulate(&mut self, id: ParamId, gradient: &[f32]) {
        if self.sums.len() <= id.0 {
            self.sums.resize(id.0 + 1, None);
            self.touched.resize(id.0 + 1, false);
        }
        let sum = self.sums[id.0].get_or_insert_with(|| vec![0.0; gradient.len()]);
        if self.touched[id.0] {
            sum.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
        } else {
            sum.copy_from_slice(gradient);
            self.touched[id.0] = true;
        }
    }
}
