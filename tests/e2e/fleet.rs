//! Planning for boards as a user meets it: export and plan for several boards, assemble under limits, write the page.

mod common;
#[cfg(unix)]
mod profile;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::{failure, json, path, stitchkit};
use serde_json::Value;
use stitchkit::board::{Board, BoardLimits, Method, Origin};
use stitchkit_runtime::profile::{BoardProfile, LatencyModel};
use tempfile::TempDir;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn digits() -> String {
    repository().join("models/digits").to_str().expect("a path in UTF-8").to_owned()
}

/// A file of a Cortex-M4 board at 25 MHz with this memory.
fn board(folder: &Path, name: &str, ram_bytes: u32, flash_bytes: u32) -> String {
    let model = LatencyModel::CORTEX_M4.scaled(40, 1);
    let origin = Origin {
        method: Method::Estimated,
        kernels: "arm-dsp".to_owned(),
        how: "for this test".to_owned(),
        steps: 0,
        held_out: None,
    };
    let board = Board {
        name: name.to_owned(),
        description: "a board".to_owned(),
        clock_hz: Some(25_000_000),
        profile: BoardProfile { ram_bytes, flash_bytes, model },
        fast_ram_bytes: 0,
        limits: BoardLimits::default(),
        origin,
    };
    let file = folder.join(format!("{name}.toml"));
    board.write(&file).expect("a board file");
    path(&file).to_owned()
}

/// A bundle for two boards with what the export said, made once.
fn served() -> &'static (TempDir, Value) {
    static SERVED: OnceLock<(TempDir, Value)> = OnceLock::new();
    SERVED.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let small = board(folder.path(), "small", 2048, 1 << 20);
        let large = board(folder.path(), "large", 8192, 1 << 20);
        let (out, data) = (folder.path().join("b.stk"), folder.path().join("b.json"));
        let report = json(&[
            "export",
            &digits(),
            "--out",
            path(&out),
            "--board",
            &small,
            "--board",
            &large,
            "--report-data",
            path(&data),
        ]);
        (folder, report)
    })
}

#[test]
fn an_export_for_boards_holds_exactly_the_plans_they_run() {
    let (folder, report) = served();
    let boards = report["boards"].as_array().unwrap();
    let mut run: Vec<u64> = boards.iter().map(|b| b["pick"]["stitch"].as_u64().unwrap()).collect();
    let inspected = json(&["inspect", path(&folder.path().join("b.stk"))]);
    let mut held: Vec<u64> =
        inspected["plans"].as_array().unwrap().iter().map(|p| p["stitch"].as_u64().unwrap()).collect();
    run.sort_unstable();
    held.sort_unstable();
    assert_eq!(run, held);
    assert_eq!(held.len(), 2, "2 KiB and 8 KiB do not run the same plan");
    for (board, ram) in boards.iter().zip([2048, 8192]) {
        assert!(board["pick"]["arena_bytes"].as_u64() <= Some(ram), "{board}");
        assert!(board["pick"]["predicted_us"].as_u64() > Some(0));
    }
}

#[test]
fn a_board_with_a_fast_memory_runs_what_neither_memory_holds() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plain = board(folder.path(), "plain", 4096, 1 << 20);
    let mut divided = Board::read(Path::new(&board(folder.path(), "divided", 4096, 1 << 20))).expect("just written");
    divided.fast_ram_bytes = 2048;
    let file = folder.path().join("divided.toml");
    divided.write(&file).expect("a board file");
    let out = folder.path().join("b.stk");
    let report = json(&["export", &digits(), "--out", path(&out), "--board", path(&file)]);
    let pick = &report["boards"][0]["pick"];
    let [arena_bytes, in_fast_bytes] = ["arena_bytes", "in_fast_bytes"].map(|key| pick[key].as_u64().expect("bytes"));
    assert!(arena_bytes > 4096 && in_fast_bytes <= 2048 && arena_bytes - in_fast_bytes <= 4096, "{pick}");
    let inspected = json(&["inspect", path(&out), "--plan", "0"]);
    let plan = &inspected["plans"][0];
    assert_eq!((plan["fast_bytes"].as_u64(), plan["arena_bytes"].as_u64()), (Some(in_fast_bytes), Some(arena_bytes)));
    assert!(plan["fast_access_share"].as_f64() > Some(0.0));
    let features = inspected["runtime_features"].as_array().expect("a list");
    assert!(features.contains(&Value::from("two-memories")), "{features:?}");
    let selected = json(&["select", path(&out), "--board", path(&file)]);
    assert_eq!(selected["in_fast_bytes"].as_u64(), Some(in_fast_bytes));
    let said = failure(3, &["select", path(&out), "--board", &plain]);
    assert!(said.contains("4096 are available"), "{said}");
    json(&["verify", path(&out)]);
}

