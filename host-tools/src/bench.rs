//! Instructions, memory and code size of a plan on an emulated board, beside those of other engines and of the past.
//!
//! | module | purpose |
//! |---|---|
//! | [`models`] | the MLPerf Tiny shapes with random weights |
//! | [`peers`] | stored figures of other engines |
//! | [`microflow`] | figures of microflow, counted anew |
//! | [`tflite`] | the layers of a plan as other engines read them |
//! | [`baseline`] | figures of the past, and what got worse |
//! | [`table`] | Markdown |
//!
//! A case builds the program `count` of `examples/qemu-cortex-m` with the bundle in flash and runs it under `-icount`. The
//! counter proves itself in every run on loops of known length.

pub mod baseline;
pub mod linux;
pub mod microflow;
pub mod models;
pub mod peers;
pub mod table;
pub mod tflite;

use std::path::Path;

use serde::{Deserialize, Serialize};
use stitchkit_runtime::bundle::{AlignedBytes, Bundle, BundleError};

use crate::board::emulated::{self, Counting, Emulated, EmulationError, Firmware, Operators};
use crate::stack;

/// Program of the firmware package that counts.
const PROGRAM: &str = "count";
/// The same without bundle and runtime.
const EMPTY: &str = "empty";
/// Exit status of a program whose memory does not hold the plan's arena.
const DOES_NOT_FIT: i32 = 3;
/// Instructions by which a loop of known length may be miscounted: those that set its counter, and rounding.
const COUNTER_ERROR: u64 = 8;

/// The figures of one plan on one board.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Emulated board.
    pub board: String,
    /// Model, or bundle and plan.
    pub model: String,
    /// QEMU's machine that counted.
    pub machine: String,
    /// Multiply-accumulates, padded taps included.
    pub macs: u64,
    /// Instructions from input filled to output ready.
    pub instructions: u64,
    /// Their quotient.
    pub instructions_per_mac: f64,
    /// Memory for activations and scratch.
    pub arena_bytes: u64,
    /// Vectors, code, constants and initial values of the firmware, without the bundle.
    pub code_bytes: u64,
    /// What the runtime adds to them: [`code_bytes`](Self::code_bytes) less those of the same firmware without it. `None` in
    /// files that were written before it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_code_bytes: Option<u64>,
    /// Most bytes of stack in use, from reset to the output.
    pub stack_bytes: u64,
    /// What no plan of the bundle exceeds on any input, an exception included; `None` if the program has no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack_bound_bytes: Option<u64>,
    /// The same of a firmware with the operators of this plan alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_stack_bound_bytes: Option<u64>,
    /// Bytes of the bundle.
    pub bundle_bytes: u64,
    /// Instructions of each step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepCount>,
}

/// What one step takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCount {
    /// Operator.
    pub op: String,
    /// Extents of input and output.
    pub shapes: String,
    /// Multiply-accumulates; 0 for operators that have none.
    pub macs: u64,
    /// Instructions.
    pub instructions: u64,
}

