//! Depthwise convolution of one HWC sample; weights are `[tap][channel]`.

use super::simd::{LANES, Lanes, dispatch};
use crate::graph::Window;

/// Window and maps of a depthwise convolution.
#[derive(Debug, Clone, Copy)]
pub struct Depthwise {
    /// Geometry.
    pub window: Window,
    /// Input rows and columns.
    pub input: [usize; 2],
    /// Output rows and columns.
    pub output: [usize; 2],
    /// Channels of both.
    pub channels: usize,
}

impl Depthwise {
    fn assert(&self, input: &[f32], output: &[f32], weights: &[f32]) {
        let [rows, columns] = self.window.kernel;
        assert!(input.len() >= self.input[0] * self.input[1] * self.channels);
        assert!(output.len() >= self.output[0] * self.output[1] * self.channels);
        assert!(weights.len() >= rows * columns * self.channels);
    }

    /// Input row or column under a tap, if it is inside the map.
    #[inline(always)]
    fn under(&self, axis: usize, output: usize, tap: usize) -> Option<usize> {
        let window = &self.window;
        let at = output * window.stride[axis] + tap * window.dilation[axis];
        at.checked_sub(window.pad[axis]).filter(|&at| at < self.input[axis])
    }
}

dispatch! {
    /// The convolution with bias.
    pub fn depthwise(shape: &Depthwise, input: &[f32], weights: &[f32], bias: &[f32], output: &mut [f32]) = forward_lanes
}

dispatch! {
    /// Adds the gradient with respect to the input.
    pub fn depthwise_input(shape: &Depthwise, gradient: &[f32], weights: &[f32], sums: &mut [f32]) = input_lanes
}

dispatch! {
    /// Adds the gradient with respect to the weights.
    pub fn depthwise_weights(shape: &Depthwise, input: &[f32], gradient: &[f32], sums: &mut [f32]) = weights_lanes
}

#[inline(always)]
unsafe fn forward_lanes<L: Lanes>(shape: &Depthwise, input: &[f32], weights: &[f32], bias: &[f32], output: &mut [f32]) {
    shape.assert(input, output, weights);
    let c = shape.channels;
    assert!(bias.len() >= c);
    for oy in 0..shape.output[0] {
        for ox in 0..shape.output[1] {
            let to = (oy * shape.output[1] + ox) * c;
            let mut at = 0;
            while at < c {
                let count = (c - at).min(LANES);
                // SAFETY: lengths asserted above, taps are inside the map.
                unsafe {
                    let mut sum = L::load_first(bias.as_ptr().add(at), count);
                    for ky in 0..shape.window.kernel[0] {
                        let Some(y) = shape.under(0, oy, ky) else { continue };
                        for kx in 0..shape.window.kernel[1] {
                            let Some(x) = shape.under(1, ox, kx) else { continue };
                            let value = L::load_first(input.as_ptr().add((y * shape.input[1] + x) * c + at), count);
                            let tap = (ky * shape.window.kernel[1] + kx) * c + at;
                            sum = value.fma(L::load_first(weights.as_ptr().add(tap), count), sum);
                        }
                    }
                    sum.store_first(output.as_mut_ptr().add(to + at), count);
                }
                at += count;
            }
        }
    }
}

#[inline(always)]
unsafe fn input_lanes<L: Lanes>(shape: &Depthwise, gradient: &[f32], weights: &[f32], sums: &mut [f32]) {
    shape.assert(sums, gradient, weights);
    let c = shape.channels;
    for oy in 0..shape.output[0] {
        for ky in 0..shape.window.kernel[0] {
            let Some(y) = shape.under(0, oy, ky) else { continue };
            for ox in 0..shape.output[1] {
                for kx in 0..shape.window.kernel[1] {
                    let Some(x) = shape.under(1, ox, kx) else { continue };
                    let (from, to) = ((oy * shape.output[1] + ox) * c, (y * shape.input[1] + x) * c);
                    let tap = (ky * shape.window.kernel[1] + kx) * c;
                    let mut at = 0;
                    while at < c {
                        let count = (c - at).min(LANES);
                        // SAFETY: lengths asserted above, taps are inside the map.
                        unsafe {
                            let sum = sums.as_mut_ptr().add(to + at);
                            L::load_first(gradient.as_ptr().add(from + at), count)
                                .fma(L::load_first(weights.as_ptr().add(tap + at), count), L::load_first(sum, count))
                                .store_first(sum, count);
                        }
                        at += count;
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn weights_lanes<L: Lanes>(shape: &Depthwise, input: &[f32], gradient: &[f32], sums: &mut [f32]) {
    shape.assert(input, gradient, sums);
    let c = shape.channels;
    for ky in 0..shape.window.kernel[0] {
        for kx in 0..shape.window.kernel[1] {
            let tap = (ky * shape.window.kernel[1] + kx) * c;
            let mut at = 0;
            while at < c {
                let count = (c - at).min(LANES);
                // SAFETY: lengths asserted above, taps are inside the map.
                unsafe {
                    let to = sums.as_mut_ptr().add(tap + at);
                    let mut sum = L::load_first(to, count);
                    for oy in 0..shape.output[0] {
                        let Some(y) = shape.under(0, oy, ky) else { continue };
                        for ox in 0..shape.output[1] {
                            let Some(x) = shape.under(1, ox, kx) else { continue };
                            let value = L::load_first(input.as_ptr().add((y * shape.input[1] + x) * c + at), count);
                            let g = gradient.as_ptr().add((oy * shape.output[1] + ox) * c + at);
                            sum = value.fma(L::load_first(g, count), sum);
                        }
                    }
                    sum.store_first(to, count);
                }
                at += count;
            }
        }
    }
}
