//! Cutting a convolution into ranges of output channels and output rows that are convolutions themselves.

use core::ops::Range;

use crate::bundle::{Op, rows_spanned, rows_under};
use crate::exec::dispatch::weights_per_channel;
use crate::kernels::{Add, Conv2d, Shape};

/// Bytes of requantization tables per output channel: bias, multiplier, shift.
const TABLE_BYTES: usize = 9;

/// A convolution of either kind, seen as something to cut.
#[derive(Debug, Clone, Copy)]
pub struct Cut<'a> {
    pub geometry: &'a Conv2d,
    pub residual: Option<&'a Add>,
    pub is_depthwise: bool,
    /// Weights of one output channel.
    pub taps: usize,
}

impl<'a> Cut<'a> {
    /// The convolution in `op`, if it is one.
    pub fn of(op: &'a Op) -> Option<Self> {
        let (geometry, residual, is_depthwise) = match op {
            Op::Conv2d { geometry, residual, .. } => (geometry, residual, false),
            Op::Depthwise { geometry, residual, .. } => (geometry, residual, true),
            _ => return None,
        };
        Some(Self { geometry, residual: residual.as_ref(), is_depthwise, taps: weights_per_channel(op, geometry) })
    }

    /// Output channels.
    pub fn channels(&self) -> usize {
        usize::from(self.geometry.output.c)
    }

    /// Input channels and output channels of one group.
    fn group(&self) -> (usize, usize) {
        let groups = usize::from(self.geometry.groups).max(1);
        (usize::from(self.geometry.input.c) / groups, (self.channels() / groups).max(1))
    }

    /// Bytes of the constants of `count` output channels, in the order of [`Room`].
    pub fn constant_bytes(&self, count: usize) -> usize {
        let weights = self.taps.saturating_mul(count).saturating_add(3) & !3;
        weights.saturating_add(count.saturating_mul(TABLE_BYTES))
    }

    /// Where the constants of `count` output channels lie in a window.
    pub fn room(&self, count: usize) -> Room {
        let weights = self.taps.saturating_mul(count);
        let bias = weights.saturating_add(3) & !3;
        let multiplier = bias.saturating_add(count.saturating_mul(4));
        let shift = multiplier.saturating_add(count.saturating_mul(4));
        let end = shift.saturating_add(count);
        Room { weights: 0..weights, bias: bias..multiplier, multiplier: multiplier..shift, shift: shift..end }
    }

    /// Input channels that `count` output channels read.
    fn inputs_of(&self, count: usize) -> usize {
        let (inputs, outputs) = self.group();
        inputs.saturating_mul((count / outputs).max(1))
    }

    /// True if a range of output channels reads all input channels, so that the input can be read where it lies.
    fn reads_all_inputs(&self) -> bool {
        self.geometry.groups <= 1
    }

    /// Bytes of staging that `rows` output rows of `count` channels take: gathered input channels, then the output.
    pub fn staging_bytes(&self, count: usize, rows: usize) -> usize {
        let Conv2d { input, output, .. } = self.geometry;
        let gathered = if self.reads_all_inputs() {
            0
        } else {
            let input_rows = rows_spanned(&self.geometry.window, rows).min(usize::from(input.h));
            input_rows.saturating_mul(usize::from(input.w)).saturating_mul(self.inputs_of(count))
        };
        let staged =
            if output.positions() == 1 { 0 } else { rows.saturating_mul(usize::from(output.w)).saturating_mul(count) };
        gathered.saturating_add(staged)
    }

    /// Fewest output channels of a piece: filters that [can be woven](Conv2d::can_be_woven) stay in pairs, whether they are or not.
    pub fn least_channels(&self) -> usize {
        if self.residual.is_none() && self.geometry.can_be_woven() { 2 } else { 1 }
    }

    /// Window that a piece of `count` channels takes; all channels need no staging.
    pub fn window_bytes(&self, count: usize) -> usize {
        let staging = if count >= self.channels() { 0 } else { self.staging_bytes(count, 1) };
        self.constant_bytes(count).saturating_add(staging)
    }

    /// Most output channels per piece in a window of this size: all, or a number that makes good pieces; 0 if not even one
    /// fits.
    pub fn most_channels(&self, window_bytes: usize) -> usize {
        let channels = self.channels();
        if self.window_bytes(channels) <= window_bytes {
            return channels;
        }
        // The window needed grows with the count: bisect for the largest that fits.
        let (mut fits, mut exceeds) = (0, channels);
        while exceeds - fits > 1 {
            let count = fits + (exceeds - fits) / 2;
            if self.window_bytes(count) <= window_bytes { fits = count } else { exceeds = count }
        }
        let (_, outputs) = self.group();
        match fits {
            // Whole groups, so that a piece is a grouped convolution; single channels make groups of depthwise ones.
            _ if fits >= outputs && !self.reads_all_inputs() && outputs > 1 => fits - fits % outputs,
            // Kernels take depthwise channels in fours and filters in pairs.
            4.. if self.is_depthwise => fits & !3,
            2.. if !self.is_depthwise => fits & !1,
            _ if fits < self.least_channels() => 0,
            _ => fits,
        }
    }

    /// The piece that starts at channel `first`, of at most `most` channels; it ends within a group or at one's end.
    pub fn range_at(&self, first: usize, most: usize) -> Range<usize> {
        let end = first.saturating_add(most.max(1)).min(self.channels());
        let (_, outputs) = self.group();
        if self.reads_all_inputs() || outputs == 1 {
            return first..end;
        }
        let group_end = (first / outputs + 1).saturating_mul(outputs);
        // Within a group, or whole groups if it starts at one.
        let whole = end - end % outputs;
        let starts_a_group = first.is_multiple_of(outputs);
        if starts_a_group && whole > first { first..whole } else { first..end.min(group_end) }
    }

    /// The convolution that computes `channels` in output rows `row .. row + rows`.
    pub fn part(&self, channels: &Range<usize>, row: usize, rows: usize) -> Part {
        let Conv2d { input, output, window, groups, pad_value } = *self.geometry;
        let count = channels.len();
        let (window, input_rows) = rows_under(&window, input.h, row..row + rows);
        let (group_inputs, group_outputs) = self.group();
        let (input_channels, part_groups) = if self.reads_all_inputs() {
            (0..usize::from(input.c), groups)
        } else {
            let first = channels.start / group_outputs * group_inputs;
            (first..first + self.inputs_of(count), (count / group_outputs).max(1) as u16)
        };
        let geometry = Conv2d {
            input: Shape::new(input_rows.len() as u16, input.w, input_channels.len() as u16),
            output: Shape::new(rows as u16, output.w, count as u16),
            window,
            groups: part_groups,
            pad_value,
        };
        Part { geometry, input_rows, input_channels }
    }
}

/// Where the constants of a piece lie in its window. Staging follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    pub weights: Range<usize>,
    pub bias: Range<usize>,
    pub multiplier: Range<usize>,
    pub shift: Range<usize>,
}

/// A convolution cut out of a larger one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The smaller convolution.
    pub geometry: Conv2d,
    /// Rows of the larger one's input that it reads.
    pub input_rows: Range<usize>,
    /// Channels of the larger one's input that it reads.
    pub input_channels: Range<usize>,
}
