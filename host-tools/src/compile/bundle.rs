//! The whole way from chosen candidates to the parts of a bundle.

use rayon::prelude::*;
use stitchkit_runtime::bundle::write::{BlockParts, BundleParts, GoldenParts, PlanParts, write};
use stitchkit_runtime::bundle::{AlignedBytes, Bundle, BundleError, Quant, Step};
use stitchkit_runtime::exec::{ExecError, Executor};
use stitchkit_runtime::kernels::{Isa, Shape};

use super::filters::FilterOrder;
use super::memory::{self, Memories, MemoryError};
use super::merge::{Merged, merge};
use super::{cost, pool::Pool};
use crate::family::{Dataset, Family, InputConfig};
use crate::quantize::integer::{IntegerBlock, IntegerStep, flatten};
use crate::quantize::lower::{LowerError, lower, shape_of};
use crate::quantize::noise::{self, StepNoise, StepSource};
use crate::quantize::pieces::{Piece, Pieces};
use crate::quantize::scale::to_int8;
use crate::quantize::{Calibration, Options, calibrate, pinned};
use crate::stitch::{Candidate, StitchError, StitchingLayer, trained};

/// Choices of an export.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExportOptions {
    /// How activation ranges are chosen.
    pub quantization: Options,
    /// Calibration images stored with every plan's expected output.
    pub golden_inputs: usize,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { quantization: Options::default(), golden_inputs: 2 }
    }
}

