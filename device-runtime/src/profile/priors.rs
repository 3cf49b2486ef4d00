//! Models that a measurement starts from, and that hosts rank plans with.
//!
//! Both are board files at one instruction per nanosecond: `examples/boards/qemu-m4.toml` and `qemu-m3.toml`. A test of the
//! host tools compares them after the boards have been measured anew.

use super::model::{Coefficients, LatencyModel};
use super::work::OpClass;

const fn model(classes: [[u32; Coefficients::COUNT]; OpClass::COUNT]) -> LatencyModel {
    let mut model = LatencyModel::ZERO;
    let mut at = 0;
    while at < OpClass::COUNT {
        model.classes[at] = Coefficients::from_array(classes[at]);
        at += 1;
    }
    model
}

impl LatencyModel {
    /// A Cortex-M4 with one instruction per nanosecond and the `arm-dsp` kernels: a prediction in
    /// nanoseconds reads as instructions.
    pub const CORTEX_M4: Self = model([
        [806, 486, 10_128, 13_250, 13_702, 800, 120_959, 0, 0, 5_686_682],
        [821, 392, 11_891, 14_018, 16_972, 1_200, 222_079, 430_187, 13, 5_699_008],
        [0, 31_043, 16_301, 15_419, 14_793, 3_775, 334_266, 214_317, 3_350, 5_138_515],
        [13_621, 0, 0, 18_839, 10_492, 0, 0, 0, 0, 0],
        [0, 41_108, 0, 15_170, 15_471, 9_079, 13_192, 0, 8_489, 11_697_069],
        [0, 0, 8_992, 0, 0, 0, 0, 0, 0, 2_865_753],
        [10_155, 0, 743, 0, 0, 22_948, 120_868, 0, 0, 3_104_429],
        [5_730, 0, 74_149, 0, 0, 15_689, 118_105, 0, 0, 4_007_430],
        [0, 0, 5_120, 0, 0, 0, 0, 0, 0, 2_443_772],
        [0, 0, 30_981, 0, 0, 0, 17_983, 0, 0, 2_688_589],
        [0, 0, 12_756, 0, 0, 18_899, 0, 0, 0, 0],
    ]);
    /// A Cortex-M3 with one instruction per nanosecond and the plain Rust kernels.
    pub const SCALAR: Self = model([
        [3_168, 345, 73_514, 17_412, 996, 405, 169_355, 0, 0, 4_815_135],
        [3_151, 455, 68_746, 16_824, 2_648, 1_362, 465_316, 728_576, 0, 4_995_644],
        [3_069, 69_966, 69_566, 18_216, 0, 0, 264_300, 3_187_895, 0, 3_796_753],
        [16_429, 0, 1_077, 17_363, 0, 220, 9_690, 0, 0, 4_822_397],
        [9_902, 16_740, 53_500, 18_776, 2_117, 8_123, 597_904, 224_521, 1_217, 4_584_009],
        [0, 0, 14_002, 0, 0, 0, 0, 0, 0, 2_895_630],
        [10_152, 0, 753, 0, 0, 22_949, 120_922, 0, 0, 3_150_235],
        [5_736, 0, 74_117, 0, 0, 15_724, 118_065, 0, 0, 4_031_811],
        [0, 0, 5_126, 0, 0, 0, 0, 0, 0, 2_480_229],
        [0, 0, 30_993, 0, 0, 0, 18_020, 0, 0, 2_712_087],
        [0, 0, 12_782, 0, 0, 18_898, 0, 0, 0, 0],
    ]);
}
