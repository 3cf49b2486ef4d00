//! Least-squares initialisation of stitching layers ("Stitchable Neural Networks", Pan et al., CVPR 2023): each crossing's
//! layer is the affine map that best turns the smaller anchor's features into those the larger anchor expects there.
//!
//! One forward pass of every anchor per batch serves all crossings; only sums are kept. Anchors run as deployed (batch
//! norms folded), where the published code left them in training mode.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::linalg::{AffineMap, NormalEquations};
use super::{Crossing, LayerSpec, Progress, Space, StitchError, StitchingLayer};
use crate::family::{Dataset, Family};
use crate::graph::{Batch, forward_keep};

/// Images per forward pass.
const BATCH_IMAGES: usize = 32;

/// Initial weights of all stitching layers of a space.
#[derive(Debug, Clone, PartialEq)]
pub struct Initialization {
    /// Layers by id.
    pub layers: Vec<StitchingLayer>,
    /// How well each crossing is served by a map of its own, in the order of layers and their uses.
    pub fits: Vec<CrossingFit>,
}

/// How well a least-squares map reproduces the larger anchor's features at one crossing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossingFit {
    /// Layer that serves the crossing.
    pub layer: usize,
    /// Where.
    pub crossing: Crossing,
    /// Norm of the error over the norm of the centred features: 0 is perfect, 1 no better than a constant.
    pub relative_residual: f64,
}

/// Solves all stitching layers of a space on the given images. A layer with several uses is the arithmetic mean of the
/// maps solved for each. `noise` is what quantization will add to the features it reads, as
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
    let mut jobs: Vec<Job> = space.layers.iter().flat_map(Job::of_layer).collect();
    let needed = needed_cuts(&jobs);
    for start in (0..images.len()).step_by(BATCH_IMAGES) {
        let range = start..(start + BATCH_IMAGES).min(images.len());
        let batch = images.batch(range.clone(), &family.config.input);
        let features = features(family, &needed, &batch);
        jobs.par_iter_mut().for_each(|job| {
            job.equations.add(&features[&job.crossing.from].data, &features[&job.crossing.to].data);
        });
        progress(range.end as u64, images.len() as u64);
    }
    let maps: Vec<AffineMap> = jobs.par_iter().map(|job| job.equations.solve_with_noise(noise)).collect();
    Ok(collect(space, &jobs, &maps))
}

/// The equations of one crossing.
struct Job {
    layer: usize,
    crossing: Crossing,
    equations: NormalEquations,
}

impl Job {
    fn of_layer(spec: &LayerSpec) -> impl Iterator<Item = Self> + '_ {
        spec.uses.iter().map(|&crossing| Self {
            layer: spec.id,
            crossing,
            equations: NormalEquations::new(spec.in_channels, spec.out_channels),
        })
    }
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

fn collect(space: &Space, jobs: &[Job], maps: &[AffineMap]) -> Initialization {
    let layers = space.layers.iter().map(|spec| {
        let own: Vec<&AffineMap> =
            jobs.iter().zip(maps).filter(|(job, _)| job.layer == spec.id).map(|(_, map)| map).collect();
        StitchingLayer {
            weights: mean(&own, |map| &map.weights),
            bias: mean(&own, |map| &map.bias),
            in_channels: spec.in_channels,
            out_channels: spec.out_channels,
        }
    });
    let fits = jobs.iter().zip(maps).map(|(job, map)| CrossingFit {
        layer: job.layer,
        crossing: job.crossing,
        relative_residual: map.relative_residual,
    });
    Initialization { layers: layers.collect(), fits: fits.collect() }
}

fn mean(maps: &[&AffineMap], part: impl Fn(&AffineMap) -> &Vec<f64>) -> Vec<f32> {
    let length = maps.first().map_or(0, |map| part(map).len());
    (0..length).map(|i| (maps.iter().map(|map| part(map)[i]).sum::<f64>() / maps.len() as f64) as f32).collect()
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
        assert_eq!(mean(&own, |map| &map.weights), [2.0, 4.0]);
        assert_eq!(mean(&own, |map| &map.bias), [2.0]);
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
