//! The command as a user meets it: the digits family from ONNX to a verified bundle, and what happens with broken input.

mod common;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::{failure, json, path, stitchkit};
use serde_json::Value;

fn digits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits")
}

/// The digits bundle, exported once for all tests.
fn bundle() -> &'static Path {
    static BUNDLE: OnceLock<PathBuf> = OnceLock::new();
    BUNDLE.get_or_init(|| {
        let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("digits.stk");
        let report = json(&["export", path(&digits()), "--out", path(&out)]);
        assert!(report["stitches"].as_array().expect("stitches").iter().any(|s| s["kept"] == true));
        out
    })
}

/// A copy of the digits family that a test may damage.
fn copy_of_digits() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for entry in std::fs::read_dir(digits()).expect("models/digits") {
        let entry = entry.expect("an entry");
        if entry.path().is_file() {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("a copy");
        }
    }
    folder
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).expect("family.toml");
    assert!(text.contains(from), "{from}");
    std::fs::write(file, text.replacen(from, to, 1)).expect("family.toml");
}

/// The export must fail, say each of `words`, and leave nothing behind.
fn export_fails(family: &Path, words: &[&str]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let said = failure(1, &["export", path(family), "--out", path(&folder.path().join("b.stk"))]);
    for word in words {
        assert!(said.contains(word), "`{word}` is missing in: {said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "a file was left behind");
}

#[test]
fn stitches_lists_anchors_first_with_their_costs() {
    let report = json(&["stitches", path(&digits())]);
    let stitches = report["stitches"].as_array().expect("stitches");
    assert!(stitches.len() > 3, "three anchors and some stitches");
    for (index, stitch) in stitches.iter().enumerate() {
        assert_eq!(stitch["id"], index);
        assert!(stitch["macs"].as_u64() > Some(0) && stitch["params"].as_u64() > Some(0));
    }
    assert_eq!(stitches[0]["path"], "digits-s");
}

#[test]
fn the_published_costs_come_out_of_graphs_without_weights() {
    let family = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/timm/resnet-18-50");
    let report = json(&["stitches", path(&family), "--count", "fvcore"]);
    let stitches = report["stitches"].as_array().expect("stitches");
    assert_eq!((stitches.len(), &stitches[0]["macs"]), (10, &Value::from(1_819_065_856_u64)));
    assert_eq!(stitches[9]["macs"], 2_490_225_664_u64);
}

#[test]
fn operators_without_int8_kernel_are_all_named_before_anything_is_done() {
    let family = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/timm/swin-ti-s-b");
    let folder = tempfile::tempdir().expect("a folder");
    let said = failure(1, &["export", path(&family), "--out", path(&folder.path().join("b.stk"))]);
    assert!(said.contains("no int8 kernel") && said.matches("swin-b: matmul").count() == 48, "{said}");
}

#[test]
fn init_finds_the_blocks_of_the_digits_anchors() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = |name: &str| digits().join(name);
    let (small, large) = (model("digits-m.onnx"), model("digits-l.onnx"));
    let report = json(&["init", path(&large), path(&small), "--out", path(folder.path())]);
    assert_eq!(report["anchors"], 2);
    let text = std::fs::read_to_string(folder.path().join("family.toml")).expect("family.toml");
    assert!(text.find("digits-m").unwrap() < text.find("digits-l").unwrap(), "by cost: {text}");
    let again = failure(1, &["init", path(&small), "--out", path(folder.path())]);
    assert!(again.contains("exists"), "{again}");
}

#[test]
fn batch_norms_measured_anew_store_no_weight_twice_and_run_alike_everywhere() {
    let export = |family: &Path| {
        let out = family.join("all.stk");
        json(&["export", path(family), "--out", path(&out), "--keep", "all", "--noise-images", "0"]);
        let report = json(&["inspect", path(&out)]);
        (report["distinct_weight_bytes"].as_u64().unwrap(), report["bundle_bytes"].as_u64().unwrap(), out)
    };
    let (anchor, anew) = (copy_of_digits(), copy_of_digits());
    edit(&anew.path().join("family.toml"), "norms = \"anchor\"", "norms = \"recalibrated\"");
    let (before, after) = (export(anchor.path()), export(anew.path()));
    assert_eq!(before.0, after.0, "weights behind crossings are those of the anchors");
    assert!(after.1 > before.1 && after.1 * 10 < before.1 * 11, "{} bytes, {} before", after.1, before.1);
    let report = json(&["verify", path(&after.2)]);
    assert!(report["plans"].as_array().is_some_and(|plans| plans.len() >= 8), "{report}");
}

#[test]
fn the_bundle_is_small_its_arenas_tight_and_its_plans_worth_having() {
    let report = json(&["inspect", path(bundle())]);
    let (file, weights) = (report["bundle_bytes"].as_u64().unwrap(), report["distinct_weight_bytes"].as_u64().unwrap());
    assert!(file * 100 <= weights * 110, "{file} bytes for {weights} bytes of weights");
    assert_eq!(file, std::fs::metadata(bundle()).unwrap().len());
    let plans = report["plans"].as_array().expect("plans");
    for plan in plans {
        let number = |key: &str| plan[key].as_u64().expect("a number");
        assert!(number("arena_bytes") >= number("arena_lower_bound_bytes"));
        assert!(number("arena_bytes") * 100 <= number("arena_lower_bound_bytes") * 105, "{plan}");
        let beaten = |other: &Value| {
            let at_most = |key: &str| other[key].as_u64() <= plan[key].as_u64();
            other["id"] != plan["id"]
                && other["accuracy"].as_f64() >= plan["accuracy"].as_f64()
                && at_most("macs")
                && at_most("arena_bytes")
        };
        assert!(!plans.iter().any(beaten), "dominated: {plan}");
    }
}

#[test]
fn int8_accuracy_is_close_to_float_and_as_stored() {
    let data = digits().join("digits.npz");
    let measured = json(&["eval", path(bundle()), "--data", path(&data)]);
    let stored = json(&["inspect", path(bundle())]);
    for (row, plan) in measured["plans"].as_array().unwrap().iter().zip(stored["plans"].as_array().unwrap()) {
        assert_eq!(row["images"], 500);
        let (int8, float) = (row["accuracy"].as_f64().unwrap(), plan["accuracy_float"].as_f64().unwrap());
        assert!((int8 - plan["accuracy"].as_f64().unwrap()).abs() < 1e-6);
        assert!(int8 > float - 0.02, "int8 {int8}, float {float}");
    }
}

#[test]
fn both_backends_run_the_sample_to_the_same_logits() {
    let sample = digits().join("sample.png");
    let run = |backend| json(&["run", path(bundle()), "--input", path(&sample), "--backend", backend]);
    let (kernels, tract) = (run("kernels"), run("tract"));
    assert_eq!(kernels["logits"], tract["logits"]);
    assert_eq!(kernels["logits"].as_array().map(Vec::len), Some(10));
    assert_eq!(kernels["top"][0]["label"], "7");
}

#[test]
fn dropping_plans_does_not_change_the_logits_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let all = folder.path().join("all.stk");
    json(&["export", path(&digits()), "--out", path(&all), "--keep", "all"]);
    let sample = digits().join("sample.png");
    let logits = |file: &Path, plan: &Value| {
        let id = plan["id"].to_string();
        json(&["run", path(file), "--input", path(&sample), "--plan", &id])["logits"].clone()
    };
    let (every, kept) = (json(&["inspect", path(&all)]), json(&["inspect", path(bundle())]));
    let every = every["plans"].as_array().unwrap();
    assert!(every.len() > kept["plans"].as_array().unwrap().len());
    for plan in kept["plans"].as_array().unwrap() {
        let same = every.iter().find(|p| p["stitch"] == plan["stitch"]).expect("every stitch is there");
        assert_eq!(logits(&all, same), logits(bundle(), plan), "{}", plan["path"]);
    }
}

