//! Damaged, foreign and hostile bundles: refused or harmless, never a panic. Run without optimisation too: overflow checks
//! are on there.

#[path = "bundle_damage/outcome.rs"]
mod outcome;

use std::sync::LazyLock;

use outcome::{outputs, parse_and_run, parts_outcome};
use proptest::prelude::*;
use serde_json::Value;
use stitchkit_runtime::bundle::write::{BundleParts, write};
use stitchkit_runtime::bundle::{AlignedBytes, Bundle, BundleError, PlanFault, SectionId, StepFault, VERSION_MAJOR};
use stitchkit_tests::image::{Image, Section};
use stitchkit_tests::{builder::Builder, every_op};

static INTACT: LazyLock<Vec<u8>> = LazyLock::new(|| every_op::bundle().expect("the fixture is valid"));

fn intact() -> Vec<u8> {
    INTACT.clone()
}

fn parse_error(bytes: &[u8]) -> Option<BundleError> {
    Bundle::parse(AlignedBytes::copy_of(bytes).as_slice()).err()
}

/// Bytes that no checksum covers: the padding between sections.
fn is_padding(image: &Image, file: &[u8], at: usize) -> bool {
    let mut start = 32 + 20 * image.sections.len();
    for section in &image.sections {
        let next = start.next_multiple_of(16);
        if (start..next).contains(&at) {
            return true;
        }
        start = next + section.bytes.len();
    }
    (start..file.len()).contains(&at)
}

#[test]
fn the_intact_bundle_gives_its_golden_outputs_and_survives_being_taken_apart() {
    let file = intact();
    assert_eq!(Image::read(&file).write(), file);
    let bytes = AlignedBytes::copy_of(&file);
    let bundle = Bundle::parse(bytes.as_slice()).expect("intact");
    let golden = bundle.golden().expect("the fixture has golden vectors");
    assert_eq!(outputs(&bundle).concat(), golden_outputs(&bundle, golden.count()));
}

fn golden_outputs(bundle: &Bundle<'_>, count: usize) -> Vec<Vec<i8>> {
    let golden = bundle.golden().expect("the fixture has golden vectors");
    let of_plan = |plan| (0..count).map(move |index| golden.output(plan, index).expect("in range").to_vec());
    (0..bundle.plan_count()).flat_map(of_plan).collect()
}

