//! microflow, built from its crate with the layers of a plan, and counted as the plan is.

use stitchkit_runtime::bundle::{AlignedBytes, Bundle};

use super::peers::Peer;
use super::{BenchError, LOOPS, Report, tflite};
use crate::board::emulated::{self, Counting, Emulated, Firmware};

/// Package within that of the firmware; no other package depends on microflow.
const PACKAGE: &str = "microflow";
/// Its program.
const PROGRAM: &str = "microflow-count";
/// Name in tables.
pub const ENGINE: &str = "microflow";

/// Counts microflow on a network with the layers of plan `plan` of a bundle, and weights of its own. Its activations are on
/// the stack.
///
/// # Errors
/// [`BenchError::NoCounterpart`] for a plan with an operator that microflow does not have, else as [`super::count`].
pub fn count(firmware: &Firmware, board: &Emulated, model: &str, bytes: &[u8], plan: u16) -> Result<Peer, BenchError> {
    let board = board.roomy();
    let aligned = AlignedBytes::copy_of(bytes);
    let bundle = Bundle::parse(aligned.as_slice())?;
    let last = bundle.plan_count().saturating_sub(1);
    let record = bundle.plan(plan).ok_or(BenchError::NoSuchPlan { plan, last })?;
    let network = tflite::of_plan(&bundle, &record)
        .map_err(|operator| BenchError::NoCounterpart { engine: ENGINE, operator: operator.to_owned() })?;
    let program = firmware.build_network(&board, PACKAGE, PROGRAM, &network.file)?;
    let code_bytes = emulated::code_bytes(&program)?.saturating_sub(network.weight_bytes);
    let (said, status) = emulated::run(&board, &program, &[], Counting::Fine)?;
    let report = Report::of(&said);
    report.check_counter(&board)?;
    let missing = |missing| BenchError::Report { board: board.name, status, missing, said: said.trim_end().to_owned() };
    if status != Some(0) {
        return Err(missing("exit status 0"));
    }
    if report.loops.len() != LOOPS {
        return Err(missing("loop"));
    }
    Ok(Peer {
        engine: ENGINE.to_owned(),
        model: model.to_owned(),
        board: board.name.to_owned(),
        instructions: report.inference.ok_or_else(|| missing("inference"))?,
        arena_bytes: None,
        code_bytes: Some(code_bytes),
        stack_bytes: Some(report.stack.ok_or_else(|| missing("stack"))?),
    })
}
