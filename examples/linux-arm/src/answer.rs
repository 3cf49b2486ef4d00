//! What came out of one inference, as text and JSON.

use stitchkit_runtime::bundle::Bundle;

use crate::json;

/// Classes that [`Answer::json`] lists in `top`.
const TOP: usize = 5;

/// One inference.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Load of the bundle that answered, from 1.
    pub generation: u64,
    /// Name of the bundle.
    pub bundle: String,
    /// Index of the plan.
    pub plan: u16,
    /// Its path through the anchors.
    pub path: String,
    /// Its accuracy, parts per million.
    pub accuracy_ppm: u32,
    /// Zero point and scale of the logits.
    pub quant: (i32, f32),
    /// Best classes with their labels and logits, best first.
    pub top: Vec<(usize, String, i8)>,
    /// All int8 logits.
    pub logits: Vec<i8>,
    /// Time from the arrival of the request to the start of the inference.
    pub queue_us: u64,
    /// Time of the inference.
    pub inference_us: u64,
    /// Deadline in force, if any.
    pub deadline_us: Option<u64>,
}

impl Answer {
    /// The answer as one JSON object.
    pub fn json(&self) -> String {
        let top = |(class, label, logit): &(usize, String, i8)| {
            json::object([("class", class.to_string()), ("label", json::string(label)), ("logit", logit.to_string())])
        };
        let latency_us = self.queue_us.saturating_add(self.inference_us);
        let best = self.top.first();
        json::object([
            ("schema_version", "1".into()),
            ("bundle", json::string(&self.bundle)),
            ("generation", self.generation.to_string()),
            ("plan", self.plan.to_string()),
            ("path", json::string(&self.path)),
            ("accuracy_ppm", self.accuracy_ppm.to_string()),
            ("class", json::optional(best.map(|(class, ..)| class))),
            ("label", best.map_or_else(|| "null".into(), |(_, label, _)| json::string(label))),
            ("top", json::array(self.top.iter().map(top))),
            ("logits", json::array(self.logits.iter().map(i8::to_string))),
            ("output_scale", self.quant.1.to_string()),
            ("output_zero_point", self.quant.0.to_string()),
            ("queue_us", self.queue_us.to_string()),
            ("inference_us", self.inference_us.to_string()),
            ("latency_us", latency_us.to_string()),
            ("deadline_us", json::optional(self.deadline_us)),
            ("deadline_met", json::optional(self.deadline_us.map(|deadline| latency_us <= deadline))),
        ])
    }
}

/// Index and name of the largest logit; the first of equal ones.
pub fn best<'b>(bundle: &Bundle<'b>, logits: &[i8]) -> (usize, &'b str) {
    let largest = logits.iter().max();
    let class = logits.iter().position(|logit| Some(logit) == largest).unwrap_or(0);
    (class, label(bundle, class))
}

/// The best classes, best first; of equal logits the lower class.
pub fn top(bundle: &Bundle<'_>, logits: &[i8]) -> Vec<(usize, String, i8)> {
    let mut order: Vec<(usize, i8)> = logits.iter().copied().enumerate().collect();
    order.sort_by_key(|&(class, logit)| (std::cmp::Reverse(logit), class));
    order.into_iter().take(TOP).map(|(class, logit)| (class, label(bundle, class).to_owned(), logit)).collect()
}

fn label<'b>(bundle: &Bundle<'b>, class: usize) -> &'b str {
    bundle.meta().labels.lines().nth(class).unwrap_or("")
}

/// Class, label and all logits, separated by tabs and spaces.
pub fn line(bundle: &Bundle<'_>, logits: &[i8]) -> String {
    let (class, label) = best(bundle, logits);
    fields(class, label, logits)
}

/// As [`line`], of parts.
pub fn fields(class: usize, label: &str, logits: &[i8]) -> String {
    let logits = logits.iter().map(i8::to_string).collect::<Vec<_>>().join(" ");
    format!("{class}\t{label}\t{logits}")
}
