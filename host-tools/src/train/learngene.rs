//! Students that follow one large network inside ("Building Variable-sized Models via Learngene Pool", Shi et
//! al., AAAI 2024).
//!
//! At every position an affine map `M t + b` of the teacher's features (teacher channels to student channels, one map per
//! position, the same for every pixel or token) is learned together with the student's features `s`. The loss of a position
//! is the mean square of `M t + b - s`, in units of the variance that the student's features had before training.
//!
//! A step first maps the teacher's features, then trains the student towards the result, and last the map towards what the
//! student had in the same step: both gradients are those of one loss at one point.

use std::ops::Range;
use std::sync::Mutex;

use super::TrainError;
use super::engine::{Grads, Options, ParamId, Params, Program, Role, Workspace};
use super::loss::square_distance;
use super::positions::{Position, positions};
use super::settings::Learngene;
use super::teacher::{Frozen, Teacher, teacher};
use crate::family::{Dataset, Family};
use crate::graph::{Batch, Dense, Graph, Node, Op, ValueId, Weights};
use crate::safetensors::Tensors;
use crate::stitch::linalg::NormalEquations;

/// Images per forward pass where maps are fitted.
const BATCH_IMAGES: usize = 32;

/// Positions of every anchor of a family.
///
/// # Errors
/// [`TrainError::Teacher`] if an anchor shares no grid with the teacher.
pub fn positions_of(family: &Family, teacher: &Teacher, settings: Learngene) -> Result<Vec<Vec<Position>>, TrainError> {
    let space = family.config.stitching.space;
    let of_anchor = |anchor| positions(anchor, teacher, space, settings.positions);
    let wrong = |reason| TrainError::Teacher { name: teacher.graph.name.clone(), reason };
    family.anchors.iter().map(|anchor| of_anchor(anchor).map_err(wrong)).collect()
}

/// The map of one position.
#[derive(Debug)]
struct FeatureMap {
    /// `STUDENT@TENSOR`.
    name: String,
    /// Tensor of the teacher.
    source: String,
    /// Which of the teacher's answers it takes.
    answer: usize,
    program: Program,
    weights: ParamId,
    bias: ParamId,
    /// Channels taken and given.
    channels: [usize; 2],
    /// Of the student's features before training.
    variance: f64,
}

/// A teacher and the maps of its features for every student.
#[derive(Debug)]
pub struct FeatureMaps {
    teacher: Frozen,
    name: String,
    maps: Vec<Vec<FeatureMap>>,
}

/// What a student's features at one position should be, and what they were.
#[derive(Debug)]
pub struct MapTarget {
    /// The teacher's features, mapped.
    pub wanted: Batch,
    /// Weight of a square difference.
    pub weight: f64,
    seen: Mutex<Vec<f32>>,
}

impl MapTarget {
    /// Notes the student's features of some samples of the batch.
    pub fn saw(&self, samples: &Range<usize>, features: &[f32]) {
        let length = self.wanted.elements();
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen[samples.start * length..samples.end * length].copy_from_slice(features);
    }
}

impl FeatureMaps {
    /// Fits the maps to the students as they are by least squares on the given images, and adds them to the parameters.
    /// `noise` as [`NormalEquations::solve_with_noise`] takes it.
    ///
    /// # Errors
    /// [`TrainError::Teacher`] for a teacher that does not fit the family, [`TrainError::Network`] if a network cannot be
    /// compiled, [`TrainError::Weights`] if a map cannot be added.
    pub fn new(
        family: &Family,
        source: &Teacher,
        positions: &[Vec<Position>],
        images: &Dataset,
        noise: f64,
        params: &mut Params,
    ) -> Result<Self, TrainError> {
        let mut values: Vec<ValueId> = positions.iter().flatten().map(|position| position.teacher).collect();
        values.sort_unstable();
        values.dedup();
        let mut frozen = teacher(family, &source.graph, &values)?;
        let mut maps = Vec::new();
        for (anchor, positions) in family.anchors.iter().zip(positions) {
            let answers: Vec<usize> = positions
                .iter()
                .map(|position| 1 + values.partition_point(|&value| value < position.teacher))
                .collect();
            let equations = equations(family, &anchor.graph, positions, &answers, &mut frozen, images)?;
            let mut of_anchor = Vec::new();
            for ((position, &answer), equations) in positions.iter().zip(&answers).zip(&equations) {
                let name = format!("{}@{}", anchor.name, anchor.graph.tensor(position.student));
                let shapes = (source.graph.shape(position.teacher), anchor.graph.shape(position.student));
                let tensor = source.graph.tensor(position.teacher).to_owned();
                of_anchor.push(FeatureMap::new(name, tensor, answer, shapes, equations, noise, params)?);
            }
            maps.push(of_anchor);
        }
        Ok(Self { teacher: frozen, name: source.graph.name.clone(), maps })
    }

