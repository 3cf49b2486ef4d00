//! Prints `src/golden.rs` as the scalar reference computes it now.

use stitchkit_conformance::{CASES, CaseError, Isa, LARGEST_CASE_BYTES, run_case};
use stitchkit_runtime::bundle::AlignedBytes;

fn main() -> Result<(), CaseError> {
    let mut buffer = AlignedBytes::new(LARGEST_CASE_BYTES);
    println!("//! Golden hashes, in the order of the cases; printed by `cargo run --example print-golden`.\n");
    println!("/// FNV-1a of the output of each case.\n#[rustfmt::skip]\npub(crate) const GOLDEN: &[u32] = &[");
    for case in CASES {
        println!("    {:#010x}, // {}", run_case(case, Isa::Reference, buffer.as_mut_slice())?, case.name);
    }
    println!("];");
    Ok(())
}
