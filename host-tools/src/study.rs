//! What is known of every candidate of a family before any is chosen: stitching layers, activation ranges, the compiled
//! plans with their costs, and float and int8 accuracy on the ranking images.
//!
//! Everything that runs a network is recorded in [`Findings`], so that a later study of the same family need not run it
//! again and yields the same bytes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stitchkit_runtime::bundle::{AlignedBytes, Quant};

use crate::compile::{CompileError, Compiled, ExportOptions, compile, compile_calibrated};
use crate::export::{ExportError, Watch};
use crate::family::{Dataset, Family, TrainingImages};
use crate::infer::{self, Backend, InferError, Loaded};
use crate::quantize::{Calibration, pinned};
use crate::shard::Shard;
use crate::stitch::init::CrossingFit;
use crate::stitch::recalibrate::{ChannelNorm, Recalibration};
use crate::stitch::{AffineLayer, Candidate, Crossing, LayerSpec, Space, StitchingLayer, evaluate, trained};

/// Choices that a study depends on.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Ranges and golden vectors.
    pub options: ExportOptions,
    /// Noise that stitching layers must bear, see [`crate::stitch::init::least_squares`].
    pub stitch_noise: f64,
}

/// Results of everything that ran. Floats are kept as their bits, so that they survive any text form unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    layers: Vec<LayerBits>,
    fits: Vec<FitBits>,
    ranges: Vec<Vec<QuantBits>>,
    input_range: QuantBits,
    /// Right answers on the ranking images, float and int8, by candidate.
    correct: Vec<(usize, usize)>,
    search_images: usize,
}

/// Layer, crossing, and the bits of residual, residual of the layer, and similarity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FitBits {
    layer: usize,
    from: (usize, usize),
    to: (usize, usize),
    numbers: [u64; 3],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LayerBits {
    places: AffineBits,
    token: Option<AffineBits>,
    norms: Vec<NormBits>,
}

/// A batch norm behind a crossing: ends of the crossing, tensor, bits of factors and summands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct NormBits {
    from: (usize, usize),
    to: (usize, usize),
    tensor: String,
    scale: Vec<u32>,
    shift: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct AffineBits {
    down: Option<Vec<u32>>,
    weights: Vec<u32>,
    bias: Vec<u32>,
    in_channels: usize,
    out_channels: usize,
}

type QuantBits = (u32, i8);

/// All candidates of a list, compiled and ranked.
#[derive(Debug, Clone)]
pub struct Study {
    /// The candidates; [`Candidate::id`] is an index.
    pub candidates: Vec<Candidate>,
    /// Stitching layers of the whole space.
    pub layers: Vec<StitchingLayer>,
    /// How well the layers fit.
    pub fits: Vec<CrossingFit>,
    /// Plans of all candidates.
    pub compiled: Compiled,
    /// Float and int8 share of right answers on the ranking images, by candidate.
    pub accuracy: Vec<(f64, f64)>,
    /// Images that chose the ranges.
    pub calibration: Dataset,
    /// Images that ranked.
    pub search_images: usize,
    /// What a later study can start from.
    pub findings: Findings,
}

/// Studies `candidates`, whose layers are those of `space`, on training images. With `known` findings of the same study
/// nothing runs; findings that do not fit are ignored, whatever is wrong with them. Ids must be positions in the list.
///
/// # Errors
/// [`ExportError`] from whichever step failed.
pub fn study(
    family: &Family,
    space: &Space,
    candidates: &[Candidate],
    settings: Settings,
    known: Option<&Findings>,
    watch: Watch<'_>,
) -> Result<Study, ExportError> {
    let images = family.training_images()?;
    if let Some(found) = known.filter(|findings| findings.fit(space, candidates))
        && let Ok(study) = Study::recall(family, candidates, settings, found, &images.calibration)
    {
        return Ok(study);
    }
    run(family, space, candidates, settings, &images, watch)
}

/// [`study`] with a part of the ranking images, which the accuracies are then about; layers and ranges are the same in all parts.
///
/// # Errors
/// As [`study`].
pub fn study_part(
    family: &Family,
    space: &Space,
    settings: Settings,
    shard: Shard,
    watch: Watch<'_>,
) -> Result<Study, ExportError> {
    let mut images = family.training_images()?;
    images.search = shard.select_images(&images.search);
    run(family, space, &space.candidates, settings, &images, watch)
}

