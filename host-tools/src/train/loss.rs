//! Losses with their gradients: cross entropy with a distribution, distillation, distance of features. Each is a sum over
//! samples times a weight, usually one over the batch.

use crate::stitch::evaluate::argmax;

/// Adds the cross entropy of `[samples][classes]` logits with target distributions, times `weight`: returns its sum over
/// the samples and adds its slope to `gradient`.
pub fn cross_entropy(logits: &[f32], targets: &[f32], classes: usize, weight: f64, gradient: &mut [f32]) -> f64 {
    let probabilities = softmax(logits, classes, 1.0);
    let mut value = 0.0;
    let rows = logits.chunks(classes).zip(targets.chunks(classes)).zip(probabilities.chunks(classes));
    for (((row, target), probability), gradient) in rows.zip(gradient.chunks_mut(classes)) {
        let log_sum = log_sum_exp(row);
        let sum: f32 = target.iter().sum();
        value += row.iter().zip(target).map(|(&x, &t)| f64::from(t) * (log_sum - f64::from(x))).sum::<f64>();
        for ((g, p), t) in gradient.iter_mut().zip(probability).zip(target) {
            *g += (p * sum - t) * weight as f32;
        }
    }
    value * weight
}

/// Adds the distance of the student's distribution from the teacher's, both softened by `temperature`: the
/// Kullback-Leibler divergence times the square of the temperature (Hinton et al., 2015).
pub fn soft_distillation(
    logits: &[f32],
    teacher: &[f32],
    classes: usize,
    temperature: f64,
    weight: f64,
    gradient: &mut [f32],
) -> f64 {
    let soften = |logits| softmax(logits, classes, temperature as f32);
    let (student, target) = (soften(logits), soften(teacher));
    let divergence: f64 = student
        .iter()
        .zip(&target)
        .filter(|(_, t)| **t > 0.0)
        .map(|(&s, &t)| f64::from(t) * (f64::from(t).ln() - f64::from(s.max(f32::MIN_POSITIVE)).ln()))
        .sum();
    let factor = (temperature * weight) as f32;
    gradient.iter_mut().zip(student.iter().zip(&target)).for_each(|(g, (s, t))| *g += (s - t) * factor);
    divergence * temperature * temperature * weight
}

/// Adds the cross entropy with the class the teacher says.
pub fn hard_distillation(logits: &[f32], teacher: &[f32], classes: usize, weight: f64, gradient: &mut [f32]) -> f64 {
    let mut targets = vec![0.0; teacher.len()];
    for (row, target) in teacher.chunks(classes).zip(targets.chunks_mut(classes)) {
        target[argmax(row)] = 1.0;
    }
    cross_entropy(logits, &targets, classes, weight, gradient)
}

/// Adds the squared distance of each sample's features (`length` values) from wanted ones over the square of the latter: 0
/// is equal, 1 as far as nothing.
pub fn feature_distance(features: &[f32], wanted: &[f32], length: usize, weight: f64, gradient: &mut [f32]) -> f64 {
    let mut value = 0.0;
    let samples = features.chunks(length).zip(wanted.chunks(length));
    for ((features, wanted), gradient) in samples.zip(gradient.chunks_mut(length)) {
        let energy = wanted.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>().max(1e-12);
        let factor = (2.0 * weight / energy) as f32;
        for ((f, w), g) in features.iter().zip(wanted).zip(gradient) {
            value += f64::from(f - w).powi(2) / energy;
            *g += (f - w) * factor;
        }
    }
    value * weight
}

/// Adds the square distance of all features from wanted ones, times `weight`.
pub fn square_distance(features: &[f32], wanted: &[f32], weight: f64, gradient: &mut [f32]) -> f64 {
    let factor = (2.0 * weight) as f32;
    let mut value = 0.0;
    for ((f, w), g) in features.iter().zip(wanted).zip(gradient) {
        value += f64::from(f - w).powi(2);
        *g += (f - w) * factor;
    }
    value * weight
}

/// Rows of `logits / temperature` as probabilities.
#[must_use]
pub fn softmax(logits: &[f32], classes: usize, temperature: f32) -> Vec<f32> {
    let mut result = logits.to_vec();
    for row in result.chunks_mut(classes.max(1)) {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter_mut().for_each(|x| *x = ((*x - largest) / temperature).exp());
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|x| *x /= sum);
    }
    result
}

fn log_sum_exp(row: &[f32]) -> f64 {
    let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    largest + row.iter().map(|&x| (f64::from(x) - largest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 6] = [0.3, -1.2, 2.0, 0.1, 0.4, -0.5];
    const OTHER: [f32; 6] = [1.3, 0.2, 1.0, -0.1, 0.9, 0.5];

    /// Compares a gradient with central differences, and checks that it is added to what is there.
    fn agrees(loss: impl Fn(&[f32], &mut [f32]) -> f64) {
        let mut found = [1.0; 6];
        loss(&LOGITS, &mut found);
        for i in 0..LOGITS.len() {
            let at = |h: f32| {
                let mut moved = LOGITS;
                moved[i] += h;
                loss(&moved, &mut [0.0; 6])
            };
            let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!((slope + 1.0 - f64::from(found[i])).abs() < 5e-4, "{i}: {slope} {}", found[i]);
        }
    }

    #[test]
    fn gradients_are_the_slopes_of_the_losses() {
        let targets = [0.2, 0.3, 0.5, 0.0, 1.0, 0.0];
        agrees(|logits, gradient| cross_entropy(logits, &targets, 3, 0.7, gradient));
        agrees(|logits, gradient| soft_distillation(logits, &OTHER, 3, 2.0, 0.7, gradient));
        agrees(|logits, gradient| hard_distillation(logits, &OTHER, 3, 0.7, gradient));
        agrees(|logits, gradient| feature_distance(logits, &OTHER, 3, 0.7, gradient));
        agrees(|logits, gradient| square_distance(logits, &OTHER, 0.7, gradient));
    }

    #[test]
    fn a_student_equal_to_its_teacher_has_nothing_to_learn() {
        let mut gradient = [0.0; 6];
        assert!(soft_distillation(&LOGITS, &LOGITS, 3, 4.0, 1.0, &mut gradient).abs() < 1e-6);
        assert_eq!(feature_distance(&OTHER, &OTHER, 3, 1.0, &mut gradient), 0.0);
        assert!(gradient.iter().all(|g| g.abs() < 1e-6));
        assert!((feature_distance(&[0.0; 6], &OTHER, 3, 1.0, &mut gradient) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn cross_entropy_of_even_odds_is_the_logarithm_of_the_classes() {
        let mut gradient = [0.0; 4];
        let value = cross_entropy(&[1.0; 4], &[1.0, 0.0, 0.0, 0.0], 4, 1.0, &mut gradient);
        assert!((value - 4f64.ln()).abs() < 1e-9);
        assert_eq!(gradient, [-0.75, 0.25, 0.25, 0.25]);
    }
}
