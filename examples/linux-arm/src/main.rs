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
//! stitchkit-device serve family.stk --listen 127.0.0.1:8077 --latency 30ms
//! stitchkit-device stream family.stk --pixels < frames.rgb
//! stitchkit-device profile shapes.stk
//! stitchkit-device threads family.stk
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

mod answer;
mod args;
mod bundle_file;
mod failure;
mod input;
mod json;
mod log;
mod machine;
mod profile;
mod runner;
mod serve;
mod service;
mod stream;
mod tasks;
mod threads;

use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;

use args::{Command, Storage};
use bundle_file::BundleFile;
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
        Command::Help(parts) => return Ok(output.write_all(parts.concat().as_bytes())?),
        Command::Version => return Ok(writeln!(output, "stitchkit-device {}", env!("CARGO_PKG_VERSION"))?),
        Command::Serve(args) => return serve::run(args, output),
        Command::Stream(args) => return stream::run(&args, output),
        Command::Profile(args) => return profile::run(&args, output),
        Command::Threads(args) => return threads::run(&args, output),
        Command::Work(args) => args,
    };
    let file = Arc::new(BundleFile::open(&args.bundle, Storage::Mapped)?);
    tasks::run(&args, &file, output)
}
