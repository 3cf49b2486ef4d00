//! Names the network to microflow's macro, which takes a literal path, and the linker's script.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=STITCHKIT_TFLITE");
    let path = env::var("STITCHKIT_TFLITE")
        .map_err(|_| "STITCHKIT_TFLITE names no network; use `stitchkit bench --microflow`")?;
    let path = fs::canonicalize(&path).map_err(|error| format!("STITCHKIT_TFLITE={path}: {error}"))?;
    println!("cargo::rerun-if-changed={}", path.display());
    let text = format!("/// The network.\n#[microflow_macros::model({path:?})]\nstruct Network;\n");
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("network.rs"), text)?;
    println!("cargo::rustc-link-arg-bins=--nmagic");
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    Ok(())
}