#[test]
fn verify_finds_nothing_to_complain_about() {
    let report = json(&["verify", path(bundle())]);
    assert_eq!(report["verified"], true);
    assert!(report["backends"].as_array().unwrap().iter().any(|b| b == "tract"));
}

#[test]
fn select_never_exceeds_the_memory_and_says_3_when_nothing_fits() {
    let mut chosen = Vec::new();
    for bytes in (512..8192).step_by(256) {
        let output = stitchkit(&["select", path(bundle()), "--memory", &bytes.to_string(), "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON in any case");
        match output.status.code() {
            Some(0) => {
                assert!(report["arena_bytes"].as_u64() <= Some(bytes));
                chosen.push(report["plan"].as_u64());
            }
            code => assert_eq!((code, &report["plan"]), (Some(3), &Value::Null)),
        }
    }
    chosen.dedup();
    assert!(chosen.len() >= 2, "more memory gives another plan: {chosen:?}");
    assert!(failure(3, &["select", path(bundle()), "--memory", "16B"]).contains("smallest plan"));
    assert!(failure(3, &["select", path(bundle()), "--latency", "1us", "--clock", "1MHz"]).contains("fastest plan"));
}

#[test]
fn a_board_file_predicts_and_limits() {
    let board = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/boards/nrf52840.toml");
    let choice = |limits: &[&str]| {
        let arguments = [&["select", path(bundle()), "--board", path(&board), "--json"], limits].concat();
        let report: Value = serde_json::from_slice(&stitchkit(&arguments).stdout).expect("JSON");
        (report["plan"].as_u64(), report["predicted_latency_us"].as_u64().expect("a board predicts"))
    };
    let (best, best_us) = choice(&[]);
    let (faster, faster_us) = choice(&["--latency", &format!("{best_us}us")]);
    assert!(faster < best && faster_us < best_us, "the margin leaves no room for plan {best:?}: {faster:?}");
    assert!(
        failure(3, &["select", path(bundle()), "--board", path(&board), "--latency", "1us"]).contains("fastest plan")
    );
    assert!(failure(1, &["select", path(bundle()), "--board", "no-such-board.toml"]).contains("no-such-board.toml"));
    failure(2, &["select", path(bundle()), "--board", path(&board), "--latency", "1ms", "--clock", "1MHz"]);
}

#[test]
fn wrong_usage_exits_with_2() {
    failure(2, &["export", path(&digits())]);
    assert!(failure(1, &["export", path(&digits()), "--out", "absent/b.stk"]).contains("absent/b.stk"));
    failure(2, &["select", path(bundle()), "--memory", "lots"]);
    failure(2, &["select", path(bundle()), "--latency", "30"]);
}

#[test]
fn a_damaged_bundle_is_refused_by_every_verb() {
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("damaged.stk");
    let mut bytes = std::fs::read(bundle()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&damaged, &bytes).unwrap();
    assert!(failure(1, &["inspect", path(&damaged)]).contains("checksum"));
    std::fs::write(&damaged, &bytes[..middle]).unwrap();
    assert!(failure(1, &["verify", path(&damaged)]).contains("truncated"));
    std::fs::write(&damaged, b"no bundle at all").unwrap();
    assert!(failure(1, &["select", path(&damaged)]).contains("not a stitchkit bundle"));
    assert!(failure(1, &["inspect", path(&folder.path().join("absent.stk"))]).contains("absent.stk"));
}

#[test]
fn an_image_of_the_wrong_size_is_named_with_both_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("wide.png");
    image::GrayImage::new(9, 8).save(&image).unwrap();
    let said = failure(1, &["run", path(bundle()), "--input", path(&image)]);
    assert!(said.contains("wide.png") && said.contains('9') && said.contains('8'), "{said}");
    assert!(failure(1, &["run", path(bundle()), "--input", path(&image), "--plan", "99"]).contains("no plan 99"));
}

#[test]
fn broken_families_fail_before_anything_is_written() {
    let family = copy_of_digits();
    edit(&family.path().join("family.toml"), "stride = 1", "strid = 1");
    export_fails(family.path(), &["strid", "family.toml"]);

    let family = copy_of_digits();
    edit(&family.path().join("family.toml"), "data = \"digits.npz\"", "data = \"empty\"");
    std::fs::create_dir(family.path().join("empty")).unwrap();
    export_fails(family.path(), &["empty"]);

    let family = copy_of_digits();
    edit(&family.path().join("family.toml"), "digits-l.onnx", "absent.onnx");
    export_fails(family.path(), &["absent.onnx"]);

    let family = copy_of_digits();
    std::fs::write(family.path().join("digits-m.onnx"), b"not a model").unwrap();
    export_fails(family.path(), &["digits-m.onnx"]);

    let family = copy_of_digits();
    edit(&family.path().join("family.toml"), "/units.0/act/Relu_output_0", "/units.0/act/Rleu_output_0");
    export_fails(family.path(), &["/units.0/act/Rleu_output_0", "/units.0/act/Relu_output_0"]);
}
