//! Writes the files that `boards.sh` gives to a board or compares it with, and the bundle of `arm-instructions.sh`.

use std::error::Error;
use std::path::Path;

use stitchkit_runtime::bundle::{AlignedBytes, Bundle};
use stitchkit_runtime::kernels::Isa;
use stitchkit_tests::builder::infer;
use stitchkit_tests::streaming::stream_all_plans;
use stitchkit_tests::{every_op, logits, networks, random_graph, resnet8};

const USAGE: &str = "usage: board-files bundle resnet8|every-op|random|networks OUT
       board-files inputs BUNDLE COUNT OUT
       board-files logits BUNDLE INPUTS OUT-PREFIX
       board-files table BUNDLE
       board-files print BUNDLE INPUTS
       board-files streamed BUNDLE";

/// Graphs of the bundle `random`, and the seed of the first.
const RANDOM_GRAPHS: u32 = 32;
const RANDOM_SEED: u32 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["bundle", "resnet8", out] => std::fs::write(out, resnet8::bundle()?)?,
        ["bundle", "every-op", out] => std::fs::write(out, every_op::bundle()?)?,
        ["bundle", "networks", out] => std::fs::write(out, networks::bundle()?)?,
        ["bundle", "random", out] => std::fs::write(out, random_graph::batch(RANDOM_SEED, RANDOM_GRAPHS)?)?,
        ["inputs", bundle, count, out] => {
            let bytes = AlignedBytes::copy_of(&std::fs::read(bundle)?);
            let inputs = logits::random_inputs(&Bundle::parse(bytes.as_slice())?, count.parse()?, 1);
            std::fs::write(out, bytemuck::cast_slice(&inputs))?;
        }
        ["logits", bundle, inputs, prefix] => {
            let bytes = AlignedBytes::copy_of(&std::fs::read(bundle)?);
            let inputs = std::fs::read(inputs)?;
            let inputs = bytemuck::cast_slice(&inputs);
            logits::write_outputs(&Bundle::parse(bytes.as_slice())?, inputs, Isa::best(), Path::new(prefix))?;
        }
        ["table", bundle] => {
            let bytes = AlignedBytes::copy_of(&std::fs::read(bundle)?);
            print_table(&Bundle::parse(bytes.as_slice())?);
        }
        ["print", bundle, inputs] => {
            let bytes = AlignedBytes::copy_of(&std::fs::read(bundle)?);
            print_logits(&Bundle::parse(bytes.as_slice())?, bytemuck::cast_slice(&std::fs::read(inputs)?));
        }
        ["streamed", bundle] => {
            let file = std::fs::read(bundle)?;
            for share in [0.0, 0.1, 1.0] {
                print_streamed(&file, share)?;
            }
        }
        _ => return Err(USAGE.into()),
    }
    Ok(())
}

/// A line per plan and input, as the C firmware prints them.
fn print_logits(bundle: &Bundle<'_>, inputs: &[i8]) {
    for plan in 0..bundle.plan_count() {
        for (index, input) in inputs.chunks_exact(bundle.meta().input.len()).enumerate() {
            let logits: Vec<_> = infer(bundle, plan, Isa::best(), input).iter().map(i8::to_string).collect();
            println!("plan {plan} input {index}: {}", logits.join(" "));
        }
    }
}

/// Streams every plan and prints what that took.
fn print_streamed(file: &[u8], share: f64) -> Result<(), Box<dyn Error>> {
    stream_all_plans::<true>(file, share, 2)?;
    for (plan, run) in stream_all_plans::<false>(file, share, 1)?.iter().enumerate() {
        let (read, least) = (run.needs.read_bytes, run.needs.least_window_bytes);
        println!(
            "plan {plan} streamed in a window of {} bytes (at least {least}): equal, {read} bytes in {} reads",
            run.window_bytes, run.reads
        );
    }
    Ok(())
}

fn print_table(bundle: &Bundle<'_>) {
    println!("input_bytes {}", bundle.meta().input.len());
    println!("output_bytes {}", bundle.meta().output.len());
    println!("least_arena_bytes {}", bundle.plans().map(|plan| plan.arena_bytes).min().unwrap_or(0));
    println!("most_fast_bytes {}", bundle.plans().map(|plan| plan.fast_bytes).max().unwrap_or(0));
    let features: Vec<String> = bundle.features().iter().map(|name| format!("stitchkit-runtime/{name}")).collect();
    println!("features {}", features.join(","));
    for (index, plan) in bundle.plans().enumerate() {
        println!("plan {index}: {}: {} bytes of arena, {} MACs", plan.path, plan.arena_bytes, plan.macs);
    }
}
