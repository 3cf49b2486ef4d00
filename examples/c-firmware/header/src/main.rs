//! Writes `stitchkit.h` from the library's source; with `--check` only compares, and fails if the file is out of date.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let config = cbindgen::Config::from_file(package.join("cbindgen.toml"))?;
    let mut header = Vec::new();
    cbindgen::generate_with_config(&package, config)?.write(&mut header);
    let path = package.join("stitchkit.h");
    if std::env::args().nth(1).as_deref() != Some("--check") {
        std::fs::write(&path, header)?;
        return Ok(());
    }
    if std::fs::read(&path)? == header {
        return Ok(());
    }
    Err(format!("{} is out of date: run `cargo run -p generate-header` in examples/c-firmware", path.display()).into())
}
