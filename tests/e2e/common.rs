//! Running the command as a user does.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs the command.
pub fn stitchkit(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stitchkit")).args(arguments).output().expect("the command starts")
}

/// Runs a command that must succeed; returns its JSON document.
pub fn json(arguments: &[&str]) -> Value {
    let output = stitchkit(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(value["schema_version"], 1);
    value
}

/// Runs a command that must fail with this exit code; returns what it said.
pub fn failure(code: i32, arguments: &[&str]) -> String {
    let output = stitchkit(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// The path as an argument.
pub fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
