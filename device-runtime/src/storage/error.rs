//! What can go wrong between a storage device and its reader.

use core::fmt;

use embedded_hal::spi::ErrorKind;
use embedded_storage::nor_flash::{NorFlashError, NorFlashErrorKind};

/// Why bytes could not be read. Reading again is always allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageError {
    /// The SPI bus or its chip select failed.
    Spi {
        /// What the bus driver reports.
        kind: ErrorKind,
        /// First byte that was to be read; 0 for commands without an address.
        offset: u32,
    },
    /// A read past the end of the device.
    OutOfBounds {
        /// First byte asked for.
        offset: u32,
        /// Bytes asked for.
        len_bytes: u32,
        /// Bytes on the device.
        capacity_bytes: u32,
    },
    /// Nothing answers: the identification reads as all zeros or all ones.
    NoDevice {
        /// Manufacturer, type, capacity code.
        id: [u8; 3],
    },
    /// The identification does not state a capacity that this driver knows; give it with `SpiNor::with_capacity`.
    UnknownCapacity {
        /// Manufacturer, type, capacity code.
        id: [u8; 3],
    },
    /// The device was still busy after the longest wait.
    Busy {
        /// Its status register.
        status: u8,
        /// Time waited.
        waited_us: u32,
    },
    /// The device reads in units larger than the adapter takes.
    ReadSize {
        /// Bytes of a unit.
        unit_bytes: u32,
        /// Largest unit taken.
        limit_bytes: u32,
    },
    /// A driver of others failed.
    Device {
        /// First byte that was to be read.
        offset: u32,
        /// The driver's number for what happened; 0 if it has none.
        code: u32,
    },
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spi { kind, offset } => write!(f, "SPI at byte {offset}: {kind}"),
            Self::OutOfBounds { offset, len_bytes, capacity_bytes } => {
                write!(f, "{len_bytes} bytes at {offset} are outside a device of {capacity_bytes} bytes")
            }
            Self::NoDevice { id: [a, b, c] } => {
                write!(f, "no flash answers, its identification reads {a:02x} {b:02x} {c:02x}")
            }
            Self::UnknownCapacity { id: [a, b, c] } => {
                write!(f, "flash {a:02x} {b:02x} {c:02x} does not state a known capacity")
            }
            Self::Busy { status, waited_us } => {
                write!(f, "the flash is busy after {waited_us} us, status {status:#04x}")
            }
            Self::ReadSize { unit_bytes, limit_bytes } => {
                write!(f, "the device reads units of {unit_bytes} bytes, at most {limit_bytes} are supported")
            }
            Self::Device { offset, code } => write!(f, "storage driver at byte {offset}: code {code}"),
        }
    }
}

impl core::error::Error for StorageError {}

impl NorFlashError for StorageError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::OutOfBounds { .. } => NorFlashErrorKind::OutOfBounds,
            _ => NorFlashErrorKind::Other,
        }
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for StorageError {
    fn format(&self, f: defmt::Formatter<'_>) {
        match *self {
            Self::Spi { kind, offset } => defmt::write!(f, "SPI at byte {}: {}", offset, defmt::Display2Format(&kind)),
            Self::OutOfBounds { offset, len_bytes, capacity_bytes } => {
                defmt::write!(f, "{} bytes at {} are outside {}", len_bytes, offset, capacity_bytes);
            }
            Self::NoDevice { id } => defmt::write!(f, "no flash answers, id {}", id),
            Self::UnknownCapacity { id } => defmt::write!(f, "flash of unknown capacity, id {}", id),
            Self::Busy { status, waited_us } => {
                defmt::write!(f, "flash busy after {} us, status {}", waited_us, status)
            }
            Self::ReadSize { unit_bytes, .. } => defmt::write!(f, "read units of {} bytes", unit_bytes),
            Self::Device { offset, code } => defmt::write!(f, "storage driver at byte {}: code {}", offset, code),
        }
    }
}
