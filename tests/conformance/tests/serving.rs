//! Cascades answer with the bytes that their plans give alone; the runtime serves whatever its arena and deadline allow.

use stitchkit_runtime::board::{Clock, SystemClock};
use stitchkit_runtime::bundle::{AlignedBytes, Bundle, BundleError, Check, SectionId};
use stitchkit_runtime::exec::{Arena, Cascade, CascadeError, CascadeExecutor, ExecError, Executor};
use stitchkit_runtime::kernels::Isa;
use stitchkit_runtime::runtime::{BootError, Runtime};
use stitchkit_runtime::select::{Limits, SelectError, Speed, Unmeasured, Verdict};
use stitchkit_tests::builder::infer;
use stitchkit_tests::image::Image;
use stitchkit_tests::{Rng, every_op, resnet8};

fn bytes() -> AlignedBytes {
    AlignedBytes::copy_of(&resnet8::bundle().expect("the fixture is valid"))
}

#[test]
fn a_cascade_gives_the_bytes_of_its_plans_and_shares_their_blocks() {
    let bytes = bytes();
    let bundle = Bundle::parse(bytes.as_slice()).expect("intact");
    let input = Rng::new(3).vector(bundle.meta().input.len());
    let alone: Vec<Vec<i8>> = (0..bundle.plan_count()).map(|plan| infer(&bundle, plan, Isa::best(), &input)).collect();
    for (cheap, costly, shared_blocks) in [(0, 1, 2), (0, 2, 1), (1, 3, 0), (0, 3, 0), (2, 1, 1)] {
        let cascade = Cascade::new(&bundle, cheap, costly, u32::MAX).expect("there is room");
        assert_eq!(cascade.shared_blocks(), shared_blocks, "{cheap} and {costly}");
        assert_eq!(cascade.shared_macs(&bundle) > 0, shared_blocks > 0);
        let mut arena = AlignedBytes::new(cascade.arena_bytes() as usize);
        arena.as_mut_slice().fill(0xA5);
        let mut executor =
            CascadeExecutor::with_isa(&bundle, cascade, arena.as_mut_slice(), Isa::best()).expect("fits");
        for (least_lead, plan) in [(0, cheap), (u8::MAX, costly)] {
            executor.input().expect("intact").copy_from_slice(&input);
            let answer = executor.run(least_lead).expect("intact");
            assert_eq!((answer.plan, answer.logits), (plan, alone[usize::from(plan)].as_slice()));
        }
    }
}

#[test]
fn a_cascade_without_room_says_what_it_needs() {
    let bytes = bytes();
    let bundle = Bundle::parse(bytes.as_slice()).expect("intact");
    let Err(CascadeError::ArenaTooSmall { need_bytes, .. }) = Cascade::new(&bundle, 0, 1, 1000) else {
        panic!("1000 bytes are too few");
    };
    assert!(Cascade::new(&bundle, 0, 1, need_bytes).is_ok() && Cascade::new(&bundle, 0, 1, need_bytes - 1).is_err());
}

#[test]
fn the_runtime_follows_deadline_and_arena() {
    let bytes = bytes();
    let bundle = Bundle::parse(bytes.as_slice()).expect("intact");
    let needs: Vec<u32> = bundle.plans().map(|plan| plan.arena_bytes).collect();
    let input = Rng::new(4).vector(bundle.meta().input.len());
    let largest = *needs.iter().max().expect("there are plans") as usize;
    let mut memory = AlignedBytes::new(largest);
    // So fast that nothing is ever late.
    let speed = Speed { cost_per_second: 1 << 40 };
    let limits = Limits { deadline_us: Some(60_000_000), ..Limits::NONE };
    let (mut runtime, report) =
        Runtime::boot(bytes.as_slice(), Check::Full, memory.as_mut_slice(), limits, speed).expect("everything fits");
    assert_eq!((report.choice().plan, report.verdicts()), (3, [Verdict::Fits; 4].as_slice()));
    let serve = |runtime: &mut Runtime<'_, '_>| {
        runtime.input().expect("intact").copy_from_slice(&input);
        let answer = runtime.run(&mut SystemClock::default()).expect("intact");
        assert_eq!(answer.logits, infer(&bundle, answer.record.plan, Isa::best(), &input));
        answer.record.plan
    };
    assert_eq!(serve(&mut runtime), 3);
    let arena = runtime.release_arena();
    assert!(runtime.input().is_err());
    let (kept, _given_away) = arena.main.split_at_mut(needs[0] as usize);
    runtime.use_arena(kept).expect("the smallest plan fits");
    // Accuracy rises with the index: the last plan that fits is the best one.
    let best = needs.iter().rposition(|&bytes| bytes <= needs[0]).expect("plan 0 does") as u16;
    assert!(best < 3);
    assert_eq!(serve(&mut runtime), best);
    let arena = runtime.release_arena();
    let smallest = *needs.iter().min().expect("there are plans") as usize;
    let (too_small, _) = arena.main.split_at_mut(smallest - 16);
    let refused = runtime.use_arena(too_small);
    assert!(matches!(refused, Err(BootError::Select(SelectError::RamTooSmall { .. }))), "{refused:?}");
}

