use super::*;
use crate::stitch::testnet::chains;

fn problems(family: Result<Family, Vec<Located>>) -> Vec<String> {
    family.unwrap_err().into_iter().map(|(_, text)| text).collect()
}

#[test]
fn pixels_are_scaled_then_centred_then_divided() {
    let input = InputConfig {
        shape: [1, 2, 3],
        layout: Layout::Nchw,
        scale: 1.0 / 255.0,
        mean: vec![0.0, 0.5, 1.0],
        std: vec![1.0, 0.25, 2.0],
    };
    assert_eq!(input.normalize(&[255, 255, 255, 0, 0, 0]), [1.0, 2.0, 0.0, 0.0, -2.0, -0.5]);
    assert_eq!(input.lut()[1][255], 2.0);
}

#[test]
fn anchors_out_of_order_are_both_named() {
    let found = problems(chains(&[&[(4, 8, 2)], &[(4, 2, 2)]], |_| ()));
    assert!(found.len() == 1 && found[0].contains("anchor0") && found[0].contains("anchor1"), "{found:?}");
}

#[test]
fn problems_of_all_anchors_come_together() {
    let found = problems(chains(&[&[(4, 2, 2)], &[(4, 3, 2)]], |config| {
        config.labels = vec!["a".into(), "b".into()];
        config.anchors[0].cuts = Cuts::Named(vec!["absent".into()]);
        config.anchors[1].cuts = Cuts::Named(vec!["block0".into(), "block0".into()]);
        config.stitching.skip_stages = vec![9];
        config.input.shape = [9, 9, 3];
    }));
    for part in ["absent", "block0 twice", "outputs for 2 labels", "skip-stages", "takes [8, 8, 3]"] {
        assert!(found.iter().any(|problem| problem.contains(part)), "{part}: {found:?}");
    }
}

#[test]
fn automatic_cuts_are_grouped_by_grid() {
    let family = chains(&[&[(8, 2, 2), (4, 3, 1)]], |config| config.anchors[0].cuts = Cuts::Auto).unwrap();
    let stages: Vec<String> = family.anchors[0].cuts.iter().map(|cut| family.stages[cut.stage].to_string()).collect();
    assert_eq!(stages, ["8x8", "8x8", "4x4"]);
}

#[test]
fn a_missing_family_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Family::load(folder.path()).unwrap_err();
    assert!(error.to_string().contains(FILE_NAME), "{error}");
}

#[test]
fn an_anchor_that_cannot_be_imported_is_reported_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let text = "schema = 1\nname = \"f\"\n[input]\nshape = [8, 8, 3]\nscale = 1.0\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n\
                [[anchors]]\nname = \"one\"\nmodel = \"absent.onnx\"\n";
    std::fs::write(folder.path().join(FILE_NAME), text).unwrap();
    let error = Family::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("line 9: anchor one"), "{error}");
}
