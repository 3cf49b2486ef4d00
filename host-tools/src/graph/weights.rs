//! Constants of a graph, read from the file when they are first needed.
//!
//! Counting, cutting and enumerating need shapes alone. A graph of several hundred megabytes is therefore imported without
//! its values; [`super::import()`] loads all of them, [`super::import_structure`] none.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock};

type Maker = Box<dyn FnOnce() -> Result<Vec<f32>, String> + Send>;

/// What was merged into a constant at import, as far as counting needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin {
    /// The file has no such constant; the values are zeros or ones that complete an operator.
    pub is_absent: bool,
    /// A batch norm was folded in.
    pub has_norm: bool,
    /// A factor per channel (layer scale) was folded in.
    pub has_scale: bool,
    /// The values are a diagonal matrix, which stands for one factor per channel.
    pub is_diagonal: bool,
    /// Elements of the file's parameters that a computed constant was made from (a table of position biases, looked up for
    /// every pair of tokens); `None` where the constant is what the file holds.
    pub made_from: Option<usize>,
}

/// A constant of known length. Reading its values through `Deref` loads them.
#[derive(Clone)]
pub struct Weights {
    shared: Arc<Shared>,
    /// What was merged into it.
    pub origin: Origin,
}

struct Shared {
    len: usize,
    values: OnceLock<Result<Box<[f32]>, String>>,
    make: Mutex<Option<Maker>>,
}

impl Weights {
    /// A constant of `len` values that `make` yields when they are first read.
    pub fn lazy(len: usize, make: impl FnOnce() -> Result<Vec<f32>, String> + Send + 'static) -> Self {
        let shared = Shared { len, values: OnceLock::new(), make: Mutex::new(Some(Box::new(make))) };
        Self { shared: Arc::new(shared), origin: Origin::default() }
    }

    /// `len` equal values that the file does not hold.
    #[must_use]
    pub fn filler(len: usize, value: f32) -> Self {
        let origin = Origin { is_absent: true, ..Origin::default() };
        Self { origin, ..Self::from(vec![value; len]) }
    }

    /// The same length of other values, computed from these when they are read.
    #[must_use]
    pub fn map(&self, change: impl FnOnce(&[f32]) -> Vec<f32> + Send + 'static) -> Self {
        let before = self.clone();
        let lazy = Self::lazy(self.len(), move || before.load().map(change));
        Self { origin: self.origin, ..lazy }
    }

    /// A single value repeated `len` times.
    #[must_use]
    pub fn spread(&self, len: usize) -> Self {
        let one = self.clone();
        let lazy = Self::lazy(len, move || Ok(vec![one.load()?.first().copied().unwrap_or(0.0); len]));
        Self { origin: self.origin, ..lazy }
    }

    /// The same values with another origin.
    #[must_use]
    pub fn with_origin(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    /// The same number for all clones of a constant, another one for every other constant that exists at the same time.
    #[must_use]
    pub fn identity(&self) -> usize {
        Arc::as_ptr(&self.shared) as usize
    }

    /// Number of values, without loading them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.len
    }

    /// Whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.len == 0
    }

    /// The values.
    ///
    /// # Errors
    /// Why they could not be read, in words.
    pub fn load(&self) -> Result<&[f32], String> {
        let values = self.shared.values.get_or_init(|| {
            let make = self.shared.make.lock().map_err(|_| "an earlier attempt to read it failed".to_owned())?.take();
            let values = make.ok_or("its values are gone")?()?;
            if values.len() != self.shared.len {
                return Err(format!("{} values where {} are expected", values.len(), self.shared.len));
            }
            Ok(values.into())
        });
        values.as_deref().map_err(Clone::clone)
    }
}

impl Deref for Weights {
    type Target = [f32];

    /// # Panics
    /// When the values cannot be read. A graph from [`super::import()`] has loaded all of its values.
    fn deref(&self) -> &[f32] {
        match self.load() {
            Ok(values) => values,
            Err(error) => panic!("weights of a structure were read: {error}"),
        }
    }
}

impl From<Vec<f32>> for Weights {
    fn from(values: Vec<f32>) -> Self {
        let len = values.len();
        let shared = Shared { len, values: OnceLock::from(Ok(values.into())), make: Mutex::new(None) };
        Self { shared: Arc::new(shared), origin: Origin::default() }
    }
}

impl From<&[f32]> for Weights {
    fn from(values: &[f32]) -> Self {
        Self::from(values.to_vec())
    }
}

impl From<Arc<[f32]>> for Weights {
    fn from(values: Arc<[f32]>) -> Self {
        Self::from(values.to_vec())
    }
}

impl FromIterator<f32> for Weights {
    fn from_iter<T: IntoIterator<Item = f32>>(values: T) -> Self {
        Self::from(values.into_iter().collect::<Vec<f32>>())
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Weights({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_made_once_and_only_when_read() {
        let made = Arc::new(Mutex::new(0));
        let count = Arc::clone(&made);
        let weights = Weights::lazy(2, move || {
            *count.lock().unwrap() += 1;
            Ok(vec![1.0, 2.0])
        });
        let doubled = weights.map(|values| values.iter().map(|value| value * 2.0).collect());
        assert_eq!((doubled.len(), *made.lock().unwrap()), (2, 0));
        assert_eq!((doubled.to_vec(), weights.to_vec()), (vec![2.0, 4.0], vec![1.0, 2.0]));
        assert_eq!(*made.lock().unwrap(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_every_time() {
        let short = Weights::lazy(3, || Ok(vec![0.0]));
        assert!(short.load().is_err() && short.map(<[f32]>::to_vec).load().is_err() && short.load().is_err());
    }
}
