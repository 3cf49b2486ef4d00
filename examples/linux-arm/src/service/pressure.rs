//! When to move to a smaller plan, and when back.

mod source;

use std::time::Duration;

pub use source::Source;

/// Most that the quiet time grows, as a factor.
const MOST_PATIENCE: u32 = 8;

/// Steps down under memory pressure, and back after quiet time. Pressure that returns soon after a step back doubles the quiet
/// time that the next step back needs, so that a plan that does not fit is tried ever more rarely. Times are durations since
/// one arbitrary start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    steps: usize,
    calm: Duration,
    patience: u32,
    /// Last pressure or move.
    unrest: Duration,
    /// Last step back.
    back: Option<Duration>,
}

impl Level {
    /// No steps down; a step back needs `calm` of quiet.
    pub const fn new(calm: Duration) -> Self {
        Self { steps: 0, calm, patience: 1, unrest: Duration::ZERO, back: None }
    }

    /// Pressure at `now`. Returns the steps down, at most `lowest`.
    pub fn press(&mut self, now: Duration, lowest: usize) -> usize {
        if let Some(back) = self.back.take() {
            let is_soon = now.saturating_sub(back) < self.quiet() * 2;
            self.patience = if is_soon { (self.patience * 2).min(MOST_PATIENCE) } else { 1 };
        }
        self.unrest = now;
        self.steps = (self.steps + 1).min(lowest);
        self.steps
    }

    /// No pressure at `now`. Returns the steps down.
    pub fn relax(&mut self, now: Duration, lowest: usize) -> usize {
        self.steps = self.steps.min(lowest);
        if self.steps > 0 && now >= self.due() {
            self.steps -= 1;
            self.unrest = now;
            self.back = Some(now);
        }
        self.steps
    }

    /// When the next step back is due, if steps are left and nothing happens before.
    pub fn next_relax(&self) -> Option<Duration> {
        (self.steps > 0).then(|| self.due())
    }

    fn due(&self) -> Duration {
        self.unrest.saturating_add(self.quiet())
    }

    fn quiet(&self) -> Duration {
        self.calm.saturating_mul(self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn pressure_steps_down_to_the_lowest_and_quiet_time_steps_back() {
        let mut level = Level::new(at(10));
        assert_eq!([level.press(at(1), 2), level.press(at(2), 2), level.press(at(3), 2)], [1, 2, 2]);
        assert_eq!(level.next_relax(), Some(at(13)));
        assert_eq!([level.relax(at(12), 2), level.relax(at(13), 2), level.relax(at(14), 2)], [2, 1, 1]);
        assert_eq!(level.relax(at(23), 2), 0);
        assert_eq!(level.next_relax(), None);
    }

    #[test]
    fn pressure_soon_after_a_step_back_makes_it_more_patient_up_to_a_bound() {
        let mut level = Level::new(at(10));
        let mut now = at(0);
        level.press(now, 1);
        let mut waits = Vec::new();
        for _ in 0..6 {
            let due = level.next_relax().unwrap();
            waits.push((due - now).as_secs());
            assert_eq!(level.relax(due, 1), 0);
            now = due + at(1);
            level.press(now, 1);
        }
        assert_eq!(waits, [10, 20, 40, 80, 80, 80]);
        assert_eq!(level.relax(now + at(80), 1), 0);
        level.press(now + at(1000), 1);
        assert_eq!(level.next_relax(), Some(now + at(1010)), "long after, patience starts over");
    }

    #[test]
    fn a_bundle_with_fewer_plans_lowers_the_steps() {
        let mut level = Level::new(at(10));
        for now in 0..3 {
            level.press(at(now), 5);
        }
        assert_eq!(level.relax(at(3), 1), 1);
        assert_eq!(level.press(at(4), 0), 0);
    }
}
