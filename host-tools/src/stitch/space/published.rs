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

/// One stage of a network: operations of a block, of what follows the last block, tokens, width, blocks.
struct Stage {
    block: u64,
    after: u64,
    tokens: u64,
    width: u64,
    depth: u64,
}

/// A network by the formulas that reproduce its published entries: stem, stages, head.
struct Formula {
    of_parameters: bool,
    stem: u64,
    stages: Vec<Stage>,
    head: u64,
}

impl Formula {
    fn whole(&self) -> u64 {
        self.stem + self.stages.iter().map(|stage| stage.depth * stage.block + stage.after).sum::<u64>() + self.head
    }

    /// From the image to block `j` of a stage.
    fn front(&self, stage: usize, j: u64) -> u64 {
        let before = self.stages[..stage].iter().map(|stage| stage.depth * stage.block + stage.after).sum::<u64>();
        self.stem + before + (j + 1) * self.stages[stage].block
    }

    /// What a path that leaves there counts of this network: its published parameters leave out the merging layers.
    fn left(&self, stage: usize, j: u64) -> u64 {
        let merging = || self.stages[..stage].iter().map(|stage| stage.after).sum::<u64>();
        self.front(stage, j) - if self.of_parameters { merging() } else { 0 }
    }

    /// The stitching layer.
    fn joined(&self, to: &Self, stage: usize) -> u64 {
        let (from, to) = (&self.stages[stage], &to.stages[stage]);
        let weights = from.width * to.width;
        if self.of_parameters { weights + to.width } else { to.tokens * weights }
    }

    fn swin_parameters(c: u64, depths: [u64; 4], heads: u64) -> Self {
        let stage = |(s, depth): (u32, u64)| {
            let (n, d) = (3136 / 4_u64.pow(s), c * 2_u64.pow(s));
            let merge = if s < 3 { 8 * d * d + 8 * d } else { 0 };
            let block = 12 * d * d + 13 * d + 169 * heads * 2_u64.pow(s);
            Stage { block, after: merge, tokens: n, width: d, depth }
        };
        let stages = (0..4).zip(depths).map(stage).collect();
        Self { of_parameters: true, stem: 51 * c, stages, head: 16 * c + 8000 * c + 1000 }
    }

    fn back(&self, stage: usize, k: u64) -> u64 {
        self.whole() - self.front(stage, k) + self.stages[stage].block
    }

    fn swin(c: u64, depths: [u64; 4]) -> Self {
        let stage = |(s, depth): (u32, u64)| {
            let (n, d) = (3136 / 4_u64.pow(s), c * 2_u64.pow(s));
            let merge = if s < 3 { (n / 4) * 8 * d * d + 5 * n * d } else { 0 };
            Stage { block: 12 * n * d * d + 2 * 49 * n * d + 10 * n * d, after: merge, tokens: n, width: d, depth }
        };
        let stages = (0..4).zip(depths).map(stage).collect();
        Self { of_parameters: false, stem: 3136 * c * 48 + 5 * 3136 * c, stages, head: 5 * 49 * 8 * c + 8000 * c }
    }

    fn levit(widths: [u64; 3], heads: [u64; 3]) -> Self {
        let (key, tokens) = (32, [196, 49, 16]);
        // A linear layer without bias and its batch norm.
        let linear = |n: u64, from: u64, to: u64| n * from * to + 2 * n * to;
        let mlp = |n: u64, d: u64| linear(n, d, 2 * d) + linear(n, 2 * d, d);
        let stage = |s: usize| {
            let (n, d, h) = (tokens[s], widths[s], heads[s]);
            let attention = linear(n, d, 4 * key * h) + 3 * n * n * key * h + linear(n, 2 * key * h, d);
            let sampled = |to: usize| {
                let (m, hh) = (tokens[to], d / key);
                let products = 5 * m * n * key * hh;
                linear(n, d, 5 * key * hh)
                    + linear(m, d, key * hh)
                    + products
                    + linear(m, 4 * key * hh, widths[to])
                    + mlp(m, widths[to])
            };
            let after = if s < 2 { sampled(s + 1) } else { 0 };
            Stage { block: attention + mlp(n, d), after, tokens: n, width: d, depth: 4 }
        };
        let c = widths[0];
        let conv = |side: u64, from: u64, to: u64| side * side * (9 * from * to + 2 * to);
        let stem = conv(112, 3, c / 8) + conv(56, c / 8, c / 4) + conv(28, c / 4, c / 2) + conv(14, c / 2, c);
        let last = widths[2];
        Self { of_parameters: false, stem, stages: (0..3).map(stage).collect(), head: 2 * (2 * last + 1000 * last) }
    }
}

/// Anchors, then (stage, front block, end block) of each neighbouring pair in the order of the ids.
fn expected(anchors: &[Formula], stitched: &[usize]) -> Vec<u64> {
    let mut expected: Vec<u64> = anchors.iter().map(Formula::whole).collect();
    for &stage in stitched {
        for pair in anchors.windows(2) {
            let (a, b) = (&pair[0], &pair[1]);
            let (front, end) = (a.stages[stage].depth, b.stages[stage].depth);
            let aligned = |j: u64, k: u64| if front == end { k == j + 1 } else { k * front / end == j && j < k };
            for (j, k) in (0..front).flat_map(|j| (0..end).map(move |k| (j, k))).filter(|&(j, k)| aligned(j, k)) {
                expected.push(a.left(stage, j) + a.joined(b, stage) + b.back(stage, k));
            }
        }
    }
    expected
}

#[test]
fn all_41_networks_of_swin_ti_s_b() {
    let (_, figures) = figures_of("swin-ti-s-b");
    let sizes = [(96, [2, 2, 6, 2], 3), (96, [2, 2, 18, 2], 3), (128, [2, 2, 18, 2], 4)];
    let operations = expected(&sizes.map(|(c, depths, _)| Formula::swin(c, depths)), &[0, 1, 2]);
    assert_eq!(figures.iter().map(|figures| figures.operations).collect::<Vec<_>>(), operations);
    let parameters = expected(&sizes.map(|(c, depths, heads)| Formula::swin_parameters(c, depths, heads)), &[0, 1, 2]);
    assert_eq!(figures.iter().map(|figures| figures.params).collect::<Vec<_>>(), parameters);
    assert_eq!((figures[0].operations, figures[0].params), (4_509_194_496, 28_288_354));
}

#[test]
fn all_8_networks_of_levit_192_256() {
    let (_, figures) = figures_of("levit-192-256");
    let small = Formula::levit([192, 288, 384], [3, 5, 6]);
    let operations = expected(&[small, Formula::levit([256, 384, 512], [4, 6, 8])], &[0, 1]);
    assert_eq!(figures.iter().map(|figures| figures.operations).collect::<Vec<_>>(), operations);
}
