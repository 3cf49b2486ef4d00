//! Counts the instructions of every plan that fits, per step and per inference. Run it under `-icount`.
//!
//! Arguments on the semihosting command line: `ram=BYTES` limits the arena; `steps=no` leaves the steps out.
#![no_std]
#![no_main]

use core::hint::black_box;

use board::args::Args;
use board::clock::{InstructionScale, SysTickClock};
use board::{bundle_in_flash, host, memory::Memory, report_panics, say};
use cortex_m_rt::entry;
use stitchkit_runtime::board::{Clock, check_clock};
use stitchkit_runtime::bundle::{Bundle, Check, PlacedStep, Plan};
use stitchkit_runtime::exec::{ExecError, Executor, Observer, StepReport};
use stitchkit_runtime::kernels::Isa;
use stitchkit_runtime::profile::LatencyModel;
use stitchkit_runtime::runtime::Runtime;
use stitchkit_runtime::select::{Ladder, Limits};

bundle_in_flash!();
report_panics!();

#[entry]
fn main() -> ! {
    let mut line = [0; 256];
    let args = Args(host::command_line(&mut line));
    let (Some(memory), Some(peripherals)) = (Memory::take(), cortex_m::Peripherals::take()) else { host::exit(1) };
    let mut clock = SysTickClock::start(peripherals.SYST);
    if let Err(error) = check_clock(&mut clock) {
        say!("bench: {error}");
        host::exit(1)
    }
    let usable = args.number("ram").map_or(usize::MAX, |limit| limit as usize).min(memory.arena.len());
    let arena = memory.arena.get_mut(..usable).unwrap_or_default();
    let bundle = match Bundle::parse(&BUNDLE.0) {
        Ok(bundle) => bundle,
        Err(error) => {
            say!("bench: {error}");
            host::exit(1)
        }
    };
    let scale = InstructionScale::measure(&mut clock);
    say!("bench: {}, kernels {}", board::NAME, Isa::best().name());
    for check in [Check::Full, Check::Structure] {
        measure_boot(check, arena, &mut clock, scale);
    }
    measure_switch(arena, &mut clock, scale);
    for plan in 0..bundle.plan_count() {
        let Ok(mut executor) = Executor::new(&bundle, plan, arena) else {
            say!("bench: plan {plan} does not fit");
            continue;
        };
        let shows_steps = args.text("steps") != Some("no");
        if let Err(error) = measure(&mut executor, &mut clock, scale, shows_steps) {
            say!("bench: {error}");
            host::exit(1)
        }
    }
    host::exit(0)
}

/// Counts the instructions from bytes in flash to a plan ready to run, and of the walk over every plan's steps in it.
fn measure_boot(check: Check, arena: &mut [u8], clock: &mut SysTickClock, scale: InstructionScale) {
    let start = clock.now();
    let parsed = black_box(Bundle::parse_with(black_box(&BUNDLE.0), check)).is_ok();
    let parse = scale.instructions(clock.now() - start);
    let start = clock.now();
    let booted = black_box(Runtime::boot(black_box(&BUNDLE.0), check, arena, Limits::NONE, LatencyModel::CORTEX_M4));
    let boot = scale.instructions(clock.now() - start);
    if parsed && booted.is_ok() {
        say!("boot: {boot} instructions with {check:?} checks, {parse} of them parsing");
    }
}

