//! The work of a whole plan, summed by class of steps. Latency models are linear, so the sums predict what the steps do.

use serde::{Deserialize, Serialize};
use stitchkit_runtime::bundle::Op;
use stitchkit_runtime::profile::{Coefficients, LatencyModel, OpClass, Work};

/// Work of all steps of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassWork {
    /// Index of the class, see [`OpClass::ALL`].
    class: usize,
    /// Sums of [`Work::amounts`].
    amounts: [u64; Coefficients::COUNT],
    weight_bytes: u64,
}

/// Work of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlanWork(Vec<ClassWork>);

impl PlanWork {
    /// The work of these steps together.
    #[must_use]
    pub fn of(ops: impl IntoIterator<Item = Op>) -> Self {
        let mut sums: Vec<ClassWork> = Vec::new();
        for work in ops.into_iter().map(|op| Work::of(&op)) {
            let class = work.class as usize;
            let at = sums.iter().position(|sum| sum.class == class).unwrap_or_else(|| {
                sums.push(ClassWork { class, amounts: [0; Coefficients::COUNT], weight_bytes: 0 });
                sums.len() - 1
            });
            let sum = &mut sums[at];
            sum.amounts.iter_mut().zip(work.amounts()).for_each(|(sum, n)| *sum += n);
            sum.weight_bytes += work.weight_bytes;
        }
        Self(sums)
    }

    /// Predicted microseconds of one inference, rounded up, saturating. Classes that this version does not know count
    /// nothing.
    #[must_use]
    pub fn latency_us(&self, model: &LatencyModel) -> u64 {
        let known = self.0.iter().filter_map(|sum| Some((OpClass::ALL.get(sum.class)?, sum)));
        let ps = known.map(|(&class, sum)| model.amounts_ps(class, &sum.amounts, sum.weight_bytes));
        ps.fold(0, u64::saturating_add).div_ceil(1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stitchkit_runtime::kernels::{Add, Shape};

    #[test]
    fn sums_predict_what_the_steps_do() {
        let add = Add { a_multiplier: 1, b_multiplier: 1, offset: 0, shift: 1, lo: -128, hi: 127 };
        let lut = |c| Op::Lut { shape: Shape::new(3, 3, c), table: 0 };
        let ops =
            [Op::Add { shape: Shape::new(4, 4, 8), add }, lut(5), Op::Add { shape: Shape::new(2, 2, 3), add }, lut(7)];
        let model = LatencyModel::CORTEX_M4;
        let steps: u64 = ops.iter().map(|op| model.step_ps(&Work::of(op))).sum();
        assert_eq!(PlanWork::of(ops).latency_us(&model), steps.div_ceil(1_000_000));
    }
}
