//! Least-squares initialisation of stitching layers ("Stitchable Neural Networks", Pan et al., CVPR 2023): each crossing's
//! layer is the affine map that best turns the smaller anchor's features into those the larger anchor expects there.
//!
//! One forward pass of every anchor per batch serves all crossings; only sums are kept. Anchors run as deployed (batch
//! norms folded), where the published code left them in training mode.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rayon::prelude::*;

use super::adapter::{Adapter, Part};
use super::linalg::{AffineMap, Moments, NormalEquations};
use super::{AffineLayer, Crossing, LayerSpec, Progress, Space, StitchError, StitchingLayer};
use crate::family::{Dataset, Family, SharedLayers};
use crate::graph::{Batch, forward, forward_keep};

/// Images per forward pass.
const BATCH_IMAGES: usize = 32;

/// Initial weights of all stitching layers of a space.
#[derive(Debug, Clone, PartialEq)]
pub struct Initialization {
    /// Layers by id.
    pub layers: Vec<StitchingLayer>,
    /// How well each crossing is served, in the order of layers and their uses.
    pub fits: Vec<CrossingFit>,
}

/// How alike the features are that one crossing joins, and how well a map between them does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossingFit {
    /// Layer that serves the crossing.
    pub layer: usize,
    /// Where.
    pub crossing: Crossing,
    /// A map of its own: norm of the error over the norm of the centred features; 0 is perfect, 1 no better than a
    /// constant.
    pub relative_residual: f64,
    /// The same for the layer that serves it, which other crossings may share and which may be of low rank.
    pub layer_residual: f64,
    /// Linear CKA of the features left and those replaced, 0 to 1: alike but for a rotation and a factor.
    pub similarity: f64,
}

/// Solves all stitching layers of a space on the given images. A layer with several uses starts as the family's
/// [`SharedLayers`] says. `noise` is what quantization will add to the features it reads, as
/// [`NormalEquations::solve_with_noise`] takes it; 0 is plain least squares. `progress` counts images.
///
/// # Errors
/// [`StitchError::NoImages`] when there are none.
pub fn least_squares(
    family: &Family,
    space: &Space,
    images: &Dataset,
    noise: f64,
    progress: Progress<'_>,
) -> Result<Initialization, StitchError> {
    if images.is_empty() {
        return Err(StitchError::NoImages { task: "least-squares initialisation" });
    }
    let mut jobs: Vec<Job> = space.layers.iter().flat_map(|layer| Job::of_layer(family, layer)).collect();
    let needed = needed_cuts(&jobs);
    let mut targets: BTreeMap<Target, Moments> = jobs
        .iter()
        .filter(|job| job.part == Part::Places)
        .map(|job| (job.target(), Moments::new(job.channels.1)))
        .collect();
    for start in (0..images.len()).step_by(BATCH_IMAGES) {
        let range = start..(start + BATCH_IMAGES).min(images.len());
        let batch = images.batch(range.clone(), &family.config.input);
        let features = features(family, &needed, &batch);
        jobs.par_iter_mut().for_each(|job| job.add(&features));
        targets.par_iter_mut().for_each(|(target, moments)| moments.add(&rows_of(&features[&target.0], target.1)));
        progress(range.end as u64, images.len() as u64);
    }
    let maps: Vec<AffineMap> = jobs.par_iter().map(|job| job.equations.solve_with_noise(noise)).collect();
    let solved = Solved { jobs: &jobs, maps: &maps, noise, shared: family.config.stitching.shared_layers };
    let layers: Vec<(StitchingLayer, AffineMap)> = space.layers.par_iter().map(|spec| solved.layer(spec)).collect();
    let places = jobs.iter().zip(&maps).filter(|(job, _)| job.part == Part::Places);
    let fits = places.map(|(job, map)| CrossingFit {
        layer: job.layer,
        crossing: job.crossing,
        relative_residual: map.relative_residual,
        layer_residual: job.equations.residual_of(&layers[job.layer].1),
        similarity: job.equations.similarity(&targets[&job.target()]),
    });
    Ok(Initialization { fits: fits.collect(), layers: layers.into_iter().map(|(layer, _)| layer).collect() })
}

/// A cut, and the rows of its value in each image.
type Target = ((usize, usize), (usize, usize));

