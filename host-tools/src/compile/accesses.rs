//! How often the tensors and the scratch of a step are touched: what decides which of them deserve a fast memory.

use stitchkit_runtime::bundle::Op;
use stitchkit_runtime::kernels::{Attention, Conv2d};

/// Bytes loaded from and stored to each of a step's places during one inference, as the kernels for Cortex-M with DSP
/// instructions touch them. Others differ by factors, hardly in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accesses {
    /// Bytes of each input; 0 where there is no second one.
    pub inputs: [u64; 2],
    /// Bytes of the output.
    pub output: u64,
    /// Bytes of the scratch.
    pub scratch: u64,
}

impl Accesses {
    /// What one step touches.
    #[must_use]
    pub fn of(op: &Op) -> Self {
        let outputs = op.output().elements();
        let second = if op.arity() == 2 { outputs } else { 0 };
        let (first, scratch) = match op {
            Op::Conv2d { geometry, .. } => conv(geometry),
            Op::Depthwise { .. } => (op.macs(), 0),
            Op::MaxPool(pool) | Op::AvgPool { geometry: pool, .. } => {
                let [rows, columns] = pool.window.kernel.map(u64::from);
                (outputs * rows * columns, 0)
            }
            Op::Attention(attention) => attend(attention),
            // The largest value, the sum of exponentials, the quotients; the sum, the squares, the result.
            Op::Softmax { .. } | Op::LayerNorm { .. } => (3 * outputs, 0),
            _ => (op.input().elements().min(outputs), 0),
        };
        Self { inputs: [first, second], output: outputs, scratch }
    }

    /// All bytes touched.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.inputs[0] + self.inputs[1] + self.output + self.scratch
    }
}

/// Every window is widened to 16 bits in scratch once and read there by each filter of its group.
fn conv(geometry: &Conv2d) -> (u64, u64) {
    let windows = geometry.output.positions() as u64 * u64::from(geometry.groups);
    let gathered = windows * geometry.taps() as u64;
    let filters = u64::from(geometry.output.c) / u64::from(geometry.groups.max(1));
    (gathered, 2 * gathered * (1 + filters))
}

/// Keys and values are read once for every four queries of a head, whose scores are written, made weights, and read.
fn attend(attention: &Attention) -> (u64, u64) {
    let tokens = attention.tokens() as u64;
    let heads = u64::from(attention.heads);
    let features = u64::from(attention.key_features) + u64::from(attention.value_features);
    let passes = tokens.div_ceil(4);
    (heads * passes * tokens * features, heads * passes * 4 * attention.scratch_bytes() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stitchkit_runtime::bundle::ChannelTables;
    use stitchkit_runtime::kernels::{Landing, Shape, Window};

    #[test]
    fn scratch_of_a_convolution_is_touched_most() {
        let window = Window { kernel: [3, 3], pad: [1, 1], ..Window::POINT };
        let shape = Shape::new(8, 8, 16);
        let geometry = Conv2d { input: shape, output: shape, window, groups: 1, pad_value: 0 };
        let landing = Landing { zero_point: 0, lo: -128, hi: 127 };
        let tables = ChannelTables { bias: 0, multiplier: 0, shift: 0, landing };
        let accesses = Accesses::of(&Op::Conv2d { geometry, weights: 0, tables, residual: None });
        assert_eq!(accesses, Accesses { inputs: [64 * 144, 0], output: 1024, scratch: 2 * 64 * 144 * 17 });
        let depthwise = Conv2d { groups: 16, ..geometry };
        let accesses = Accesses::of(&Op::Depthwise { geometry: depthwise, weights: 0, tables, residual: None });
        assert_eq!(accesses, Accesses { inputs: [9 * 1024, 0], output: 1024, scratch: 0 });
    }
}
