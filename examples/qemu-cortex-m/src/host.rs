//! The host behind semihosting: console, files, exit. Arm, "Semihosting for AArch32 and AArch64", version 3.0.

use core::fmt;
use core::fmt::Write;

use cortex_m_semihosting::{nr, syscall, syscall1};

/// `SYS_GET_CMDLINE`.
const GET_COMMAND_LINE: usize = 0x15;
/// `SYS_EXIT_EXTENDED`.
const EXIT_EXTENDED: usize = 0x20;
/// `ADP_Stopped_ApplicationExit`.
const APPLICATION_EXIT: usize = 0x2_0026;

/// Writes a line to the host's console.
#[macro_export]
macro_rules! say {
    ($($part:tt)*) => {{
        use core::fmt::Write;
        // Nothing can be done about a console that is gone.
        let _ = writeln!($crate::host::Console, $($part)*);
    }};
}

/// The host's console; see [`say!`].
#[derive(Debug, Clone, Copy)]
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut buffer = [0u8; 64];
        for chunk in text.as_bytes().chunks(buffer.len() - 1) {
            buffer.fill(0);
            if let Some(part) = buffer.get_mut(..chunk.len()) {
                part.copy_from_slice(chunk);
            }
            // SAFETY: SYS_WRITE0 reads a NUL-terminated string, and the last byte of `buffer` is never written.
            unsafe { syscall1(nr::WRITE0, buffer.as_ptr() as usize) };
        }
        Ok(())
    }
}

/// Writes a name and decimal numbers on a line of their own, with no formatting code.
pub fn print_numbers(name: &str, numbers: &[u32]) {
    // Nothing can be done about a console that is gone.
    let _ = Console.write_str(name);
    for &number in numbers {
        let mut digits = [b'0'; 10];
        let mut left = number;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        let significant = digits.iter().position(|&d| d != b'0').unwrap_or(9);
        let text = digits.get(significant..).and_then(|d| core::str::from_utf8(d).ok()).unwrap_or("?");
        let _ = Console.write_str(" ");
        let _ = Console.write_str(text);
    }
    let _ = Console.write_str("\n");
}

/// Ends the emulation with this exit status.
pub fn exit(status: usize) -> ! {
    let block = [APPLICATION_EXIT, status];
    loop {
        // SAFETY: SYS_EXIT_EXTENDED reads two words.
        unsafe { syscall(EXIT_EXTENDED, &block) };
    }
}

/// The command line, at most as long as `buffer`; empty if there is none or it is not UTF-8.
pub fn command_line(buffer: &mut [u8]) -> &str {
    let mut block = [buffer.as_mut_ptr() as usize, buffer.len()];
    // SAFETY: SYS_GET_CMDLINE reads two words, writes at most that many bytes to the buffer and updates the block.
    let status = unsafe { syscall1(GET_COMMAND_LINE, block.as_mut_ptr() as usize) };
    let [_, len] = block;
    let text = if status == 0 { buffer.get(..len).unwrap_or(&[]) } else { &[] };
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    text.get(..end).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or("")
}

/// Why a file operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileError;

/// A file on the host, closed when dropped.
#[derive(Debug)]
pub struct File(usize);

/// `rb` in the table of `SYS_OPEN`.
const READ: usize = 1;
/// `wb` in the table of `SYS_OPEN`.
const WRITE: usize = 5;
/// Longest path, with its terminator.
const PATH_BYTES: usize = 256;

impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`FileError`] if the host cannot.
    pub fn open(path: fmt::Arguments<'_>) -> Result<Self, FileError> {
        Self::open_as(path, READ)
    }

    /// Creates a file.
    ///
    /// # Errors
    /// [`FileError`] if the host cannot.
    pub fn create(path: fmt::Arguments<'_>) -> Result<Self, FileError> {
        Self::open_as(path, WRITE)
    }

    fn open_as(path: fmt::Arguments<'_>, mode: usize) -> Result<Self, FileError> {
        let mut text = Path { bytes: [0; PATH_BYTES], len: 0 };
        fmt::write(&mut text, path).map_err(|_| FileError)?;
        let block = [text.bytes.as_ptr() as usize, mode, text.len];
        // SAFETY: SYS_OPEN reads a path of that length, which is NUL-terminated.
        match unsafe { syscall(nr::OPEN, &block) } {
            usize::MAX => Err(FileError),
            handle => Ok(Self(handle)),
        }
    }

    /// Fills `buffer`; returns false at the end of the file.
    ///
    /// # Errors
    /// [`FileError`] if the file ends inside the buffer.
    pub fn read(&mut self, buffer: &mut [i8]) -> Result<bool, FileError> {
        let block = [self.0, buffer.as_mut_ptr() as usize, buffer.len()];
        // SAFETY: SYS_READ writes at most the buffer's length to it.
        match unsafe { syscall(nr::READ, &block) } {
            0 => Ok(true),
            left if left == buffer.len() => Ok(false),
            _ => Err(FileError),
        }
    }

    /// Writes all of `values`.
    ///
    /// # Errors
    /// [`FileError`] if the host does not take them.
    pub fn write(&mut self, values: &[i8]) -> Result<(), FileError> {
        let block = [self.0, values.as_ptr() as usize, values.len()];
        // SAFETY: SYS_WRITE reads the slice.
        match unsafe { syscall(nr::WRITE, &block) } {
            0 => Ok(()),
            _ => Err(FileError),
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: SYS_CLOSE reads one word, a handle that SYS_OPEN gave.
        unsafe { syscall(nr::CLOSE, &[self.0]) };
    }
}

struct Path {
    bytes: [u8; PATH_BYTES],
    len: usize,
}

impl fmt::Write for Path {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        // The last byte stays the terminator.
        let room = self.bytes.get_mut(self.len..end).filter(|_| end < PATH_BYTES).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