/// The equations of one map of one crossing.
struct Job {
    layer: usize,
    crossing: Crossing,
    part: Part,
    adapter: Adapter,
    /// Of the two cuts.
    channels: (usize, usize),
    equations: NormalEquations,
}

impl Job {
    fn of_layer(family: &Family, spec: &LayerSpec) -> Vec<Self> {
        let shape = |(anchor, cut): (usize, usize)| &family.anchors[anchor].cuts[cut].shape;
        let parts = if spec.makes_token { &[Part::Places, Part::Token][..] } else { &[Part::Places] };
        let of_use = |&crossing: &Crossing| {
            let adapter = Adapter::between(shape(crossing.from), shape(crossing.to))?;
            let channels = (spec.in_channels, spec.out_channels);
            let job = move |&part: &Part| Self {
                layer: spec.id,
                crossing,
                part,
                adapter: adapter.clone(),
                channels,
                equations: NormalEquations::new(channels.0, channels.1),
            };
            Some(parts.iter().map(job).collect::<Vec<_>>())
        };
        spec.uses.iter().filter_map(of_use).flatten().collect()
    }

    fn target(&self) -> Target {
        (self.crossing.to, self.rows())
    }

    /// First row of the entered value that the map has to give, and the one behind the last.
    fn rows(&self) -> (usize, usize) {
        let rows = self.adapter.target_rows(self.part);
        (rows.start, rows.end)
    }

    fn add(&mut self, features: &BTreeMap<(usize, usize), Batch>) {
        let (from, to) = (&features[&self.crossing.from], &features[&self.crossing.to]);
        if self.adapter.is_plain() {
            self.equations.add(&from.data, &to.data);
            return;
        }
        let inputs = forward(&self.adapter.inputs(self.part), from);
        self.equations.add(&inputs.data, &rows_of(to, self.rows()));
    }
}

/// The given rows (positions) of every sample.
fn rows_of(batch: &Batch, (start, end): (usize, usize)) -> Cow<'_, [f32]> {
    let channels = batch.shape.last().copied().unwrap_or(1);
    if (end - start) * channels == batch.elements() {
        return Cow::Borrowed(&batch.data);
    }
    let picked = |sample: usize| &batch.sample(sample)[start * channels..end * channels];
    Cow::Owned((0..batch.n).flat_map(picked).copied().collect())
}

/// Cuts whose values are needed, by anchor, in order.
fn needed_cuts(jobs: &[Job]) -> BTreeMap<usize, Vec<usize>> {
    let mut needed: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (anchor, cut) in jobs.iter().flat_map(|job| [job.crossing.from, job.crossing.to]) {
        needed.entry(anchor).or_default().push(cut);
    }
    for cuts in needed.values_mut() {
        cuts.sort_unstable();
        cuts.dedup();
    }
    needed
}

/// Values at the needed cuts by (anchor, cut).
fn features(family: &Family, needed: &BTreeMap<usize, Vec<usize>>, images: &Batch) -> BTreeMap<(usize, usize), Batch> {
    let mut all = BTreeMap::new();
    for (&index, cuts) in needed {
        let anchor = &family.anchors[index];
        let values: Vec<_> = cuts.iter().map(|&cut| anchor.cuts[cut].value).collect();
        let kept = forward_keep(&anchor.graph, images, &values);
        all.extend(cuts.iter().map(|&cut| (index, cut)).zip(kept));
    }
    all
}

/// Everything that layers are made from.
struct Solved<'a> {
    jobs: &'a [Job],
    maps: &'a [AffineMap],
    noise: f64,
    shared: SharedLayers,
}

