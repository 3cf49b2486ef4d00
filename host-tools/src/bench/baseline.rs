//! Figures of the past in a file, and what got worse since.

use serde::{Deserialize, Serialize};

use super::Case;

/// Growth that is not a regression, in percent.
const TOLERANCE_PERCENT: f64 = 2.0;
/// The same where another compiler made the programs, whose code differs for reasons of its own.
const OTHER_COMPILER_PERCENT: f64 = 10.0;

/// The file: cases without their steps, ordered by model and board as they were first counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Version of the JSON documents of this program.
    pub schema_version: u32,
    /// Compiler of the latest update, e.g. `rustc 1.95.0`.
    pub compiler: String,
    /// The cases.
    pub cases: Vec<Case>,
}

/// A figure that is not what it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Board.
    pub board: String,
    /// Model.
    pub model: String,
    /// Which figure.
    pub figure: &'static str,
    /// Figure in the file.
    pub before: u64,
    /// Figure now.
    pub now: u64,
    /// Growth; negative if it got better.
    pub percent: f64,
    /// True if it grew by more than [`Baseline::tolerance_percent`].
    pub regression: bool,
}

/// Figures of a case; those it does not have are `None`.
fn figures(case: &Case) -> [(&'static str, Option<u64>); 5] {
    [
        ("instructions", Some(case.instructions)),
        ("arena_bytes", Some(case.arena_bytes)),
        ("code_bytes", Some(case.code_bytes)),
        ("stack_bytes", Some(case.stack_bytes)),
        ("stack_bound_bytes", case.stack_bound_bytes),
    ]
}

impl Baseline {
    /// The case of this model and board.
    #[must_use]
    pub fn find(&self, model: &str, board: &str) -> Option<&Case> {
        self.cases.iter().find(|case| case.model == model && case.board == board)
    }

    /// Growth that is no regression in programs of `compiler`, in percent: 2, or 10 if another one made the figures here.
    #[must_use]
    pub fn tolerance_percent(&self, compiler: &str) -> f64 {
        if self.compiler == compiler { TOLERANCE_PERCENT } else { OTHER_COMPILER_PERCENT }
    }

    /// All figures of `cases`, made by `compiler`, that differ from those here, and the cases that are not here.
    #[must_use]
    pub fn changes<'a>(&self, cases: &'a [Case], compiler: &str) -> (Vec<Change>, Vec<&'a Case>) {
        let tolerance = self.tolerance_percent(compiler);
        let (mut changes, mut unknown) = (Vec::new(), Vec::new());
        for case in cases {
            let Some(before) = self.find(&case.model, &case.board) else {
                unknown.push(case);
                continue;
            };
            for ((figure, before), (_, now)) in figures(before).into_iter().zip(figures(case)) {
                if let (Some(before), Some(now)) = (before, now)
                    && before != now
                {
                    let percent = (now as f64 - before as f64) * 100.0 / before.max(1) as f64;
                    let (board, model) = (case.board.clone(), case.model.clone());
                    let regression = percent > tolerance;
                    changes.push(Change { board, model, figure, before, now, percent, regression });
                }
            }
        }
        (changes, unknown)
    }

    /// Takes the figures of `cases`, made by `compiler`, in place of its own.
    pub fn update(&mut self, cases: &[Case], compiler: &str) {
        compiler.clone_into(&mut self.compiler);
        for case in cases {
            let new = Case { steps: Vec::new(), ..case.clone() };
            match self.cases.iter_mut().find(|old| old.model == case.model && old.board == case.board) {
                Some(old) => *old = new,
                None => self.cases.push(new),
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::{StepCount, per_mac};

    pub fn case(model: &str, board: &str, instructions: u64) -> Case {
        Case {
            board: board.to_owned(),
            model: model.to_owned(),
            machine: "mps2-an386".to_owned(),
            macs: 1_000_000,
            instructions,
            instructions_per_mac: per_mac(instructions, 1_000_000),
            arena_bytes: 1000,
            code_bytes: 40_000,
            runtime_code_bytes: None,
            stack_bytes: 2000,
            stack_bound_bytes: None,
            plan_stack_bound_bytes: None,
            bundle_bytes: 100_000,
            steps: vec![StepCount { op: "add".into(), shapes: String::new(), macs: 0, instructions }],
        }
    }

    const COMPILER: &str = "rustc 1.0.0";

    #[test]
    fn growth_of_more_than_two_percent_is_a_regression_and_shrinking_is_not() {
        let mut baseline = Baseline::default();
        baseline.update(
            &[case("a", "qemu-m4", 100_000), case("a", "qemu-m0", 100_000), case("b", "qemu-m4", 100_000)],
            COMPILER,
        );
        let mut larger = case("b", "qemu-m4", 90_000);
        larger.code_bytes = 41_000;
        let now = [case("a", "qemu-m4", 102_000), case("a", "qemu-m0", 102_001), larger, case("b", "qemu-m0", 100_000)];
        let (changes, unknown) = baseline.changes(&now, COMPILER);
        let worse: Vec<(&str, &str, &str)> = changes
            .iter()
            .filter(|change| change.regression)
            .map(|change| (change.model.as_str(), change.board.as_str(), change.figure))
            .collect();
        assert_eq!(worse, [("a", "qemu-m0", "instructions"), ("b", "qemu-m4", "code_bytes")]);
        assert_eq!(changes.len(), 4);
        assert_eq!(unknown, [&now[3]]);
        let (changes, _) = baseline.changes(&now, "rustc 2.0.0");
        assert!(changes.iter().all(|change| !change.regression));
    }

    #[test]
    fn bounds_are_compared_where_both_have_one() {
        let bounded = |bytes| Case { stack_bound_bytes: bytes, ..case("a", "qemu-m4", 1) };
        let mut baseline = Baseline::default();
        baseline.update(&[bounded(Some(2000))], COMPILER);
        let regressions = |baseline: &Baseline, bytes| {
            let now = [bounded(bytes)];
            baseline.changes(&now, COMPILER).0.iter().filter(|change| change.regression).count()
        };
        assert_eq!([2040, 2041].map(|bytes| regressions(&baseline, Some(bytes))), [0, 1]);
        baseline.update(&[bounded(None)], COMPILER);
        assert_eq!(regressions(&baseline, Some(9999)), 0);
    }

    #[test]
    fn an_update_replaces_what_was_counted_and_keeps_the_rest_and_no_steps() {
        let mut baseline = Baseline::default();
        baseline.update(&[case("a", "qemu-m4", 1), case("a", "qemu-m0", 2)], COMPILER);
        baseline.update(&[case("a", "qemu-m0", 3)], COMPILER);
        let counts: Vec<u64> = baseline.cases.iter().map(|case| case.instructions).collect();
        assert_eq!(counts, [1, 3]);
        assert!(baseline.cases.iter().all(|case| case.steps.is_empty()));
        let text = serde_json::to_string(&baseline).unwrap();
        assert_eq!(serde_json::from_str::<Baseline>(&text).unwrap(), baseline);
    }
}
