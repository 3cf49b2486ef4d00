//! The tract plans against the step loop.

pub mod synthetic;

use std::collections::HashSet;
use std::string::ToString;
use std::sync::Arc;
use std::vec::Vec;

use tract_core::internal::*;

use super::constants::PreparedStep;
use super::op::StepOp;
use super::{SharedBytes, TractError, TractFamily, TractPlan};
use crate::bundle::{AlignedBytes, Bundle, BundleError, Op};
use crate::exec::{Executor, StepReport};
use crate::kernels::{Isa, ShapeError};
use synthetic::Random;

/// Ordinal, arena range and output of every step.
type Trace = Vec<(u16, core::ops::Range<usize>, Vec<i8>)>;

fn recorder(trace: &mut Trace) -> impl FnMut(StepReport<'_>) + '_ {
    |report| trace.push((report.ordinal, report.placed.output.clone(), report.output.to_vec()))
}

fn synthetic_bytes() -> AlignedBytes {
    AlignedBytes::copy_of(&synthetic::bundle().unwrap())
}

fn by_step_loop(bundle: &Bundle<'_>, plan: u16, input: &[i8], isa: Isa) -> (Trace, Vec<i8>) {
    let mut arena = AlignedBytes::new(bundle.plan(plan).unwrap().arena_bytes as usize);
    let mut executor = Executor::with_isa(bundle, plan, arena.as_mut_slice(), isa).unwrap();
    executor.input().unwrap().copy_from_slice(input);
    let mut trace = Trace::new();
    let output = executor.run_observed(&mut recorder(&mut trace)).unwrap().to_vec();
    (trace, output)
}

#[test]
fn every_step_of_every_plan_returns_the_bytes_of_the_step_loop() {
    let bytes = synthetic_bytes();
    let bundle = Bundle::parse(bytes.as_slice()).unwrap();
    let shared: SharedBytes = Arc::new(bytes.clone());
    let mut random = Random(99);
    for &isa in Isa::available() {
        let family = TractFamily::with_isa(shared.clone(), isa).unwrap();
        for plan in 0..family.plan_count() {
            let mut tract = family.plan(plan).unwrap();
            for round in 0..8 {
                let input = random.bytes(family.input_len());
                let (expected_steps, expected) = by_step_loop(&bundle, plan, &input, Isa::Reference);
                let mut steps = Trace::new();
                let output = tract.run_observed(&input, &mut recorder(&mut steps)).unwrap();
                assert_eq!(steps, expected_steps, "{} plan {plan} round {round}", isa.name());
                assert_eq!(output, expected, "{} plan {plan} round {round}", isa.name());
            }
        }
    }
}

#[test]
fn the_synthetic_plans_use_every_operator_and_their_values_vary() {
    let bytes = synthetic_bytes();
    let bundle = Bundle::parse(bytes.as_slice()).unwrap();
    let plan = bundle.plan(2).unwrap();
    let kinds: HashSet<&str> = bundle.steps_of(&plan).map(|placed| placed.step.op.name()).collect();
    assert_eq!(kinds.len(), 8, "{kinds:?}");
    let (steps, _) = by_step_loop(&bundle, 2, &Random(5).bytes(bundle.meta().input.len()), Isa::Reference);
    for (ordinal, _, output) in &steps {
        let distinct = output.iter().collect::<HashSet<_>>().len();
        assert!(distinct * 4 > output.len().min(64), "step {ordinal} has only {distinct} values");
    }
}

#[test]
fn plans_of_one_family_run_in_turn_without_disturbing_each_other() {
    let family = TractFamily::new(synthetic_bytes()).unwrap();
    let mut plans: Vec<TractPlan> = (0..family.plan_count()).map(|index| family.plan(index).unwrap()).collect();
    let input = Random(3).bytes(family.input_len());
    let first: Vec<Vec<i8>> = plans.iter_mut().map(|plan| plan.run(&input).unwrap()).collect();
    let noise = Random(4).bytes(family.input_len());
    for plan in plans.iter_mut().rev() {
        plan.run(&noise).unwrap();
    }
    let second: Vec<Vec<i8>> = plans.iter_mut().map(|plan| plan.run(&input).unwrap()).collect();
    assert_eq!(first, second);
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), 3, "plans that differ give different logits");
}

#[test]
fn plans_share_their_operators() {
    let family = TractFamily::new(synthetic_bytes()).unwrap();
    let users = |family: &TractFamily| Arc::strong_count(&family.steps[0]);
    let before = users(&family);
    let plans: Vec<TractPlan> = (0..3).map(|index| family.plan(index).unwrap()).collect();
    assert_eq!(users(&family), before + plans.len());
}

#[test]
fn the_model_reports_the_multiply_accumulates_of_its_plan() {
    let bytes = synthetic_bytes();
    let bundle = Bundle::parse(bytes.as_slice()).unwrap();
    let family = TractFamily::new(bytes.clone()).unwrap();
    for (index, plan) in bundle.plans().enumerate() {
        let tract = family.plan(index as u16).unwrap();
        assert_eq!(tract.macs().unwrap(), plan.macs);
        let largest = bundle.steps_of(&plan).map(|s| s.output.len()).max().unwrap() as u64;
        assert!(tract.peak_activation_bytes().unwrap() > largest);
    }
}

