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
        [807, 488, 10_130, 13_257, 13_657, 750, 121_271, 0, 0, 6_280_892],
        [821, 393, 11_950, 14_030, 16_900, 1_203, 221_991, 429_939, 13, 6_262_284],
        [0, 31_022, 16_452, 15_408, 14_756, 3_769, 333_587, 219_036, 3_342, 5_687_117],
        [13_637, 0, 0, 18_819, 10_458, 0, 0, 0, 0, 0],
        [0, 40_996, 0, 15_403, 15_587, 9_173, 16_097, 0, 8_478, 12_046_744],
        [0, 0, 8_989, 0, 0, 0, 0, 0, 0, 3_435_816],
        [10_157, 0, 753, 0, 0, 22_926, 120_850, 0, 0, 3_680_475],
        [6_566, 0, 55_847, 0, 0, 31_483, 162_061, 0, 0, 4_877_039],
        [0, 0, 5_117, 0, 0, 0, 0, 0, 0, 3_013_738],
        [0, 0, 30_983, 0, 0, 0, 17_958, 0, 0, 3_257_747],
        [0, 0, 13_127, 0, 0, 18_906, 0, 0, 0, 0],
    ]);
    /// A Cortex-M3 with one instruction per nanosecond and the scalar kernels.
    pub const SCALAR: Self = model([
        [5_993, 0, 248_215, 18_842, 172, 300, 57_606, 0, 0, 5_135_000],
        [6_570, 0, 264_720, 11_546, 15_550, 0, 0, 1_504_363, 3_919, 1_020_143],
        [8_996, 3_439, 242_814, 18_284, 8_439, 0, 42_276, 1_231_015, 2_022, 5_102_991],
        [28_664, 0, 0, 19_163, 0, 0, 0, 0, 0, 0],
        [18_927, 0, 271_560, 19_142, 1_544, 32_933, 0, 187_025, 0, 1_871_575],
        [0, 0, 13_980, 0, 0, 0, 0, 0, 0, 3_450_088],
        [10_156, 0, 780, 0, 0, 22_943, 120_724, 0, 0, 3_690_169],
        [6_560, 0, 55_876, 0, 0, 31_497, 162_032, 0, 0, 4_894_731],
        [0, 0, 5_114, 0, 0, 0, 0, 0, 0, 3_041_930],
        [0, 0, 30_978, 0, 0, 0, 17_957, 0, 0, 3_291_143],
        [0, 0, 13_113, 0, 0, 18_914, 0, 0, 0, 39_606],
    ]);
}