#[test]
fn a_changed_byte_is_refused_unless_it_is_padding_and_then_changes_nothing() {
    let file = intact();
    let image = Image::read(&file);
    let original = parse_and_run(&file).expect("intact");
    let mut bytes = AlignedBytes::copy_of(&file);
    for at in 0..file.len() {
        for pattern in [0x01, 0x80, 0xFF] {
            bytes.as_mut_slice()[at] ^= pattern;
            match parse_and_run(bytes.as_slice()) {
                Ok(outputs) => {
                    assert!(is_padding(&image, &file, at) && outputs == original, "byte {at} ^ {pattern:#x}")
                }
                Err(_) => assert!(!is_padding(&image, &file, at), "byte {at} ^ {pattern:#x}: padding was refused"),
            }
            bytes.as_mut_slice()[at] ^= pattern;
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    let bytes = AlignedBytes::copy_of(&intact());
    for len in 0..bytes.as_slice().len() {
        assert!(Bundle::parse(&bytes.as_slice()[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn bytes_after_the_bundle_are_ignored() {
    let file = intact();
    let longer = [file.as_slice(), &[0xFF; 100]].concat();
    assert_eq!(parse_and_run(&longer), parse_and_run(&file));
}

#[test]
fn a_misaligned_bundle_is_refused() {
    let shifted = AlignedBytes::copy_of(&[&[0; 4], intact().as_slice()].concat());
    assert_eq!(Bundle::parse(&shifted.as_slice()[4..]).err(), Some(BundleError::Misaligned));
}

#[test]
fn an_unknown_optional_section_is_skipped_and_an_unknown_required_one_refused() {
    let original = parse_and_run(&intact());
    for position in [0, 3, 9] {
        let mut image = Image::read(&intact());
        image.sections.insert(position, Section { tag: *b"NEWS", flags: 0, bytes: vec![1, 2, 3] });
        assert_eq!(parse_and_run(&image.write()), original, "at {position}");
        image.sections[position].flags = 1;
        let error = Some(BundleError::UnknownRequiredSection { tag: *b"NEWS" });
        assert_eq!(parse_error(&image.write()), error, "at {position}");
    }
}

#[test]
fn a_newer_minor_version_is_read_and_another_major_version_refused() {
    let mut image = Image::read(&intact());
    image.minor += 7;
    assert_eq!(parse_and_run(&image.write()), parse_and_run(&intact()));
    for found in [0, VERSION_MAJOR + 1, u16::MAX] {
        image.major = found;
        assert_eq!(parse_error(&image.write()), Some(BundleError::Version { found, known: VERSION_MAJOR }));
    }
}

#[test]
fn a_missing_or_repeated_section_is_named() {
    for &id in SectionId::ALL {
        let mut image = Image::read(&intact());
        let at = image.sections.iter().position(|s| s.tag == id.tag()).expect("the fixture has every section");
        let section = image.sections.remove(at);
        let error = parse_error(&image.write());
        // Without the section that says so, no filters are woven.
        let is_missed = id.is_required() && id != SectionId::Woven;
        assert_eq!(error, is_missed.then_some(BundleError::MissingSection(id)), "{id:?}");
        image.sections.extend([section.clone(), section]);
        let index = image.sections.len() as u16 - 1;
        assert_eq!(parse_error(&image.write()), Some(BundleError::SectionTable { index }), "{id:?}");
    }
}

/// The fixture's parts, for changes at the level of records.
fn parts() -> BundleParts {
    let mut builder: Builder = every_op::builder();
    builder.parts_mut().clone()
}

#[rustfmt::skip]
const BOUNDARIES: [i64; 21] = [
    i32::MIN as i64, -(1 << 21) - 1, -129, -128, -1, 0, 1, 2, 3, 4, 7, 8, 127, 128, 255, 256, 32_768, 65_535, 1 << 30,
    i32::MAX as i64, u32::MAX as i64,
];

/// Calls `visit` with a copy of `value` for each number in it and each boundary that number is set to.
fn for_each_changed_number(value: &Value, visit: &mut impl FnMut(Value)) {
    fn paths(value: &Value, path: String, found: &mut Vec<String>) {
        match value {
            Value::Number(_) => found.push(path),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, item)| paths(item, format!("{path}/{i}"), found));
            }
            Value::Object(fields) => {
                fields.iter().for_each(|(name, field)| paths(field, format!("{path}/{name}"), found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    paths(value, String::new(), &mut found);
    for path in found {
        for boundary in BOUNDARIES {
            let mut changed = value.clone();
            *changed.pointer_mut(&path).expect("the path was just found") = boundary.into();
            visit(changed);
        }
    }
}

#[test]
fn any_number_in_a_step_may_take_any_boundary_value() {
    let mut parts = parts();
    let mut accepted = 0;
    for block in 0..parts.blocks.len() {
        for step in 0..parts.blocks[block].steps.len() {
            let original = parts.blocks[block].steps[step];
            for_each_changed_number(&serde_json::to_value(original).expect("steps serialise"), &mut |changed| {
                // Values that do not fit the field's type never reach a file.
                let Ok(changed) = serde_json::from_value(changed) else { return };
                parts.blocks[block].steps[step] = changed;
                accepted += usize::from(parts_outcome(&parts).is_ok());
            });
            parts.blocks[block].steps[step] = original;
        }
    }
    assert!(accepted > 100, "only {accepted} changes were accepted, so hardly anything ran");
}

#[test]
fn any_number_in_a_plan_may_take_any_boundary_value() {
    let values = || BOUNDARIES.into_iter().filter_map(|value| u32::try_from(value).ok());
    let mut accepted = 0;
    let mut try_parts = |change: &dyn Fn(&mut BundleParts)| {
        let mut changed = parts();
        change(&mut changed);
        accepted += usize::from(parts_outcome(&changed).is_ok());
    };
    for plan in 0..parts().plans.len() {
        for value in values() {
            try_parts(&|p| p.plans[plan].input_offset = value);
            try_parts(&|p| p.plans[plan].arena_bytes = value);
            try_parts(&|p| p.plans[plan].fast_bytes = value);
            for block in 0..parts().plans[plan].blocks.len() {
                try_parts(&|p| p.plans[plan].blocks[block] = value as u16);
            }
            for step in 0..parts().plans[plan].layout.len() {
                try_parts(&|p| p.plans[plan].layout[step].output = value);
                try_parts(&|p| p.plans[plan].layout[step].scratch = value);
            }
        }
    }
    assert!(accepted > 20, "only {accepted} changes were accepted, so hardly anything ran");
}

#[test]
fn a_division_through_something_is_refused_and_any_other_runs() {
    let parts = parts();
    let divided = parts.plans.iter().position(|plan| plan.fast_bytes > 0).expect("the fixture has a divided plan");
    let original = parts_outcome(&parts).expect("intact");
    let with = |fast_bytes| {
        let mut changed = parts.clone();
        changed.plans[divided].fast_bytes = fast_bytes;
        changed
    };
    let arena_bytes = parts.plans[divided].arena_bytes;
    let mut accepted = Vec::new();
    for fast_bytes in (0..arena_bytes + 40).chain([u32::MAX - 15, u32::MAX]) {
        match parts_outcome(&with(fast_bytes)) {
            Ok(outputs) => {
                assert_eq!(outputs, original, "{fast_bytes}");
                accepted.push(fast_bytes);
            }
            Err(error) => {
                let index = divided as u16;
                assert_eq!(error, BundleError::Plan { index, fault: PlanFault::Split }, "{fast_bytes}");
            }
        }
    }
    assert!(accepted.contains(&0) && accepted.contains(&parts.plans[divided].fast_bytes));
    assert!(accepted.iter().all(|bytes| bytes % 16 == 0 && *bytes <= arena_bytes));
    assert!(accepted.len() < arena_bytes as usize / 16, "something lies across every division: {accepted:?}");
}

#[test]
fn a_section_of_divisions_has_four_bytes_per_plan() {
    for len in [0, 4, 11, 13, 16] {
        let mut image = Image::read(&intact());
        image.section_mut(*b"FAST").expect("the fixture has every section").bytes.resize(len, 0);
        assert_eq!(parse_error(&image.write()), Some(BundleError::Optional(SectionId::Fast)), "{len}");
    }
}

#[test]
fn only_fully_connected_layers_have_woven_filters() {
    let honest = parts();
    let steps = honest.blocks.iter().flat_map(|block| &block.steps).count() as u16;
    let [woven] = honest.woven[..] else { panic!("the fixture has one such layer") };
    for index in (0..steps).filter(|&index| index != woven) {
        let error = write(&BundleParts { woven: vec![index], ..honest.clone() }).expect_err("not such a layer");
        assert_eq!(error, BundleError::Step { index, fault: StepFault::Geometry });
    }
    let beyond = steps.next_multiple_of(8);
    let error = write(&BundleParts { woven: vec![beyond], ..honest }).expect_err("no such step");
    assert_eq!(error, BundleError::Record { section: SectionId::Woven, index: beyond });
}

#[test]
fn a_section_of_woven_filters_has_a_bit_per_step() {
    let mut image = Image::read(&intact());
    let len = image.section_mut(*b"WOVN").expect("the fixture has every section").bytes.len();
    for len in [len - 1, len + 1, len + 16] {
        image.section_mut(*b"WOVN").expect("the fixture has every section").bytes.resize(len, 0);
        let error = BundleError::Record { section: SectionId::Woven, index: 0 };
        assert_eq!(parse_error(&image.write()), Some(error), "{len}");
    }
}

#[test]
fn the_writer_refuses_what_a_reader_would() {
    let mut parts = parts();
    parts.plans[0].arena_bytes /= 2;
    assert!(matches!(write(&parts), Err(BundleError::Plan { index: 0, .. })));
}

/// `PROPTEST_CASES` can raise the number of cases, for a longer hunt.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(3000), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    /// The checksums match, so every check behind them is reached.
    #[test]
    fn hostile_sections_with_matching_checksums_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        let mut image = Image::read(&intact());
        let count = image.sections.len();
        for (section, at, value) in changes {
            let bytes = &mut image.sections[section.index(count)].bytes;
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = parse_and_run(&image.write());
    }

    /// Records are small beside weights; aim at them.
    #[test]
    fn hostile_records_with_matching_checksums_never_panic(
        tag in prop::sample::select(vec![*b"META", *b"BLCK", *b"STEP", *b"PLAN", *b"FAST"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
    ) {
        let mut image = Image::read(&intact());
        let bytes = &mut image.section_mut(tag).expect("the fixture has every section").bytes;
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = parse_and_run(&image.write());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_and_run(&bytes);
        let _ = parse_and_run(&[b"STITCHK\0".as_slice(), &bytes].concat());
    }
}
