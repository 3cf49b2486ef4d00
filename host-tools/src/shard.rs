//! Measurements divided among machines by images, and joined again.
//!
//! Part `I/N` takes every N-th image from the I-th on and counts right answers; counts add up, so the joined result is that of
//! one run. A part is a file of JSON lines: a [`Header`], then a [`Count`] per network.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::assemble::cache::Hash;
use crate::family::Dataset;
use crate::study::Findings;

/// Version of the lines.
pub const VERSION: u32 = 1;

/// One of several equal parts; `I/N` in text, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which part, from 1.
    pub index: u32,
    /// How many there are.
    pub of: u32,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || -> Option<Self> {
            let (index, of) = text.split_once('/')?;
            let shard = Self { index: index.parse().ok()?, of: of.parse().ok()? };
            (1..=shard.of).contains(&shard.index).then_some(shard)
        };
        parse().ok_or_else(|| format!("`{text}` is no part; write I/N with I from 1 to N, as in 3/8"))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl Shard {
    /// The part's share of a list.
    #[must_use]
    pub fn select<T: Clone>(self, list: &[T]) -> Vec<T> {
        list.iter().skip(self.index as usize - 1).step_by(self.of as usize).cloned().collect()
    }

    /// The part's share of a data set.
    #[must_use]
    pub fn select_images(self, all: &Dataset) -> Dataset {
        let indices: Vec<usize> = self.select(&(0..all.len()).collect::<Vec<_>>());
        Dataset {
            images: indices.iter().flat_map(|&index| all.image(index)).copied().collect(),
            labels: indices.iter().map(|&index| all.labels[index]).collect(),
            shape: all.shape,
        }
    }
}

/// What was divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `stitches --evaluate`.
    Stitches,
    /// `eval`.
    Eval,
}

/// First line of a part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`].
    pub schema_version: u32,
    /// What was divided.
    pub kind: Kind,
    /// Which part.
    pub shard: Shard,
    /// Digest of everything that the counts depend on besides the images: equal in all parts of one measurement.
    pub subject: String,
    /// Images of the part.
    pub images: usize,
    /// Lines that follow.
    pub counts: usize,
    /// The verb's report without accuracies.
    pub report: serde_json::Value,
    /// Bits of numbers in the report that must not change in the last place, in an order that the verb knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exact: Vec<Vec<u64>>,
    /// Where `assemble` and `export` look for the findings, in the first part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Layers and ranges, in the first part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<Findings>,
}

/// Right answers of one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Stitch or plan.
    pub id: u32,
    /// Right answers in int8.
    pub correct: usize,
    /// Right answers in float, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct_float: Option<usize>,
}

/// A part.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Where it comes from, for messages.
    pub name: String,
    /// Its first line.
    pub header: Header,
    /// The other lines.
    pub counts: Vec<Count>,
}

/// 128 bits over texts, in hexadecimal digits.
#[must_use]
pub fn digest(texts: &[&str]) -> String {
    let mut hash = Hash::new();
    texts.iter().for_each(|text| hash.add(text.as_bytes()));
    hash.digits()
}

/// All parts together.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// The first part's header, with all images.
    pub header: Header,
    /// Sums.
    pub counts: Vec<Count>,
}

/// Parts that are not those of one measurement.
#[derive(Debug, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub struct MergeError {
    /// Everything found wrong, one line each.
    pub problems: Vec<String>,
}

impl Part {
    /// The part as JSON lines.
    ///
    /// # Errors
    /// None in practice; serde's if a value has no JSON form.
    pub fn to_lines(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string(&self.header)? + "\n";
        for count in &self.counts {
            text += &serde_json::to_string(count)?;
            text.push('\n');
        }
        Ok(text)
    }

    /// Reads JSON lines.
    ///
    /// # Errors
    /// File and line of the fault.
    pub fn parse(name: &str, text: &str) -> Result<Self, MergeError> {
        let fault = |problem: String| MergeError { problems: vec![format!("{name}: {problem}")] };
        let mut lines = text.lines().enumerate();
        let (_, first) = lines.next().ok_or_else(|| fault("is empty".to_owned()))?;
        let header: Header = serde_json::from_str(first).map_err(|error| fault(format!("line 1: {error}")))?;
        if header.schema_version != VERSION {
            return Err(fault(format!("version {}, this program reads {VERSION}", header.schema_version)));
        }
        let mut counts = Vec::new();
        for (index, line) in lines {
            let count = serde_json::from_str(line);
            counts.push(count.map_err(|error| fault(format!("line {}: {error}", index + 1)))?);
        }
        if counts.len() != header.counts {
            return Err(fault(format!("{} of {} lines of counts; it was cut off", counts.len(), header.counts)));
        }
        Ok(Self { name: name.to_owned(), header, counts })
    }
}

