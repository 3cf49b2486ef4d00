use std::collections::HashSet;

use super::*;
use crate::family::{Cuts, FamilyConfig, Filter, LayerIds, SpaceKind, StageExits};
use crate::stitch::testnet::{CLASSES, Stages, chains};

/// The settings of the published stage-wise families.
fn published(config: &mut FamilyConfig) {
    config.stitching.stage_exits = StageExits::Closed;
}

fn space(anchors: &[Stages<'_>], change: impl Fn(&mut FamilyConfig)) -> Space {
    enumerate(&chains(anchors, change).unwrap()).unwrap()
}

fn paths(space: &Space) -> Vec<&str> {
    space.candidates.iter().map(|candidate| candidate.path.as_str()).collect()
}

#[test]
fn a_plain_transformer_family_has_the_published_71_candidates() {
    // DeiT-Ti/S/B: the first cut stands for the patch embedding, 12 blocks follow.
    let anchors: [Stages<'_>; 3] = [&[(4, 2, 13)], &[(4, 4, 13)], &[(4, 8, 13)]];
    let space = space(&anchors, |config| {
        published(config);
        config.stitching.space = SpaceKind::Blocks;
        config.stitching.filter = Filter::Any;
    });
    assert_eq!((space.candidates.len(), space.layers.len()), (71, 22));
    let paths = paths(&space);
    assert_eq!(
        paths[..5],
        ["anchor0", "anchor1", "anchor2", "anchor0[..0] > anchor1[0..]", "anchor0[..0] > anchor1[1..]"]
    );
    assert_eq!(
        (paths[36], paths[37], paths[70]),
        ("anchor0[..11] > anchor1[11..]", "anchor1[..0] > anchor2[0..]", "anchor1[..11] > anchor2[11..]")
    );
    // Block 0 of the larger anchor reads its embedding, cut 0; block 0 of the smaller one gives cut 1.
    assert_eq!(space.layers[0].uses[0], Crossing { from: (0, 1), to: (1, 0) });
    assert_eq!(space.layers[11].uses[0], Crossing { from: (1, 1), to: (2, 0) });
    assert_eq!(space.layers.iter().map(|layer| layer.uses.len()).collect::<Vec<_>>()[..3], [4, 3, 3]);
}

#[test]
fn hierarchical_families_have_the_published_counts_and_order() {
    // Sides stand for the published maps, channels for the widths.
    let swin: [Stages<'_>; 3] = [
        &[(8, 2, 2), (4, 3, 2), (2, 4, 6), (1, 5, 2)],
        &[(8, 2, 2), (4, 3, 2), (2, 4, 18), (1, 5, 2)],
        &[(8, 4, 2), (4, 5, 2), (2, 6, 18), (1, 7, 2)],
    ];
    let swin = space(&swin, |config| {
        published(config);
        config.stitching.skip_stages = vec![3];
    });
    assert_eq!((swin.candidates.len(), swin.layers.len()), (41, 27));
    let names = paths(&swin);
    assert_eq!(
        names[3..8],
        [
            "anchor0[..8x8/0] > anchor1[8x8/1..]",
            "anchor1[..8x8/0] > anchor2[8x8/1..]",
            "anchor0[..4x4/0] > anchor1[4x4/1..]",
            "anchor1[..4x4/0] > anchor2[4x4/1..]",
            "anchor0[..2x2/0] > anchor1[2x2/1..]",
        ]
    );
    let resnet: [Stages<'_>; 2] =
        [&[(8, 2, 2), (4, 3, 2), (2, 4, 2), (1, 5, 2)], &[(8, 8, 3), (4, 12, 4), (2, 16, 6), (1, 20, 3)]];
    for (layer_ids, expected) in
        [(LayerIds::Fixed, [0, 1, 1, 2, 2, 3, 3, 3]), (LayerIds::Released, [0, 0, 1, 2, 2, 2, 3, 3])]
    {
        let resnet = space(&resnet, |config| {
            published(config);
            config.stitching.skip_stages = vec![0, 3];
            config.stitching.layer_ids = layer_ids;
        });
        let layers: Vec<usize> = resnet.candidates[2..].iter().map(|candidate| candidate.layers[0]).collect();
        assert_eq!((layers.as_slice(), resnet.layers.len()), (expected.as_slice(), 4));
    }
    let levit: [Stages<'_>; 2] = [&[(4, 2, 4), (2, 3, 4), (1, 4, 4)], &[(4, 4, 4), (2, 6, 4), (1, 8, 4)]];
    let levit = space(&levit, |config| {
        published(config);
        config.stitching.skip_stages = vec![2];
    });
    assert_eq!((levit.candidates.len(), levit.layers.len()), (8, 6));
}

#[test]
fn costs_are_those_of_the_parts_and_the_stitching_layer() {
    let anchors: [Stages<'_>; 2] = [&[(4, 2, 3)], &[(4, 5, 3)]];
    let space = space(&anchors, published);
    let candidate = &space.candidates[2];
    assert_eq!(candidate.path, "anchor0[..4x4/0] > anchor1[4x4/1..]");
    // 16 positions: stem 3 -> 2; stitch 2 -> 5; two blocks 5 -> 5; head.
    let weights = [3 * 2, 2 * 5, 2 * 5 * 5];
    assert_eq!(candidate.macs, weights.iter().sum::<u64>() * 16 + 5 * CLASSES as u64);
    assert_eq!(candidate.params, weights.iter().sum::<u64>() + 2 + 5 + 2 * 5 + 6 * CLASSES as u64);
}

#[test]
fn paths_are_unique_and_ids_are_positions() {
    let anchors: [Stages<'_>; 3] = [&[(8, 2, 1), (4, 3, 2)], &[(8, 3, 2), (4, 4, 2)], &[(8, 4, 4), (4, 5, 3)]];
    let space = space(&anchors, |_| ());
    assert_eq!(paths(&space).into_iter().collect::<HashSet<_>>().len(), space.candidates.len());
    assert!(space.candidates.iter().enumerate().all(|(index, candidate)| candidate.id as usize == index));
    assert!(space.layers.iter().enumerate().all(|(index, layer)| layer.id == index && !layer.uses.is_empty()));
}

#[test]
fn a_layer_is_not_shared_between_different_channel_counts() {
    // Stage-wise grids, but the smaller anchor widens inside the stage: one window, two layers.
    let mixed: Stages<'_> = &[(4, 2, 1), (4, 3, 2)];
    let space = space(&[mixed, &[(4, 9, 3)]], |config| config.stitching.kernel = 4);
    assert!(space.layers.len() > 1);
    assert!(space.layers.iter().all(|layer| layer.uses.iter().all(|using| using.to.0 == 1)));
    assert_eq!(space.layers.iter().map(|layer| layer.in_channels).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_stage_of_one_anchor_only_is_a_warning() {
    let space = space(&[&[(4, 2, 2)], &[(8, 2, 2), (4, 4, 2)]], |_| ());
    assert_eq!(space.warnings, ["stage 8x8 of anchor1 is not stitched: anchor0 has none"]);
}

#[test]
fn anchors_without_a_common_grid_are_an_error_that_lists_their_cuts() {
    let family = chains(&[&[(4, 2, 1)], &[(8, 2, 2)]], |_| ()).unwrap();
    let text = enumerate(&family).unwrap_err().to_string();
    for part in ["anchor0 and anchor1", "block0 [4, 4, 2]", "block1 [8, 8, 2]"] {
        assert!(text.contains(part), "{text}");
    }
    let uncut = chains(&[&[(4, 2, 2)], &[(4, 3, 2)]], |config| config.anchors[1].cuts = Cuts::Named(Vec::new()));
    assert!(enumerate(&uncut.unwrap()).unwrap_err().to_string().contains("cuts of anchor1: none"));
}

#[test]
fn a_single_anchor_is_a_space_of_its_own() {
    let space = space(&[&[(4, 2, 2)]], |_| ());
    assert_eq!((paths(&space), space.layers.len()), (vec!["anchor0"], 0));
}

#[test]
fn all_pairs_and_two_crossings_give_the_published_732() {
    let anchors: [Stages<'_>; 3] = [&[(4, 2, 13)], &[(4, 4, 13)], &[(4, 8, 13)]];
    let space = space(&anchors, |config| {
        published(config);
        config.stitching.space = SpaceKind::Blocks;
        config.stitching.filter = Filter::Any;
        config.stitching.pairs = AnchorPairs::All;
        config.stitching.crossings = 2;
    });
    assert_eq!((space.candidates.len(), space.layers.len()), (732, 33));
    let path = &space.candidates[105];
    assert_eq!(path.path, "anchor0[..0] > anchor1[0..0] > anchor2[0..]");
    assert_eq!(path.layers, [0, 22]);
    assert_eq!(space.candidates.iter().filter(|candidate| candidate.layers.len() == 2).count(), 627);
}

#[test]
fn two_way_spaces_have_the_published_135_in_order() {
    for (depth, front) in [(12, 0), (24, 1)] {
        let anchors: [Stages<'_>; 2] = [&[(4, 2, 13)], &[(4, 4, depth + 1)]];
        let space = space(&anchors, |config| {
            published(config);
            config.stitching.space = SpaceKind::Blocks;
            config.stitching.directions = Directions::TwoWay;
            config.stitching.crossings = 2;
        });
        assert_eq!((space.candidates.len(), space.layers.len()), (135, 23));
        let paths = paths(&space);
        assert_eq!(paths[2], format!("anchor0[..0] > anchor1[{}..]", depth / 12));
        assert_eq!(paths[13], format!("anchor0[..11] > anchor1[{depth}..]"));
        assert_eq!(paths[14], format!("anchor1[..{front}] > anchor0[1..]"));
        assert_eq!(space.candidates[25].layers.len(), 2);
        assert!(paths[25].starts_with("anchor1[") && paths[80].starts_with("anchor0["));
    }
}