/// Changes the deadline so that every plan on the ladder is left for its neighbours, and counts the dearest change.
fn measure_switch(arena: &mut [u8], clock: &mut SysTickClock, scale: InstructionScale) {
    let Ok((mut runtime, _)) = Runtime::boot(&BUNDLE.0, Check::Structure, arena, Limits::NONE, LatencyModel::CORTEX_M4)
    else {
        return;
    };
    let ladder = Ladder::of(runtime.bundle(), LatencyModel::CORTEX_M4);
    let (mut most, mut switches) = (0, 0);
    for rung in ladder.rungs().iter().chain(ladder.rungs().iter().rev().skip(1)) {
        let before = runtime.rung().plan;
        let deadline_us = black_box(Some(u64::from(rung.latency_us) * 112 / 100));
        let start = clock.now();
        let result = runtime.set_deadline(deadline_us);
        let instructions = scale.instructions(clock.now() - start);
        if result.is_ok() && runtime.rung().plan != before {
            most = most.max(instructions);
            switches += 1;
        }
    }
    say!("switch: {most} instructions, the most of {switches} switches over {} rungs", ladder.rungs().len());
    let bundle = *runtime.bundle();
    let Ok(mut executor) = Executor::new(&bundle, 0, runtime.release_arena().main) else { return };
    let mut most = 0;
    for plan in (0..bundle.plan_count()).rev() {
        let start = clock.now();
        let result = executor.switch(black_box(plan));
        let instructions = scale.instructions(clock.now() - start);
        most = if result.is_ok() { most.max(instructions) } else { most };
    }
    say!("executor switch: {most} instructions, the most of {} plans", bundle.plan_count());
}

/// Counts the instructions that decoding and placing the plan's steps takes in one inference.
fn measure_walk(bundle: &Bundle<'_>, plan: &Plan<'_>, clock: &mut SysTickClock, scale: InstructionScale) -> u64 {
    let start = clock.now();
    bundle.steps_of(plan).for_each(|placed| {
        black_box(placed);
    });
    scale.instructions(clock.now() - start)
}

fn measure(
    executor: &mut Executor<'_, '_>,
    clock: &mut SysTickClock,
    scale: InstructionScale,
    shows_steps: bool,
) -> Result<(), ExecError> {
    executor.input()?.fill(1);
    let start = clock.now();
    executor.run()?;
    let instructions = scale.instructions(clock.now() - start);
    let Some(plan) = executor.plan() else { return Err(ExecError::Changed) };
    say!(
        "plan {}: {}: {instructions} instructions, {} MACs, {} instructions per MAC, {} bytes of arena",
        executor.plan_index(),
        plan.path,
        plan.macs,
        Ratio(instructions, plan.macs),
        plan.arena_bytes,
    );
    say!(
        "{{\"board\":\"{}\",\"isa\":\"{}\",\"plan\":{},\"instructions\":{instructions},\"macs\":{},\"per_mac\":{},\
         \"arena_bytes\":{},\"cost\":{}}}",
        board::NAME,
        Isa::best().name(),
        executor.plan_index(),
        plan.macs,
        Ratio(instructions, plan.macs),
        plan.arena_bytes,
        plan.cost,
    );
    let walk = measure_walk(executor.bundle(), &plan, clock, scale);
    say!("  decoding its steps: {walk} instructions, {} of 1000", Ratio(walk * 1000, instructions));
    if shows_steps {
        executor.input()?.fill(1);
        executor.run_observed(&mut StepTable { clock, scale, start: 0 })?;
    }
    Ok(())
}

/// Prints a line per step.
struct StepTable<'a> {
    clock: &'a mut SysTickClock,
    scale: InstructionScale,
    start: u64,
}

impl Observer for StepTable<'_> {
    fn before(&mut self, _placed: &PlacedStep) {
        self.start = self.clock.now();
    }

    fn after(&mut self, report: StepReport<'_>) {
        let instructions = self.scale.instructions(self.clock.now() - self.start);
        let op = &report.placed.step.op;
        let (from, to) = (op.input(), op.output());
        say!(
            "  {:3} {:9} {}x{}x{} to {}x{}x{}: {instructions} instructions, {} per MAC",
            report.ordinal,
            op.name(),
            from.h,
            from.w,
            from.c,
            to.h,
            to.w,
            to.c,
            Ratio(instructions, op.macs()),
        );
    }
}

/// A quotient with three decimals, without floating point.
struct Ratio(u64, u64);

impl core::fmt::Display for Ratio {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Some(thousandths) = (self.0 * 1000).checked_div(self.1) else { return f.write_str("0") };
        write!(f, "{}.{:03}", thousandths / 1000, thousandths % 1000)
    }
}
