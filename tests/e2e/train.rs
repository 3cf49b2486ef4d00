//! `stitchkit train` as a user meets it: digits gets better, a killed run ends where an uninterrupted one does, the new
//! family exports what was validated, and one large network becomes a family of small ones.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{failure, json, path};
use serde_json::Value;

fn digits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|n| n.as_f64().expect("a number")).collect()
}

/// Accuracies before and after by network, anchors apart from stitches.
fn split(report: &Value) -> [Vec<(f64, f64)>; 2] {
    let pairs: Vec<(f64, f64)> = numbers(&report["before"]).into_iter().zip(numbers(&report["after"])).collect();
    let networks = report["networks"].as_array().expect("networks");
    [true, false].map(|anchors| {
        let wanted = networks.iter().zip(&pairs).filter(|(network, _)| network["is_anchor"] == anchors);
        wanted.map(|(_, pair)| *pair).collect()
    })
}

/// The options of the README's command.
const DOCUMENTED: [&str; 4] = ["--epochs", "30", "--mixup", "0.8"];

#[test]
fn stitches_get_better_than_least_squares_and_anchors_stay_and_export_sees_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("better");
    let report = json(&[&["train", path(&digits()), "--out", path(&out)], &DOCUMENTED[..]].concat());
    let [anchors, stitches] = split(&report);
    assert!(anchors.iter().all(|(before, after)| after >= &(before - 0.005)), "{anchors:?}");
    let mean = |pairs: &[(f64, f64)], f: fn(&(f64, f64)) -> f64| pairs.iter().map(f).sum::<f64>() / pairs.len() as f64;
    let (before, after) = (mean(&stitches, |p| p.0), mean(&stitches, |p| p.1));
    assert!(after > before, "stitches {before} -> {after}");
    assert!(stitches.iter().all(|(before, after)| after >= &(before - 0.01)), "{stitches:?}");
    assert_eq!(ranked(&out, "search_accuracy_float"), numbers(&report["after"]), "export measures something else");
    let page = folder.path().join("page.html");
    json(&["report", path(&out), "--html", path(&page)]);
    let page = std::fs::read_to_string(page).expect("a page");
    assert!(page.contains("\"validations\":[{\"epoch\":0,"), "the run is in the report");
}

/// What `export` measures on the images that validated, by network.
fn ranked(family: &Path, figure: &str) -> Vec<f64> {
    let bundle = family.join("b.stk");
    let exported = json(&["export", path(family), "--out", path(&bundle), "--keep", "all", "--noise-images", "0"]);
    let stitches = exported["stitches"].as_array().expect("stitches");
    stitches.iter().map(|stitch| stitch[figure].as_f64().expect("a share")).collect()
}

#[test]
fn a_run_that_rounds_validates_exactly_the_plans_that_export_ships() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("int8");
    let rates = ["--anchor-rate", "1e-5", "--stitch-rate", "1e-4", "--teacher-share", "0.5", "--mixup", "0.4"];
    let report =
        json(&[&["train", path(&digits()), "--out", path(&out), "--epochs", "2", "--qat"], &rates[..]].concat());
    assert_eq!(ranked(&out, "search_accuracy"), numbers(&report["after"]));
    let mean = |key: &str| numbers(&report[key]).iter().sum::<f64>();
    assert!(mean("after") > mean("before") - 0.05, "{report}");
}

#[test]
fn transformers_are_trained_with_rounding_and_ship_what_was_validated() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("int8");
    let family = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/e2e/vit");
    let rates = ["--anchor-rate", "1e-4", "--stitch-rate", "1e-3"];
    let report = json(&[&["train", path(&family), "--out", path(&out), "--epochs", "3", "--qat"], &rates[..]].concat());
    assert_eq!(report["quantized"], "activations");
    assert_eq!(ranked(&out, "search_accuracy"), numbers(&report["after"]));
    let [_, stitches] = split(&report);
    let gain: f64 = stitches.iter().map(|(before, after)| after - before).sum();
    assert!(gain > 0.05, "stitches get better: {stitches:?}");
}

#[test]
fn batch_norms_are_trained_and_export_sees_what_was_validated() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("norms");
    let arguments = ["--epochs", "4", "--batch-norm", "trained", "--seed", "2"];
    let report = json(&[&["train", path(&digits()), "--out", path(&out)], &arguments[..]].concat());
    assert_eq!(ranked(&out, "search_accuracy_float"), numbers(&report["after"]));
    let [anchors, stitches] = split(&report);
    assert!(anchors.iter().chain(&stitches).all(|(before, after)| after >= &(before - 0.05)), "{report}");
    let layers = contents(&out, "stitches.safetensors");
    let names = String::from_utf8_lossy(&layers);
    assert!(names.contains("norm/digits-s@") && names.contains(".shift"), "norms of crossings are in the file");
}

