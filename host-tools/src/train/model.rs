//! The networks of a space ready to be trained: shared parameters, a program for each network, and low-rank updates.

use std::collections::HashMap;

use super::TrainError;
use super::engine::{Grads, Options, ParamId, Params, Program, Role, Training};
use super::norms::AnchorNorms;
use super::optimizer::Rate;
use super::paths::{LayerConstants, MapConstants, Path};
use super::random::{Purpose, Random};
use super::rounding::Rounding;
use super::settings::{Settings, StitchBiases, Trained};
use crate::family::{Dataset, Family};
use crate::graph::{Graph, ValueId, Weights};
use crate::quantize::Writable;
use crate::safetensors::Tensors;
use crate::stitch::recalibrate::{self, crossing};
use crate::stitch::trained::{insert, insert_norms, key};
use crate::stitch::{Candidate, Crossing, Space, StitchingLayer, silent};

/// All parameters of a family, and the networks over them.
#[derive(Debug)]
pub struct Model {
    /// Values of all parameters.
    pub params: Params,
    /// One network for each candidate.
    pub networks: Vec<Network>,
    layers: Vec<LayerConstants>,
    updates: Vec<LowRank>,
    is_stitch: Vec<bool>,
    /// Batch norms of the anchors where they are trained.
    norms: Option<AnchorNorms>,
}

/// In which form networks compute while they are trained.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forms<'a> {
    /// Rounded as the bundle will be.
    pub rounding: Option<&'a Rounding>,
    /// Normalised with statistics of their own.
    pub norms: Option<&'a AnchorNorms>,
}

/// A family as training leaves it.
#[derive(Debug)]
pub struct Finished {
    /// The anchors as they are now.
    pub family: Family,
    /// The networks, with indices into `layers`.
    pub candidates: Vec<Candidate>,
    /// Stitching layers; layers with a bias for each crossing became several.
    pub layers: Vec<StitchingLayer>,
}

/// A network of the space.
#[derive(Debug)]
pub struct Network {
    /// The compiled graph. Taps: logits, then the result of each stitching layer, then what the classifier reads; the
    /// latter two only where features are matched. Last what follows a teacher, of anchors alone.
    pub program: Program,
    /// The graph it was compiled from.
    pub path: Path,
}

/// A frozen weight matrix with a trained update: `weights = base + b * a / rank`.
#[derive(Debug)]
struct LowRank {
    weights: ParamId,
    base: ParamId,
    /// `[rank][in]`.
    a: ParamId,
    /// `[out][rank]`.
    b: ParamId,
    rank: usize,
    channels: [usize; 2],
}

/// Whether losses look at features inside the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taps {
    /// Logits alone.
    Logits,
    /// Features at the cuts and before the classifier too.
    Features,
}

impl Model {
    /// Compiles the candidates of a space. `layers` are the values stitching layers start from; `followed` lists for each
    /// anchor the values that follow a teacher where the anchor runs alone.
    ///
    /// # Errors
    /// [`TrainError`] if an anchor cannot be cut or a network cannot be compiled.
    pub fn new(
        family: &Family,
        space: &Space,
        layers: &[StitchingLayer],
        settings: &Settings,
        followed: &[Vec<ValueId>],
        writable: Writable<'_>,
        forms: Forms<'_>,
    ) -> Result<Self, TrainError> {
        let mut model = Self {
            params: Params::new(),
            networks: Vec::new(),
            layers: LayerConstants::of_space(space, layers, settings.biases),
            updates: Vec::new(),
            is_stitch: Vec::new(),
            norms: forms.norms.cloned(),
        };
        model.add_anchors(family, settings.trained, writable)?;
        model.add_norms(family, settings.trained)?;
        model.is_stitch = vec![false; model.params.len()];
        model.add_layers(family, settings)?;
        let taps = if settings.distillation.features > 0.0 { Taps::Features } else { Taps::Logits };
        for candidate in &space.candidates {
            let followed = match candidate.legs[..] {
                [leg] => followed.get(leg.anchor).map_or(&[][..], Vec::as_slice),
                _ => &[],
            };
            model.compile(family, candidate, (taps, followed), forms.rounding, settings)?;
        }
        model.is_stitch.resize(model.params.len(), true);
        Ok(model)
    }

