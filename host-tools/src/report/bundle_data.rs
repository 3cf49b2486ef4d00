//! A report from a bundle alone: its plans, and the anchors as far as block names tell.

use stitchkit_runtime::bundle::{Bundle, Plan};
use stitchkit_runtime::profile::Work;

use super::data::{AnchorData, BlockRef, NetworkData, ReportData, SCHEMA_VERSION};
use super::table::ppm_share;
use super::work::PlanWork;

/// What a bundle says of itself. Networks that were not kept are unknown to it.
#[must_use]
pub fn of_bundle(bundle: &Bundle<'_>) -> ReportData {
    let meta = bundle.meta();
    let mut anchors = Vec::new();
    let networks = (0u16..).zip(bundle.plans()).map(|(id, plan)| network(bundle, id, &plan, &mut anchors)).collect();
    ReportData {
        schema_version: SCHEMA_VERSION,
        name: meta.name.to_owned(),
        input: [meta.input.h.into(), meta.input.w.into(), meta.input.c.into()],
        bundle_bytes: bundle.len_bytes() as u64,
        ranking_images: None,
        evaluation_images: None,
        stages: Vec::new(),
        anchors,
        networks,
        boards: Vec::new(),
        traces: Vec::new(),
        training: None,
    }
}

fn network(bundle: &Bundle<'_>, id: u16, plan: &Plan<'_>, anchors: &mut Vec<AnchorData>) -> NetworkData {
    let accuracies = [ppm_share(plan.accuracy_ppm), ppm_share(plan.float_accuracy_ppm)];
    NetworkData {
        id: plan.stitch,
        plan: Some(id),
        path: plan.path.to_owned(),
        route: route(bundle, plan, anchors),
        macs: plan.macs,
        params: plan.params,
        arena_bytes: plan.arena_bytes,
        ranking: None,
        evaluation: (plan.accuracy_ppm > 0).then_some(accuracies),
        beaten_by: None,
        work: PlanWork::of(bundle.steps_of(plan).map(|placed| Work::of_placed(bundle, &placed))),
        noise: Vec::new(),
    }
}

/// The blocks of a plan. A bundle's block is named by the parts it was merged from, `small/0+small/1`; a stitching layer
/// is named `small/0>large/1` and no part of an anchor.
fn route(bundle: &Bundle<'_>, plan: &Plan<'_>, anchors: &mut Vec<AnchorData>) -> Vec<BlockRef> {
    let mut seen = None;
    let mut route = Vec::new();
    for placed in bundle.steps_of(plan) {
        if seen == Some(placed.block) {
            continue;
        }
        seen = Some(placed.block);
        let name = bundle.block(placed.block).map_or(String::new(), |block| block.name.to_owned());
        route.extend(name.split('+').filter_map(|part| block_ref(part, anchors)));
    }
    route
}

fn block_ref(part: &str, anchors: &mut Vec<AnchorData>) -> Option<BlockRef> {
    let (name, index) = part.rsplit_once('/').filter(|_| !part.contains('>'))?;
    // A name is no promise: an index beyond any real network is not drawn.
    let block: usize = index.parse().ok().filter(|&block| block < 4096)?;
    let anchor = anchors.iter().position(|a| a.name == name).unwrap_or_else(|| {
        anchors.push(AnchorData { name: name.to_owned(), blocks: Vec::new() });
        anchors.len() - 1
    });
    let known = anchors[anchor].blocks.len().max(block + 1);
    anchors[anchor].blocks.resize(known, None);
    Some(BlockRef { anchor, block })
}
