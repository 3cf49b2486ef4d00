//! Opening bundles and asking what they hold.

use core::ffi::c_char;

use stitchkit_runtime::bundle::Bundle;

use crate::memory::{check, put, values, values_mut};
use crate::status::{Failure, StkDetail, StkStatus, report};

/// Words of a bundle handle.
pub const STK_BUNDLE_WORDS: usize = 64;

/// A bundle handle: memory of the caller, written by `stk_open`, never changed afterwards. Zero it before its first use.
#[repr(C)]
pub struct StkBundle {
    words: [usize; STK_BUNDLE_WORDS],
}

/// What lies in a handle. Zeroed memory has another mark, and every byte pattern is a valid mark.
#[repr(C)]
struct Opened {
    mark: usize,
    bundle: Bundle<'static>,
}

const MARK: usize = 0x5354_4B31;

const _: () = assert!(size_of::<Opened>() <= size_of::<StkBundle>(), "raise STK_BUNDLE_WORDS");
const _: () = assert!(align_of::<Opened>() <= align_of::<StkBundle>());

/// The bundle in a handle.
///
/// # Safety
/// `handle` is null, misaligned, or leads to a handle that is zeroed or was opened, whose bundle is still where it was.
pub unsafe fn opened<'a>(handle: *const StkBundle) -> Result<&'a Bundle<'static>, Failure> {
    check(handle)?;
    let opened = handle.cast::<Opened>();
    // SAFETY: aligned, and a mark is a plain number.
    let mark = unsafe { (&raw const (*opened).mark).read() };
    if mark != MARK {
        return Err(StkStatus::NotOpen.into());
    }
    // SAFETY: only `stk_open` writes the mark, after the bundle.
    Ok(unsafe { &(*opened).bundle })
}

/// Checks the bundle at `bytes` and makes `handle` refer to it. Trailing bytes are ignored. Time is linear in the
/// bundle's size, because checksums are computed.
///
/// `detail` may be null. On failure the handle is not open.
///
/// # Safety
/// `handle` leads to memory for a handle; `bytes` to `len` bytes that stay and do not change while the handle is used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_open(
    handle: *mut StkBundle,
    bytes: *const u8,
    len: usize,
    detail: *mut StkDetail,
) -> StkStatus {
    // SAFETY: what the caller promises.
    unsafe { report(open(handle, bytes, len), detail) }
}

unsafe fn open(handle: *mut StkBundle, bytes: *const u8, len: usize) -> Result<(), Failure> {
    // SAFETY: what the caller of `stk_open` promises; `Opened` fits a handle.
    unsafe {
        put(handle, StkBundle { words: [0; STK_BUNDLE_WORDS] })?;
        let bundle = Bundle::parse(values(bytes, len)?)?;
        put(handle.cast::<Opened>(), Opened { mark: MARK, bundle })
    }
}

/// What a bundle is. Texts are UTF-8 in the bundle, not NUL-terminated.
#[repr(C)]
pub struct StkInfo {
    /// Name of the family.
    pub name: *const c_char,
    /// Bytes of the name.
    pub name_len: usize,
    /// Class names, one per line.
    pub labels: *const c_char,
    /// Bytes of the class names.
    pub labels_len: usize,
    /// Bytes of the bundle.
    pub bundle_bytes: usize,
    /// Values of the input: rows x columns x channels, channels fastest.
    pub input_len: usize,
    /// Values of the output.
    pub output_len: usize,
    /// Golden vectors, 0 if there are none.
    pub golden_count: usize,
    /// `real = input_scale * (q - input_zero_point)`.
    pub input_scale: f32,
    /// Rows of the input.
    pub input_rows: u16,
    /// Columns of the input.
    pub input_columns: u16,
    /// Channels of the input.
    pub input_channels: u16,
    /// Number of plans, at least 1.
    pub plan_count: u16,
    /// The value that stands for zero.
    pub input_zero_point: i8,
}

