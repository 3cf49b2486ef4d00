//! Reads `family.toml`. Unknown keys and wrong types stop at once; wrong values are all reported together.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use toml::Spanned;

use super::config::{
    Adapters, AnchorConfig, AnchorPairs, Border, CalibrationConfig, Cuts, Directions, EvaluationConfig, FamilyConfig,
    Filter, FinalNorm, InputConfig, LayerIds, Layout, Norms, SharedLayers, SpaceKind, StageExits, StitchingConfig,
    TeacherConfig, TrainingConfig,
};

/// The only value of `schema` this version reads.
pub const SCHEMA: i64 = 1;

/// Something wrong in or behind `family.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line in `family.toml`, counted from 1, when one is to blame.
    pub line: Option<usize>,
    /// What is wrong, with the key or file it concerns.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Parses and checks the text of `family.toml`.
///
/// # Errors
/// Every problem found: a single one for unknown keys, missing keys and wrong types, all of them for wrong values.
pub fn parse(text: &str) -> Result<FamilyConfig, Vec<Problem>> {
    let raw: RawFamily = toml::from_str(text).map_err(|error| vec![syntax_problem(text, &error)])?;
    let mut check = Check { text, problems: Vec::new() };
    let config = check.family(raw);
    if check.problems.is_empty() { Ok(config) } else { Err(check.problems) }
}

/// Line of every `[[anchors]]` entry's name, in order, for problems found after parsing.
pub(super) fn anchor_lines(text: &str) -> Vec<usize> {
    let Ok(raw) = toml::from_str::<RawFamily>(text) else { return Vec::new() };
    raw.anchors.iter().map(|anchor| line_of(text, anchor.name.span())).collect()
}

fn line_of(text: &str, span: Range<usize>) -> usize {
    text.bytes().take(span.start).filter(|&byte| byte == b'\n').count() + 1
}