/// Why a plan was not counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The firmware was not built or did not run.
    #[error(transparent)]
    Emulation(#[from] EmulationError),
    /// The bundle cannot be used.
    #[error("the bundle cannot be used")]
    Bundle(#[from] BundleError),
    /// The bundle has no such plan.
    #[error("no plan {plan}: the bundle holds plans 0 to {last}; `stitchkit inspect` lists them")]
    NoSuchPlan {
        /// What was asked for.
        plan: u16,
        /// Last plan.
        last: u16,
    },
    /// Another engine lacks an operator.
    #[error("{engine} has no {operator}")]
    NoCounterpart {
        /// The engine.
        engine: &'static str,
        /// The operator.
        operator: String,
    },
    /// The arena is larger than the memory of the machine.
    #[error("the plan needs an arena of {need_bytes} bytes, {board} ({machine}) has {have_bytes}")]
    Memory {
        /// The board.
        board: &'static str,
        /// QEMU's machine.
        machine: &'static str,
        /// Bytes of arena.
        need_bytes: u64,
        /// Bytes free.
        have_bytes: u64,
    },
    /// The counter does not count instructions.
    #[error("a loop of {expected} instructions was counted as {counted} on {board}: this QEMU does not follow -icount")]
    Counter {
        /// The board.
        board: &'static str,
        /// Length of the loop.
        expected: u64,
        /// What the counter said.
        counted: u64,
    },
    /// More stack was in use than the bound, which is then wrong.
    #[error("{board} used {used_bytes} bytes of stack where the bound is {bound_bytes}")]
    StackBound {
        /// The board.
        board: &'static str,
        /// Bytes in use.
        used_bytes: u64,
        /// The bound.
        bound_bytes: u64,
    },
    /// The firmware failed or did not say all.
    #[error("the firmware of {board} ended with status {status:?} and without `{missing}`; it said:\n{said}")]
    Report {
        /// The board.
        board: &'static str,
        /// Exit status; `None` if QEMU was killed.
        status: Option<i32>,
        /// Line that was expected.
        missing: &'static str,
        /// What it said.
        said: String,
    },
}

impl BenchError {
    /// True if the board is too small and everything else is as it should be.
    #[must_use]
    pub const fn is_lack_of_room(&self) -> bool {
        matches!(self, Self::Memory { .. } | Self::Emulation(EmulationError::Flash { .. }))
    }
}

/// Counts plan `plan` of a bundle on a board, on its roomy machine.
///
/// # Errors
/// [`BenchError`].
pub fn count(firmware: &Firmware, board: &Emulated, model: &str, bytes: &[u8], plan: u16) -> Result<Case, BenchError> {
    let board = board.roomy();
    let aligned = AlignedBytes::copy_of(bytes);
    let bundle = Bundle::parse(aligned.as_slice())?;
    let last = bundle.plan_count().saturating_sub(1);
    let record = bundle.plan(plan).ok_or(BenchError::NoSuchPlan { plan, last })?;
    let program = firmware.build(&board, PROGRAM, bytes, Operators::Of(&bundle))?;
    let code_bytes = emulated::code_bytes(&program)?;
    let stack_bound_bytes = stack_bound(&program);
    let empty_bytes = emulated::code_bytes(&firmware.build(&board, EMPTY, bytes, Operators::Of(&bundle))?)?;
    let (said, status) = emulated::run(&board, &program, &[&format!("plan={plan}")], Counting::Fine)?;
    let report = Report::of(&said);
    report.check_counter(&board)?;
    if status == Some(DOES_NOT_FIT)
        && let Some([need_bytes, have_bytes]) = report.board
    {
        return Err(BenchError::Memory { board: board.name, machine: board.machine, need_bytes, have_bytes });
    }
    let missing = |missing| BenchError::Report { board: board.name, status, missing, said: said.trim_end().to_owned() };
    if status != Some(0) {
        return Err(missing("exit status 0"));
    }
    if report.loops.len() != LOOPS {
        return Err(missing("loop"));
    }
    let instructions = report.inference.ok_or_else(|| missing("inference"))?;
    let mut steps = Vec::new();
    for (ordinal, placed) in bundle.steps_of(&record).enumerate() {
        let op = &placed.step.op;
        let (from, to) = (op.input(), op.output());
        steps.push(StepCount {
            op: op.name().to_owned(),
            shapes: format!("{}x{}x{} to {}x{}x{}", from.h, from.w, from.c, to.h, to.w, to.c),
            macs: op.macs(),
            instructions: report.steps.get(ordinal).copied().ok_or_else(|| missing("step"))?,
        });
    }
    let stack_bytes = report.stack.ok_or_else(|| missing("stack"))?;
    if let Some(bound_bytes) = stack_bound_bytes.filter(|&bound| bound < stack_bytes) {
        return Err(BenchError::StackBound { board: board.name, used_bytes: stack_bytes, bound_bytes });
    }
    let (all, own) = (Operators::Of(&bundle), Operators::OfPlan(&bundle, &record));
    let plan_stack_bound_bytes = match own.features() == all.features() {
        true => stack_bound_bytes,
        false => stack_bound(&firmware.build(&board, PROGRAM, bytes, own)?),
    };
    Ok(Case {
        board: board.name.to_owned(),
        model: model.to_owned(),
        machine: board.machine.to_owned(),
        macs: record.macs,
        instructions,
        instructions_per_mac: per_mac(instructions, record.macs),
        arena_bytes: record.arena_bytes.into(),
        code_bytes,
        runtime_code_bytes: Some(code_bytes.saturating_sub(empty_bytes)),
        stack_bytes,
        stack_bound_bytes,
        plan_stack_bound_bytes,
        bundle_bytes: bytes.len() as u64,
        steps,
    })
}

fn stack_bound(program: &Path) -> Option<u64> {
    stack::bound_of_file(program).ok().map(|bound| bound.bytes.into())
}

/// Instructions per multiply-accumulate with three decimals.
#[must_use]
pub fn per_mac(instructions: u64, macs: u64) -> f64 {
    (instructions as f64 / macs.max(1) as f64 * 1000.0).round() / 1000.0
}

/// What the program `count` says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    loops: Vec<[u64; 2]>,
    board: Option<[u64; 2]>,
    inference: Option<u64>,
    stack: Option<u64>,
    /// In order.
    steps: Vec<u64>,
}

/// Loops of known length that the program counts first.
const LOOPS: usize = 3;

impl Report {
    /// Reads its lines; unknown ones are skipped.
    fn of(text: &str) -> Self {
        let mut report = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or("");
            let numbers: Option<Vec<u64>> = words.map(|word| word.parse().ok()).collect();
            match (name, numbers.as_deref()) {
                ("loop", Some(&[expected, counted])) => report.loops.push([expected, counted]),
                ("board", Some(&[need, have])) => report.board = Some([need, have]),
                ("inference", Some(&[count])) => report.inference = Some(count),
                ("stack", Some(&[bytes])) => report.stack = Some(bytes),
                ("step", Some(&[ordinal, count])) if ordinal == report.steps.len() as u64 => report.steps.push(count),
                _ => {}
            }
        }
        report
    }

    /// Refuses counts of a counter that miscounts known loops.
    fn check_counter(&self, board: &Emulated) -> Result<(), BenchError> {
        let wrong = self.loops.iter().find(|[expected, counted]| counted.abs_diff(*expected) > COUNTER_ERROR);
        match wrong {
            Some(&[expected, counted]) => Err(BenchError::Counter { board: board.name, expected, counted }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "loop 3 4\nloop 3000 3001\nloop 3000000 2999999\nboard 10 20\ninference 500\nstack 64\nstep 0 200\n\
                        step 1 300\n";

    #[test]
    fn the_report_of_the_firmware_is_read() {
        let report = Report::of(&format!("qemu: a warning\n{SAID}step 7 1\nstep x 1\n"));
        assert_eq!((report.board, report.inference, report.stack), (Some([10, 20]), Some(500), Some(64)));
        assert_eq!(report.steps, [200, 300]);
        assert!(report.check_counter(&emulated::EMULATED[0]).is_ok());
    }

    #[test]
    fn a_counter_that_miscounts_a_known_loop_is_refused() {
        let said = Report::of(&SAID.replace("2999999", "2999000")).check_counter(&emulated::EMULATED[2]);
        let said = said.unwrap_err().to_string();
        assert!(said.contains("3000000") && said.contains("2999000") && said.contains("qemu-m4"), "{said}");
    }
}
