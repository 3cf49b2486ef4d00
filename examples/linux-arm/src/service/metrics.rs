//! What happened so far, as Prometheus text.

mod histogram;

use std::fmt::{Display, Write};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use histogram::Histogram;

use super::{Refusal, View};
use crate::answer::Answer;
use crate::failure::Failure;

/// Kinds of requests refused before an inference was tried.
pub const HTTP_KINDS: [&str; 7] =
    ["malformed", "too_large", "timeout", "not_found", "method", "connections", "length_required"];

/// Counters of the whole process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Changes of the plan that runs without a deadline.
    pub switches: AtomicU64,
    /// Times that memory was found under pressure.
    pub pressures: AtomicU64,
    /// Connections open now.
    pub connections: AtomicU64,
    inferences: AtomicU64,
    deadlines_missed: AtomicU64,
    inference: Histogram,
    request: Histogram,
    errors: [AtomicU64; Refusal::KINDS.len() + HTTP_KINDS.len()],
    reloads: AtomicU64,
    refused_reloads: AtomicU64,
    /// Why the last reload was refused; `None` after one that was not.
    refused_because: Mutex<Option<String>>,
}

impl Metrics {
    /// Counts an inference.
    pub fn count_answer(&self, answer: &Answer) {
        self.inferences.fetch_add(1, Ordering::Relaxed);
        self.inference.record(answer.inference_us);
        let latency_us = answer.queue_us.saturating_add(answer.inference_us);
        self.request.record(latency_us);
        if answer.deadline_us.is_some_and(|deadline| latency_us > deadline) {
            self.deadlines_missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a refusal of that kind.
    pub fn count_error(&self, kind: &str) {
        if let Some((_, count)) = self.errors().find(|(name, _)| *name == kind) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a reload and keeps the reason if it was refused.
    pub fn count_reload(&self, failure: Option<&Failure>) {
        let counter = if failure.is_some() { &self.refused_reloads } else { &self.reloads };
        counter.fetch_add(1, Ordering::Relaxed);
        let reason = failure.map(|failure| failure.message().unwrap_or_default());
        *self.refused_because.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Why the last reload was refused, if it was.
    pub fn refused_because(&self) -> Option<String> {
        self.refused_because.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn errors(&self) -> impl Iterator<Item = (&'static str, &AtomicU64)> {
        Refusal::KINDS.into_iter().chain(HTTP_KINDS).zip(&self.errors)
    }

    /// All of it in Prometheus' text format, version 0.0.4.
    pub fn text(&self, view: &View, level: usize, threads: NonZeroUsize) -> String {
        let mut page = Page(String::new());
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        page.counter("inferences_total", "Inferences answered.", count(&self.inferences));
        page.head("plan_inferences_total", "counter", "Inferences answered, by plan of the bundle in use.");
        for (index, plan) in view.generation.plans.iter().enumerate() {
            let labels = [("plan", index.to_string()), ("path", plan.path.clone())];
            page.sample("plan_inferences_total", &labels, count(&plan.inferences));
        }
        page.head("errors_total", "counter", "Requests refused, by reason.");
        for (kind, counter) in self.errors() {
            page.sample("errors_total", &[("kind", kind.to_owned())], count(counter));
        }
        page.counter(
            "deadlines_missed_total",
            "Answers that came after their deadline.",
            count(&self.deadlines_missed),
        );
        let slowdown = f64::from(view.generation.times.slowdown_permille()) / 1e3;
        page.gauge("slowdown_ratio", "How much slower than measured at load the last inferences were.", slowdown);
        self.inference.write(&mut page, "inference_seconds", "Time of one inference.");
        self.request.write(&mut page, "request_seconds", "Time from the arrival of a request to its answer.");
        page.gauge("plan", "Plan of requests without a deadline of their own.", view.plan);
        page.gauge("threads", "Threads that share an inference.", threads);
        page.gauge("memory_limit_bytes", "Arena that one worker may use.", view.ram_bytes);
        page.gauge("pressure_level", "Steps down from the largest plan because of memory pressure.", level);
        page.counter("pressure_total", "Times that memory was found under pressure.", count(&self.pressures));
        page.counter("plan_switches_total", "Changes of the plan.", count(&self.switches));
        page.gauge("connections", "Connections open.", count(&self.connections));
        self.write_bundle(&mut page, view);
        page.0
    }

    fn write_bundle(&self, page: &mut Page, view: &View) {
        let generation = &view.generation;
        page.head("bundle_info", "gauge", "The bundle in use.");
        let bytes = (*generation.file).as_ref().len().to_string();
        page.sample("bundle_info", &[("name", generation.name.clone()), ("bytes", bytes)], 1);
        page.gauge("bundle_generation", "Loads of the bundle.", generation.number);
        page.head("reloads_total", "counter", "Reloads asked for by SIGHUP.");
        for (result, counter) in [("ok", &self.reloads), ("refused", &self.refused_reloads)] {
            page.sample("reloads_total", &[("result", result.to_owned())], counter.load(Ordering::Relaxed));
        }
        let refused_because = self.refused_because();
        page.gauge("last_reload_ok", "1 unless the last reload was refused.", u8::from(refused_because.is_none()));
        page.head("last_reload_refused", "gauge", "Why the last reload was refused, while it is the last.");
        if let Some(reason) = refused_because {
            page.sample("last_reload_refused", &[("reason", reason)], 1);
        }
    }
}

/// A page in the making. Names get their prefix here.
pub struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP stitchkit_{name} {help}"));
        self.line(format_args!("# TYPE stitchkit_{name} {kind}"));
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, String)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(key, text)| format!("{key}=\"{}\"", escape(text))).collect();
        match labels.is_empty() {
            true => self.line(format_args!("stitchkit_{name} {value}")),
            false => self.line(format_args!("stitchkit_{name}{{{}}} {value}", labels.join(","))),
        }
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{text}");
    }
}

/// A label's value as the format wants it.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }

    #[test]
    fn every_kind_has_a_counter_of_its_own() {
        let metrics = Metrics::default();
        for kind in Refusal::KINDS.into_iter().chain(HTTP_KINDS) {
            metrics.count_error(kind);
        }
        assert!(metrics.errors().all(|(_, count)| count.load(Ordering::Relaxed) == 1));
        assert_eq!(metrics.errors().count(), metrics.errors.len());
    }

    #[test]
    fn a_refused_reload_is_remembered_until_one_succeeds() {
        let metrics = Metrics::default();
        metrics.count_reload(Some(&Failure::Failed("damaged".into())));
        assert_eq!(metrics.refused_because().as_deref(), Some("damaged"));
        metrics.count_reload(None);
        assert_eq!(metrics.refused_because(), None);
    }
}
