//! Convolution: three windows of int8 taps at a time, two filters per turn; a single position takes four filters per turn.

use super::filters::{
    Block, CHUNK, Sums, WINDOWS, one_window, three_windows, three_windows_of_16, three_windows_of_32,
    three_windows_of_48s,
};
use super::finish::Finish;
use super::gather::Gather;
use super::land::{Landings, land};
use crate::kernels::params::{Add, Conv2d, Requant};
use crate::kernels::reference;
use crate::kernels::scales::pre_shift;

/// Convolution; `scratch` holds [`Conv2d::scratch_bytes`].
pub fn conv2d(
    p: &Conv2d,
    q: &Requant<'_>,
    residual: Option<&Add>,
    input: &[i8],
    weights: &[i8],
    scratch: &mut [u8],
    output: &mut [i8],
) {
    let taps = p.taps();
    let channels = usize::from(p.output.c).max(1);
    let Some(bits) = pre_shift(q, channels, taps).filter(|_| taps != 0) else {
        return reference::conv2d(p, q, residual, input, weights, output);
    };
    let groups = usize::from(p.groups).max(1);
    let (inputs, outputs) = (usize::from(p.input.c) / groups, (channels / groups).max(1));
    let mut run = Run {
        finish: Finish::new(q.landing, residual),
        bits,
        channels,
        points: points(p, input),
        sums: [[0; CHUNK]; WINDOWS],
        values: [0; WINDOWS * CHUNK],
        scratch: bytemuck::cast_slice_mut(scratch),
    };
    for group in 0..groups {
        for from in (0..outputs).step_by(CHUNK) {
            let count = CHUNK.min(outputs - from);
            let first = group * outputs + from;
            let Some(filters) = Filters::new(q, taps, weights, first, count) else { return };
            run.all_positions(&filters, Gather::new(p, (group * inputs, inputs), input), output);
        }
    }
}

/// The input, if windows are its positions one after the other.
fn points<'a>(p: &Conv2d, input: &'a [i8]) -> Option<&'a [i8]> {
    (p.is_pointwise() && p.groups == 1).then_some(input)
}

/// Filters and tables of adjacent output channels, at most [`CHUNK`].
struct Filters<'a> {
    taps: usize,
    weights: &'a [i8],
    bias: &'a [i32],
    multiplier: &'a [i32],
    shift: &'a [u8],
    zero_point: i8,
    /// First output channel, and how many.
    first: usize,
    count: usize,
}

impl<'a> Filters<'a> {
    fn new(q: &Requant<'a>, taps: usize, weights: &'a [i8], first: usize, count: usize) -> Option<Self> {
        let range = first..first + count;
        Some(Self {
            taps,
            weights: weights.get(first * taps..(first + count) * taps)?,
            bias: q.bias.get(range.clone())?,
            multiplier: q.multiplier.get(range.clone())?,
            shift: q.shift.get(range)?,
            zero_point: q.landing.zero_point,
            first,
            count,
        })
    }

    /// The loop for that many windows, and the filters it takes per turn.
    fn inner(&self, positions: usize) -> (unsafe extern "C" fn(&Block), usize) {
        match self.taps {
            _ if positions == 1 => (one_window, 4),
            ..=16 => (three_windows_of_16, 2),
            17..=32 => (three_windows_of_32, 2),
            taps if taps.is_multiple_of(48) => (three_windows_of_48s, 2),
            _ => (three_windows, 2),
        }
    }
}

/// One convolution.
struct Run<'a> {
    finish: Finish<'a>,
    /// See [`pre_shift`].
    bits: u32,
    /// Output channels.
    channels: usize,
    points: Option<&'a [i8]>,
    sums: Sums,
    values: [i8; WINDOWS * CHUNK],
    scratch: &'a mut [i8],
}

impl Run<'_> {
    /// The outputs of `filters` at every position.
    fn all_positions(&mut self, filters: &Filters<'_>, mut gather: Gather<'_>, output: &mut [i8]) {
        let (channels, taps, count) = (self.channels.max(1), filters.taps, filters.count);
        let (inner, per_turn) = filters.inner(output.len() / channels);
        let direct = self.finish.is_nothing();
        let spare = self.values.as_mut_ptr();
        let spare = [spare, spare.wrapping_add(count), spare.wrapping_add(2 * count)];
        let mut landings = Landings {
            sums: self.sums.as_ptr().cast(),
            bias: filters.bias.as_ptr(),
            multiplier: filters.multiplier.as_ptr(),
            shift: filters.shift.as_ptr(),
            places: spare,
            zero_point: filters.zero_point.into(),
            bits: self.bits,
            count,
            windows: if per_turn == 4 { 1 } else { WINDOWS },
        };
        let mut block = Block {
            windows: [core::ptr::null(); WINDOWS],
            weights: filters.weights.as_ptr(),
            taps,
            turns: count / per_turn,
            sums: self.sums.as_mut_ptr().cast(),
            filter_step: taps,
        };
        let mut points = self.points;
        for pixels in output.chunks_mut(WINDOWS * channels) {
            let positions = pixels.len() / channels;
            block.windows = match points.and_then(|points| points.split_at_checked(positions * taps)) {
                Some((now, later)) => {
                    points = Some(later);
                    let window = |at: usize| now.as_ptr().wrapping_add(at.min(positions - 1) * taps);
                    [window(0), window(1), window(2)]
                }
                None => gather.block(positions, self.scratch),
            };
            // SAFETY: windows and filters have `taps` bytes each, and the sums have room for `CHUNK` filters.
            unsafe {
                if block.turns != 0 {
                    inner(&block);
                }
                if count % per_turn != 0 {
                    rest(&block, count, count % per_turn);
                }
            }
            if direct && positions == WINDOWS {
                let first = pixels.as_mut_ptr().wrapping_add(filters.first);
                landings.places = [first, first.wrapping_add(channels), first.wrapping_add(2 * channels)];
                // SAFETY: tables and places hold `count` entries: the pixels are whole ones.
                unsafe { land(&landings) };
                continue;
            }
            landings.places = spare;
            // SAFETY: as above; three times `count` values fit.
            unsafe { land(&landings) };
            self.store(filters, pixels);
        }
    }

    /// Finishes the values of a block and stores them.
    #[inline(never)]
    fn store(&mut self, filters: &Filters<'_>, pixels: &mut [i8]) {
        if filters.count == self.channels {
            let len = pixels.len();
            return self.finish.store(self.values.get_mut(..len).unwrap_or(&mut []), pixels);
        }
        let values = self.values.chunks_exact_mut(filters.count.max(1));
        for (pixel, values) in pixels.chunks_exact_mut(self.channels.max(1)).zip(values) {
            self.finish.store(values, pixel.get_mut(filters.first..).unwrap_or(&mut []));
        }
    }
}

/// The last `rest` of `count` filters, filter by filter, each standing for both of its turn.
///
/// # Safety
/// As the loop for `block`. The place behind a window's last filter is spare: a chunk with a rest is not full.
#[inline(never)]
unsafe fn rest(block: &Block, count: usize, rest: usize) {
    for at in count - rest..count {
        let one = Block {
            weights: block.weights.wrapping_add(at * block.taps),
            turns: 1,
            filter_step: 0,
            sums: block.sums.wrapping_add(at),
            ..*block
        };
        // SAFETY: as the caller vouches; one filter from `at` on.
        unsafe { three_windows(&one) };
    }
}
