//! From the bytes of a request to an answer. One engine per thread and load.

use std::time::Instant;

use stitchkit_runtime::bundle::Bundle;

use super::pilot::Pilot;
use super::{Refusal, Service, View};
use crate::answer::{self, Answer};
use crate::args::RawFormat;
use crate::failure::Failure;
use crate::input;
use crate::runner::Runner;

/// One request.
#[derive(Debug)]
pub struct Question {
    /// An `.npy` file, or raw elements.
    pub body: Vec<u8>,
    /// What raw elements are; `None`: what the service takes by default.
    pub raw: Option<RawFormat>,
    /// When the request had arrived.
    pub arrived: Instant,
    /// Time from the arrival in which the request wants its answer; `None`: the service's deadline, if it has one.
    pub deadline_us: Option<u64>,
}

/// Answers requests with one load of the bundle under one memory limit.
pub struct Engine<'b> {
    service: &'b Service,
    view: &'b View,
    bundle: &'b Bundle<'b>,
    pilot: Option<Pilot<'b>>,
    runner: Option<Runner<'b>>,
}

impl<'b> Engine<'b> {
    /// An engine for `view`, whose bytes `bundle` was parsed from. Memory is taken by the first answer.
    pub const fn new(service: &'b Service, view: &'b View, bundle: &'b Bundle<'b>) -> Self {
        Self { service, view, bundle, pilot: None, runner: None }
    }

    /// Answers one request and counts it.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn answer(&mut self, question: &Question) -> Result<Answer, Refusal> {
        let result = self.try_answer(question);
        match &result {
            Ok(answer) => {
                self.view.generation.count(answer.plan);
                self.service.metrics.count_answer(answer);
            }
            Err(refusal) => self.service.metrics.count_error(refusal.kind()),
        }
        result
    }

    fn try_answer(&mut self, question: &Question) -> Result<Answer, Refusal> {
        if !self.view.generation.file.is_unchanged() {
            return Err(Refusal::Changed);
        }
        let input = self.decode(question)?;
        let deadline_us = question.deadline_us.or(self.service.args().latency_us);
        let queue_us = micros(question.arrived);
        let index = self.pilot()?.choose(deadline_us, queue_us)?;
        let mut logits = Vec::new();
        let start = Instant::now();
        self.run(index, &input, &mut logits).map_err(|f| Refusal::Failed(f.message().unwrap_or_default()))?;
        let inference_us = micros(start);
        let record = self.pilot()?.observe(inference_us);
        self.service.trace.write(&record);
        let plan = self.bundle.plan(index).ok_or(Refusal::Changed)?;
        Ok(Answer {
            inference_us,
            queue_us,
            deadline_us,
            generation: self.view.generation.number,
            bundle: self.view.generation.name.clone(),
            plan: index,
            path: plan.path.to_owned(),
            accuracy_ppm: plan.accuracy_ppm,
            quant: (plan.output_quant.zero_point.into(), plan.output_quant.scale),
            top: answer::top(self.bundle, &logits),
            logits,
        })
    }

    /// The one input in the body.
    fn decode(&self, question: &Question) -> Result<Vec<i8>, Refusal> {
        let by_default = || match self.bundle.input_lut(0) {
            Some(_) => RawFormat::Pixels,
            None => RawFormat::Int8,
        };
        let raw = question.raw.or(self.service.args().raw).unwrap_or_else(by_default);
        let values = input::decode(&question.body, raw, self.bundle).map_err(Refusal::Input)?;
        let need = self.bundle.meta().input.len();
        if values.len() != need {
            return Err(Refusal::Input(format!("holds {} inputs; send one per request", values.len() / need.max(1))));
        }
        Ok(values)
    }

    /// What chooses plans, made by the first answer.
    fn pilot(&mut self) -> Result<&mut Pilot<'b>, Refusal> {
        let pilot = match self.pilot.take() {
            Some(pilot) => pilot,
            None => {
                let times = &self.view.generation.times;
                let margin_percent = self.service.args().margin_percent;
                Pilot::new(self.bundle, times, self.view.ram_bytes, margin_percent).map_err(Refusal::Deadline)?
            }
        };
        Ok(self.pilot.insert(pilot))
    }

    fn run(&mut self, plan: u16, input: &[i8], logits: &mut Vec<i8>) -> Result<(), Failure> {
        let runner = match &mut self.runner {
            Some(runner) => runner,
            none => {
                let file = &self.view.generation.file;
                none.insert(Runner::new(self.service.how(), file, self.bundle, plan)?)
            }
        };
        runner.switch(plan)?;
        runner.run(input, logits)
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