impl Solved<'_> {
    /// A layer, and what it does at its places as one map.
    fn layer(&self, spec: &LayerSpec) -> (StitchingLayer, AffineMap) {
        let (map, equations) = self.map(spec.id, Part::Places);
        let places = match (spec.rank, &equations) {
            (Some(rank), Some(equations)) => {
                let (down, up) = equations.reduced(&map, rank);
                affine_layer(spec, &up, Some(down))
            }
            _ => affine_layer(spec, &map, None),
        };
        let token = spec.makes_token.then(|| affine_layer(spec, &self.map(spec.id, Part::Token).0, None));
        let whole = whole(&places, map);
        (StitchingLayer { places, token, norms: Vec::new() }, whole)
    }

    /// One map of a layer and the rows of all its uses.
    fn map(&self, layer: usize, part: Part) -> (AffineMap, Option<NormalEquations>) {
        let uses = || self.jobs.iter().zip(self.maps).filter(|(job, _)| job.layer == layer && job.part == part);
        let own: Vec<&AffineMap> = uses().map(|(_, map)| map).collect();
        let mut all: Option<NormalEquations> = None;
        for (job, _) in uses() {
            match &mut all {
                None => all = Some(job.equations.clone()),
                Some(sum) => sum.merge(&job.equations),
            }
        }
        let joint = all.as_ref().filter(|_| own.len() > 1 && self.shared == SharedLayers::Joint);
        let map = joint.map_or_else(|| mean_map(&own), |equations| equations.solve_with_noise(self.noise));
        (map, all)
    }
}

fn mean_map(maps: &[&AffineMap]) -> AffineMap {
    AffineMap {
        weights: mean(maps, |map| &map.weights),
        bias: mean(maps, |map| &map.bias),
        residual: 0.0,
        relative_residual: 0.0,
    }
}

fn mean(maps: &[&AffineMap], part: impl Fn(&AffineMap) -> &Vec<f64>) -> Vec<f64> {
    let length = maps.first().map_or(0, |map| part(map).len());
    (0..length).map(|i| maps.iter().map(|map| part(map)[i]).sum::<f64>() / maps.len() as f64).collect()
}

fn affine_layer(spec: &LayerSpec, map: &AffineMap, down: Option<Vec<f64>>) -> AffineLayer {
    let floats = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
    AffineLayer {
        down: down.as_deref().map(floats),
        weights: floats(&map.weights),
        bias: floats(&map.bias),
        in_channels: spec.in_channels,
        out_channels: spec.out_channels,
    }
}