#[test]
fn a_plan_that_does_not_fit_a_board_otherwise_writes_outputs_over_inputs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [apart, over] = ["apart.stk", "over.stk"].map(|name| folder.path().join(name));
    json(&["export", &digits(), "--keep", "anchors", "--out", path(&apart)]);
    let arenas = |file: &Path| -> Vec<u64> {
        let inspected = json(&["inspect", path(file)]);
        inspected["plans"]
            .as_array()
            .expect("plans")
            .iter()
            .map(|p| p["arena_bytes"].as_u64().expect("bytes"))
            .collect()
    };
    let before = arenas(&apart);
    let smallest = *before.iter().min().expect("a plan");
    let limit = smallest as u32 - 1;
    json(&["export", &digits(), "--keep", "anchors", "--arena-limit", &limit.to_string(), "--out", path(&over)]);
    let after = arenas(&over);
    for (before, after) in before.iter().zip(&after) {
        // The others do not fit either way, and stay apart.
        assert!(if *before == smallest { after < before } else { after == before }, "{before} became {after}");
    }
    let plan = before.iter().position(|&bytes| bytes == smallest).expect("it is one of them").to_string();
    let inspected = json(&["inspect", path(&over), "--plan", &plan]);
    assert!(inspected["runtime_features"].as_array().expect("a list").contains(&Value::from("overlap")));
    let plans = inspected["plans"].as_array().expect("plans");
    let steps = plans.iter().find_map(|plan| plan["step_list"].as_array()).expect("the plan's steps");
    assert!(steps.iter().any(|step| step["over_input"] == true), "{steps:?}");
    json(&["verify", path(&over)]);
    // The board's memory is such a limit too.
    let small = board(folder.path(), "small", limit, 1 << 20);
    let report = json(&["export", &digits(), "--out", path(&folder.path().join("b.stk")), "--board", &small]);
    assert!(report["boards"][0]["pick"]["arena_bytes"].as_u64() < Some(smallest), "{report}");
}

#[test]
fn boards_that_cannot_be_served_are_named_together_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let fine = board(folder.path(), "fine", 8192, 1 << 20);
    let tiny = board(folder.path(), "tiny", 512, 1 << 20);
    let out = folder.path().join("b.stk");
    let late = format!("{fine},latency=10us");
    let said =
        failure(3, &["export", &digits(), "--out", path(&out), "--board", &fine, "--board", &tiny, "--board", &late]);
    for words in ["2 of 3 boards", "tiny: `digits-s` comes nearest", "512 allowed", "fine 10us:", "deadline of 10 us"] {
        assert!(said.contains(words), "`{words}` is missing in: {said}");
    }
    assert!(!out.exists());
    let absent = failure(1, &["export", &digits(), "--out", path(&out), "--board", "a.toml", "--board", "b.toml"]);
    assert!(absent.contains("a.toml") && absent.contains("b.toml"), "{absent}");
}

#[test]
fn a_fleet_is_planned_as_select_would_and_takes_measurements() {
    let (folder, _) = served();
    let bundle = folder.path().join("b.stk");
    let measured = folder.path().join("measured.jsonl");
    std::fs::write(&measured, "{\"board\": \"large\", \"plan\": 1, \"latency_us\": 1234.5}\n").unwrap();
    let large = path(&folder.path().join("large.toml")).to_owned();
    let report =
        json(&["fleet", path(&bundle), "--board", &large, "--memory", "2KiB,8KiB", "--measured", path(&measured)]);
    let rows = report["rows"].as_array().unwrap();
    for (row, memory) in rows.iter().zip(["2KiB", "8KiB"]) {
        let selected = json(&["select", path(&bundle), "--memory", memory]);
        assert_eq!(row["pick"]["plan"], selected["plan"], "{memory}");
    }
    assert_eq!((&rows[0]["measured_us"], rows[1]["measured_us"].as_f64()), (&Value::Null, Some(1234.5)));
    assert!(failure(3, &["fleet", path(&bundle), "--board", &large, "--latency", "1us"]).contains("1 of 1 rows"));
    // Instruction counts of an emulated board of another name, at one per cycle of 25 MHz.
    std::fs::write(&measured, "{\"board\": \"mps2-an386\", \"plan\": 0, \"instructions\": 50000}\n").unwrap();
    let renamed = format!("large={}", path(&measured));
    let report = json(&["fleet", path(&bundle), "--board", &large, "--memory", "2KiB", "--measured", &renamed]);
    assert_eq!(report["rows"][0]["measured_us"].as_f64(), Some(2000.0));
    std::fs::write(&measured, "{\"board\": \"large\"}\n").unwrap();
    assert!(failure(1, &["fleet", path(&bundle), "--board", &large, "--measured", path(&measured)]).contains("line 1"));
}

