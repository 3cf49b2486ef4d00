//! Files that let a script compare a board with the host: raw int8 inputs, and one file of raw int8 outputs per plan.

use std::io;
use std::path::{Path, PathBuf};

use stitchkit_runtime::bundle::{AlignedBytes, Bundle};
use stitchkit_runtime::exec::Executor;
use stitchkit_runtime::kernels::Isa;

use crate::Rng;

/// `count` random inputs, one after another.
#[must_use]
pub fn random_inputs(bundle: &Bundle<'_>, count: usize, seed: u32) -> Vec<i8> {
    Rng::new(seed).vector(count * bundle.meta().input.len())
}

/// The file that holds the outputs of plan `plan`.
#[must_use]
pub fn output_path(prefix: &Path, plan: u16) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(format!(".{plan}.bin"));
    name.into()
}

/// Runs every plan on every input in `inputs` with `isa` and writes one file per plan.
///
/// # Errors
/// An [`io::Error`] of the files, or of kind [`io::ErrorKind::InvalidData`] if a plan does not run.
pub fn write_outputs(bundle: &Bundle<'_>, inputs: &[i8], isa: Isa, prefix: &Path) -> io::Result<()> {
    for plan in 0..bundle.plan_count() {
        let outputs = plan_outputs(bundle, plan, inputs, isa)?;
        std::fs::write(output_path(prefix, plan), bytemuck::cast_slice(&outputs))?;
    }
    Ok(())
}

fn plan_outputs(bundle: &Bundle<'_>, plan: u16, inputs: &[i8], isa: Isa) -> io::Result<Vec<i8>> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let arena_bytes = bundle.plan(plan).map_or(0, |p| p.arena_bytes as usize);
    let mut arena = AlignedBytes::new(arena_bytes);
    let mut executor = Executor::with_isa(bundle, plan, arena.as_mut_slice(), isa).map_err(invalid)?;
    let mut outputs = Vec::new();
    for input in inputs.chunks_exact(bundle.meta().input.len()) {
        executor.input().map_err(invalid)?.copy_from_slice(input);
        outputs.extend_from_slice(executor.run().map_err(invalid)?);
    }
    Ok(outputs)
}
