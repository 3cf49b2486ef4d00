//! Networks of the shapes that MLPerf Tiny measures, with random weights: one plan each, for counting instructions.
//! ResNet-8 is in [`resnet8`](crate::resnet8).

use stitchkit_runtime::bundle::{BundleError, Op};
use stitchkit_runtime::kernels::{Conv2d, Landing, Pool2d, Shape, Window};

use crate::builder::{Builder, RECTIFIED, SIGNED};

/// Multiply-accumulates of the DS-CNN, padded taps included.
pub const DSCNN_MACS: u64 = 2_656_768;
/// Multiply-accumulates of the MobileNetV1.
pub const MOBILENET_MACS: u64 = 7_489_664;
/// Multiply-accumulates of the autoencoder.
pub const AUTOENCODER_MACS: u64 = 264_192;

/// Keyword spotting: DS-CNN over 49x10 features, 12 classes.
///
/// # Errors
/// None in practice; [`BundleError`] if the writer refuses the parts.
pub fn dscnn() -> Result<Vec<u8>, BundleError> {
    let mut net = Chain::new("synthetic-dscnn", Shape::new(49, 10, 1), 12, 21);
    let first = Window { kernel: [10, 4], stride: [2, 2], pad: [4, 1], dilation: [1, 1] };
    net.conv(64, first, Shape::new(25, 5, 64), RECTIFIED);
    for _ in 0..4 {
        net.depthwise(1);
        net.pointwise(64);
    }
    net.classify(12);
    net.finish()
}

/// Visual wake words: MobileNetV1 of a quarter of the width over 96x96x3, 2 classes.
///
/// # Errors
/// None in practice; [`BundleError`] if the writer refuses the parts.
pub fn mobilenetv1() -> Result<Vec<u8>, BundleError> {
    let mut net = Chain::new("synthetic-mobilenetv1", Shape::new(96, 96, 3), 2, 22);
    // Padding below and right alone, as TensorFlow's `SAME` does for even extents.
    let first = Window { kernel: [3, 3], stride: [2, 2], pad: [0, 0], dilation: [1, 1] };
    net.conv(8, first, Shape::new(48, 48, 8), RECTIFIED);
    for (stride, channels) in
        [(1, 16), (2, 32), (1, 32), (2, 64), (1, 64), (2, 128), (1, 128), (1, 128), (1, 128), (1, 128), (1, 128)]
    {
        net.depthwise(stride);
        net.pointwise(channels);
    }
    net.depthwise(2);
    net.pointwise(256);
    net.depthwise(1);
    net.pointwise(256);
    net.classify(2);
    net.finish()
}

/// Anomaly detection: fully connected autoencoder over 640 features.
///
/// # Errors
/// None in practice; [`BundleError`] if the writer refuses the parts.
pub fn autoencoder() -> Result<Vec<u8>, BundleError> {
    let mut net = Chain::new("synthetic-autoencoder", Shape::new(1, 1, 640), 640, 23);
    for features in [128, 128, 128, 128, 8, 128, 128, 128, 128] {
        net.pointwise(features);
    }
    net.conv(640, Window::POINT, Shape::new(1, 1, 640), SIGNED);
    net.finish()
}

/// A network without branches.
struct Chain {
    builder: Builder,
    input: Shape,
    /// Extents that the next layer reads, and its zero point.
    now: Shape,
    zero_point: i8,
    steps: Vec<([u8; 2], Op)>,
}

impl Chain {
    fn new(name: &str, input: Shape, outputs: u16, seed: u32) -> Self {
        let builder = Builder::new(name, input, Shape::new(1, 1, outputs), seed);
        Self { builder, input, now: input, zero_point: 0, steps: Vec::new() }
    }

    fn push(&mut self, op: Op, zero_point: i8) {
        self.now = op.output();
        self.zero_point = zero_point;
        self.steps.push(([self.steps.len() as u8, 0], op));
    }

    fn conv(&mut self, channels: u16, window: Window, output: Shape, landing: Landing) {
        debug_assert_eq!(output.c, channels);
        let geometry = Conv2d { input: self.now, output, window, groups: 1, pad_value: self.zero_point };
        let op = self.builder.conv(geometry, landing, None);
        self.push(op, landing.zero_point);
    }

    fn pointwise(&mut self, channels: u16) {
        let Shape { h, w, .. } = self.now;
        self.conv(channels, Window::POINT, Shape::new(h, w, channels), RECTIFIED);
    }

    /// 3x3; a stride of 2 pads below and right of even extents and on all sides of odd ones.
    fn depthwise(&mut self, stride: u8) {
        let input = self.now;
        let pad = u8::from(stride == 1 || input.h % 2 == 1);
        let extent = |n: u16| n.div_ceil(stride.into());
        let window = Window { kernel: [3, 3], stride: [stride; 2], pad: [pad; 2], dilation: [1, 1] };
        let output = Shape::new(extent(input.h), extent(input.w), input.c);
        let geometry = Conv2d { input, output, window, groups: input.c, pad_value: self.zero_point };
        let op = self.builder.depthwise(geometry, RECTIFIED, None);
        self.push(op, RECTIFIED.zero_point);
    }

    /// Global mean, fully connected layer, softmax.
    fn classify(&mut self, classes: u16) {
        let input = self.now;
        let window = Window { kernel: [input.h as u8, input.w as u8], ..Window::POINT };
        let positions = input.positions() as f64;
        let bits = positions.log2().floor();
        let pool = Op::AvgPool {
            geometry: Pool2d { input, output: Shape::new(1, 1, input.c), window },
            input_zero_point: self.zero_point,
            multiplier: (2f64.powf(30.0 + bits) / positions) as i32 | 1 << 30,
            shift: 30 + bits as u8,
            landing: RECTIFIED,
        };
        self.push(pool, RECTIFIED.zero_point);
        let shape = Shape::new(1, 1, classes);
        self.conv(classes, Window::POINT, shape, SIGNED);
        let table = self.builder.softmax_table(0.95);
        self.push(Op::Softmax { shape, table }, -128);
    }

    fn finish(mut self) -> Result<Vec<u8>, BundleError> {
        let block = self.builder.block("all", self.input, self.steps);
        self.builder.plan("all", &[block]);
        self.builder.finish(1)
    }
}

#[cfg(test)]
mod tests {
    use stitchkit_runtime::bundle::{AlignedBytes, Bundle};

    use super::*;

    #[test]
    fn each_network_has_the_multiply_accumulates_of_its_model() {
        let macs = |bytes: Result<Vec<u8>, BundleError>| {
            let bytes = AlignedBytes::copy_of(&bytes.expect("the parts are valid"));
            Bundle::parse(bytes.as_slice()).expect("the bundle is valid").plan(0).expect("a plan").macs
        };
        assert_eq!(macs(dscnn()), DSCNN_MACS);
        assert_eq!(macs(mobilenetv1()), MOBILENET_MACS);
        assert_eq!(macs(autoencoder()), AUTOENCODER_MACS);
    }
}
