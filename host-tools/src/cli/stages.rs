//! Progress of long jobs: one bar after the other.

use std::sync::Mutex;

use indicatif::ProgressBar;

use super::Ui;

/// The bar of the stage that is under way.
pub struct Stages<'a> {
    ui: &'a Ui,
    current: Mutex<Option<(&'static str, ProgressBar)>>,
}

impl<'a> Stages<'a> {
    /// No stage yet.
    pub fn new(ui: &'a Ui) -> Self {
        Self { ui, current: Mutex::new(None) }
    }

    /// Shows `done` of `all` units; a new stage replaces the one before.
    pub fn show(&self, stage: &'static str, done: u64, all: u64) {
        let Ok(mut current) = self.current.lock() else { return };
        match current.as_ref() {
            Some((name, bar)) if *name == stage => bar.set_position(done),
            _ => {
                if let Some((_, bar)) = current.take() {
                    bar.finish_and_clear();
                }
                let bar = self.ui.bar(all, stage);
                bar.set_position(done);
                *current = Some((stage, bar));
            }
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Ok(Some((_, bar))) = self.current.lock().map(|mut c| c.take()) {
            bar.finish_and_clear();
        }
    }
}
