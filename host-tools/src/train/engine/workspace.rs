//! Buffers that outlive a step.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// Reusable memory of training steps: after the first steps nothing large is allocated any more. One workspace serves any
/// number of programs, one call at a time.
#[derive(Debug, Default)]
pub struct Workspace {
    /// Packed constants of the running program.
    pub(super) packed: Vec<f32>,
    /// Gradient sums of each lane.
    pub(super) lanes: Vec<Vec<f32>>,
    /// Memory of each thread that is not at work.
    pub(super) idle: Mutex<Vec<Scratch>>,
}

impl Workspace {
    /// An empty workspace.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a job with some thread's scratch memory.
    pub(super) fn with_scratch<R>(idle: &Mutex<Vec<Scratch>>, job: impl FnOnce(&mut Scratch) -> R) -> R {
        let lock = || idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut scratch = lock().pop().unwrap_or_default();
        let result = job(&mut scratch);
        lock().push(scratch);
        result
    }
}

/// `values` with at least `length` elements.
pub(super) fn grown(values: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if values.len() < length {
        values.resize(length, 0.0);
    }
    &mut values[..length]
}

/// Reusable buffers of one thread.
#[derive(Debug, Default)]
pub struct Scratch {
    free: Vec<Vec<f32>>,
    copies: [Vec<f32>; 2],
}

/// Some elements of a pooled allocation.
#[derive(Debug, Default)]
pub struct Buffer {
    values: Vec<f32>,
    len: usize,
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}

impl Scratch {
    /// A buffer of arbitrary values, from the smallest allocation that fits.
    pub fn take(&mut self, len: usize) -> Buffer {
        let fitting = (0..self.free.len()).filter(|&i| self.free[i].len() >= len).min_by_key(|&i| self.free[i].len());
        let values = match fitting {
            Some(i) => self.free.swap_remove(i),
            None => vec![0.0; len],
        };
        Buffer { values, len }
    }

    /// Returns a buffer to the pool.
    pub fn give(&mut self, buffer: Buffer) {
        if !buffer.values.is_empty() {
            self.free.push(buffer.values);
        }
    }

    /// Two buffers of arbitrary values for a kernel's own use.
    pub fn copies(&mut self, lens: [usize; 2]) -> [&mut [f32]; 2] {
        let [a, b] = &mut self.copies;
        [grown(a, lens[0]), grown(b, lens[1])]
    }
}