/// Why no bundle came out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// An anchor cannot be cut where a candidate needs it.
    #[error(transparent)]
    Stitch(#[from] StitchError),
    /// A piece has no integer form.
    #[error("{piece}: no int8 form")]
    Lower {
        /// Anchor segment or stitching layer.
        piece: String,
        /// Why.
        source: LowerError,
    },
    /// A plan cannot be laid out in memory.
    #[error("plan `{path}`")]
    Memory {
        /// The plan.
        path: String,
        /// Why.
        source: MemoryError,
    },
    /// No plan was asked for, or none is left.
    #[error("a bundle needs at least one plan")]
    NoPlans,
    /// Ranges that were chosen for other candidates.
    #[error("the activation ranges belong to other candidates")]
    ForeignRanges,
    /// No calibration images were given.
    #[error("calibration needs at least one image")]
    NoCalibration,
    /// A plan computes nothing.
    #[error("plan `{path}` has no steps")]
    EmptyPlan {
        /// The plan.
        path: String,
    },
    /// Anchors give outputs of different shapes.
    #[error("plan `{path}` gives {found:?}, the first plan {expected:?}")]
    Outputs {
        /// The plan.
        path: String,
        /// Its output.
        found: Shape,
        /// The first plan's output.
        expected: Shape,
    },
    /// Too many blocks, steps or bytes for the format.
    #[error("{what}: {count}, the format holds at most {limit}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many would do.
        limit: usize,
    },
    /// The parts were refused by the reader.
    #[error("the bundle does not pass its own check")]
    Bundle(#[from] BundleError),
    /// A golden run failed.
    #[error("a golden vector could not be computed")]
    Golden(#[from] ExecError),
}

/// A compiled family: integer pieces with pinned scales, and the bundle made of them.
#[derive(Debug, Clone)]
pub struct Compiled {
    pieces: Pieces,
    /// One block per piece.
    blocks: Vec<IntegerBlock>,
    /// The candidates, in the order of the routes of `pieces`.
    candidates: Vec<Candidate>,
    /// The quantization of every value of every piece.
    ranges: Calibration,
    /// Routes of the plans, in the order of `parts.plans`.
    order: Vec<usize>,
    input: InputConfig,
    golden_inputs: Vec<Vec<i8>>,
    memories: Memories,
    /// The order of weights that was asked for, and the one that they have.
    filters: FilterOrder,
    stored_filters: FilterOrder,
    parts: BundleParts,
}

/// Quantizes the candidates with the float network's own weights and builds their bundle.
///
/// `layers` holds the stitching layers of the whole space, `calibration` the images that choose the ranges; ranges that the
/// family's file of trained layers pins are taken from there. Accuracies are
/// unknown (0) until [`Compiled::set_accuracy`].
///
/// # Errors
/// [`CompileError`] names the piece or plan that cannot be compiled.
pub fn compile(
    family: &Family,
    candidates: &[Candidate],
    layers: &[StitchingLayer],
    calibration: &Dataset,
    options: &ExportOptions,
) -> Result<Compiled, CompileError> {
    if calibration.is_empty() {
        return Err(CompileError::NoCalibration);
    }
    let trained = trained::file(family)?;
    let channels = pinned::channels(trained.as_ref().map(|(_, file)| file));
    let pieces = Pieces::new(family, candidates, layers, channels)?;
    let mut ranges = calibrate(&pieces, &family.config.input, &calibration.images, options.quantization);
    if let Some((path, file)) = trained {
        pinned::pin(&pieces, &mut ranges, &file).map_err(|reason| StitchError::Layers { path, reason })?;
    }
    build(family, candidates, pieces, ranges, calibration, options)
}

/// [`compile`] with ranges that [`Compiled::ranges`] gave for the same candidates and layers: nothing runs but the golden
/// vectors. `calibration` holds the images that become golden inputs.
///
/// # Errors
/// [`CompileError`] as [`compile`], and [`CompileError::ForeignRanges`] if the ranges belong to other candidates.
pub fn compile_calibrated(
    family: &Family,
    candidates: &[Candidate],
    layers: &[StitchingLayer],
    ranges: &Calibration,
    calibration: &Dataset,
    options: &ExportOptions,
) -> Result<Compiled, CompileError> {
    let pieces = Pieces::new(family, candidates, layers, ranges.channels)?;
    let fits = |(piece, quants): (&Piece, &Vec<Quant>)| quants.len() == piece.graph.nodes.len() + 1;
    if ranges.quants.len() != pieces.pieces.len() || !pieces.pieces.iter().zip(&ranges.quants).all(fits) {
        return Err(CompileError::ForeignRanges);
    }
    build(family, candidates, pieces, ranges.clone(), calibration, options)
}

fn build(
    family: &Family,
    candidates: &[Candidate],
    pieces: Pieces,
    ranges: Calibration,
    calibration: &Dataset,
    options: &ExportOptions,
) -> Result<Compiled, CompileError> {
    let input = &family.config.input;
    let blocks = lower_all(&pieces, &ranges)?;
    let input_lut = input_lut(input, ranges.input);
    let count = options.golden_inputs.min(calibration.len());
    let golden_inputs = (0..count).map(|i| quantize_pixels(&input_lut, calibration.image(i))).collect();
    let shape = shape_of("input", &input.shape)
        .map_err(|source| CompileError::Lower { piece: family.config.name.clone(), source })?;
    let parts = BundleParts {
        name: family.config.name.clone(),
        labels: family.config.labels.clone(),
        input: shape,
        input_quant: ranges.input,
        output: shape,
        blocks: Vec::new(),
        plans: Vec::new(),
        woven: Vec::new(),
        weights: Vec::new(),
        tables: Vec::new(),
        shifts: Vec::new(),
        input_lut,
        golden: None,
    };
    let mut compiled = Compiled {
        pieces,
        blocks,
        candidates: candidates.to_vec(),
        ranges,
        order: Vec::new(),
        input: input.clone(),
        golden_inputs,
        memories: Memories::ONE,
        filters: FilterOrder::default(),
        stored_filters: FilterOrder::default(),
        parts,
    };
    compiled.assemble()?;
    Ok(compiled)
}

fn lower_all(pieces: &Pieces, calibration: &Calibration) -> Result<Vec<IntegerBlock>, CompileError> {
    let lower_one = |(index, quants): (usize, &Vec<Quant>)| {
        let graph = &pieces.pieces[index].graph;
        lower(graph, index, quants).map_err(|source| CompileError::Lower { piece: graph.name.clone(), source })
    };
    calibration.quants.par_iter().enumerate().map(lower_one).collect()
}

/// For every channel 256 entries from pixel to int8.
fn input_lut(input: &InputConfig, quant: Quant) -> Vec<i8> {
    let channels = input.mean.iter().zip(&input.std);
    let entry = |pixel: u16, mean: f64, std: f64| to_int8(quant, (f64::from(pixel) * input.scale - mean) / std);
    channels.flat_map(|(&mean, &std)| (0..256).map(move |pixel| entry(pixel, mean, std))).collect()
}

/// Interleaved pixels to int8, as [`Bundle::quantize_pixels`] does it.
fn quantize_pixels(lut: &[i8], pixels: &[u8]) -> Vec<i8> {
    let channels = (lut.len() / 256).max(1);
    pixels.iter().enumerate().map(|(i, &pixel)| lut[i % channels * 256 + usize::from(pixel)]).collect()
}

impl Compiled {
    /// The bundle's parts.
    #[must_use]
    pub const fn parts(&self) -> &BundleParts {
        &self.parts
    }

    /// The quantization of every value of every piece; what [`compile_calibrated`] takes.
    #[must_use]
    pub const fn ranges(&self) -> &Calibration {
        &self.ranges
    }

    /// The parts plans are made of, their integer form at the same index, and each candidate's way through them.
    #[must_use]
    pub fn pieces(&self) -> (&Pieces, &[IntegerBlock]) {
        (&self.pieces, &self.blocks)
    }

    /// The candidates that are left, in the order of the routes of [`Self::pieces`].
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Lays out all plans, now and from now on, for boards with these memories. Results stay the same.
    ///
    /// # Errors
    /// [`CompileError`] if the bundle cannot be built again.
    pub fn lay_out_for(&mut self, memories: &Memories) -> Result<(), CompileError> {
        if *memories == self.memories {
            return Ok(());
        }
        self.memories = memories.clone();
        self.assemble()
    }

    /// Stores filters in this order, now and from now on. Results stay the same.
    ///
    /// # Errors
    /// [`CompileError`] if the bundle cannot be built again.
    pub fn order_filters(&mut self, filters: FilterOrder) -> Result<(), CompileError> {
        if filters == self.filters {
            return Ok(());
        }
        self.filters = filters;
        self.assemble()
    }

    /// The order that weights have: the one asked for where it is worth it.
    #[must_use]
    pub const fn stored_filters(&self) -> FilterOrder {
        self.stored_filters
    }

    /// Removes the golden vectors.
    ///
    /// # Errors
    /// [`CompileError`] if the bundle cannot be built again.
    pub fn drop_golden(&mut self) -> Result<(), CompileError> {
        self.golden_inputs.clear();
        self.assemble()
    }

    /// The bundle's bytes, checked as a reader checks them.
    ///
    /// # Errors
    /// [`BundleError`] if the parts break a rule of the format.
    pub fn write(&self) -> Result<Vec<u8>, BundleError> {
        write(&self.parts)
    }

    /// Sets the share of right answers of the plan of candidate `stitch`, int8 and float. False if there is no such plan.
    pub fn set_accuracy(&mut self, stitch: u32, int8_share: f64, float_share: f64) -> bool {
        let ppm = |share: f64| (share * 1e6).round().clamp(0.0, 1e6) as u32;
        let Some(plan) = self.parts.plans.iter_mut().find(|plan| plan.stitch == stitch) else { return false };
        (plan.accuracy_ppm, plan.float_accuracy_ppm) = (ppm(int8_share), ppm(float_share));
        true
    }

    /// Drops all plans but those of the candidates in `stitches`, and everything that only the dropped ones used. Scales
    /// stay pinned, so the remaining plans return the same bytes as before; accuracies are kept.
    ///
    /// # Errors
    /// [`CompileError::NoPlans`] if none is left.
    pub fn retain(&mut self, stitches: &[u32]) -> Result<(), CompileError> {
        let keep: Vec<bool> = self.candidates.iter().map(|c| stitches.contains(&c.id)).collect();
        let mut kept = keep.iter();
        self.candidates.retain(|_| kept.next() == Some(&true));
        let mut kept = keep.iter();
        self.pieces.routes.retain(|_| kept.next() == Some(&true));
        self.assemble()
    }

    /// Signal-to-noise ratio of every step of plan `plan` against the float network, on the first `images` of a data set.
    ///
    /// # Errors
    /// [`CompileError::Bundle`] or [`CompileError::Golden`] if the bundle cannot be run.
    pub fn noise(&self, plan: u16, dataset: &Dataset, images: usize) -> Result<Vec<StepNoise>, CompileError> {
        let bytes = AlignedBytes::copy_of(&self.write()?);
        let bundle = Bundle::parse(bytes.as_slice())?;
        let missing = ExecError::NoSuchPlan { plan, plans: bundle.plan_count() };
        let route = self.order.get(usize::from(plan)).map(|&r| &self.pieces.routes[r]).ok_or(missing)?;
        let sources: Vec<StepSource> = route
            .iter()
            .flat_map(|&piece| &self.blocks[piece].steps)
            .map(|s| StepSource { name: s.name.clone(), value: (s.piece, s.value), quant: s.quant })
            .collect();
        let pixels: Vec<&[u8]> = (0..images.min(dataset.len())).map(|i| dataset.image(i)).collect();
        let inputs: Vec<Vec<i8>> = pixels.iter().map(|p| quantize_pixels(&self.parts.input_lut, p)).collect();
        let floats: Vec<Vec<f32>> = pixels.iter().map(|p| self.input.normalize(p)).collect();
        Ok(noise::measure(&bundle, plan, route, &sources, &self.pieces, &inputs, &floats)?)
    }

    /// Builds blocks, constants, layouts and golden vectors from the pieces and the routes that are left.
    fn assemble(&mut self) -> Result<(), CompileError> {
        if self.candidates.is_empty() {
            return Err(CompileError::NoPlans);
        }
        let merged = merge(&self.blocks, &self.pieces.routes);
        let mut pool = Pool::default();
        let kernels = |&block: &usize| merged.blocks[block].steps.iter().map(|step| &step.kernel);
        let filters = self.filters.worth_it(merged.routes.iter().map(|route| route.iter().flat_map(kernels)));
        self.stored_filters = filters;
        let mut are_woven = Vec::new();
        self.parts.blocks =
            merged.blocks.iter().map(|block| block_parts(block, filters, &mut pool, &mut are_woven)).collect();
        self.parts.woven =
            (0..=u16::MAX).zip(are_woven).filter_map(|(step, is_woven)| is_woven.then_some(step)).collect();
        let plans: Vec<PlanParts> = self
            .candidates
            .par_iter()
            .zip(&merged.routes)
            .map(|(candidate, route)| self.plan_parts(candidate, route, &merged))
            .collect::<Result<_, _>>()?;
        self.parts.output = self.common_output(&merged)?;
        let mut order: Vec<usize> = (0..plans.len()).collect();
        order.sort_by_key(|&i| (plans[i].cost, plans[i].stitch));
        self.parts.plans = order.iter().map(|&i| plans[i].clone()).collect();
        self.order = order;
        (self.parts.weights, self.parts.tables, self.parts.shifts) = (pool.weights, pool.tables, pool.shifts);
        self.check_limits()?;
        self.parts.golden = None;
        self.parts.golden = self.golden()?;
        Ok(())
    }

    fn plan_parts(&self, candidate: &Candidate, route: &[usize], merged: &Merged) -> Result<PlanParts, CompileError> {
        let path = candidate.path.clone();
        let blocks: Vec<&IntegerBlock> = route.iter().map(|&b| &merged.blocks[b]).collect();
        let Some(last) = blocks.last() else { return Err(CompileError::EmptyPlan { path }) };
        let steps = flatten(blocks.iter().copied());
        let layout = memory::plan_in(&self.memories, self.parts.input.len() as u32, &steps)
            .map_err(|source| CompileError::Memory { path: path.clone(), source })?;
        let kernels = blocks.iter().flat_map(|b| &b.steps).map(|s| &s.kernel);
        let known = self.parts.plans.iter().find(|plan| plan.stitch == candidate.id);
        Ok(PlanParts {
            stitch: candidate.id,
            path,
            blocks: route.iter().map(|&b| b as u16).collect(),
            layout: layout.placements,
            input_offset: layout.input_offset,
            arena_bytes: layout.arena_bytes,
            arena_lower_bound_bytes: layout.lower_bound_bytes,
            macs: candidate.macs,
            params: candidate.params,
            cost: kernels.map(|kernel| cost::instructions(&cost::work(kernel, self.stored_filters))).sum(),
            accuracy_ppm: known.map_or(0, |plan| plan.accuracy_ppm),
            float_accuracy_ppm: known.map_or(0, |plan| plan.float_accuracy_ppm),
            output_quant: last.output_quant,
            fast_bytes: layout.fast_bytes,
        })
    }

    fn common_output(&self, merged: &Merged) -> Result<Shape, CompileError> {
        let output = |route: &Vec<usize>| route.last().map_or(self.parts.input, |&b| merged.blocks[b].output());
        let expected = merged.routes.first().map_or(self.parts.input, output);
        for (candidate, route) in self.candidates.iter().zip(&merged.routes) {
            let found = output(route);
            if found != expected {
                return Err(CompileError::Outputs { path: candidate.path.clone(), found, expected });
            }
        }
        Ok(expected)
    }

    fn check_limits(&self) -> Result<(), CompileError> {
        let steps = self.parts.blocks.iter().map(|b| b.steps.len()).sum();
        let counts = [
            ("blocks", self.parts.blocks.len(), usize::from(u16::MAX)),
            ("steps", steps, usize::from(u16::MAX)),
            ("plans", self.parts.plans.len(), usize::from(u16::MAX)),
            ("weight bytes", self.parts.weights.len(), 1 << 31),
            ("table entries", self.parts.tables.len(), 1 << 29),
        ];
        match counts.into_iter().find(|(_, count, limit)| count > limit) {
            None => Ok(()),
            Some((what, count, limit)) => Err(CompileError::TooMany { what, count, limit }),
        }
    }

    /// Runs every plan on the golden inputs with the scalar reference.
    fn golden(&self) -> Result<Option<GoldenParts>, CompileError> {
        if self.golden_inputs.is_empty() {
            return Ok(None);
        }
        let bytes = AlignedBytes::copy_of(&write(&self.parts)?);
        let bundle = Bundle::parse(bytes.as_slice())?;
        let outputs = (0..bundle.plan_count())
            .into_par_iter()
            .map(|plan| self.golden_inputs.iter().map(|input| reference_output(&bundle, plan, input)).collect())
            .collect::<Result<_, ExecError>>()?;
        Ok(Some(GoldenParts { inputs: self.golden_inputs.clone(), outputs }))
    }
}

fn reference_output(bundle: &Bundle<'_>, plan: u16, input: &[i8]) -> Result<Vec<i8>, ExecError> {
    let arena_bytes = bundle.plan(plan).map_or(0, |p| p.arena_bytes as usize);
    let mut arena = AlignedBytes::new(arena_bytes);
    let mut executor = Executor::with_isa(bundle, plan, arena.as_mut_slice(), Isa::Reference)?;
    executor.input()?.copy_from_slice(input);
    Ok(executor.run()?.to_vec())
}

/// The records of a block; appends to `are_woven` for each whether its filters are.
fn block_parts(block: &IntegerBlock, filters: FilterOrder, pool: &mut Pool, are_woven: &mut Vec<bool>) -> BlockParts {
    let mut record = |step: &IntegerStep| {
        let woven = filters.weights(&step.kernel);
        are_woven.push(woven.is_some());
        Step { inputs: step.inputs, op: pool.record(&step.kernel, woven.as_deref()) }
    };
    let steps = block.steps.iter().map(&mut record).collect();
    BlockParts { name: block.name.clone(), input: block.input, steps }
}
