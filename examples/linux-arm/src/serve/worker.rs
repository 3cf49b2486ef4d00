//! The threads that run plans.

use super::queue::Queue;
use crate::log;
use crate::service::{Engine, Service};

/// Answers jobs for the life of the process. A new version of the service is taken up between two jobs; until then the old
/// bundle stays mapped.
pub fn run(service: &Service, queue: &Queue) {
    loop {
        let view = service.view();
        let is_stale = || service.version() != view.version;
        match view.generation.parse() {
            Ok(bundle) => {
                let mut engine = Engine::new(service, &view, &bundle);
                while let Some(job) = queue.pop(is_stale) {
                    // Whoever waited for it may be gone.
                    let _ = job.reply.try_send(engine.answer(&job.question));
                }
            }
            Err(refusal) => {
                log!("{}: {refusal}", view.generation.file.path().display());
                while let Some(job) = queue.pop(is_stale) {
                    service.metrics.count_error(refusal.kind());
                    let _ = job.reply.try_send(Err(refusal.clone()));
                }
            }
        }
    }
}