    fn add_anchors(&mut self, family: &Family, trained: Trained, writable: Writable<'_>) -> Result<(), TrainError> {
        for (index, anchor) in family.anchors.iter().enumerate() {
            self.params.add_graph(&anchor.graph)?;
            for (node, constant, weights) in constants(&anchor.graph) {
                let is_trained = matches!(trained, Trained::All | Trained::Anchors) && writable(index, node, constant);
                let Some(id) = self.params.find(weights) else { continue };
                self.params.set_training(id, if is_trained { Training::Trained } else { Training::Frozen });
            }
        }
        Ok(())
    }

    fn add_norms(&mut self, family: &Family, trained: Trained) -> Result<(), TrainError> {
        let trains = matches!(trained, Trained::All | Trained::Anchors);
        for (anchor, norms) in family.anchors.iter().zip(self.norms.clone().unwrap_or_default().of_anchors) {
            for (tensor, map) in norms {
                let name = format!("{}@{tensor}", anchor.name);
                self.add(&map.scale, &format!("{name}.scale"), Role::Bias, vec![map.scale.len()], trains)?;
                self.add(&map.shift, &format!("{name}.shift"), Role::Bias, vec![map.shift.len()], trains)?;
            }
        }
        Ok(())
    }

    fn add_layers(&mut self, family: &Family, settings: &Settings) -> Result<(), TrainError> {
        for (number, layer) in self.layers.clone().iter().enumerate() {
            for (part, map) in layer.maps() {
                let names: Vec<String> =
                    layer.uses.iter().map(|&usage| format!("{}{part}", key(family, usage))).collect();
                self.add_map(&names, map, number, settings)?;
            }
            let trains = matches!(settings.trained, Trained::All | Trained::Stitches);
            for (&usage, norms) in layer.uses.iter().zip(&layer.norms) {
                for (tensor, map) in norms {
                    let name = format!("{}:{tensor}", key(family, usage));
                    let shape = || vec![map.scale.len()];
                    self.add(&map.scale, &format!("{name}.scale"), Role::Bias, shape(), trains)?;
                    self.add(&map.shift, &format!("{name}.shift"), Role::Bias, shape(), trains)?;
                }
            }
        }
        Ok(())
    }

    /// Adds one map of a layer, whose uses have the given names.
    fn add_map(
        &mut self,
        names: &[String],
        map: &MapConstants,
        number: usize,
        settings: &Settings,
    ) -> Result<(), TrainError> {
        let [inputs, outputs] = map.channels;
        let name = &names[0];
        let trains_weights = settings.trained != Trained::Biases;
        if let Some((down, zeros)) = &map.down {
            let rank = zeros.len();
            self.add(down, &format!("{name}.down"), Role::Weights, vec![rank, inputs], trains_weights)?;
            self.add(zeros, &format!("{name}.down.bias"), Role::Bias, vec![rank], false)?;
        }
        let width = map.weights.len() / outputs.max(1);
        let shape = vec![outputs, width];
        let weights =
            self.add(&map.weights, &format!("{name}.weight"), Role::Weights, shape.clone(), trains_weights)?;
        for (name, bias) in names.iter().zip(&map.biases) {
            self.add(bias, &format!("{name}.bias"), Role::Bias, vec![outputs], true)?;
        }
        let rank = settings.rank.min(inputs).min(outputs);
        if rank == 0 || !trains_weights || map.down.is_some() {
            return Ok(());
        }
        let mut random = Random::new(settings.seed, Purpose::LowRank, number as u64);
        let reach = 1.0 / (inputs as f64).sqrt();
        let start: Vec<f32> = (0..rank * inputs).map(|_| ((2.0 * random.unit() - 1.0) * reach) as f32).collect();
        let base = self.add(&Weights::from(&map.weights[..]), &format!("{name}.base"), Role::Weights, shape, false)?;
        let a = self.add(&start.into(), &format!("{name}.a"), Role::Weights, vec![rank, inputs], true)?;
        let zeros = Weights::from(vec![0.0; outputs * rank]);
        let b = self.add(&zeros, &format!("{name}.b"), Role::Weights, vec![outputs, rank], true)?;
        self.updates.push(LowRank { weights, base, a, b, rank, channels: map.channels });
        Ok(())
    }

