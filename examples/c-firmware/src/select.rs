//! Choosing a plan.

use core::ffi::c_void;

use stitchkit_runtime::board::Clock;
use stitchkit_runtime::select::{Limits, Speed, probe, select};

use crate::bundle::{StkBundle, opened};
use crate::memory::{get, put, values_mut};
use crate::status::{Failure, StkDetail, StkStatus, report};

/// What an inference may use.
#[repr(C)]
pub struct StkLimits {
    /// Time one inference may take in microseconds; 0 for no deadline.
    pub deadline_us: u64,
    /// The board's speed from `stk_probe`; 0 for unknown, which only serves without a deadline.
    pub cost_per_second: u64,
    /// Bytes of arena available, of the main memory where there are two.
    pub ram_bytes: u32,
    /// Reserve kept below the deadline, in percent of it; 10 is a good value.
    pub margin_percent: u8,
    /// Bytes of arena available in a faster memory beside the main one; 0 where there is none.
    pub fast_bytes: u32,
}

/// The plan chosen.
#[repr(C)]
pub struct StkChoice {
    /// Predicted time of one inference in microseconds; 0 without a speed.
    pub latency_us: u64,
    /// Bytes of arena it needs.
    pub arena_bytes: u32,
    /// How many of them lie in the fast memory.
    pub in_fast_bytes: u32,
    /// Its accuracy in parts per million.
    pub accuracy_ppm: u32,
    /// Index of the plan.
    pub plan: u16,
}

/// A free-running counter of the board.
#[repr(C)]
pub struct StkClock {
    /// Returns ticks since an arbitrary start, without wrapping; gets `context`.
    pub now: Option<unsafe extern "C" fn(context: *mut c_void) -> u64>,
    /// Passed to `now`.
    pub context: *mut c_void,
    /// Ticks per second.
    pub hz: u32,
}

/// Finds the most accurate plan inside the limits; of equally accurate ones the cheapest. `detail` may be null.
///
/// # Safety
/// `handle` is zeroed or was opened; `limits` is valid; `choice` leads to writable memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_select(
    handle: *const StkBundle,
    limits: *const StkLimits,
    choice: *mut StkChoice,
    detail: *mut StkDetail,
) -> StkStatus {
    let choose = || {
        // SAFETY: what the caller promises.
        let (bundle, limits) = unsafe { (opened(handle)?, get(limits)?) };
        let deadline_us = (limits.deadline_us > 0).then_some(limits.deadline_us);
        let StkLimits { ram_bytes, fast_bytes, margin_percent, .. } = *limits;
        let wanted = Limits { ram_bytes, fast_bytes, deadline_us, margin_percent };
        let cost_per_second = limits.cost_per_second;
        let speed = (cost_per_second > 0).then_some(Speed { cost_per_second });
        let found = select(bundle, wanted, speed)?;
        let found = StkChoice {
            latency_us: found.latency_us.unwrap_or(0),
            arena_bytes: found.arena_bytes,
            in_fast_bytes: found.in_fast_bytes,
            accuracy_ppm: found.accuracy_ppm,
            plan: found.plan,
        };
        // SAFETY: what the caller promises.
        unsafe { put(choice, found) }
    };
    // SAFETY: what the caller promises.
    unsafe { report(choose(), detail) }
}

/// Measures the board's speed by running the cheapest plan in `arena`. Refuses a clock that does not run.
///
/// # Safety
/// `handle` is zeroed or was opened; `arena` leads to `arena_bytes` bytes that nobody else uses; `clock` is valid and its `now` may be
/// called with its `context`; `cost_per_second` leads to writable memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_probe(
    handle: *const StkBundle,
    arena: *mut u8,
    arena_bytes: usize,
    clock: *const StkClock,
    cost_per_second: *mut u64,
) -> StkStatus {
    let measure = || -> Result<(), Failure> {
        // SAFETY: what the caller promises.
        let (bundle, arena, clock) = unsafe { (opened(handle)?, values_mut(arena, arena_bytes)?, get(clock)?) };
        let now = clock.now.ok_or(StkStatus::NullPointer)?;
        let speed = probe(bundle, arena, &mut ForeignClock { now, context: clock.context, hz: clock.hz })?;
        // SAFETY: what the caller promises.
        unsafe { put(cost_per_second, speed.cost_per_second) }
    };
    // SAFETY: null is allowed.
    unsafe { report(measure(), core::ptr::null_mut()) }
}

struct ForeignClock {
    now: unsafe extern "C" fn(*mut c_void) -> u64,
    context: *mut c_void,
    hz: u32,
}

impl Clock for ForeignClock {
    fn hz(&self) -> u32 {
        self.hz
    }

    fn now(&mut self) -> u64 {
        // SAFETY: the caller of `stk_probe` promises that this may be called with that context.
        unsafe { (self.now)(self.context) }
    }
}
