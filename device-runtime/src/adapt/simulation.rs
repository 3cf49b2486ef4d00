//! The invariants of the [module](super)'s documentation on random ladders and load traces.

use proptest::prelude::*;
use std::vec::Vec;

use super::{Controller, Factor, Record};
use crate::bundle::Footprint;
use crate::select::{Ladder, Limits, Rung};

/// A board whose plans take the predicted time, times an error of their own, times the load of the moment.
#[derive(Debug, Clone)]
struct World {
    rungs: Vec<Rung>,
    /// Actual time on the idle board over predicted time, in percent, per rung.
    error_percent: Vec<u32>,
}

impl World {
    fn ladder(&self) -> Ladder {
        let mut ladder = Ladder::default();
        self.rungs.iter().for_each(|rung| ladder.add(*rung));
        ladder
    }

    /// What rung `at` takes under a load in percent.
    fn actual_us(&self, at: usize, load_percent: u32) -> u64 {
        let us = u64::from(self.rungs[at].latency_us) * u64::from(self.error_percent[at]) * u64::from(load_percent);
        us.div_ceil(10_000)
    }

    fn rung_of(&self, plan: u16) -> usize {
        self.rungs.iter().position(|rung| rung.plan == plan).unwrap()
    }

    /// The shortest time of any plan in memory.
    fn fastest_us(&self, ram_bytes: u32, load_percent: u32) -> u64 {
        let in_memory = (0..self.rungs.len()).filter(|&at| self.rungs[at].footprint.arena_bytes <= ram_bytes);
        in_memory.map(|at| self.actual_us(at, load_percent)).min().unwrap_or(u64::MAX)
    }

    /// The most accurate rung whose time fits, else the first.
    fn best_within(&self, usable_us: u64, load_percent: u32) -> usize {
        (0..self.rungs.len()).rev().find(|&at| self.actual_us(at, load_percent) <= usable_us).unwrap_or(0)
    }

    fn step(&self, controller: &mut Controller, load_percent: u32) -> Record {
        let at = self.rung_of(controller.rung().plan);
        controller.observe(self.actual_us(at, load_percent))
    }

    /// A controller whose deadline leaves the `free`-th rung its margin on the idle board, and a little more.
    fn controller(&self, free: usize) -> Controller {
        let slowest_us = u64::from(self.rungs[free % self.rungs.len()].latency_us);
        let limits = Limits { deadline_us: Some(slowest_us * 5 / 4), ..Limits::NONE };
        Controller::new(&self.ladder(), limits).unwrap()
    }
}

/// Rungs that get more accurate, slower and larger; actual times keep the first one the fastest.
fn world(errors: impl Strategy<Value = u32>) -> impl Strategy<Value = World> {
    (500u32..5000, prop::collection::vec((103u32..220, 1u32..50, errors), 1..12)).prop_map(|(first_us, steps)| {
        let mut latency_us = first_us;
        let mut world = World { rungs: Vec::new(), error_percent: Vec::new() };
        for (at, (growth_percent, gain, error_percent)) in (0u16..).zip(steps) {
            let rung = Rung {
                plan: at,
                footprint: Footprint { arena_bytes: 1000 * (u32::from(at) + 1), fast_bytes: 0 },
                accuracy_ppm: world.rungs.last().map_or(500_000, |below| below.accuracy_ppm + gain * 1000),
                latency_us,
            };
            latency_us = latency_us * growth_percent / 100 + 1;
            let is_fastest = world.rungs.is_empty();
            let least = (world.rungs.first().map_or(0, |r| r.latency_us) * 100).div_ceil(rung.latency_us);
            world.rungs.push(rung);
            world.error_percent.push(if is_fastest { 100 } else { error_percent.max(least) });
        }
        world
    })
}

