//! Where a bundle lies that is not mapped into memory: a byte source, a driver for SPI NOR flash, and adapters for the
//! drivers of others.
//!
//! | type | what it reads |
//! |---|---|
//! | [`SpiNor`] | JEDEC SPI NOR flash on any `embedded_hal::spi::SpiDevice` |
//! | [`FromNorFlash`] | any `embedded_storage::nor_flash::ReadNorFlash`, whatever its read size |
//! | [`FromStorage`] | any `embedded_storage::ReadStorage` |
//! | your own [`Source`] | for instance DMA that runs while the processor computes |

mod adapters;
mod error;
mod spi_nor;

pub use adapters::{FromNorFlash, FromStorage, MAX_READ_SIZE};
pub use error::StorageError;
pub use spi_nor::{AddressBytes, NorTiming, ReadMode, SpiNor};

/// Random access to stored bytes.
///
/// [`read_while`](Self::read_while) is what makes double buffering possible: an implementation with DMA starts the transfer, calls
/// `work`, and waits for the transfer before it returns. Because the call does not end before the transfer does, the
/// buffer may lie anywhere, also on the stack, and no buffer changes hands:
///
/// ```ignore
/// const OVERLAPS: bool = true;
///
/// fn read_while<R>(&mut self, offset: u32, buffer: &mut [u8], work: impl FnOnce() -> R) -> Result<R, StorageError> {
///     self.command(offset)?;
///     self.dma.start(buffer.as_mut_ptr(), buffer.len()); // needs `unsafe`; `wait` below is what makes it sound
///     let done = work();
///     self.dma.wait()?;
///     Ok(done)
/// }
/// ```
///
/// With an async driver the body is `block_on(join(driver.read(offset, buffer), async { work() }))`: the transfer is polled,
/// and so started, first.
///
/// After an error the source must be able to read again.
pub trait Source {
    /// True if [`read_while`](Self::read_while) transfers while `work` computes. Callers then split their buffer in two;
    /// where it is false one undivided buffer serves better.
    const OVERLAPS: bool = false;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`StorageError`]; the contents of `buffer` are then unspecified.
    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), StorageError>;

    /// Fills `buffer` as [`read`](Self::read) does and calls `work` once, at the same time where the implementation can. Returns
    /// what `work` returned.
    ///
    /// # Errors
    /// As [`read`](Self::read); whether `work` was called is then unspecified.
    fn read_while<R>(&mut self, offset: u32, buffer: &mut [u8], work: impl FnOnce() -> R) -> Result<R, StorageError> {
        self.read(offset, buffer)?;
        Ok(work())
    }
}

impl<S: Source> Source for &mut S {
    const OVERLAPS: bool = S::OVERLAPS;

    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), StorageError> {
        S::read(self, offset, buffer)
    }

    fn read_while<R>(&mut self, offset: u32, buffer: &mut [u8], work: impl FnOnce() -> R) -> Result<R, StorageError> {
        S::read_while(self, offset, buffer, work)
    }
}
