//! Writes the files that `boards.sh` gives to a board or compares it with.

use std::error::Error;
use std::path::Path;

use stitchkit_runtime::bundle::{AlignedBytes, Bundle};
use stitchkit_runtime::kernels::Isa;
use stitchkit_tests::{every_op, logits, resnet8, tiny};

const USAGE: &str = "usage: board-files bundle resnet8|dscnn|mobilenetv1|autoencoder|every-op OUT
       board-files inputs BUNDLE COUNT OUT
       board-files logits BUNDLE INPUTS OUT-PREFIX
       board-files table BUNDLE";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["bundle", "resnet8", out] => std::fs::write(out, resnet8::bundle()?)?,
        ["bundle", "dscnn", out] => std::fs::write(out, tiny::dscnn()?)?,
        ["bundle", "mobilenetv1", out] => std::fs::write(out, tiny::mobilenetv1()?)?,
        ["bundle", "autoencoder", out] => std::fs::write(out, tiny::autoencoder()?)?,
        ["bundle", "every-op", out] => std::fs::write(out, every_op::bundle()?)?,
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
        _ => return Err(USAGE.into()),
    }
    Ok(())
}

fn print_table(bundle: &Bundle<'_>) {
    println!("input_bytes {}", bundle.meta().input.len());
    println!("output_bytes {}", bundle.meta().output.len());
    println!("least_arena_bytes {}", bundle.plans().map(|plan| plan.arena_bytes).min().unwrap_or(0));
    for (index, plan) in bundle.plans().enumerate() {
        println!("plan {index}: {}: {} bytes of arena, {} MACs", plan.path, plan.arena_bytes, plan.macs);
    }
}