fn run(
    family: &Family,
    space: &Space,
    candidates: &[Candidate],
    settings: Settings,
    images: &TrainingImages,
    watch: Watch<'_>,
) -> Result<Study, ExportError> {
    let fitted = trained::layers(family, space, &images.calibration, settings.stitch_noise, &|done, all| {
        watch("fitting stitches", done, all)
    })?;
    let layers = fitted.layers;
    let float = evaluate::accuracy(family, candidates, &layers, &images.search, &|done, all| {
        watch("ranking, float", done, all);
    })?;
    let compiled = compile(family, candidates, &layers, &images.calibration, &settings.options)?;
    let int8 = int8_correct(&compiled, &images.search, "ranking, int8", watch)?;
    let int8_of = |id: u32| int8.iter().find(|(stitch, _)| *stitch == id).map_or(0, |(_, correct)| *correct);
    let findings = Findings {
        layers: layers.iter().map(LayerBits::of).collect(),
        fits: fitted.fits.iter().map(FitBits::of).collect(),
        ranges: compiled.ranges().quants.iter().map(|v| v.iter().map(|&q| quant_bits(q)).collect()).collect(),
        input_range: quant_bits(compiled.ranges().input),
        correct: candidates.iter().zip(&float).map(|(c, f)| (f.correct, int8_of(c.id))).collect(),
        search_images: images.search.len(),
    };
    Ok(Study::new(candidates, layers, compiled, findings, &images.calibration))
}

impl Findings {
    /// Right answers on the ranking images, float and int8, by candidate.
    #[must_use]
    pub fn correct(&self) -> &[(usize, usize)] {
        &self.correct
    }

    /// The same layers and ranges with other counts of right answers, float and int8, by candidate.
    #[must_use]
    pub fn with_counts(self, correct: Vec<(usize, usize)>, search_images: usize) -> Self {
        Self { correct, search_images, ..self }
    }

    /// Whether these findings have the extents of this space. They come from a file, which may hold anything.
    fn fit(&self, space: &Space, candidates: &[Candidate]) -> bool {
        let fits = |(layer, spec): (&LayerBits, &LayerSpec)| {
            layer.places.fits(spec, spec.rank)
                && layer.token.is_some() == spec.makes_token
                && layer.token.iter().all(|token| token.fits(spec, None))
                && layer.norms.iter().all(NormBits::fits)
        };
        let is_scale = |&(bits, _): &QuantBits| f32::from_bits(bits).is_normal() && f32::from_bits(bits) > 0.0;
        self.correct.len() == candidates.len()
            && is_scale(&self.input_range)
            && self.ranges.iter().flatten().all(is_scale)
            && self.layers.len() == space.layers.len()
            && self.layers.iter().zip(&space.layers).all(fits)
    }
}

impl Study {
    fn recall(
        family: &Family,
        candidates: &[Candidate],
        settings: Settings,
        found: &Findings,
        calibration: &Dataset,
    ) -> Result<Self, ExportError> {
        let layers: Vec<StitchingLayer> = found.layers.iter().map(LayerBits::layer).collect();
        let ranges = Calibration {
            quants: found.ranges.iter().map(|v| v.iter().map(|&q| quant_of(q)).collect()).collect(),
            input: quant_of(found.input_range),
            channels: pinned::channels(trained::file(family)?.as_ref().map(|(_, file)| file)),
        };
        let compiled = compile_calibrated(family, candidates, &layers, &ranges, calibration, &settings.options)?;
        Ok(Self::new(candidates, layers, compiled, found.clone(), calibration))
    }

    fn new(
        candidates: &[Candidate],
        layers: Vec<StitchingLayer>,
        compiled: Compiled,
        findings: Findings,
        calibration: &Dataset,
    ) -> Self {
        let share = |correct: usize| correct as f64 / findings.search_images.max(1) as f64;
        Self {
            candidates: candidates.to_vec(),
            layers,
            fits: findings.fits.iter().map(FitBits::fit).collect(),
            compiled,
            accuracy: findings.correct.iter().map(|&(float, int8)| (share(float), share(int8))).collect(),
            calibration: calibration.clone(),
            search_images: findings.search_images,
            findings,
        }
    }
}

#[cfg(test)]
impl Study {
    /// A study with made-up accuracies that rise with the candidate's id.
    pub(crate) fn for_tests(
        family: &Family,
        space: &Space,
        layers: Vec<StitchingLayer>,
        compiled: Compiled,
        calibration: Dataset,
    ) -> Self {
        assert_eq!(family.anchors.len(), space.candidates.iter().filter(|c| c.layers.is_empty()).count());
        let findings = Findings {
            layers: Vec::new(),
            fits: Vec::new(),
            ranges: Vec::new(),
            input_range: quant_bits(compiled.ranges().input),
            correct: (0..space.candidates.len()).map(|id| (id + 50, id + 50)).collect(),
            search_images: 1000,
        };
        Self::new(&space.candidates, layers, compiled, findings, &calibration)
    }
}

impl FitBits {
    fn of(fit: &CrossingFit) -> Self {
        let numbers = [fit.relative_residual, fit.layer_residual, fit.similarity].map(f64::to_bits);
        Self { layer: fit.layer, from: fit.crossing.from, to: fit.crossing.to, numbers }
    }

    fn fit(&self) -> CrossingFit {
        let [relative_residual, layer_residual, similarity] = self.numbers.map(f64::from_bits);
        let crossing = Crossing { from: self.from, to: self.to };
        CrossingFit { layer: self.layer, crossing, relative_residual, layer_residual, similarity }
    }
}

