//! Buffers that outlive a step.

/// Reusable memory of training steps: after the first steps nothing is allocated any more. One workspace serves any number of
/// programs, one call at a time.
#[derive(Debug, Default)]
pub struct Workspace {}

impl Workspace {
    /// An empty workspace.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}
