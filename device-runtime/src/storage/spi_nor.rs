//! JEDEC SPI NOR flash: identification, wake-up, reading.

use embedded_hal::delay::DelayNs;
use embedded_hal::spi::{Error as _, Operation, SpiDevice};
use embedded_storage::ReadStorage;
use embedded_storage::nor_flash::{ErrorType, ReadNorFlash};

use super::adapters::check_bounds;
use super::{Source, StorageError};

/// Command bytes that practically all parts share.
mod command {
    pub const READ: u8 = 0x03;
    pub const FAST_READ: u8 = 0x0B;
    pub const READ_4_BYTE: u8 = 0x13;
    pub const FAST_READ_4_BYTE: u8 = 0x0C;
    pub const READ_STATUS: u8 = 0x05;
    pub const READ_ID: u8 = 0x9F;
    pub const RELEASE_POWER_DOWN: u8 = 0xAB;
    pub const POWER_DOWN: u8 = 0xB9;
}

/// Status register bit: a write or erase is running.
const BUSY: u8 = 1;
/// Largest device that three address bytes reach.
const THREE_BYTE_LIMIT: u32 = 1 << 24;

/// Read command to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// `0x03`: no dummy byte; parts allow it up to 20 to 50 MHz.
    Plain,
    /// `0x0B`: one dummy byte after the address; for the full clock of the part.
    Fast,
}

/// Bytes of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressBytes {
    /// Up to 16 MiB.
    Three,
    /// Larger parts, by the commands `0x13` and `0x0C`, which leave the part's address mode alone.
    Four,
}

/// Waiting times; the defaults suit the slowest common parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NorTiming {
    /// From release of power-down to the first command (tRES1 of the data sheet).
    pub wake_us: u32,
    /// Between two looks at the status register.
    pub poll_us: u32,
    /// Longest wait for a write or erase that was running before the reset.
    pub busy_limit_us: u32,
}

impl Default for NorTiming {
    fn default() -> Self {
        Self { wake_us: 50, poll_us: 100, busy_limit_us: 400_000 }
    }
}

/// Read access to a SPI NOR flash.
///
/// Every command is one transaction of the `SpiDevice`, and no command depends on an earlier one: after an error the next
/// read starts afresh, and the bus may be shared.
#[derive(Debug)]
pub struct SpiNor<SPI, D> {
    spi: SPI,
    delay: D,
    timing: NorTiming,
    mode: ReadMode,
    address: AddressBytes,
    capacity_bytes: u32,
}

impl<SPI: SpiDevice, D: DelayNs> SpiNor<SPI, D> {
    /// Wakes the flash, waits until it is idle, and takes the capacity from its identification.
    ///
    /// # Errors
    /// [`StorageError::NoDevice`], [`StorageError::UnknownCapacity`], [`StorageError::Busy`] or [`StorageError::Spi`].
    pub fn new(spi: SPI, delay: D, mode: ReadMode, timing: NorTiming) -> Result<Self, StorageError> {
        let mut flash = Self::with_capacity(spi, delay, mode, timing, THREE_BYTE_LIMIT);
        flash.wake()?;
        let id = flash.read_id()?;
        flash.set_capacity(capacity_bytes(id)?);
        flash.wait_until_idle()?;
        Ok(flash)
    }

    /// A flash of known capacity, without talking to it: for parts whose identification states none. Call
    /// [`wake`](Self::wake) if it may be in power-down.
    #[must_use]
    pub fn with_capacity(spi: SPI, delay: D, mode: ReadMode, timing: NorTiming, capacity_bytes: u32) -> Self {
        let mut flash = Self { spi, delay, timing, mode, address: AddressBytes::Three, capacity_bytes };
        flash.set_capacity(capacity_bytes);
        flash
    }

    fn set_capacity(&mut self, capacity_bytes: u32) {
        self.capacity_bytes = capacity_bytes;
        self.address = if capacity_bytes > THREE_BYTE_LIMIT { AddressBytes::Four } else { AddressBytes::Three };
    }

    /// Releases the flash from deep power-down and waits `timing.wake_us`. Harmless if it is awake.
    ///
    /// # Errors
    /// [`StorageError::Spi`].
    pub fn wake(&mut self) -> Result<(), StorageError> {
        self.command(&mut [Operation::Write(&[command::RELEASE_POWER_DOWN])])?;
        self.delay.delay_us(self.timing.wake_us);
        Ok(())
    }

