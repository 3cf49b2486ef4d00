//! Measurements divided into parts give, joined, what one run gives; results are written for machines to read.

mod common;

use std::path::{Path, PathBuf};

use common::{failure, json, path, stitchkit};
use serde_json::Value;

fn digits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits")
}

/// Runs a command that must succeed.
fn done(arguments: &[&str]) {
    let output = stitchkit(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a verb in `of` parts and returns their files.
fn parts(verb: &[&str], of: usize, folder: &Path) -> Vec<PathBuf> {
    let part = |index: usize| {
        let file = folder.join(format!("part-{index}.jsonl"));
        done(&[verb, &["--shard", &format!("{index}/{of}"), "--out", path(&file)]].concat());
        file
    };
    // In an order that no shell would give.
    (1..=of).rev().map(part).collect()
}

/// Part 2/3 as the example for Slurm makes it.
fn part_of_slurm(family: &Path, folder: &Path) -> PathBuf {
    let results = folder.join("slurm");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/cluster/slurm-array.sh");
    let status = std::process::Command::new("sh")
        .args([&script, family, &results])
        .env("STITCHKIT", env!("CARGO_BIN_EXE_stitchkit"))
        .envs([("SLURM_ARRAY_TASK_ID", "2"), ("SLURM_ARRAY_TASK_COUNT", "3")])
        .status();
    assert!(status.expect("a shell").success());
    results.join("part-2.jsonl")
}

#[test]
fn stitches_measured_in_parts_are_those_of_one_run_and_export_starts_from_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let family = digits();
    let verb = ["stitches", path(&family), "--evaluate", "--cache", "none"];
    let whole = json(&verb);
    assert!(whole["stitches"][0]["accuracy"].as_f64() > Some(0.5));
    let mut files = parts(&verb, 3, folder.path());
    files[1] = part_of_slurm(&family, folder.path());
    let names: Vec<&str> = files.iter().map(|file| path(file)).collect();
    let cache = folder.path().join("cache.json");
    let merged = json(&[&["merge", "--cache", path(&cache)], names.as_slice()].concat());
    assert_eq!(merged, whole);
    assert_eq!(json(&["stitches", path(&family), "--evaluate", "--cache", path(&cache)]), whole);

    let [one, other, results] = ["one.stk", "other.stk", "results.json"].map(|name| folder.path().join(name));
    done(&["export", path(&family), "--out", path(&one), "--results", path(&results)]);
    done(&["export", path(&family), "--out", path(&other), "--cache", path(&cache)]);
    assert!(std::fs::read(&one).expect("a bundle") == std::fs::read(&other).expect("a bundle"));
    same_results(&results, &family.join("results.json"));

    let data = family.join("digits.npz");
    let verb = ["eval", path(&one), "--data", path(&data), "--split", "test"];
    let whole = json(&verb);
    let files = parts(&verb, 4, folder.path());
    let names: Vec<&str> = files.iter().map(|file| path(file)).collect();
    assert_eq!(json(&[&["merge"], names.as_slice()].concat()), whole);
    let said = failure(1, &["merge", "--cache", path(&cache), names[0], names[2], names[2]]);
    assert!(said.contains("missing: 1/4, 3/4") && said.contains("both part 2/4"), "{said}");
    let said = failure(1, &[&["merge", "--cache", path(&cache)], names.as_slice()].concat());
    assert!(said.contains("parts of `eval`"), "{said}");
}

/// Costs are equal; accuracies may differ by an answer or two where float arithmetic rounds in another order.
fn same_results(found: &Path, committed: &Path) {
    let [found, committed] = [found, committed].map(|file| {
        let text = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        serde_json::from_slice::<Value>(&text).expect("JSON")
    });
    let plans = |results: &Value| results["plans"].as_array().expect("plans").clone();
    assert_eq!(plans(&found).len(), plans(&committed).len());
    for (found, committed) in plans(&found).iter().zip(&plans(&committed)) {
        for key in ["id", "stitch", "path", "macs", "params", "arena_bytes"] {
            assert_eq!(found[key], committed[key], "{key}; update models/digits/results.json with export --results");
        }
        for key in ["accuracy_float", "accuracy_int8"] {
            let [found, committed] = [found, committed].map(|plan| plan[key].as_f64().expect("a share"));
            assert!((found - committed).abs() < 0.005, "{key}: {found}, committed {committed}");
        }
    }
}

#[test]
fn wrong_parts_are_wrong_usage_or_named_with_their_line() {
    let family = digits();
    for shard in ["0/3", "4/3", "x"] {
        let said = failure(2, &["stitches", path(&family), "--evaluate", "--shard", shard]);
        assert!(said.contains("I/N"), "{said}");
    }
    failure(2, &["stitches", path(&family), "--shard", "1/2"]);
    let folder = tempfile::tempdir().expect("a folder");
    let [empty, text] = ["empty.jsonl", "text.jsonl"].map(|name| folder.path().join(name));
    std::fs::write(&empty, "").expect("a file");
    std::fs::write(&text, "no part\n").expect("a file");
    let said = failure(1, &["merge", path(&empty), path(&text), path(&folder.path().join("none.jsonl"))]);
    for words in ["empty.jsonl: is empty", "text.jsonl: line 1", "none.jsonl: "] {
        assert!(said.contains(words), "{said}");
    }
}

/// Figures of the shipped families belong to stitches that these families have.
#[test]
fn the_results_of_every_family_are_of_its_stitches() {
    for family in ["digits", "cifar10-resnet"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(family);
        let text = std::fs::read(folder.join("results.json")).expect("results.json");
        let results: Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!((&results["schema_version"], &results["family"]), (&Value::from(1), &Value::from(family)));
        let space = json(&["stitches", path(&folder)]);
        let plans = results["plans"].as_array().expect("plans");
        assert!(plans.len() > 2);
        for plan in plans {
            let stitch = &space["stitches"][plan["stitch"].as_u64().expect("an id") as usize];
            for key in ["path", "macs", "params"] {
                assert_eq!(plan[key], stitch[key], "{family}: {key} of plan {}", plan["id"]);
            }
        }
    }
}
