//! From a window to padded copies, taps and phases.

use super::correlate::{Correlation, Phase, Tap};
use super::padded::Padded;
use crate::graph::Window;

/// The convolution of an HWC map as a correlation, for one group of `[in, out]` channels. `input` and `output` are rows and columns.
pub fn forward(window: &Window, input: [usize; 2], output: [usize; 2], channels: [usize; 2]) -> Correlation {
    let reach = |axis: usize| {
        let last = output[axis].saturating_sub(1) * window.stride[axis];
        last + (window.kernel[axis] - 1) * window.dilation[axis] + 1
    };
    let extent = std::array::from_fn(|axis| reach(axis).max(window.pad[axis] + input[axis]));
    let before = [window.pad[0], window.pad[1]];
    let [rows, columns] = window.kernel;
    let taps = (0..rows * columns)
        .map(|index| Tap {
            offset: [index / columns * window.dilation[0], index % columns * window.dilation[1]],
            index,
        })
        .collect();
    Correlation {
        input: Padded { map: input, channels: channels[0], before, extent },
        stride: window.stride,
        output,
        channels: channels[1],
        phases: vec![Phase { taps, start: [0, 0], step: [1, 1], count: output }],
    }
}

/// The gradient with respect to the convolution's input, read from a copy of the output's gradient.
pub fn backward(window: &Window, input: [usize; 2], output: [usize; 2], channels: [usize; 2]) -> Correlation {
    let axes = [0, 1].map(|axis| axis_phases(window, axis, input[axis]));
    let offsets = |axis: usize| axes[axis].iter().flat_map(|phase: &AxisPhase| phase.taps.iter().map(|tap| tap.0));
    let before: [usize; 2] =
        std::array::from_fn(|axis| offsets(axis).min().map_or(0, |least| (-least).max(0) as usize));
    let extent = std::array::from_fn(|axis| {
        let reach = axes[axis].iter().flat_map(|phase| phase.taps.iter().map(|tap| tap.0 + phase.count as isize)).max();
        let reach = reach.map_or(0, |reach| (reach + before[axis] as isize).max(0) as usize);
        reach.max(before[axis] + output[axis])
    });
    let mut phases = Vec::new();
    for rows in &axes[0] {
        for columns in &axes[1] {
            let tap = |&(dy, ky): &(isize, usize), &(dx, kx): &(isize, usize)| Tap {
                offset: [(dy + before[0] as isize) as usize, (dx + before[1] as isize) as usize],
                index: ky * window.kernel[1] + kx,
            };
            let taps =
                rows.taps.iter().flat_map(|row| columns.taps.iter().map(move |column| tap(row, column))).collect();
            phases.push(Phase {
                taps,
                start: [rows.start, columns.start],
                step: window.stride,
                count: [rows.count, columns.count],
            });
        }
    }
    Correlation {
        input: Padded { map: output, channels: channels[1], before, extent },
        stride: [1, 1],
        output: input,
        channels: channels[0],
        phases,
    }
}

struct AxisPhase {
    /// Offset of the output row read by the phase's first input row, and kernel tap.
    taps: Vec<(isize, usize)>,
    start: usize,
    count: usize,
}

/// Input rows `start, start + stride, ...` read output row `i + offset` through each tap.
fn axis_phases(window: &Window, axis: usize, extent: usize) -> Vec<AxisPhase> {
    let stride = window.stride[axis];
    (0..stride.min(extent))
        .map(|start| {
            let taps = (0..window.kernel[axis]).rev().filter_map(|tap| {
                let distance = (start + window.pad[axis]) as isize - (tap * window.dilation[axis]) as isize;
                (distance.rem_euclid(stride as isize) == 0).then(|| (distance.div_euclid(stride as isize), tap))
            });
            AxisPhase { taps: taps.collect(), start, count: (extent - start).div_ceil(stride) }
        })
        .collect()
}
