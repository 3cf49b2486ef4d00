//! The operators this runtime was built with.
//!
//! Each is a cargo feature, and the default is all of them. A firmware that runs one family names only what that family
//! uses, and the linker leaves out the other kernels. `stitchkit inspect` prints the features of a bundle.

#[cfg(feature = "std")]
use std::{string::String, vec::Vec};

#[cfg(feature = "std")]
use super::{Bundle, PlacedStep, Plan};

/// Names of all operators, as [`super::Op::name`] gives them, in the order of their numbers in the format.
pub const OPERATORS: [&str; 13] = [
    "conv2d",
    "depthwise",
    "add",
    "maxpool",
    "avgpool",
    "lut",
    "softmax",
    "transpose",
    "layernorm",
    "attention",
    "addconstant",
    "concat",
    "slice",
];

/// Which of [`OPERATORS`] are built in.
pub mod built {
    /// Convolution and fully connected layer.
    pub const CONV2D: bool = cfg!(feature = "op-conv2d");
    /// Depthwise convolution.
    pub const DEPTHWISE: bool = cfg!(feature = "op-depthwise");
    /// Addition of two tensors.
    pub const ADD: bool = cfg!(feature = "op-add");
    /// Maximum over a window.
    pub const MAXPOOL: bool = cfg!(feature = "op-maxpool");
    /// Mean over a window.
    pub const AVGPOOL: bool = cfg!(feature = "op-avgpool");
    /// Function by table.
    pub const LUT: bool = cfg!(feature = "op-lut");
    /// Softmax.
    pub const SOFTMAX: bool = cfg!(feature = "op-softmax");
    /// Permutation of axes.
    pub const TRANSPOSE: bool = cfg!(feature = "op-transpose");
    /// Layer norm.
    pub const LAYERNORM: bool = cfg!(feature = "op-layernorm");
    /// Multi-head self-attention.
    pub const ATTENTION: bool = cfg!(feature = "op-attention");
    /// Addition of constants.
    pub const ADDCONSTANT: bool = cfg!(feature = "op-addconstant");
    /// Constant tokens around a tensor.
    pub const CONCAT: bool = cfg!(feature = "op-concat");
    /// Part of a tensor.
    pub const SLICE: bool = cfg!(feature = "op-slice");

    /// Whether the operator with this number in the format is built in.
    #[must_use]
    pub fn has(number: u8) -> bool {
        let all = [
            CONV2D,
            DEPTHWISE,
            ADD,
            MAXPOOL,
            AVGPOOL,
            LUT,
            SOFTMAX,
            TRANSPOSE,
            LAYERNORM,
            ATTENTION,
            ADDCONSTANT,
            CONCAT,
            SLICE,
        ];
        all.get(usize::from(number)).is_some_and(|&built| built)
    }
}

/// Name of the operator with this number in the format; `None` for one of a later format.
#[must_use]
pub fn name(number: u8) -> Option<&'static str> {
    OPERATORS.get(usize::from(number)).copied()
}

/// What a runtime must be built with.
#[cfg(feature = "std")]
impl<'a> Bundle<'a> {
    /// Features of this crate that its operators, its weights and the layouts of its plans ask for. `two-memories` is never among them: a
    /// divided plan runs in one memory too.
    #[must_use]
    pub fn features(&self) -> Vec<String> {
        let steps: Vec<PlacedStep> = self.plans().flat_map(|plan| self.steps_of(&plan)).collect();
        self.features_for(self.operators(), &steps)
    }

    /// [`features`](Self::features) that a plan asks for.
    #[must_use]
    pub fn features_of(&self, plan: &Plan<'a>) -> Vec<String> {
        let steps: Vec<PlacedStep> = self.steps_of(plan).collect();
        let used = |name: &&str| steps.iter().any(|placed| placed.step.op.name() == *name);
        self.features_for(self.operators().filter(used), &steps)
    }

    fn features_for(&self, operators: impl Iterator<Item = &'static str>, steps: &[PlacedStep]) -> Vec<String> {
        let has_overlap = steps.iter().any(PlacedStep::is_over_input);
        // A reader of the bundle must know the section, whether a plan has such steps or not.
        let has_woven = (0..self.step_count()).any(|index| self.is_woven(index));
        let others = has_overlap.then_some("overlap").into_iter().chain(has_woven.then_some("woven"));
        operators.map(|name| std::format!("op-{name}")).chain(others.map(String::from)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode::decode;
    use super::super::records::Step;
    use super::*;

    #[test]
    fn names_follow_the_numbers_of_the_format() {
        for (number, name) in OPERATORS.iter().enumerate() {
            let mut record = [0; 64];
            record[2] = number as u8;
            let step: Option<Step> = decode(&record);
            assert_eq!(step.map(|step| step.op.name()), built::has(number as u8).then_some(*name));
        }
        assert_eq!(name(13), None);
        assert!(!built::has(13));
    }

    #[test]
    fn every_operator_has_a_feature() {
        let manifest = include_str!("../../Cargo.toml");
        for name in OPERATORS {
            assert!(manifest.contains(&format!("\nop-{name} = []\n")), "{name}");
        }
    }
}
