//! A cheap plan that answers where it is sure, and a costly one elsewhere, over a data set.

use rayon::prelude::*;
use serde::Serialize;
use stitchkit_runtime::bundle::{AlignedBytes, Bundle};
use stitchkit_runtime::exec::{Cascade, CascadeExecutor, ExecError};
use stitchkit_runtime::kernels::Isa;

use super::{InferError, copy_input};

/// What both plans answer, counted by the lead of the cheap plan's best logit over its second.
#[derive(Debug, Clone)]
pub struct Survey {
    by_lead: [Count; 256],
    images: usize,
    cheap_macs: u64,
    /// Of the costly plan, without the blocks it shares.
    rest_macs: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    images: usize,
    cheap_correct: usize,
    costly_correct: usize,
}

/// Accuracy and average cost at one threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// The costly plan runs where the lead is below this.
    pub threshold: u8,
    /// Share of right answers.
    pub accuracy: f64,
    /// Share of images that the costly plan answers.
    pub escalated: f64,
    /// Multiply-accumulates of an inference, averaged over the images.
    pub average_macs: f64,
}

impl Survey {
    /// Runs both plans of `cascade` on all quantized `inputs`. `progress` is told of finished images.
    ///
    /// # Errors
    /// [`InferError`] of the first inference that fails.
    pub fn run<'a>(
        bundle: &Bundle<'a>,
        cascade: &Cascade<'a>,
        inputs: &[i8],
        labels: &[u16],
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Self, InferError> {
        const CHUNK: usize = 32;
        let macs = |plan: u16| bundle.plan(plan).map_or(0, |plan| plan.macs);
        let empty = Self {
            by_lead: [Count::default(); 256],
            images: 0,
            cheap_macs: macs(cascade.cheap()),
            rest_macs: macs(cascade.costly()).saturating_sub(cascade.shared_macs(bundle)),
        };
        let len = bundle.meta().input.len();
        let chunks = inputs.par_chunks(CHUNK * len).zip(labels.par_chunks(CHUNK));
        let surveys = chunks.map(|(inputs, labels)| {
            let mut survey = empty.clone();
            survey.add(bundle, cascade, inputs, labels)?;
            progress(labels.len() as u64);
            Ok::<Self, InferError>(survey)
        });
        surveys.try_reduce(|| empty.clone(), |a, b| Ok(a.merged(&b)))
    }

    fn add<'a>(
        &mut self,
        bundle: &Bundle<'a>,
        cascade: &Cascade<'a>,
        inputs: &[i8],
        labels: &[u16],
    ) -> Result<(), InferError> {
        let mut arena = AlignedBytes::new(cascade.arena_bytes() as usize);
        let mut executor = CascadeExecutor::with_isa(bundle, cascade.clone(), arena.as_mut_slice(), Isa::best())?;
        for (input, &label) in inputs.chunks_exact(bundle.meta().input.len()).zip(labels) {
            let mut answer = |least_lead| -> Result<_, InferError> {
                copy_input(executor.input()?, input)?;
                Ok::<_, InferError>(executor.run(least_lead).map(|answer| answer.top)?)
            };
            // A lead of 0 always suffices; one of 255 hardly ever does, and then nothing below 255 escalates either.
            let (cheap, costly) = (answer(0)?, answer(u8::MAX)?);
            let count = self.by_lead.get_mut(usize::from(cheap.lead)).ok_or(ExecError::Changed)?;
            count.images += 1;
            count.cheap_correct += usize::from(cheap.class == label);
            count.costly_correct += usize::from(costly.class == label);
            self.images += 1;
        }
        Ok(())
    }

    fn merged(mut self, other: &Self) -> Self {
        self.images += other.images;
        for (mine, theirs) in self.by_lead.iter_mut().zip(&other.by_lead) {
            mine.images += theirs.images;
            mine.cheap_correct += theirs.cheap_correct;
            mine.costly_correct += theirs.costly_correct;
        }
        self
    }

    /// Accuracy and average cost if the costly plan runs where the lead is below `threshold`.
    #[must_use]
    pub fn at(&self, threshold: u8) -> Point {
        let (unsure, sure) = self.by_lead.split_at(usize::from(threshold));
        let correct = unsure.iter().map(|c| c.costly_correct).sum::<usize>()
            + sure.iter().map(|c| c.cheap_correct).sum::<usize>();
        let images = self.images.max(1) as f64;
        let escalated = unsure.iter().map(|c| c.images).sum::<usize>() as f64 / images;
        Point {
            threshold,
            accuracy: correct as f64 / images,
            escalated,
            average_macs: self.cheap_macs as f64 + escalated * self.rest_macs as f64,
        }
    }
}
