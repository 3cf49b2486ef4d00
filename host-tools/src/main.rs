//! The `stitchkit` command. One file per verb in `cli/`.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = cli::Cli::parse();
    cli::run(arguments)
}
