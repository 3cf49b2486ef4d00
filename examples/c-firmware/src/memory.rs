//! From C's pointers to references: null, alignment and lengths are checked here and nowhere else.

use core::slice;

use crate::status::{Failure, StkStatus};

/// Boundary in bytes on which bundles and arenas start.
pub const STK_ALIGNMENT: usize = 16;

/// Not null and aligned for its type.
pub fn check<T>(pointer: *const T) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(StkStatus::NullPointer.into());
    }
    if !pointer.is_aligned() {
        return Err(Failure::new(StkStatus::Misaligned, 0, align_of::<T>() as u32, 0));
    }
    Ok(())
}

/// What `pointer` leads to.
///
/// # Safety
/// If it is neither null nor misaligned, it leads to a valid `T` that nobody changes during `'a`.
pub unsafe fn get<'a, T>(pointer: *const T) -> Result<&'a T, Failure> {
    check(pointer)?;
    // SAFETY: not null, aligned, and valid by contract.
    Ok(unsafe { &*pointer })
}

/// Writes `value` to where `pointer` leads.
///
/// # Safety
/// If it is neither null nor misaligned, it leads to memory for a `T` that nobody else uses.
pub unsafe fn put<T>(pointer: *mut T, value: T) -> Result<(), Failure> {
    check(pointer)?;
    // SAFETY: not null, aligned, and writable by contract.
    unsafe { pointer.write(value) };
    Ok(())
}

/// The slice of `len` values at `pointer`.
///
/// # Safety
/// If it is neither null nor misaligned, it leads to `len` values that nobody changes during `'a`.
pub unsafe fn values<'a, T>(pointer: *const T, len: usize) -> Result<&'a [T], Failure> {
    check(pointer)?;
    check_len::<T>(len)?;
    // SAFETY: not null, aligned, not longer than an address space, and valid by contract.
    Ok(unsafe { slice::from_raw_parts(pointer, len) })
}

/// The slice of `len` values at `pointer`, to be changed.
///
/// # Safety
/// If it is neither null nor misaligned, it leads to `len` initialised values that nobody else uses during `'a`.
pub unsafe fn values_mut<'a, T>(pointer: *mut T, len: usize) -> Result<&'a mut [T], Failure> {
    check(pointer)?;
    check_len::<T>(len)?;
    // SAFETY: not null, aligned, not longer than an address space, and exclusive by contract.
    Ok(unsafe { slice::from_raw_parts_mut(pointer, len) })
}

/// No memory is larger than half of the address space.
fn check_len<T>(len: usize) -> Result<(), Failure> {
    match len.checked_mul(size_of::<T>()) {
        Some(bytes) if bytes <= isize::MAX as usize => Ok(()),
        _ => Err(StkStatus::OutOfRange.into()),
    }
}
