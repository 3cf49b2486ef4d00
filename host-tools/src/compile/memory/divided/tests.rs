use proptest::prelude::*;
use stitchkit_runtime::bundle::{Clearance, InPlace};

use super::super::tests::{check_layout, networks, step};
use super::super::{Clearances, plan};
use super::*;
use crate::compile::accesses::Accesses;

/// Where a value or scratch area lies, and how often it is touched in all.
fn places(layout: &Layout, input_bytes: u32, steps: &[FlatStep]) -> Vec<(u32, u32)> {
    let input = [(layout.input_offset, input_bytes)];
    let of_steps = layout.placements.iter().zip(steps).flat_map(|(placement, step)| {
        let scratch = (step.scratch_bytes > 0).then_some((placement.scratch, step.scratch_bytes));
        [Some((placement.output, step.output_bytes)), scratch].into_iter().flatten()
    });
    input.into_iter().chain(of_steps).collect()
}

fn check(memories: &Memories, input_bytes: u32, steps: &[FlatStep]) -> Layout {
    let layout = check_layout(plan_in(memories, input_bytes, steps).expect("plans"), input_bytes, steps);
    let split = layout.fast_bytes;
    assert!(split <= memories.fast_bytes && split <= layout.arena_bytes && split.is_multiple_of(Footprint::ALIGN));
    for (offset, bytes) in places(&layout, input_bytes, steps) {
        assert!(offset + bytes <= split || split <= offset, "{offset} + {bytes} lies across {split}");
        assert!(offset + bytes <= layout.arena_bytes);
    }
    layout
}

/// Bytes touched in the fast memory, counted from the layout alone.
fn fast_accesses(layout: &Layout, input_bytes: u32, steps: &[FlatStep]) -> u64 {
    let is_fast = |offset: u32| offset < layout.fast_bytes;
    let output = |value: usize| if value == 0 { layout.input_offset } else { layout.placements[value - 1].output };
    let mut sum = if is_fast(layout.input_offset) { u64::from(input_bytes) } else { 0 };
    for (placement, step) in layout.placements.iter().zip(steps) {
        let inputs = step.inputs.iter().zip(step.accesses.inputs).map(|(&value, bytes)| (output(value), bytes));
        let own = [(placement.output, step.accesses.output), (placement.scratch, step.accesses.scratch)];
        let own = own.into_iter().take(if step.scratch_bytes > 0 { 2 } else { 1 });
        sum += inputs.chain(own).filter(|&(offset, _)| is_fast(offset)).map(|(_, bytes)| bytes).sum::<u64>();
    }
    sum
}

fn busy(step: FlatStep, accesses: u64) -> FlatStep {
    FlatStep { accesses: Accesses { scratch: accesses, ..Accesses::default() }, ..step }
}

#[test]
fn busy_scratch_lies_in_the_fast_memory_and_a_large_tensor_does_not() {
    let steps = [busy(step(&[0], 8000, 100, InPlace::Never), 1000), busy(step(&[1], 8000, 200, InPlace::Never), 5000)];
    let layout = check(&Memories { fast_bytes: 256, main_bytes: Vec::new() }, 4000, &steps);
    assert_eq!(layout.fast_bytes, 208, "the larger scratch, up to a multiple of 16");
    assert_eq!((layout.placements[0].scratch, layout.placements[1].scratch), (0, 0));
    assert_eq!(layout.arena_bytes, 208 + 16_000);
}

#[test]
fn an_arena_that_fits_the_fast_memory_stays_in_one_piece() {
    let steps = [step(&[0], 80, 16, InPlace::Never)];
    let whole = plan(40, &steps).expect("plans");
    for fast_bytes in [0, 15, whole.arena_bytes, 1000] {
        assert_eq!(plan_in(&Memories { fast_bytes, main_bytes: Vec::new() }, 40, &steps), Ok(whole.clone()));
    }
}

#[test]
fn a_small_main_memory_comes_before_accesses() {
    // The scratch is busy, but only with the output in the fast memory does the rest fit the main one.
    let steps = [busy(step(&[0], 1000, 500, InPlace::Never), 50_000)];
    let roomy = check(&Memories { fast_bytes: 1008, main_bytes: Vec::new() }, 600, &steps);
    assert_eq!(fast_accesses(&roomy, 600, &steps), 50_000);
    let tight = check(&Memories { fast_bytes: 1008, main_bytes: vec![1100] }, 600, &steps);
    assert_eq!((tight.fast_bytes, tight.arena_bytes), (1008, 1008 + 1100));
}

#[test]
fn outputs_lie_over_inputs_only_where_the_main_memory_asks_for_it() {
    let clearance = |bytes| Clearance { before_bytes: bytes, after_bytes: bytes };
    let clearance = Some(Clearances { coarse: clearance(3000), fine: clearance(1000) });
    let steps: Vec<FlatStep> =
        (0..4).map(|value| FlatStep { clearance, ..step(&[value], 8000, 0, InPlace::Never) }).collect();
    let arena = |main_bytes: &[u32]| {
        check(&Memories { fast_bytes: 0, main_bytes: main_bytes.to_vec() }, 8000, &steps).arena_bytes
    };
    let of_one = |main_bytes| arena(&[main_bytes]);
    assert_eq!([16_000, 15_999, 11_000, 10_999, 9000].map(of_one), [16_000, 11_000, 11_000, 9000, 9000]);
    assert_eq!(of_one(8999), 16_000, "nothing helps");
    assert_eq!(arena(&[]), 16_000, "nothing to fit");
    // The smallest board holds it in no case, the middle one in large parts.
    assert_eq!(arena(&[8000, 12_000, 64_000]), 11_000);
    assert_eq!(arena(&[64_000, 9500, 12_000]), 9000);
}

proptest! {
    #[test]
    fn nothing_lies_across_the_split_and_no_buffer_alone_is_busier(
        (input, steps) in networks(), fast_bytes in 0u32..20_000,
    ) {
        let memories = Memories { fast_bytes, main_bytes: Vec::new() };
        let layout = check(&memories, input, &steps);
        let whole = plan(input, &steps).expect("plans");
        if whole.arena_bytes > fast_bytes {
            let limit = fast_bytes / Footprint::ALIGN * Footprint::ALIGN;
            let problem = Problem::new(input, &steps, |_| None).expect("consistent");
            let alone = problem.buffers.iter().filter(|b| b.bytes <= limit).map(|b| b.accesses).max();
            prop_assert!(fast_accesses(&layout, input, &steps) >= alone.unwrap_or(0));
        }
    }

    #[test]
    fn a_main_memory_as_small_as_any_division_needs_is_respected(
        (input, steps) in networks(), fast_bytes in 16u32..20_000,
    ) {
        let roomy = check(&Memories { fast_bytes, main_bytes: Vec::new() }, input, &steps);
        let enough = roomy.arena_bytes - roomy.fast_bytes;
        let tight = check(&Memories { fast_bytes, main_bytes: vec![enough] }, input, &steps);
        prop_assert!(tight.arena_bytes - tight.fast_bytes <= enough);
    }
}