/// A clock on which every inference takes a microsecond.
struct Quick(u64);

impl Clock for Quick {
    fn hz(&self) -> u32 {
        1_000_000
    }
    fn now(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

#[test]
fn the_runtime_answers_early_where_it_is_sure_and_has_room() {
    let bytes = bytes();
    let bundle = Bundle::parse(bytes.as_slice()).expect("intact");
    let input = Rng::new(5).vector(bundle.meta().input.len());
    let cascade_bytes = Cascade::new(&bundle, 0, 3, u32::MAX).expect("there is room").arena_bytes() as usize;
    let speed = Speed { cost_per_second: 1 << 40 };
    let limits = Limits { deadline_us: Some(60_000_000), ..Limits::NONE };
    let mut memory = AlignedBytes::new(cascade_bytes);
    let (mut runtime, _) = Runtime::start(bundle, memory.as_mut_slice(), limits, speed).expect("everything fits");
    let serve = |runtime: &mut Runtime<'_, '_>, least_lead| {
        runtime.answer_early(least_lead).expect("intact");
        runtime.input().expect("intact").copy_from_slice(&input);
        let answer = runtime.run(&mut Quick(0)).expect("intact");
        assert_eq!(answer.logits, infer(&bundle, answer.record.plan, Isa::best(), &input));
        answer.record.plan
    };
    assert_eq!([Some(0), Some(u8::MAX), None].map(|lead| serve(&mut runtime, lead)), [0, 3, 3]);
    // A deadline that both together would miss leaves the chosen plan alone.
    runtime.answer_early(Some(0)).expect("intact");
    let slow = Speed { cost_per_second: bundle.plan(3).expect("there are four").cost };
    let deadline_us = Some(1_200_000);
    let arena = runtime.release_arena();
    let limits = Limits { deadline_us, ..Limits::NONE };
    let (mut hurried, _) = Runtime::start(bundle, arena, limits, slow).expect("plan 3 takes a second");
    assert_eq!(serve(&mut hurried, Some(0)), 3);
    hurried.set_deadline(Some(3_000_000)).expect("intact");
    assert_eq!(serve(&mut hurried, Some(0)), 0);
}

#[test]
fn the_runtime_serves_from_two_memories_and_changes_them() {
    let bytes = AlignedBytes::copy_of(&every_op::bundle().expect("the fixture is valid"));
    let bundle = Bundle::parse(bytes.as_slice()).expect("intact");
    let input = Rng::new(6).vector(bundle.meta().input.len());
    let divided = bundle.plans().position(|plan| plan.fast_bytes > 0).expect("one is divided") as u16;
    let footprint = bundle.plan(divided).expect("in range").footprint();
    // Without the fast memory the rest holds the smallest plan, and not the divided one.
    let smallest = bundle.plans().map(|plan| plan.arena_bytes).min().expect("there are plans");
    let main_bytes = footprint.in_main(footprint.fast_bytes).max(smallest);
    assert!(main_bytes < footprint.arena_bytes);
    let mut memories = [footprint.fast_bytes, main_bytes].map(|bytes| AlignedBytes::new(bytes as usize));
    let [fast, main] = &mut memories;
    let arena = Arena { fast: fast.as_mut_slice(), main: main.as_mut_slice() };
    let (mut runtime, report) = Runtime::start(bundle, arena, Limits::NONE, Unmeasured).expect("it fits");
    assert_eq!((report.choice().plan, report.choice().in_fast_bytes), (divided, footprint.fast_bytes));
    let serve = |runtime: &mut Runtime<'_, '_>| {
        runtime.input().expect("intact").copy_from_slice(&input);
        let answer = runtime.run(&mut Quick(0)).expect("intact");
        assert_eq!(answer.logits, infer(&bundle, answer.record.plan, Isa::best(), &input));
        answer.record.plan
    };
    assert_eq!(serve(&mut runtime), divided);
    // A cascade takes one piece of memory, and there is none that is large enough.
    runtime.answer_early(Some(u8::MAX)).expect("intact");
    assert_eq!(serve(&mut runtime), divided);
    let Arena { main, .. } = runtime.release_arena();
    runtime.use_arena(main).expect("a smaller plan fits");
    assert_ne!(serve(&mut runtime), divided);
}

#[test]
fn a_little_less_of_either_memory_refuses_a_divided_plan() {
    let bytes = AlignedBytes::copy_of(&every_op::bundle().expect("the fixture is valid"));
    let bundle = Bundle::parse(bytes.as_slice()).expect("intact");
    let divided = bundle.plans().position(|plan| plan.fast_bytes > 0).expect("one is divided") as u16;
    let footprint = bundle.plan(divided).expect("in range").footprint();
    let (fast_bytes, main_bytes) = (footprint.fast_bytes as usize, footprint.in_main(footprint.fast_bytes) as usize);
    for (fast_less, main_less) in [(16, 0), (0, 1), (0, 0)] {
        let mut fast = AlignedBytes::new(fast_bytes - fast_less);
        let mut main = AlignedBytes::new(main_bytes - main_less);
        let arena = Arena { fast: fast.as_mut_slice(), main: main.as_mut_slice() };
        let refused = Executor::with_arena(&bundle, divided, arena, Isa::best()).err();
        let is_small = matches!(refused, Some(ExecError::ArenaTooSmall { .. }));
        assert_eq!(is_small, fast_less + main_less > 0, "{refused:?}");
    }
}

#[test]
fn an_arena_that_the_fast_memory_holds_needs_no_other() {
    let bytes = AlignedBytes::copy_of(&every_op::bundle().expect("the fixture is valid"));
    let bundle = Bundle::parse(bytes.as_slice()).expect("intact");
    let input = Rng::new(7).vector(bundle.meta().input.len());
    for plan in 0..bundle.plan_count() {
        let mut memory = AlignedBytes::new(bundle.plan(plan).expect("in range").arena_bytes as usize);
        let arena = Arena { fast: memory.as_mut_slice(), main: &mut [] };
        let mut executor = Executor::with_arena(&bundle, plan, arena, Isa::best()).expect("it fits");
        executor.input().expect("intact").copy_from_slice(&input);
        assert_eq!(executor.run().expect("intact"), infer(&bundle, plan, Isa::best(), &input));
    }
}

#[test]
fn a_deadline_needs_a_prediction() {
    let bytes = bytes();
    let mut memory = AlignedBytes::new(1 << 20);
    let limits = Limits { deadline_us: Some(1), ..Limits::NONE };
    let boot = Runtime::boot(bytes.as_slice(), Check::Full, memory.as_mut_slice(), limits, Unmeasured);
    assert_eq!(boot.err(), Some(BootError::Select(SelectError::SpeedUnknown)));
}

#[test]
fn structure_checks_trust_weights_and_nothing_else() {
    let file = resnet8::bundle().expect("the fixture is valid");
    let image = Image::read(&file);
    let start = |tag: &[u8]| file.windows(4).position(|window| window == tag).expect("in the section table");
    for &id in SectionId::ALL.iter().filter(|id| image.sections.iter().any(|s| s.tag == id.tag())) {
        let tag = id.tag();
        let row = start(tag.as_slice());
        let offset = u32::from_le_bytes(file[row + 8..row + 12].try_into().expect("4 bytes")) as usize;
        let mut bytes = AlignedBytes::copy_of(&file);
        // The last byte of a record may be anything; the sum tells.
        bytes.as_mut_slice()[offset + 5] ^= 1;
        assert!(matches!(Bundle::parse(bytes.as_slice()), Err(BundleError::Checksum { .. })), "{id:?}");
        let lenient = Bundle::parse_with(bytes.as_slice(), Check::Structure);
        let is_bulk = matches!(id, SectionId::Weights | SectionId::Golden);
        assert!(!is_bulk || lenient.is_ok(), "{id:?}: {lenient:?}");
        let is_record = matches!(id, SectionId::Meta | SectionId::Blocks | SectionId::Steps | SectionId::Plans);
        assert!(!is_record || matches!(lenient, Err(BundleError::Checksum { .. })), "{id:?}");
    }
}