/// Tells what the bundle is.
///
/// # Safety
/// `handle` is zeroed or was opened; `info` leads to writable memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_info(handle: *const StkBundle, info: *mut StkInfo) -> StkStatus {
    let describe = |bundle: &Bundle<'static>| {
        let meta = bundle.meta();
        StkInfo {
            name: meta.name.as_ptr().cast(),
            name_len: meta.name.len(),
            labels: meta.labels.as_ptr().cast(),
            labels_len: meta.labels.len(),
            bundle_bytes: bundle.len_bytes(),
            input_len: meta.input.len(),
            output_len: meta.output.len(),
            golden_count: bundle.golden().map_or(0, |golden| golden.count()),
            input_scale: meta.input_quant.scale,
            input_rows: meta.input.h,
            input_columns: meta.input.w,
            input_channels: meta.input.c,
            plan_count: bundle.plan_count(),
            input_zero_point: meta.input_quant.zero_point,
        }
    };
    // SAFETY: what the caller promises.
    unsafe { report(opened(handle).and_then(|bundle| put(info, describe(bundle))), core::ptr::null_mut()) }
}

/// A plan. The text is UTF-8 in the bundle, not NUL-terminated.
#[repr(C)]
pub struct StkPlan {
    /// Path through the anchors.
    pub path: *const c_char,
    /// Bytes of the path.
    pub path_len: usize,
    /// Multiply-accumulates of one inference.
    pub macs: u64,
    /// Predicted Cortex-M4 instructions of one inference.
    pub cost: u64,
    /// Bytes of arena it needs.
    pub arena_bytes: u32,
    /// How many of its first bytes were laid out for a fast memory; 0 where the layout knows of none.
    pub fast_bytes: u32,
    /// Share of right answers on the evaluation set in parts per million; 0 if unknown.
    pub accuracy_ppm: u32,
    /// `real = output_scale * (q - output_zero_point)`.
    pub output_scale: f32,
    /// The output value that stands for zero.
    pub output_zero_point: i8,
}

/// Tells about plan `plan`; plans are numbered from 0 by rising cost.
///
/// # Safety
/// `handle` is zeroed or was opened; `info` leads to writable memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_plan(handle: *const StkBundle, plan: u16, info: *mut StkPlan) -> StkStatus {
    let describe = |bundle: &Bundle<'static>| {
        let record = bundle.plan(plan).ok_or(StkStatus::NoSuchPlan)?;
        Ok(StkPlan {
            path: record.path.as_ptr().cast(),
            path_len: record.path.len(),
            macs: record.macs,
            cost: record.cost,
            arena_bytes: record.arena_bytes,
            fast_bytes: record.fast_bytes,
            accuracy_ppm: record.accuracy_ppm,
            output_scale: record.output_quant.scale,
            output_zero_point: record.output_quant.zero_point,
        })
    };
    // SAFETY: what the caller promises.
    unsafe { report(opened(handle).and_then(describe).and_then(|record| put(info, record)), core::ptr::null_mut()) }
}

/// Turns interleaved pixels, one byte per channel, into int8 input values. Both lengths are the bundle's `input_len`.
///
/// # Safety
/// `handle` is zeroed or was opened; `pixels` and `input` lead to `len` bytes each, which do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_quantize_pixels(
    handle: *const StkBundle,
    pixels: *const u8,
    input: *mut i8,
    len: usize,
) -> StkStatus {
    let convert = || {
        // SAFETY: what the caller promises.
        let (bundle, pixels, input) = unsafe { (opened(handle)?, values(pixels, len)?, values_mut(input, len)?) };
        if len != bundle.meta().input.len() {
            return Err(StkStatus::OutOfRange.into());
        }
        if bundle.quantize_pixels(pixels, input) { Ok(()) } else { Err(StkStatus::Absent.into()) }
    };
    // SAFETY: null is allowed.
    unsafe { report(convert(), core::ptr::null_mut()) }
}

/// Gives golden input `index` and what plan `plan` returns for it, both in the bundle, `input_len` and `output_len` values.
///
/// # Safety
/// `handle` is zeroed or was opened; `input` and `output` lead to writable pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_golden(
    handle: *const StkBundle,
    plan: u16,
    index: usize,
    input: *mut *const i8,
    output: *mut *const i8,
) -> StkStatus {
    let find = || {
        // SAFETY: what the caller promises.
        let golden = unsafe { opened(handle)? }.golden().ok_or(StkStatus::Absent)?;
        let vector = golden.input(index).zip(golden.output(plan, index)).ok_or(StkStatus::Absent)?;
        // SAFETY: what the caller promises.
        unsafe {
            put(input, vector.0.as_ptr())?;
            put(output, vector.1.as_ptr())
        }
    };
    // SAFETY: null is allowed.
    unsafe { report(find(), core::ptr::null_mut()) }
}
