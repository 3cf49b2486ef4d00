//! Layouts in one memory, and the check that those in two go through as well.

use super::*;
use proptest::prelude::*;

pub fn step(inputs: &[usize], output_bytes: u32, scratch_bytes: u32, in_place: InPlace) -> FlatStep {
    FlatStep { inputs: inputs.to_vec(), output_bytes, scratch_bytes, in_place, accesses: Accesses::default() }
}

/// Ranges of everything in use during a step, one entry per distinct stretch of memory.
fn live(layout: &Layout, input_bytes: u32, steps: &[FlatStep], at: usize) -> Vec<(u32, u32)> {
    let last = last_uses(steps).expect("ordered");
    let mut ranges = Vec::new();
    for (value, &last_use) in last.iter().enumerate().take(at + 2) {
        let (offset, bytes) = match value {
            0 => (layout.input_offset, input_bytes),
            v => (layout.placements[v - 1].output, steps[v - 1].output_bytes),
        };
        let overwritten = value <= at && {
            let next = &steps[at];
            next.in_place != InPlace::Never && next.inputs.contains(&value) && layout.placements[at].output == offset
        };
        if last_use >= at && bytes > 0 && !overwritten {
            ranges.push((offset, offset + bytes));
        }
    }
    if steps[at].scratch_bytes > 0 {
        let start = layout.placements[at].scratch;
        ranges.push((start, start + steps[at].scratch_bytes));
    }
    ranges.sort_unstable();
    ranges
}

fn check(input_bytes: u32, steps: &[FlatStep]) -> Layout {
    check_layout(plan(input_bytes, steps).expect("plans"), input_bytes, steps)
}

/// Fails unless everything in use at the same time lies apart, inside the arena, and in place where it has to.
pub fn check_layout(layout: Layout, input_bytes: u32, steps: &[FlatStep]) -> Layout {
    for at in 0..steps.len() {
        let ranges = live(&layout, input_bytes, steps, at);
        for pair in ranges.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "step {at}: {ranges:?} in {layout:?}");
        }
        for (start, end) in ranges {
            assert!(end <= layout.arena_bytes && start % ALIGN_BYTES == 0);
        }
        if steps[at].in_place == InPlace::SecondInput {
            let operand = match steps[at].inputs[1] {
                0 => layout.input_offset,
                v => layout.placements[v - 1].output,
            };
            assert_eq!(layout.placements[at].output, operand);
        }
    }
    assert!(layout.arena_bytes >= layout.lower_bound_bytes);
    assert_eq!(layout.arena_bytes % ALIGN_BYTES, 0);
    layout
}

#[test]
fn a_fused_residual_costs_no_third_buffer() {
    let steps = [
        step(&[0], 16_384, 100, InPlace::Never),
        step(&[1], 16_384, 576, InPlace::Never),
        step(&[2, 1], 16_384, 576, InPlace::SecondInput),
    ];
    let layout = check(3072, &steps);
    assert_eq!(layout.lower_bound_bytes, 2 * 16_384 + 576);
    assert_eq!(layout.arena_bytes, layout.lower_bound_bytes);
    assert_eq!(layout.placements[2].output, layout.placements[0].output);
}

#[test]
fn overwriting_a_value_that_is_read_later_is_refused() {
    let steps =
        [step(&[0], 8, 0, InPlace::Never), step(&[1, 0], 8, 0, InPlace::SecondInput), step(&[0], 8, 0, InPlace::Never)];
    assert_eq!(plan(8, &steps), Err(MemoryError::Overwritten { step: 1, value: 0 }));
    let own_input = [step(&[0, 0], 8, 0, InPlace::SecondInput)];
    assert_eq!(plan(8, &own_input), Err(MemoryError::Overwritten { step: 0, value: 0 }));
}

#[test]
fn an_addition_takes_over_its_first_input_only_when_that_dies() {
    let dies = [step(&[0], 8, 0, InPlace::Never), step(&[1, 0], 8, 0, InPlace::FirstInputIfWanted)];
    assert_eq!(check(8, &dies).arena_bytes, 16);
    let mut lives = dies.to_vec();
    lives.push(step(&[1, 2], 8, 0, InPlace::Never));
    assert_eq!(check(8, &lives).arena_bytes, 24);
}

#[test]
fn no_steps_need_the_input_alone() {
    assert_eq!(plan(10, &[]).expect("plans").arena_bytes, 12);
}

/// Chains with skips: every step reads the previous value and sometimes an older one.
pub fn networks() -> impl Strategy<Value = (u32, Vec<FlatStep>)> {
    let one = (1u32..5000, 0u32..300, 0usize..4, any::<prop::sample::Index>(), any::<[u16; 4]>());
    let raw = prop::collection::vec(one, 1..24);
    (1u32..5000, raw).prop_map(|(input, raw)| {
        let mut steps: Vec<FlatStep> = Vec::new();
        for (i, (bytes, scratch, kind, other, accesses)) in raw.into_iter().enumerate() {
            let second = other.index(i + 1);
            let inputs = if kind >= 2 && second != i { vec![i, second] } else { vec![i] };
            let first_bytes = if i == 0 { input } else { steps[i - 1].output_bytes };
            let (bytes, in_place) = match kind {
                1 | 3 => (first_bytes, InPlace::FirstInputIfWanted),
                _ => (bytes, InPlace::Never),
            };
            let [a, b, c, d] = accesses.map(u64::from);
            let accesses = Accesses { inputs: [a, b], output: c, scratch: d };
            steps.push(FlatStep { inputs, output_bytes: bytes, scratch_bytes: scratch, in_place, accesses });
        }
        (input, steps)
    })
}

proptest! {
    #[test]
    fn nothing_live_overlaps_and_the_bound_holds((input, steps) in networks()) {
        check(input, &steps);
    }

    #[test]
    fn plain_chains_meet_the_bound(sizes in prop::collection::vec(1u32..2000, 2..20)) {
        let sizes: Vec<u32> = sizes.into_iter().map(|s| s * 4).collect();
        let steps: Vec<_> =
            sizes[1..].iter().enumerate().map(|(i, &s)| step(&[i], s, 0, InPlace::Never)).collect();
        let layout = check(sizes[0], &steps);
        prop_assert_eq!(layout.arena_bytes, layout.lower_bound_bytes);
    }
}