/// Loads in percent, one per inference: steps, ramps and bursts.
fn trace() -> impl Strategy<Value = Vec<u32>> {
    let step = (80u32..500, 1usize..60).prop_map(|(load, len)| vec![load; len]);
    let ramp = (80u32..500, 80u32..500, 2usize..60).prop_map(|(from, to, len)| {
        (0..len as i64).map(|i| (i64::from(from) + (i64::from(to) - i64::from(from)) * i / len as i64) as u32).collect()
    });
    let bursts = (80u32..150, 100u32..500, 2usize..40, 4usize..120).prop_map(|(base, height, period, len)| {
        (0..len).map(|i| if i % period == period - 1 { height } else { base }).collect()
    });
    let jitter = prop::collection::vec(80u32..400, 1..60);
    prop::collection::vec(prop_oneof![step, ramp, bursts, jitter], 1..8).prop_map(|parts| parts.concat())
}

fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(cases), failure_persistence: None, ..default }
}

/// A quarter of the inferences get another deadline, some another arena.
fn change_limits(world: &World, controller: &mut Controller, (deadline, ram): (u32, u8)) {
    let mut limits = controller.limits();
    if deadline.is_multiple_of(4) {
        limits.deadline_us = Some(u64::from(world.rungs[0].latency_us) * u64::from(deadline) / 100);
    }
    if ram < 20 {
        limits.ram_bytes = 1000 * (1 + u32::from(ram));
    }
    controller.set_limits(limits).unwrap();
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn two_misses_in_a_row_mean_that_no_plan_met_the_deadline(
        world in world(60u32..200), loads in trace(), free in any::<usize>(),
        changes in prop::collection::vec((50u32..900, any::<u8>()), 40)
    ) {
        let mut controller = world.controller(free);
        let mut missed = false;
        for (i, &load) in loads.iter().enumerate() {
            if let Some(&change) = changes.get(i % 80) {
                change_limits(&world, &mut controller, change);
            }
            let limits = controller.limits();
            let record = world.step(&mut controller, load);
            if missed && record.missed {
                let fastest_us = world.fastest_us(limits.ram_bytes, load);
                prop_assert!(limits.deadline_us.is_some_and(|us| fastest_us > us), "{i}: {record:?}");
            }
            missed = record.missed;
        }
    }

    #[test]
    fn a_lasting_slowdown_is_met_from_the_third_inference_on(
        world in world(Just(100)), free in any::<usize>(), quiet in 1usize..40, rise in 101u32..600
    ) {
        let mut controller = world.controller(free);
        (0..quiet).for_each(|_| { world.step(&mut controller, 100); });
        let usable_us = controller.limits().usable_us().unwrap();
        for after in 0..30 {
            let record = world.step(&mut controller, rise);
            let possible = world.fastest_us(u32::MAX, rise) <= usable_us;
            prop_assert!(after < 2 || !possible || !record.missed, "{after} after the rise: {record:?}");
        }
    }

    #[test]
    fn after_the_load_falls_the_best_plan_returns_and_stays(
        world in world(Just(100)), free in any::<usize>(), loads in trace(), calm in 80u32..130
    ) {
        let mut controller = world.controller(free);
        loads.iter().for_each(|&load| { world.step(&mut controller, load); });
        (0..259).for_each(|_| { world.step(&mut controller, calm); });
        // A plan blamed for a load that rose just as it was entered is another matter; see below.
        prop_assume!(controller.has_no_penalty());
        let usable_us = controller.limits().usable_us().unwrap();
        // The factor is rounded up to 1/4096 and times to whole microseconds.
        let range = world.best_within(usable_us * 995 / 1000, calm)..=world.best_within(usable_us, calm);
        for _ in 0..150 {
            let record = world.step(&mut controller, calm);
            prop_assert!(range.contains(&world.rung_of(record.plan)), "{range:?}: {record:?}");
        }
    }

    #[test]
    fn without_back_off_the_best_plan_returns_within_seven_inferences(
        world in world(Just(100)), free in any::<usize>(), busy in 130u32..500, len in 3usize..40
    ) {
        let mut controller = world.controller(free);
        let before = controller.rung();
        (0..len).for_each(|_| { world.step(&mut controller, busy); });
        (0..7).for_each(|_| { world.step(&mut controller, 100); });
        prop_assert_eq!(controller.rung(), before);
    }

    #[test]
    fn under_a_constant_load_with_jitter_plans_hardly_change(
        world in world(70u32..180), free in any::<usize>(), load in 80u32..300,
        jitter in prop::collection::vec(0u32..100, 1000)
    ) {
        let mut controller = world.controller(free);
        let mut climbs = 0;
        let mut last = world.rung_of(controller.rung().plan);
        for wobble in &jitter {
            world.step(&mut controller, load * (1000 + wobble) / 1000);
            let now = world.rung_of(controller.rung().plan);
            climbs += usize::from(now > last);
            last = now;
        }
        let bound = 5 + 2 * (jitter.len() / 128 + 1) * world.rungs.len();
        prop_assert!(climbs <= bound, "{climbs} moves up, {bound} allowed");
    }

    #[test]
    fn lone_bursts_cost_one_miss_in_twenty_inferences(
        world in world(Just(100)), free in any::<usize>(), height in 101u32..500,
        gaps in prop::collection::vec(2usize..60, 1..60)
    ) {
        let mut controller = world.controller(free);
        let deadline_us = controller.limits().deadline_us.unwrap();
        let (mut inferences, mut misses) = (0, 0);
        for gap in gaps {
            for i in 0..gap {
                let load = if i + 1 == gap { height } else { 100 };
                let record = world.step(&mut controller, load);
                let possible = world.fastest_us(u32::MAX, load) <= deadline_us;
                misses += usize::from(record.missed && possible);
                inferences += 1;
            }
        }
        prop_assert!(misses <= inferences / 20 + 3, "{misses} misses in {inferences} inferences");
    }
}

