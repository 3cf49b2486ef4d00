//! Maximum and mean over windows of HWC maps.

use super::{Backward, Forward, Operator, Reads};
use crate::graph::Window;

/// What a pool computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Taps outside the map are ignored; the gradient goes to the first of equal taps.
    Max,
    /// Taps outside the map count as zeros.
    Average,
}

/// A pool.
#[derive(Debug)]
pub struct PoolStep {
    pub kind: Kind,
    pub window: Window,
    pub input: [usize; 3],
    pub output: [usize; 3],
}

impl PoolStep {
    /// Calls `visit` with the pixel offsets (elements) of each tap inside the map under an output position.
    fn each_tap(&self, position: usize, mut visit: impl FnMut(usize)) {
        let [height, width, channels] = self.input;
        let [oy, ox] = [position / self.output[1], position % self.output[1]];
        let window = &self.window;
        for ky in 0..window.kernel[0] {
            let y = (oy * window.stride[0] + ky * window.dilation[0]).checked_sub(window.pad[0]);
            let Some(y) = y.filter(|&y| y < height) else { continue };
            for kx in 0..window.kernel[1] {
                let x = (ox * window.stride[1] + kx * window.dilation[1]).checked_sub(window.pad[1]);
                let Some(x) = x.filter(|&x| x < width) else { continue };
                visit((y * width + x) * channels);
            }
        }
    }

    fn lens(&self) -> [usize; 2] {
        [self.input.iter().product(), self.output.iter().product()]
    }

    fn factor(&self) -> f32 {
        1.0 / (self.window.kernel[0] * self.window.kernel[1]) as f32
    }
}

impl Operator for PoolStep {
    fn reads(&self) -> Reads {
        let is_max = self.kind == Kind::Max;
        Reads { inputs: is_max, output: is_max }
    }

    fn forward(&self, run: Forward<'_>) {
        let ([in_len, out_len], channels) = (self.lens(), self.input[2]);
        for (input, output) in run.inputs[0].chunks_exact(in_len).zip(run.output.chunks_exact_mut(out_len)) {
            for (position, out) in output.chunks_exact_mut(channels).enumerate() {
                out.fill(if self.kind == Kind::Max { f32::NEG_INFINITY } else { 0.0 });
                self.each_tap(position, |at| {
                    let pixel = &input[at..at + channels];
                    match self.kind {
                        Kind::Max => out.iter_mut().zip(pixel).for_each(|(out, x)| *out = out.max(*x)),
                        Kind::Average => out.iter_mut().zip(pixel).for_each(|(out, x)| *out += x),
                    }
                });
                if self.kind == Kind::Average {
                    let factor = self.factor();
                    out.iter_mut().for_each(|out| *out *= factor);
                }
            }
        }
    }

    fn backward(&self, run: Backward<'_, '_>) {
        let Some(sink) = &mut run.sinks[0] else { return };
        let ([in_len, out_len], channels) = (self.lens(), self.input[2]);
        let factor = self.factor();
        let sums = sink.summed();
        for (sample, gradient) in run.gradient.chunks_exact_mut(out_len).enumerate() {
            let sums = &mut sums[sample * in_len..][..in_len];
            for (position, gradient) in gradient.chunks_exact_mut(channels).enumerate() {
                self.each_tap(position, |at| {
                    let to = &mut sums[at..at + channels];
                    if self.kind == Kind::Average {
                        to.iter_mut().zip(&*gradient).for_each(|(to, g)| *to += g * factor);
                        return;
                    }
                    let pixel = &run.inputs[0][sample * in_len + at..][..channels];
                    let top = &run.output[sample * out_len + position * channels..][..channels];
                    for (c, to) in to.iter_mut().enumerate() {
                        if pixel[c] == top[c] {
                            // Taken once: later taps of the same value get nothing.
                            *to += std::mem::take(&mut gradient[c]);
                        }
                    }
                });
            }
        }
    }
}
