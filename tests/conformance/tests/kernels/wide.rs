//! Every operator once more, straight from its definition, in 128-bit integers and with one index per element.

use stitchkit_conformance::{Case, Convolution, Op, Operands};
use stitchkit_runtime::kernels::{Add, Conv2d, Landing, Pool2d, Shape};

use super::wide_tokens;

/// The output of `case` on `operands`.
pub fn output(case: &Case, operands: &Operands<'_>) -> Vec<i8> {
    let input = &*operands.input;
    match &case.op {
        Op::Conv2d(c) => {
            let geometry = c.geometry(c.groups);
            convolve(&geometry, c.landing, c.residual, operands, |channel, [row, column], within, [_, width]| {
                let per_group = usize::from(geometry.input.c / geometry.groups);
                let kernel_rows = usize::from(geometry.window.kernel[0]);
                ((channel * kernel_rows + row) * width + column) * per_group + within
            })
        }
        Op::Woven(c) => woven(c, operands),
        Op::Depthwise(c) => {
            let geometry = c.geometry(c.channels);
            convolve(&geometry, c.landing, c.residual, operands, |channel, [row, column], _, [_, width]| {
                (row * width + column) * usize::from(geometry.output.c) + channel
            })
        }
        Op::Add(a) => input.iter().zip(operands.second).map(|(&x, &y)| add(&a.add, x, y)).collect(),
        Op::MaxPool(p) => pool(&p.geometry(), input, |taps| taps.iter().copied().max().unwrap_or(-128)),
        Op::AvgPool(a) => pool(&a.pool.geometry(), input, |taps| {
            let sum: i128 = taps.iter().map(|&x| i128::from(x) - i128::from(a.input_zero_point)).sum();
            land(sum, a.multiplier, a.shift, a.landing)
        }),
        Op::Lut(..) => input.iter().map(|&x| operands.weights[usize::from(x as u8)]).collect(),
        Op::Softmax(_, columns, ..) => {
            input.chunks(usize::from(*columns)).flat_map(|row| softmax(row, operands.table)).collect()
        }
        Op::Transpose([h, w, c], perm) => transpose([*h, *w, *c].map(usize::from), perm.map(usize::from), input),
        Op::LayerNorm(norm) => wide_tokens::layer_norm(norm, input, operands.table),
        Op::Attention(attention) => wide_tokens::attention(&attention.operator(), input),
        Op::Concat([before, ..]) => {
            let (before, after) = operands.weights.split_at(usize::from(*before));
            [before, input, after].concat()
        }
        Op::Slice(from, first, to) => slice(from.map(usize::from), first.map(usize::from), to.map(usize::from), input),
    }
}

/// A fully connected layer, each filter taken out of its pair.
fn woven(c: &Convolution, operands: &Operands<'_>) -> Vec<i8> {
    let taps = usize::from(c.input[2]);
    let tap = |pair: usize, k: usize| {
        let place = 2 * (taps * pair + (k & !3) + [0, 2, 1, 3][k % 4]);
        let [low, high] = [operands.weights[place], operands.weights[place + 1]].map(i128::from);
        // The low byte's sign was taken from the high one.
        [low, high + i128::from(low < 0)]
    };
    let result = |channel: usize| {
        let product = |k: usize| tap(channel / 2, k)[channel % 2] * i128::from(operands.input[k]);
        let sum: i128 = (0..taps).map(product).sum();
        // The odd filter's sum has 24 bits.
        let sum = if channel.is_multiple_of(2) { sum } else { (sum + (1 << 23)).rem_euclid(1 << 24) - (1 << 23) };
        let acc = sum + i128::from(operands.bias[channel]);
        land(acc, operands.multiplier[channel], operands.shift[channel], c.landing)
    };
    (0..usize::from(c.channels)).map(result).collect()
}

/// Rounds `numerator / 2^shift` half up.
fn round(numerator: i128, shift: u8) -> i128 {
    let denominator = 1i128 << shift;
    (2 * numerator + denominator).div_euclid(2 * denominator)
}

pub fn land(accumulator: i128, multiplier: i32, shift: u8, landing: Landing) -> i8 {
    let scaled = round(accumulator * i128::from(multiplier), shift) + i128::from(landing.zero_point);
    scaled.clamp(landing.lo.into(), landing.hi.into()) as i8
}