/// Joins all parts of a measurement, given in any order.
///
/// # Errors
/// [`MergeError`] names parts that are missing, there twice, or of another measurement.
pub fn merge(mut parts: Vec<Part>) -> Result<Whole, MergeError> {
    parts.sort_by_key(|part| part.header.shard.index);
    let mut rest = parts.iter();
    let Some(first) = rest.next() else { return Err(MergeError { problems: vec!["no parts".to_owned()] }) };
    let mut problems = Vec::new();
    let of = first.header.shard.of;
    let ids = |part: &Part| part.counts.iter().map(|count| count.id).collect::<Vec<_>>();
    for part in rest {
        let same = (part.header.kind, &part.header.subject) == (first.header.kind, &first.header.subject);
        if !same || part.header.shard.of != of || ids(part) != ids(first) {
            problems.push(format!("{} is not of the same measurement as {}", part.name, first.name));
        }
    }
    let found: BTreeSet<u32> = parts.iter().map(|part| part.header.shard.index).collect();
    let missing: Vec<String> = (1..=of).filter(|index| !found.contains(index)).map(|i| format!("{i}/{of}")).collect();
    if !missing.is_empty() {
        problems.push(format!("missing: {}", missing.join(", ")));
    }
    for pair in parts.windows(2).filter(|pair| pair[0].header.shard.index == pair[1].header.shard.index) {
        problems.push(format!("{} and {} are both part {}", pair[0].name, pair[1].name, pair[0].header.shard));
    }
    if !problems.is_empty() {
        return Err(MergeError { problems });
    }
    Ok(sum(&parts))
}

fn sum(parts: &[Part]) -> Whole {
    let mut whole = Whole { header: parts[0].header.clone(), counts: parts[0].counts.clone() };
    for part in &parts[1..] {
        whole.header.images += part.header.images;
        for (sum, count) in whole.counts.iter_mut().zip(&part.counts) {
            sum.correct += count.correct;
            sum.correct_float = sum.correct_float.zip(count.correct_float).map(|(a, b)| a + b);
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(index: u32, of: u32, correct: usize) -> Part {
        let header = Header {
            schema_version: VERSION,
            kind: Kind::Stitches,
            shard: Shard { index, of },
            subject: "s".to_owned(),
            images: 10,
            counts: 2,
            report: serde_json::json!({"family": "f"}),
            exact: Vec::new(),
            key: None,
            findings: None,
        };
        let count = |id| Count { id, correct: correct + id as usize, correct_float: Some(1) };
        Part { name: format!("{index}.jsonl"), header, counts: vec![count(0), count(1)] }
    }

    #[test]
    fn parts_in_any_order_add_up() {
        let parts = [part(2, 3, 5), part(3, 3, 7), part(1, 3, 1)];
        let text = |part: &Part| part.to_lines().unwrap();
        let read = parts.iter().map(|part| Part::parse(&part.name, &text(part)).unwrap()).collect();
        let whole = merge(read).unwrap();
        assert_eq!((whole.header.images, whole.header.shard.index), (30, 1));
        let sums: Vec<_> = whole.counts.iter().map(|count| (count.correct, count.correct_float)).collect();
        assert_eq!(sums, [(13, Some(3)), (16, Some(3))]);
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let mut foreign = part(4, 4, 1);
        foreign.header.subject = "other".to_owned();
        let said = merge(vec![part(1, 4, 1), part(1, 4, 1), foreign]).unwrap_err().to_string();
        for words in ["4.jsonl is not of the same", "missing: 2/4, 3/4", "both part 1/4"] {
            assert!(said.contains(words), "{said}");
        }
        let text = part(1, 1, 1).to_lines().unwrap();
        let cut: String = text.lines().take(2).map(|line| format!("{line}\n")).collect();
        assert!(Part::parse("a", &cut).unwrap_err().to_string().contains("1 of 2 lines"));
        let said = Part::parse("a", &text.replace("\"id\":1", "\"id\":x")).unwrap_err().to_string();
        assert!(said.contains("a: line 3"), "{said}");
    }

    #[test]
    fn parts_are_counted_from_one() {
        assert_eq!("3/8".parse(), Ok(Shard { index: 3, of: 8 }));
        for wrong in ["0/8", "9/8", "3", "a/b", "1/0", "-1/2"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_element_is_in_one_part(len in 0..40usize, of in 1..9u32) {
            let list: Vec<usize> = (0..len).collect();
            let mut all: Vec<usize> = (1..=of).flat_map(|index| Shard { index, of }.select(&list)).collect();
            all.sort_unstable();
            prop_assert_eq!(all, list);
        }
    }
}
