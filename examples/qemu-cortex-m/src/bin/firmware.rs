//! The whole way from reset to logits: measure free memory and speed, choose the best plan, run it, verify every plan
//! that fits against the golden vectors, and run a file of inputs for comparison with the host.
//!
//! Arguments on the semihosting command line: `ram=BYTES` and `deadline_us=N` limit what may be used; `fast=BYTES` takes so
//! much of the memory for a fast one and the board's second memory for the main one; `inputs=FILE` names
//! raw int8 inputs, `outputs=PREFIX` where the logits of plan N go (`PREFIX.N.bin`). Exit status: 0 all well, 1 a check
//! failed, 3 no plan fits.
#![no_std]
#![no_main]

use core::fmt::{self, Display};

use board::args::Args;
use board::clock::SysTickClock;
use board::host::{self, File};
use board::memory::Memory;
use board::{bundle_in_flash, report_panics, say};
use cortex_m_rt::entry;
use stitchkit_runtime::bundle::Bundle;
use stitchkit_runtime::exec::{Arena, Executor};
use stitchkit_runtime::kernels::Isa;
use stitchkit_runtime::select::{Limits, Speed, probe_in, select};

bundle_in_flash!();
report_panics!();

const NO_PLAN_FITS: usize = 3;

#[entry]
fn main() -> ! {
    let mut line = [0; 256];
    let args = Args(host::command_line(&mut line));
    let Some(memory) = Memory::take() else { host::exit(1) };
    let result = run(args, arena(args, memory.arena, memory.second));
    let used_bytes = memory.stack.used_bytes();
    say!("stack: {used_bytes} of {} bytes used", board::STACK_BYTES);
    match result {
        Err(stop) => {
            say!("{}", stop.message);
            host::exit(stop.status)
        }
        Ok(()) if used_bytes >= board::STACK_BYTES => {
            say!("stack: the margin is used up");
            host::exit(1)
        }
        Ok(()) => {
            say!("firmware: all well");
            host::exit(0)
        }
    }
}

/// Why the program ends early.
struct Stop {
    status: usize,
    message: Message,
}

/// What went wrong, short enough to keep.
struct Message {
    text: [u8; 96],
    len: usize,
}

impl fmt::Write for Message {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        for (to, &from) in self.text.iter_mut().skip(self.len).zip(part.as_bytes()) {
            *to = from;
            self.len += 1;
        }
        Ok(())
    }
}

impl Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.get(..self.len).and_then(|text| core::str::from_utf8(text).ok());
        f.write_str(text.unwrap_or("an error that does not fit a line"))
    }
}

impl Stop {
    fn new(status: usize, what: fmt::Arguments<'_>) -> Self {
        let mut message = Message { text: [0; 96], len: 0 };
        // A message that is cut off is still a message.
        let _ = fmt::write(&mut message, what);
        Self { status, message }
    }
}

impl<E: Display> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::new(1, format_args!("{error}"))
    }
}

/// What plans may use: one memory, or two.
fn arena<'m>(args: Args<'_>, ram: &'m mut [u8], second: &'m mut [u8]) -> Arena<'m> {
    let free_bytes = ram.len();
    let first = |memory: &'m mut [u8], bytes: u32| {
        let end = memory.len().min(bytes as usize);
        memory.get_mut(..end).unwrap_or_default()
    };
    let limit = args.number("ram").unwrap_or(u32::MAX);
    let arena = match args.number("fast") {
        Some(bytes) => Arena { fast: first(ram, bytes), main: first(second, limit) },
        None => first(ram, limit).into(),
    };
    say!("board: {}, {} of {} bytes of memory free", board::NAME, free_bytes, board::RAM_BYTES);
    say!("arena: {} bytes of main memory usable, {} of fast memory", arena.main_bytes(), arena.fast_bytes());
    arena
}

