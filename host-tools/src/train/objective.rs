//! What a step minimises: the labels' loss, the teacher's, and the distance of features.

use std::ops::Range;

use super::engine::Loss;
use super::learngene::MapTarget;
use super::loss::{cross_entropy, feature_distance, hard_distillation, soft_distillation, square_distance};
use super::settings::{Distillation, TeacherLabels};
use crate::graph::Batch;

/// The loss of one network on one batch. Taps: logits, then features in the order of `features`,
/// then those of `maps`.
#[derive(Debug)]
pub struct Objective<'a> {
    /// `[images][classes]` distributions.
    pub targets: &'a [f32],
    /// Classes.
    pub classes: usize,
    /// The teacher's logits.
    pub teacher: Option<&'a Batch>,
    /// Features the network should have.
    pub features: &'a [Batch],
    /// What the teacher's features become by learned maps, which the network's should be.
    pub maps: &'a [MapTarget],
    /// How they are weighed.
    pub distillation: Distillation,
    /// Weight of an image, one over the images of the step.
    pub weight: f64,
}

impl Loss for Objective<'_> {
    fn chunk(&self, samples: Range<usize>, taps: &[&[f32]], seeds: &mut [Vec<f32>]) -> f64 {
        let rows = |values: &'_ [f32], length: usize| -> Vec<f32> {
            values[samples.start * length..samples.end * length].to_vec()
        };
        let Distillation { share, labels, temperature, features: feature_weight } = self.distillation;
        let taught = self.teacher.map_or(0.0, |_| share);
        let targets = rows(self.targets, self.classes);
        let mut loss = cross_entropy(taps[0], &targets, self.classes, (1.0 - taught) * self.weight, &mut seeds[0]);
        if let Some(teacher) = self.teacher.filter(|_| taught > 0.0) {
            let teacher = rows(&teacher.data, self.classes);
            let weight = taught * self.weight;
            loss += match labels {
                TeacherLabels::Soft => {
                    soft_distillation(taps[0], &teacher, self.classes, temperature, weight, &mut seeds[0])
                }
                TeacherLabels::Hard => hard_distillation(taps[0], &teacher, self.classes, weight, &mut seeds[0]),
            };
        }
        let (count, follows) = (self.features.len().max(1) as f64, 1 + self.features.len());
        for ((target, tap), seed) in self.maps.iter().zip(&taps[follows..]).zip(&mut seeds[follows..]) {
            target.saw(&samples, tap);
            let wanted = rows(&target.wanted.data, target.wanted.elements());
            loss += square_distance(tap, &wanted, target.weight, seed);
        }
        for ((wanted, tap), seed) in self.features.iter().zip(&taps[1..]).zip(&mut seeds[1..]) {
            let length = wanted.elements();
            loss +=
                feature_distance(tap, &rows(&wanted.data, length), length, feature_weight * self.weight / count, seed);
        }
        loss
    }
}
