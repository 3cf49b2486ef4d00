//! Runs a bundle that is not mapped into memory: records in RAM, weights read from SPI NOR flash as each step needs them.
//!
//! No emulated board has a SPI NOR flash, so the bus is a `SpiDevice` in software that answers the flash commands from the
//! bundle in the board's own flash. Everything above it, from the flash driver on, is what a product runs. A copying source
//! beside it shows what streaming costs the processor where DMA moves the bytes.
//!
//! Arguments on the semihosting command line: `window=BYTES` for weights on their way (4096, or what the plan needs at
//! least). Exit status: 0 all well, 1 a check failed. Run it under `-icount`.
#![no_std]
#![no_main]

use core::convert::Infallible;

use board::args::Args;
use board::clock::{InstructionScale, SysTickClock};
use board::memory::Memory;
use board::{bundle_in_flash, host, report_panics, say};
use cortex_m_rt::entry;
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{ErrorType, OutputPin};
use stitchkit_conformance::nor::{NorControl, SimulatedNor};
use stitchkit_runtime::board::{Clock, Trigger, check_clock};
use stitchkit_runtime::bundle::{Bundle, StreamedBundle};
use stitchkit_runtime::exec::{Executor, StreamExecutor, StreamMemory};
use stitchkit_runtime::storage::{NorTiming, ReadMode, Source, SpiNor, StorageError};

bundle_in_flash!();
report_panics!();

/// Where the bundle lies in the flash: not at its start, and on no boundary.
const BASE: u32 = 0x1_0001;
/// 16 MiB.
const CAPACITY_CODE: u8 = 0x18;
/// Window if the command line names none.
const WINDOW_BYTES: usize = 4096;
/// Largest output compared.
const MOST_OUTPUTS: usize = 256;

#[entry]
fn main() -> ! {
    let mut line = [0; 256];
    let args = Args(host::command_line(&mut line));
    let (Some(memory), Some(peripherals)) = (Memory::take(), cortex_m::Peripherals::take()) else { host::exit(1) };
    let mut clock = SysTickClock::start(peripherals.SYST);
    if let Err(error) = check_clock(&mut clock) {
        say!("streamed: {error}");
        host::exit(1)
    }
    let scale = InstructionScale::measure(&mut clock);
    let mut meter = Meter { clock, scale };
    let window_bytes = args.number("window").map_or(WINDOW_BYTES, |bytes| bytes as usize);
    let result = run(window_bytes, memory.arena, &mut meter);
    say!("stack: {} of {} bytes used", memory.stack.used_bytes(), board::STACK_BYTES);
    match result {
        Ok(()) => {
            say!("streamed: all well");
            host::exit(0)
        }
        Err(Failure) => host::exit(1),
    }
}

/// A check failed and has been reported.
struct Failure;

impl<E: core::fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        say!("streamed: {error}");
        Self
    }
}

/// Counts instructions.
struct Meter {
    clock: SysTickClock,
    scale: InstructionScale,
}

impl Meter {
    fn count<R>(&mut self, work: impl FnOnce() -> R) -> (u64, R) {
        let start = self.clock.now();
        let done = work();
        (self.scale.instructions(self.clock.now() - start), done)
    }
}

fn run(window_bytes: usize, memory: &mut [u8], meter: &mut Meter) -> Result<(), Failure> {
    let control = NorControl::default();
    control.is_asleep.set(true);
    let bus = SimulatedNor { content: &BUNDLE.0, base: BASE, capacity_code: CAPACITY_CODE, control: &control };
    let mut flash = SpiNor::new(bus, Spin, ReadMode::Fast, NorTiming::default())?;
    say!("flash: {} bytes, bundle at byte {BASE:#x}", flash.capacity_bytes());

    control.reset();
    let record_bytes = StreamedBundle::record_bytes(&mut flash, BASE)? as usize;
    let (records, memory) = split(memory, record_bytes)?;
    let streamed = StreamedBundle::open(&mut flash, BASE, records)?;
    say!(
        "open: {record_bytes} bytes of records in RAM, {} bytes read in {} transactions",
        control.received_bytes.get(),
        control.transactions.get()
    );
    control.reset();
    let (window, arena) = split(memory, window_bytes)?;
    streamed.verify(&mut flash, window)?;
    say!(
        "verify: checksums agree, {} bytes read in {} transactions",
        control.received_bytes.get(),
        control.transactions.get()
    );

    let mut trigger = Trigger::new(Pin { edges: 0 })?;
    let bundle = Bundle::parse(&BUNDLE.0)?;
    let mut runs = 0;
    for plan in 0..bundle.plan_count() {
        let mut want = [0; MOST_OUTPUTS];
        let Ok((in_place, len)) = run_in_place(&bundle, plan, arena, &mut want, meter) else {
            say!("plan {plan} does not fit");
            continue;
        };
        let memory = StreamMemory { arena: &mut *arena, window: &mut *window };
        control.reset();
        let nor = run_streamed(&streamed, &mut flash, plan, memory, want.get(..len), meter, &mut trigger)?;
        let (read, transactions) = (control.received_bytes.get(), control.transactions.get());
        let memory = StreamMemory { arena: &mut *arena, window: &mut *window };
        let copied = run_streamed(&streamed, Copying, plan, memory, want.get(..len), meter, &mut trigger)?;
        runs += 2;
        let Some(needs) = StreamExecutor::<Copying>::needs(streamed.bundle(), plan) else { return Err(Failure) };
        if u64::from(read) != needs.read_bytes {
            say!("plan {plan}: read {read} bytes, {} promised", needs.read_bytes);
            return Err(Failure);
        }
        let arena_bytes = bundle.plan(plan).map_or(0, |plan| plan.arena_bytes);
        say!(
            "plan {plan}: equal, {read} bytes read in {transactions} transactions, RAM {} = {record_bytes} records + \
             {window_bytes} window + {arena_bytes} arena (window at least {})",
            record_bytes + window_bytes + arena_bytes as usize,
            needs.least_window_bytes
        );
        say!(
            "  instructions: {in_place} in place, {copied} copying ({}), {nor} with the flash in software",
            PerMille(copied, in_place)
        );
    }
    let edges = trigger.release().edges;
    say!("trigger: {edges} edges in {runs} runs");
    if runs == 0 || edges != 2 * runs { Err(Failure) } else { Ok(()) }
}