/// The files a finished run leaves that depend on its weights.
fn weights(folder: &Path) -> Vec<Vec<u8>> {
    let files = ["digits-s.onnx", "digits-m.onnx", "digits-l.onnx", "stitches.safetensors"];
    files.iter().map(|file| contents(folder, file)).collect()
}

fn contents(folder: &Path, file: &str) -> Vec<u8> {
    std::fs::read(folder.join(file)).expect(file)
}

const SHORT: [&str; 10] = ["--epochs", "2", "--draws", "2", "--sampler", "shift", "--mixup", "0.2", "--rank", "4"];

/// Starts a run, waits until it has saved something new, and kills it.
fn start_and_kill(arguments: &[&str], checkpoint: &Path) {
    let changed = |since: Option<std::time::SystemTime>| {
        std::fs::metadata(checkpoint).and_then(|meta| meta.modified()).ok() != since
    };
    let before = std::fs::metadata(checkpoint).and_then(|meta| meta.modified()).ok();
    let mut run = Command::new(env!("CARGO_BIN_EXE_stitchkit"))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("stitchkit runs");
    while !changed(before) && run.try_wait().expect("a state").is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(20));
    // SIGKILL: the process gets no chance to save anything.
    run.kill().expect("it can be killed");
    run.wait().expect("it ended");
}

#[test]
fn a_run_killed_twice_ends_with_the_weights_of_one_that_was_not_on_any_number_of_threads() {
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let family = digits();
    let report = json(&[&["train", path(&family), "--out", path(&whole), "--threads", "1"], &SHORT[..]].concat());
    let common = [&["train", path(&family), "--out", path(&killed), "--checkpoint-seconds", "0"], &SHORT[..]].concat();
    let checkpoint = killed.join("checkpoint.safetensors");
    start_and_kill(&common, &checkpoint);
    let said = failure(1, &common);
    assert!(said.contains("--resume"), "{said}");
    let resumed = [&common[..], &["--resume"]].concat();
    let other = [&resumed[..], &["--clip", "1"]].concat();
    let said = failure(1, &other);
    assert!(said.contains("clip"), "{said}");
    start_and_kill(&resumed, &checkpoint);
    let again = json(&resumed);
    assert_eq!(report, again);
    assert!(weights(&whole) == weights(&killed), "the weights differ");
    let log = std::fs::read_to_string(killed.join("run.log.jsonl")).expect("a log");
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let count = |event: &str| events.iter().filter(|e| e["event"] == event).count();
    assert_eq!([count("start"), count("validation"), count("progress"), count("finish")], [1, 3, 2, 1], "{log}");
    assert!(count("resume") >= 1);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_keeps_its_steps_and_two_runs_do_not_share_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let (out, family) = (folder.path().join("out"), digits());
    let long = ["train", path(&family), "--out", path(&out), "--epochs", "5000"];
    let mut run = Command::new(env!("CARGO_BIN_EXE_stitchkit"))
        .args(long)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("stitchkit runs");
    let checkpoint = out.join("checkpoint.safetensors");
    while !checkpoint.exists() && run.try_wait().expect("a state").is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let said = failure(1, &[&long[..], &["--resume"]].concat());
    assert!(said.contains("another run"), "{said}");
    let sent = Command::new("kill").args(["-INT", &run.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
    let ended = run.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && said.contains("--resume"), "{said}");
    let said = failure(1, &long);
    let steps =
        |text: &str, before: &str| -> Option<u64> { text.split_once(before)?.1.split_once(" steps")?.0.parse().ok() };
    assert!(steps(&said, "a run of ").is_some(), "{said}");
    assert_eq!(steps(&said, "a run of "), steps(&String::from_utf8_lossy(&ended.stderr), "stopped after "));
}

#[test]
fn frozen_anchors_keep_their_files_weights() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("lora");
    let options = ["--epochs", "3", "--train", "lora", "--stitch-rate", "5e-3", "--teacher", "largest"];
    let features = ["--match-features", "0.5", "--draws", "2"];
    let report = json(&[&["train", path(&digits()), "--out", path(&out)], &options[..], &features[..]].concat());
    let [anchors, stitches] = split(&report);
    assert!(anchors.iter().all(|(before, after)| before == after), "{anchors:?}");
    assert!(stitches.iter().any(|(before, after)| before != after), "{stitches:?}");
}

#[test]
fn a_dry_run_says_what_it_needs_and_writes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("none");
    let plan = json(&["train", path(&digits()), "--out", path(&out), "--dry-run"]);
    assert!(!out.exists());
    assert!(
        plan["memory_bytes"]["step"].as_u64() > Some(0) && plan["unwritable"] == Value::Array(Vec::new()),
        "{plan}"
    );
    assert_eq!(plan["steps"], plan["epoch_steps"].as_u64().expect("steps") * 10);
    let said = failure(1, &["train", path(&digits()), "--draws", "0", "--epochs", "0"]);
    assert!(said.contains("--draws") && said.contains("--epochs"), "{said}");
}

