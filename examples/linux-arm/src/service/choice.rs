//! The one place where a plan is chosen.

use stitchkit_runtime::bundle::Bundle;
use stitchkit_runtime::select::{Choice, Limits, SelectError, Speed, select};

/// The most accurate plan inside the limits.
///
/// # Errors
/// [`SelectError`] with the nearest miss.
pub fn choose(bundle: &Bundle<'_>, limits: Limits, speed: Option<Speed>) -> Result<Choice, SelectError> {
    select(bundle, limits, speed)
}