impl LayerBits {
    fn of(layer: &StitchingLayer) -> Self {
        let places = AffineBits::of(&layer.places);
        let norms = layer.norms.iter().flat_map(NormBits::of).collect();
        Self { places, token: layer.token.as_ref().map(AffineBits::of), norms }
    }

    fn layer(&self) -> StitchingLayer {
        let mut norms: Vec<Recalibration> = Vec::new();
        for bits in &self.norms {
            let crossing = Crossing { from: bits.from, to: bits.to };
            match norms.iter_mut().find(|known| known.crossing == crossing) {
                Some(known) => known.norms.push(bits.norm()),
                None => norms.push(Recalibration { crossing, norms: vec![bits.norm()] }),
            }
        }
        StitchingLayer { places: self.places.layer(), token: self.token.as_ref().map(AffineBits::layer), norms }
    }
}

impl NormBits {
    fn of(recalibration: &Recalibration) -> Vec<Self> {
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
        let Crossing { from, to } = recalibration.crossing;
        let of_norm = |norm: &ChannelNorm| Self {
            from,
            to,
            tensor: norm.tensor.clone(),
            scale: bits(&norm.scale),
            shift: bits(&norm.shift),
        };
        recalibration.norms.iter().map(of_norm).collect()
    }

    fn norm(&self) -> ChannelNorm {
        let floats = |bits: &[u32]| bits.iter().map(|&bits| f32::from_bits(bits)).collect();
        ChannelNorm { tensor: self.tensor.clone(), scale: floats(&self.scale), shift: floats(&self.shift) }
    }

    fn fits(&self) -> bool {
        let is_factor = |&bits: &u32| f32::from_bits(bits).is_normal() && f32::from_bits(bits) > 0.0;
        self.scale.len() == self.shift.len()
            && self.scale.iter().all(is_factor)
            && self.shift.iter().all(|&bits| f32::from_bits(bits).is_finite())
    }
}

impl AffineBits {
    fn of(layer: &AffineLayer) -> Self {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect();
        Self {
            down: layer.down.as_deref().map(bits),
            weights: bits(&layer.weights),
            bias: bits(&layer.bias),
            in_channels: layer.in_channels,
            out_channels: layer.out_channels,
        }
    }

    fn layer(&self) -> AffineLayer {
        let floats = |bits: &[u32]| bits.iter().map(|&b| f32::from_bits(b)).collect();
        AffineLayer {
            down: self.down.as_deref().map(floats),
            weights: floats(&self.weights),
            bias: floats(&self.bias),
            in_channels: self.in_channels,
            out_channels: self.out_channels,
        }
    }

    fn fits(&self, spec: &LayerSpec, rank: Option<usize>) -> bool {
        (self.in_channels, self.out_channels) == (spec.in_channels, spec.out_channels)
            && self.down.as_ref().map(Vec::len) == rank.map(|rank| rank * spec.in_channels)
            && self.weights.len() == rank.unwrap_or(spec.in_channels) * spec.out_channels
            && self.bias.len() == spec.out_channels
    }
}

fn quant_bits(quant: Quant) -> QuantBits {
    (quant.scale.to_bits(), quant.zero_point)
}

fn quant_of((scale, zero_point): QuantBits) -> Quant {
    Quant { scale: f32::from_bits(scale), zero_point }
}

/// Right answers of every plan of `compiled` in int8, by stitch id.
///
/// # Errors
/// [`ExportError`] if the bundle cannot be written or run.
pub fn int8_correct(
    compiled: &Compiled,
    images: &Dataset,
    stage: &'static str,
    watch: Watch<'_>,
) -> Result<Vec<(u32, usize)>, ExportError> {
    let answers = int8_answers(compiled, images, stage, watch)?;
    Ok(answers.iter().map(|(stitch, answers)| (*stitch, evaluate::equal(answers, &images.labels))).collect())
}

/// The class that every compiled plan says of every image, with the stitch id it came from.
///
/// # Errors
/// As [`int8_correct`].
pub fn int8_answers(
    compiled: &Compiled,
    images: &Dataset,
    stage: &'static str,
    watch: Watch<'_>,
) -> Result<Vec<(u32, Vec<u16>)>, ExportError> {
    let bytes = Arc::new(AlignedBytes::copy_of(&compiled.write().map_err(CompileError::from)?));
    let loaded = Loaded::new(&bytes).map_err(InferError::from)?;
    let inputs = infer::quantize_images(&loaded.bundle, &images.images)?;
    let all = u64::from(loaded.bundle.plan_count()) * images.len() as u64;
    let done = std::sync::atomic::AtomicU64::new(0);
    let progress = |n: u64| watch(stage, done.fetch_add(n, std::sync::atomic::Ordering::Relaxed) + n, all);
    let mut found = Vec::new();
    for (id, plan) in (0u16..).zip(&compiled.parts().plans) {
        found.push((plan.stitch, infer::answers(loaded, id, Backend::Kernels, &inputs, &progress)?));
    }
    Ok(found)
}
