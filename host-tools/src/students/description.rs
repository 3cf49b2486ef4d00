//! `family.toml` of a family of students.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Student, StudentError};
use crate::family::{Anchor, FILE_NAME, Family};
use crate::files;

/// Tables in the order in which people read them.
const ORDER: [&str; 10] = [
    "schema",
    "name",
    "description",
    "labels",
    "input",
    "anchors",
    "teacher",
    "stitching",
    "calibration",
    "evaluation",
];

/// The text of `family.toml` for the students of an anchor in another folder: input, labels, data and stitching space of the
/// anchor's family, the students as anchors (given in ascending cost), the anchor as teacher.
///
/// # Errors
/// [`StudentError::Description`] if the family's own file cannot be read.
pub fn text(family: &Family, anchor: &Anchor, students: &[Student], folder: &Path) -> Result<String, StudentError> {
    let path = family.folder.join(FILE_NAME);
    let wrong = |path: &PathBuf, reason: String| StudentError::Description { path: path.clone(), reason };
    let source = std::fs::read_to_string(&path).map_err(|error| wrong(&path, format!("cannot be read: {error}")))?;
    let mut table: Table = toml::from_str(&source).map_err(|error| wrong(&path, error.message().to_owned()))?;
    let list = |cuts: &[String]| Value::Array(cuts.iter().cloned().map(Value::String).collect());
    let entry = |student: &Student| {
        Value::Table(Table::from_iter([
            ("name".to_owned(), Value::String(student.name.clone())),
            ("model".to_owned(), Value::String(format!("{}.onnx", student.name))),
            ("cuts".to_owned(), list(&student.cuts)),
        ]))
    };
    table.insert("name".into(), Value::String(format!("{}-students", anchor.name)));
    table.insert("description".into(), Value::String(format!("Students of {}", anchor.name)));
    table.insert("anchors".into(), Value::Array(students.iter().map(entry).collect()));
    let cuts: Vec<String> = anchor.cuts.iter().map(|cut| cut.tensor.clone()).collect();
    let teacher = [("model", Value::String(files::relative(folder, &anchor.path))), ("cuts", list(&cuts))]
        .map(|(k, v)| (k.to_owned(), v));
    table.insert("teacher".into(), Value::Table(Table::from_iter(teacher)));
    if let Some(Value::Table(stitching)) = table.get_mut("stitching") {
        stitching.remove("layers");
    }
    for part in ["calibration", "evaluation"] {
        let Some(Value::Table(part)) = table.get_mut(part) else { continue };
        if let Some(Value::String(data)) = part.get_mut("data") {
            *data = files::relative(folder, &family.folder.join(&*data));
        }
    }
    let mut text = String::new();
    let rest: Vec<String> = table.keys().filter(|key| !ORDER.contains(&key.as_str())).cloned().collect();
    for key in ORDER.map(str::to_owned).into_iter().chain(rest) {
        let Some(value) = table.remove(&key) else { continue };
        let is_plain = !matches!(&value, Value::Table(_)) && key != "anchors";
        if !is_plain {
            text.push('\n');
        }
        let part = toml::to_string(&Table::from_iter([(key, value)]));
        text += &part.map_err(|error| wrong(&path, error.to_string()))?;
    }
    Ok(text)
}
