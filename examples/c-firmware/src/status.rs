//! What functions return.

use core::ffi::{CStr, c_char};

use stitchkit_runtime::board::ClockError;
use stitchkit_runtime::bundle::BundleError;
use stitchkit_runtime::exec::ExecError;
use stitchkit_runtime::select::{ProbeError, SelectError};

/// What became of a call.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StkStatus {
    /// Done.
    Ok = 0,
    /// A pointer is null.
    NullPointer = 1,
    /// Bundle, arena or handle do not start on the boundary they need. `need`: the boundary in bytes.
    Misaligned = 2,
    /// The handle is zeroed: `stk_open` or `stk_start` did not succeed on it.
    NotOpen = 3,
    /// A length or an index is impossible. `need`: the right length, or how many there are.
    OutOfRange = 4,
    /// The bytes are no bundle.
    NotABundle = 5,
    /// The bundle was written by another major version of the format. `need`: the version known, `have`: the one found.
    Version = 6,
    /// The file ends early. `need`, `have`: bytes.
    Truncated = 7,
    /// A checksum does not match. `index`: byte offset of what was summed.
    Damaged = 8,
    /// The bundle breaks a rule of the format. `index`: the record, step, block or plan concerned.
    Invalid = 9,
    /// The bundle has no such plan. `index`: the plan, `have`: plans present.
    NoSuchPlan = 10,
    /// No plan, or not this one, fits the memory. `need`, `have`: bytes.
    OutOfMemory = 11,
    /// Plans fit the memory, but none meets the deadline. `need`: predicted microseconds of the fastest, `have`: usable ones.
    DeadlineTooShort = 12,
    /// A deadline was given without a speed, or the clock does not run.
    SpeedUnknown = 13,
    /// The bundle has no golden vectors or pixel tables, or none of this index.
    Absent = 14,
    /// The bundle's bytes were changed after `stk_open`.
    Changed = 15,
}

/// Numbers to a status; the status says which mean something. The others are 0.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StkDetail {
    /// What is concerned.
    pub index: u32,
    /// What would have been needed.
    pub need: u32,
    /// What there was.
    pub have: u32,
}

/// A status with its numbers.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    status: StkStatus,
    detail: StkDetail,
}

impl Failure {
    /// A status with numbers.
    pub const fn new(status: StkStatus, index: u32, need: u32, have: u32) -> Self {
        Self { status, detail: StkDetail { index, need, have } }
    }
}

impl From<StkStatus> for Failure {
    fn from(status: StkStatus) -> Self {
        Self::new(status, 0, 0, 0)
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        let invalid = |index: u16| Self::new(StkStatus::Invalid, index.into(), 0, 0);
        match error {
            BundleError::Misaligned => Self::new(StkStatus::Misaligned, 0, crate::STK_ALIGNMENT as u32, 0),
            BundleError::NotABundle => StkStatus::NotABundle.into(),
            BundleError::Version { found, known } => Self::new(StkStatus::Version, 0, known.into(), found.into()),
            BundleError::Truncated { have_bytes, need_bytes } => {
                Self::new(StkStatus::Truncated, 0, need_bytes, have_bytes)
            }
            BundleError::Checksum { offset } => Self::new(StkStatus::Damaged, offset, 0, 0),
            BundleError::SectionTable { index }
            | BundleError::Operator { index, .. }
            | BundleError::Record { index, .. }
            | BundleError::Block { index }
            | BundleError::Step { index, .. }
            | BundleError::Plan { index, .. } => invalid(index),
            _ => invalid(0),
        }
    }
}

impl From<ExecError> for Failure {
    fn from(error: ExecError) -> Self {
        match error {
            ExecError::NoSuchPlan { plan, plans } => Self::new(StkStatus::NoSuchPlan, plan.into(), 0, plans.into()),
            ExecError::ArenaTooSmall { need_bytes, have_bytes } => {
                Self::new(StkStatus::OutOfMemory, 0, need_bytes, have_bytes)
            }
            ExecError::ArenaMisaligned => Self::new(StkStatus::Misaligned, 0, crate::STK_ALIGNMENT as u32, 0),
            ExecError::Kernel { step, .. } => Self::new(StkStatus::Changed, step.into(), 0, 0),
            _ => StkStatus::Changed.into(),
        }
    }
}

impl From<SelectError> for Failure {
    fn from(error: SelectError) -> Self {
        let clip = |us: u64| us.min(u32::MAX.into()) as u32;
        match error {
            SelectError::RamTooSmall { smallest_bytes, available_bytes } => {
                Self::new(StkStatus::OutOfMemory, 0, smallest_bytes, available_bytes)
            }
            SelectError::DeadlineTooShort { fastest_us, usable_us } => {
                Self::new(StkStatus::DeadlineTooShort, 0, clip(fastest_us), clip(usable_us))
            }
            _ => StkStatus::SpeedUnknown.into(),
        }
    }
}

impl From<ProbeError> for Failure {
    fn from(error: ProbeError) -> Self {
        match error {
            ProbeError::Clock(ClockError::Stopped | ClockError::NoFrequency) => StkStatus::SpeedUnknown.into(),
            ProbeError::Exec(error) => error.into(),
            _ => StkStatus::SpeedUnknown.into(),
        }
    }
}

/// The status of a result; its numbers go to `detail` unless that is null.
///
/// # Safety
/// `detail` is null or leads to a writable [`StkDetail`].
pub unsafe fn report(result: Result<(), Failure>, detail: *mut StkDetail) -> StkStatus {
    let failure = result.err().unwrap_or(StkStatus::Ok.into());
    if !detail.is_null() && detail.is_aligned() {
        // SAFETY: not null, aligned, and writable by contract.
        unsafe { detail.write(failure.detail) };
    }
    failure.status
}

/// An English sentence for a status, NUL-terminated, in static memory; for unknown numbers too.
#[unsafe(no_mangle)]
pub extern "C" fn stk_status_text(status: u32) -> *const c_char {
    #[cfg(feature = "reachable-panic")]
    assert!(status < 100);
    let text: &'static CStr = match status {
        0 => c"done",
        1 => c"a pointer is null",
        2 => c"a pointer is not aligned as it must be",
        3 => c"the handle has not been opened",
        4 => c"a length or an index is impossible",
        5 => c"the bytes are no stitchkit bundle",
        6 => c"the bundle was written by another version of the format",
        7 => c"the bundle is truncated",
        8 => c"a checksum of the bundle does not match",
        9 => c"the bundle breaks a rule of the format",
        10 => c"the bundle has no such plan",
        11 => c"the memory is too small",
        12 => c"no plan that fits the memory meets the deadline",
        13 => c"the board's speed is unknown, or its clock does not run",
        14 => c"the bundle does not hold what was asked for",
        15 => c"the bundle changed after it was opened",
        _ => c"unknown status",
    };
    text.as_ptr()
}
