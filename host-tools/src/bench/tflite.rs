//! Networks for other engines: TensorFlow Lite files with the layers of a plan and weights of their own.
//!
//! The numbers of tables and fields are those of TensorFlow Lite's schema, version 3.

mod flat;

use flat::{Field, Table};
use stitchkit_runtime::bundle::{Bundle, Op, Plan};
use stitchkit_runtime::kernels::{Conv2d, Pool2d, Shape, Window};

/// A network in TensorFlow Lite's format.
#[derive(Debug, Clone)]
pub struct Network {
    /// The file.
    pub file: Vec<u8>,
    /// Bytes of weights and biases in it.
    pub weight_bytes: u64,
}

/// `BuiltinOperator` and `BuiltinOptions` of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    AveragePool,
    Conv,
    Depthwise,
    FullyConnected,
    Softmax,
}

const KINDS: [(Kind, u8, u8); 5] = [
    (Kind::AveragePool, 1, 5),
    (Kind::Conv, 3, 1),
    (Kind::Depthwise, 4, 2),
    (Kind::FullyConnected, 9, 8),
    (Kind::Softmax, 25, 9),
];
/// `TensorType`.
const INT8: u8 = 9;
const INT32: u8 = 2;
/// `ActivationFunctionType`.
const RELU: u8 = 1;
/// `Padding`.
const SAME: u8 = 0;
const VALID: u8 = 1;

/// The layers of a plan with pseudorandom weights, the same on every call. Every layer but the last ends with ReLU.
///
/// # Errors
/// The name of an operator that has no counterpart here.
pub fn of_plan(bundle: &Bundle<'_>, plan: &Plan<'_>) -> Result<Network, &'static str> {
    let mut draft = Draft::default();
    let steps: Vec<Op> = bundle.steps_of(plan).map(|placed| placed.step.op).collect();
    let input = steps.first().map_or(Shape { h: 1, w: 1, c: 1 }, Op::input);
    let is_flat = matches!(steps.first(), Some(Op::Conv2d { geometry, .. }) if is_dense(geometry));
    let mut last = draft.activations(input, is_flat);
    let first = last;
    for (index, op) in steps.iter().enumerate() {
        let is_last = !matches!(steps.get(index + 1), Some(op) if !matches!(op, Op::Softmax { .. }));
        let activation = if is_last { 0 } else { RELU };
        last = match op {
            Op::Conv2d { geometry, residual: None, .. } if geometry.groups == 1 => {
                draft.layer(last, geometry, conv_kind(geometry), activation)
            }
            Op::Depthwise { geometry, residual: None, .. } => draft.layer(last, geometry, Kind::Depthwise, activation),
            Op::AvgPool { geometry, .. } => draft.pool(last, geometry),
            Op::Softmax { shape, .. } if (shape.h, shape.w) == (1, 1) => draft.softmax(last, *shape),
            Op::Conv2d { residual: Some(_), .. } | Op::Depthwise { residual: Some(_), .. } => return Err("add"),
            other => return Err(other.name()),
        };
    }
    Ok(draft.finish(first, last))
}

/// Fully connected layers are convolutions of one position.
const fn is_dense(geometry: &Conv2d) -> bool {
    geometry.input.h == 1 && geometry.input.w == 1 && geometry.output.h == 1 && geometry.output.w == 1
}

const fn conv_kind(geometry: &Conv2d) -> Kind {
    if is_dense(geometry) { Kind::FullyConnected } else { Kind::Conv }
}

#[derive(Debug, Default)]
struct Draft {
    tensors: Vec<Table>,
    operators: Vec<Table>,
    /// Of the tensors from the second on; the first buffer is empty.
    buffers: Vec<Vec<u8>>,
    /// State of the pseudorandom weights.
    state: u32,
}

impl Draft {
    /// A tensor whose values the network computes.
    fn activations(&mut self, shape: Shape, is_flat: bool) -> u32 {
        let [h, w, c] = [shape.h, shape.w, shape.c].map(u32::from);
        let extents = if is_flat { vec![1, c] } else { vec![1, h, w, c] };
        self.tensor(extents, INT8, 0, vec![0.05], -128)
    }

    fn tensor(&mut self, extents: Vec<u32>, kind: u8, buffer: u32, scales: Vec<f32>, zero_point: i64) -> u32 {
        let zero_points = vec![zero_point; scales.len()];
        let scales = scales.into_iter().map(f32::to_bits).collect();
        let quantization = vec![(2, Field::Words(scales)), (3, Field::Longs(zero_points))];
        self.tensors.push(vec![
            (0, Field::Words(extents)),
            (1, Field::Byte(kind)),
            (2, Field::Word(buffer)),
            (4, Field::Table(quantization)),
        ]);
        self.tensors.len() as u32 - 1
    }

    fn constants(&mut self, extents: Vec<u32>, kind: u8, scales: Vec<f32>, bytes: Vec<u8>) -> u32 {
        self.buffers.push(bytes);
        self.tensor(extents, kind, self.buffers.len() as u32, scales, 0)
    }

