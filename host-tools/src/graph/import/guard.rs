//! Calls into tract. Damaged files make it panic in places; here that is an error like any other.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use tract_onnx::tract_hir::internal::TractResult;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs tract code; its errors and panics become text, and panics print nothing.
pub fn guarded<T>(run: impl FnOnce() -> TractResult<T>) -> Result<T, String> {
    install_quiet_hook();
    GUARDED.set(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    GUARDED.set(false);
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(panic) => Err(format!("internal failure in tract: {}", panic_text(panic.as_ref()))),
    }
}

/// Wraps the process's panic hook once, so that panics of guarded calls on this thread stay silent.
fn install_quiet_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                previous(info);
            }
        }));
    });
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
