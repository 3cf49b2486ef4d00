//! Gradients of shipped networks and of a small vision transformer against samples of PyTorch's, see `tests/train-oracle.py`.

use std::path::{Path, PathBuf};

use super::{Loss, Options, compile_all_trained};
use crate::graph::{Batch, ValueId, forward, import};
use crate::train::engine::{Grads, Workspace};

/// The same fixed numbers as in the script.
fn pattern(index: usize) -> f32 {
    (index * 7919 % 2003) as f32 / 1001.5 - 1.0
}

struct Pattern;

impl Loss for Pattern {
    fn chunk(&self, samples: std::ops::Range<usize>, taps: &[&[f32]], seeds: &mut [Vec<f32>]) -> f64 {
        let width = taps[0].len() / samples.len();
        seeds[0].iter_mut().enumerate().for_each(|(i, seed)| *seed = pattern(samples.start * width + i));
        0.0
    }
}

fn path_of(model: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    match model.split('-').next() {
        Some("digits") => root.join("../models/digits").join(model),
        Some("resnet") => root.join("../models/cifar10-resnet/start").join(model),
        _ => root.join("src/train/engine/tests").join(model),
    }
}

#[test]
fn outputs_and_gradients_are_those_of_pytorch() {
    let stored: serde_json::Value = serde_json::from_str(include_str!("oracle.json")).unwrap();
    let models = stored.as_object().unwrap();
    assert!(models.len() >= 5, "both shipped families and the transformer");
    for (model, expected) in models {
        let graph = import(&path_of(model)).unwrap();
        let (params, program) = compile_all_trained(&graph, &Options::default());
        let data = (0..3 * graph.elements(ValueId::INPUT)).map(pattern).collect();
        let batch = Batch { n: 3, shape: graph.input_shape.clone(), data };
        let mut workspace = Workspace::new();
        let outputs = program.forward(&params, &batch, &mut workspace).remove(0);
        // Import compares the graph's own forward pass with tract.
        let own = forward(&graph, &batch);
        for ((output, own), torch) in outputs.data.iter().zip(&own.data).zip(expected["outputs"].as_array().unwrap()) {
            let torch = torch.as_f64().unwrap() as f32;
            assert!((output - own).abs() <= 1e-4 * (1.0 + own.abs()), "{model}: {output}, own {own}");
            assert!((output - torch).abs() <= 1e-4 * (1.0 + torch.abs()), "{model}: {output}, PyTorch {torch}");
        }
        let mut grads = Grads::new(&params);
        program.step(&params, &batch, &Pattern, &mut workspace, &mut grads);
        let gradients = expected["gradients"].as_object().unwrap();
        for (name, torch) in gradients {
            let id = params.ids().find(|&id| params.info(id).name == *name);
            let gradient = grads.get(id.unwrap_or_else(|| panic!("{model} has no {name}")));
            let (largest, step) = (torch["largest"].as_f64().unwrap(), torch["step"].as_u64().unwrap() as usize);
            for (i, sample) in torch["samples"].as_array().unwrap().iter().enumerate() {
                let (ours, theirs) = (f64::from(gradient[i * step]), sample.as_f64().unwrap());
                let error = (ours - theirs).abs() / largest.max(1e-6);
                assert!(error < 1e-3, "{model} {name}[{}]: {ours}, PyTorch {theirs}", i * step);
            }
        }
    }
}
