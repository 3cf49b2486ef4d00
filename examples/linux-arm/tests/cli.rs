//! The binary, run on a small synthetic bundle.

use stitchkit_runtime::{bundle, kernels};

mod common;
#[path = "../../../device-runtime/src/tract/tests/synthetic.rs"]
mod synthetic;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use bundle::{AlignedBytes, Bundle};
use common::{Folder, as_bytes, bundle_with_golden, logits};
use synthetic::Random;

fn device(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stitchkit-device")).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn backends() -> &'static [&'static str] {
    if cfg!(feature = "tract") { &["kernels", "tract"] } else { &["kernels"] }
}

/// The line the program prints for `logits`.
fn expected_line(logits: &[i8]) -> String {
    let class = (0..logits.len()).rev().max_by_key(|&i| logits[i]).unwrap();
    let words: Vec<String> = logits.iter().map(i8::to_string).collect();
    format!("{class}\tclass {class}\t{}", words.join(" "))
}

#[test]
fn every_plan_and_backend_prints_the_runtimes_logits_for_every_input() {
    let folder = Folder::new("logits");
    let bytes = synthetic::bundle().unwrap();
    let path = folder.write("b.stk", &bytes);
    let inputs: Vec<Vec<i8>> = (0..5).map(|seed| Random(seed).bytes(360)).collect();
    let raw = folder.write("inputs.raw", inputs.iter().flat_map(|i| as_bytes(i)).collect::<Vec<u8>>());
    for plan in 0..3u16 {
        let expected: String = inputs.iter().map(|i| expected_line(&logits(&bytes, plan, i)) + "\n").collect();
        for backend in backends() {
            for isa in ["reference", ""] {
                let number = plan.to_string();
                let mut args = vec![&*path, "--input", &raw, "--plan", &number, "--backend", backend];
                if !isa.is_empty() {
                    args.extend(["--isa", isa]);
                }
                assert_eq!(stdout(&device(&args)), expected, "plan {plan} {backend} {isa}");
                if *backend == "kernels" {
                    args.extend(["--threads", "3"]);
                    assert_eq!(stdout(&device(&args)), expected, "plan {plan} {backend} {isa} on three threads");
                }
            }
        }
    }
}

#[test]
fn raw_pixels_numpy_pixels_and_standard_input_mean_the_same() {
    let folder = Folder::new("pixels");
    let path = folder.write("b.stk", synthetic::bundle().unwrap());
    let pixels: Vec<u8> = (0..360u32).map(|i| (i * 7 % 256) as u8).collect();
    let raw = folder.write("p.raw", &pixels);
    let header = format!("{:<117}\n", "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 12, 10, 3), }");
    let npy = [b"\x93NUMPY\x01\x00\x76\x00".as_slice(), header.as_bytes(), &pixels].concat();
    let npy = folder.write("p.npy", npy);
    let from_raw = stdout(&device(&[&path, "--input", &raw, "--pixels"]));
    assert_eq!(stdout(&device(&[&path, "--input", &npy])), from_raw);

    let mut child = Command::new(env!("CARGO_BIN_EXE_stitchkit-device"))
        .args([&path, "--input", "-", "--pixels"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&pixels).unwrap();
    assert_eq!(stdout(&child.wait_with_output().unwrap()), from_raw);
    assert_ne!(stdout(&device(&[&path, "--input", &raw])), from_raw, "int8 bytes are not pixels");
}

#[test]
fn memory_and_latency_select_the_plan() {
    let folder = Folder::new("select");
    let bytes = synthetic::bundle().unwrap();
    let path = folder.write("b.stk", &bytes);
    let input = folder.write("i.raw", [0; 360]);
    let aligned = AlignedBytes::copy_of(&bytes);
    let arenas: Vec<u32> = Bundle::parse(aligned.as_slice()).unwrap().plans().map(|p| p.arena_bytes).collect();
    for (plan, arena) in arenas.iter().enumerate() {
        let json = stdout(&device(&[&path, "--input", &input, "--memory", &arena.to_string(), "--json"]));
        assert!(json.contains(&format!("\"plan\":{plan},")), "{json}");
    }
    let too_small = device(&[&path, "--input", &input, "--memory", &(arenas[0] - 1).to_string()]);
    assert_eq!(too_small.status.code(), Some(3));
    let by_hand = device(&[&path, "--input", &input, "--memory", &arenas[0].to_string(), "--plan", "2"]);
    assert_eq!(by_hand.status.code(), Some(3));
    let no_time = device(&[&path, "--input", &input, "--latency", "0us"]);
    assert_eq!(no_time.status.code(), Some(3), "{}", String::from_utf8_lossy(&no_time.stderr));
    let much_time = stdout(&device(&[&path, "--input", &input, "--latency", "100s", "--json"]));
    assert!(much_time.contains("\"plan\":2,"), "{much_time}");
}

#[test]
fn golden_vectors_are_verified_and_differences_are_named() {
    let folder = Folder::new("verify");
    let plain = synthetic::bundle().unwrap();
    let inputs: Vec<Vec<i8>> = (0..4).map(|seed| Random(seed).bytes(360)).collect();
    let right = bundle_with_golden(&inputs, |plan, input| logits(&plain, plan, input));
    let wrong = bundle_with_golden(&inputs, |plan, input| {
        let mut output = logits(&plain, plan, input);
        output[3] ^= i8::from(plan == 1);
        output
    });
    let right = folder.write("right.stk", right);
    let wrong = folder.write("wrong.stk", wrong);
    for backend in backends() {
        let text = stdout(&device(&[&right, "--verify", "--backend", backend]));
        assert_eq!(text, format!("{backend}: 3 plans, 4 vectors each, 0 mismatches\n"));
        let failed = device(&[&wrong, "--verify", "--backend", backend]);
        assert_eq!(failed.status.code(), Some(1));
        let text = String::from_utf8(failed.stdout).unwrap();
        assert!(text.starts_with("plan 1, vector 0: output 3 is "), "{text}");
        assert!(text.ends_with("3 plans, 4 vectors each, 4 mismatches\n"), "{text}");
        stdout(&device(&[&wrong, "--verify", "--plan", "0", "--backend", backend]));
    }
    let none = folder.write("none.stk", plain);
    assert_eq!(device(&[&none, "--verify"]).status.code(), Some(1));
}

#[test]
fn the_list_marks_the_plan_that_would_run() {
    let folder = Folder::new("list");
    let path = folder.write("b.stk", synthetic::bundle().unwrap());
    let text = stdout(&device(&[&path, "--list"]));
    assert!(text.contains("\n   2* "), "{text}");
    let none = stdout(&device(&[&path, "--list", "--memory", "10"]));
    assert!(none.contains("no plan meets these limits") && none.contains("too much memory"), "{none}");
    let json = stdout(&device(&[&path, "--list", "--json"]));
    assert!(json.contains("\"chosen\":2,") && json.contains("\"threads\":1,"), "{json}");
    let json = stdout(&device(&[&path, "--list", "--json", "--threads", "2", "--latency", "100s"]));
    assert!(json.contains("\"chosen\":2,") && json.contains("\"threads\":2,"), "{json}");
    assert!(!json.contains("\"predicted_us\":null"), "{json}");
}

#[test]
fn wrong_files_and_wrong_lines_end_in_their_exit_status() {
    let folder = Folder::new("errors");
    let bytes = synthetic::bundle().unwrap();
    let path = folder.write("b.stk", &bytes);
    let short = folder.write("short.raw", [0; 359]);
    let mut damaged = bytes;
    let last = damaged.len() - 17;
    damaged[last] ^= 1;
    let damaged = folder.write("damaged.stk", damaged);
    let empty = folder.write("empty.stk", []);
    struct Case<'a> {
        args: &'a [&'a str],
        status: i32,
        says: &'a str,
    }
    let cases = [
        Case { args: &[&path, "--input", &short], status: 1, says: "one input has 360 (12 x 10 x 3)" },
        Case { args: &[&path, "--input", "/nonexistent"], status: 1, says: "/nonexistent" },
        Case { args: &[&path, "--input", &short, "--plan", "9"], status: 1, says: "plans 0 to 2" },
        Case { args: &[&damaged, "--list"], status: 1, says: "damaged.stk" },
        Case { args: &[&empty, "--list"], status: 1, says: "empty.stk" },
        Case { args: &[&path], status: 2, says: "--input FILE, --list or --verify" },
        Case { args: &[&path, "--input", &short, "--isa", "mmx"], status: 2, says: "reference" },
    ];
    for case in &cases {
        let output = device(case.args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(case.status), "{:?}: {text}", case.args);
        assert!(text.contains(case.says), "{:?} should say {}: {text}", case.args, case.says);
    }
}

