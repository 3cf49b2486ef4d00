//! Layouts in one memory, and the check that those in two go through as well.

use stitchkit_runtime::bundle::Clearance;

use super::problem::last_uses;
use super::*;
use proptest::prelude::*;

pub fn step(inputs: &[usize], output_bytes: u32, scratch_bytes: u32, in_place: InPlace) -> FlatStep {
    let accesses = Accesses::default();
    FlatStep { inputs: inputs.to_vec(), output_bytes, scratch_bytes, in_place, clearance: None, accesses }
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
            let (next, output) = (&steps[at], layout.placements[at].output);
            let in_place = next.in_place != InPlace::Never && output == offset;
            let over = next.inputs == [value] && last_use == at && is_clear(next.clearance, output, offset);
            // What the output that is written over it leaves of an input.
            if over {
                let (end, output_end) = (offset + bytes, output + next.output_bytes);
                let (before, behind) = ((offset, end.min(output)), (offset.max(output_end), end));
                ranges.extend([before, behind].into_iter().filter(|(start, end)| start < end));
            }
            over || (in_place && next.inputs.contains(&value))
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

fn is_clear(clearance: Option<Clearances>, output: u32, input: u32) -> bool {
    let (output, input) = (output as usize, input as usize);
    clearance.is_some_and(|clearance| {
        output + clearance.fine.before_bytes <= input || input + clearance.fine.after_bytes <= output
    })
}

fn check(input_bytes: u32, steps: &[FlatStep]) -> Layout {
    check_overlapping(Overlap::Never, input_bytes, steps)
}

fn check_overlapping(overlap: Overlap, input_bytes: u32, steps: &[FlatStep]) -> Layout {
    let (_, layout) = Solved::new(input_bytes, steps, overlap).expect("plans").arranged();
    check_layout(layout, input_bytes, steps)
}

/// Fails unless everything in use at the same time lies apart, inside the arena, and in place where it has to.
pub fn check_layout(layout: Layout, input_bytes: u32, steps: &[FlatStep]) -> Layout {
    for at in 0..steps.len() {
        let ranges = live(&layout, input_bytes, steps, at);
        for pair in ranges.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "step {at}: {ranges:?} in {layout:?}");
        }
        for (start, end) in ranges {
            assert!(start <= end && end <= layout.arena_bytes);
        }
        let Placement { output, scratch } = layout.placements[at];
        assert!(output.is_multiple_of(ALIGN_BYTES) && scratch.is_multiple_of(ALIGN_BYTES));
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

/// In parts of one size.
fn same(clearance: Clearance) -> Clearances {
    Clearances { coarse: clearance, fine: clearance }
}

fn over(value: usize, output_bytes: u32, before_bytes: usize, after_bytes: usize) -> FlatStep {
    let clearance = Some(same(Clearance { before_bytes, after_bytes }));
    FlatStep { clearance, ..step(&[value], output_bytes, 0, InPlace::Never) }
}

#[test]
fn an_output_is_written_over_its_input_where_that_saves_memory() {
    // The largest two lie over each other; the last two have room to lie apart.
    let steps = [over(0, 1000, 100, 100), over(1, 1600, 700, 120), over(2, 100, 10, 10), over(3, 100, 10, 10)];
    assert_eq!(check(400, &steps).arena_bytes, 2600);
    let layout = check_overlapping(Overlap::Fine, 400, &steps);
    assert_eq!((layout.arena_bytes, layout.lower_bound_bytes), (1700, 1700));
    let [_, _, narrow, last] = [0, 1, 2, 3].map(|at| layout.placements[at].output);
    assert!(last.abs_diff(narrow) >= 100);
}

#[test]
fn a_chain_of_equal_sizes_goes_to_and_fro() {
    let steps: Vec<FlatStep> = (0..9).map(|value| over(value, 8000, 1024, 1024)).collect();
    assert_eq!(check_overlapping(Overlap::Coarse, 8000, &steps).arena_bytes, 9024);
}

#[test]
fn an_input_that_is_read_again_is_not_written_over() {
    let steps =
        [step(&[0], 40, 0, InPlace::Never), over(1, 40, 4, 4), step(&[2, 1], 40, 0, InPlace::FirstInputIfWanted)];
    assert_eq!(check_overlapping(Overlap::Fine, 4, &steps).arena_bytes, 80);
}

#[test]
fn no_steps_need_the_input_alone() {
    assert_eq!(plan(10, &[]).expect("plans").arena_bytes, 12);
}

/// Chains with skips: every step reads the previous value and sometimes an older one.
pub fn networks() -> impl Strategy<Value = (u32, Vec<FlatStep>)> {
    let lead = prop::option::of(any::<prop::sample::Index>());
    let one = (1u32..5000, 0u32..300, 0usize..4, any::<prop::sample::Index>(), any::<[u16; 4]>(), lead);
    let raw = prop::collection::vec(one, 1..24);
    (1u32..5000, raw).prop_map(|(input, raw)| {
        let mut steps: Vec<FlatStep> = Vec::new();
        for (i, (bytes, scratch, kind, other, accesses, lead)) in raw.into_iter().enumerate() {
            let second = other.index(i + 1);
            let inputs = if kind >= 2 && second != i { vec![i, second] } else { vec![i] };
            let first_bytes = if i == 0 { input } else { steps[i - 1].output_bytes };
            let (bytes, in_place) = match kind {
                1 | 3 => (first_bytes, InPlace::FirstInputIfWanted),
                _ => (bytes, InPlace::Never),
            };
            let [a, b, c, d] = accesses.map(u64::from);
            let accesses = Accesses { inputs: [a, b], output: c, scratch: d };
            // At least what the one has more than the other, as the last row reads the input's end and writes the output's.
            let apart = |lead: prop::sample::Index, least: u32, most: u32| {
                (least + 1) as usize + lead.index((most - least) as usize)
            };
            let clearance = lead.filter(|_| in_place == InPlace::Never).map(|lead| {
                same(Clearance {
                    before_bytes: apart(lead, bytes.saturating_sub(first_bytes), bytes),
                    after_bytes: apart(lead, first_bytes.saturating_sub(bytes), first_bytes),
                })
            });
            steps.push(FlatStep { inputs, output_bytes: bytes, scratch_bytes: scratch, in_place, clearance, accesses });
        }
        (input, steps)
    })
}

proptest! {
    #[test]
    fn nothing_live_overlaps_and_the_bound_holds((input, steps) in networks()) {
        for overlap in Overlap::ALL {
            check_overlapping(overlap, input, &steps);
        }
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
