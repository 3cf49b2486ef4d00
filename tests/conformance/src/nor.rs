//! A SPI NOR flash in software: an `embedded_hal` SPI device that serves a slice, counts traffic and fails on request.
//!
//! It understands the commands that [`SpiNor`](stitchkit_runtime::storage::SpiNor) sends and no others. Like a real part it
//! answers nothing but wake-up while in power-down, and reads ones where nothing was written.

use core::cell::Cell;

use embedded_hal::spi::{ErrorKind, ErrorType, Operation, SpiDevice};

/// Traffic of a [`SimulatedNor`] and what it shall do wrong; shared with whoever drives the flash.
#[derive(Debug, Default)]
pub struct NorControl {
    /// Transactions so far.
    pub transactions: Cell<u32>,
    /// Bytes received from the flash so far, status and identification included.
    pub received_bytes: Cell<u32>,
    /// Bytes sent to the flash so far: commands, addresses, dummies.
    pub sent_bytes: Cell<u32>,
    /// Transactions until one fails; 0 for never.
    pub fail_in: Cell<u32>,
    /// Looks at the status register that still see a running write.
    pub busy_looks: Cell<u32>,
    /// Address of a byte that reads inverted.
    pub damaged: Cell<Option<u32>>,
    /// True in deep power-down.
    pub is_asleep: Cell<bool>,
}

impl NorControl {
    /// Sets the counters to zero.
    pub fn reset(&self) {
        self.transactions.set(0);
        self.received_bytes.set(0);
        self.sent_bytes.set(0);
    }
}

/// The flash: `content` at byte `base` of a part of `2^capacity_code` bytes.
#[derive(Debug)]
pub struct SimulatedNor<'a> {
    /// What was written.
    pub content: &'a [u8],
    /// Address of its first byte.
    pub base: u32,
    /// Third byte of the identification.
    pub capacity_code: u8,
    /// Counters and faults.
    pub control: &'a NorControl,
}

impl ErrorType for SimulatedNor<'_> {
    type Error = ErrorKind;
}

impl SimulatedNor<'_> {
    fn byte_at(&self, address: u32) -> u8 {
        let capacity = 1u64 << (self.capacity_code & 31);
        let address = (u64::from(address) % capacity) as u32;
        let at = address.checked_sub(self.base).and_then(|at| self.content.get(at as usize));
        let byte = at.copied().unwrap_or(0xFF);
        if self.control.damaged.get() == Some(address) { !byte } else { byte }
    }

    /// Answers the command `sent` with the bytes that follow it.
    fn answer(&self, sent: &[u8], received: &mut [u8]) {
        let read = |address: &[u8], received: &mut [u8]| {
            let address = address.iter().fold(0u32, |address, &byte| address << 8 | u32::from(byte));
            for (at, byte) in (address..).zip(received) {
                *byte = self.byte_at(at);
            }
        };
        match *sent {
            [0xAB] => self.control.is_asleep.set(false),
            _ if self.control.is_asleep.get() => received.fill(0xFF),
            [0xB9] => self.control.is_asleep.set(true),
            [0x9F] => received.iter_mut().zip([0xEF, 0x40, self.capacity_code]).for_each(|(to, from)| *to = from),
            [0x05] => {
                let looks = self.control.busy_looks.get();
                self.control.busy_looks.set(looks.saturating_sub(1));
                received.fill(u8::from(looks > 0));
            }
            [0x03, ref address @ ..] if address.len() == 3 => read(address, received),
            [0x0B, ref address @ .., _dummy] if address.len() == 3 => read(address, received),
            [0x13, ref address @ ..] if address.len() == 4 => read(address, received),
            [0x0C, ref address @ .., _dummy] if address.len() == 4 => read(address, received),
            _ => received.fill(0xFF),
        }
    }
}

impl SpiDevice for SimulatedNor<'_> {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), ErrorKind> {
        let control = self.control;
        control.transactions.set(control.transactions.get() + 1);
        match control.fail_in.get() {
            0 => {}
            1 => {
                control.fail_in.set(0);
                return Err(ErrorKind::ChipSelectFault);
            }
            left => control.fail_in.set(left - 1),
        }
        match operations {
            [Operation::Write(sent)] => {
                control.sent_bytes.set(control.sent_bytes.get() + sent.len() as u32);
                self.answer(sent, &mut []);
            }
            [Operation::Write(sent), Operation::Read(received)] => {
                control.sent_bytes.set(control.sent_bytes.get() + sent.len() as u32);
                control.received_bytes.set(control.received_bytes.get() + received.len() as u32);
                self.answer(sent, received);
            }
            _ => return Err(ErrorKind::Other),
        }
        Ok(())
    }
}
