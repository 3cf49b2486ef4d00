//! Sources over the drivers of others.

use embedded_storage::ReadStorage;
use embedded_storage::nor_flash::{NorFlashError, NorFlashErrorKind, ReadNorFlash};

use super::{Source, StorageError};

/// Largest [`ReadNorFlash::READ_SIZE`] that [`FromNorFlash`] takes.
pub const MAX_READ_SIZE: usize = 64;

/// A [`Source`] over a byte-addressed `ReadStorage`. Its errors carry no numbers of their own: code 0.
#[derive(Debug)]
pub struct FromStorage<S>(pub S);

impl<S: ReadStorage> Source for FromStorage<S> {
    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), StorageError> {
        check_bounds(offset, buffer.len(), self.0.capacity())?;
        self.0.read(offset, buffer).map_err(|_| StorageError::Device { offset, code: 0 })
    }
}

/// A [`Source`] over a `ReadNorFlash`. Ranges that are not whole read units are read through a small buffer.
///
/// Codes of [`StorageError::Device`]: 1 misaligned, 2 out of bounds, 3 other.
#[derive(Debug)]
pub struct FromNorFlash<F>(pub F);

impl<F: ReadNorFlash> FromNorFlash<F> {
    fn read_units(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.0.read(offset, buffer).map_err(|error| {
            let code = match error.kind() {
                NorFlashErrorKind::NotAligned => 1,
                NorFlashErrorKind::OutOfBounds => 2,
                _ => 3,
            };
            StorageError::Device { offset, code }
        })
    }
}

impl<F: ReadNorFlash> Source for FromNorFlash<F> {
    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), StorageError> {
        check_bounds(offset, buffer.len(), self.0.capacity())?;
        let unit = F::READ_SIZE.max(1);
        let mut bounce = [0u8; MAX_READ_SIZE];
        let too_large = StorageError::ReadSize {
            unit_bytes: unit.min(u32::MAX as usize) as u32,
            limit_bytes: MAX_READ_SIZE as u32,
        };
        let bounce = bounce.get_mut(..unit).ok_or(too_large)?;
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let within = (at as usize).checked_rem(unit).unwrap_or(0);
            let whole = if within == 0 { rest.len() - rest.len().checked_rem(unit).unwrap_or(0) } else { 0 };
            let len = if whole > 0 { whole } else { (unit - within).min(rest.len()) };
            // `len` is at most the length of `rest`.
            let Some((now, later)) = rest.split_at_mut_checked(len) else { break };
            if whole > 0 {
                self.read_units(at, now)?;
            } else {
                self.read_units(at - within as u32, bounce)?;
                now.iter_mut().zip(bounce.iter().skip(within)).for_each(|(to, from)| *to = *from);
            }
            at = at.wrapping_add(len as u32);
            rest = later;
        }
        Ok(())
    }
}

/// The range lies inside the device.
pub(super) fn check_bounds(offset: u32, len: usize, capacity: usize) -> Result<(), StorageError> {
    let end = (offset as usize).checked_add(len);
    if end.is_some_and(|end| end <= capacity) {
        return Ok(());
    }
    let clip = |bytes: usize| bytes.min(u32::MAX as usize) as u32;
    Err(StorageError::OutOfBounds { offset, len_bytes: clip(len), capacity_bytes: clip(capacity) })
}

#[cfg(test)]
mod tests {
    use embedded_storage::nor_flash::ErrorType;

    use super::*;

    /// Refuses what is not whole units of `UNIT` bytes, as drivers do.
    struct Units<const UNIT: usize> {
        bytes: Vec<u8>,
        bytes_read: usize,
    }

    impl<const UNIT: usize> ErrorType for Units<UNIT> {
        type Error = NorFlashErrorKind;
    }

    impl<const UNIT: usize> ReadNorFlash for Units<UNIT> {
        const READ_SIZE: usize = UNIT;

        fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
            if !(offset as usize).is_multiple_of(UNIT) || !bytes.len().is_multiple_of(UNIT) {
                return Err(NorFlashErrorKind::NotAligned);
            }
            let at = offset as usize;
            bytes.copy_from_slice(&self.bytes[at..at + bytes.len()]);
            self.bytes_read += bytes.len();
            Ok(())
        }

        fn capacity(&self) -> usize {
            self.bytes.len()
        }
    }

    fn reads_any_range<const UNIT: usize>() {
        let bytes: Vec<u8> = (0..128u8).collect();
        let mut source = FromNorFlash(Units::<UNIT> { bytes: bytes.clone(), bytes_read: 0 });
        for start in 0..40usize {
            for len in 0..40usize {
                let mut buffer = vec![0xEE; len];
                source.0.bytes_read = 0;
                source.read(start as u32, &mut buffer).expect("inside the device");
                assert_eq!(buffer, bytes[start..start + len], "{start} {len} in units of {UNIT}");
                let units = (start + len).div_ceil(UNIT) - start / UNIT;
                assert!(source.0.bytes_read <= units * UNIT, "reads no unit twice");
            }
        }
        let beyond = StorageError::OutOfBounds { offset: 100, len_bytes: 29, capacity_bytes: 128 };
        assert_eq!(source.read(100, &mut [0; 29]), Err(beyond));
    }

    #[test]
    fn any_range_is_read_whatever_the_read_size() {
        reads_any_range::<1>();
        reads_any_range::<4>();
        reads_any_range::<64>();
        let mut large = FromNorFlash(Units::<128> { bytes: vec![0; 128], bytes_read: 0 });
        let refused = StorageError::ReadSize { unit_bytes: 128, limit_bytes: 64 };
        assert_eq!(large.read(0, &mut [0; 1]), Err(refused));
    }
}