    fn add(
        &mut self,
        weights: &Weights,
        name: &str,
        role: Role,
        shape: Vec<usize>,
        is_trained: bool,
    ) -> Result<ParamId, TrainError> {
        let id = self
            .params
            .add(weights, name, role, shape)
            .map_err(|reason| TrainError::Weights { name: name.to_owned(), reason })?;
        self.params.set_training(id, if is_trained { Training::Trained } else { Training::Frozen });
        Ok(id)
    }

    fn compile(
        &mut self,
        family: &Family,
        candidate: &Candidate,
        (taps, followed): (Taps, &[ValueId]),
        rounding: Option<&Rounding>,
        settings: &Settings,
    ) -> Result<(), TrainError> {
        let path = Path::new(family, candidate, &self.layers, self.norms.as_ref())?;
        let rounded = rounding.map_or_else(Vec::new, |rounding| rounding.of_network(candidate.id as usize, &path));
        let mut taps = tapped(&path, taps);
        let anchor = &family.anchors[candidate.legs[0].anchor].graph;
        taps.extend(followed.iter().filter_map(|&value| same_value(anchor, value, &path.graph)));
        let (batch_norms, chunk_samples) = match self.norms {
            Some(_) => (path.maps(), Some(settings.norm_images)),
            None => (Vec::new(), None),
        };
        let options = Options { taps, fake_quant: rounded, batch_norms, chunk_samples };
        let program = Program::compile(&path.graph, &mut self.params, &options)
            .map_err(|source| TrainError::Network { path: candidate.path.clone(), source })?;
        self.networks.push(Network { program, path });
        Ok(())
    }

    /// Turns gradients of updated weight matrices into those of their updates.
    pub fn project(&self, grads: &mut Grads) {
        for update in &self.updates {
            let gradient = grads.get(update.weights).to_vec();
            if gradient.is_empty() {
                continue;
            }
            let [inputs, outputs] = update.channels;
            let (a, b) = (self.params.values(update.a), self.params.values(update.b));
            let (mut da, mut db) = (vec![0.0; a.len()], vec![0.0; b.len()]);
            let scale = 1.0 / update.rank as f32;
            for out in 0..outputs {
                let row = &gradient[out * inputs..(out + 1) * inputs];
                for r in 0..update.rank {
                    let (a_row, factor) = (&a[r * inputs..(r + 1) * inputs], scale * b[out * update.rank + r]);
                    db[out * update.rank + r] = scale * row.iter().zip(a_row).map(|(g, a)| g * a).sum::<f32>();
                    da[r * inputs..(r + 1) * inputs].iter_mut().zip(row).for_each(|(d, g)| *d += factor * g);
                }
            }
            grads.accumulate(update.a, &da);
            grads.accumulate(update.b, &db);
        }
    }

    /// Parameters to be updated from the touched ones: weight matrices with a low-rank update stay out.
    #[must_use]
    pub fn updated(&self, grads: &Grads) -> Vec<ParamId> {
        let is_base = |id: &ParamId| self.updates.iter().any(|update| update.weights == *id);
        grads.touched().filter(|id| !is_base(id)).collect()
    }

    /// Computes the weight matrices with low-rank updates anew.
    pub fn merge(&mut self) {
        for update in &self.updates {
            let [inputs, _] = update.channels;
            let mut weights = self.params.values(update.base).to_vec();
            let (a, b) = (self.params.values(update.a), self.params.values(update.b));
            let scale = 1.0 / update.rank as f32;
            for (row, factors) in weights.chunks_exact_mut(inputs).zip(b.chunks_exact(update.rank)) {
                for (a_row, factor) in a.chunks_exact(inputs).zip(factors) {
                    row.iter_mut().zip(a_row).for_each(|(w, a)| *w += scale * factor * a);
                }
            }
            self.params.values_mut(update.weights).copy_from_slice(&weights);
        }
    }

    /// Learning rate and decay of a parameter at a share of the largest rates. Parameters that were added later, as maps of
    /// a teacher's features are, learn as fast as stitching layers.
    #[must_use]
    pub fn rate(&self, id: ParamId, settings: &Settings, share: f64) -> Rate {
        let largest =
            if self.is_stitch.get(id.0).copied().unwrap_or(true) { settings.stitch_rate } else { settings.anchor_rate };
        let decays = self.params.info(id).role == Role::Weights;
        Rate { rate: (largest * share) as f32, decay: if decays { settings.decay as f32 } else { 0.0 } }
    }

