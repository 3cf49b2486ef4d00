//! The bytes on the bus, against the data sheets.

use embedded_hal::spi::ErrorKind;
use embedded_hal_mock::eh1::delay::{CheckedDelay, NoopDelay, Transaction as Wait};
use embedded_hal_mock::eh1::spi::{Mock, Transaction};

use super::*;

const WINBOND_16_MIB: [u8; 3] = [0xEF, 0x40, 0x18];
const TIMING: NorTiming = NorTiming { wake_us: 30, poll_us: 100, busy_limit_us: 250 };

fn exchange(sent: &[u8], received: &[u8]) -> Vec<Transaction<u8>> {
    let mut transactions = vec![Transaction::transaction_start(), Transaction::write_vec(sent.to_vec())];
    if !received.is_empty() {
        transactions.push(Transaction::read_vec(received.to_vec()));
    }
    transactions.push(Transaction::transaction_end());
    transactions
}

fn boot(id: [u8; 3]) -> Vec<Transaction<u8>> {
    [exchange(&[0xAB], &[]), exchange(&[0x9F], &id), exchange(&[0x05], &[0])].concat()
}

fn wait(us: u32) -> Wait {
    Wait::delay_ns(us * 1000)
}

#[test]
fn it_wakes_identifies_waits_and_reads_with_the_command_of_its_mode() {
    let cases = [
        (WINBOND_16_MIB, ReadMode::Plain, vec![0x03, 0x01, 0x02, 0x03]),
        (WINBOND_16_MIB, ReadMode::Fast, vec![0x0B, 0x01, 0x02, 0x03, 0]),
        // Macronix, 32 MiB; Micron, 64 MiB.
        ([0xC2, 0x20, 0x19], ReadMode::Plain, vec![0x13, 0, 0x01, 0x02, 0x03]),
        ([0x20, 0xBA, 0x20], ReadMode::Fast, vec![0x0C, 0, 0x01, 0x02, 0x03, 0]),
    ];
    for (id, mode, header) in cases {
        let mut bus = Mock::new(&[boot(id), exchange(&header, &[7, 8, 9])].concat());
        let mut delay = CheckedDelay::new(&[wait(30)]);
        let mut flash = SpiNor::new(bus.clone(), delay.clone(), mode, TIMING).expect("the flash answers");
        let mut bytes = [0; 3];
        Source::read(&mut flash, 0x01_0203, &mut bytes).expect("the flash answers");
        assert_eq!(bytes, [7, 8, 9]);
        assert_eq!(flash.capacity_bytes() > 1 << 24, flash.address_bytes() == AddressBytes::Four);
        bus.done();
        delay.done();
    }
}

#[test]
fn capacities_follow_the_identification() {
    assert_eq!(capacity_bytes(WINBOND_16_MIB), Ok(16 << 20));
    assert_eq!(capacity_bytes([0x1F, 0x40, 0x10]), Ok(64 << 10));
    assert_eq!(capacity_bytes([0x20, 0xBB, 0x22]), Ok(256 << 20));
    assert_eq!(capacity_bytes([1, 2, 3]), Err(StorageError::UnknownCapacity { id: [1, 2, 3] }));
}

#[test]
fn a_missing_flash_is_named() {
    for line in [0x00, 0xFF] {
        let mut bus = Mock::new(&[exchange(&[0xAB], &[]), exchange(&[0x9F], &[line; 3])].concat());
        let error = SpiNor::new(bus.clone(), NoopDelay::new(), ReadMode::Plain, TIMING).err();
        assert_eq!(error, Some(StorageError::NoDevice { id: [line; 3] }));
        bus.done();
    }
}

#[test]
fn waiting_for_a_busy_flash_ends() {
    let busy: Vec<_> = (0..4).flat_map(|_| exchange(&[0x05], &[0x03])).collect();
    let mut bus = Mock::new(&busy);
    let mut delay = CheckedDelay::new(&[wait(100), wait(100), wait(100)]);
    let mut flash = SpiNor::with_capacity(bus.clone(), delay.clone(), ReadMode::Plain, TIMING, 1 << 20);
    assert_eq!(flash.wait_until_idle(), Err(StorageError::Busy { status: 3, waited_us: 300 }));
    bus.done();
    delay.done();
}

#[test]
fn power_down_is_left_by_waking() {
    let mut bus = Mock::new(&[exchange(&[0xB9], &[]), exchange(&[0xAB], &[])].concat());
    let mut delay = CheckedDelay::new(&[wait(30)]);
    let mut flash = SpiNor::with_capacity(bus.clone(), delay.clone(), ReadMode::Plain, TIMING, 1 << 20);
    flash.power_down().expect("the bus works");
    flash.wake().expect("the bus works");
    bus.done();
    delay.done();
}

#[test]
fn reads_past_the_end_do_not_reach_the_bus_and_the_last_byte_does() {
    let mut bus = Mock::new(&exchange(&[0x03, 0x0F, 0xFF, 0xFF], &[5]));
    let mut flash = SpiNor::with_capacity(bus.clone(), NoopDelay::new(), ReadMode::Plain, TIMING, 1 << 20);
    let beyond = StorageError::OutOfBounds { offset: 0xF_FFFF, len_bytes: 2, capacity_bytes: 1 << 20 };
    assert_eq!(Source::read(&mut flash, 0xF_FFFF, &mut [0; 2]), Err(beyond));
    assert_eq!(Source::read(&mut flash, 0xF_FFFF, &mut []), Ok(()));
    let mut last = [0];
    assert_eq!(ReadStorage::read(&mut flash, 0xF_FFFF, &mut last), Ok(()));
    assert_eq!(last, [5]);
    bus.done();
}

/// A bus that fails every time.
struct Broken;

#[derive(Debug)]
struct Overrun;

impl embedded_hal::spi::Error for Overrun {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Overrun
    }
}

impl embedded_hal::spi::ErrorType for Broken {
    type Error = Overrun;
}

impl SpiDevice for Broken {
    fn transaction(&mut self, _operations: &mut [Operation<'_, u8>]) -> Result<(), Overrun> {
        Err(Overrun)
    }
}

#[test]
fn bus_errors_keep_their_kind_and_place() {
    let mut flash = SpiNor::with_capacity(Broken, NoopDelay::new(), ReadMode::Fast, TIMING, 1 << 20);
    let at = |offset| Err(StorageError::Spi { kind: ErrorKind::Overrun, offset });
    assert_eq!(ReadNorFlash::read(&mut flash, 77, &mut [0; 4]), at(77));
    assert_eq!(flash.wake(), at(0));
}
