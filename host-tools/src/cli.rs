//! Command line: arguments, exit codes, and the verbs.

mod assemble;
mod bench;
mod boards;
mod bundle_file;
mod eval;
mod export;
mod fleet;
mod init;
mod inspect;
mod merge;
mod operators;
mod output_file;
mod plan_choice;
mod profile;
mod report;
mod run;
mod select;
mod stack;
mod stages;
mod stitches;
mod students;
#[cfg(feature = "train")]
mod train;
mod ui;
mod units;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use ui::Ui;

/// Limits cannot be met: exit code 3, so that scripts can tell it from a failure.
#[derive(Debug)]
pub struct LimitsNotMet(pub String);

impl std::fmt::Display for LimitsNotMet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LimitsNotMet {}

const EXIT_FAILURE: u8 = 1;
const EXIT_LIMITS: u8 = 3;

/// Stitch a family of ONNX networks into one int8 bundle that fits every board.
///
/// A family is a folder with a family.toml and its ONNX anchors. `export` cuts the anchors, joins them with stitching layers,
/// keeps the plans worth having and writes one bundle. The other verbs work on that bundle.
#[derive(Debug, Parser)]
#[command(name = "stitchkit", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    output: OutputOptions,
}

/// Options every verb takes.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct OutputOptions {
    /// Print one JSON document (with a `schema_version`) instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// No progress bars.
    #[arg(long, short, global = true)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  stitchkit init small.onnx large.onnx --out family   write a family.toml
  stitchkit export models/digits --out digits.stk     make a bundle
  stitchkit train models/digits --out better          train its stitches; then `export better`
  stitchkit students models/digits --out students     a family of students of one large network
  stitchkit assemble models/digits --memory 2KiB      the best network for given limits
  stitchkit report models/digits --html digits.html   plots and tables in one page
  stitchkit inspect digits.stk                        what is in it
  stitchkit run digits.stk --input seven.png          one inference
  stitchkit select digits.stk --memory 8KiB           which plan a board with 8 KiB gets

Exit codes: 0 ok, 1 failure, 2 wrong usage, 3 limits cannot be met.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a family.toml for ONNX anchors: find their blocks and stages, choose the stitching space.
    Init(init::Command),
    /// List the ONNX operators that anchors may hold, or run the standard's own test cases for them.
    Operators(operators::Command),
    /// List every stitch of a family: path, MACs or FLOPs, parameters, bytes. Reads no weights.
    Stitches(stitches::Command),
    /// Make narrower and shorter students of one large network: a family without a second pretrained network.
    Students(students::Command),
    /// Train all stitches of a family together, on the host, and write the better family.
    #[cfg(feature = "train")]
    Train(Box<train::Command>),
    /// Make a bundle from a family: cut, stitch, evaluate, quantize, plan memory, write.
    Export(export::Command),
    /// From limits to a bundle with the one plan that meets them best, without training.
    Assemble(assemble::Command),
    /// Say for many boards and limits which plan of a bundle each gets, and what it costs there.
    Fleet(fleet::Command),
    /// Write one HTML page with the plots, paths and tables of a family or a bundle.
    Report(report::Command),
    /// Show what a bundle holds: plans, memory, weights shared and saved, accuracy.
    Inspect(inspect::Command),
    /// Run one inference.
    Run(run::Command),
    /// Measure the int8 accuracy of every plan on labelled images.
    Eval(eval::Command),
    /// Count instructions, memory and code size on emulated Cortex-M boards, beside other engines.
    Bench(bench::Command),
    /// Say how much stack a linked firmware for a Cortex-M needs at most, without running it.
    Stack(stack::Command),
    /// Join what --shard of `stitches` and `eval` measured on many machines.
    Merge(merge::Command),
    /// Measure a board and write its board file.
    Profile(profile::Command),
    /// Say which plan given limits get, and why the others lose.
    Select(select::Command),
    /// Check golden vectors, and that all backends agree step by step.
    Verify(verify::Command),
}

/// Runs the verb and turns its result into an exit code.
pub fn run(arguments: Cli) -> ExitCode {
    let ui = Ui::new(arguments.output);
    let result = match arguments.verb {
        Verb::Init(command) => command.run(&ui),
        Verb::Operators(command) => command.run(&ui),
        Verb::Stitches(command) => command.run(&ui),
        Verb::Students(command) => command.run(&ui),
        #[cfg(feature = "train")]
        Verb::Train(command) => command.run(&ui),
        Verb::Export(command) => command.run(&ui),
        Verb::Assemble(command) => command.run(&ui),
        Verb::Fleet(command) => command.run(&ui),
        Verb::Report(command) => command.run(&ui),
        Verb::Inspect(command) => command.run(&ui),
        Verb::Run(command) => command.run(&ui),
        Verb::Eval(command) => command.run(&ui),
        Verb::Bench(command) => command.run(&ui),
        Verb::Stack(command) => command.run(&ui),
        Verb::Merge(command) => command.run(&ui),
        Verb::Profile(command) => command.run(&ui),
        Verb::Select(command) => command.run(&ui),
        Verb::Verify(command) => command.run(&ui),
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  caused by: {cause}");
    }
    if error.is::<LimitsNotMet>() { ExitCode::from(EXIT_LIMITS) } else { ExitCode::from(EXIT_FAILURE) }
}
