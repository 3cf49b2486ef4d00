//! Tells the crate whether the target has the Arm DSP and vector (MVE, NEON) instructions, for which the compiler has no stable
//! `cfg`, and whether the kernels without them are of use.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(a32, arm_dsp, arm_mve, arm_neon, arm_v8m, neon, portable, thumb, thumb1)");
    let architecture = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    // Code is in the 32-bit encoding unless a function asks for the other.
    if std::env::var("TARGET").is_ok_and(|target| target.starts_with("armv7-")) {
        println!("cargo::rustc-cfg=a32");
        println!("cargo::rustc-cfg=arm_neon");
    }
    if has_arm_dsp() {
        println!("cargo::rustc-cfg=arm_dsp");
    } else if architecture == "arm" || architecture == "x86_64" {
        println!("cargo::rustc-cfg=portable");
        let target = std::env::var("TARGET").unwrap_or_default();
        if target.starts_with("thumbv") {
            println!("cargo::rustc-cfg=thumb");
        }
        // Only the 16-bit instructions and few others.
        if target.starts_with("thumbv6m-") || target.starts_with("thumbv8m.base-") {
            println!("cargo::rustc-cfg=thumb1");
        }
    }
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if architecture == "aarch64" && features.split(',').any(|feature| feature == "neon") {
        println!("cargo::rustc-cfg=neon");
    }
    if std::env::var("TARGET").is_ok_and(|target| target.starts_with("thumbv8m.main-")) {
        println!("cargo::rustc-cfg=arm_v8m");
    }
    if has_arm_mve() {
        println!("cargo::rustc-cfg=arm_mve");
    }
}

/// Armv7E-M always has them, Armv7-A too; Armv8-M only where the build names such a processor or the feature itself.
fn has_arm_dsp() -> bool {
    let target = std::env::var("TARGET").unwrap_or_default();
    if target.starts_with("thumbv7em-") || target.starts_with("armv7-") {
        return true;
    }
    target.starts_with("thumbv8m.main-")
        && flags_name(&["cortex-m33", "cortex-m35p", "cortex-m55", "cortex-m85", "+dsp"])
}

/// Only where the build names a processor that always has them; those have the DSP extension too.
fn has_arm_mve() -> bool {
    let target = std::env::var("TARGET").unwrap_or_default();
    target.starts_with("thumbv8m.main-") && has_arm_dsp() && flags_name(&["cortex-m55", "cortex-m85"])
}

/// The compiler flags name one of these processors or features and do not take the extension away.
fn flags_name(names: &[&str]) -> bool {
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    !flags.contains("-dsp") && !flags.contains("+nodsp") && names.iter().any(|name| flags.contains(name))
}
