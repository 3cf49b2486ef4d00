//! What becomes of a bundle: refused, or run.

use stitchkit_runtime::bundle::write::{BundleParts, write};
use stitchkit_runtime::bundle::{AlignedBytes, Bundle, BundleError, StreamedBundle};
use stitchkit_runtime::exec::{ExecError, Executor, StreamExecutor};
use stitchkit_runtime::kernels::Isa;
use stitchkit_runtime::profile::LatencyModel;
use stitchkit_runtime::select::{Ladder, Limits, Unmeasured, select};
use stitchkit_tests::builder::infer_divided;
use stitchkit_tests::streaming::{Recorder, infer_streamed};

/// Largest arena tried; larger plans are not run.
const MOST_ARENA_BYTES: usize = 1 << 20;

/// Outputs of every plan for every golden input, or for one of zeros: `[plan][input]`.
pub type Outputs = Vec<Vec<Vec<i8>>>;

/// Parses `bytes` and, if they are accepted, runs everything, in place and streamed.
pub fn parse_and_run(bytes: &[u8]) -> Result<Outputs, BundleError> {
    let bytes = AlignedBytes::copy_of(bytes);
    let bundle = Bundle::parse(bytes.as_slice())?;
    let outputs = outputs(&bundle);
    assert_streams_alike(bytes.as_slice(), &bundle, &outputs);
    Ok(outputs)
}

/// Streams every plan in its smallest window.
///
/// # Panics
/// If an accepted bundle does not stream, or to other bytes than in place.
fn assert_streams_alike(bytes: &[u8], bundle: &Bundle<'_>, outputs: &Outputs) {
    let mut source = Recorder::<false>::new(bytes);
    let mut records = vec![0; bytes.len()];
    let streamed = StreamedBundle::open(&mut source, 0, &mut records).expect("an accepted bundle opens");
    let zeros = vec![0; bundle.meta().input.len()];
    let input = bundle.golden().and_then(|golden| golden.input(0)).unwrap_or(&zeros);
    for (plan, outputs) in (0..bundle.plan_count()).zip(outputs) {
        let needs = StreamExecutor::<Recorder<'_, false>>::needs(streamed.bundle(), plan).expect("in range");
        let Some(want) = outputs.first() else { continue };
        if needs.least_window_bytes as usize > MOST_ARENA_BYTES {
            continue;
        }
        let mut source = Recorder::<true>::new(bytes);
        let window_bytes = 2 * needs.least_window_bytes.next_multiple_of(16) as usize;
        let got = infer_streamed(&streamed, &mut source, (plan, Isa::Reference), window_bytes, input);
        assert_eq!(got.as_ref(), Ok(want), "plan {plan} streamed");
    }
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
            let zeros = vec![0; bundle.meta().input.len()];
            let golden = bundle.golden();
            let input = |index| golden.and_then(|golden| golden.input(index)).unwrap_or(&zeros);
            let inputs: Vec<&[i8]> = (0..outputs.len()).map(input).collect();
            assert_eq!(infer_divided(bundle, plan, Isa::best(), &inputs), outputs, "plan {plan} in two memories");
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
