//! What the plans of a bundle cost and how accurate they are, for machines to read: `models/*/results.json`.

use serde::{Deserialize, Serialize};
use stitchkit_runtime::bundle::Bundle;

use super::table::ppm_share;

/// Version of the file.
const SCHEMA_VERSION: u32 = 1;

/// The file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Raised when a field changes its meaning or goes away.
    pub schema_version: u32,
    /// Name of the family.
    pub family: String,
    /// By rising cost.
    pub plans: Vec<PlanResult>,
}

/// One plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanResult {
    /// Index in the bundle.
    pub id: u16,
    /// Id of the stitch in the enumeration of the family.
    pub stitch: u32,
    /// Path through the anchors.
    pub path: String,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// Weights and biases.
    pub params: u64,
    /// Memory for activations and scratch.
    pub arena_bytes: u32,
    /// Share of right answers on the evaluation images before quantization.
    pub accuracy_float: f64,
    /// The same in int8.
    pub accuracy_int8: f64,
}

impl Results {
    /// What a bundle holds of every plan.
    #[must_use]
    pub fn of(bundle: &Bundle<'_>) -> Self {
        let plans = (0u16..).zip(bundle.plans()).map(|(id, plan)| PlanResult {
            id,
            stitch: plan.stitch,
            path: plan.path.to_owned(),
            macs: plan.macs,
            params: plan.params,
            arena_bytes: plan.arena_bytes,
            accuracy_float: ppm_share(plan.float_accuracy_ppm),
            accuracy_int8: ppm_share(plan.accuracy_ppm),
        });
        Self { schema_version: SCHEMA_VERSION, family: bundle.meta().name.to_owned(), plans: plans.collect() }
    }

    /// The file's text.
    ///
    /// # Errors
    /// None in practice; serde's if a value has no JSON form.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}
