//! The one place where a plan is chosen.

use stitchkit_runtime::bundle::Bundle;
use stitchkit_runtime::select::{Choice, Limits, Predict, SelectError, select};

/// The most accurate plan inside the limits.
///
/// # Errors
/// [`SelectError`] with the nearest miss.
pub fn choose(bundle: &Bundle<'_>, limits: Limits, predict: impl Predict) -> Result<Choice, SelectError> {
    select(bundle, limits, predict)
}
