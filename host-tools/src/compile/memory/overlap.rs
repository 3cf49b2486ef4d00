//! Which steps write their output over their input.

use stitchkit_runtime::bundle::Clearance;

use super::problem::Problem;
use super::{Clearances, FlatStep, Layout, MemoryError};

/// Whether outputs may be written over inputs, which takes less memory and more calls of the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overlap {
    Never,
    /// In a few large parts.
    Coarse,
    /// In many small ones.
    Fine,
}

impl Overlap {
    /// From the cheapest in calls to the cheapest in memory.
    pub const ALL: [Self; 3] = [Self::Never, Self::Coarse, Self::Fine];

    const fn of(self, clearances: &Clearances) -> Option<Clearance> {
        match self {
            Self::Never => None,
            Self::Coarse => Some(clearances.coarse),
            Self::Fine => Some(clearances.fine),
        }
    }
}

/// A problem and the offsets found for it.
pub(super) struct Solved {
    problem: Problem,
    offsets: Vec<u32>,
    lower_bound_bytes: u32,
}

impl Solved {
    /// Outputs are written over inputs where the arena would be larger otherwise, and nowhere else.
    pub fn new(input_bytes: u32, steps: &[FlatStep], overlap: Overlap) -> Result<Self, MemoryError> {
        let problem = |overlap: Overlap| {
            Problem::new(input_bytes, steps, |step| steps[step].clearance.as_ref().and_then(|all| overlap.of(all)))
        };
        let over = problem(overlap)?;
        let solved = Self { offsets: over.solve()?, lower_bound_bytes: over.lower_bound()?, problem: over };
        if overlap == Overlap::Never { Ok(solved) } else { solved.eased(input_bytes, steps, &problem(Overlap::Never)?) }
    }

    /// The problem and the layout found.
    pub fn arranged(self) -> (Problem, Layout) {
        let layout = self.problem.arranged(&self.offsets, self.lower_bound_bytes);
        (self.problem, layout)
    }

    /// With as much as possible apart again: what is in use when the arena would be too small otherwise stays where it is.
    fn eased(self, input_bytes: u32, steps: &[FlatStep], apart: &Problem) -> Result<Self, MemoryError> {
        let Self { problem, offsets, .. } = &self;
        let top = problem.top(offsets);
        let tight: Vec<usize> = (0..steps.len()).filter(|&step| apart.live_bytes(step) > top.into()).collect();
        let held: Vec<Option<u32>> = (problem.buffers.iter().zip(offsets))
            .map(|(buffer, &offset)| tight.iter().any(|&step| buffer.is_live(step)).then_some(offset))
            .collect();
        let between_held = |step: usize| {
            let output = problem.of_value[step + 1];
            let over = problem.buffers[output].over.filter(|over| over.step == step)?;
            (held[output].is_some() && held[over.buffer].is_some()).then_some(over.clearance)
        };
        let eased = Problem::new(input_bytes, steps, between_held)?;
        let found = eased.fit_around(&held, top);
        Ok(match found {
            Some(offsets) => Self { problem: eased, offsets, ..self },
            None => self,
        })
    }
}
