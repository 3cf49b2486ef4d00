//! Drawing a float network layer by layer, with weights that keep activations at one size.

use crate::graph::{Conv, Dense, Graph, Node, Op, ValueId, Weights, Window};

/// Knuth's linear congruential generator of 64 bits, of which the upper ones are used.
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 24 random bits.
    pub fn next_bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 40
    }

    /// Weights with the variance of He et al. (2015): rectified layers keep the size of their inputs.
    fn weights(&mut self, count: usize, fan_in: usize) -> Weights {
        let scale = (6.0 / fan_in as f32).sqrt();
        (0..count).map(|_| (self.next_bits() as f32 / (1 << 23) as f32 - 1.0) * scale).collect()
    }
}

/// A network under construction; layers act on the value [`now`](Self::now).
pub struct Draft {
    graph: Graph,
    random: Random,
    now: ValueId,
}

impl Draft {
    pub fn new(name: &str, input: [usize; 3], seed: u64) -> Self {
        let graph = Graph {
            name: name.to_owned(),
            input_tensor: "input".to_owned(),
            input_shape: input.to_vec(),
            nodes: Vec::new(),
            output: ValueId::INPUT,
            aliases: Vec::new(),
        };
        Self { graph, random: Random::new(seed), now: ValueId::INPUT }
    }

    /// The value that the next layer reads.
    pub const fn now(&self) -> ValueId {
        self.now
    }

    /// Makes another value the one that the next layer reads.
    pub const fn go_to(&mut self, value: ValueId) {
        self.now = value;
    }

    fn shape(&self) -> [usize; 3] {
        let shape = self.graph.shape(self.now);
        [shape[0], shape[1], shape[2]]
    }

    fn push(&mut self, op: Op, inputs: Vec<ValueId>, shape: Vec<usize>) {
        let name = format!("{} {}", op.name(), self.graph.nodes.len());
        let operator = String::new();
        self.graph.nodes.push(Node { tensor: name.clone(), name, operator, op, inputs, shape });
        self.now = ValueId(self.graph.nodes.len());
    }

    pub fn conv(&mut self, channels: usize, kernel: [usize; 2], stride: [usize; 2]) {
        self.convolution(channels, kernel, stride, 1);
    }

    pub fn depthwise(&mut self, kernel: [usize; 2], stride: [usize; 2]) {
        let [_, _, channels] = self.shape();
        self.convolution(channels, kernel, stride, channels);
    }

    fn convolution(&mut self, channels: usize, kernel: [usize; 2], stride: [usize; 2], groups: usize) {
        let [h, w, c] = self.shape();
        let (rows, above, below) = same([h, kernel[0], stride[0]]);
        let (columns, left, right) = same([w, kernel[1], stride[1]]);
        let window = Window { kernel, stride, pad: [above, left, below, right], dilation: [1, 1] };
        let taps = kernel[0] * kernel[1] * c / groups;
        let weights = self.random.weights(taps * channels, taps);
        let bias = self.random.weights(channels, 600);
        let conv = Conv { window, groups, out_channels: channels, weights, bias };
        self.push(Op::Conv(conv), vec![self.now], vec![rows, columns, channels]);
    }

    pub fn dense(&mut self, features: usize) {
        let mut shape = self.graph.shape(self.now).to_vec();
        let taps = shape.last().copied().unwrap_or(1);
        let weights = self.random.weights(taps * features, taps);
        let bias = self.random.weights(features, 600);
        if let Some(channels) = shape.last_mut() {
            *channels = features;
        }
        self.push(Op::Dense(Dense { out_features: features, weights, bias }), vec![self.now], shape);
    }

    pub fn relu(&mut self) {
        let shape = self.graph.shape(self.now).to_vec();
        self.push(Op::Clip { lo: 0.0, hi: f32::INFINITY }, vec![self.now], shape);
    }

    /// Adds `other` to the current value.
    pub fn add(&mut self, other: ValueId) {
        let shape = self.graph.shape(self.now).to_vec();
        self.push(Op::Add, vec![self.now, other], shape);
    }

    /// Mean over all positions, a fully connected layer, softmax.
    pub fn classify(mut self, classes: usize) -> Graph {
        let [h, w, c] = self.shape();
        let window = Window { kernel: [h, w], stride: [1, 1], pad: [0; 4], dilation: [1, 1] };
        self.push(Op::AvgPool(window), vec![self.now], vec![1, 1, c]);
        self.dense(classes);
        self.push(Op::Softmax, vec![self.now], vec![1, 1, classes]);
        self.finish()
    }

    pub fn finish(mut self) -> Graph {
        self.graph.output = self.now;
        self.graph
    }
}

/// Outputs along an axis and padding before and after, as TensorFlow's `SAME`: of an odd sum the larger half comes after.
fn same([input, kernel, stride]: [usize; 3]) -> (usize, usize, usize) {
    let output = input.div_ceil(stride);
    let pad = ((output - 1) * stride + kernel).saturating_sub(input);
    (output, pad / 2, pad - pad / 2)
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn padding_is_that_of_tensorflow() {
        assert_eq!(same([32, 3, 1]), (32, 1, 1));
        assert_eq!(same([32, 3, 2]), (16, 0, 1));
        assert_eq!(same([49, 10, 2]), (25, 4, 5));
        assert_eq!(same([10, 4, 2]), (5, 1, 1));
        assert_eq!(same([3, 1, 2]), (2, 0, 0));
    }
}
