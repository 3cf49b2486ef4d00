//! Convolutions and fully connected layers as matrix products, and direct loops for depthwise convolutions.

use gemm::Parallelism;

use super::super::{Conv, Dense, Window};
use super::pool::{hwc, taps};

/// Elements of unfolded input per matrix product; stays in the second-level cache beside the weights.
const COLUMN_ELEMENTS: usize = 1 << 15;
/// Fewest rows per product, so that packing the weights stays cheap.
const MIN_ROWS: usize = 64;

/// Whether the direct depthwise loop applies.
pub fn is_depthwise(conv: &Conv, input: &[usize]) -> bool {
    let channels = hwc(input)[2];
    conv.groups == channels && conv.out_channels == channels && channels > 1
}

/// `output[row][out] = bias[out] + sum_k patch(row)[k] * weights[out][k]`, rows over all samples and positions.
pub struct MatrixKernel<'g> {
    /// Per group `[out / groups][depth]`, the order the graph stores.
    weights: &'g [f32],
    bias: &'g [f32],
    groups: usize,
    /// Multiplications per output element.
    depth: usize,
    patches: Patches,
}

enum Patches {
    /// Input rows are the patches: dense layers and unpadded 1x1 convolutions of stride 1.
    Rows,
    Unfold {
        window: Window,
        input: [usize; 3],
        output: [usize; 3],
    },
}

impl<'g> MatrixKernel<'g> {
    /// A convolution that is not depthwise.
    pub fn conv(conv: &'g Conv, input: &[usize], output: &[usize]) -> Self {
        let (input, output, window) = (hwc(input), hwc(output), conv.window);
        let depth = window.kernel[0] * window.kernel[1] * input[2] / conv.groups;
        let pointwise = window.kernel == [1, 1] && window.stride == [1, 1] && window.pad == [0; 4];
        let patches =
            if pointwise && conv.groups == 1 { Patches::Rows } else { Patches::Unfold { window, input, output } };
        Self { weights: &conv.weights, bias: &conv.bias, groups: conv.groups, depth, patches }
    }

    /// A fully connected layer on the last axis.
    pub fn dense(dense: &'g Dense, input: &[usize]) -> Self {
        let depth = input.last().copied().unwrap_or(1);
        Self { weights: &dense.weights, bias: &dense.bias, groups: 1, depth, patches: Patches::Rows }
    }

    /// Runs all samples; `columns` is scratch.
    pub fn run(&self, input: &[f32], output: &mut [f32], samples: usize, columns: &mut Vec<f32>) {
        let channels = self.bias.len();
        output.chunks_exact_mut(channels).for_each(|row| row.copy_from_slice(self.bias));
        match &self.patches {
            Patches::Rows => self.multiply(input, 0, output),
            Patches::Unfold { window, input: shape, output: [height, width, _] } => {
                let rows = samples * height * width;
                let tile = (COLUMN_ELEMENTS / self.depth.max(1)).max(MIN_ROWS).min(rows.max(1));
                if columns.len() < tile * self.depth {
                    columns.resize(tile * self.depth, 0.0);
                }
                for group in 0..self.groups {
                    for start in (0..rows).step_by(tile) {
                        let count = tile.min(rows - start);
                        let columns = &mut columns[..count * self.depth];
                        let unfold = Unfold { window, shape, positions: [*height, *width], group, groups: self.groups };
                        unfold.run(input, start, columns);
                        self.multiply(columns, group, &mut output[start * channels..][..count * channels]);
                    }
                }
            }
        }
    }

