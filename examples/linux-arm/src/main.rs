//! `stitchkit-device` runs a stitchkit bundle on Linux-class ARM, or on any other Linux.
//!
//! It maps the bundle into memory, finds out what the machine has, picks the most accurate plan that fits, runs it on the
//! inputs and prints int8 logits. The same bundle and input give the same logits on every processor and with both backends.
//!
//! ```text
//! stitchkit-device family.stk --list
//! stitchkit-device family.stk --verify
//! stitchkit-device family.stk --input image.npy --memory 64KiB --latency 30ms
//! stitchkit-device family.stk --input batch.raw --plan 3 --repeat 20 --json
//! ```
//!
//! Results go to standard output, everything else to standard error. Exit status: 0 success, 1 failure, 2 wrong usage,
//! 3 the limits cannot be met.
//!
//! Build for a board, from the root of the workspace (drop `--features tract` for the step loop alone, which is smaller):
//!
//! ```text
//! cargo build --profile device --target aarch64-unknown-linux-gnu -p stitchkit-device --features tract
//! ```

mod args;
mod failure;
mod input;
mod json;
mod machine;
mod runner;
mod tasks;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use memmap2::Mmap;
use stitchkit_runtime::bundle::Bundle;

use args::Command;
use failure::Failure;

fn main() -> ExitCode {
    let mut output = BufWriter::new(std::io::stdout().lock());
    let result = run(&mut output).and_then(|()| output.flush().map_err(Failure::from));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.message() {
                eprintln!("stitchkit-device: {text}");
            }
            failure.exit_code()
        }
    }
}

fn run(output: &mut impl Write) -> Result<(), Failure> {
    let args = match args::parse(lexopt::Parser::from_env())? {
        Command::Help => return Ok(output.write_all(args::HELP.as_bytes())?),
        Command::Version => return Ok(writeln!(output, "stitchkit-device {}", env!("CARGO_PKG_VERSION"))?),
        Command::Work(args) => args,
    };
    let bytes = Arc::new(map(&args.bundle)?);
    let bundle = Bundle::parse(&bytes).map_err(|error| Failure::at(&args.bundle, error))?;
    tasks::run(&args, &bytes, &bundle, output)
}

/// Maps `path` read-only. Pages are read on first use and can be dropped again under memory pressure.
fn map(path: &Path) -> Result<Mmap, Failure> {
    let file = File::open(path).map_err(|error| Failure::at(path, error))?;
    // SAFETY: the map is only read. Whoever truncates the file meanwhile ends this process by SIGBUS; replacing it by rename
    // is safe.
    unsafe { Mmap::map(&file) }.map_err(|error| Failure::at(path, error))
}