#[test]
fn errors_say_what_was_asked_and_what_there_is() {
    let family = TractFamily::new(synthetic_bytes()).unwrap();
    assert_eq!(family.plan(3).unwrap_err(), TractError::NoSuchPlan { plan: 3, plans: 3 });
    let short = family.plan(0).unwrap().run(&[0; 7]).unwrap_err();
    assert_eq!(short, TractError::InputLength { need: 360, have: 7 });
    assert_eq!(short.to_string(), "the input needs 360 bytes, 7 given");

    let mut damaged = synthetic_bytes();
    let last = damaged.as_slice().len() - 17;
    damaged.as_mut_slice()[last] ^= 1;
    let error = TractPlan::new(damaged, 0).unwrap_err();
    assert!(matches!(error, TractError::Bundle(BundleError::Checksum { .. })), "{error}");
}

/// The family's prepared steps that `wanted` selects.
fn ops_where(wanted: impl Fn(&Op) -> bool) -> Vec<StepOp> {
    let family = TractFamily::new(synthetic_bytes()).unwrap();
    family.steps.iter().filter(|step| wanted(&step.op)).map(|step| StepOp(step.clone())).collect()
}

#[test]
fn an_operand_that_someone_else_still_holds_is_copied_and_a_sole_one_is_reused() {
    let mut random = Random(11);
    let residual = |op: &Op| op.arity() == 2 && op.name() != "add";
    let ops = ops_where(residual);
    assert!(ops.len() >= 3);
    for op in ops {
        let shape_of = |shape| super::op::dims(shape);
        let (input, output) = (op.0.op.input(), op.0.op.output());
        let first = Tensor::from_shape(&shape_of(input), &random.bytes(input.len())).unwrap().into_tvalue();
        let second = Tensor::from_shape(&shape_of(output), &random.bytes(output.len())).unwrap();
        let untouched = second.clone();

        let held = second.into_tvalue();
        let copied = op.eval(&EvalContext::out_of_plan(), tvec!(first.clone(), held.clone())).unwrap().remove(0);
        assert_eq!(*held, untouched);
        let address = held.as_bytes().as_ptr();
        let reused = op.eval(&EvalContext::out_of_plan(), tvec!(first, held)).unwrap().remove(0);
        assert_eq!(reused.as_bytes().as_ptr(), address);
        assert_eq!(*copied, *reused);
        assert_ne!(*copied, untouched);
    }
}

#[test]
fn only_pointwise_operators_claim_to_be_pointwise() {
    let fact = |shape| i8::fact(super::op::dims(shape));
    for op in ops_where(|op| op.arity() == 1) {
        let (input, output) = (fact(op.0.op.input()), fact(op.0.op.output()));
        let mapping = op.axes_mapping(&[&input], &[&output]).unwrap();
        assert_eq!(mapping.is_element_wise_unary(), op.0.op.name() == "lut", "{mapping} of {:?}", op.0.op);
    }
}

#[test]
fn the_optimizer_leaves_the_results_alone() {
    let family = TractFamily::new(synthetic_bytes()).unwrap();
    let mut random = Random(21);
    for index in 0..family.plan_count() {
        let (model, _) = super::plan::wire(&family, &family.plans[usize::from(index)]).unwrap();
        let optimized = model.into_optimized().unwrap().into_runnable().unwrap();
        let mut plan = family.plan(index).unwrap();
        for _ in 0..4 {
            let input = random.bytes(family.input_len());
            let tensor = Tensor::from_shape(&[12, 10, 3], &input).unwrap();
            let outputs = optimized.run(tvec!(tensor.into_tvalue())).unwrap();
            let view = outputs[0].try_as_plain_ram().unwrap();
            assert_eq!(view.as_slice::<i8>().unwrap(), plan.run(&input).unwrap(), "plan {index}");
        }
    }
}

#[test]
fn a_model_with_wrong_shapes_or_types_is_refused_when_it_is_wired() {
    let op = ops_where(|op| op.name() == "maxpool").remove(0);
    let right = i8::fact(super::op::dims(op.0.op.input()));
    assert!(op.output_facts(&[&right]).is_ok());
    assert!(op.output_facts(&[&i8::fact([1, 1, 1])]).is_err());
    assert!(op.output_facts(&[&f32::fact(super::op::dims(op.0.op.input()))]).is_err());
    assert!(op.output_facts(&[&right, &right]).is_err());
}

/// Bytes whose address and content change between calls.
struct Shifting {
    honest: AlignedBytes,
    calls: std::sync::atomic::AtomicUsize,
}

impl AsRef<[u8]> for Shifting {
    fn as_ref(&self) -> &[u8] {
        match self.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => self.honest.as_slice(),
            _ => &[],
        }
    }
}

#[test]
fn bytes_that_vanish_after_the_check_are_an_error_not_a_panic() {
    let shifting = Shifting { honest: synthetic_bytes(), calls: 0.into() };
    assert_eq!(TractFamily::new(shifting).unwrap_err(), TractError::Changed);

    let bytes = synthetic_bytes();
    let bundle = Bundle::parse(bytes.as_slice()).unwrap();
    let shared: SharedBytes = Arc::new(bytes.clone());
    let found = PreparedStep::locate(&shared, &bundle, 0, Isa::Reference);
    assert!(found.is_none(), "a view of other bytes has no place in these");

    let step = ops_where(|op| op.name() == "lut").remove(0);
    let mut output = vec![0; step.0.op.output().len()];
    assert_eq!(step.0.run(&[&[0; 3]], &mut output), Err(ShapeError::Output));
    assert_eq!(step.0.run(&[&[], &[]], &mut output), Err(ShapeError::SecondInput));
}
