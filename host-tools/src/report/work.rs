//! The work of a whole plan, summed by class of steps. Latency models are linear, so the sums predict what the steps do.

use serde::{Deserialize, Serialize};
use stitchkit_runtime::bundle::Op;
use stitchkit_runtime::profile::{LatencyModel, OpClass, Work};

/// Work of all steps of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassWork {
    /// Index of the class, see [`OpClass::ALL`].
    class: usize,
    steps: u64,
    taps: u64,
    outputs: u64,
    gathered: u64,
    residual_outputs: u64,
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
                sums.push(ClassWork {
                    class,
                    steps: 0,
                    taps: 0,
                    outputs: 0,
                    gathered: 0,
                    residual_outputs: 0,
                    weight_bytes: 0,
                });
                sums.len() - 1
            });
            let sum = &mut sums[at];
            sum.steps += 1;
            sum.taps += work.taps;
            sum.outputs += work.outputs;
            sum.gathered += work.gathered;
            sum.residual_outputs += work.residual_outputs;
            sum.weight_bytes += work.weight_bytes;
        }
        Self(sums)
    }

    /// Predicted microseconds of one inference, rounded up, saturating. Classes that this version does not know count
    /// nothing.
    #[must_use]
    pub fn latency_us(&self, model: &LatencyModel) -> u64 {
        let known = self.0.iter().filter_map(|sum| Some((OpClass::ALL.get(sum.class)?, sum)));
        let ps = known.map(|(&class, sum)| {
            let work = Work {
                class,
                taps: sum.taps,
                outputs: sum.outputs,
                gathered: sum.gathered,
                residual_outputs: sum.residual_outputs,
                weight_bytes: sum.weight_bytes,
            };
            // The model charges one call; the others come on top.
            let calls = u64::from(model.class(class).step_ps).saturating_mul(sum.steps.saturating_sub(1));
            model.step_ps(&work).saturating_add(calls)
        });
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
