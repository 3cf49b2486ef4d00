use super::*;
use crate::family::{Adapters, Filter, SharedLayers, StageExits};

const GOOD: &str = r#"schema = 1
name = "pair"
labels = ["a", "b"]

[input]
shape = [8, 8, 1]
scale = 0.00392156862745098
mean = [0.5]
std = [0.25]

[[anchors]]
name = "small"
model = "small.onnx"

[[anchors]]
name = "large"
model = "large.onnx"
cuts = ["one", "two"]

[calibration]
data = "d.npz"
split = "train"
images = 16

[evaluation]
data = "d.npz"
split = "test"
"#;

fn problems(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from}");
    parse(&GOOD.replacen(from, to, 1)).unwrap_err().iter().map(Problem::to_string).collect()
}

#[test]
fn what_is_left_out_gets_the_documented_defaults() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.input.layout, Layout::Nchw);
    assert_eq!(
        (&config.anchors[0].cuts, &config.anchors[1].cuts),
        (&Cuts::Auto, &Cuts::Named(vec!["one".into(), "two".into()]))
    );
    let stitching = &config.stitching;
    assert_eq!((stitching.space, stitching.kernel, stitching.stride), (SpaceKind::Stages, 2, 1));
    assert_eq!((stitching.filter, stitching.stage_exits), (Filter::Forward, StageExits::Open));
    assert_eq!(stitching.layer_ids, LayerIds::Own);
    assert_eq!(config.evaluation.unwrap().search_images, 2000);
    let blocks = parse(&format!("{GOOD}\n[stitching]\nspace = \"blocks\"\n")).unwrap().stitching;
    assert_eq!((blocks.filter, blocks.stage_exits), (Filter::Any, StageExits::Closed));
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    for (from, to, line, key) in [
        ("name = \"pair\"", "nmae = \"pair\"", 2, "nmae"),
        ("mean =", "maen =", 8, "maen"),
        ("[calibration]", "[calibration]\nimage = 3", 21, "image"),
    ] {
        let found = problems(from, to);
        let expected = format!("line {line}: unknown field `{key}`");
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{found:?}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_shown_with_its_line() {
    for (from, to, line, shown) in [
        ("shape = [8, 8, 1]", "shape = [8, 8]", 6, "shape = [8, 8]"),
        ("images = 16", "images = \"many\"", 23, "images = \"many\""),
        ("cuts = [\"one\", \"two\"]", "cuts = \"all\"", 18, "\"blocks\" or a list"),
    ] {
        let found = problems(from, to);
        assert!(found.len() == 1 && found[0].starts_with(&format!("line {line}: ")), "{found:?}");
        assert!(found[0].contains(shown), "{found:?}");
    }
}

#[test]
fn a_missing_key_is_named() {
    assert!(problems("scale = 0.00392156862745098\n", "")[0].contains("missing field `scale`"));
}

#[test]
fn wrong_values_are_all_reported_at_once() {
    let text = GOOD
        .replace("schema = 1", "schema = 2")
        .replace("mean = [0.5]", "mean = [0.5, 0.5]")
        .replace("std = [0.25]", "std = [0.0]")
        .replace("name = \"large\"", "name = \"small\"")
        .replace("images = 16", "images = 0");
    let found: Vec<String> = parse(&text).unwrap_err().iter().map(Problem::to_string).collect();
    for part in [
        "line 1: `schema` is 2",
        "line 8: `input.mean`",
        "line 9: `input.std`",
        "two anchors",
        "line 23: `calibration.images`",
    ] {
        assert!(found.iter().any(|problem| problem.contains(part)), "{part}: {found:?}");
    }
    assert_eq!(found.len(), 5);
}

#[test]
fn names_that_would_blur_a_path_are_refused() {
    assert!(problems("name = \"small\"", "name = \"a > b\"")[0].contains("a > b"));
    assert!(problems("labels = [\"a\", \"b\"]", "labels = [\"a\", \"a\"]")[0].contains("\"a\" twice"));
}

#[test]
fn anchor_lines_are_those_of_their_names() {
    assert_eq!(anchor_lines(GOOD), [12, 16]);
}

#[test]
fn rank_shared_layers_and_adapters_have_their_defaults_and_values() {
    let stitching = |text: &str| parse(&format!("{GOOD}\n[stitching]\n{text}\n")).map(|config| config.stitching);
    let defaults = stitching("").unwrap();
    assert_eq!((defaults.rank, defaults.shared_layers, defaults.adapters), (None, SharedLayers::Mean, Adapters::None));
    let set = stitching("rank = 4\nshared-layers = \"joint\"\nadapters = true").unwrap();
    assert_eq!((set.rank, set.shared_layers, set.adapters), (Some(4), SharedLayers::Joint, Adapters::Allowed));
    // Of rank 4 a layer between 8 and 8 channels costs as much as one layer.
    assert_eq!((set.rank_between(8, 8), set.rank_between(8, 9)), (None, Some(4)));
    assert!(stitching("rank = 0").unwrap_err()[0].to_string().contains("`stitching.rank` must be at least 1"));
}
