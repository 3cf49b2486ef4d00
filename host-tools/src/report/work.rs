//! The work of a whole plan, summed by class of steps. Latency models are linear, so the sums predict what the steps do.

use serde::{Deserialize, Serialize};
use stitchkit_runtime::profile::{Coefficients, LatencyModel, OpClass, Work};

/// Work of all steps of one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ClassWork {
    /// Name of the class.
    class: String,
    /// Sums of [`Work::amounts`].
    amounts: [u64; Coefficients::COUNT],
    weight_bytes: u64,
}

/// Work of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlanWork(Vec<ClassWork>);

impl PlanWork {
    /// The work of steps together.
    #[must_use]
    pub fn of(works: impl IntoIterator<Item = Work>) -> Self {
        let mut sums: Vec<ClassWork> = Vec::new();
        for work in works {
            let class = work.class.name();
            let amounts = work.amounts();
            match sums.iter_mut().find(|sum| sum.class == class) {
                None => sums.push(ClassWork { class: class.to_owned(), amounts, weight_bytes: work.weight_bytes }),
                Some(sum) => {
                    sum.amounts.iter_mut().zip(amounts).for_each(|(total, amount)| *total += amount);
                    sum.weight_bytes += work.weight_bytes;
                }
            }
        }
        Self(sums)
    }

    /// Predicted microseconds of one inference, rounded up, saturating. Classes that this version does not know count
    /// nothing.
    #[must_use]
    pub fn latency_us(&self, model: &LatencyModel) -> u64 {
        let ps = self.0.iter().map(|sum| {
            let Some(&class) = OpClass::ALL.iter().find(|class| class.name() == sum.class) else { return 0 };
            model.amounts_ps(class, &sum.amounts, sum.weight_bytes)
        });
        ps.fold(0, u64::saturating_add).div_ceil(1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stitchkit_runtime::bundle::Op;
    use stitchkit_runtime::kernels::{Add, Shape};

    #[test]
    fn sums_predict_what_the_steps_do() {
        let add = Add { a_multiplier: 1, b_multiplier: 1, offset: 0, shift: 1, lo: -128, hi: 127 };
        let lut = |c| Op::Lut { shape: Shape::new(3, 3, c), table: 0 };
        let ops =
            [Op::Add { shape: Shape::new(4, 4, 8), add }, lut(5), Op::Add { shape: Shape::new(2, 2, 3), add }, lut(7)];
        let model = LatencyModel { weight_byte_ps: 77_777, ..LatencyModel::CORTEX_M4 };
        let works = ops.each_ref().map(Work::of);
        let steps: u64 = works.iter().map(|work| model.step_ps(work)).sum();
        assert_eq!(PlanWork::of(works).latency_us(&model), steps.div_ceil(1_000_000));
    }
}