/// Cuts `bytes` bytes, rounded up to the alignment of arenas, from the start of `memory`.
fn split(memory: &mut [u8], bytes: usize) -> Result<(&mut [u8], &mut [u8]), Failure> {
    let (taken, rest) = memory.split_at_mut_checked(bytes.next_multiple_of(16)).ok_or("not enough memory")?;
    Ok((taken.get_mut(..bytes).ok_or("not enough memory")?, rest))
}

/// Fills an input with a pattern that depends on nothing.
fn fill(input: &mut [i8]) {
    input.iter_mut().zip(0u32..).for_each(|(to, i)| *to = (i.wrapping_mul(0x9E37_79B9) >> 24) as i8);
}

/// Instructions of one inference in place, and the length of its output.
fn run_in_place(
    bundle: &Bundle<'_>,
    plan: u16,
    arena: &mut [u8],
    want: &mut [i8],
    meter: &mut Meter,
) -> Result<(u64, usize), Failure> {
    let mut executor = Executor::new(bundle, plan, arena)?;
    fill(executor.input()?);
    let (instructions, output) = meter.count(|| executor.run());
    let output = output?;
    want.get_mut(..output.len()).ok_or("the output is too long")?.copy_from_slice(output);
    Ok((instructions, output.len()))
}

/// Instructions of one streamed inference, whose output must be `want`.
fn run_streamed(
    bundle: &StreamedBundle<'_>,
    source: impl Source,
    plan: u16,
    memory: StreamMemory<'_>,
    want: Option<&[i8]>,
    meter: &mut Meter,
    trigger: &mut Trigger<Pin>,
) -> Result<u64, Failure> {
    let mut executor = StreamExecutor::new(bundle, source, plan, memory)?;
    fill(executor.input()?);
    let (instructions, output) = meter.count(|| trigger.around(|| executor.run()));
    if want != Some(output??) {
        say!("plan {plan}: other logits than in place");
        return Err(Failure);
    }
    Ok(instructions)
}

/// Copies from the bundle in the board's flash.
struct Copying;

impl Source for Copying {
    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), StorageError> {
        let (len_bytes, capacity_bytes) = (buffer.len() as u32, BUNDLE.0.len() as u32);
        let outside = StorageError::OutOfBounds { offset, len_bytes, capacity_bytes };
        let at = offset.checked_sub(BASE).ok_or(outside)? as usize;
        buffer.copy_from_slice(BUNDLE.0.get(at..at + buffer.len()).ok_or(outside)?);
        Ok(())
    }
}

/// Waits by counting; good enough where nothing happens in the meantime.
struct Spin;

impl DelayNs for Spin {
    fn delay_ns(&mut self, ns: u32) {
        cortex_m::asm::delay((u64::from(ns) * u64::from(board::CLOCK_HZ) / 1_000_000_000) as u32 + 1);
    }
}

/// Counts edges where a board would move a pin.
struct Pin {
    edges: u32,
}

impl ErrorType for Pin {
    type Error = Infallible;
}

impl OutputPin for Pin {
    fn set_low(&mut self) -> Result<(), Infallible> {
        // The first time is the initial level.
        self.edges += u32::from(self.edges % 2 == 1);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.edges += u32::from(self.edges % 2 == 0);
        Ok(())
    }
}

/// How much more than a base, in percent with one decimal.
struct PerMille(u64, u64);

impl core::fmt::Display for PerMille {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let more = (self.0.saturating_sub(self.1) * 1000).checked_div(self.1).unwrap_or(0);
        write!(f, "+{}.{} %", more / 10, more % 10)
    }
}
