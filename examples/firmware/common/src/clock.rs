//! The cycle counter as a clock.

use cortex_m::peripheral::{DCB, DWT};
use stitchkit_runtime::board::Clock;

/// The core's 32-bit cycle counter, extended to 64 bits. Armv7-M and Armv8-M Mainline have one; it must be read at least once
/// in 2^32 cycles, which is every 25 s at 168 MHz. It stands still in QEMU, where the runtime's check finds it stopped.
#[derive(Debug)]
pub struct CycleCounter {
    hz: u32,
    last: u32,
    wraps: u32,
}

impl CycleCounter {
    /// Starts the counter of a core that runs at `hz`.
    #[must_use]
    pub fn start(mut dcb: DCB, mut dwt: DWT, hz: u32) -> Self {
        dcb.enable_trace();
        dwt.enable_cycle_counter();
        Self { hz, last: DWT::cycle_count(), wraps: 0 }
    }
}

impl Clock for CycleCounter {
    fn hz(&self) -> u32 {
        self.hz
    }

    fn now(&mut self) -> u64 {
        let count = DWT::cycle_count();
        if count < self.last {
            self.wraps = self.wraps.wrapping_add(1);
        }
        self.last = count;
        u64::from(self.wraps) << 32 | u64::from(count)
    }
}
