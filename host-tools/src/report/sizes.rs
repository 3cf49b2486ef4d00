//! Where a bundle's bytes go.

use std::collections::BTreeSet;

use stitchkit_runtime::bundle::{Bundle, Op, Plan};

/// Bytes of weights and tables on one plan's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanBytes {
    /// int8 weights on the path, each counted once.
    pub weight_bytes: u64,
    /// Of those, weights that no other plan uses.
    pub own_weight_bytes: u64,
    /// Of those, weights that some other plan uses too.
    pub shared_weight_bytes: u64,
    /// Biases, multipliers, shifts and lookup tables on the path.
    pub table_bytes: u64,
}

/// Where the bytes of a whole bundle go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleBytes {
    /// int8 weights that some plan uses, each counted once.
    pub distinct_weight_bytes: u64,
    /// Weights and tables of all plans, as if each were stored by itself.
    pub separate_models_bytes: u64,
    /// One entry per plan.
    pub plans: Vec<PlanBytes>,
}

type Extent = (u64, u64);

/// Counts the weights and tables of every plan.
#[must_use]
pub fn measure(bundle: &Bundle<'_>) -> BundleBytes {
    let uses: Vec<(BTreeSet<Extent>, u64)> = bundle.plans().map(|plan| uses_of(bundle, &plan)).collect();
    let all: BTreeSet<Extent> = uses.iter().flat_map(|(extents, _)| extents.iter().copied()).collect();
    let plans: Vec<PlanBytes> = uses
        .iter()
        .enumerate()
        .map(|(index, (extents, table_bytes))| {
            let others = uses.iter().enumerate().filter(|(i, _)| *i != index);
            let elsewhere: BTreeSet<Extent> = others.flat_map(|(_, (e, _))| e.iter().copied()).collect();
            let weight_bytes = covered(extents);
            let shared_weight_bytes = covered(&extents.intersection(&elsewhere).copied().collect());
            PlanBytes {
                weight_bytes,
                own_weight_bytes: weight_bytes - shared_weight_bytes,
                shared_weight_bytes,
                table_bytes: *table_bytes,
            }
        })
        .collect();
    BundleBytes {
        distinct_weight_bytes: covered(&all),
        separate_models_bytes: plans.iter().map(|p| p.weight_bytes + p.table_bytes).sum(),
        plans,
    }
}

/// Weight extents (start, end) and table bytes of a plan.
fn uses_of(bundle: &Bundle<'_>, plan: &Plan<'_>) -> (BTreeSet<Extent>, u64) {
    let mut extents = BTreeSet::new();
    let mut table_bytes = 0;
    for placed in bundle.steps_of(plan) {
        match placed.step.op {
            Op::Conv2d { geometry, weights, .. } => {
                let len = geometry.taps() as u64 * u64::from(geometry.output.c);
                extents.insert((u64::from(weights), u64::from(weights) + len));
                table_bytes += 9 * u64::from(geometry.output.c);
            }
            Op::Depthwise { geometry, weights, .. } => {
                let [rows, columns] = geometry.window.kernel;
                let len = u64::from(rows) * u64::from(columns) * u64::from(geometry.input.c);
                extents.insert((u64::from(weights), u64::from(weights) + len));
                table_bytes += 9 * u64::from(geometry.output.c);
            }
            Op::Lut { .. } => table_bytes += 256,
            Op::Softmax { .. } => table_bytes += 1024,
            Op::LayerNorm { shape, .. } => table_bytes += 8 * u64::from(shape.c),
            Op::AddConstant { shape, constants, .. } => {
                extents.insert((u64::from(constants), u64::from(constants) + shape.elements()));
            }
            Op::Concat { input, before, after, constants } => {
                let len = (u64::from(before) + u64::from(after)) * u64::from(input.c);
                extents.insert((u64::from(constants), u64::from(constants) + len));
            }
            _ => {}
        }
    }
    (extents, table_bytes)
}

/// Bytes covered by the union of extents.
fn covered(extents: &BTreeSet<Extent>) -> u64 {
    let mut end = 0;
    let mut sum = 0;
    for &(from, to) in extents {
        sum += to.saturating_sub(from.max(end));
        end = end.max(to);
    }
    sum
}
