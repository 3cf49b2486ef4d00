//! Runs the kernel conformance cases with every variant this processor has.
#![no_std]
#![no_main]

use board::{host, memory::Memory, report_panics, say};
use cortex_m_rt::entry;
use stitchkit_conformance::{Isa, LARGEST_CASE_BYTES, run_all};

report_panics!();

#[entry]
fn main() -> ! {
    let Some(memory) = Memory::take() else { host::exit(1) };
    let Some(buffer) = memory.arena.get_mut(..LARGEST_CASE_BYTES) else {
        say!("{LARGEST_CASE_BYTES} bytes needed, {} free", memory.arena.len());
        host::exit(1)
    };
    let (mut passed, mut failed) = (0, 0);
    for &isa in Isa::available() {
        let tally = run_all(isa, buffer, |case, golden, result| match result {
            Ok(hash) => say!("{}: {}: {hash:#010x}, golden {golden:#010x}", isa.name(), case.name),
            Err(error) => say!("{}: {}: {error}", isa.name(), case.name),
        });
        say!("{}: {} passed, {} failed", isa.name(), tally.passed, tally.failed);
        passed += tally.passed;
        failed += tally.failed;
    }
    say!("conformance: {passed} passed, {failed} failed");
    host::exit(usize::from(failed != 0 || passed == 0))
}
