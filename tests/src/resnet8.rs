//! A family shaped like ResNet-8 of MLPerf Tiny, with random weights: a full anchor of 12,501,632 multiply-accumulates, an
//! anchor of half its width, and two stitches between them.

use stitchkit_runtime::bundle::BundleError;
use stitchkit_runtime::bundle::Op;
use stitchkit_runtime::kernels::{Add, Conv2d, Landing, Pool2d, Shape};

use crate::builder::{Builder, RECTIFIED, SIGNED, window};

/// Multiply-accumulates of the full anchor, padded taps included.
pub const FULL_MACS: u64 = 12_501_632;

const INPUT: Shape = Shape::new(32, 32, 3);
const CLASSES: u16 = 10;

/// `(a + (b + 128)) * 0.7 - 128`, rectified: a signed convolution onto a rectified operand.
const ONTO_RECTIFIED: Add = residual(128);
/// `(a + b) * 0.7 - 128`, rectified: a signed convolution onto a signed shortcut.
const ONTO_SIGNED: Add = residual(0);

const fn residual(b_offset: i32) -> Add {
    const M: i32 = 22_938;
    Add {
        a_multiplier: M,
        b_multiplier: M,
        offset: b_offset * M - (128 << 15) + (1 << 14),
        shift: 15,
        lo: -128,
        hi: 127,
    }
}

/// The bundle's bytes, with two golden vectors.
///
/// # Errors
/// None in practice; [`BundleError`] if the writer refuses the parts.
pub fn bundle() -> Result<Vec<u8>, BundleError> {
    let mut b = Builder::new("synthetic-resnet8", INPUT, Shape::new(1, 1, CLASSES), 8);
    let half = anchor(&mut b, "half", 8);
    let full = anchor(&mut b, "full", 16);
    let early = stitching_layer(&mut b, "stitch 8 to 16", Shape::new(32, 32, 8), 16);
    let late = stitching_layer(&mut b, "stitch 16 to 32", Shape::new(16, 16, 16), 32);
    b.plan("half", &half);
    b.plan("half@2>full@2", &[half[0], half[1], late, full[2], full[3]]);
    b.plan("half@1>full@1", &[half[0], early, full[1], full[2], full[3]]);
    b.plan("full", &full);
    b.finish(2)
}

fn conv(
    b: &mut Builder,
    input: Shape,
    channels: u16,
    kernel: u8,
    stride: u8,
    landing: Landing,
    add: Option<Add>,
) -> Op {
    let output = Shape::new(input.h / u16::from(stride), input.w / u16::from(stride), channels);
    // A stride of 2 pads below and right alone, as TensorFlow's `SAME` does.
    let pad = if stride == 1 { kernel / 2 } else { 0 };
    let pad_value = if input == INPUT { 0 } else { -128 };
    b.conv(Conv2d { input, output, window: window(kernel, stride, pad), groups: 1, pad_value }, landing, add)
}

/// Four blocks: stem and first stage, second stage, third stage, head.
fn anchor(b: &mut Builder, name: &str, width: u16) -> [u16; 4] {
    let first = Shape::new(32, 32, width);
    let steps = vec![
        ([0, 0], conv(b, INPUT, width, 3, 1, RECTIFIED, None)),
        ([1, 0], conv(b, first, width, 3, 1, RECTIFIED, None)),
        ([2, 1], conv(b, first, width, 3, 1, SIGNED, Some(ONTO_RECTIFIED))),
    ];
    let stem = b.block(&format!("{name} 1"), INPUT, steps);
    let (second, third) = (Shape::new(16, 16, 2 * width), Shape::new(8, 8, 4 * width));
    [stem, stage(b, &format!("{name} 2"), first), stage(b, &format!("{name} 3"), second), head(b, name, third)]
}

/// Halves the extents and doubles the channels.
fn stage(b: &mut Builder, name: &str, input: Shape) -> u16 {
    let channels = 2 * input.c;
    let half = Shape::new(input.h / 2, input.w / 2, channels);
    let steps = vec![
        ([0, 0], conv(b, input, channels, 3, 2, RECTIFIED, None)),
        ([0, 0], conv(b, input, channels, 1, 2, SIGNED, None)),
        ([1, 2], conv(b, half, channels, 3, 1, SIGNED, Some(ONTO_SIGNED))),
    ];
    b.block(name, input, steps)
}

fn head(b: &mut Builder, name: &str, input: Shape) -> u16 {
    let pooled = Shape::new(1, 1, input.c);
    let pool = Op::AvgPool {
        geometry: Pool2d { input, output: pooled, window: window(8, 1, 0) },
        input_zero_point: -128,
        multiplier: 1 << 30,
        // 2^-6 for the 64 positions.
        shift: 36,
        landing: RECTIFIED,
    };
    let dense = conv(b, pooled, CLASSES, 1, 1, SIGNED, None);
    b.block(&format!("{name} head"), input, vec![([0, 0], pool), ([1, 0], dense)])
}

fn stitching_layer(b: &mut Builder, name: &str, input: Shape, channels: u16) -> u16 {
    let layer = conv(b, input, channels, 1, 1, RECTIFIED, None);
    b.block(name, input, vec![([0, 0], layer)])
}