    /// A layer with weights and biases. Convolutions have a scale per channel.
    fn layer(&mut self, input: u32, geometry: &Conv2d, kind: Kind, activation: u8) -> u32 {
        let [rows, columns] = geometry.window.kernel.map(u32::from);
        let (inputs, outputs) = (u32::from(geometry.input.c), u32::from(geometry.output.c));
        let extents = match kind {
            Kind::Depthwise => vec![1, rows, columns, outputs],
            Kind::FullyConnected => vec![outputs, inputs],
            _ => vec![outputs, rows, columns, inputs],
        };
        let scales = vec![0.01; if kind == Kind::FullyConnected { 1 } else { outputs as usize }];
        let weights = (0..extents.iter().product()).map(|_| self.random() as u8).collect();
        let weights = self.constants(extents, INT8, scales.clone(), weights);
        let biases = (0..outputs).flat_map(|_| (i32::from(self.random() as i8) * 8).to_le_bytes()).collect();
        let bias_scales = scales.iter().map(|scale| scale * 0.05).collect();
        let biases = self.constants(vec![outputs], INT32, bias_scales, biases);
        let output = self.activations(geometry.output, kind == Kind::FullyConnected);
        let strides = strides(&geometry.window);
        let options = match kind {
            Kind::FullyConnected => vec![(0, Field::Byte(activation))],
            _ => {
                let padding = padding(geometry.input, geometry.output, &geometry.window);
                let mut options = vec![(0, Field::Byte(padding)), (1, strides[1].clone()), (2, strides[0].clone())];
                if kind == Kind::Depthwise {
                    options.push((3, Field::Word(1)));
                }
                options.push((options.len() as u16, Field::Byte(activation)));
                options
            }
        };
        self.operator(kind, vec![input, weights, biases], output, options)
    }

    fn pool(&mut self, input: u32, geometry: &Pool2d) -> u32 {
        let output = self.activations(geometry.output, false);
        let [rows, columns] = strides(&geometry.window);
        let [height, width] = geometry.window.kernel.map(|extent| Field::Word(extent.into()));
        let padding = padding(geometry.input, geometry.output, &geometry.window);
        let options = vec![(0, Field::Byte(padding)), (1, columns), (2, rows), (3, width), (4, height)];
        self.operator(Kind::AveragePool, vec![input], output, options)
    }

    fn softmax(&mut self, input: u32, shape: Shape) -> u32 {
        let output = self.tensor(vec![1, shape.c.into()], INT8, 0, vec![1.0 / 256.0], -128);
        self.operator(Kind::Softmax, vec![input], output, vec![(0, Field::Word(1f32.to_bits()))])
    }

    fn operator(&mut self, kind: Kind, inputs: Vec<u32>, output: u32, options: Table) -> u32 {
        let code = KINDS.iter().position(|(known, _, _)| *known == kind).unwrap_or(0);
        self.operators.push(vec![
            (0, Field::Word(code as u32)),
            (1, Field::Words(inputs)),
            (2, Field::Words(vec![output])),
            (3, Field::Byte(KINDS[code].2)),
            (4, Field::Table(options)),
        ]);
        output
    }

    fn random(&mut self) -> u32 {
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.state >> 24
    }

    fn finish(self, input: u32, output: u32) -> Network {
        let weight_bytes = self.buffers.iter().map(|buffer| buffer.len() as u64).sum();
        let code = |&(_, code, _): &(Kind, u8, u8)| vec![(0, Field::Byte(code)), (3, Field::Word(code.into()))];
        let subgraph = vec![
            (0, Field::Tables(self.tensors)),
            (1, Field::Words(vec![input])),
            (2, Field::Words(vec![output])),
            (3, Field::Tables(self.operators)),
        ];
        let empty = std::iter::once(Table::new());
        let filled = self.buffers.into_iter().map(|bytes| vec![(0, Field::Bytes(bytes))]);
        let model = vec![
            (0, Field::Word(3)),
            (1, Field::Tables(KINDS.iter().map(code).collect())),
            (2, Field::Tables(vec![subgraph])),
            (4, Field::Tables(empty.chain(filled).collect())),
        ];
        Network { file: flat::file(&model, *b"TFL3"), weight_bytes }
    }
}

/// Rows, then columns.
fn strides(window: &Window) -> [Field; 2] {
    window.stride.map(|stride| Field::Word(stride.into()))
}

/// The padding that gives these extents.
fn padding(input: Shape, output: Shape, window: &Window) -> u8 {
    let covers = |input: u16, stride: u8| input.div_ceil(u16::from(stride).max(1));
    let is_same = output.h == covers(input.h, window.stride[0]) && output.w == covers(input.w, window.stride[1]);
    if is_same { SAME } else { VALID }
}

#[cfg(test)]
mod tests {
    use stitchkit_runtime::bundle::AlignedBytes;

    use super::*;
    use crate::bench::models::Model;

    #[test]
    fn models_without_additions_have_a_network_with_as_many_weights() {
        // Weights, and 4 bytes for each bias.
        let wanted = [None, Some(22_016 + 4 * 588), Some(208_112 + 4 * 2738), Some(264_192 + 4 * 1672)];
        for (model, weight_bytes) in Model::ALL.into_iter().zip(wanted) {
            let bytes = AlignedBytes::copy_of(&model.bundle().expect("it compiles"));
            let bundle = Bundle::parse(bytes.as_slice()).expect("it is valid");
            let network = of_plan(&bundle, &bundle.plan(0).expect("a plan"));
            match (network, weight_bytes) {
                (Ok(network), Some(weight_bytes)) => {
                    assert_eq!(network.weight_bytes, weight_bytes, "{}", model.name());
                    assert_eq!(&network.file[4..8], b"TFL3");
                    assert!(network.file.len() as u64 > weight_bytes);
                }
                (network, None) => assert_eq!(network.map(|network| network.weight_bytes), Err("add")),
                (Err(operator), _) => panic!("{}: {operator}", model.name()),
            }
        }
    }
}