/// A layer as one map; `full` is what it was made from.
fn whole(layer: &AffineLayer, full: AffineMap) -> AffineMap {
    let (Some(down), Some(rank)) = (&layer.down, layer.rank()) else { return full };
    let inputs = layer.in_channels;
    let weight = |out: usize, i: usize| {
        (0..rank).map(|k| f64::from(layer.weights[out * rank + k]) * f64::from(down[k * inputs + i])).sum::<f64>()
    };
    let weights = (0..layer.out_channels).flat_map(|out| (0..inputs).map(move |i| (out, i)));
    let weights = weights.map(|(out, i)| weight(out, i)).collect();
    AffineMap { weights, bias: layer.bias.iter().map(|&bias| f64::from(bias)).collect(), ..full }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stitch::evaluate::Runner;
    use crate::stitch::{silent, space, testnet};

    #[test]
    fn a_shared_layer_is_the_mean_of_its_maps() {
        let maps: Vec<AffineMap> = [[1.0, 2.0], [3.0, 6.0]]
            .map(|w| AffineMap { weights: w.to_vec(), bias: vec![w[0]], residual: 0.0, relative_residual: 0.0 })
            .to_vec();
        let own: Vec<&AffineMap> = maps.iter().collect();
        let mean = mean_map(&own);
        assert_eq!((mean.weights, mean.bias), (vec![2.0, 4.0], vec![2.0]));
    }

    #[test]
    fn a_joint_layer_serves_its_positions_better_than_the_mean_and_a_low_rank_worse_than_the_full() {
        let fitted = |change: &dyn Fn(&mut crate::family::StitchingConfig)| {
            let mut family = testnet::family(&[4, 4], &[7, 8]);
            change(&mut family.config.stitching);
            let space = space::enumerate(&family).unwrap();
            assert_eq!(space.layers.iter().any(|layer| layer.uses.len() > 1), family.config.stitching.kernel > 2);
            let initial = least_squares(&family, &space, &testnet::images(24), 0.0, &silent).unwrap();
            assert!(initial.fits.iter().all(|fit| fit.layer_residual >= fit.relative_residual - 1e-9));
            assert!(initial.fits.iter().all(|fit| (0.0..=1.0).contains(&fit.similarity)));
            let sum = initial.fits.iter().map(|fit| fit.layer_residual.powi(2)).sum::<f64>();
            (sum, initial, family, space)
        };
        let kernel = |config: &mut crate::family::StitchingConfig| config.kernel = 3;
        let joint = |config: &mut crate::family::StitchingConfig| {
            (config.kernel, config.shared_layers) = (3, SharedLayers::Joint);
        };
        let (mean, joint) = (fitted(&kernel).0, fitted(&joint).0);
        assert!(joint < mean, "{joint} is not below {mean}");
        let low = |config: &mut crate::family::StitchingConfig| config.rank = Some(2);
        let (reduced, initial, family, space) = fitted(&low);
        assert!(reduced > fitted(&|_| ()).0);
        // Six channels each: two layers of 2 * 12 weights instead of 36.
        assert!(initial.layers.iter().all(|layer| layer.places.rank() == Some(2) && layer.places.weights.len() == 12));
        let full = space::enumerate(&testnet::family(&[4, 4], &[7, 8])).unwrap();
        assert_eq!(full.candidates[2].params - space.candidates[2].params, 36 - 24);
        assert_eq!(full.candidates[2].macs - space.candidates[2].macs, 16 * (36 - 24));
        let logits = Runner::new(&family, &space.candidates, &initial.layers).unwrap();
        assert!(
            logits.logits(&testnet::images(2).batch(0..2, &family.config.input))[2].data.iter().all(|v| v.is_finite())
        );
    }

    #[test]
    fn anchors_of_different_grids_are_joined_by_an_adapter_that_is_counted_and_run() {
        let stitched = |adapters| {
            let family = testnet::chains(&[&[(4, 2, 2)], &[(8, 2, 1), (2, 4, 2)]], |config| {
                config.stitching.adapters = adapters;
            });
            let family = family.unwrap();
            let space = space::enumerate(&family);
            (family, space)
        };
        let refused = stitched(crate::family::Adapters::None).1.unwrap_err().to_string();
        assert!(refused.contains("adapters = true") && refused.contains("resamples"), "{refused}");
        let (family, space) = stitched(crate::family::Adapters::Allowed);
        let space = space.unwrap();
        assert!(space.candidates.len() > 2, "{:?}", space.candidates);
        let mut images = testnet::images(24 * 4);
        (images.shape, images.labels) = ([8, 8, 3], vec![0; 24]);
        let initial = least_squares(&family, &space, &images, 0.0, &silent).unwrap();
        assert!(initial.fits.iter().all(|fit| fit.relative_residual < 1.0), "{:?}", initial.fits);
        let logits = Runner::new(&family, &space.candidates, &initial.layers).unwrap();
        let logits = logits.logits(&images.batch(0..24, &family.config.input));
        assert!(logits.iter().flat_map(|batch| &batch.data).all(|value| value.is_finite()));
    }

    #[test]
    fn an_anchor_stitched_to_its_own_copy_keeps_its_logits() {
        let family = testnet::family(&[4, 4], &[7, 7]);
        let space = space::enumerate(&family).unwrap();
        let images = testnet::images(24);
        let initial = least_squares(&family, &space, &images, 0.0, &silent).unwrap();
        assert!(initial.fits.iter().all(|fit| fit.relative_residual < 1e-5), "{:?}", initial.fits);
        let logits = Runner::new(&family, &space.candidates, &initial.layers).unwrap();
        let logits = logits.logits(&images.batch(0..images.len(), &family.config.input));
        assert!(space.candidates.len() > 2);
        let size = logits[0].data.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for (candidate, stitched) in space.candidates.iter().zip(&logits) {
            for (a, b) in logits[0].data.iter().zip(&stitched.data) {
                assert!((a - b).abs() <= 1e-4 * size, "{}: {a} is not {b}", candidate.path);
            }
        }
    }

    #[test]
    fn different_anchors_leave_a_residual() {
        let family = testnet::family(&[4, 4], &[7, 8]);
        let space = space::enumerate(&family).unwrap();
        let initial = least_squares(&family, &space, &testnet::images(24), 0.0, &silent).unwrap();
        assert!(initial.fits.iter().all(|fit| fit.relative_residual > 1e-2), "{:?}", initial.fits);
    }

    #[test]
    fn no_images_is_an_error() {
        let family = testnet::family(&[2, 2], &[7, 7]);
        let space = space::enumerate(&family).unwrap();
        let error = least_squares(&family, &space, &testnet::images(0), 0.0, &silent).unwrap_err();
        assert!(matches!(error, StitchError::NoImages { .. }));
    }
}
