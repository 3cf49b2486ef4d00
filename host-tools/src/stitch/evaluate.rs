//! Float execution of candidates: logits and accuracy of many candidates at once, with what they share computed once.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::recalibrate::{crossing, recalibrated};
use super::space::segment;
use super::{Candidate, Crossing, Leg, Progress, StitchError, StitchingLayer};
use crate::family::{Dataset, Family};
use crate::graph::{Batch, Graph, ValueId, forward, forward_keep};

/// Images per forward pass.
const BATCH_IMAGES: usize = 32;

/// Accuracy of one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accuracy {
    /// Images whose largest logit is the label's.
    pub correct: usize,
    /// Images tried.
    pub images: usize,
}

impl Accuracy {
    /// Share of correct images, 0 to 1; 0 without images.
    #[must_use]
    pub fn share(self) -> f64 {
        if self.images == 0 { 0.0 } else { self.correct as f64 / self.images as f64 }
    }
}

/// Candidates made ready to run.
#[derive(Debug)]
pub struct Runner<'a> {
    family: &'a Family,
    candidates: &'a [Candidate],
    /// Parts of anchors other than the first, by leg and what recalibrates it.
    segments: BTreeMap<Entered, Graph>,
    /// What each anchor has to keep of a run from the image.
    kept: BTreeMap<usize, Vec<ValueId>>,
    /// Stitching layers by (layer, value shape taken, value shape given).
    stitches: BTreeMap<Stitch, Graph>,
}

type Stitch = (usize, Vec<usize>, Vec<usize>);
/// A leg behind a crossing; layer and crossing where its batch norms are measured anew.
type Entered = (Leg, Option<(usize, Crossing)>);

impl<'a> Runner<'a> {
    /// Prepares `candidates`, whose layers are indices into `layers`.
    ///
    /// # Errors
    /// [`StitchError::MissingLayer`], or [`StitchError::Segment`] when an anchor cannot be cut where a path wants it.
    pub fn new(
        family: &'a Family,
        candidates: &'a [Candidate],
        layers: &[StitchingLayer],
    ) -> Result<Self, StitchError> {
        let (segments, kept, stitches) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut runner = Self { family, candidates, segments, kept, stitches };
        for candidate in candidates {
            runner.prepare(candidate, layers)?;
        }
        for values in runner.kept.values_mut() {
            values.sort_unstable();
            values.dedup();
        }
        Ok(runner)
    }

    fn prepare(&mut self, candidate: &Candidate, layers: &[StitchingLayer]) -> Result<(), StitchError> {
        if let Some(first) = candidate.legs.first() {
            let value = end_value(self.family, *first);
            self.kept.entry(first.anchor).or_default().push(value);
        }
        for (pair, &layer) in candidate.legs.windows(2).zip(&candidate.layers) {
            let weights = layers.get(layer).ok_or_else(|| StitchError::MissingLayer {
                path: candidate.path.clone(),
                layer,
                given: layers.len(),
            })?;
            let key = stitch_key(self.family, layer, pair[0], pair[1]);
            let graph = weights.to_graph(&key.1, &key.2);
            self.stitches.insert(key, graph);
            let norms = weights.norms_at(crossing(pair[0], pair[1]));
            let entered = (pair[1], (!norms.is_empty()).then(|| (layer, crossing(pair[0], pair[1]))));
            if !self.segments.contains_key(&entered) {
                self.segments.insert(entered, recalibrated(segment(self.family, pair[1])?, norms));
            }
        }
        Ok(())
    }

    /// Logits of every candidate, in order, for a batch of normalised images.
    #[must_use]
    pub fn logits(&self, images: &Batch) -> Vec<Batch> {
        let mut fronts = BTreeMap::new();
        for (&anchor, values) in &self.kept {
            let kept = forward_keep(&self.family.anchors[anchor].graph, images, values);
            fronts.extend(values.iter().map(|&value| (anchor, value)).zip(kept));
        }
        self.candidates.par_iter().map(|candidate| self.finish(candidate, &fronts)).collect()
    }

    fn finish(&self, candidate: &Candidate, fronts: &BTreeMap<(usize, ValueId), Batch>) -> Batch {
        let first = candidate.legs[0];
        let front = &fronts[&(first.anchor, end_value(self.family, first))];
        let mut crossed: Option<Batch> = None;
        for (pair, &layer) in candidate.legs.windows(2).zip(&candidate.layers) {
            let stitch = &self.stitches[&stitch_key(self.family, layer, pair[0], pair[1])];
            let entered = forward(stitch, crossed.as_ref().unwrap_or(front));
            let own = (pair[1], Some((layer, crossing(pair[0], pair[1]))));
            let graph = self.segments.get(&own).unwrap_or_else(|| &self.segments[&(pair[1], None)]);
            crossed = Some(forward(graph, &entered));
        }
        crossed.unwrap_or_else(|| front.clone())
    }
}

/// The value at which a leg ends.
fn end_value(family: &Family, leg: Leg) -> ValueId {
    let anchor = &family.anchors[leg.anchor];
    leg.to.map_or(anchor.graph.output, |cut| anchor.cuts[cut].value)
}

fn stitch_key(family: &Family, layer: usize, left: Leg, entered: Leg) -> Stitch {
    let graph = &family.anchors[entered.anchor].graph;
    let entry = entered.from.map_or(ValueId::INPUT, |cut| family.anchors[entered.anchor].cuts[cut].value);
    let from = family.anchors[left.anchor].graph.shape(end_value(family, left));
    (layer, from.to_vec(), graph.shape(entry).to_vec())
}