#[test]
fn a_plan_slower_than_predicted_is_found_out_without_slowing_the_others() {
    let rung = |plan, latency_us| Rung {
        plan,
        footprint: Footprint { arena_bytes: 0, fast_bytes: 0 },
        accuracy_ppm: 1 + u32::from(plan),
        latency_us,
    };
    let world = World { rungs: vec![rung(0, 1000), rung(1, 2000), rung(2, 4000)], error_percent: vec![100, 100, 150] };
    let limits = |us| Limits { deadline_us: Some(us), ..Limits::NONE };
    let mut controller = Controller::new(&world.ladder(), limits(3000)).unwrap();
    (0..5).for_each(|_| {
        world.step(&mut controller, 100);
    });
    controller.set_limits(limits(5000)).unwrap();
    assert!(world.step(&mut controller, 100).missed);
    (0..20).for_each(|_| {
        world.step(&mut controller, 100);
    });
    assert_eq!((controller.rung().plan, controller.slowdown()), (1, Factor::ONE));
    // With time enough for its true latency it is used.
    controller.set_limits(limits(7000)).unwrap();
    assert_eq!((controller.rung().plan, controller.predicted_us()), (2, 6000));
}

#[test]
fn a_plan_blamed_wrongly_is_tried_again() {
    let rung = |plan, latency_us| Rung {
        plan,
        footprint: Footprint { arena_bytes: 0, fast_bytes: 0 },
        accuracy_ppm: 1 + u32::from(plan),
        latency_us,
    };
    let world = World { rungs: vec![rung(0, 1000), rung(1, 2000)], error_percent: vec![100, 100] };
    let limits = |us| Limits { deadline_us: Some(us), ..Limits::NONE };
    let mut controller = Controller::new(&world.ladder(), limits(1500)).unwrap();
    (0..5).for_each(|_| {
        world.step(&mut controller, 100);
    });
    controller.set_limits(limits(2500)).unwrap();
    // The load rises for just the first inference of the slower plan.
    assert!(world.step(&mut controller, 300).missed);
    let back = (0..1000).position(|_| world.step(&mut controller, 100).plan == 1);
    assert!(back.is_some_and(|inferences| inferences > 100), "{back:?}");
}
