//! Limits on what a plan may cost, and how far a plan is from meeting them.

use std::fmt;

use serde::Serialize;

use crate::report::table::{grouped, percent};

/// What a plan costs and gives on one board.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// Arena; where the board has a fast memory too, what lies in the main one.
    pub ram_bytes: u64,
    /// Bundle, or the part of it that the plan uses.
    pub flash_bytes: u64,
    /// Predicted time of one inference.
    pub latency_us: u64,
    /// Share of right answers in int8, 0 to 1.
    pub accuracy: f64,
}

/// What a plan may cost and has to give. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// Bytes of arena.
    pub ram_bytes: Option<u64>,
    /// Bytes of bundle.
    pub flash_bytes: Option<u64>,
    /// Time one inference may take.
    pub deadline_us: Option<u64>,
    /// Reserve kept below the deadline, in percent of it.
    pub margin_percent: u8,
    /// Least share of right answers.
    pub min_accuracy: Option<f64>,
}

/// One limit that a plan exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "limit", rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Excess {
    /// Too much arena.
    Memory { needed_bytes: u64, available_bytes: u64 },
    /// Too large for the flash.
    Flash { needed_bytes: u64, available_bytes: u64 },
    /// Too slow.
    Latency { predicted_us: u64, usable_us: u64, deadline_us: u64 },
    /// Not accurate enough.
    Accuracy { reached: f64, wanted: f64 },
}

impl Limits {
    /// No limit; a margin of 10 % should a deadline be set.
    pub const NONE: Self =
        Self { ram_bytes: None, flash_bytes: None, deadline_us: None, margin_percent: 10, min_accuracy: None };

    /// The deadline less its reserve, as [`stitchkit_runtime::select::Limits::usable_us`] has it.
    #[must_use]
    pub fn usable_us(&self) -> Option<u64> {
        let device = stitchkit_runtime::select::Limits {
            deadline_us: self.deadline_us,
            margin_percent: self.margin_percent,
            ..stitchkit_runtime::select::Limits::NONE
        };
        device.usable_us()
    }

    /// Every limit that these figures exceed.
    #[must_use]
    pub fn excesses(&self, figures: &Figures) -> Vec<Excess> {
        let mut found = Vec::new();
        if let Some(available_bytes) = self.ram_bytes.filter(|&limit| figures.ram_bytes > limit) {
            found.push(Excess::Memory { needed_bytes: figures.ram_bytes, available_bytes });
        }
        if let Some(available_bytes) = self.flash_bytes.filter(|&limit| figures.flash_bytes > limit) {
            found.push(Excess::Flash { needed_bytes: figures.flash_bytes, available_bytes });
        }
        if let Some(usable_us) = self.usable_us().filter(|&limit| figures.latency_us > limit) {
            let deadline_us = self.deadline_us.unwrap_or(usable_us);
            found.push(Excess::Latency { predicted_us: figures.latency_us, usable_us, deadline_us });
        }
        if let Some(wanted) = self.min_accuracy.filter(|&limit| figures.accuracy < limit) {
            found.push(Excess::Accuracy { reached: figures.accuracy, wanted });
        }
        found
    }
}

impl Excess {
    /// How far beyond the limit: 1 is on it, 2 is twice as much as allowed.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        let over = |needed: u64, limit: u64| needed as f64 / limit.max(1) as f64;
        match *self {
            Self::Memory { needed_bytes, available_bytes } | Self::Flash { needed_bytes, available_bytes } => {
                over(needed_bytes, available_bytes)
            }
            Self::Latency { predicted_us, usable_us, .. } => over(predicted_us, usable_us),
            Self::Accuracy { reached, wanted } => wanted / reached.max(1e-6),
        }
    }
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Memory { needed_bytes, available_bytes } => {
                write!(f, "needs {} bytes of arena, {} allowed", grouped(needed_bytes), grouped(available_bytes))
            }
            Self::Flash { needed_bytes, available_bytes } => {
                write!(f, "needs {} bytes of flash, {} allowed", grouped(needed_bytes), grouped(available_bytes))
            }
            Self::Latency { predicted_us, usable_us, deadline_us } if usable_us < deadline_us => write!(
                f,
                "takes {} us, {} us usable of a deadline of {} us",
                grouped(predicted_us),
                grouped(usable_us),
                grouped(deadline_us)
            ),
            Self::Latency { predicted_us, usable_us, .. } => {
                write!(f, "takes {} us, {} us allowed", grouped(predicted_us), grouped(usable_us))
            }
            Self::Accuracy { reached, wanted } => {
                write!(f, "reaches {}, {} wanted", percent(reached), percent(wanted))
            }
        }
    }
}

