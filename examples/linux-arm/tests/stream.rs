//! `stitchkit-device stream`: frames in, lines out.

use stitchkit_runtime::{bundle, kernels};

mod common;
#[path = "../../../device-runtime/src/tract/tests/synthetic.rs"]
mod synthetic;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Output, Stdio};

use bundle::write::write;
use common::server::program;
use common::{Folder, as_bytes, logits};
use synthetic::Random;

const INPUT_BYTES: usize = 360;

fn stream(args: &[&str], input: &[u8]) -> Output {
    let mut command = program();
    command.arg("stream").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // A program that ended early does not take all of it.
    let _ = feeder.join().unwrap();
    output
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect()
}

fn frame(deadline_us: u32, body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes()[..], &deadline_us.to_le_bytes(), body].concat()
}

#[test]
fn raw_frames_are_answered_one_by_one() {
    let folder = Folder::new("stream-raw");
    let bytes = synthetic::bundle().unwrap();
    let path = folder.write("b.stk", &bytes);
    let inputs: Vec<Vec<i8>> = (0..6).map(|seed| Random(seed).bytes(INPUT_BYTES)).collect();
    let stdin: Vec<u8> = inputs.iter().flat_map(|input| as_bytes(input)).collect();
    for threads in ["1", "3"] {
        let output = stream(&[&path, "--int8", "--threads", threads], &stdin);
        assert_eq!(output.status.code(), Some(0));
        let found = lines(&output);
        assert_eq!(found.len(), inputs.len());
        for (line, input) in found.iter().zip(&inputs) {
            let words: Vec<String> = logits(&bytes, 2, input).iter().map(i8::to_string).collect();
            assert!(line.ends_with(&format!("\t{}", words.join(" "))), "{line}");
        }
    }
    let cut = stream(&[&path], &stdin[..INPUT_BYTES + 1]);
    assert_eq!((cut.status.code(), lines(&cut).len()), (Some(1), 1));
}

#[test]
fn frames_with_lengths_carry_deadlines_and_errors_have_their_line() {
    let folder = Folder::new("stream-length");
    let path = folder.write("b.stk", synthetic::bundle().unwrap());
    let good = [0; INPUT_BYTES];
    let stdin = [frame(0, &good), frame(1, &good), frame(0, b"short"), frame(100_000_000, &good), frame(0, &[0; 999])];
    let output = stream(&[&path, "--framing", "length", "--max-body", "500", "--json"], &stdin.concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let found = lines(&output);
    let says =
        ["\"deadline_us\":null", "\"error\":\"deadline\"", "\"error\":\"input\"", "\"deadline_met\":true", "999 bytes"];
    assert_eq!(found.len(), says.len());
    for (line, says) in found.iter().zip(says) {
        assert!(line.contains(says), "{line} should say {says}");
    }
}

#[test]
fn a_reload_takes_effect_between_two_frames() {
    let folder = Folder::new("stream-reload");
    let path = folder.write("b.stk", synthetic::bundle().unwrap());
    let mut second = synthetic::parts();
    second.name = "second".into();
    let next = folder.write("next", write(&second).unwrap());
    let mut command = program();
    command.args(["stream", &path, "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut ask = || {
        stdin.write_all(&[0; INPUT_BYTES]).unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        line
    };
    assert!(ask().contains("\"bundle\":\"synthetic\",\"generation\":1"));
    fs::rename(next, &path).unwrap();
    let hang_up = format!("kill -HUP {}", child.id());
    assert!(std::process::Command::new("sh").args(["-c", &hang_up]).status().unwrap().success());
    let answers_by_second = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        ask().contains("\"bundle\":\"second\",\"generation\":2")
    });
    assert!(answers_by_second);
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_trace_holds_a_line_per_inference() {
    let folder = Folder::new("stream-trace");
    let path = folder.write("b.stk", synthetic::bundle().unwrap());
    let trace = folder.write("trace.jsonl", "");
    let mut child = program()
        .args(["stream", &path, "--int8", "--latency", "100s", "--pressure", "off", "--trace", &trace])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&[3; 5 * 360]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = fs::read_to_string(&trace).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), String::from_utf8_lossy(&output.stdout).lines().count()), (5, 5));
    for (number, line) in lines.iter().enumerate() {
        assert!(line.starts_with(&format!("{{\"inference\":{number},\"deadline_us\":")), "{line}");
        assert!(line.ends_with("\"missed\":false}"), "{line}");
    }
}

#[test]
fn the_pressure_file_that_a_service_manager_names_gets_a_trigger() {
    let folder = Folder::new("stream-psi");
    let path = folder.write("b.stk", synthetic::bundle().unwrap());
    let pressure = folder.write("memory.pressure", "");
    let mut child = program()
        .args(["stream", &path, "--int8", "--pressure", "psi"])
        .env("MEMORY_PRESSURE_WATCH", &pressure)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&[3; 360]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(fs::read(&pressure).unwrap(), b"some 100000 2000000\0");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("memory pressure: {pressure}")), "{said}");
}
