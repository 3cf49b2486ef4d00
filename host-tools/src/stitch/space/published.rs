//! The published tables of SN-Net and SN-Netv2, from exported timm graphs without weights.

use std::path::{Path, PathBuf};

use super::figures::{Count, Figures, Ledger};
use super::*;
use crate::graph::{find_blocks, import_structure};

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/timm")
}

/// Id, FLOPs, and parameters where they are published.
fn table(name: &str) -> Vec<(usize, u64, Option<u64>)> {
    let text = std::fs::read_to_string(models().join("published").join(name)).unwrap();
    let rows = text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let number = |cell: &str| cell.parse::<u64>().unwrap();
    rows.map(|row| {
        let cells: Vec<u64> = row.split(',').map(number).collect();
        (cells[0] as usize, cells[1], cells.get(2).copied())
    })
    .collect()
}

fn figures_of(family: &str) -> (Space, Vec<Figures>) {
    let family = Family::load_structure(&models().join(family)).unwrap_or_else(|error| panic!("{error}"));
    let space = enumerate(&family).unwrap();
    let mut ledger = Ledger::new(&family);
    let figures = space.candidates.iter().map(|candidate| ledger.figures(candidate, Count::Fvcore).unwrap()).collect();
    (space, figures)
}

fn assert_published(family: &str, candidates: usize, csv: &str, rows: usize) {
    let (space, figures) = figures_of(family);
    let table = table(csv);
    assert_eq!((space.candidates.len(), table.len()), (candidates, rows));
    for (id, flops, params) in table {
        let ours = figures[id];
        assert_eq!(ours.operations, flops, "FLOPs of {id}: {}", space.candidates[id].path);
        assert!(params.is_none_or(|params| params == ours.params), "parameters of {id}: {}", space.candidates[id].path);
    }
}

#[test]
fn all_71_networks_of_deit_ti_s_b() {
    assert_published("deit-ti-s-b", 71, "deit_sn_net_v1.csv", 71);
}

#[test]
fn all_134_networks_of_deit3_s_l() {
    assert_published("deit3-s-l", 135, "deit3_s_l_sn_net_v2_imagenet.csv", 134);
}

#[test]
fn all_10_networks_of_resnet_18_50() {
    assert_published("resnet-18-50", 10, "resnet18_resnet50_sn_net_v1.csv", 10);
}

#[test]
fn both_exporters_give_the_same_blocks_and_counts() {
    let import = |name: &str| import_structure(&models().join("structures").join(name)).unwrap();
    let (a, b) = (import("deit-ti.onnx"), import("deit-ti-dynamo.onnx"));
    assert_eq!(crate::graph::cost::flops(&a), crate::graph::cost::flops(&b));
    assert_eq!(crate::graph::cost::published_params(&a), crate::graph::cost::published_params(&b));
    let blocks = |graph: &Graph| find_blocks(graph).iter().map(|stage| stage.outputs.len()).collect::<Vec<_>>();
    assert_eq!((blocks(&a), blocks(&b)), (vec![12], vec![12]));
}

#[test]
fn the_final_norm_is_skipped_in_stitches_alone() {
    let mut family = Family::load_structure(&models().join("deit-ti-s-b")).unwrap_or_else(|error| panic!("{error}"));
    let count = |family: &Family| {
        let space = enumerate(family).unwrap();
        let mut ledger = Ledger::new(family);
        [0, 3].map(|id| ledger.figures(&space.candidates[id], Count::Fvcore).unwrap().operations)
    };
    let skipped = count(&family);
    family.config.stitching.final_norm = FinalNorm::Applied;
    let applied = count(&family);
    assert_eq!([applied[0] - skipped[0], applied[1] - skipped[1]], [0, 5 * 197 * 384]);
}
