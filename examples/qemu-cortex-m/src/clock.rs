//! SysTick as a 64-bit counter: 24 bits in hardware, wraps counted by its interrupt.
//!
//! Under `qemu-system-arm -icount shift=N` an instruction takes 2^N ns of virtual time, so this counts instructions.

use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::peripheral::syst::SystClkSource;
use cortex_m::peripheral::{SCB, SYST};
use cortex_m_rt::exception;
use stitchkit_runtime::board::Clock;

use crate::host::print_numbers;

/// SysTick counts down from here.
const RELOAD: u32 = 0x00FF_FFFF;

static WRAPS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    // Armv6-M has no read-modify-write; nothing else writes this.
    WRAPS.store(WRAPS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// The running SysTick.
#[derive(Debug)]
pub struct SysTickClock(());

impl SysTickClock {
    /// Starts SysTick on the core clock.
    #[must_use]
    pub fn start(mut syst: SYST) -> Self {
        syst.set_clock_source(SystClkSource::Core);
        syst.set_reload(RELOAD);
        syst.clear_current();
        syst.enable_interrupt();
        syst.enable_counter();
        // Until its first tick the counter reads 0, which would be the end of a round, not the start of one.
        while SYST::get_current() == 0 {}
        Self(())
    }
}

impl Clock for SysTickClock {
    fn hz(&self) -> u32 {
        crate::CLOCK_HZ
    }

    /// In memory once: a reading takes the same wherever it is taken, and `count` is no larger for taking more of them.
    #[inline(never)]
    fn now(&mut self) -> u64 {
        loop {
            let wraps = WRAPS.load(Ordering::Relaxed);
            let elapsed = RELOAD - SYST::get_current();
            // A wrap between the reads shows as a changed count, or as an interrupt still pending.
            if !SCB::is_pendst_pending() && WRAPS.load(Ordering::Relaxed) == wraps {
                return u64::from(wraps) * u64::from(RELOAD + 1) + u64::from(elapsed);
            }
        }
    }
}

/// Turns ticks into instructions, measured with a loop of known length.
#[derive(Debug, Clone, Copy)]
pub struct InstructionScale {
    ticks: u64,
    /// Ticks between two readings with nothing in between.
    overhead: u64,
}

/// Turns of the measured loop, two instructions each.
const TURNS: u32 = 1 << 20;

/// Turns of the loops of known length, three instructions each.
const LOOPS: [u32; 3] = [1, 1_000, 1_000_000];

impl InstructionScale {
    /// Measures `clock`; holds only if virtual time follows instructions.
    pub fn measure(clock: &mut SysTickClock) -> Self {
        let start = clock.now();
        let empty = clock.now();
        // SAFETY: the loop changes one register and the flags.
        unsafe { core::arch::asm!("2: subs {n}, {n}, #1", "bne 2b", n = inout(reg) TURNS => _) };
        let overhead = empty - start;
        Self { ticks: clock.now() - empty - overhead, overhead }
    }

    /// The counter's self-test: prints what loops of known length take, `loop EXPECTED COUNTED`.
    pub fn print_loops(&self, clock: &mut SysTickClock) {
        for turns in LOOPS {
            let start = clock.now();
            // SAFETY: the loop changes one register and the flags.
            unsafe { core::arch::asm!("2: nop", "subs {n}, {n}, #1", "bne 2b", n = inout(reg) turns => _) };
            let counted = self.instructions(clock.now() - start);
            print_numbers("loop", &[3 * turns, counted as u32]);
        }
    }

    /// Instructions between two readings `ticks` apart.
    #[must_use]
    #[inline(never)]
    pub fn instructions(&self, ticks: u64) -> u64 {
        self.count(ticks.saturating_sub(self.overhead))
    }

    /// Instructions that `ticks` stand for, the reading of the clock not subtracted.
    #[must_use]
    pub fn count(&self, ticks: u64) -> u64 {
        let loops = u64::from(TURNS) * 2;
        (ticks * loops + self.ticks / 2) / self.ticks.max(1)
    }
}