    /// The teacher's logits, then its features.
    pub fn answer(&mut self, images: &Batch) -> Vec<Batch> {
        self.teacher.answer(images)
    }

    /// What a student's features should be. `weight` is that of an image: positions share it.
    #[must_use]
    pub fn targets(
        &self,
        anchor: usize,
        answers: &[Batch],
        weight: f64,
        params: &Params,
        workspace: &mut Workspace,
    ) -> Vec<MapTarget> {
        let maps = &self.maps[anchor];
        let target = |map: &FeatureMap| {
            let wanted = map.program.forward(params, &answers[map.answer], workspace).swap_remove(0);
            let seen = Mutex::new(vec![0.0; wanted.data.len()]);
            let units = maps.len() as f64 * wanted.elements() as f64 * map.variance;
            MapTarget { weight: weight / units, wanted, seen }
        };
        maps.iter().map(target).collect()
    }

    /// Adds the gradients of a student's maps, once the student's step has noted its features.
    pub fn step(
        &self,
        anchor: usize,
        answers: &[Batch],
        targets: Vec<MapTarget>,
        params: &Params,
        workspace: &mut Workspace,
        grads: &mut Grads,
    ) {
        for (map, target) in self.maps[anchor].iter().zip(targets) {
            let (length, weight) = (target.wanted.elements(), target.weight);
            let seen = target.seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            let loss = |samples: Range<usize>, taps: &[&[f32]], seeds: &mut [Vec<f32>]| {
                let features = &seen[samples.start * length..samples.end * length];
                square_distance(taps[0], features, weight, &mut seeds[0])
            };
            map.program.step(params, &answers[map.answer], &loss, workspace, grads);
        }
    }

    /// The maps as a file: `STUDENT@TENSOR.weight` (`[student channels, teacher channels]`) and `.bias`; metadata name the
    /// teacher, and its tensor for each map.
    #[must_use]
    pub fn file(&self, params: &Params) -> Tensors {
        let mut file = Tensors::default();
        file.metadata.insert("teacher".into(), self.name.clone());
        for map in self.maps.iter().flatten() {
            let [inputs, outputs] = map.channels;
            file.insert(format!("{}.weight", map.name), vec![outputs, inputs], params.values(map.weights).to_vec());
            file.insert(format!("{}.bias", map.name), vec![outputs], params.values(map.bias).to_vec());
            file.metadata.insert(map.name.clone(), map.source.clone());
        }
        file
    }
}

impl FeatureMap {
    fn new(
        name: String,
        source: String,
        answer: usize,
        (from, to): (&[usize], &[usize]),
        equations: &NormalEquations,
        noise: f64,
        params: &mut Params,
    ) -> Result<Self, TrainError> {
        let channels = [from, to].map(|shape| shape.last().copied().unwrap_or(1));
        let fitted = equations.solve_with_noise(noise);
        let floats = |values: &[f64]| -> Weights { values.iter().map(|&value| value as f32).collect() };
        let (weights, bias) = (floats(&fitted.weights), floats(&fitted.bias));
        let mut add = |values: &Weights, part: &str, role, shape| {
            let failed = |reason| TrainError::Weights { name: name.clone(), reason };
            params.add(values, &format!("map/{name}.{part}"), role, shape).map_err(failed)
        };
        let weights_id = add(&weights, "weight", Role::Weights, vec![channels[1], channels[0]])?;
        let bias_id = add(&bias, "bias", Role::Bias, vec![channels[1]])?;
        let mut shape = from.to_vec();
        shape.pop();
        shape.push(channels[1]);
        let node = Node {
            name: name.clone(),
            tensor: name.clone(),
            operator: String::new(),
            op: Op::Dense(Dense { out_features: channels[1], weights, bias }),
            inputs: vec![ValueId::INPUT],
            shape,
        };
        let graph = Graph {
            name: name.clone(),
            input_tensor: source.clone(),
            input_shape: from.to_vec(),
            nodes: vec![node],
            output: ValueId(1),
            aliases: Vec::new(),
        };
        let program = Program::compile(&graph, params, &Options::default())
            .map_err(|source| TrainError::Network { path: name.clone(), source })?;
        let variance = equations.target_variance().max(f64::from(f32::MIN_POSITIVE));
        Ok(Self { name, source, answer, program, weights: weights_id, bias: bias_id, channels, variance })
    }
}

