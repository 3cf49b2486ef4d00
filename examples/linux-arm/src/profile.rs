//! Reporting how fast this machine runs a bundle, for `stitchkit profile`.

use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::path::Path;

use stitchkit_runtime::board::SystemClock;
use stitchkit_runtime::bundle::{AlignedBytes, Bundle};
use stitchkit_runtime::profile::{Measuring, PROBE_BYTES, Record, TickUnit, report};

use crate::args::ProfileArgs;
use crate::failure::Failure;
use crate::machine;
use crate::runner::How;

/// Runs every plan that fits the memory and prints the report, line by line.
///
/// # Errors
/// [`Failure::Failed`] if the bundle cannot be used, the clock stands still or the output is closed;
/// [`Failure::Limits`] if no plan fits.
pub fn run(args: &ProfileArgs, output: &mut impl Write) -> Result<(), Failure> {
    let file = read(&args.bundle)?;
    let bundle = Bundle::parse(file.as_slice()).map_err(|error| Failure::at(&args.bundle, error))?;
    let free = machine::free_memory_bytes().map_or(u32::MAX, |bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
    let limit = args.memory_bytes.unwrap_or(free);
    let in_memory = bundle.plans().map(|plan| plan.arena_bytes).filter(|&bytes| bytes <= limit);
    let Some(most) = in_memory.max() else {
        let least = bundle.plans().map(|plan| plan.arena_bytes).min().unwrap_or(0);
        return Err(Failure::Limits(format!("the smallest plan needs {least} bytes of arena, {limit} are available")));
    };
    let mut arena = AlignedBytes::new((most as usize).max(PROBE_BYTES));
    let name = machine::name();
    let how = How::new(crate::args::Backend::Kernels, args.isa.as_deref(), NonZeroUsize::MIN)?;
    let measuring = Measuring { board: &name, unit: TickUnit::Time, isa: how.isa, repetitions: args.repeat };
    // A report that cannot be written is given up at the end: the measurement itself cannot be interrupted.
    let mut written = Ok(());
    let mut sink = |record: Record<'_>| {
        if written.is_ok() {
            written = writeln!(output, "{record}");
        }
    };
    let mut clock = SystemClock::default();
    // The bundle's place is the file system, whose free space says little.
    let free_bytes = || (limit, u32::MAX);
    report((file.as_slice(), &bundle), measuring, arena.as_mut_slice(), &mut clock, free_bytes, &mut sink)
        .map_err(Failure::because)?;
    Ok(written?)
}

/// The bundle in the file, or on standard input for `-`.
fn read(path: &Path) -> Result<AlignedBytes, Failure> {
    if path != Path::new("-") {
        return std::fs::read(path).map(|bytes| AlignedBytes::copy_of(&bytes)).map_err(|e| Failure::at(path, e));
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).map_err(|error| Failure::at(path, error))?;
    Ok(AlignedBytes::copy_of(&bytes))
}
