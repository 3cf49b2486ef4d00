//! Networks as current timm exports them, by both of torch's exporters: they import, and fall into the blocks they were
//! written in.

use std::path::Path;

use super::super::super::{StageBlocks, cost, find_blocks};
use super::import_structure;

/// File, multiply-accumulates, blocks by grid.
const STRUCTURES: [(&str, u64, &str); 14] = [
    ("convnext-ti-dynamo", 4_455_531_264, "56x56:3 28x28:3 14x14:9 7x7:3"),
    ("deit-ti", 1_253_683_200, "197:12"),
    ("deit-ti-dynamo", 1_253_683_200, "197:12"),
    ("efficientnet-lite0", 385_187_552, "112x112:3 56x56:2 28x28:2 14x14:3 7x7:5"),
    ("levit-192", 657_316_992, "56x56:1 28x28:1 196:4 49:4 16:4"),
    ("mixer-s32", 1_002_426_368, "49:16"),
    ("mobilenetv2", 300_774_272, "112x112:3 56x56:2 28x28:3 14x14:7 7x7:7"),
    ("mobilenetv3-l", 216_589_760, "112x112:1 56x56:2 28x28:3 14x14:5 7x7:3"),
    ("mobilenetv3-l-dynamo", 216_589_760, "112x112:1 56x56:2 28x28:3 14x14:5 7x7:3"),
    ("resnet18", 1_814_073_344, "56x56:2 28x28:2 14x14:2 7x7:2"),
    ("resnet18-dynamo", 1_814_073_344, "56x56:2 28x28:2 14x14:2 7x7:2"),
    ("resnet50", 4_089_184_256, "56x56:3 28x28:4 14x14:6 7x7:3"),
    ("swin-ti", 4_490_566_656, "3136:2 784:2 196:6 49:2"),
    ("swin-ti-dynamo-symbolic", 4_490_566_656, "3136:2 784:2 196:6 49:2"),
];

fn import(name: &str) -> super::Graph {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/timm/structures");
    import_structure(&folder.join(format!("{name}.onnx"))).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_stored_structure_imports_with_its_work_and_blocks() {
    for (name, macs, expected) in STRUCTURES {
        let graph = import(name);
        let text = |stage: &StageBlocks| {
            let grid: Vec<String> = stage.grid.iter().map(usize::to_string).collect();
            format!("{}:{}", grid.join("x"), stage.outputs.len())
        };
        let blocks: Vec<String> = find_blocks(&graph).iter().map(text).collect();
        assert_eq!((cost::macs(&graph), blocks.join(" ").as_str()), (macs, expected), "{name}");
    }
}

#[test]
fn both_exporters_count_alike_in_the_papers_convention() {
    for (a, b) in [
        ("deit-ti", "deit-ti-dynamo"),
        ("mobilenetv3-l", "mobilenetv3-l-dynamo"),
        ("resnet18", "resnet18-dynamo"),
        ("swin-ti", "swin-ti-dynamo-symbolic"),
    ] {
        let (first, second) = (import(a), import(b));
        assert_eq!(cost::flops(&first), cost::flops(&second), "{a} and {b}");
    }
}