#[test]
fn limits_in_a_board_file_hold_until_the_command_line_replaces_them() {
    let (served, _) = served();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = board(folder.path(), "limited", 8192, 1 << 20);
    let mut limited = Board::read(Path::new(&file)).expect("just written");
    limited.limits = BoardLimits { deadline_us: Some(9_000), ram_bytes: Some(2048) };
    limited.write(Path::new(&file)).expect("a board file");
    let bundle = served.path().join("b.stk");
    let limits = |board: &str| {
        let report = json(&["fleet", path(&bundle), "--board", board]);
        let limits = &report["rows"][0]["limits"];
        (limits["deadline_us"].as_u64(), limits["ram_bytes"].as_u64())
    };
    assert_eq!(limits(&file), (Some(9_000), Some(2048)));
    assert_eq!(limits(&format!("{file},latency=2s,memory=4KiB")), (Some(2_000_000), Some(4096)));
    limited.limits.deadline_us = Some(1);
    limited.write(Path::new(&file)).expect("a board file");
    let said = failure(3, &["fleet", path(&bundle), "--board", &file]);
    assert!(said.contains("no plan") && !said.contains("panicked"), "{said}");
}

#[test]
fn assemble_meets_its_limits_and_remembers_what_it_measured() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, out) = (folder.path().join("cache.json"), folder.path().join("b.stk"));
    let family = digits();
    let assemble = |limits: &[&str]| {
        let fixed = ["assemble", &family, "--cache", path(&cache), "--out", path(&out)];
        json(&[&fixed[..], limits].concat())
    };
    let first = assemble(&["--memory", "5KiB", "--latency", "20ms", "--flash", "60KiB", "--min-accuracy", "0.95"]);
    let chosen = &first["chosen"];
    assert!(
        chosen["ram_bytes"].as_u64() <= Some(5120) && chosen["flash_bytes"].as_u64() <= Some(60 * 1024),
        "{chosen}"
    );
    assert!(chosen["latency_us"].as_u64() <= Some(18_000) && chosen["evaluated"].as_f64() >= Some(0.95), "{chosen}");
    assert_eq!(chosen["flash_bytes"].as_u64(), Some(std::fs::metadata(&out).unwrap().len()));
    let inspected = json(&["inspect", path(&out)]);
    assert_eq!(inspected["plans"].as_array().unwrap().len(), 1);
    assert_eq!(inspected["plans"][0]["path"], chosen["path"]);
    assert!((inspected["plans"][0]["accuracy"].as_f64().unwrap() - chosen["evaluated"].as_f64().unwrap()).abs() < 1e-6);

    // Nothing that fits is more accurate.
    for option in first["options"].as_array().unwrap().iter().filter(|o| o["excesses"].as_array().unwrap().is_empty()) {
        assert!(option["accuracy"].as_f64() <= chosen["accuracy"].as_f64(), "{option}");
    }

    // The same bytes come from the cache, and without one.
    let bytes = std::fs::read(&out).unwrap();
    let limits = ["--memory", "5KiB", "--latency", "20ms", "--flash", "60KiB", "--min-accuracy", "0.95"];
    assert_eq!(assemble(&limits)["chosen"], *chosen);
    assert_eq!(std::fs::read(&out).unwrap(), bytes);
    let alone = [&["assemble", &family, "--cache", "none", "--out", path(&out)][..], &limits].concat();
    json(&alone);
    assert_eq!(std::fs::read(&out).unwrap(), bytes);
    json(&["verify", path(&out)]);

    let said = failure(3, &["assemble", &family, "--cache", path(&cache), "--memory", "1000B"]);
    assert!(said.contains("`digits-s` on 8x8 comes nearest") && said.contains("1,000 allowed"), "{said}");
}

