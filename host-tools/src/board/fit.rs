//! From measured plans to a latency model, and how far to trust it.

use stitchkit_runtime::profile::{FitOptions, LatencyModel, OpClass, Sample};

use super::HeldOut;
use super::measured::MeasuredPlan;

/// One plan and its prediction by a model that did not see it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Predicted {
    /// Bundle and plan.
    pub plan: String,
    /// Measured latency.
    pub measured_us: f64,
    /// Predicted latency.
    pub predicted_us: f64,
    /// Positive if the prediction is too long.
    pub error_percent: f64,
}

/// The prior for kernels of this name: that of the plain ones, of vectors, or of a Cortex-M4.
#[must_use]
pub fn prior(kernels: &str) -> &'static LatencyModel {
    match kernels {
        "portable" | "reference" => &LatencyModel::SCALAR,
        "arm-mve" => &LatencyModel::CORTEX_M55,
        _ => &LatencyModel::CORTEX_M4,
    }
}

/// The model that explains the steps of `plans`: non-negative least squares of relative errors per class of steps, drawn
/// a little towards `prior`, which also stands in for classes without steps, at the speed of the others.
#[must_use]
pub fn fit(plans: &[&MeasuredPlan], prior: &LatencyModel) -> LatencyModel {
    let samples: Vec<Sample> =
        plans.iter().flat_map(|plan| &plan.steps).map(|step| Sample { work: step.work, ps: step.ps }).collect();
    let sum = |of: &dyn Fn(&Sample) -> u64| samples.iter().fold(0u64, |sum, sample| sum.saturating_add(of(sample)));
    let speed = (sum(&|sample| sample.ps), sum(&|sample| prior.step_ps(&sample.work)).max(1));
    let mut model = *prior;
    for class in OpClass::ALL {
        model.fit_class(class, samples.iter().copied(), FitOptions::MANY, speed);
    }
    model
}

/// Predictions of `plans` by `model`.
#[must_use]
pub fn predict(plans: &[MeasuredPlan], model: &LatencyModel) -> Vec<Predicted> {
    let row = |plan: &MeasuredPlan| Predicted {
        plan: plan.name.clone(),
        measured_us: plan.ps as f64 / 1e6,
        predicted_us: plan.predicted_ps(model) as f64 / 1e6,
        error_percent: plan.error_percent(model),
    };
    plans.iter().map(row).collect()
}

/// Predictions of every plan by a model fitted to the others.
#[must_use]
pub fn leave_one_out(plans: &[MeasuredPlan], prior: &LatencyModel) -> Vec<Predicted> {
    let without = |left_out: usize| {
        let others: Vec<&MeasuredPlan> =
            plans.iter().enumerate().filter(|&(i, _)| i != left_out).map(|(_, p)| p).collect();
        fit(&others, prior)
    };
    (0..plans.len()).flat_map(|i| predict(&plans[i..=i], &without(i))).collect()
}

/// Median and worst of the errors' magnitudes; `None` without any.
#[must_use]
pub fn summary(predictions: &[Predicted]) -> Option<HeldOut> {
    let mut errors: Vec<f64> = predictions.iter().map(|p| p.error_percent.abs()).collect();
    errors.sort_by(f64::total_cmp);
    let round = |percent: f64| (percent * 100.0).round() / 100.0;
    Some(HeldOut {
        plans: errors.len() as u32,
        median_error_percent: round(*errors.get(errors.len() / 2)?),
        worst_error_percent: round(*errors.last()?),
    })
}

#[cfg(test)]
mod tests {
    use stitchkit_runtime::bundle::{AlignedBytes, Bundle};
    use stitchkit_runtime::profile::Work;

    use super::super::measured::MeasuredStep;
    use super::super::shapes;
    use super::*;

    /// Plans of the measuring bundle on a board that follows `truth`, each step off by up to `off_percent`.
    fn plans(truth: &LatencyModel, off_percent: u64) -> Vec<MeasuredPlan> {
        let bytes = AlignedBytes::copy_of(&shapes::bundle().unwrap());
        let bundle = Bundle::parse(bytes.as_slice()).unwrap();
        let plan = |plan| {
            let steps: Vec<MeasuredStep> = bundle
                .steps_of(&plan)
                .enumerate()
                .map(|(i, placed)| {
                    let work = Work::of_placed(&bundle, &placed);
                    let off = 100 - off_percent + (i as u64 * 7919) % (2 * off_percent + 1);
                    MeasuredStep { work, ps: truth.step_ps(&work) * off / 100, name: String::new() }
                })
                .collect();
            MeasuredPlan { name: plan.path.to_owned(), ps: steps.iter().map(|s| s.ps).sum(), steps }
        };
        bundle.plans().map(plan).collect()
    }

    #[test]
    fn a_board_of_another_kind_is_predicted_from_the_wrong_prior() {
        let truth = LatencyModel::SCALAR.scaled(40, 1);
        let predictions = leave_one_out(&plans(&truth, 0), &LatencyModel::CORTEX_M4);
        let held_out = summary(&predictions).unwrap();
        assert!(held_out.median_error_percent < 4.0 && held_out.worst_error_percent < 15.0, "{predictions:?}");
    }

    #[test]
    fn noise_is_averaged_out() {
        let plans = plans(&LatencyModel::CORTEX_M4, 10);
        let held_out = summary(&leave_one_out(&plans, &LatencyModel::CORTEX_M4)).unwrap();
        assert!(held_out.worst_error_percent < 10.0, "{held_out:?}");
    }

    #[test]
    fn without_plans_there_is_nothing_to_sum_up() {
        assert_eq!(summary(&[]), None);
        assert_eq!(fit(&[], &LatencyModel::CORTEX_M4).weight_byte_ps, 0);
    }
}
