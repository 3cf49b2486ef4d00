//! The new family: the anchors' files with trained weights, the stitching layers, and a `family.toml` that names them.

use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::TrainError;
use super::model::Model;
use super::rounding::Rounding;
use super::settings::StitchBiases;
use crate::family::{FILE_NAME, Family};
use crate::files;
use crate::graph::rewrite::Rewriter;

/// Name of the file of stitching layers.
pub const LAYERS_NAME: &str = "stitches.safetensors";

/// Writes the family as it is now into a folder; `family.toml` comes last, so that a folder with one is complete.
///
/// # Errors
/// [`TrainError::Rewrite`] or [`TrainError::Write`].
pub fn write(
    family: &Family,
    rewriters: &[Rewriter],
    model: &Model,
    rounding: Option<&Rounding>,
    biases: StitchBiases,
    folder: &Path,
) -> Result<(), TrainError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| TrainError::Write { path, source }
    };
    for (anchor, rewriter) in family.anchors.iter().zip(rewriters) {
        let bytes = rewriter.write(&model.params.export(&anchor.graph))?;
        let path = folder.join(format!("{}.onnx", anchor.name));
        files::replace(&path, &bytes).map_err(io(&path))?;
    }
    let path = folder.join(LAYERS_NAME);
    let mut layers = model.layer_file(family, biases);
    rounding.into_iter().for_each(|rounding| rounding.store(&mut layers));
    files::replace(&path, &layers.to_bytes()).map_err(io(&path))?;
    let source = family.folder.join(FILE_NAME);
    let text = std::fs::read_to_string(&source).map_err(io(&source))?;
    let text = edited(&text, family, folder, biases).ok_or_else(|| TrainError::FamilyFile { path: source })?;
    let path = folder.join(FILE_NAME);
    files::replace(&path, text.as_bytes()).map_err(io(&path))
}

#[derive(Deserialize)]
struct Places {
    anchors: Vec<AnchorPlace>,
    calibration: Option<DataPlace>,
    evaluation: Option<DataPlace>,
    stitching: Option<StitchingPlace>,
}

#[derive(Deserialize)]
struct AnchorPlace {
    model: Spanned<String>,
}

#[derive(Deserialize)]
struct DataPlace {
    data: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct StitchingPlace {
    layers: Option<Spanned<String>>,
    layer_ids: Option<Spanned<String>>,
}

/// The text of `family.toml` for another folder; comments and everything else stay. `None` if the text cannot be read.
fn edited(text: &str, family: &Family, folder: &Path, biases: StitchBiases) -> Option<String> {
    let places: Places = toml::from_str(text).ok()?;
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for (place, anchor) in places.anchors.iter().zip(&family.anchors) {
        edits.push((place.model.span(), quoted(&format!("{}.onnx", anchor.name))));
    }
    for place in places.calibration.iter().chain(&places.evaluation) {
        let data = family.folder.join(place.data.get_ref());
        edits.push((place.data.span(), quoted(&relative(folder, &data))));
    }
    let stitching = places.stitching;
    let mut added = String::new();
    match stitching.as_ref().and_then(|stitching| stitching.layers.as_ref()) {
        Some(place) => edits.push((place.span(), quoted(LAYERS_NAME))),
        None => added += &format!("layers = {}\n", quoted(LAYERS_NAME)),
    }
    if biases == StitchBiases::PerCrossing {
        match stitching.as_ref().and_then(|stitching| stitching.layer_ids.as_ref()) {
            Some(place) => edits.push((place.span(), quoted("own"))),
            None => added += "layer-ids = \"own\"\n",
        }
    }
    edits.sort_by_key(|(place, _)| place.start);
    let mut text = text.to_owned();
    for (place, new) in edits.into_iter().rev() {
        text.replace_range(place, &new);
    }
    if added.is_empty() {
        return Some(text);
    }
    match text.lines().find(|line| line.trim_start().starts_with("[stitching]")).map(str::to_owned) {
        Some(line) => Some(text.replacen(&line, &format!("{line}\n{}", added.trim_end()), 1)),
        None => Some(format!("{}\n\n[stitching]\n{added}", text.trim_end())),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// `target` as seen from `folder`; absolute where the two have nothing in common.
fn relative(folder: &Path, target: &Path) -> String {
    let full = |path: &Path| {
        std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
    };
    let (from, to) = (full(folder), full(target));
    let (from_parts, to_parts): (Vec<Component>, Vec<Component>) =
        (from.components().collect(), to.components().collect());
    let same = from_parts.iter().zip(&to_parts).take_while(|(a, b)| a == b).count();
    if same <= 1 {
        return to.display().to_string();
    }
    let up = std::iter::repeat_n(Component::ParentDir, from_parts.len() - same);
    up.chain(to_parts[same..].iter().copied()).collect::<PathBuf>().display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::parse::parse;

    fn digits() -> Family {
        Family::load_structure(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits")).unwrap()
    }

    #[test]
    fn the_new_text_finds_the_same_data_and_the_new_files() {
        let family = digits();
        let folder = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(family.folder.join(FILE_NAME)).unwrap();
        let new = edited(&text, &family, folder.path(), StitchBiases::PerCrossing).unwrap();
        let config = parse(&new).unwrap();
        assert_eq!(config.stitching.layers.as_deref(), Some(Path::new(LAYERS_NAME)));
        assert_eq!(config.stitching.layer_ids, crate::family::LayerIds::Own);
        assert_eq!(config.anchors[1].model, Path::new("digits-m.onnx"));
        let data = folder.path().join(&config.calibration.unwrap().data);
        assert_eq!(data.canonicalize().unwrap(), family.folder.join("digits.npz").canonicalize().unwrap());
        assert!(new.contains("# Anchors in ascending cost."));
        let again = edited(&new, &family, folder.path(), StitchBiases::Shared).unwrap();
        assert_eq!(again.matches(LAYERS_NAME).count(), 1);
    }

    #[test]
    fn a_family_without_a_stitching_table_gets_one() {
        let family = digits();
        let text = std::fs::read_to_string(family.folder.join(FILE_NAME)).unwrap();
        let start = text.find("[stitching]").unwrap();
        let end = text.find("[calibration]").unwrap();
        let without = format!("{}{}", &text[..start], &text[end..]);
        let new = edited(&without, &family, Path::new("."), StitchBiases::Shared).unwrap();
        assert!(parse(&new).unwrap().stitching.layers.is_some());
    }
}
