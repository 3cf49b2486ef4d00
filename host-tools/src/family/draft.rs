//! A first family.toml for anchors of which nothing is known but their ONNX files.

use std::fmt::Write as _;
use std::path::Path;

use crate::graph::{Graph, StageBlocks, cost, find_blocks};

/// One anchor of a draft.
pub struct DraftAnchor {
    /// Name, unique in the family.
    pub name: String,
    /// ONNX file as family.toml shall name it.
    pub model: String,
    /// Its graph; weights are not needed.
    pub graph: Graph,
}

/// A draft and what was noticed while it was made.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Text of family.toml.
    pub text: String,
    /// What keeps anchors from being stitched, or needs a look.
    pub remarks: Vec<String>,
}

/// Writes a family.toml: anchors by cost, their block boundaries by stage, and the stitching space that suits them.
#[must_use]
pub fn draft(name: &str, mut anchors: Vec<DraftAnchor>) -> Draft {
    anchors.sort_by_key(|anchor| cost::macs(&anchor.graph));
    let stages: Vec<Vec<StageBlocks>> = anchors.iter().map(|anchor| find_blocks(&anchor.graph)).collect();
    let is_plain = !stages.is_empty() && stages.iter().all(|stages| stages.len() == 1 && stages[0].input.is_some());
    let mut remarks = remarks(&anchors, &stages);
    let mut text = head(name, &anchors, &mut remarks);
    for (anchor, stages) in anchors.iter().zip(&stages) {
        text += &entry(anchor, stages, is_plain);
    }
    text += &space(is_plain);
    Draft { text, remarks }
}

fn remarks(anchors: &[DraftAnchor], stages: &[Vec<StageBlocks>]) -> Vec<String> {
    let mut remarks = Vec::new();
    for (anchor, stages) in anchors.iter().zip(stages) {
        if stages.is_empty() {
            remarks.push(format!(
                "{}: no part of it repeats between tensors that alone carry all information, so no blocks were found; \
                 name its cuts by hand",
                anchor.name
            ));
        }
    }
    remarks
}

fn head(name: &str, anchors: &[DraftAnchor], remarks: &mut Vec<String>) -> String {
    let shape = anchors.first().map_or_else(Vec::new, |anchor| anchor.graph.input_shape.clone());
    for anchor in anchors.iter().filter(|anchor| anchor.graph.input_shape != shape) {
        remarks.push(format!(
            "{} takes {:?}, {} takes {shape:?}; export all anchors for one input size",
            anchor.name, anchor.graph.input_shape, anchors[0].name
        ));
    }
    let colour = shape.last() == Some(&3);
    let (mean, std) = if colour { ("[0.485, 0.456, 0.406]", "[0.229, 0.224, 0.225]") } else { ("[0.0]", "[1.0]") };
    format!(
        "schema = 1\nname = {name:?}\n\n\
         # What the anchors take: (pixel * scale - mean) / std per channel. Check mean and std against the training.\n\
         [input]\nshape = {shape:?}\nlayout = \"nchw\"\nscale = 0.00392156862745098\nmean = {mean}\nstd = {std}\n\n\
         # Anchors in ascending cost. The cuts are block boundaries found where the network repeats itself;\n\
         # `cuts = \"blocks\"` finds the same ones at every start.\n"
    )
}

fn entry(anchor: &DraftAnchor, stages: &[StageBlocks], is_plain: bool) -> String {
    let graph = &anchor.graph;
    let (macs, params) = (cost::macs(graph), cost::params(graph));
    let mut text = format!("\n# {macs} multiply-accumulates, {params} parameters\n[[anchors]]\n");
    let _ = write!(text, "name = {:?}\nmodel = {:?}\ncuts = [\n", anchor.name, anchor.model);
    for stage in stages {
        let grid: Vec<String> = stage.grid.iter().map(usize::to_string).collect();
        let _ = writeln!(text, "    # {}: {} blocks", grid.join("x"), stage.outputs.len());
        for value in stage.input.iter().filter(|_| is_plain).chain(&stage.outputs) {
            let _ = writeln!(text, "    {:?},", graph.tensor(*value));
        }
    }
    text + "]\n"
}

fn space(is_plain: bool) -> String {
    let (kind, filter, exits) = if is_plain { ("blocks", "any", false) } else { ("stages", "forward", false) };
    format!(
        "\n# The stitching space; these are the settings of SN-Net.\n[stitching]\n\
         space = \"{kind}\"            # \"blocks\": one sequence per anchor, \"stages\": one per grid\n\
         kernel = 2                   # blocks per window\nstride = 1                   # blocks between windows\n\
         filter = \"{filter}\"\nstage-exits = {exits}\nlayer-ids = \"fixed\"          # \"own\": a stitching layer for every position\n\
         pairs = \"nearest\"            # \"all\": any two anchors\ncrossings = 1                # changes of anchor on a path\n\
         directions = \"fast-to-slow\"  # \"two-way\": SN-Netv2\n"
    )
}

/// A file as seen from a folder, with forward slashes.
#[must_use]
pub fn seen_from(folder: &Path, file: &Path) -> String {
    let (from, to): (Vec<_>, Vec<_>) = (folder.components().collect(), file.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    if shared == 0 {
        return file.display().to_string();
    }
    let up = from[shared..].iter().map(|_| "..".to_owned());
    let down = to[shared..].iter().map(|part| part.as_os_str().to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_family() {
        assert_eq!(seen_from(Path::new("/a/b/family"), Path::new("/a/models/m.onnx")), "../../models/m.onnx");
        assert_eq!(seen_from(Path::new("/a"), Path::new("/a/m.onnx")), "m.onnx");
    }
}