    /// Adds `patches * weights^T` of one group to its output columns.
    fn multiply(&self, patches: &[f32], group: usize, output: &mut [f32]) {
        let channels = self.bias.len();
        let width = channels / self.groups;
        let rows = output.len() / channels;
        if rows == 0 || width == 0 || self.depth == 0 {
            return;
        }
        let weights = &self.weights[group * width * self.depth..][..width * self.depth];
        let output = &mut output[group * width..];
        assert!(patches.len() >= rows * self.depth && output.len() >= (rows - 1) * channels + width);
        let depth = self.depth as isize;
        // SAFETY: the strides below address `rows x depth` elements of `patches`, `depth x width` of `weights` and
        // `rows x width` of `output`, all inside the slices as asserted and sliced above; `output` is borrowed mutably.
        unsafe {
            gemm::gemm(
                rows,
                width,
                self.depth,
                output.as_mut_ptr(),
                1,
                channels as isize,
                true,
                patches.as_ptr(),
                1,
                depth,
                weights.as_ptr(),
                depth,
                1,
                1.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

/// Unfolds input windows into rows (im2col), one group of channels at a time.
struct Unfold<'a> {
    window: &'a Window,
    shape: &'a [usize; 3],
    positions: [usize; 2],
    group: usize,
    groups: usize,
}

impl Unfold<'_> {
    /// Fills `columns` with the patches of rows `start..`, rows counted over samples and positions.
    fn run(&self, input: &[f32], start: usize, columns: &mut [f32]) {
        let [rows, columns_out] = self.positions;
        let [height, width, channels] = *self.shape;
        let depth = self.window.kernel[0] * self.window.kernel[1] * channels / self.groups;
        for (offset, patch) in columns.chunks_exact_mut(depth).enumerate() {
            let row = start + offset;
            let (sample, position) = (row / (rows * columns_out), row % (rows * columns_out));
            let sample = &input[sample * height * width * channels..][..height * width * channels];
            self.patch(sample, [position / columns_out, position % columns_out], patch);
        }
    }

    fn patch(&self, sample: &[f32], [oy, ox]: [usize; 2], patch: &mut [f32]) {
        let [height, width, channels] = *self.shape;
        let window = self.window;
        let line_length = window.kernel[1] * channels / self.groups;
        let left = (ox * window.stride[1]).checked_sub(window.pad[1]);
        let whole = self.groups == 1 && window.dilation[1] == 1;
        for (tap, line) in patch.chunks_exact_mut(line_length).enumerate() {
            let y = (oy * window.stride[0] + tap * window.dilation[0]).checked_sub(window.pad[0]);
            let Some(y) = y.filter(|&y| y < height) else {
                line.fill(0.0);
                continue;
            };
            let source = &sample[y * width * channels..][..width * channels];
            match left {
                Some(x) if whole && x + window.kernel[1] <= width => {
                    line.copy_from_slice(&source[x * channels..][..line_length]);
                }
                _ => self.line(source, ox, line),
            }
        }
    }

    /// One row of taps that leaves the map, is dilated, or takes a part of the channels.
    fn line(&self, source: &[f32], ox: usize, line: &mut [f32]) {
        let [_, width, channels] = *self.shape;
        let part = channels / self.groups;
        for (tap, pixel) in line.chunks_exact_mut(part).enumerate() {
            let x = (ox * self.window.stride[1] + tap * self.window.dilation[1]).checked_sub(self.window.pad[1]);
            match x.filter(|&x| x < width) {
                Some(x) => pixel.copy_from_slice(&source[x * channels + self.group * part..][..part]),
                None => pixel.fill(0.0),
            }
        }
    }
}

/// A depthwise convolution with weights as `[tap][channel]`.
pub struct DepthwiseKernel<'g> {
    window: Window,
    weights: Vec<f32>,
    bias: &'g [f32],
    input: [usize; 3],
    output: [usize; 3],
}

impl<'g> DepthwiseKernel<'g> {
    /// Repacks the weights of a convolution for which [`is_depthwise`] holds.
    pub fn new(conv: &'g Conv, input: &[usize], output: &[usize]) -> Self {
        let taps = conv.window.kernel[0] * conv.window.kernel[1];
        let channels = conv.out_channels;
        let weights = (0..taps * channels).map(|i| conv.weights[(i % channels) * taps + i / channels]).collect();
        Self { window: conv.window, weights, bias: &conv.bias, input: hwc(input), output: hwc(output) }
    }

    /// Runs all samples.
    pub fn run(&self, input: &[f32], output: &mut [f32], samples: usize) {
        let (per_input, per_output) = (self.input.iter().product::<usize>(), self.output.iter().product::<usize>());
        for sample in 0..samples {
            self.sample(&input[sample * per_input..][..per_input], &mut output[sample * per_output..][..per_output]);
        }
    }

    fn sample(&self, input: &[f32], output: &mut [f32]) {
        let [height, width, channels] = self.input;
        let columns = self.output[1];
        for (position, out) in output.chunks_exact_mut(channels).enumerate() {
            out.copy_from_slice(self.bias);
            let [oy, ox] = [position / columns, position % columns];
            for (ky, y) in numbered_taps(&self.window, 0, oy, height) {
                for (kx, x) in numbered_taps(&self.window, 1, ox, width) {
                    let pixel = &input[(y * width + x) * channels..][..channels];
                    let weights = &self.weights[(ky * self.window.kernel[1] + kx) * channels..][..channels];
                    for ((out, value), weight) in out.iter_mut().zip(pixel).zip(weights) {
                        *out += value * weight;
                    }
                }
            }
        }
    }
}

/// Taps inside the map along one axis with their numbers.
fn numbered_taps(window: &Window, axis: usize, output: usize, extent: usize) -> impl Iterator<Item = (usize, usize)> {
    let (start, dilation, pad) = (output * window.stride[axis], window.dilation[axis], window.pad[axis]);
    taps(window, axis, output, extent).map(move |at| ((at + pad - start) / dilation, at))
}
