//! `stitchkit stack`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::Serialize;
use stitchkit::report::table::{Align, Table, grouped};
use stitchkit::stack::{self, StackBound};

use super::{LimitsNotMet, Ui, units};

/// Arguments of `stitchkit stack`.
///
/// Reads a firmware as it was linked, runs nothing, and says how many bytes of stack it needs at most, on any input: the
/// deepest path of calls from the reset handler on, and one exception on top. Recursion and stack pointers that are not
/// known before the program runs have no bound and are named.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Command {
    /// ELF file of a program for a Cortex-M, with its symbols.
    program: PathBuf,
    /// Exit with 3 if the program may need more than so many bytes, e.g. 4096 or 4KiB.
    #[arg(long, value_name = "BYTES", value_parser = units::bytes)]
    limit: Option<u64>,
}

const EXAMPLES: &str = "\
Examples:
  stitchkit stack target/thumbv7em-none-eabihf/release/firmware
  stitchkit stack firmware.elf --limit 4KiB           fails where the stack may be too small";

#[derive(Serialize)]
struct Report<'b> {
    stack_bound_bytes: u32,
    exception_bytes: u32,
    handler: &'b Option<String>,
    path: &'b [stack::Frame],
}

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        let name = self.program.display();
        let bound = stack::bound_of_file(&self.program).with_context(|| name.to_string())?;
        let StackBound { bytes, path, exception_bytes, handler } = &bound;
        let report = Report { stack_bound_bytes: *bytes, exception_bytes: *exception_bytes, handler, path };
        ui.print(&report, || text(&bound))?;
        match self.limit {
            Some(limit) if u64::from(*bytes) > limit => {
                bail!(LimitsNotMet(format!("{name} may need {bytes} bytes of stack, more than {limit}")))
            }
            _ => Ok(()),
        }
    }
}

fn text(bound: &StackBound) -> String {
    let mut table = Table::new(&[("bytes", Align::Right), ("function", Align::Left)]);
    for frame in &bound.path {
        table.row([grouped(frame.bytes.into()), frame.function.clone()]);
    }
    if let Some(handler) = &bound.handler {
        table.row([grouped(bound.exception_bytes.into()), format!("an exception: {handler}")]);
    }
    format!("at most {} bytes of stack\n\n{table}", grouped(bound.bytes.into()))
}
