//! Build script of every board here: the board's `memory.x` for the linker, and the bundle for `bundle_in_flash!`.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=memory.x");
    println!("cargo::rerun-if-env-changed=STITCHKIT_BUNDLE");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::copy(PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("memory.x"), out.join("memory.x"))?;
    println!("cargo::rustc-link-search={}", out.display());
    for argument in ["--nmagic", "-Tlink.x", "-Tdefmt.x"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    let path = env::var("STITCHKIT_BUNDLE")
        .map_err(|_| "set STITCHKIT_BUNDLE to the bundle that goes into flash, such as ../../../digits.stk")?;
    let path = fs::canonicalize(&path).map_err(|error| format!("STITCHKIT_BUNDLE={path}: {error}"))?;
    println!("cargo::rerun-if-changed={}", path.display());
    println!("cargo::rustc-env=STITCHKIT_BUNDLE={}", path.display());
    Ok(())
}