    /// Puts the flash into deep power-down, where it draws about a microampere until [`wake`](Self::wake).
    ///
    /// # Errors
    /// [`StorageError::Spi`].
    pub fn power_down(&mut self) -> Result<(), StorageError> {
        self.command(&mut [Operation::Write(&[command::POWER_DOWN])])
    }

    /// Manufacturer, type, capacity code.
    ///
    /// # Errors
    /// [`StorageError::NoDevice`] if nothing answers, [`StorageError::Spi`].
    pub fn read_id(&mut self) -> Result<[u8; 3], StorageError> {
        let mut id = [0; 3];
        self.command(&mut [Operation::Write(&[command::READ_ID]), Operation::Read(&mut id)])?;
        match id {
            [0, 0, 0] | [0xFF, 0xFF, 0xFF] => Err(StorageError::NoDevice { id }),
            _ => Ok(id),
        }
    }

    /// Polls the status register until no write or erase is running.
    ///
    /// # Errors
    /// [`StorageError::Busy`] after `timing.busy_limit_us`, [`StorageError::Spi`].
    pub fn wait_until_idle(&mut self) -> Result<(), StorageError> {
        let poll_us = self.timing.poll_us.max(1);
        let mut waited_us = 0u32;
        loop {
            let mut status = [0];
            self.command(&mut [Operation::Write(&[command::READ_STATUS]), Operation::Read(&mut status)])?;
            let [status] = status;
            if status & BUSY == 0 {
                return Ok(());
            }
            if waited_us >= self.timing.busy_limit_us {
                return Err(StorageError::Busy { status, waited_us });
            }
            self.delay.delay_us(poll_us);
            waited_us = waited_us.saturating_add(poll_us);
        }
    }

    /// Bytes on the device.
    #[must_use]
    pub const fn capacity_bytes(&self) -> u32 {
        self.capacity_bytes
    }

    /// Address bytes of the read command in use.
    #[must_use]
    pub const fn address_bytes(&self) -> AddressBytes {
        self.address
    }

    /// Gives the bus device and the delay back.
    pub fn release(self) -> (SPI, D) {
        (self.spi, self.delay)
    }

    fn command(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), StorageError> {
        self.spi.transaction(operations).map_err(|error| StorageError::Spi { kind: error.kind(), offset: 0 })
    }

    fn read_bytes(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), StorageError> {
        check_bounds(offset, buffer.len(), self.capacity_bytes as usize)?;
        if buffer.is_empty() {
            return Ok(());
        }
        let [high, upper, middle, low] = offset.to_be_bytes();
        let (header, len): ([u8; 6], usize) = match (self.address, self.mode) {
            (AddressBytes::Three, ReadMode::Plain) => ([command::READ, upper, middle, low, 0, 0], 4),
            (AddressBytes::Three, ReadMode::Fast) => ([command::FAST_READ, upper, middle, low, 0, 0], 5),
            (AddressBytes::Four, ReadMode::Plain) => ([command::READ_4_BYTE, high, upper, middle, low, 0], 5),
            (AddressBytes::Four, ReadMode::Fast) => ([command::FAST_READ_4_BYTE, high, upper, middle, low, 0], 6),
        };
        let header = header.get(..len).unwrap_or(&header);
        self.spi
            .transaction(&mut [Operation::Write(header), Operation::Read(buffer)])
            .map_err(|error| StorageError::Spi { kind: error.kind(), offset })
    }
}

/// From the third byte of the identification: the power of two in most parts, and three larger codes of Micron.
fn capacity_bytes(id: [u8; 3]) -> Result<u32, StorageError> {
    let [_, _, code] = id;
    match code {
        0x10..=0x1F => Ok(1 << code),
        0x20..=0x22 => Ok(1 << (code - 0x20 + 26)),
        _ => Err(StorageError::UnknownCapacity { id }),
    }
}

impl<SPI: SpiDevice, D: DelayNs> Source for SpiNor<SPI, D> {
    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.read_bytes(offset, buffer)
    }
}

impl<SPI: SpiDevice, D: DelayNs> ErrorType for SpiNor<SPI, D> {
    type Error = StorageError;
}

impl<SPI: SpiDevice, D: DelayNs> ReadNorFlash for SpiNor<SPI, D> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), StorageError> {
        self.read_bytes(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.capacity_bytes as usize
    }
}

impl<SPI: SpiDevice, D: DelayNs> ReadStorage for SpiNor<SPI, D> {
    type Error = StorageError;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), StorageError> {
        self.read_bytes(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.capacity_bytes as usize
    }
}

#[cfg(test)]
mod tests;
