//! What becomes of a bundle: refused, or run.

use stitchkit_runtime::bundle::write::{BundleParts, write};
use stitchkit_runtime::bundle::{AlignedBytes, Bundle, BundleError};
use stitchkit_runtime::exec::{ExecError, Executor};
use stitchkit_runtime::kernels::Isa;
use stitchkit_runtime::profile::LatencyModel;
use stitchkit_runtime::select::{Ladder, Limits, Unmeasured, select};

/// Largest arena tried; larger plans are not run.
const MOST_ARENA_BYTES: usize = 1 << 20;

/// Outputs of every plan for every golden input, or for one of zeros: `[plan][input]`.
pub type Outputs = Vec<Vec<Vec<i8>>>;

/// Parses `bytes` and, if they are accepted, runs everything.
pub fn parse_and_run(bytes: &[u8]) -> Result<Outputs, BundleError> {
    let bytes = AlignedBytes::copy_of(bytes);
    Bundle::parse(bytes.as_slice()).map(|bundle| outputs(&bundle))
}

/// Writes the parts, which parses them, and runs what was accepted.
pub fn parts_outcome(parts: &BundleParts) -> Result<Outputs, BundleError> {
    parse_and_run(&write(parts)?)
}

/// Selects, and runs every plan with the reference and the fastest variant. The arena has exactly the plan's size and starts out as garbage.
///
/// # Panics
/// If an accepted plan does not run, or variants of the kernels disagree.
pub fn outputs(bundle: &Bundle<'_>) -> Outputs {
    let _ = select(bundle, Limits::NONE, Unmeasured);
    let _ = Ladder::of(bundle, LatencyModel::CORTEX_M4);
    (0..bundle.plan_count())
        .map(|plan| {
            let arena_bytes = bundle.plan(plan).expect("checked").arena_bytes as usize;
            if arena_bytes > MOST_ARENA_BYTES {
                return Vec::new();
            }
            let run = |isa| run(bundle, plan, arena_bytes, isa).expect("a checked plan runs");
            let outputs = run(Isa::Reference);
            assert_eq!(run(Isa::best()), outputs, "accumulators wrap, so variants agree on any weights");
            outputs
        })
        .collect()
}

fn run(bundle: &Bundle<'_>, plan: u16, arena_bytes: usize, isa: Isa) -> Result<Vec<Vec<i8>>, ExecError> {
    let zeros = vec![0; bundle.meta().input.len()];
    let golden = bundle.golden();
    let mut arena = AlignedBytes::new(arena_bytes);
    arena.as_mut_slice().fill(0xA5);
    let mut executor = Executor::with_isa(bundle, plan, arena.as_mut_slice(), isa)?;
    let mut outputs = Vec::new();
    for index in 0..golden.map_or(1, |golden| golden.count()) {
        let input = golden.and_then(|golden| golden.input(index)).unwrap_or(&zeros);
        executor.input()?.copy_from_slice(input);
        outputs.push(executor.run()?.to_vec());
    }
    Ok(outputs)
}
