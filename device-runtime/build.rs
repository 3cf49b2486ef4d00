//! Tells the crate whether the target has the Arm DSP instructions; the compiler has no stable `cfg` for them.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(arm_dsp)");
    if has_arm_dsp() {
        println!("cargo::rustc-cfg=arm_dsp");
    }
}

/// Armv7E-M always has them, Armv7-A too; Armv8-M only where the build names such a processor or the feature itself.
fn has_arm_dsp() -> bool {
    let target = std::env::var("TARGET").unwrap_or_default();
    if target.starts_with("thumbv7em-") || target.starts_with("armv7-") {
        return true;
    }
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let named = ["cortex-m33", "cortex-m35p", "cortex-m55", "cortex-m85", "+dsp"];
    target.starts_with("thumbv8m.main-") && named.iter().any(|name| flags.contains(name))
}
