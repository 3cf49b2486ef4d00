//! `stitchkit bench` as far as it needs no emulator: the tables are those of the baseline, and what is wrong is said.

mod common;

use std::path::{Path, PathBuf};

use common::{failure, json, path, stitchkit};

fn repository(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

#[test]
fn readme_and_documentation_show_the_figures_of_the_baseline() {
    let folder = tempfile::tempdir().expect("a folder");
    let baseline = repository("tests/bench-baseline.json");
    for file in ["README.md", "host-tools/docs/benchmarks.md"] {
        let copy = folder.path().join("copy.md");
        std::fs::copy(repository(file), &copy).expect("a copy");
        let output = stitchkit(&["bench", "--from", path(&baseline), "--markdown", path(&copy)]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let [old, new] = [repository(file), copy].map(|file| std::fs::read_to_string(file).expect("text"));
        let command = format!("stitchkit bench --from tests/bench-baseline.json --markdown {file}");
        assert!(old == new, "the tables of {file} are not those of the baseline; run {command}");
    }
}

#[test]
fn every_model_is_in_the_baseline_on_every_board_with_its_peers() {
    let report = json(&["bench", "--from", path(&repository("tests/bench-baseline.json"))]);
    let cases = report["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 4 * 7);
    for case in cases {
        let [instructions, macs] = ["instructions", "macs"].map(|key| case[key].as_f64().expect("a number"));
        let per_mac = case["instructions_per_mac"].as_f64().expect("a number");
        assert!((instructions / macs - per_mac).abs() < 0.001, "{case}");
    }
    let of = |model: &str, board: &str| cases.iter().find(|c| c["model"] == model && c["board"] == board);
    let peers = of("dscnn", "qemu-m4").expect("a case")["peers"].as_array().expect("peers");
    assert_eq!(peers.iter().map(|p| p["engine"].as_str()).collect::<Vec<_>>(), [Some("TFLM"), Some("microflow")]);
}

#[test]
fn files_without_marks_or_figures_are_refused_and_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let baseline = repository("tests/bench-baseline.json");
    let plain = folder.path().join("plain.md");
    std::fs::write(&plain, "# No table\n").expect("a file");
    let said = failure(1, &["bench", "--from", path(&baseline), "--markdown", path(&plain)]);
    assert!(said.contains("plain.md") && said.contains("<!-- bench:cases -->"), "{said}");
    assert_eq!(std::fs::read_to_string(&plain).expect("text"), "# No table\n");
    let said = failure(1, &["bench", "--from", path(&plain)]);
    assert!(said.contains("holds no figures of bench"), "{said}");
    let said = failure(1, &["bench", "--board", "qemu-m5"]);
    assert!(said.contains("no emulated board `qemu-m5`") && said.contains("qemu-m55"), "{said}");
    failure(2, &["bench", "--model", "resnet50"]);
    failure(2, &["bench", "--plan", "1"]);
}

/// What has no bound of its stack, and why, is said; nothing is run for it.
#[test]
fn a_program_that_is_none_has_no_bound_of_its_stack() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("script");
    std::fs::write(&script, "#!/bin/sh\n").expect("a file");
    let said = failure(1, &["stack", path(&script)]);
    assert!(said.contains("script") && said.contains("no 32-bit ELF program"), "{said}");
    assert!(failure(1, &["stack", path(&folder.path().join("absent"))]).contains("absent"));
    failure(2, &["stack", path(&script), "--limit", "much"]);
}

/// What is missing is named together, with the commands that install it.
#[test]
fn without_its_programs_it_says_what_to_install() {
    let firmware = repository("examples/qemu-cortex-m");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_stitchkit"))
        .args(["bench", "--board", "qemu-m4", "--firmware", path(&firmware)])
        .env("PATH", "")
        .output()
        .expect("the command starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("apt-get install qemu-system-arm") && said.contains("https://rustup.rs"), "{said}");
}
