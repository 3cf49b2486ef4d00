//! The buffers of a plan, when each is in use, and which of them may share memory.

use stitchkit_runtime::bundle::{Clearance, InPlace, Placement};

use super::{ALIGN_BYTES, FlatStep, Layout, MemoryError};

/// A stretch of memory that is in use from step `first` to step `last`, both included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buffer {
    pub bytes: u32,
    pub first: usize,
    pub last: usize,
    /// Bytes loaded from and stored to it.
    pub accesses: u64,
    /// The buffer that its first step may write it over.
    pub over: Option<Over>,
}

/// Another buffer that one may lie partly over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Over {
    pub buffer: usize,
    /// The step that writes the one over the other.
    pub step: usize,
    pub clearance: Clearance,
    /// Least bytes from its start to the other's, if it starts first.
    pub before_bytes: u32,
    /// Least bytes from the other's start to its own, if the other starts first.
    pub after_bytes: u32,
}

impl Buffer {
    /// True if it is in use during the step.
    pub const fn is_live(&self, step: usize) -> bool {
        self.first <= step && step <= self.last
    }

    const fn meets(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Buffers of a plan: tensors first, then scratch areas.
#[derive(Debug)]
pub(super) struct Problem {
    pub buffers: Vec<Buffer>,
    /// Buffer of each value.
    pub of_value: Vec<usize>,
    /// Buffer of each step's scratch.
    pub of_scratch: Vec<Option<usize>>,
}

/// The last step that reads each value; the final output lives until the end.
pub(super) fn last_uses(steps: &[FlatStep]) -> Result<Vec<usize>, MemoryError> {
    let mut last: Vec<usize> = (0..=steps.len()).map(|value| value.saturating_sub(1)).collect();
    for (step, flat) in steps.iter().enumerate() {
        for &value in &flat.inputs {
            if value > step {
                return Err(MemoryError::Order { step, value });
            }
            last[value] = step;
        }
    }
    Ok(last)
}

impl Problem {
    /// A step may write its output over its input with the clearance that `clearance` says.
    pub fn new(
        input_bytes: u32,
        steps: &[FlatStep],
        clearance: impl Fn(usize) -> Option<Clearance>,
    ) -> Result<Self, MemoryError> {
        let last = last_uses(steps)?;
        let new = |first, last| Buffer { bytes: 0, first, last, accesses: 0, over: None };
        let mut buffers = vec![Buffer { bytes: input_bytes, accesses: input_bytes.into(), ..new(0, last[0]) }];
        let mut of_value = vec![0];
        for (step, flat) in steps.iter().enumerate() {
            let shared = takes_over(step, flat, &last)?;
            let buffer = shared.map(|value| of_value[value]).unwrap_or_else(|| {
                buffers.push(new(step, step));
                buffers.len() - 1
            });
            let entry = &mut buffers[buffer];
            entry.bytes = entry.bytes.max(flat.output_bytes);
            entry.last = entry.last.max(last[step + 1]);
            entry.accesses += flat.accesses.output;
            of_value.push(buffer);
            for (&value, &accesses) in flat.inputs.iter().zip(&flat.accesses.inputs) {
                buffers[of_value[value]].accesses += accesses;
            }
        }
        let mut of_scratch = Vec::with_capacity(steps.len());
        for (step, flat) in steps.iter().enumerate() {
            of_scratch.push((flat.scratch_bytes > 0).then(|| {
                let accesses = flat.accesses.scratch;
                buffers.push(Buffer { bytes: flat.scratch_bytes, accesses, ..new(step, step) });
                buffers.len() - 1
            }));
        }
        for (step, flat) in steps.iter().enumerate() {
            let (Some(clearance), &[value]) = (clearance(step), &flat.inputs[..]) else { continue };
            let (input, output) = (of_value[value], of_value[step + 1]);
            if input != output && buffers[input].last == step {
                let aligned = |bytes: usize| (bytes as u32).next_multiple_of(ALIGN_BYTES);
                buffers[output].over = Some(Over {
                    buffer: input,
                    step,
                    clearance,
                    before_bytes: aligned(clearance.before_bytes),
                    after_bytes: aligned(clearance.after_bytes),
                });
            }
        }
        Ok(Self { buffers, of_value, of_scratch })
    }

    /// Where the input lies, and output and scratch of every step, if buffers lie at these offsets.
    pub fn layout(&self, offset: impl Fn(usize) -> u32) -> (u32, Vec<Placement>) {
        let steps = self.of_value.iter().skip(1).zip(&self.of_scratch);
        let place = |(&output, scratch): (&usize, &Option<usize>)| Placement {
            output: offset(output),
            scratch: scratch.map_or(0, &offset),
        };
        (offset(self.of_value[0]), steps.map(place).collect())
    }

    /// Most bytes in use during any one step.
    pub fn lower_bound(&self) -> Result<u32, MemoryError> {
        let bound = (0..self.of_scratch.len().max(1)).map(|step| self.live_bytes(step)).max().unwrap_or(0);
        u32::try_from(bound).map_err(|_| MemoryError::TooLarge)
    }

    /// Bytes in use during a step.
    pub fn live_bytes(&self, step: usize) -> u64 {
        let live = self.buffers.iter().filter(|buffer| buffer.is_live(step));
        let bytes = |buffer: &Buffer| match buffer.over.filter(|_| buffer.first == step) {
            // What both take together, less the input, which counts by itself.
            Some(over) => {
                let input = self.buffers[over.buffer].bytes;
                let output_first = (over.before_bytes + input).max(buffer.bytes);
                let input_first = (over.after_bytes + buffer.bytes).max(input);
                u64::from(output_first.min(input_first).saturating_sub(input))
            }
            None => buffer.bytes.into(),
        };
        live.map(bytes).sum()
    }

    /// End of the last buffer.
    pub fn top(&self, offsets: &[u32]) -> u32 {
        offsets.iter().zip(&self.buffers).map(|(offset, b)| offset + b.bytes).max().unwrap_or(0)
    }

    /// The layout with buffers at these offsets.
    pub fn arranged(&self, offsets: &[u32], lower_bound_bytes: u32) -> Layout {
        let (input_offset, placements) = self.layout(|buffer| offsets[buffer]);
        let arena_bytes = self.top(offsets).next_multiple_of(ALIGN_BYTES);
        Layout { input_offset, placements, arena_bytes, lower_bound_bytes, fast_bytes: 0 }
    }

    /// Each buffer in turn as low as it can lie, around those that are held.
    pub fn first_fit(&self, order: &[usize], held: &[Option<u32>]) -> Vec<u32> {
        let mut offsets = held.to_vec();
        for &buffer in order {
            if offsets[buffer].is_none() {
                offsets[buffer] = Some(self.lowest(buffer, &offsets));
            }
        }
        offsets.into_iter().map(|offset| offset.unwrap_or(0)).collect()
    }

    /// Highest aligned offset below `goal` of a buffer that avoids everything placed that is in use at the same time.
    pub fn highest(&self, buffer: usize, offsets: &[Option<u32>], goal: u32) -> Option<u32> {
        let bytes = self.buffers[buffer].bytes;
        let below = |end: u32| end.checked_sub(bytes).map(|at| at / ALIGN_BYTES * ALIGN_BYTES);
        let mut taken = self.taken(buffer, offsets);
        taken.sort_unstable_by_key(|&(_, end)| std::cmp::Reverse(end));
        let mut at = below(goal)?;
        for (start, end) in taken {
            if at < end && start < at + bytes {
                at = below(start)?;
            }
        }
        Some(at)
    }

    /// Stretches that a buffer must avoid, since what lies there is in use at the same time. A stretch may end before it starts:
    /// the buffer may then lie over it, but not start before its end and end behind its start.
    fn taken(&self, buffer: usize, offsets: &[Option<u32>]) -> Vec<(u32, u32)> {
        let wanted = &self.buffers[buffer];
        let placed = offsets.iter().zip(&self.buffers).enumerate().filter(|(_, (_, other))| other.meets(wanted));
        let stretch = |(index, (offset, other)): (usize, (&Option<u32>, &Buffer))| {
            let (start, end) = ((*offset)?, (*offset)? + other.bytes);
            Some(match (wanted.over, other.over) {
                (Some(over), _) if over.buffer == index => {
                    (start + wanted.bytes.saturating_sub(over.before_bytes), start + over.after_bytes)
                }
                (_, Some(over)) if over.buffer == buffer => {
                    (start + wanted.bytes.saturating_sub(over.after_bytes), start + over.before_bytes)
                }
                _ => (start, end),
            })
        };
        placed.filter_map(stretch).collect()
    }

    /// Lowest aligned offset of a buffer that avoids everything placed that is in use at the same time.
    pub fn lowest(&self, buffer: usize, offsets: &[Option<u32>]) -> u32 {
        let bytes = self.buffers[buffer].bytes;
        let mut taken = self.taken(buffer, offsets);
        taken.sort_unstable();
        let mut at = 0u32;
        for (start, end) in taken {
            if at + bytes <= start {
                break;
            }
            at = at.max(end.next_multiple_of(ALIGN_BYTES));
        }
        at
    }
}

/// The value whose memory a step's output takes over.
fn takes_over(step: usize, flat: &FlatStep, last: &[usize]) -> Result<Option<usize>, MemoryError> {
    let dies = |which: usize| {
        let value = flat.inputs[which];
        last[value] == step && flat.inputs.iter().filter(|&&other| other == value).count() == 1
    };
    match flat.in_place {
        InPlace::Never => Ok(None),
        InPlace::FirstInputIfWanted => Ok(dies(0).then(|| flat.inputs[0])),
        InPlace::SecondInput if dies(1) => Ok(Some(flat.inputs[1])),
        InPlace::SecondInput => Err(MemoryError::Overwritten { step, value: flat.inputs[1] }),
    }
}