#[test]
fn a_profile_is_a_whole_report_of_every_plan_in_memory() {
    let folder = Folder::new("profile");
    let bytes = synthetic::bundle().unwrap();
    let path = folder.write("b.stk", &bytes);
    let report = stdout(&device(&["profile", &path, "--repeat", "2", "--memory", "1MiB"]));
    let lines: Vec<&str> = report.lines().collect();
    assert!(lines[0].starts_with("@stitchkit ") && *lines.last().unwrap() == "@end", "{report}");
    let aligned = AlignedBytes::copy_of(&bytes);
    let bundle = Bundle::parse(aligned.as_slice()).unwrap().plan_count();
    for (start, count) in [("@plan ", 2 * usize::from(bundle)), ("@memory 1048576 ", 1), ("@clock 1000000000 time", 1)]
    {
        assert_eq!(lines.iter().filter(|line| line.starts_with(start)).count(), count, "{start}: {report}");
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_stitchkit-device"))
        .args(["profile", "-", "--repeat", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(stdout(&child.wait_with_output().unwrap()).contains("@bundle "));
    let none = device(&["profile", &path, "--memory", "16"]);
    assert_eq!(none.status.code(), Some(3), "{}", String::from_utf8_lossy(&none.stderr));
    assert_eq!(device(&["profile", &path, "--list"]).status.code(), Some(2));
    assert_eq!(device(&["profile", "/nowhere.stk"]).status.code(), Some(1));
}

#[test]
fn threads_are_timed_side_by_side() {
    let folder = Folder::new("threads");
    let path = folder.write("b.stk", synthetic::bundle().unwrap());
    let args = ["threads", &path, "--threads", "2", "--rounds", "1"];
    let text = stdout(&device(&args));
    assert!(text.starts_with("plan 2 (") && text.lines().count() == 4, "{text}");
    let of_plans = [&args[..], &["--plan", "0", "--plan", "1", "--share-from", "0", "--json"]].concat();
    let json = stdout(&device(&of_plans));
    assert_eq!(json.lines().count(), 2, "{json}");
    assert_eq!((json.matches("\"threads\":2,").count(), json.matches("\"speedup\":1.00}").count()), (2, 2), "{json}");
    assert_eq!(device(&["threads", &path, "--plan", "9"]).status.code(), Some(1));
    assert_eq!(device(&["threads", &path, "--threads", "0"]).status.code(), Some(2));
}
