//! Packed weights give the bytes of weights in place, and are packed once.

use proptest::prelude::*;
use stitchkit_conformance::{CASES, Isa, LARGEST_CASE_BYTES, cases, fnv1a, operands};
use stitchkit_runtime::bundle::{AlignedBytes, Bundle};
use stitchkit_runtime::exec::{ExecError, Executor, Prepared, StepReport};
use stitchkit_runtime::kernels::{Conv2d, Filters, PackedConv, Requant};
use stitchkit_tests::builder::infer;
use stitchkit_tests::{Rng, every_op, random_graph, resnet8};

/// Filters, geometry, landing and residual of a case that is a convolution.
fn convolution(case: &stitchkit_conformance::Case) -> Option<(Filters, Conv2d, stitchkit_conformance::Convolution)> {
    use stitchkit_conformance::Op;
    match case.op {
        Op::Conv2d(c) => Some((Filters::Dense, c.geometry(c.groups), c)),
        Op::Depthwise(c) => Some((Filters::Depthwise, c.geometry(c.channels), c)),
        _ => None,
    }
}

#[test]
fn every_packing_variant_gives_the_golden_hashes() {
    let mut buffer = AlignedBytes::new(LARGEST_CASE_BYTES);
    for &isa in Isa::available() {
        let mut packed_cases = 0;
        for (case, golden) in cases() {
            let Some((filters, geometry, c)) = convolution(case) else { continue };
            let given = operands(case, buffer.as_mut_slice()).expect("the buffer is large enough");
            let (bias, multiplier, shift) = (given.bias, given.multiplier, given.shift);
            let q = Requant { bias, multiplier, shift, landing: c.landing };
            let packed = PackedConv::new(isa, filters, &geometry, &q, c.residual.as_ref(), given.weights);
            let Some(packed) = packed.expect("the case is consistent") else { continue };
            let mut image = vec![0x5A; packed.image_bytes()];
            packed.run(given.input, &mut image, given.output).expect("the case is consistent");
            assert_eq!(fnv1a(given.output), golden, "{}: {}", isa.name(), case.name);
            packed_cases += 1;
        }
        let is_simple = matches!(isa.name(), "reference" | "portable" | "arm-dsp" | "arm-neon" | "arm-mve" | "avx2");
        assert_eq!(packed_cases == 0, is_simple, "{} packs {packed_cases} of {} cases", isa.name(), CASES.len());
    }
}

#[test]
fn every_plan_gives_the_same_bytes_packed() {
    let bytes = AlignedBytes::copy_of(&every_op::bundle().expect("the fixture is valid"));
    for &isa in Isa::available() {
        check_all_plans(&bytes, isa, Isa::Reference);
    }
}

#[test]
fn larger_plans_give_the_same_bytes_packed() {
    let bytes = AlignedBytes::copy_of(&resnet8::bundle().expect("the fixture is valid"));
    check_all_plans(&bytes, Isa::best(), Isa::best());
}

/// All plans with the packed kernels of `isa`, one after another in one executor, beside those of `other` in place.
fn check_all_plans(bytes: &AlignedBytes, isa: Isa, other: Isa) {
    let bundle = Bundle::parse(bytes.as_slice()).expect("intact");
    let input = Rng::new(9).vector(bundle.meta().input.len());
    let most = bundle.plans().map(|plan| plan.arena_bytes).max().expect("there are plans");
    let mut arena = AlignedBytes::new(most as usize);
    let mut prepared = Prepared::new(&bundle, isa);
    let mut executor = prepared.executor(0, arena.as_mut_slice()).expect("fits");
    for plan in 0..bundle.plan_count() {
        executor.switch(plan).expect("fits");
        executor.input().expect("intact").copy_from_slice(&input);
        assert_eq!(executor.run().expect("intact"), infer(&bundle, plan, other, &input), "{}", isa.name());
    }
}

/// The outputs of all steps.
fn trace(mut executor: Executor<'_, '_>, input: &[i8]) -> Vec<Vec<i8>> {
    executor.input().expect("intact").copy_from_slice(input);
    let mut steps = Vec::new();
    executor.run_observed(&mut |report: StepReport<'_>| steps.push(report.output.to_vec())).expect("intact");
    steps
}

/// All plans of a random graph with every variant, weights packed where it packs them, beside the scalar reference.
fn check_graph(seed: u32) {
    let bytes = AlignedBytes::copy_of(&random_graph::bundle(seed).expect("the generator makes valid bundles"));
    let bundle = Bundle::parse(bytes.as_slice()).expect("a sound bundle");
    let input = Rng::new(seed).vector(bundle.meta().input.len());
    for plan in 0..bundle.plan_count() {
        let mut arena = AlignedBytes::new(bundle.plan(plan).expect("there is one").arena_bytes as usize);
        let in_place = Executor::with_isa(&bundle, plan, arena.as_mut_slice(), Isa::Reference).expect("fits");
        let want = trace(in_place, &input);
        for &isa in Isa::available() {
            let mut prepared = Prepared::new(&bundle, isa);
            let have = trace(prepared.executor(plan, arena.as_mut_slice()).expect("fits"), &input);
            assert_eq!(have, want, "{}, plan {plan} of {seed}", isa.name());
        }
    }
}

#[test]
fn graphs_that_differed_once_give_the_same_bytes() {
    // A 1x1 convolution whose output is narrower than its input.
    check_graph(3_081_301_977);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_graphs_give_the_same_bytes_packed(seed in any::<u32>()) {
        check_graph(seed);
    }
}

#[test]
fn plans_share_what_is_packed() {
    let bytes = AlignedBytes::copy_of(&every_op::bundle().expect("the fixture is valid"));
    let bundle = Bundle::parse(bytes.as_slice()).expect("intact");
    let alone = |plan| {
        let mut prepared = Prepared::new(&bundle, Isa::best());
        prepared.add(plan).expect("there is one");
        prepared.weight_bytes()
    };
    let mut all = Prepared::new(&bundle, Isa::best());
    (0..bundle.plan_count()).for_each(|plan| all.add(plan).expect("there is one"));
    let bytes = all.weight_bytes();
    let apart: usize = (0..bundle.plan_count()).map(alone).sum();
    assert!(bytes < apart || apart == 0, "{bytes} bytes together, {apart} apart");
    (0..bundle.plan_count()).for_each(|plan| all.add(plan).expect("there is one"));
    assert_eq!(all.weight_bytes(), bytes);
    let plans = bundle.plan_count();
    assert_eq!(all.add(plans), Err(ExecError::NoSuchPlan { plan: plans, plans }));
}
