//! Networks of the shapes that MLPerf Tiny measures, with random weights, made by the exporter as any family is: calibrated on
//! random images, quantized, laid out in memory.
//!
//! What they answer means nothing; what they cost is what a trained network of the shape costs, whose every
//! multiply-accumulate is done whatever the weights are.

mod draft;

use stitchkit_runtime::bundle::write::write;

use crate::compile::filters::FilterOrder;
use crate::compile::memory::Memories;
use crate::compile::{CompileError, ExportOptions, compile};
use crate::family::{
    Adapters, AnchorConfig, AnchorPairs, Cuts, Dataset, Directions, Family, FamilyConfig, Filter, FinalNorm,
    InputConfig, LayerIds, Layout, Norms, SharedLayers, SpaceKind, StageExits, StitchingConfig, TrainingConfig,
};
use crate::graph::Graph;
use crate::stitch::{Candidate, Leg};
use draft::Draft;

/// A network that can be counted without a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum Model {
    /// Image classification: ResNet-8 over 32x32x3, 10 classes.
    ResNet8,
    /// Keyword spotting: DS-CNN over 49x10 features, 12 classes.
    DsCnn,
    /// Visual wake words: MobileNetV1 of a quarter of the width over 96x96x3, 2 classes.
    MobileNetV1,
    /// Anomaly detection: fully connected autoencoder over 640 features.
    Autoencoder,
}

impl Model {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::ResNet8, Self::DsCnn, Self::MobileNetV1, Self::Autoencoder];

    /// Name on the command line and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ResNet8 => "resnet8",
            Self::DsCnn => "dscnn",
            Self::MobileNetV1 => "mobilenetv1",
            Self::Autoencoder => "autoencoder",
        }
    }

    /// A bundle of one plan, without golden vectors and pixel tables. The same on every call and, but for the last bits of
    /// scales, on every machine.
    ///
    /// # Errors
    /// [`CompileError`] if the exporter refuses a step, which would be a fault of this program.
    pub fn bundle(self) -> Result<Vec<u8>, CompileError> {
        self.bundle_for(&Memories::ONE, FilterOrder::Apart)
    }

    /// As [`bundle`](Self::bundle), laid out for these memories and with filters in this order.
    ///
    /// # Errors
    /// As [`bundle`](Self::bundle).
    pub fn bundle_for(self, memories: &Memories, filters: FilterOrder) -> Result<Vec<u8>, CompileError> {
        let graph = self.graph();
        let shape = image_shape(&graph);
        let family = family(self.name(), shape, graph);
        let anchor = &family.anchors[0];
        let candidate = Candidate {
            id: 0,
            path: self.name().to_owned(),
            legs: vec![Leg { anchor: 0, from: None, to: None }],
            layers: Vec::new(),
            macs: anchor.macs,
            params: anchor.params,
        };
        let options = ExportOptions { golden_inputs: 0, ..ExportOptions::default() };
        let mut compiled = compile(&family, &[candidate], &[], &images(shape), &options)?;
        compiled.lay_out_for(memories)?;
        compiled.order_filters(filters)?;
        let mut parts = compiled.parts().clone();
        // One table per channel: 160 KB for 640 features that are no pixels.
        parts.input_lut.clear();
        Ok(write(&parts)?)
    }

    fn graph(self) -> Graph {
        match self {
            Self::ResNet8 => resnet8(),
            Self::DsCnn => dscnn(),
            Self::MobileNetV1 => mobilenetv1(),
            Self::Autoencoder => autoencoder(),
        }
    }
}

fn resnet8() -> Graph {
    let mut net = Draft::new("resnet8", [32, 32, 3], 8);
    net.conv(16, [3, 3], [1, 1]);
    net.relu();
    let stem = net.now();
    net.conv(16, [3, 3], [1, 1]);
    net.relu();
    net.conv(16, [3, 3], [1, 1]);
    net.add(stem);
    net.relu();
    for channels in [32, 64] {
        let input = net.now();
        net.conv(channels, [3, 3], [2, 2]);
        net.relu();
        net.conv(channels, [3, 3], [1, 1]);
        let main = net.now();
        net.go_to(input);
        net.conv(channels, [1, 1], [2, 2]);
        net.add(main);
        net.relu();
    }
    net.classify(10)
}

fn dscnn() -> Graph {
    let mut net = Draft::new("dscnn", [49, 10, 1], 21);
    net.conv(64, [10, 4], [2, 2]);
    net.relu();
    for _ in 0..4 {
        separable(&mut net, 1, 64);
    }
    net.classify(12)
}

fn mobilenetv1() -> Graph {
    let mut net = Draft::new("mobilenetv1", [96, 96, 3], 22);
    net.conv(8, [3, 3], [2, 2]);
    net.relu();
    let widths = [(1, 16), (2, 32), (1, 32), (2, 64), (1, 64), (2, 128)];
    let rest = [(1, 128), (1, 128), (1, 128), (1, 128), (1, 128), (2, 256), (1, 256)];
    for (stride, channels) in widths.into_iter().chain(rest) {
        separable(&mut net, stride, channels);
    }
    net.classify(2)
}

