//! One inference on several threads: the bytes of one thread at every step, however many there are.

use std::num::NonZeroUsize;
use std::sync::LazyLock;

use proptest::prelude::*;
use stitchkit_conformance::{LARGEST_CASE_BYTES, Op as CaseOp, Operands, cases, fnv1a, operands};
use stitchkit_runtime::bundle::write::write;
use stitchkit_runtime::bundle::{AlignedBytes, Bundle, ChannelTables, Op};
use stitchkit_runtime::exec::{ExecError, Executor, StepReport, ThreadedExecutor, Threads};
use stitchkit_runtime::kernels::{Isa, Landing, Shape};
use stitchkit_tests::builder::Builder;
use stitchkit_tests::{Rng, every_op, random_graph, resnet8};

/// One, two, three and four threads.
static THREADS: LazyLock<Vec<Threads>> = LazyLock::new(|| {
    let counts = (1..=4).filter_map(NonZeroUsize::new);
    counts.map(|count| Threads::new(count).expect("the system has four threads")).collect()
});

/// The outputs of all steps on the thread that calls.
fn trace(bundle: &Bundle<'_>, plan: u16, isa: Isa, input: &[i8]) -> Vec<Vec<i8>> {
    let mut arena = AlignedBytes::new(bundle.plan(plan).expect("the plan exists").arena_bytes as usize);
    let mut executor = Executor::with_isa(bundle, plan, arena.as_mut_slice(), isa).expect("the arena fits");
    executor.input().expect("intact").copy_from_slice(input);
    let mut steps = Vec::new();
    executor.run_observed(&mut |report: StepReport<'_>| steps.push(report.output.to_vec())).expect("intact");
    steps
}

/// The outputs of all steps on `threads`, every step cut that can be.
fn trace_on(threads: &Threads, bundle: &Bundle<'_>, plan: u16, isa: Isa, input: &[i8]) -> Vec<Vec<i8>> {
    let mut executor = ThreadedExecutor::with_isa(bundle, plan, threads, isa).expect("the plan exists");
    executor.share_from(0);
    executor.input().expect("intact").copy_from_slice(input);
    let mut steps = Vec::new();
    executor.run_observed(&mut |report: StepReport<'_>| steps.push(report.output.to_vec())).expect("intact");
    steps
}

fn check_all_plans(file: &[u8], seed: u32) {
    let bytes = AlignedBytes::copy_of(file);
    let bundle = Bundle::parse(bytes.as_slice()).expect("a sound bundle");
    let input = Rng::new(seed).vector(bundle.meta().input.len());
    for plan in 0..bundle.plan_count() {
        let want = trace(&bundle, plan, Isa::best(), &input);
        for threads in THREADS.iter() {
            let have = trace_on(threads, &bundle, plan, Isa::best(), &input);
            assert_eq!(have, want, "plan {plan} on {} threads", threads.count());
        }
    }
}

#[test]
fn every_operator_gives_the_same_bytes_on_one_to_four_threads() {
    check_all_plans(&every_op::bundle().expect("the fixture is valid"), 3);
    check_all_plans(&resnet8::bundle().expect("the fixture is valid"), 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_graphs_give_the_same_bytes_on_one_to_four_threads(seed in any::<u32>()) {
        check_all_plans(&random_graph::bundle(seed).expect("the generator makes valid bundles"), seed);
    }
}

/// A bundle of one plan that computes a conformance case; what is added to the input, if anything, follows it. `None` for cases
/// that kernels must withstand and the format refuses.
fn bundle_of(op: &CaseOp, operands: &Operands<'_>) -> Option<Vec<u8>> {
    let (first, second) = (operands.input.len() as u16, second(op, operands).len() as u16);
    let shape = |[h, w, c]: [u16; 3]| Shape::new(h, w, c);
    let row = |c| Shape::new(1, 1, c);
    let tables =
        |landing: Landing| ChannelTables { bias: 0, multiplier: operands.bias.len() as u32, shift: 0, landing };
    let is_woven = matches!(op, CaseOp::Woven(_));
    let op = match *op {
        CaseOp::Conv2d(c) | CaseOp::Woven(c) => {
            Op::Conv2d { geometry: c.geometry(c.groups), weights: 0, tables: tables(c.landing), residual: c.residual }
        }
        CaseOp::Depthwise(c) => {
            let geometry = c.geometry(c.channels);
            Op::Depthwise { geometry, weights: 0, tables: tables(c.landing), residual: c.residual }
        }
        CaseOp::Add(a) => Op::Add { shape: shape(a.shape), add: a.add },
        CaseOp::MaxPool(p) => Op::MaxPool(p.geometry()),
        CaseOp::AvgPool(a) => Op::AvgPool {
            geometry: a.pool.geometry(),
            input_zero_point: a.input_zero_point,
            multiplier: a.multiplier,
            shift: a.shift,
            landing: a.landing,
        },
        CaseOp::Lut(n, _) => Op::Lut { shape: row(n), table: 0 },
        CaseOp::Softmax(rows, columns, ..) => Op::Softmax { shape: Shape::new(1, rows, columns), table: 0 },
        CaseOp::Transpose(extents, perm) => Op::Transpose { input: shape(extents), perm },
        CaseOp::LayerNorm(norm) => {
            let [positions, channels] = norm.shape;
            let shape = Shape::new(1, positions, channels);
            Op::LayerNorm { shape, table: 0, epsilon: norm.epsilon, shift: norm.shift, landing: norm.landing }
        }
        CaseOp::Attention(attention) => Op::Attention(attention.operator()),
        CaseOp::Concat([before, input, after]) => {
            Op::Concat { input: Shape::new(1, input, 1), before, after, constants: 0 }
        }
        CaseOp::Slice(from, first, to) => Op::Slice { input: shape(from), first, output: shape(to) },
    };
    let output = op.output();
    let mut b = Builder::new("case", row(first + second), output, 1);
    let parts = b.parts_mut();
    parts.weights.extend_from_slice(operands.weights);
    parts.tables.extend(operands.bias.iter().chain(operands.multiplier.iter()).chain(operands.table.iter()));
    parts.shifts.extend_from_slice(operands.shift);
    parts.woven.extend(is_woven.then_some(0));
    let take = |at: u16, len: u16| Op::Slice { input: row(first + second), first: [0, 0, at], output: row(len) };
    let steps = match second {
        0 => vec![([0, 0], op)],
        _ => vec![([0, 0], take(0, first)), ([0, 0], take(first, second)), ([1, 2], op)],
    };
    let block = b.block("case", row(first + second), steps);
    b.plan("case", &[block]);
    write(b.parts_mut()).ok()
}

/// The second input.
fn second<'a>(op: &CaseOp, operands: &'a Operands<'_>) -> &'a [i8] {
    match op {
        CaseOp::Conv2d(c) | CaseOp::Depthwise(c) if c.residual.is_some() => operands.output,
        _ => operands.second,
    }
}

#[test]
fn conformance_cases_give_their_golden_hashes_on_one_to_four_threads() {
    let mut buffer = AlignedBytes::new(LARGEST_CASE_BYTES);
    let mut refused = Vec::new();
    for (case, golden) in cases() {
        let operands = operands(case, buffer.as_mut_slice()).expect("the buffer is large enough");
        let Some(file) = bundle_of(&case.op, &operands) else {
            refused.push(case.name);
            continue;
        };
        let bytes = AlignedBytes::copy_of(&file);
        let bundle = Bundle::parse(bytes.as_slice()).expect("a sound bundle");
        let input = [&*operands.input, second(&case.op, &operands)].concat();
        for &isa in Isa::available() {
            for threads in THREADS.iter() {
                let steps = trace_on(threads, &bundle, 0, isa, &input);
                let found = steps.last().map(|output| fnv1a(output));
                assert_eq!(found, Some(golden), "{} on {} threads, {}", case.name, threads.count(), isa.name());
            }
        }
    }
    // Bundles hold no windows that begin outside the padded input.
    let outside = [
        "1x1 with padding",
        "1x1, as many positions in narrower rows",
        "1x1, as many positions in wider rows",
        "1x1, more rows than the input",
        "grouped 1x1, as many positions in narrower rows",
        "3x3, padding as wide as the kernel",
    ];
    assert_eq!(refused, outside);
}

#[test]
fn a_step_is_cut_only_where_it_is_large_and_switching_plans_keeps_the_bytes() {
    let file = resnet8::bundle().expect("the fixture is valid");
    let bytes = AlignedBytes::copy_of(&file);
    let bundle = Bundle::parse(bytes.as_slice()).expect("a sound bundle");
    let input = Rng::new(9).vector(bundle.meta().input.len());
    let want: Vec<_> = (0..bundle.plan_count()).map(|plan| trace(&bundle, plan, Isa::best(), &input).pop()).collect();
    for threads in THREADS.iter() {
        let mut executor = ThreadedExecutor::new(&bundle, 0, threads).expect("the plan exists");
        for (plan, want) in (0..bundle.plan_count()).zip(&want).chain((0..bundle.plan_count()).zip(&want).rev()) {
            executor.switch(plan).expect("the plan exists");
            executor.input().expect("intact").copy_from_slice(&input);
            assert_eq!(executor.run().ok(), want.as_deref(), "plan {plan} on {} threads", threads.count());
        }
        let plans = bundle.plan_count();
        assert_eq!(executor.switch(plans), Err(ExecError::NoSuchPlan { plan: plans, plans }));
        assert_eq!(executor.plan_index(), 0);
        assert_eq!(executor.scratch_bytes() == 0, threads.count() == 1);
    }
}
