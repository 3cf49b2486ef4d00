//! Lines on standard error.

use std::fmt;
use std::io::Write;

/// Writes a line to the log; see [`line`].
#[macro_export]
macro_rules! log {
    ($($part:tt)*) => { $crate::log::line(format_args!($($part)*)) };
}

/// Writes one line to standard error. A log that cannot be written never ends a service: `eprintln!` would panic.
pub fn line(text: fmt::Arguments<'_>) {
    let _ = std::io::stderr().write_all(format!("stitchkit-device: {text}\n").as_bytes());
}