fn separable(net: &mut Draft, stride: usize, channels: usize) {
    net.depthwise([3, 3], [stride; 2]);
    net.relu();
    net.conv(channels, [1, 1], [1, 1]);
    net.relu();
}

fn autoencoder() -> Graph {
    let mut net = Draft::new("autoencoder", [1, 1, 640], 23);
    for features in [128, 128, 128, 128, 8, 128, 128, 128, 128] {
        net.dense(features);
        net.relu();
    }
    net.dense(640);
    net.finish()
}

fn image_shape(graph: &Graph) -> [usize; 3] {
    [graph.input_shape[0], graph.input_shape[1], graph.input_shape[2]]
}

/// A family of this one network.
fn family(name: &str, shape: [usize; 3], graph: Graph) -> Family {
    let config = FamilyConfig {
        name: name.to_owned(),
        description: String::new(),
        labels: Vec::new(),
        input: InputConfig {
            shape,
            layout: Layout::Nchw,
            scale: 1.0 / 255.0,
            mean: vec![0.5; shape[2]],
            std: vec![0.25; shape[2]],
        },
        anchors: vec![AnchorConfig { name: name.to_owned(), model: name.into(), cuts: Cuts::Named(Vec::new()) }],
        stitching: StitchingConfig {
            space: SpaceKind::Stages,
            kernel: 2,
            stride: 1,
            filter: Filter::Forward,
            stage_exits: StageExits::Open,
            layer_ids: LayerIds::Fixed,
            skip_stages: Vec::new(),
            pairs: AnchorPairs::Nearest,
            crossings: 1,
            directions: Directions::FastToSlow,
            final_norm: FinalNorm::Applied,
            rank: None,
            shared_layers: SharedLayers::default(),
            adapters: Adapters::default(),
            norms: Norms::default(),
            layers: None,
        },
        calibration: None,
        evaluation: None,
        training: TrainingConfig::default(),
        teacher: None,
    };
    Family::assemble(config, name.into(), vec![graph]).expect("one anchor without cuts is a family")
}

/// Random calibration images.
fn images(shape: [usize; 3]) -> Dataset {
    const COUNT: usize = 4;
    let mut random = draft::Random::new(99);
    let pixels = COUNT * shape.iter().product::<usize>();
    Dataset { images: (0..pixels).map(|_| random.next_bits() as u8).collect(), labels: vec![0; COUNT], shape }
}

#[cfg(test)]
mod tests {
    use stitchkit_runtime::bundle::{AlignedBytes, Bundle};
    use stitchkit_runtime::exec::Executor;

    use super::*;

    #[test]
    fn each_network_has_the_multiply_accumulates_of_its_model() {
        let wanted = [12_501_632, 2_656_768, 7_489_664, 264_192];
        for (model, macs) in Model::ALL.into_iter().zip(wanted) {
            let bytes = AlignedBytes::copy_of(&model.bundle().expect("it compiles"));
            let bundle = Bundle::parse(bytes.as_slice()).expect("it is valid");
            assert_eq!(bundle.plan_count(), 1);
            let plan = bundle.plan(0).expect("a plan");
            assert_eq!(plan.macs, macs, "{}", model.name());
            let counted: u64 = bundle.steps_of(&plan).map(|placed| placed.step.op.macs()).sum();
            assert_eq!(counted, macs, "{}", model.name());
        }
    }

    /// Woven steps, predicted cost, and the output for an input.
    fn run(model: Model, filters: FilterOrder) -> (usize, u64, Vec<i8>) {
        let bytes = AlignedBytes::copy_of(&model.bundle_for(&Memories::ONE, filters).expect("it compiles"));
        let bundle = Bundle::parse(bytes.as_slice()).expect("it is valid");
        let plan = bundle.plan(0).expect("a plan");
        let woven = (0..bundle.step_count()).filter(|&index| bundle.is_woven(index)).count();
        let mut arena = AlignedBytes::new(plan.arena_bytes as usize);
        let mut executor = Executor::new(&bundle, 0, arena.as_mut_slice()).expect("it fits");
        for (at, x) in executor.input().expect("an input").iter_mut().enumerate() {
            *x = (at * 37 % 251) as i8;
        }
        (woven, plan.cost, executor.run().expect("it runs").to_vec())
    }

    #[test]
    fn filters_are_woven_where_most_of_the_work_is_in_fully_connected_layers() {
        let (woven, cost, output) = run(Model::Autoencoder, FilterOrder::Woven);
        let (apart, dearer, same) = run(Model::Autoencoder, FilterOrder::Apart);
        assert_eq!((woven, apart, output), (10, 0, same));
        assert!(cost < dearer * 85 / 100, "{cost} of {dearer}");
        let (woven, cost, output) = run(Model::DsCnn, FilterOrder::Woven);
        assert_eq!((woven, cost, output), run(Model::DsCnn, FilterOrder::Apart));
        assert_eq!(woven, 0, "a classifier is little of its work");
    }
}
