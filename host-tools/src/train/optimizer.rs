//! AdamW and SGD with Nesterov momentum, over parameters of which a step may touch only some.
//!
//! A step trains one network of the space. What it does not touch keeps its moments and its count of steps, so that a rarely
//! drawn stitch starts with the same bias correction as an often drawn one.

use serde::{Deserialize, Serialize};

/// Which update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019).
    AdamW,
    /// Stochastic gradient descent with Nesterov momentum 0.9.
    Sgd,
}

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f32 = 1e-8;
const MOMENTUM: f32 = 0.9;

/// What the optimizer remembers of one parameter.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Moments {
    /// Updates so far.
    pub steps: u64,
    /// First moment, or velocity; empty before the first update.
    pub first: Vec<f32>,
    /// Second moment; empty for SGD.
    pub second: Vec<f32>,
}

/// How one parameter is updated in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Learning rate.
    pub rate: f32,
    /// Weight decay; a share of the rate is taken off the weight.
    pub decay: f32,
}

impl Moments {
    /// Changes `values` against `gradient`, of the same length.
    pub fn update(&mut self, method: Method, values: &mut [f32], gradient: &[f32], rate: Rate) {
        self.steps += 1;
        if self.first.is_empty() {
            self.first = vec![0.0; values.len()];
        }
        match method {
            Method::AdamW => self.adam(values, gradient, rate),
            Method::Sgd => self.nesterov(values, gradient, rate),
        }
    }

    fn adam(&mut self, values: &mut [f32], gradient: &[f32], rate: Rate) {
        if self.second.is_empty() {
            self.second = vec![0.0; values.len()];
        }
        let power = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let (bias1, bias2) = (1.0 - BETA1.powi(power), 1.0 - BETA2.powi(power));
        let (step, root) = ((f64::from(rate.rate) / bias1) as f32, bias2.sqrt() as f32);
        let (b1, b2) = (BETA1 as f32, BETA2 as f32);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((value, &g), (m, v)) in values.iter_mut().zip(gradient).zip(moments) {
            *m = b1 * *m + (1.0 - b1) * g;
            *v = b2 * *v + (1.0 - b2) * g * g;
            *value -= rate.rate * rate.decay * *value + step * *m / (v.sqrt() / root + EPSILON);
        }
    }

    fn nesterov(&mut self, values: &mut [f32], gradient: &[f32], rate: Rate) {
        for ((value, &g), m) in values.iter_mut().zip(gradient).zip(&mut self.first) {
            let g = g + rate.decay * *value;
            *m = MOMENTUM * *m + g;
            *value -= rate.rate * (g + MOMENTUM * *m);
        }
    }
}

/// Factor on gradients with which their common norm is at most `limit` (0: no limit), and the norm before.
pub fn clipping<'g>(gradients: impl Iterator<Item = &'g [f32]>, limit: f64) -> (f32, f64) {
    let square = |values: &[f32]| values.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>();
    let norm = gradients.map(square).sum::<f64>().sqrt();
    if limit > 0.0 && norm > limit { ((limit / norm) as f32, norm) } else { (1.0, norm) }
}

/// Factor on all learning rates at a step: a line from 0 over the warm-up, then a half cosine down to `floor` at `steps`.
#[must_use]
pub fn cosine(step: u64, warm_up: u64, steps: u64, floor: f64) -> f64 {
    if step < warm_up {
        return (step + 1) as f64 / warm_up as f64;
    }
    let done = (step - warm_up) as f64 / (steps.saturating_sub(warm_up)).max(1) as f64;
    floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two updates of PyTorch's optimizers (torch 2.15, lr 0.1, weight decay 0.01) on values [1, -2] with the gradients
    /// [0.5, 0.25] and [-1, 0.125].
    fn after_two(method: Method) -> Vec<f32> {
        let mut values = vec![1.0, -2.0];
        let mut moments = Moments::default();
        for gradient in [[0.5, 0.25], [-1.0, 0.125]] {
            moments.update(method, &mut values, &gradient, Rate { rate: 0.1, decay: 0.01 });
        }
        values
    }

    #[test]
    fn adam_w_does_what_pytorch_does() {
        for (found, expected) in after_two(Method::AdamW).iter().zip(EXPECTED_ADAMW) {
            assert!((found - expected).abs() < 2e-6, "{found} {expected}");
        }
    }

    #[test]
    fn nesterov_does_what_pytorch_does() {
        for (found, expected) in after_two(Method::Sgd).iter().zip(EXPECTED_SGD) {
            assert!((found - expected).abs() < 2e-6, "{found} {expected}");
        }
    }

    const EXPECTED_ADAMW: [f32; 2] = [0.934_711_4, -2.189_119_8];
    const EXPECTED_SGD: [f32; 2] = [1.050_074_1, -2.082_197];

    #[test]
    fn clipping_limits_the_common_norm() {
        let gradients: [&[f32]; 2] = [&[3.0, 0.0], &[4.0]];
        assert_eq!(clipping(gradients.into_iter(), 1.0), (0.2, 5.0));
        assert_eq!(clipping(gradients.into_iter(), 0.0), (1.0, 5.0));
        assert_eq!(clipping(gradients.into_iter(), 6.0), (1.0, 5.0));
    }

    #[test]
    fn the_rate_rises_then_falls_to_its_floor() {
        let at = |step| cosine(step, 10, 110, 0.1);
        assert!((at(0) - 0.1).abs() < 1e-12 && (at(9) - 1.0).abs() < 1e-12 && (at(10) - 1.0).abs() < 1e-12);
        assert!((at(60) - 0.55).abs() < 1e-12 && (at(110) - 0.1).abs() < 1e-12 && (at(500) - 0.1).abs() < 1e-12);
        assert!((10..109).all(|step| at(step + 1) < at(step)));
        assert_eq!(cosine(0, 0, 0, 0.5), 1.0);
    }
}
