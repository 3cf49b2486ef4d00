//! From stored pixels to a training batch: random crop of a mirrored border, random flip, mixup, smoothed labels.

use serde::{Deserialize, Serialize};

use super::random::{Purpose, Random};
use crate::family::{Border, Dataset, InputConfig};
use crate::graph::Batch;

/// How training images are varied.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Augmentation {
    /// Pixels by which an image is moved at most in each direction.
    pub crop_padding: usize,
    /// What comes in at the edge of a moved image.
    pub border: Border,
    /// Whether half of the images are mirrored left to right.
    pub flip: Flip,
    /// Parameter of the beta distribution from which the share of the second image of a mixture is drawn; 0 mixes nothing.
    pub mixup: f64,
    /// Share of the label that is spread over all classes.
    pub label_smoothing: f64,
}

/// Whether images are mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flip {
    /// Never.
    Never,
    /// Half of them, left to right.
    Horizontal,
}

/// Images as the networks take them, with the distribution over classes that each should yield.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingBatch {
    /// Images.
    pub images: Batch,
    /// `[images][classes]`, rows sum to 1.
    pub targets: Vec<f32>,
}

/// The batch of a step: the listed images of a data set, varied as the seed and the step say.
#[must_use]
pub fn batch(
    data: &Dataset,
    indices: &[usize],
    classes: usize,
    input: &InputConfig,
    settings: &Augmentation,
    seed: u64,
    step: u64,
) -> TrainingBatch {
    let mut random = Random::new(seed, Purpose::Augment, step);
    let mut pixels = Vec::with_capacity(indices.len() * input.pixels());
    for &index in indices {
        varied(data.image(index), data.shape, settings, &mut random, &mut pixels);
    }
    let mut images = Batch { n: indices.len(), shape: data.shape.to_vec(), data: input.normalize(&pixels) };
    let mut targets = targets(data, indices, classes, settings.label_smoothing);
    if settings.mixup > 0.0 {
        let share = Random::new(seed, Purpose::Mixup, step).beta(settings.mixup) as f32;
        mix(&mut images.data, indices.len(), share);
        mix(&mut targets, indices.len(), share);
    }
    TrainingBatch { images, targets }
}

fn targets(data: &Dataset, indices: &[usize], classes: usize, smoothing: f64) -> Vec<f32> {
    let rest = (smoothing / classes as f64) as f32;
    let mut targets = vec![rest; indices.len() * classes];
    for (row, &index) in targets.chunks_exact_mut(classes.max(1)).zip(indices) {
        if let Some(target) = row.get_mut(usize::from(data.labels[index])) {
            *target += 1.0 - smoothing as f32;
        }
    }
    targets
}

/// Appends one image, moved and mirrored.
fn varied(
    image: &[u8],
    [height, width, channels]: [usize; 3],
    settings: &Augmentation,
    random: &mut Random,
    to: &mut Vec<u8>,
) {
    let pad = settings.crop_padding.min(height.saturating_sub(1)).min(width.saturating_sub(1));
    let (down, right) = (random.below(2 * pad + 1), random.below(2 * pad + 1));
    let flips = settings.flip == Flip::Horizontal && random.bits() & 1 == 1;
    let source = |at: usize, moved: usize, extent: usize| {
        let at = (at + moved) as isize - pad as isize;
        match settings.border {
            Border::Mirror => Some(mirrored(at, extent)),
            Border::Zero => usize::try_from(at).ok().filter(|&at| at < extent),
        }
    };
    for y in 0..height {
        for x in 0..width {
            let x = if flips { width - 1 - x } else { x };
            match (source(y, down, height), source(x, right, width)) {
                (Some(y), Some(x)) => {
                    let at = (y * width + x) * channels;
                    to.extend_from_slice(&image[at..at + channels]);
                }
                _ => to.extend(std::iter::repeat_n(0, channels)),
            }
        }
    }
}

/// Reflection at the first and last index, which are not repeated.
fn mirrored(at: isize, extent: usize) -> usize {
    let last = extent as isize - 1;
    let inside = if at < 0 { -at } else { at };
    (if inside > last { 2 * last - inside } else { inside }).clamp(0, last) as usize
}