/// The rounding half is part of the offset.
fn add(add: &Add, a: i8, b: i8) -> i8 {
    let sum = i128::from(a) * i128::from(add.a_multiplier)
        + i128::from(b) * i128::from(add.b_multiplier)
        + i128::from(add.offset);
    sum.div_euclid(1 << add.shift).clamp(add.lo.into(), add.hi.into()) as i8
}

/// Position in the input of a tap, if it lies inside.
fn tap(window: &stitchkit_runtime::kernels::Window, input: Shape, out: [usize; 2], at: [usize; 2]) -> Option<usize> {
    let position = |axis: usize, extent: u16| {
        let start = out[axis] * usize::from(window.stride[axis]) + at[axis] * usize::from(window.dilation[axis]);
        start.checked_sub(usize::from(window.pad[axis])).filter(|&p| p < usize::from(extent))
    };
    Some(position(0, input.h)? * usize::from(input.w) + position(1, input.w)?)
}

fn convolve(
    geometry: &Conv2d,
    landing: Landing,
    residual: Option<Add>,
    operands: &Operands<'_>,
    weight_at: impl Fn(usize, [usize; 2], usize, [usize; 2]) -> usize,
) -> Vec<i8> {
    let kernel = geometry.window.kernel.map(usize::from);
    let (channels_in, channels_out) = (usize::from(geometry.input.c), usize::from(geometry.output.c));
    let groups = usize::from(geometry.groups);
    let mut output = Vec::new();
    for y in 0..usize::from(geometry.output.h) {
        for x in 0..usize::from(geometry.output.w) {
            for channel in 0..channels_out {
                let first = channel / (channels_out / groups) * (channels_in / groups);
                let mut accumulator = i128::from(operands.bias[channel]);
                for row in 0..kernel[0] {
                    for column in 0..kernel[1] {
                        let position = tap(&geometry.window, geometry.input, [y, x], [row, column]);
                        for within in 0..channels_in / groups {
                            let value = position
                                .map_or(geometry.pad_value, |p| operands.input[p * channels_in + first + within]);
                            let weight = operands.weights[weight_at(channel, [row, column], within, kernel)];
                            accumulator += i128::from(value) * i128::from(weight);
                        }
                    }
                }
                let value = land(accumulator, operands.multiplier[channel], operands.shift[channel], landing);
                let held = operands.output[output.len()];
                output.push(residual.map_or(value, |a| add(&a, value, held)));
            }
        }
    }
    output
}

fn pool(geometry: &Pool2d, input: &[i8], reduce: impl Fn(&[i8]) -> i8) -> Vec<i8> {
    let [rows, columns] = geometry.window.kernel.map(usize::from);
    let channels = usize::from(geometry.input.c);
    let mut output = Vec::new();
    for y in 0..usize::from(geometry.output.h) {
        for x in 0..usize::from(geometry.output.w) {
            for channel in 0..channels {
                let positions = (0..rows * columns)
                    .filter_map(|at| tap(&geometry.window, geometry.input, [y, x], [at / columns, at % columns]));
                let taps: Vec<i8> = positions.map(|p| input[p * channels + channel]).collect();
                output.push(reduce(&taps));
            }
        }
    }
    output
}

fn softmax(row: &[i8], table: &[i32]) -> Vec<i8> {
    let highest = row.iter().copied().max().unwrap_or(0);
    let exponential = |x: i8| i128::from(table[(i32::from(highest) - i32::from(x)) as usize]);
    let sum: i128 = row.iter().map(|&x| exponential(x)).sum();
    row.iter().map(|&x| ((exponential(x) * 256 + sum / 2) / sum - 128).min(127) as i8).collect()
}

fn transpose(extents: [usize; 3], perm: [usize; 3], input: &[i8]) -> Vec<i8> {
    let out = perm.map(|axis| extents[axis]);
    let mut output = Vec::new();
    for i in 0..out[0] {
        for j in 0..out[1] {
            for k in 0..out[2] {
                let mut at = [0; 3];
                for (axis, index) in perm.into_iter().zip([i, j, k]) {
                    at[axis] = index;
                }
                output.push(input[(at[0] * extents[1] + at[1]) * extents[2] + at[2]]);
            }
        }
    }
    output
}

fn slice([_, columns, channels]: [usize; 3], first: [usize; 3], to: [usize; 3], input: &[i8]) -> Vec<i8> {
    let mut output = Vec::new();
    for i in first[0]..first[0] + to[0] {
        for j in first[1]..first[1] + to[1] {
            for k in first[2]..first[2] + to[2] {
                output.push(input[(i * columns + j) * channels + k]);
            }
        }
    }
    output
}
