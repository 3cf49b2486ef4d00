//! Deadlines that change while the loop runs.

/// What a frame is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Deadline {
    /// All the time it wants.
    None,
    /// So many microseconds.
    Us(u64),
}

impl Deadline {
    /// As the runtime's limits take it.
    #[must_use]
    pub const fn us(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Us(us) => Some(us),
        }
    }
}

/// Deadlines made for the plans of a bundle on this board, each held for some frames: no deadline, one that the slowest plan
/// meets, one halfway, one that only the fastest meets, and one that nothing meets. Then it starts over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Predicted time of the fastest plan that fits in memory.
    pub fastest_us: u64,
    /// Predicted time of the slowest.
    pub slowest_us: u64,
    /// Frames per deadline.
    pub held_frames: u32,
}

impl Schedule {
    /// Different deadlines.
    pub const DEADLINES: u32 = 5;

    /// Frames until the schedule starts over.
    #[must_use]
    pub const fn frames(&self) -> u32 {
        self.held_frames.saturating_mul(Self::DEADLINES)
    }

    /// The deadline of a frame.
    #[must_use]
    pub const fn deadline(&self, frame: u32) -> Deadline {
        let held = if self.held_frames == 0 { 1 } else { self.held_frames };
        // Deadlines leave room for the reserve that the runtime keeps.
        Deadline::Us(match frame / held % Self::DEADLINES {
            0 => return Deadline::None,
            1 => with_room(self.slowest_us),
            2 => with_room(self.fastest_us / 2 + self.slowest_us / 2),
            3 => with_room(self.fastest_us),
            _ => self.fastest_us / 2,
        })
    }
}

const fn with_room(us: u64) -> u64 {
    us.saturating_add(us / 4).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_deadline_is_held_and_comes_again() {
        let schedule = Schedule { fastest_us: 100, slowest_us: 1000, held_frames: 2 };
        let found: Vec<_> = (0..12).map(|frame| schedule.deadline(frame).us()).collect();
        let one_round = [None, Some(1251), Some(688), Some(126), Some(50)];
        let held: Vec<_> = one_round.iter().flat_map(|us| [*us, *us]).collect();
        assert_eq!(found[..10], held[..]);
        assert_eq!(found[10..], [None, None]);
        assert_eq!(schedule.frames(), 10);
    }
}
