//! Running plans.

use stitchkit_runtime::exec::{Arena, ExecError, Executor};
use stitchkit_runtime::kernels::Isa;

use crate::bundle::{StkBundle, opened};
use crate::memory::{get, put, values_mut};
use crate::status::{Failure, StkDetail, StkStatus, report};

/// A plan in an arena. Its fields belong to the library. Zero it before its first use.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StkSession {
    bundle: *const StkBundle,
    arena: *mut u8,
    arena_bytes: usize,
    fast: *mut u8,
    fast_bytes: usize,
    plan: u16,
}

impl StkSession {
    /// The session's plan, ready to run.
    ///
    /// # Safety
    /// The session was started, its bundle handle and arena are still valid, and nobody else uses the arena during `'a`.
    unsafe fn executor<'a>(&self) -> Result<Executor<'a, 'static>, Failure> {
        if self.bundle.is_null() {
            return Err(StkStatus::NotOpen.into());
        }
        // SAFETY: by contract.
        let (bundle, main) = unsafe { (opened(self.bundle)?, values_mut(self.arena, self.arena_bytes)?) };
        let fast = match self.fast_bytes {
            0 => &mut [],
            // SAFETY: by contract.
            len => unsafe { values_mut(self.fast, len)? },
        };
        Ok(Executor::with_arena(bundle, self.plan, Arena { fast, main }, Isa::best())?)
    }
}

/// Prepares plan `plan` of an open bundle in `arena`. `detail` may be null. On failure the session is as it was.
///
/// # Safety
/// `session` leads to memory for a session; `handle` is zeroed or was opened; `arena` to `arena_bytes` initialised bytes. Handle and
/// arena stay valid while the session is used, and nobody else uses the arena during its calls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_start(
    session: *mut StkSession,
    handle: *const StkBundle,
    plan: u16,
    arena: *mut u8,
    arena_bytes: usize,
    detail: *mut StkDetail,
) -> StkStatus {
    // SAFETY: what the caller promises.
    unsafe { stk_start_divided(session, handle, plan, core::ptr::null_mut(), 0, arena, arena_bytes, detail) }
}

/// As `stk_start`, on a board with `fast_bytes` bytes of a faster memory at `fast`. A plan that fits there lies there; one that was laid out
/// for a fast memory of at most this size lies in both, `StkPlan.fast_bytes` of it in the fast one; any other lies in `arena`.
///
/// # Safety
/// As `stk_start`; `fast` leads to `fast_bytes` initialised bytes, under the same conditions as the arena, and may be null if there are 0.
#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)]
pub unsafe extern "C" fn stk_start_divided(
    session: *mut StkSession,
    handle: *const StkBundle,
    plan: u16,
    fast: *mut u8,
    fast_bytes: usize,
    arena: *mut u8,
    arena_bytes: usize,
    detail: *mut StkDetail,
) -> StkStatus {
    let start = || {
        let started = StkSession { bundle: handle, arena, arena_bytes, fast, fast_bytes, plan };
        // SAFETY: what the caller promises.
        unsafe {
            opened(handle)?;
            started.executor()?;
            put(session, started)
        }
    };
    // SAFETY: what the caller promises.
    unsafe { report(start(), detail) }
}

/// Makes plan `plan` the session's; copies no weight. `detail` may be null. On failure the session keeps its plan.
///
/// # Safety
/// `session` is zeroed or was started.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_switch(session: *mut StkSession, plan: u16, detail: *mut StkDetail) -> StkStatus {
    let switch = || {
        // SAFETY: what the caller promises.
        unsafe {
            let switched = StkSession { plan, ..*get(session)? };
            switched.executor()?;
            put(session, switched)
        }
    };
    // SAFETY: what the caller promises.
    unsafe { report(switch(), detail) }
}

/// Gives the place of the int8 input in the arena, `input_len` values. Running overwrites it: fill it before every run.
///
/// # Safety
/// `session` is zeroed or was started; `input` leads to a writable pointer, `len` to a writable length or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_input(session: *mut StkSession, input: *mut *mut i8, len: *mut usize) -> StkStatus {
    let find = || {
        // SAFETY: what the caller promises.
        unsafe {
            let mut executor = get(session)?.executor()?;
            let place = executor.input()?;
            if !len.is_null() {
                put(len, place.len())?;
            }
            put(input, place.as_mut_ptr())
        }
    };
    // SAFETY: null is allowed.
    unsafe { report(find(), core::ptr::null_mut()) }
}

/// Runs the session's plan on the input in the arena and gives the int8 output, `output_len` values in the arena, valid until the
/// next input is filled. `detail` may be null.
///
/// # Safety
/// `session` is zeroed or was started; `output` leads to a writable pointer, `len` to a writable length or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_run(
    session: *mut StkSession,
    output: *mut *const i8,
    len: *mut usize,
    detail: *mut StkDetail,
) -> StkStatus {
    let run = || {
        // SAFETY: what the caller promises.
        unsafe {
            let mut executor = get(session)?.executor()?;
            let values = executor.run().map_err(|error: ExecError| Failure::from(error))?;
            if !len.is_null() {
                put(len, values.len())?;
            }
            put(output, values.as_ptr())
        }
    };
    // SAFETY: what the caller promises.
    unsafe { report(run(), detail) }
}
