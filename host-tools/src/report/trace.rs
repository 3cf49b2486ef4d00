//! Adaptation traces: JSON lines, one per inference, kept as columns.

use serde::{Deserialize, Serialize};

/// Lines that a page shows at most; longer traces are thinned evenly, missed deadlines are all kept.
const MOST_LINES: usize = 4000;

/// A trace.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Trace {
    /// Where it comes from.
    pub name: String,
    /// Lines in the file.
    pub inferences: usize,
    /// Inferences that took longer than their deadline.
    pub missed: usize,
    /// Changes of plan.
    pub switches: usize,
    /// The lines shown.
    pub lines: Vec<Line>,
}

/// One inference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Its number.
    pub inference: u64,
    /// Time it was allowed to take; `None` without a deadline.
    #[serde(default)]
    pub deadline_us: Option<f64>,
    /// Plan that ran.
    pub plan: u16,
    /// Time it was expected to take.
    #[serde(default)]
    pub predicted_us: Option<f64>,
    /// Time it took.
    pub observed_us: f64,
    /// Factor by which the board was seen to be slower than its model.
    #[serde(default)]
    pub slowdown: Option<f64>,
    /// Whether the deadline was missed.
    #[serde(default)]
    pub missed: bool,
}

/// A line that is none.
#[derive(Debug, thiserror::Error)]
#[error("{name}, line {line}: not a line of a trace")]
pub struct TraceError {
    /// The trace.
    pub name: String,
    /// Counted from 1.
    pub line: usize,
    /// What the parser says.
    #[source]
    pub source: serde_json::Error,
}

impl Trace {
    /// Reads JSON lines; empty lines are skipped.
    ///
    /// # Errors
    /// [`TraceError`] names the first line that is no object with at least `inference`, `plan` and `observed_us`.
    pub fn parse(name: &str, text: &str) -> Result<Self, TraceError> {
        let mut lines: Vec<Line> = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let parsed = serde_json::from_str(line);
            lines.push(parsed.map_err(|source| TraceError { name: name.to_owned(), line: index + 1, source })?);
        }
        Ok(Self {
            name: name.to_owned(),
            inferences: lines.len(),
            missed: lines.iter().filter(|line| line.missed).count(),
            switches: lines.windows(2).filter(|pair| pair[0].plan != pair[1].plan).count(),
            lines: thinned(lines),
        })
    }
}

fn thinned(lines: Vec<Line>) -> Vec<Line> {
    let step = lines.len().div_ceil(MOST_LINES).max(1);
    let all = lines.into_iter().enumerate();
    all.filter(|(index, line)| index % step == 0 || line.missed).map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_trace_is_thinned_but_no_miss_is_lost() {
        let line = |i: usize| {
            let (plan, missed) = (usize::from(i >= 5000), i % 1000 == 77);
            format!(
                "{{\"inference\":{i},\"deadline_us\":900,\"plan\":{plan},\"observed_us\":800.5,\"missed\":{missed}}}\n"
            )
        };
        let text: String = (0..9000).map(line).collect();
        let trace = Trace::parse("t", &text).unwrap();
        assert_eq!((trace.inferences, trace.missed, trace.switches), (9000, 9, 1));
        assert!(trace.lines.len() <= MOST_LINES + 9);
        assert_eq!(trace.lines.iter().filter(|line| line.missed).count(), 9);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error =
            Trace::parse("t.jsonl", "{\"inference\":0,\"plan\":1,\"observed_us\":3}\n\n{\"plan\":1}\n").unwrap_err();
        assert!(error.to_string().contains("t.jsonl, line 3"), "{error}");
    }
}