fn run(args: Args<'_>, mut arena: Arena<'_>) -> Result<(), Stop> {
    let bundle = Bundle::parse(&BUNDLE.0)?;
    say!("bundle: {}, {} bytes, {} plans", bundle.meta().name, bundle.len_bytes(), bundle.plan_count());

    let speed = measure_speed(&bundle, arena.reborrow());
    let limits = Limits {
        ram_bytes: arena.main_bytes(),
        fast_bytes: arena.fast_bytes(),
        deadline_us: args.number("deadline_us").map(u64::from),
        ..Limits::NONE
    };
    let choice = select(&bundle, limits, speed)
        .map_err(|error| Stop::new(NO_PLAN_FITS, format_args!("no plan fits: {error}")))?;
    let path = bundle.plan(choice.plan).map_or("", |plan| plan.path);
    say!("choice: plan {} ({path}), {} bytes of arena, {} ppm", choice.plan, choice.arena_bytes, choice.accuracy_ppm);
    if let Some(us) = choice.latency_us {
        say!("choice: {us} us predicted");
    }
    if choice.in_fast_bytes > 0 {
        say!("choice: {} of them in fast memory", choice.in_fast_bytes);
    }
    show_logits(&bundle, choice.plan, arena.reborrow())?;
    let fast_bytes = arena.fast_bytes();
    for plan in 0..bundle.plan_count() {
        let Ok(mut executor) = Executor::with_arena(&bundle, plan, arena.reborrow(), Isa::best()) else { continue };
        verify(&bundle, &mut executor)?;
        if let Some(footprint) = bundle.plan(plan).map(|plan| plan.footprint()).filter(|_| fast_bytes > 0) {
            let (fast, main) = (footprint.in_fast(fast_bytes), footprint.in_main(fast_bytes));
            say!("memory: plan {plan}, {fast} bytes in the fast one, {main} in the main one");
        }
        if let (Some(inputs), Some(outputs)) = (args.text("inputs"), args.text("outputs")) {
            write_logits(&mut executor, inputs, outputs)?;
        }
    }
    Ok(())
}

/// The board's speed, or none if it has no usable clock or no plan fits.
fn measure_speed(bundle: &Bundle<'_>, arena: Arena<'_>) -> Option<Speed> {
    let mut clock = SysTickClock::start(cortex_m::Peripherals::take()?.SYST);
    match probe_in(bundle, arena, &mut clock) {
        Ok(speed) => {
            say!("speed: {} cost units per second", speed.cost_per_second);
            Some(speed)
        }
        Err(error) => {
            say!("speed: unknown, {error}");
            None
        }
    }
}

/// Most logits printed.
const SHOWN_LOGITS: usize = 16;

/// Prints the logits of the first golden input.
fn show_logits(bundle: &Bundle<'_>, plan: u16, arena: Arena<'_>) -> Result<(), Stop> {
    let mut executor = Executor::with_arena(bundle, plan, arena, Isa::best())?;
    let input = bundle.golden().and_then(|golden| golden.input(0));
    let target = executor.input()?;
    match input {
        Some(input) => target.copy_from_slice(input),
        None => target.fill(0),
    }
    let logits = executor.run()?;
    for &logit in logits.iter().take(SHOWN_LOGITS) {
        say!("logit: {logit}");
    }
    say!("logits: FNV-1a {:#010x}", fnv1a(FNV_START, logits));
    Ok(())
}

const FNV_START: u32 = 0x811c_9dc5;

/// 32-bit FNV-1a, continued from `hash`.
fn fnv1a(hash: u32, values: &[i8]) -> u32 {
    values.iter().fold(hash, |hash, &value| (hash ^ u32::from(value as u8)).wrapping_mul(0x0100_0193))
}

/// Compares the plan's outputs with the golden vectors.
fn verify(bundle: &Bundle<'_>, executor: &mut Executor<'_, '_>) -> Result<(), Stop> {
    let Some(golden) = bundle.golden() else { return Ok(()) };
    let plan = executor.plan_index();
    let mut hash = FNV_START;
    for index in 0..golden.count() {
        executor.input()?.copy_from_slice(golden.input(index).unwrap_or_default());
        let output = executor.run()?;
        if golden.output(plan, index) != Some(output) {
            return Err(Stop::new(1, format_args!("golden: plan {plan} differs on vector {index}")));
        }
        hash = fnv1a(hash, output);
    }
    say!("golden: plan {plan}, {} vectors equal, FNV-1a {hash:#010x}", golden.count());
    Ok(())
}

/// Runs every input of a host file and writes the logits to another.
fn write_logits(executor: &mut Executor<'_, '_>, inputs: &str, outputs: &str) -> Result<(), Stop> {
    let plan = executor.plan_index();
    let cannot = |_| Stop::new(1, format_args!("files: plan {plan}: cannot read inputs or write outputs"));
    let mut source = File::open(format_args!("{inputs}")).map_err(cannot)?;
    let mut sink = File::create(format_args!("{outputs}.{plan}.bin")).map_err(cannot)?;
    let mut count = 0;
    while source.read(executor.input()?).map_err(cannot)? {
        sink.write(executor.run()?).map_err(cannot)?;
        count += 1;
    }
    say!("files: plan {plan}, {count} inputs");
    Ok(())
}