fn syntax_problem(text: &str, error: &toml::de::Error) -> Problem {
    let Some(span) = error.span() else { return Problem { line: None, text: error.message().to_owned() } };
    let line = line_of(text, span);
    let source = text.lines().nth(line - 1).unwrap_or_default().trim();
    Problem { line: Some(line), text: format!("{} in `{source}`", error.message()) }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawFamily {
    schema: Spanned<i64>,
    name: Spanned<String>,
    #[serde(default)]
    description: String,
    labels: Option<Spanned<Vec<String>>>,
    input: RawInput,
    anchors: Vec<RawAnchor>,
    #[serde(default)]
    stitching: RawStitching,
    calibration: Option<RawCalibration>,
    evaluation: Option<RawEvaluation>,
    training: Option<RawTraining>,
    teacher: Option<RawTeacher>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawInput {
    shape: Spanned<[usize; 3]>,
    #[serde(default)]
    layout: Layout,
    scale: Spanned<f64>,
    mean: Spanned<Vec<f64>>,
    std: Spanned<Vec<f64>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawAnchor {
    name: Spanned<String>,
    model: PathBuf,
    #[serde(default)]
    cuts: Cuts,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawTeacher {
    model: PathBuf,
    #[serde(default)]
    cuts: Cuts,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawStitching {
    #[serde(default)]
    space: SpaceKind,
    kernel: Option<Spanned<usize>>,
    stride: Option<Spanned<usize>>,
    filter: Option<Filter>,
    stage_exits: Option<bool>,
    #[serde(default)]
    layer_ids: LayerIds,
    #[serde(default)]
    skip_stages: Vec<usize>,
    #[serde(default)]
    pairs: AnchorPairs,
    crossings: Option<Spanned<usize>>,
    #[serde(default)]
    directions: Directions,
    #[serde(default)]
    final_norm: FinalNorm,
    rank: Option<Spanned<usize>>,
    #[serde(default)]
    shared_layers: SharedLayers,
    #[serde(default)]
    norms: Norms,
    #[serde(default)]
    adapters: bool,
    layers: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawTraining {
    #[serde(default)]
    crop_padding: usize,
    #[serde(default)]
    border: Border,
    #[serde(default)]
    flip: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawCalibration {
    data: PathBuf,
    split: Option<String>,
    images: Spanned<usize>,
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    held_out_per_class: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawEvaluation {
    data: PathBuf,
    split: Option<String>,
    search_images: Option<Spanned<usize>>,
}

impl<'de> Deserialize<'de> for Cuts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CutsVisitor;
        impl<'de> Visitor<'de> for CutsVisitor {
            type Value = Cuts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`cuts` to be \"auto\", \"blocks\" or a list of ONNX tensor names")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Cuts, E> {
                match text {
                    "auto" => Ok(Cuts::Auto),
                    "blocks" => Ok(Cuts::Blocks),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Cuts, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element()? {
                    names.push(name);
                }
                Ok(Cuts::Named(names))
            }
        }
        deserializer.deserialize_any(CutsVisitor)
    }
}

/// Images that rank candidates when `search-images` is not given.
const DEFAULT_SEARCH_IMAGES: usize = 2000;

struct Check<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn require(&mut self, holds: bool, span: Range<usize>, text: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(Problem { line: Some(line_of(self.text, span)), text: text() });
        }
    }

    fn positive(&mut self, key: &str, value: &Spanned<usize>) -> usize {
        self.require(*value.get_ref() > 0, value.span(), || format!("`{key}` must be at least 1"));
        *value.get_ref()
    }

    fn family(&mut self, raw: RawFamily) -> FamilyConfig {
        let schema = *raw.schema.get_ref();
        self.require(schema == SCHEMA, raw.schema.span(), || {
            format!("`schema` is {schema}, this version reads {SCHEMA}")
        });
        self.require(!raw.name.get_ref().trim().is_empty(), raw.name.span(), || "`name` is empty".to_owned());
        self.unique_labels(raw.labels.as_ref());
        FamilyConfig {
            name: raw.name.into_inner(),
            description: raw.description,
            labels: raw.labels.map(Spanned::into_inner).unwrap_or_default(),
            input: self.input(raw.input),
            anchors: self.anchors(raw.anchors),
            stitching: self.stitching(&raw.stitching),
            calibration: raw.calibration.map(|section| self.calibration(section)),
            evaluation: raw.evaluation.map(|section| self.evaluation(section)),
            training: raw.training.map_or_else(TrainingConfig::default, |section| TrainingConfig {
                crop_padding: section.crop_padding,
                border: section.border,
                flip: section.flip,
            }),
            teacher: raw.teacher.map(|section| TeacherConfig { model: section.model, cuts: section.cuts }),
        }
    }

    fn unique_labels(&mut self, labels: Option<&Spanned<Vec<String>>>) {
        let Some(labels) = labels else { return };
        let mut seen = HashSet::new();
        for label in labels.get_ref() {
            self.require(seen.insert(label), labels.span(), || format!("`labels` holds \"{label}\" twice"));
        }
        self.require(labels.get_ref().len() <= usize::from(u16::MAX), labels.span(), || {
            format!("`labels` holds {} names, at most {} are possible", labels.get_ref().len(), u16::MAX)
        });
    }

    fn input(&mut self, raw: RawInput) -> InputConfig {
        let shape = *raw.shape.get_ref();
        self.require(shape.iter().all(|&extent| extent > 0), raw.shape.span(), || {
            format!("`input.shape` is {shape:?}; height, width and channels must be at least 1")
        });
        self.require(matches!(shape[2], 1 | 3), raw.shape.span(), || {
            format!("`input.shape` has {} channels; images have 1 or 3", shape[2])
        });
        for (key, list) in [("mean", &raw.mean), ("std", &raw.std)] {
            let count = list.get_ref().len();
            self.require(count == shape[2], list.span(), || {
                format!("`input.{key}` holds {count} numbers for {} channels", shape[2])
            });
            self.require(list.get_ref().iter().all(|v| v.is_finite()), list.span(), || {
                format!("`input.{key}` holds a number that is not finite")
            });
        }
        self.require(raw.std.get_ref().iter().all(|&v| v > 0.0), raw.std.span(), || {
            "`input.std` must be above 0".to_owned()
        });
        let scale = *raw.scale.get_ref();
        self.require(scale.is_finite() && scale > 0.0, raw.scale.span(), || "`input.scale` must be above 0".to_owned());
        InputConfig { shape, layout: raw.layout, scale, mean: raw.mean.into_inner(), std: raw.std.into_inner() }
    }

    fn anchors(&mut self, raw: Vec<RawAnchor>) -> Vec<AnchorConfig> {
        if raw.is_empty() {
            self.problems
                .push(Problem { line: None, text: "`anchors` is empty; a family has at least one".to_owned() });
        }
        let mut seen = HashSet::new();
        for anchor in &raw {
            let name = anchor.name.get_ref();
            let plain = |c: char| c.is_alphanumeric() || "-_.+".contains(c);
            self.require(!name.is_empty() && name.chars().all(plain), anchor.name.span(), || {
                format!("anchor name \"{name}\" must be of letters, digits and -_.+")
            });
            self.require(seen.insert(name.clone()), anchor.name.span(), || format!("two anchors are named \"{name}\""));
        }
        raw.into_iter()
            .map(|anchor| AnchorConfig { name: anchor.name.into_inner(), model: anchor.model, cuts: anchor.cuts })
            .collect()
    }

    fn stitching(&mut self, raw: &RawStitching) -> StitchingConfig {
        let stages = raw.space == SpaceKind::Stages;
        StitchingConfig {
            space: raw.space,
            kernel: raw.kernel.as_ref().map_or(2, |value| self.positive("stitching.kernel", value)),
            stride: raw.stride.as_ref().map_or(1, |value| self.positive("stitching.stride", value)),
            filter: raw.filter.unwrap_or(if stages { Filter::Forward } else { Filter::Any }),
            stage_exits: if raw.stage_exits.unwrap_or(stages) { StageExits::Open } else { StageExits::Closed },
            layer_ids: raw.layer_ids,
            skip_stages: raw.skip_stages.clone(),
            pairs: raw.pairs,
            crossings: self.crossings(raw),
            directions: raw.directions,
            final_norm: raw.final_norm,
            rank: raw.rank.as_ref().map(|value| self.positive("stitching.rank", value)),
            shared_layers: raw.shared_layers,
            norms: raw.norms,
            adapters: if raw.adapters { Adapters::Allowed } else { Adapters::None },
            layers: raw.layers.clone(),
        }
    }

    fn crossings(&mut self, raw: &RawStitching) -> usize {
        let two_way = raw.directions == Directions::TwoWay;
        let Some(value) = &raw.crossings else { return if two_way { 2 } else { 1 } };
        self.require(!two_way || *value.get_ref() <= 2, value.span(), || {
            "`stitching.crossings` is at most 2 with two-way directions".to_owned()
        });
        self.positive("stitching.crossings", value)
    }

    fn calibration(&mut self, raw: RawCalibration) -> CalibrationConfig {
        let images = self.positive("calibration.images", &raw.images);
        CalibrationConfig {
            data: raw.data,
            split: raw.split,
            images,
            seed: raw.seed,
            held_out_per_class: raw.held_out_per_class,
        }
    }

    fn evaluation(&mut self, raw: RawEvaluation) -> EvaluationConfig {
        let search_images = raw
            .search_images
            .as_ref()
            .map_or(DEFAULT_SEARCH_IMAGES, |value| self.positive("evaluation.search-images", value));
        EvaluationConfig { data: raw.data, split: raw.split, search_images }
    }
}

#[cfg(test)]
mod tests;
