//! The conformance cases on the host, and against arithmetic written a second time.

#[path = "kernels/wide.rs"]
mod wide;
#[path = "kernels/wide_tokens.rs"]
mod wide_tokens;

use std::collections::HashSet;

use stitchkit_conformance::{
    CASES, Isa, LARGEST_CASE_BYTES, Tally, buffer_bytes, cases, execute, fnv1a, operands, run_all,
};
use stitchkit_runtime::bundle::AlignedBytes;

fn buffer() -> AlignedBytes {
    AlignedBytes::new(LARGEST_CASE_BYTES)
}

#[test]
fn every_variant_of_this_processor_gives_the_golden_hashes() {
    for &isa in Isa::available() {
        let mut failures = Vec::new();
        let tally = run_all(isa, buffer().as_mut_slice(), |case, golden, result| {
            failures.push(format!("{}: {}: golden {golden:#010x}, got {result:#010x?}", isa.name(), case.name));
        });
        assert_eq!(tally, Tally { passed: CASES.len() as u32, failed: 0 }, "{}", failures.join("\n"));
    }
}

#[test]
fn the_reference_equals_wide_integer_arithmetic() {
    let (mut theirs, mut ours) = (buffer(), buffer());
    for case in CASES {
        let want = wide::output(case, &operands(case, theirs.as_mut_slice()).expect("the buffer is large enough"));
        let mut operands = operands(case, ours.as_mut_slice()).expect("the buffer is large enough");
        let got = execute(case, Isa::Reference, &mut operands).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(got, want, "{}", case.name);
    }
}

#[test]
fn the_golden_hashes_are_those_of_wide_integer_arithmetic() {
    let mut buffer = buffer();
    for (case, golden) in cases() {
        let operands = operands(case, buffer.as_mut_slice()).expect("the buffer is large enough");
        assert_eq!(fnv1a(&wide::output(case, &operands)), golden, "{}", case.name);
    }
}

#[test]
fn every_case_fits_a_small_board_and_has_a_name_and_seed_of_its_own() {
    let most = CASES.iter().map(buffer_bytes).max().unwrap_or(0);
    assert!(most <= LARGEST_CASE_BYTES, "{most}");
    assert_eq!(CASES.iter().map(|case| case.name).collect::<HashSet<_>>().len(), CASES.len());
    assert_eq!(CASES.iter().map(|case| case.seed).collect::<HashSet<_>>().len(), CASES.len());
}

/// A case whose output is nearly constant would let many wrong kernels pass.
#[test]
fn outputs_vary_except_where_the_case_is_about_a_constant() {
    const CONSTANT: [&str; 17] = [
        "clamped to one value",
        "constant input and weights",
        "highest sums",
        "lowest sums",
        "highest sums over 1024 taps",
        "largest multiplier, shift 1",
        "largest multiplier, shift 62",
        "add, largest constants",
        "average pool, zero multiplier",
        "softmax, all equal",
        "softmax, flat table",
        "layer norm, largest shift and gains",
        "layer norm, saturated",
        "attention, all lowest",
        "attention, zero multiplier",
        "attention, least shift",
        "attention, largest shift",
    ];
    let mut buffer = buffer();
    let mut dull = Vec::new();
    for case in CASES.iter().filter(|case| !CONSTANT.contains(&case.name)) {
        let output = wide::output(case, &operands(case, buffer.as_mut_slice()).expect("the buffer is large enough"));
        let distinct = output.iter().collect::<HashSet<_>>().len();
        if distinct < (output.len() / 8).clamp(1, 6) {
            dull.push(format!("{}: {distinct} distinct values among {}", case.name, output.len()));
        }
    }
    assert!(dull.is_empty(), "{}", dull.join("\n"));
}