    /// The family as it is now. Batch norms that are trained are folded into the anchors and measured anew behind crossings, on
    /// `images`.
    ///
    /// # Errors
    /// [`TrainError`] if an anchor cannot be cut.
    pub fn finished(&self, family: &Family, space: &Space, images: &Dataset) -> Result<Finished, TrainError> {
        let mut now = family.clone();
        now.anchors.iter_mut().for_each(|anchor| anchor.graph = self.params.export(&anchor.graph));
        let (candidates, mut layers) = self.stitching(space);
        let Some(norms) = &self.norms else { return Ok(Finished { family: now, candidates, layers }) };
        let batch = recalibrate::batch_of(family, images);
        for (index, anchor) in now.anchors.iter_mut().enumerate() {
            anchor.graph = norms.folded(index, &anchor.graph, &self.params, &batch);
        }
        layers.iter_mut().for_each(|layer| layer.norms.clear());
        let split = Space { candidates: candidates.clone(), ..space.clone() };
        recalibrate::fit(&now, &split, &mut layers, &|_| true, images, &silent)?;
        Ok(Finished { family: now, candidates, layers })
    }

    /// The stitching layer at a crossing, as it is now.
    fn layer_at(&self, layer: usize, usage: usize) -> StitchingLayer {
        let value = |weights: &Weights| {
            self.params.find(weights).map_or_else(|| weights.to_vec(), |id| self.params.values(id).to_vec())
        };
        self.layers[layer].at_use(usage, &value)
    }

    /// All stitching layers with the candidates that use them: layers with a bias for each crossing become several.
    fn stitching(&self, space: &Space) -> (Vec<Candidate>, Vec<StitchingLayer>) {
        let mut position: HashMap<(usize, Crossing), usize> = HashMap::new();
        let mut layers = Vec::new();
        for (index, constants) in self.layers.iter().enumerate() {
            for (usage, &crossing) in constants.uses.iter().enumerate() {
                position.insert((index, crossing), layers.len());
                layers.push(self.layer_at(index, usage));
            }
        }
        let mut candidates = space.candidates.clone();
        for candidate in &mut candidates {
            let crossings: Vec<Crossing> = candidate.legs.windows(2).map(|pair| crossing(pair[0], pair[1])).collect();
            for (layer, crossing) in candidate.layers.iter_mut().zip(crossings) {
                *layer = position[&(*layer, crossing)];
            }
        }
        (candidates, layers)
    }

    /// The stitching layers of a finished family as a file that [`crate::stitch::trained`] reads.
    #[must_use]
    pub fn layer_file(&self, finished: &Finished, biases: StitchBiases) -> Tensors {
        let mut file = Tensors::default();
        let mut layers = finished.layers.iter();
        for constants in &self.layers {
            let count = if biases == StitchBiases::PerCrossing { constants.uses.len() } else { 1 };
            for (usage, (&crossing, layer)) in constants.uses.iter().zip(layers.by_ref()).enumerate() {
                if usage < count {
                    insert(&mut file, &finished.family, crossing, layer);
                }
                insert_norms(&mut file, &finished.family, layer);
            }
        }
        file
    }
}

/// All constants of a graph with their node and their position in it.
pub fn constants(graph: &Graph) -> impl Iterator<Item = (usize, usize, &Weights)> {
    graph.nodes.iter().enumerate().flat_map(|(index, node)| {
        let of_node = node.op.constants().into_iter().enumerate();
        of_node.map(move |(constant, weights)| (index, constant, weights))
    })
}

/// The value of a graph in a copy of it in which nodes may have been dropped.
fn same_value(graph: &Graph, value: ValueId, copy: &Graph) -> Option<ValueId> {
    let node = graph.producer(value)?;
    let is_same = |other: &crate::graph::Node| {
        (&other.name, &other.tensor, &other.shape, other.op.name())
            == (&node.name, &node.tensor, &node.shape, node.op.name())
    };
    copy.nodes.iter().rposition(is_same).map(|index| ValueId(index + 1))
}

fn tapped(path: &Path, taps: Taps) -> Vec<ValueId> {
    let mut values = vec![path.logits];
    if taps == Taps::Features {
        values.extend(&path.stitched);
        values.extend(path.features);
    }
    values
}