/// The students of digits-l at a quarter and half of its width, one block per stage, in a folder.
fn students(folder: &Path) -> Value {
    let family = digits();
    json(&["students", path(&family), "--out", path(folder), "--widths", "0.25,0.5", "--blocks", "1,1"])
}

const STUDENTS: [&str; 2] = ["digits-l-w25-b1.1", "digits-l-w50-b1.1"];
const DISTIL: [&str; 8] =
    ["--train", "anchors", "--learngene", "all", "--anchor-rate", "1e-2", "--stitch-rate", "1e-2"];

#[test]
fn one_large_network_becomes_a_family_below_the_smallest_anchor_without_the_large_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let [start, pool, last] = ["start", "pool", "last"].map(|name| folder.path().join(name));
    let made = students(&start);
    assert_eq!(made["students"][1]["blocks"], serde_json::json!([1, 1]));
    let macs = |row: &Value| row["macs"].as_u64().expect("a count");
    let smallest = macs(&json(&["stitches", path(&digits())])["anchors"][0]);
    assert!(macs(&made["students"][1]) < smallest && smallest < macs(&made["teacher"]) / 10, "{made}");

    let distilled = [&["train", path(&start), "--out", path(&pool), "--epochs", "60"], &DISTIL[..]].concat();
    let distilled = json(&distilled);
    let (before, after) = (numbers(&distilled["before"]), numbers(&distilled["after"]));
    assert!(before.iter().all(|&share| share < 0.4) && after[0] > 0.6 && after[1] > 0.8, "{distilled}");
    assert!(pool.join("maps.safetensors").exists() && !pool.join("stitches.safetensors").exists());

    let joined = ["--epochs", "10", "--anchor-rate", "1e-3", "--stitch-rate", "5e-3", "--stitch-start", "maps"];
    let joined = json(&[&["train", path(&pool), "--out", path(&last)], &joined[..]].concat());
    let [anchors, stitches] = split(&joined);
    assert!(anchors.iter().all(|(before, after)| after > &(before - 0.06)), "{anchors:?}");
    assert!(stitches.len() > 1 && stitches.iter().all(|(before, after)| after > before), "{stitches:?}");

    let bundle = last.join("b.stk");
    json(&["export", path(&last), "--out", path(&bundle), "--keep", "all", "--noise-images", "0"]);
    let bytes = std::fs::metadata(&bundle).expect("a bundle").len();
    assert!(bytes < made["teacher"]["params"].as_u64().expect("a count") / 4, "{bytes} bytes");
    let mut models: Vec<_> = std::fs::read_dir(&last)
        .expect("a folder")
        .map(|entry| entry.expect("a file").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".onnx"))
        .collect();
    models.sort();
    assert_eq!(models, STUDENTS.map(|name| format!("{name}.onnx")));
}

#[test]
fn a_killed_distillation_ends_with_the_students_and_maps_of_one_that_was_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let [start, whole, killed] = ["start", "whole", "killed"].map(|name| folder.path().join(name));
    students(&start);
    let options = [&["--epochs", "3", "--mixup", "0.2"], &DISTIL[..]].concat();
    let report = json(&[&["train", path(&start), "--out", path(&whole), "--threads", "1"], &options[..]].concat());
    let common = [&["train", path(&start), "--out", path(&killed), "--checkpoint-seconds", "0"], &options[..]].concat();
    start_and_kill(&common, &killed.join("checkpoint.safetensors"));
    assert_eq!(report, json(&[&common[..], &["--resume"]].concat()));
    for file in ["maps.safetensors", "digits-l-w25-b1.1.onnx", "digits-l-w50-b1.1.onnx"] {
        assert!(contents(&whole, file) == contents(&killed, file), "{file} differs");
    }
}

#[test]
fn students_and_their_training_say_what_they_lack() {
    let folder = tempfile::tempdir().expect("a folder");
    let (out, none) = (folder.path().join("start"), folder.path().join("none"));
    let said = failure(1, &["students", path(&digits()), "--out", path(&none), "--blocks", "1,2,3"]);
    assert!(said.contains("2 stages of 1,3 blocks"), "{said}");
    let said = failure(1, &["students", path(&digits()), "--out", path(&none), "--anchor", "digits-xl"]);
    assert!(said.contains("digits-s, digits-m, digits-l"), "{said}");
    assert!(!none.exists());
    students(&out);
    let said = failure(1, &["train", path(&out), "--out", path(&none), "--stitch-start", "maps"]);
    assert!(said.contains("maps.safetensors") && said.contains("--learngene"), "{said}");
    let said = failure(1, &["train", path(&out), "--out", path(&none), "--learngene", "end", "--teacher", "none"]);
    assert!(said.contains("needs a teacher"), "{said}");
}
