//! Which plan answers a request: the runtime's law of adaptation ([`stitchkit_runtime::adapt`]), one controller per thread.

use stitchkit_runtime::adapt::{Controller, Record};
use stitchkit_runtime::bundle::Bundle;
use stitchkit_runtime::select::{Ladder, Limits, SelectError, select};

use super::Refusal;
use super::times::Times;

/// Chooses a plan for every request of one thread and learns from how long it took.
pub struct Pilot<'b> {
    bundle: &'b Bundle<'b>,
    times: &'b Times,
    ram_bytes: u32,
    margin_percent: u8,
    controller: Controller,
}

impl<'b> Pilot<'b> {
    /// A pilot that knows how long plans take on the idle machine.
    ///
    /// # Errors
    /// [`SelectError::RamTooSmall`].
    pub fn new(
        bundle: &'b Bundle<'b>,
        times: &'b Times,
        ram_bytes: u32,
        margin_percent: u8,
    ) -> Result<Self, SelectError> {
        let limits = Limits { ram_bytes, margin_percent, ..Limits::NONE };
        let controller = Controller::new(&Ladder::of(bundle, times), limits)?;
        Ok(Self { bundle, times, ram_bytes, margin_percent, controller })
    }

    /// The plan for a request that has waited `queue_us` already. Where the machine is so slow at present that no plan is
    /// expected to be in time, the fastest.
    ///
    /// # Errors
    /// [`Refusal::Deadline`] or [`Refusal::Late`] if even the idle machine would be too slow.
    pub fn choose(&mut self, deadline_us: Option<u64>, queue_us: u64) -> Result<u16, Refusal> {
        let limits = |deadline_us| Limits { deadline_us, ..self.limits() };
        let left_us = deadline_us.map(|us| us.saturating_sub(queue_us));
        if let Err(miss) = select(self.bundle, limits(left_us), self.times) {
            return Err(match select(self.bundle, limits(deadline_us), self.times) {
                Ok(_) => Refusal::Late(miss),
                Err(miss) => Refusal::Deadline(miss),
            });
        }
        self.controller.set_limits(limits(left_us)).map_err(Refusal::Deadline)?;
        Ok(self.controller.rung().plan)
    }

    /// Learns how long the chosen plan took.
    pub fn observe(&mut self, inference_us: u64) -> Record {
        let record = self.controller.observe(inference_us);
        self.times.note(self.controller.slowdown());
        record
    }

    const fn limits(&self) -> Limits {
        Limits { ram_bytes: self.ram_bytes, margin_percent: self.margin_percent, ..Limits::NONE }
    }
}
