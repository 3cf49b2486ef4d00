//! How filters are stored: one after the other, or woven in pairs where that makes fully connected layers faster.

use stitchkit_runtime::kernels::woven;

use crate::quantize::integer::Kernel;

/// The order of weights in a bundle. Results are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FilterOrder {
    /// As every kernel reads them in place.
    #[default]
    Apart,
    /// Those of fully connected layers woven in pairs ([`stitchkit_runtime::kernels::woven_s8`]), if a plan does a tenth of its work
    /// or more in such layers: fewer instructions on processors with 16-bit dual multiply-accumulate and no vectors (Cortex-M4,
    /// Cortex-M7, Cortex-M33), more on others that read weights in place. Readers need the feature `woven`.
    Woven,
}

impl FilterOrder {
    /// The order for a board whose latencies were measured with these kernels.
    #[must_use]
    pub fn of_kernels(kernels: &str) -> Self {
        if kernels == "arm-dsp" { Self::Woven } else { Self::Apart }
    }

    /// As this, or apart where weaving would be of little use: less than a tenth of the multiply-accumulates of every plan.
    pub(super) fn worth_it<'k, P>(self, plans: impl IntoIterator<Item = P>) -> Self
    where
        P: Iterator<Item = &'k Kernel>,
    {
        let gains = |plan: P| {
            let (mut all, mut woven) = (0u64, 0u64);
            for kernel in plan {
                let macs = kernel.outline().macs();
                all += macs;
                woven += if is_weavable(kernel) { macs } else { 0 };
            }
            woven > 0 && woven * 10 >= all
        };
        if self == Self::Woven && plans.into_iter().any(gains) { Self::Woven } else { Self::Apart }
    }

    /// The weights of a kernel in this order; `None` if they stay as they are.
    pub(super) fn weights(self, kernel: &Kernel) -> Option<Vec<i8>> {
        match kernel {
            Kernel::Conv(conv) if self == Self::Woven && is_weavable(kernel) => {
                woven(&conv.weights, conv.geometry.taps())
            }
            _ => None,
        }
    }
}

/// When filters are woven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Weave {
    /// If there are boards, and all of them gain.
    #[default]
    Auto,
    /// Whatever the boards.
    Always,
    /// Not at all.
    Never,
}

impl Weave {
    /// The order for boards that each have one that suits them.
    #[must_use]
    pub fn order(self, boards: impl IntoIterator<Item = FilterOrder>) -> FilterOrder {
        let mut boards = boards.into_iter().peekable();
        let are_woven = match self {
            Self::Auto => boards.peek().is_some() && boards.all(|order| order == FilterOrder::Woven),
            Self::Always => true,
            Self::Never => false,
        };
        if are_woven { FilterOrder::Woven } else { FilterOrder::Apart }
    }
}

fn is_weavable(kernel: &Kernel) -> bool {
    matches!(kernel, Kernel::Conv(conv) if conv.residual.is_none() && conv.geometry.can_be_woven())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_woven_for_boards_that_all_gain() {
        let order = |weave: Weave, kernels: &[&str]| weave.order(kernels.iter().map(|k| FilterOrder::of_kernels(k)));
        assert_eq!(order(Weave::Auto, &["arm-dsp", "arm-dsp"]), FilterOrder::Woven);
        assert_eq!(order(Weave::Auto, &["arm-dsp", "arm-mve"]), FilterOrder::Apart);
        assert_eq!(order(Weave::Auto, &["portable"]), FilterOrder::Apart);
        assert_eq!(order(Weave::Auto, &[]), FilterOrder::Apart);
        assert_eq!(order(Weave::Always, &["arm-mve"]), FilterOrder::Woven);
        assert_eq!(order(Weave::Never, &["arm-dsp"]), FilterOrder::Apart);
    }
}
