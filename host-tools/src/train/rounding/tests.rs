use std::path::Path as FilePath;
use std::sync::Arc;

use stitchkit_runtime::bundle::AlignedBytes;

use super::*;
use crate::compile::{ExportOptions, compile_calibrated};
use crate::graph::{Batch, forward};
use crate::infer::{Backend, Loaded, Runner, quantize_images};
use crate::quantize::equalized;
use crate::stitch::{Space, init::least_squares, silent, space};
use crate::train::engine::{Options as Compiling, Params, Program, Workspace};
use crate::train::paths::LayerConstants;
use crate::train::settings::StitchBiases;

/// A family with its space and stitching layers, as a run with rounding starts.
struct Start {
    family: Family,
    space: Space,
    layers: Vec<StitchingLayer>,
    images: Dataset,
}

impl Start {
    fn new(folder: &str) -> Self {
        let folder = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
        let family = equalized(&Family::load(&folder).unwrap(), &|_, _, _| true).unwrap();
        let space = space::enumerate(&family).unwrap();
        let images = family.training_images().unwrap().calibration;
        let layers = least_squares(&family, &space, &images, 0.001, &silent).unwrap().layers;
        Self { family, space, layers, images }
    }

    /// Logits of the first images from the int8 plans, as real numbers, by candidate.
    fn of_plans(&self, rounding: &Rounding, count: usize) -> Vec<Vec<f32>> {
        let (ranges, options) = (rounding.calibration(), ExportOptions::default());
        let candidates = &self.space.candidates;
        let compiled =
            compile_calibrated(&self.family, candidates, &self.layers, ranges, &self.images, &options).unwrap();
        let bytes = Arc::new(AlignedBytes::copy_of(&compiled.write().unwrap()));
        let loaded = Loaded::new(&bytes).unwrap();
        let pixels = self.family.config.input.pixels();
        let inputs = quantize_images(&loaded.bundle, &self.images.images[..count * pixels]).unwrap();
        let mut logits = vec![Vec::new(); candidates.len()];
        for (id, plan) in (0u16..).zip(&compiled.parts().plans) {
            let quant = loaded.bundle.plan(id).unwrap().output_quant;
            let mut runner = Runner::new(loaded, id, Backend::Kernels).unwrap();
            for input in inputs.chunks(pixels) {
                let output = runner.run(input).unwrap();
                let real = |&value: &i8| quant.scale * (i32::from(value) - i32::from(quant.zero_point)) as f32;
                logits[plan.stitch as usize].extend(output.iter().map(real));
            }
        }
        logits
    }

    fn batch(&self, count: usize) -> Batch {
        self.images.batch(0..count, &self.family.config.input)
    }
}

fn rms(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    (squares / a.len() as f64).sqrt()
}

/// Rounded networks are to be much nearer to the plans than the float ones: what is left is how sums and functions are rounded.
fn check(folder: &str, count: usize, most: f64) {
    let start = Start::new(folder);
    let rounding = Rounding::new(&start.family, &start.space.candidates, &start.layers, &start.images).unwrap();
    let plans = start.of_plans(&rounding, count);
    let constants = LayerConstants::of_space(&start.space, &start.layers, StitchBiases::Shared);
    let (mut params, mut workspace, batch) = (Params::new(), Workspace::new(), start.batch(count));
    for (candidate, plan) in start.space.candidates.iter().zip(&plans) {
        let path = Path::new(&start.family, candidate, &constants, None).unwrap();
        let fake_quant = rounding.of_network(candidate.id as usize, &path);
        let options = Compiling { taps: vec![path.logits], fake_quant, ..Compiling::default() };
        let program = Program::compile(&path.graph, &mut params, &options).unwrap();
        let rounded = program.forward(&params, &batch, &mut workspace).remove(0).data;
        let float = forward(&path.graph, &batch).data;
        let (now, before) = (rms(&rounded, plan), rms(&float, plan));
        assert!(now < most * before, "{}: {now} from the plan, unrounded {before}", candidate.path);
    }
}

#[test]
fn rounded_networks_of_convolutions_are_near_their_plans() {
    check("models/digits", 64, 0.5);
}

#[test]
fn rounded_transformers_are_near_their_plans() {
    check("tests/e2e/vit", 64, 0.75);
}

#[test]
fn equalizing_a_family_changes_constants_but_not_its_function() {
    let folder = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../tests/e2e/vit");
    let family = Family::load(&folder).unwrap();
    let batch = family.training_images().unwrap().calibration.batch(0..8, &family.config.input);
    let after = equalized(&family, &|_, _, _| true).unwrap();
    let frozen = equalized(&family, &|_, _, _| false).unwrap();
    for index in 0..family.anchors.len() {
        let graph = |family: &Family| family.anchors[index].graph.clone();
        let different = |other: &Family| {
            let constants = |graph: &Graph| {
                let all = graph.nodes.iter().flat_map(|node| node.op.constants());
                all.map(|constant| constant.to_vec()).collect::<Vec<_>>()
            };
            constants(&graph(&family)).iter().zip(&constants(&graph(other))).filter(|(a, b)| a != b).count()
        };
        // Each of three blocks: two norms with a layer behind each (three where they are apart), values and their projection.
        assert!(different(&after) >= 3 * 6, "{} constants", different(&after));
        assert_eq!(different(&frozen), 0, "what cannot be written back stays");
        let (before, after) = (forward(&graph(&family), &batch).data, forward(&graph(&after), &batch).data);
        let span = before.iter().fold(0f32, |most, value| most.max(value.abs()));
        assert!(rms(&before, &after) < 1e-5 * f64::from(span));
    }
}
