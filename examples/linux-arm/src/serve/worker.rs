//! The threads that run plans.

use stitchkit_runtime::bundle::Bundle;

use super::queue::Queue;
use crate::log;
use crate::service::{Engine, Refusal, Service};

/// Answers jobs for the life of the process. A new version of the service is taken up between two jobs; until then the old
/// bundle stays mapped.
pub fn run(service: &Service, queue: &Queue) {
    loop {
        let view = service.view();
        let is_stale = || service.version() != view.version;
        match Bundle::parse((*view.generation.file).as_ref()) {
            Ok(bundle) => {
                let mut engine = Engine::new(service, &view, &bundle);
                while let Some(job) = queue.pop(is_stale) {
                    // Whoever waited for it may be gone.
                    let _ = job.reply.try_send(engine.answer(&job.question));
                }
            }
            Err(error) => {
                log!("{}: {error}, although it was valid when loaded", view.generation.file.path().display());
                while let Some(job) = queue.pop(is_stale) {
                    service.metrics.count_error(Refusal::Changed.kind());
                    let _ = job.reply.try_send(Err(Refusal::Changed));
                }
            }
        }
    }
}