/// In how many places two lists of classes are equal: right answers, or answers that two networks share.
#[must_use]
pub fn equal(answers: &[u16], others: &[u16]) -> usize {
    answers.iter().zip(others).filter(|(answer, other)| answer == other).count()
}

/// Float accuracy of `candidates` on a dataset, in order. `progress` counts images.
///
/// # Errors
/// As [`Runner::new`], and [`StitchError::NoImages`].
pub fn accuracy(
    family: &Family,
    candidates: &[Candidate],
    layers: &[StitchingLayer],
    images: &Dataset,
    progress: Progress<'_>,
) -> Result<Vec<Accuracy>, StitchError> {
    let answers = answers(family, candidates, layers, images, progress)?;
    let of = |answers: &Vec<u16>| Accuracy { correct: equal(answers, &images.labels), images: images.len() };
    Ok(answers.iter().map(of).collect())
}

/// The class that `candidates` say of every image of a dataset: per candidate, in order. `progress` counts images.
///
/// # Errors
/// As [`accuracy`].
pub fn answers(
    family: &Family,
    candidates: &[Candidate],
    layers: &[StitchingLayer],
    images: &Dataset,
    progress: Progress<'_>,
) -> Result<Vec<Vec<u16>>, StitchError> {
    let mut results = vec![Vec::with_capacity(images.len()); candidates.len()];
    each_batch(family, candidates, layers, images, progress, |logits| {
        for (result, logits) in results.iter_mut().zip(&logits) {
            let rows = logits.data.chunks_exact(logits.data.len() / logits.n);
            result.extend(rows.map(|row| argmax(row) as u16));
        }
    })?;
    Ok(results)
}

/// Logits of `candidates` on a dataset: per candidate `[images][classes]`, in order. `progress` counts images.
///
/// # Errors
/// As [`accuracy`].
pub fn logits(
    family: &Family,
    candidates: &[Candidate],
    layers: &[StitchingLayer],
    images: &Dataset,
    progress: Progress<'_>,
) -> Result<Vec<Vec<f32>>, StitchError> {
    let mut results = vec![Vec::new(); candidates.len()];
    each_batch(family, candidates, layers, images, progress, |logits| {
        results.iter_mut().zip(&logits).for_each(|(all, part)| all.extend_from_slice(&part.data));
    })?;
    Ok(results)
}

fn each_batch(
    family: &Family,
    candidates: &[Candidate],
    layers: &[StitchingLayer],
    images: &Dataset,
    progress: Progress<'_>,
    mut sink: impl FnMut(Vec<Batch>),
) -> Result<(), StitchError> {
    if images.is_empty() {
        return Err(StitchError::NoImages { task: "evaluation" });
    }
    let runner = Runner::new(family, candidates, layers)?;
    for start in (0..images.len()).step_by(BATCH_IMAGES) {
        let range = start..(start + BATCH_IMAGES).min(images.len());
        sink(runner.logits(&images.batch(range.clone(), &family.config.input)));
        progress(range.end as u64, images.len() as u64);
    }
    Ok(())
}

/// Index of the largest value, the first of equal ones: the class that logits, float or int8, stand for.
#[must_use]
pub fn argmax<T: PartialOrd>(values: &[T]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stitch::init::least_squares;
    use crate::stitch::{silent, space, testnet};

    #[test]
    fn a_candidate_equals_its_parts_run_one_after_the_other() {
        let family = testnet::family(&[3, 4], &[1, 2]);
        let space = space::enumerate(&family).unwrap();
        let images = testnet::images(5);
        let layers = least_squares(&family, &space, &images, 0.0, &silent).unwrap().layers;
        let batch = images.batch(0..5, &family.config.input);
        let together = Runner::new(&family, &space.candidates, &layers).unwrap().logits(&batch);
        for (candidate, logits) in space.candidates.iter().zip(&together) {
            let mut value = forward(&segment(&family, candidate.legs[0]).unwrap(), &batch);
            for (leg, &layer) in candidate.legs[1..].iter().zip(&candidate.layers) {
                let part = segment(&family, *leg).unwrap();
                value = forward(&part, &forward(&layers[layer].to_graph(&value.shape, &part.input_shape), &value));
            }
            assert_eq!(value.data, logits.data, "{}", candidate.path);
        }
    }

    #[test]
    fn accuracy_counts_the_largest_logit_across_batches() {
        let family = testnet::family(&[2, 2], &[3, 4]);
        let space = space::enumerate(&family).unwrap();
        let mut images = testnet::images(BATCH_IMAGES + 3);
        let layers = least_squares(&family, &space, &images, 0.0, &silent).unwrap().layers;
        let all = logits(&family, &space.candidates, &layers, &images, &silent).unwrap();
        // Label every image as the first anchor sees it, then spoil one label in each batch.
        images.labels = all[0].chunks(testnet::CLASSES).map(|row| argmax(row) as u16).collect();
        for spoilt in [0, BATCH_IMAGES + 1] {
            images.labels[spoilt] = (images.labels[spoilt] + 1) % testnet::CLASSES as u16;
        }
        let results = accuracy(&family, &space.candidates, &layers, &images, &silent).unwrap();
        assert_eq!(results[0], Accuracy { correct: images.len() - 2, images: images.len() });
        assert!(results[1].share() < 1.0);
    }

    #[test]
    fn a_layer_that_was_not_given_is_named() {
        let family = testnet::family(&[2, 2], &[3, 4]);
        let space = space::enumerate(&family).unwrap();
        let error = Runner::new(&family, &space.candidates, &[]).unwrap_err();
        assert!(error.to_string().contains("> anchor1["), "{error}");
    }

    #[test]
    fn argmax_takes_the_first_of_equal_values() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), 1);
    }
}
