//! Files, bundles and expected logits for tests of the binary.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs;
use std::path::PathBuf;

use stitchkit_runtime::bundle::write::{GoldenParts, write};
use stitchkit_runtime::bundle::{AlignedBytes, Bundle};
use stitchkit_runtime::exec::Executor;

use crate::synthetic;

pub mod server;

/// Files of one test, removed at its end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(test: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Logits by the runtime itself.
pub fn logits(bytes: &[u8], plan: u16, input: &[i8]) -> Vec<i8> {
    let aligned = AlignedBytes::copy_of(bytes);
    let bundle = Bundle::parse(aligned.as_slice()).unwrap();
    let mut arena = AlignedBytes::new(bundle.plan(plan).unwrap().arena_bytes as usize);
    let mut executor = Executor::new(&bundle, plan, arena.as_mut_slice()).unwrap();
    executor.input().unwrap().copy_from_slice(input);
    executor.run().unwrap().to_vec()
}

/// The synthetic bundle with golden vectors: `inputs` and what `run` (plan, input) returns for them.
pub fn bundle_with_golden(inputs: &[Vec<i8>], run: impl Fn(u16, &[i8]) -> Vec<i8>) -> Vec<u8> {
    let mut parts = synthetic::parts();
    let outputs = (0..parts.plans.len() as u16).map(|plan| inputs.iter().map(|input| run(plan, input)).collect());
    parts.golden = Some(GoldenParts { outputs: outputs.collect(), inputs: inputs.to_vec() });
    write(&parts).unwrap()
}

pub fn as_bytes(values: &[i8]) -> Vec<u8> {
    values.iter().map(|v| v.cast_unsigned()).collect()
}
