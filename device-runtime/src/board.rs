//! What the runtime asks of a board.

mod trigger;

pub use trigger::Trigger;

use core::fmt;

/// A free-running counter.
pub trait Clock {
    /// Ticks per second.
    fn hz(&self) -> u32;
    /// Ticks since an arbitrary start; wraps at 2^64 at the earliest.
    fn now(&mut self) -> u64;
}

/// Why a clock cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ClockError {
    /// The counter did not advance over a busy loop.
    Stopped,
    /// The clock claims zero ticks per second.
    NoFrequency,
}

impl fmt::Display for ClockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "the clock did not advance over a busy loop",
            Self::NoFrequency => "the clock claims zero ticks per second",
        })
    }
}

impl core::error::Error for ClockError {}

/// Turns of the busy loop after which a stopped clock is called stopped.
const SELF_TEST_TURNS: u32 = 200_000;

/// Returns once the clock has ticked.
///
/// # Errors
/// [`ClockError::Stopped`] if it does not tick within about a million instructions, [`ClockError::NoFrequency`] if it cannot be
/// converted to seconds. Emulators are known to have counters that report themselves present and stay at zero.
pub fn check_clock(clock: &mut impl Clock) -> Result<(), ClockError> {
    if clock.hz() == 0 {
        return Err(ClockError::NoFrequency);
    }
    let start = clock.now();
    for turn in 0..SELF_TEST_TURNS {
        core::hint::black_box(turn);
        if clock.now() != start {
            return Ok(());
        }
    }
    Err(ClockError::Stopped)
}

/// Converts a tick difference to microseconds, saturating.
#[must_use]
pub fn ticks_to_us(ticks: u64, hz: u32) -> u64 {
    let hz = u64::from(hz).max(1);
    let whole = (ticks / hz).saturating_mul(1_000_000);
    whole.saturating_add((ticks % hz).saturating_mul(1_000_000) / hz)
}

/// The monotonic clock of the operating system, in nanoseconds.
#[cfg(feature = "std")]
#[derive(Debug, Clone)]
pub struct SystemClock(std::time::Instant);

#[cfg(feature = "std")]
impl Default for SystemClock {
    fn default() -> Self {
        Self(std::time::Instant::now())
    }
}

#[cfg(feature = "std")]
impl Clock for SystemClock {
    fn hz(&self) -> u32 {
        1_000_000_000
    }

    fn now(&mut self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake {
        hz: u32,
        step: u64,
        ticks: u64,
    }

    impl Clock for Fake {
        fn hz(&self) -> u32 {
            self.hz
        }
        fn now(&mut self) -> u64 {
            self.ticks += self.step;
            self.ticks
        }
    }

    #[test]
    fn a_clock_that_does_not_advance_is_an_error() {
        assert_eq!(check_clock(&mut Fake { hz: 25_000_000, step: 0, ticks: 0 }), Err(ClockError::Stopped));
        assert_eq!(check_clock(&mut Fake { hz: 0, step: 1, ticks: 0 }), Err(ClockError::NoFrequency));
        assert_eq!(check_clock(&mut Fake { hz: 25_000_000, step: 1, ticks: 0 }), Ok(()));
    }

    #[test]
    fn ticks_convert_without_overflow() {
        assert_eq!(ticks_to_us(25_000_000, 25_000_000), 1_000_000);
        assert_eq!(ticks_to_us(1, 32_768), 30);
        assert_eq!(ticks_to_us(u64::MAX, 1), u64::MAX);
    }
}