/// The option that comes nearest to its limits: its index and what it exceeds. Nearest is the one whose worst excess is
/// smallest, of equals the one with fewer excesses; `None` without options.
#[must_use]
pub fn nearest(options: &[Figures], limits: &Limits) -> Option<(usize, Vec<Excess>)> {
    let worst = |excesses: &[Excess]| excesses.iter().map(Excess::ratio).fold(0.0, f64::max);
    let all = options.iter().map(|figures| limits.excesses(figures)).enumerate();
    all.min_by(|(_, a), (_, b)| worst(a).total_cmp(&worst(b)).then(a.len().cmp(&b.len())))
}

/// The option that the device's rule picks: the most accurate one inside the limits, of equally accurate ones the fastest,
/// then the first. `None` if none is inside.
#[must_use]
pub fn most_accurate(options: &[Figures], limits: &Limits) -> Option<usize> {
    let inside = (0..options.len()).filter(|&index| limits.excesses(&options[index]).is_empty());
    inside.min_by(|&a, &b| {
        let (a, b) = (&options[a], &options[b]);
        b.accuracy.total_cmp(&a.accuracy).then(a.latency_us.cmp(&b.latency_us))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn figures(ram_bytes: u64, latency_us: u64, accuracy: f64) -> Figures {
        Figures { ram_bytes, flash_bytes: 100, latency_us, accuracy }
    }

    #[test]
    fn every_exceeded_limit_is_named_with_both_figures() {
        let limits = Limits {
            ram_bytes: Some(1000),
            flash_bytes: Some(50),
            deadline_us: Some(100),
            min_accuracy: Some(0.9),
            ..Limits::NONE
        };
        let excesses = limits.excesses(&figures(2048, 95, 0.8));
        let text: Vec<String> = excesses.iter().map(Excess::to_string).collect();
        assert_eq!(
            text,
            [
                "needs 2,048 bytes of arena, 1,000 allowed",
                "needs 100 bytes of flash, 50 allowed",
                "takes 95 us, 90 us usable of a deadline of 100 us",
                "reaches 80.00 %, 90.00 % wanted",
            ]
        );
        assert!(limits.excesses(&Figures { flash_bytes: 50, ..figures(1000, 90, 0.9) }).is_empty());
    }

    #[test]
    fn the_nearest_miss_has_the_smallest_worst_excess() {
        let limits = Limits { ram_bytes: Some(100), deadline_us: Some(100), margin_percent: 0, ..Limits::NONE };
        let options = [figures(300, 10, 0.9), figures(150, 160, 0.8), figures(50, 170, 0.7)];
        let (index, excesses) = nearest(&options, &limits).unwrap();
        assert_eq!((index, excesses.len()), (1, 2));
    }

    proptest! {
        #[test]
        fn the_pick_meets_every_limit_and_nothing_inside_is_better(
            raw in prop::collection::vec((0u64..9, 0u64..9, 0u8..5), 0..12), ram in 0u64..9, deadline in 0u64..9,
        ) {
            let options: Vec<_> = raw.iter().map(|&(r, l, a)| figures(r, l, f64::from(a) / 5.0)).collect();
            let limits = Limits { ram_bytes: Some(ram), deadline_us: Some(deadline), margin_percent: 0, ..Limits::NONE };
            let inside = |f: &Figures| f.ram_bytes <= ram && f.latency_us <= deadline;
            match most_accurate(&options, &limits) {
                None => {
                    prop_assert!(!options.iter().any(inside));
                    if let Some((_, excesses)) = nearest(&options, &limits) {
                        prop_assert!(!excesses.is_empty());
                    }
                }
                Some(pick) => {
                    prop_assert!(inside(&options[pick]));
                    prop_assert!(options.iter().filter(|f| inside(f)).all(|f| f.accuracy <= options[pick].accuracy));
                }
            }
        }
    }
}