#[test]
fn fewer_classes_and_smaller_images_are_assembled_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, out) = (folder.path().join("cache.json"), folder.path().join("b.stk"));
    let fixed = ["assemble", &digits(), "--cache", path(&cache), "--out", path(&out)].map(str::to_owned);
    let fixed: Vec<&str> = fixed.iter().map(String::as_str).collect();
    let report = json(&[&fixed[..], &["--classes", "3,8,5", "--input-sizes", "8,6"]].concat());
    let sizes: Vec<&Value> = report["options"].as_array().unwrap().iter().map(|o| &o["input"][0]).collect();
    assert!(sizes.contains(&&Value::from(8)) && sizes.contains(&&Value::from(6)));
    assert!(report["chosen"]["evaluated"].as_f64() > Some(0.9), "{}", report["chosen"]);
    assert!(report["chosen"]["evaluation_images"].as_u64() < Some(250), "images of three classes only");
    let inspected = json(&["inspect", path(&out)]);
    assert_eq!(inspected["labels"], serde_json::json!(["3", "8", "5"]));
    assert_eq!(inspected["output_shape"], serde_json::json!([1, 1, 3]));
    json(&["verify", path(&out)]);
    assert!(failure(1, &[&fixed[..], &["--classes", "3,x"]].concat()).contains("no class x"));
    assert!(failure(1, &[&fixed[..], &["--input-sizes", "1"]].concat()).contains("smaller than its window"));
}

#[test]
fn stitches_are_evaluated_and_plotted_and_a_broken_cache_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache.json");
    let evaluate = ["stitches", &digits(), "--evaluate", "--cache", path(&cache)].map(str::to_owned);
    let evaluate: Vec<&str> = evaluate.iter().map(String::as_str).collect();
    let first = json(&evaluate);
    assert!(first["stitches"].as_array().unwrap().iter().all(|s| s["accuracy"].as_f64() > Some(0.5)));
    let kept = std::fs::read_to_string(&cache).unwrap();
    let printed = String::from_utf8(stitchkit(&evaluate).stdout).unwrap();
    assert!(printed.contains("MACs, log scale") && printed.matches('A').count() >= 3, "{printed}");
    // Damaged in its text, and in its values.
    for damaged in [kept[..kept.len() / 2].to_owned(), kept.replace("\"in_channels\":", "\"in_channels\":1")] {
        std::fs::write(&cache, damaged).unwrap();
        assert_eq!(json(&evaluate), first);
    }
}

#[test]
fn paths_with_two_crossings_are_composed_and_measured() {
    let report = json(&["assemble", &digits(), "--cache", "none", "--crossings", "2"]);
    let paths: Vec<&str> = report["options"].as_array().unwrap().iter().filter_map(|o| o["path"].as_str()).collect();
    let twice: Vec<&&str> = paths.iter().filter(|path| path.matches(" > ").count() == 2).collect();
    assert!(!twice.is_empty(), "{paths:?}");
    assert!(
        twice.iter().all(|p| p.starts_with("digits-s[..") && p.contains("> digits-m[") && p.contains("> digits-l["))
    );
    assert!(report["paths"].as_u64() >= Some(paths.len() as u64));
}

#[test]
fn the_page_holds_every_network_and_loads_nothing() {
    let (folder, _) = served();
    let (page, trace) = (folder.path().join("page.html"), folder.path().join("run.jsonl"));
    let line = |i: usize| {
        format!("{{\"inference\":{i},\"deadline_us\":900,\"plan\":0,\"predicted_us\":700,\"observed_us\":710}}\n")
    };
    std::fs::write(&trace, (0..5).map(line).collect::<String>()).unwrap();
    let small = format!("{},latency=30ms", path(&folder.path().join("small.toml")));
    let data = folder.path().join("b.json");
    let report = json(&["report", path(&data), "--html", path(&page), "--board", &small, "--trace", path(&trace)]);
    assert_eq!((&report["boards"], &report["traces"], &report["kept"]), (&1.into(), &1.into(), &2.into()));
    let html = std::fs::read_to_string(&page).unwrap();
    let start = html.find("id=\"data\">").unwrap() + "id=\"data\">".len();
    let held: Value = serde_json::from_str(html[start..].split("</script>").next().unwrap()).unwrap();
    let networks = held["networks"].as_array().unwrap();
    let listed = json(&["stitches", &digits()]);
    assert_eq!(networks.len(), listed["stitches"].as_array().unwrap().len());
    assert_eq!(held["boards"][0]["latency_us"].as_array().unwrap().len(), networks.len());
    let without_namespace = html.replace("http://www.w3.org/2000/svg", "");
    assert!(!without_namespace.contains("http:") && !without_namespace.contains("https:"));

    let bundle = folder.path().join("b.stk");
    let from_bundle = json(&["report", path(&bundle), "--html", path(&page)]);
    assert_eq!((&from_bundle["networks"], &from_bundle["kept"]), (&2.into(), &2.into()));
    std::fs::write(&trace, "{}\n").unwrap();
    assert!(failure(1, &["report", path(&data), "--html", path(&page), "--trace", path(&trace)]).contains("line 1"));
}
