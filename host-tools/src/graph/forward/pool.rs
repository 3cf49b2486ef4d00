//! Maximum and mean over windows of HWC maps.

use super::super::Window;

/// A pool with its shapes.
pub struct PoolKernel {
    window: Window,
    input: [usize; 3],
    output: [usize; 3],
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Max,
    Average,
}

impl PoolKernel {
    /// Maximum; taps outside the map are ignored.
    pub fn max(window: Window, input: &[usize], output: &[usize]) -> Self {
        Self { window, input: hwc(input), output: hwc(output), kind: Kind::Max }
    }

    /// Mean over all taps, those outside the map counted as zeros.
    pub fn average(window: Window, input: &[usize], output: &[usize]) -> Self {
        Self { window, input: hwc(input), output: hwc(output), kind: Kind::Average }
    }

    /// Pools all samples of `input`.
    pub fn run(&self, input: &[f32], output: &mut [f32]) {
        let samples = input.chunks_exact(self.input.iter().product());
        let outputs = output.chunks_exact_mut(self.output.iter().product());
        samples.zip(outputs).for_each(|(input, output)| self.sample(input, output));
    }

    fn sample(&self, input: &[f32], output: &mut [f32]) {
        let [height, width, channels] = self.input;
        let [_, columns, _] = self.output;
        for (position, out) in output.chunks_exact_mut(channels).enumerate() {
            let [oy, ox] = [position / columns, position % columns];
            out.fill(if self.kind == Kind::Max { f32::NEG_INFINITY } else { 0.0 });
            for y in taps(&self.window, 0, oy, height) {
                for x in taps(&self.window, 1, ox, width) {
                    let pixel = &input[(y * width + x) * channels..][..channels];
                    match self.kind {
                        Kind::Max => out.iter_mut().zip(pixel).for_each(|(out, value)| *out = out.max(*value)),
                        Kind::Average => out.iter_mut().zip(pixel).for_each(|(out, value)| *out += value),
                    }
                }
            }
            if self.kind == Kind::Average {
                let scale = 1.0 / (self.window.kernel[0] * self.window.kernel[1]) as f32;
                out.iter_mut().for_each(|out| *out *= scale);
            }
        }
    }
}

/// Input coordinates under the window's taps along one axis (0 rows, 1 columns), those outside the map left out.
pub fn taps(window: &Window, axis: usize, output: usize, extent: usize) -> impl Iterator<Item = usize> {
    let (start, dilation, pad) = (output * window.stride[axis], window.dilation[axis], window.pad[axis]);
    (0..window.kernel[axis]).filter_map(move |tap| (start + tap * dilation).checked_sub(pad).filter(|&at| at < extent))
}

/// A per-sample shape as height, width, channels.
pub fn hwc(shape: &[usize]) -> [usize; 3] {
    shape.try_into().expect("convolutions and pools work on rank-3 maps")
}
