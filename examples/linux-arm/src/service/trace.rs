//! A file with a line per inference, for `stitchkit report --html --trace`.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use stitchkit_runtime::adapt::Record;

use crate::failure::Failure;
use crate::log;

/// Where records go, if anywhere. Lines of threads do not mix.
#[derive(Debug, Default)]
pub struct Trace(Mutex<Option<File>>);

impl Trace {
    /// Writes to `path`, whose contents are replaced, or nowhere.
    ///
    /// # Errors
    /// [`Failure::Failed`] names the file.
    pub fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let file = path.map(|path| File::create(path).map_err(|error| Failure::at(path, error)));
        Ok(Self(Mutex::new(file.transpose()?)))
    }

    /// Writes one line. A file that cannot be written is given up with a line in the log: answers matter more.
    pub fn write(&self, record: &Record) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = held.as_mut() else { return };
        if let Err(error) = file.write_all(format!("{record}\n").as_bytes()) {
            log!("the trace ends here: {error}");
            *held = None;
        }
    }
}