/// Every row becomes `share` of itself and the rest of the row at the same distance from the other end.
fn mix(rows: &mut [f32], count: usize, share: f32) {
    let length = rows.len() / count.max(1);
    for first in 0..count / 2 {
        let (low, high) = rows.split_at_mut((count - 1 - first) * length);
        let pairs = low[first * length..(first + 1) * length].iter_mut().zip(&mut high[..length]);
        for (a, b) in pairs {
            (*a, *b) = (share * *a + (1.0 - share) * *b, share * *b + (1.0 - share) * *a);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Layout;
    use proptest::prelude::*;

    const PLAIN: Augmentation =
        Augmentation { crop_padding: 0, border: Border::Mirror, flip: Flip::Never, mixup: 0.0, label_smoothing: 0.0 };

    fn data(count: usize) -> (Dataset, InputConfig) {
        let shape = [3, 4, 1];
        let images = (0..count * 12).map(|i| (i * 7 % 256) as u8).collect();
        let labels = (0..count).map(|i| (i % 5) as u16).collect();
        let input = InputConfig { shape, layout: Layout::Nchw, scale: 1.0, mean: vec![0.0], std: vec![1.0] };
        (Dataset { images, labels, shape }, input)
    }

    #[test]
    fn without_settings_a_batch_is_the_images_as_they_are() {
        let (data, input) = data(6);
        let batch = batch(&data, &[4, 0], 5, &input, &PLAIN, 1, 9);
        assert_eq!(batch.images.sample(1), data.batch(0..1, &input).data);
        assert_eq!(batch.targets, [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_step_draws_the_same_again_and_another_step_something_else() {
        let (data, input) = data(8);
        let settings =
            Augmentation { crop_padding: 2, flip: Flip::Horizontal, mixup: 0.4, label_smoothing: 0.1, ..PLAIN };
        let all: Vec<usize> = (0..8).collect();
        let of = |step| batch(&data, &all, 5, &input, &settings, 3, step);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1).images, of(2).images);
    }

    #[test]
    fn a_border_of_zeros_brings_nothing_new_in() {
        let (mut data, input) = data(1);
        data.images.fill(9);
        let settings = Augmentation { crop_padding: 2, border: Border::Zero, ..PLAIN };
        let sums: Vec<f32> = (0..40)
            .map(|step| batch(&data, &[0], 5, &input, &settings, 7, step).images.data.iter().sum::<f32>() / 9.0)
            .collect();
        // Of 3x4 pixels those of a 1 to 3 by 2 to 4 part are left.
        assert!(
            sums.iter().all(|left| (2.0..=12.0).contains(left)) && sums.iter().any(|&left| left < 12.0),
            "{sums:?}"
        );
    }

    #[test]
    fn moved_images_are_mirrored_at_the_edge() {
        assert_eq!([-2, -1, 0, 3, 4, 5].map(|at| mirrored(at, 4)), [2, 1, 0, 3, 2, 1]);
    }

    proptest! {
        #[test]
        fn targets_stay_distributions_and_mixing_keeps_sums(
            mixup in 0.0f64..2.0, smoothing in 0.0f64..0.5, count in 1usize..9, seed in any::<u64>(),
        ) {
            let (data, input) = data(9);
            let settings = Augmentation { mixup, label_smoothing: smoothing, ..PLAIN };
            let chosen: Vec<usize> = (0..count).collect();
            let mixed = batch(&data, &chosen, 5, &input, &settings, seed, 0);
            for row in mixed.targets.chunks(5) {
                prop_assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5 && row.iter().all(|p| *p >= 0.0));
            }
            let plain = batch(&data, &chosen, 5, &input, &PLAIN, seed, 0);
            let sum = |batch: &TrainingBatch| batch.images.data.iter().sum::<f32>();
            prop_assert!((sum(&mixed) - sum(&plain)).abs() < 1e-3 * sum(&plain).abs().max(1.0));
        }
    }
}