/// Least squares from the teacher's features to a student's, one system per position.
fn equations(
    family: &Family,
    student: &Graph,
    positions: &[Position],
    answers: &[usize],
    teacher: &mut Frozen,
    images: &Dataset,
) -> Result<Vec<NormalEquations>, TrainError> {
    let mut own = Frozen::new(student, positions.iter().map(|position| position.student).collect())?;
    let mut equations: Vec<Option<NormalEquations>> = vec![None; positions.len()];
    for start in (0..images.len()).step_by(BATCH_IMAGES) {
        let batch = images.batch(start..(start + BATCH_IMAGES).min(images.len()), &family.config.input);
        let (features, targets) = (teacher.answer(&batch), own.answer(&batch));
        for ((equations, &answer), target) in equations.iter_mut().zip(answers).zip(&targets) {
            let channels = |batch: &Batch| batch.shape.last().copied().unwrap_or(1);
            let new = || NormalEquations::new(channels(&features[answer]), channels(target));
            equations.get_or_insert_with(new).add(&features[answer].data, &target.data);
        }
    }
    let all: Option<Vec<NormalEquations>> = equations.into_iter().collect();
    all.ok_or(TrainError::Stitch(crate::stitch::StitchError::NoImages {
        task: "fitting the maps of the teacher's features",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stitch::testnet;
    use crate::train::settings::Positions;

    /// A student, its teacher and their maps; loss and gradients of one batch at the parameters' values.
    struct Case {
        params: Params,
        program: Program,
        maps: FeatureMaps,
        batch: Batch,
    }

    impl Case {
        fn new() -> Self {
            let family = testnet::family(&[3, 4], &[1, 2]);
            let images = testnet::images(6);
            let large = &family.anchors[1];
            let source = Teacher { graph: large.graph.clone(), cuts: large.cuts.clone() };
            let settings = Learngene { positions: Positions::All, weight: 1.0 };
            let positions = positions_of(&family, &source, settings).unwrap();
            assert_eq!(positions[0].len(), 3);
            let mut params = Params::new();
            let taps = positions[0].iter().map(|position| position.student).collect();
            let options = Options { taps, ..Options::default() };
            let program = Program::compile(&family.anchors[0].graph, &mut params, &options).unwrap();
            let maps = FeatureMaps::new(&family, &source, &positions, &images, 1e-3, &mut params).unwrap();
            let batch = images.batch(0..6, &family.config.input);
            Self { params, program, maps, batch }
        }

        fn step(&mut self, grads: &mut Grads) -> f64 {
            let mut workspace = Workspace::new();
            let answers = self.maps.answer(&self.batch);
            let targets = self.maps.targets(0, &answers, 1.0 / 6.0, &self.params, &mut workspace);
            let follow = |samples: Range<usize>, taps: &[&[f32]], seeds: &mut [Vec<f32>]| {
                let mut loss = 0.0;
                for ((target, tap), seed) in targets.iter().zip(taps).zip(seeds) {
                    target.saw(&samples, tap);
                    let length = target.wanted.elements();
                    let wanted = &target.wanted.data[samples.start * length..samples.end * length];
                    loss += square_distance(tap, wanted, target.weight, seed);
                }
                loss
            };
            let loss = self.program.step(&self.params, &self.batch, &follow, &mut workspace, grads);
            self.maps.step(0, &answers, targets, &self.params, &mut workspace, grads);
            loss
        }
    }

    #[test]
    fn gradients_of_maps_and_student_are_the_slopes_of_the_loss() {
        let mut case = Case::new();
        let mut grads = Grads::new(&case.params);
        case.step(&mut grads);
        let student = case.params.ids().next().unwrap();
        let map = &case.maps.maps[0][1];
        for id in [map.weights, map.bias, student] {
            for index in [0, 5] {
                let before = case.params.values(id)[index];
                let mut at = |h: f32| {
                    case.params.values_mut(id)[index] = before + h;
                    case.step(&mut Grads::new(&Params::new()))
                };
                let slope = (at(5e-3) - at(-5e-3)) / 1e-2;
                case.params.values_mut(id)[index] = before;
                let found = f64::from(grads.get(id)[index]);
                let name = &case.params.info(id).name;
                assert!((slope - found).abs() < 2e-3 * found.abs().max(0.05), "{name} {index}: {slope} {found}");
            }
        }
    }

    #[test]
    fn maps_start_from_least_squares_and_are_no_worse_than_a_constant() {
        let mut case = Case::new();
        let loss = case.step(&mut Grads::new(&Params::new()));
        assert!(loss > 0.0 && loss < 1.0, "{loss}");
        let file = case.maps.file(&case.params);
        assert_eq!(file.tensors["anchor0@block1.weight"].shape, [6, 6]);
        assert_eq!(file.metadata["anchor0@block2"], "block3");
    }
}
