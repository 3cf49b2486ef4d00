//! The new family: the anchors' files with trained weights, the stitching layers, and a `family.toml` that names them.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::TrainError;
use super::learngene::FeatureMaps;
use super::model::{Finished, Model};
use super::rounding::Rounding;
use super::settings::{Settings, StitchBiases, Trained};
use crate::family::{FILE_NAME, Family};
use crate::files;
use crate::graph::rewrite::Rewriter;
use crate::stitch::learned;

/// Name of the file of stitching layers.
pub const LAYERS_NAME: &str = "stitches.safetensors";

/// A family as training leaves it.
#[derive(Debug)]
pub struct TrainedFamily<'a> {
    /// Anchors and stitching layers as they are now.
    pub finished: Finished,
    /// Its anchors' files.
    pub rewriters: &'a [Rewriter],
    /// What was trained.
    pub model: &'a Model,
    /// Ranges of activations, if training rounded them.
    pub rounding: Option<&'a Rounding>,
    /// Maps of the teacher's features, if students followed it.
    pub maps: Option<&'a FeatureMaps>,
    /// Settings of the run.
    pub settings: &'a Settings,
}

impl TrainedFamily<'_> {
    /// Writes the family into a folder; `family.toml` comes last, so that a folder with one is complete. Where anchors were
    /// trained alone there are no stitching layers: those of before do not fit them.
    ///
    /// # Errors
    /// [`TrainError::Rewrite`] or [`TrainError::Write`].
    pub fn write(&self, folder: &Path) -> Result<(), TrainError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| TrainError::Write { path, source }
        };
        let Self { finished, model, .. } = self;
        let family = &finished.family;
        for (anchor, rewriter) in family.anchors.iter().zip(self.rewriters) {
            let bytes = rewriter.write(&anchor.graph)?;
            let path = folder.join(format!("{}.onnx", anchor.name));
            files::replace(&path, &bytes).map_err(io(&path))?;
        }
        let layers = self.layers();
        if layers == Layers::Trained {
            let path = folder.join(LAYERS_NAME);
            let mut layers = model.layer_file(finished, self.settings.biases);
            self.rounding.into_iter().for_each(|rounding| rounding.store(&mut layers));
            files::replace(&path, &layers.to_bytes()).map_err(io(&path))?;
        }
        if let Some(maps) = self.maps {
            let path = folder.join(learned::FILE_NAME);
            files::replace(&path, &maps.file(&model.params).to_bytes()).map_err(io(&path))?;
        }
        let source = family.folder.join(FILE_NAME);
        let text = std::fs::read_to_string(&source).map_err(io(&source))?;
        let text = edited(&text, family, folder, self.settings.biases, layers)
            .ok_or_else(|| TrainError::FamilyFile { path: source })?;
        let path = folder.join(FILE_NAME);
        files::replace(&path, text.as_bytes()).map_err(io(&path))
    }

    fn layers(&self) -> Layers {
        match self.settings.trained == Trained::Anchors {
            true => Layers::Dropped,
            false => Layers::Trained,
        }
    }
}

/// Whether the new family has a file of stitching layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layers {
    Trained,
    Dropped,
}

#[derive(Deserialize)]
struct Places {
    anchors: Vec<AnchorPlace>,
    calibration: Option<DataPlace>,
    evaluation: Option<DataPlace>,
    teacher: Option<AnchorPlace>,
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
fn edited(text: &str, family: &Family, folder: &Path, biases: StitchBiases, layers: Layers) -> Option<String> {
    let places: Places = toml::from_str(text).ok()?;
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for (place, anchor) in places.anchors.iter().zip(&family.anchors) {
        edits.push((place.model.span(), quoted(&format!("{}.onnx", anchor.name))));
    }
    if let Some(AnchorPlace { model }) = &places.teacher {
        edits.push((model.span(), quoted(&files::relative(folder, &family.folder.join(model.get_ref())))));
    }
    for place in places.calibration.iter().chain(&places.evaluation) {
        let data = family.folder.join(place.data.get_ref());
        edits.push((place.data.span(), quoted(&files::relative(folder, &data))));
    }
    let stitching = places.stitching;
    let mut added = String::new();
    match stitching.as_ref().and_then(|stitching| stitching.layers.as_ref()) {
        Some(place) if layers == Layers::Dropped => edits.push((line_of(text, "layers", place.span())?, String::new())),
        Some(place) => edits.push((place.span(), quoted(LAYERS_NAME))),
        None if layers == Layers::Dropped => {}
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

/// The line of a key around its value, which is to stand on a line of its own.
fn line_of(text: &str, key: &str, value: Range<usize>) -> Option<Range<usize>> {
    let start = text[..value.start].rfind('\n').map_or(0, |end| end + 1);
    let end = text[value.end..].find('\n').map_or(text.len(), |length| value.end + length + 1);
    text[start..].trim_start().starts_with(key).then_some(start..end)
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
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
        let new = edited(&text, &family, folder.path(), StitchBiases::PerCrossing, Layers::Trained).unwrap();
        let config = parse(&new).unwrap();
        assert_eq!(config.stitching.layers.as_deref(), Some(Path::new(LAYERS_NAME)));
        assert_eq!(config.stitching.layer_ids, crate::family::LayerIds::Own);
        assert_eq!(config.anchors[1].model, Path::new("digits-m.onnx"));
        let data = folder.path().join(&config.calibration.unwrap().data);
        assert_eq!(data.canonicalize().unwrap(), family.folder.join("digits.npz").canonicalize().unwrap());
        assert!(new.contains("# Anchors in ascending cost."));
        let again = edited(&new, &family, folder.path(), StitchBiases::Shared, Layers::Trained).unwrap();
        assert_eq!(again.matches(LAYERS_NAME).count(), 1);
        let alone = edited(&new, &family, folder.path(), StitchBiases::Shared, Layers::Dropped).unwrap();
        assert_eq!(parse(&alone).unwrap().stitching.layers, None);
        assert_eq!(parse(&alone).unwrap().stitching.layer_ids, crate::family::LayerIds::Own);
    }

    #[test]
    fn a_family_without_a_stitching_table_gets_one() {
        let family = digits();
        let text = std::fs::read_to_string(family.folder.join(FILE_NAME)).unwrap();
        let start = text.find("[stitching]").unwrap();
        let end = text.find("[calibration]").unwrap();
        let without = format!("{}{}", &text[..start], &text[end..]);
        let new = edited(&without, &family, Path::new("."), StitchBiases::Shared, Layers::Trained).unwrap();
        assert!(parse(&new).unwrap().stitching.layers.is_some());
    }

    #[test]
    fn the_new_text_finds_the_same_teacher() {
        let family = digits();
        let folder = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(family.folder.join(FILE_NAME)).unwrap();
        let text = format!("{text}\n[teacher]\nmodel = \"digits-l.onnx\"\n");
        let new = edited(&text, &family, folder.path(), StitchBiases::Shared, Layers::Trained).unwrap();
        let model = folder.path().join(parse(&new).unwrap().teacher.unwrap().model);
        assert_eq!(model.canonicalize().unwrap(), family.folder.join("digits-l.onnx").canonicalize().unwrap());
    }
}
