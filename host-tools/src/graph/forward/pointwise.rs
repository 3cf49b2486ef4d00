//! Element-wise, row-wise and reordering functions on packed samples.

/// `output = a + b`.
pub fn add(a: &[f32], b: &[f32], output: &mut [f32]) {
    for ((output, a), b) in output.iter_mut().zip(a).zip(b) {
        *output = a + b;
    }
}

/// Softmax of each run of `channels` elements, shifted by its maximum.
pub fn softmax(input: &[f32], output: &mut [f32], channels: usize) {
    for (row, out) in input.chunks_exact(channels).zip(output.chunks_exact_mut(channels)) {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for (out, value) in out.iter_mut().zip(row) {
            *out = (value - top).exp();
            sum += *out;
        }
        out.iter_mut().for_each(|out| *out /= sum);
    }
}

/// Where each element of a transposed tensor comes from: `source[i]` is the flat input index of output element `i`.
/// Output axis `i` is input axis `perm[i]`.
pub fn transposed_order(shape: &[usize], perm: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    perm.iter().fold(vec![0], |order: Vec<usize>, &axis| {
        let (extent, stride) = (shape[axis], strides[axis]);
        order.iter().flat_map(|base| (0..extent).map(move |i| base + i * stride)).collect()
    })
}

/// Transposes every sample.
pub fn transpose(input: &[f32], output: &mut [f32], shape: &[usize], perm: &[usize]) {
    let order = transposed_order(shape, perm);
    for (sample, out) in input.chunks_exact(order.len()).zip(output.chunks_exact_mut(order.len())) {
        for (out, &source) in out.iter_mut().zip(&order) {
            *out = sample[source];
        }
    }
}
