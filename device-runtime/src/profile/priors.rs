//! Models that a measurement starts from, and that hosts rank plans with.
//!
//! Both are board files at one instruction per nanosecond: `examples/boards/qemu-m4.toml` and `qemu-m3.toml`. A test of the
//! host tools compares them, and prints what to put here after the boards have been measured anew.

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
        [939, 962, 26_644, 12_094, 15_100, 1_433, 246_633, 0, 0, 5_417_618],
        [941, 977, 17_441, 12_929, 14_056, 1_533, 330_881, 567_920, 0, 5_112_506],
        [103, 27_069, 44_081, 12_359, 12_395, 4_325, 392_931, 869_400, 2_020, 5_058_203],
        [16_723, 0, 0, 15_088, 2_822, 0, 0, 0, 0, 0],
        [834, 30_453, 0, 26_381, 6_057, 3_058, 702_159, 421_715, 3_554, 3_237_597],
        [0, 0, 8_982, 0, 0, 0, 0, 0, 0, 3_230_885],
        [10_117, 0, 1_071, 0, 0, 24_073, 117_600, 0, 0, 3_451_013],
        [6_553, 0, 55_905, 0, 0, 30_701, 166_782, 0, 0, 4_640_085],
        [0, 0, 5_116, 0, 0, 0, 0, 0, 0, 2_807_335],
        [0, 0, 30_976, 0, 0, 0, 18_968, 0, 0, 3_039_145],
        [0, 0, 12_986, 0, 0, 18_157, 0, 0, 0, 0],
    ]);
    /// A Cortex-M3 with one instruction per nanosecond and the scalar kernels.
    pub const SCALAR: Self = model([
        [5_996, 0, 263_983, 17_942, 224, 221, 59_990, 0, 0, 4_860_222],
        [6_507, 465, 289_627, 8_251, 19_810, 0, 0, 1_289_457, 4_298, 0],
        [9_340, 5_353, 257_733, 17_254, 9_401, 0, 42_859, 1_369_321, 1_598, 4_777_313],
        [30_816, 0, 0, 18_161, 0, 0, 0, 0, 0, 0],
        [19_321, 0, 272_655, 18_133, 1_582, 34_384, 0, 192_461, 0, 1_474_902],
        [0, 0, 13_985, 0, 0, 0, 0, 0, 0, 3_253_395],
        [10_120, 0, 1_061, 0, 0, 24_055, 115_691, 0, 0, 3_476_817],
        [6_557, 0, 55_879, 0, 0, 30_677, 166_083, 0, 0, 4_657_850],
        [0, 0, 5_112, 0, 0, 0, 0, 0, 0, 2_834_152],
        [0, 0, 30_982, 0, 0, 0, 18_980, 0, 0, 3_063_607],
        [0, 0, 12_999, 0, 0, 19_052, 0, 0, 0, 0],
    ]);
}
