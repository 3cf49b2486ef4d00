//! Float graph to integer steps. Every operator has an integer form or the graph is refused; nothing falls back to floats.

use stitchkit_runtime::bundle::Quant;
use stitchkit_runtime::kernels::{Attention, Conv2d, LAYER_NORM_MAX_CHANNELS, Pool2d, Shape, Window as KernelWindow};

use super::constants::{self, ChannelFault};
use super::fuse::{self, Kind, Unit};
use super::integer::{ConvKernel, IntegerBlock, IntegerStep, Kernel, MAX_BLOCK_STEPS};
use super::scale::{Factor, add_parameters, landing, to_int8, to_real};
use crate::graph::forward::apply;
use crate::graph::{Graph, Node, Op, ValueId, Window};

/// Why a float graph has no integer form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// An operator that the device runtime does not have.
    #[error("`{node}`: {op} has no int8 kernel")]
    NoKernel {
        /// Node of the float graph.
        node: String,
        /// Its operator.
        op: &'static str,
    },
    /// A tensor has more axes than the runtime's three, or an extent beyond 16 bits.
    #[error("`{node}`: shape {shape:?} is not representable; the runtime takes at most 3 axes of at most 65535")]
    Shape {
        /// The node or tensor.
        node: String,
        /// Its per-sample shape.
        shape: Vec<usize>,
    },
    /// A window parameter is beyond the format's limits.
    #[error("`{node}`: kernel, stride, dilation and padding must be below 256, and padding below four kernels")]
    Window {
        /// The node.
        node: String,
    },
    /// A channel's constants cannot be quantized.
    #[error("`{node}`, output channel {channel}: {fault}")]
    Channel {
        /// The node.
        node: String,
        /// Output channel.
        channel: usize,
        /// What is wrong.
        fault: ChannelFault,
    },
    /// The scales at an operator's ends are incompatible.
    #[error("`{node}`: input and output scales are too far apart for integer arithmetic")]
    Scale {
        /// The node.
        node: String,
    },
    /// More steps than a block can number.
    #[error("`{name}` has {steps} steps between two cuts; a block holds at most {MAX_BLOCK_STEPS}: add a cut")]
    TooManySteps {
        /// The piece.
        name: String,
        /// Its steps.
        steps: usize,
    },
    /// A layer norm over more channels than its 32-bit sums can take.
    #[error("`{node}`: layer norm over {channels} channels; at most {LAYER_NORM_MAX_CHANNELS} fit its integer sums")]
    LayerNorm {
        /// The node.
        node: String,
        /// Channels.
        channels: usize,
    },
    /// Attention over more tokens or features than its 32-bit sums can take.
    #[error(
        "`{node}`: attention over {tokens} tokens; at most {} tokens and 32767 features fit its integer sums",
        Attention::MAX_TOKENS
    )]
    Attention {
        /// The node.
        node: String,
        /// Tokens.
        tokens: usize,
    },
    /// A concatenation that is not one of a tensor with constant tokens.
    #[error("`{node}`: only constant tokens can be joined to a tensor, along the axis of the tokens")]
    Concat {
        /// The node.
        node: String,
    },
    /// A softmax over more channels than its 32-bit sum can take.
    #[error("`{node}`: softmax over {channels} channels; at most 32767 fit its integer sum")]
    Softmax {
        /// The node.
        node: String,
        /// Channels.
        channels: usize,
    },
}

/// A per-sample shape as the runtime sees it: missing leading axes are 1.
///
/// # Errors
/// [`LowerError::Shape`] with `node` as the culprit.
pub fn shape_of(node: &str, shape: &[usize]) -> Result<Shape, LowerError> {
    let wrong = || LowerError::Shape { node: node.to_owned(), shape: shape.to_vec() };
    let mut axes = [1u16; 3];
    let skipped = axes.len().checked_sub(shape.len()).ok_or_else(wrong)?;
    for (axis, &extent) in axes[skipped..].iter_mut().zip(shape) {
        *axis = u16::try_from(extent).map_err(|_| wrong())?;
    }
    let [h, w, c] = axes;
    let shape = Shape::new(h, w, c);
    if shape.is_empty() || shape.elements() >= 1 << 31 { Err(wrong()) } else { Ok(shape) }
}

/// Translates the graph of one piece. `quants` holds the quantization of each value, the input first; those of values that
/// vanish in a fusion are not used.
///
/// # Errors
/// [`LowerError`] names the node that has no integer form.
pub fn lower(graph: &Graph, piece: usize, quants: &[Quant]) -> Result<IntegerBlock, LowerError> {
    let units = fuse::units(graph, quants)?;
    if units.len() > MAX_BLOCK_STEPS {
        return Err(LowerError::TooManySteps { name: graph.name.clone(), steps: units.len() });
    }
    let input = shape_of(&graph.input_tensor, &graph.input_shape)?;
    let mut steps = Vec::with_capacity(units.len());
    for unit in &units {
        let site = Site::new(graph, &units, unit, quants[0])?;
        steps.push(IntegerStep {
            name: site.node.name.clone(),
            inputs: [unit.inputs[0] as u8, unit.inputs.get(1).copied().unwrap_or(0) as u8],
            kernel: site.kernel()?,
            quant: unit.quant,
            value: unit.value,
            piece,
        });
    }
    let output_quant = units.last().map_or(quants[0], |unit| unit.quant);
    Ok(IntegerBlock { name: graph.name.clone(), input, input_quant: quants[0], output_quant, steps })
}

/// A unit with what surrounds it.
pub(super) struct Site<'a> {
    pub(super) graph: &'a Graph,
    pub(super) unit: &'a Unit,
    pub(super) node: &'a Node,
    /// Shape of the float node's first input that is no constant, as the node sees it.
    pub(super) input: Shape,
    /// Shape of the float node's output.
    pub(super) output: Shape,
    /// Quantizations of the inputs.
    pub(super) from: Vec<Quant>,
}

impl<'a> Site<'a> {
    fn new(graph: &'a Graph, units: &[Unit], unit: &'a Unit, input_quant: Quant) -> Result<Self, LowerError> {
        let node = &graph.nodes[unit.node];
        let tensor = node.inputs.iter().copied().find(|&input| !graph.is_constant(input));
        let source = tensor.unwrap_or(ValueId::INPUT);
        let from = unit.inputs.iter().map(|&v| v.checked_sub(1).map_or(input_quant, |i| units[i].quant)).collect();
        Ok(Self {
            graph,
            unit,
            node,
            input: shape_of(&node.name, graph.shape(source))?,
            output: shape_of(&node.name, &node.shape)?,
            from,
        })
    }

    fn kernel(&self) -> Result<Kernel, LowerError> {
        if self.unit.kind == Kind::Requantize {
            return Ok(self.lut(|x| x));
        }
        match &self.node.op {
            Op::Conv(conv) => {
                let window = self.window(&conv.window)?;
                let groups = conv.groups as u16;
                let depthwise = groups > 1 && groups == self.input.c && groups == self.output.c;
                let mut kernel = self.convolution(window, groups, &conv.weights, &conv.bias)?;
                if !depthwise {
                    return Ok(Kernel::Conv(kernel));
                }
                kernel.weights = channels_last(&kernel.weights, usize::from(groups));
                Ok(Kernel::Depthwise(kernel))
            }
            Op::Dense(dense) => {
                Ok(Kernel::Conv(self.convolution(KernelWindow::POINT, 1, &dense.weights, &dense.bias)?))
            }
            Op::Add if self.constants().next().is_some() => self.add_constant(),
            Op::Add if self.from.len() == 1 => Ok(self.lut(|x| 2.0 * x)),
            Op::Add => {
                let (lo, hi) = self.unit.clip;
                let add = add_parameters(self.from[0], self.from[1], self.unit.quant, lo, hi);
                Ok(Kernel::Add { shape: self.output, add: add.ok_or_else(|| self.scale_error())? })
            }
            Op::MaxPool(window) => Ok(Kernel::MaxPool(self.pool(window)?)),
            Op::AvgPool(window) => self.average(window),
            Op::Softmax => self.softmax(),
            Op::Transpose { perm } => {
                let skipped = 3 - perm.len().min(3);
                let axes: Vec<u8> =
                    (0..skipped).chain(perm.iter().map(|axis| axis + skipped)).map(|a| a as u8).collect();
                let perm = <[u8; 3]>::try_from(axes)
                    .map_err(|_| LowerError::Shape { node: self.node.name.clone(), shape: self.node.shape.clone() })?;
                Ok(Kernel::Transpose { input: self.input, perm })
            }
            Op::Clip { .. } | Op::Reshape => Ok(self.lut(|x| x)),
            Op::Unary(function) => Ok(self.lut(|x| f64::from(apply(*function, x as f32)))),
            Op::Affine(map) => {
                let channels = self.input.c;
                let kernel = self.convolution(KernelWindow::POINT, channels, &map.scale, &map.shift)?;
                Ok(if channels > 1 { Kernel::Depthwise(kernel) } else { Kernel::Conv(kernel) })
            }
            Op::LayerNorm { affine, epsilon } => self.layer_norm(affine, *epsilon),
            Op::Attention(attention) => self.attention(attention),
            Op::Concat { axis } => self.concat(*axis),
            Op::Slice { axis, start, step: 1 } => self.slice(*axis, *start),
            Op::Mean { axis } => self.mean(*axis),
            other => Err(LowerError::NoKernel { node: self.node.name.clone(), op: other.name() }),
        }
    }

    pub(super) fn scale_error(&self) -> LowerError {
        LowerError::Scale { node: self.node.name.clone() }
    }

    fn convolution(
        &self,
        window: KernelWindow,
        groups: u16,
        weights: &[f32],
        bias: &[f32],
    ) -> Result<ConvKernel, LowerError> {
        let (quant, clip) = self.unit.residual.map_or((self.unit.quant, self.unit.clip), |r| (r.quant, r.clip));
        let residual = match self.unit.residual {
            None => None,
            Some(_) => {
                let (lo, hi) = self.unit.clip;
                let add = add_parameters(quant, self.from[1], self.unit.quant, lo, hi);
                Some(add.ok_or_else(|| self.scale_error())?)
            }
        };
        let map = self.unit.map.and_then(|node| match &self.graph.nodes[node].op {
            Op::Affine(map) => Some((&map.scale[..], &map.shift[..])),
            _ => None,
        });
        let constants = constants::quantize(weights, bias, map, self.from[0], quant)
            .map_err(|(channel, fault)| LowerError::Channel { node: self.node.name.clone(), channel, fault })?;
        Ok(ConvKernel {
            geometry: Conv2d {
                input: self.input,
                output: self.output,
                window,
                groups,
                pad_value: self.from[0].zero_point,
            },
            weights: constants.weights,
            bias: constants.bias,
            multiplier: constants.multiplier,
            shift: constants.shift,
            landing: landing(quant, clip.0, clip.1),
            residual,
        })
    }

    fn window(&self, window: &Window) -> Result<KernelWindow, LowerError> {
        let wrong = || LowerError::Window { node: self.node.name.clone() };
        let pair = |[rows, columns]: [usize; 2]| -> Result<[u8; 2], LowerError> {
            Ok([u8::try_from(rows).map_err(|_| wrong())?, u8::try_from(columns).map_err(|_| wrong())?])
        };
        let [top, left, ..] = window.pad;
        if top >= 4 * window.kernel[0] || left >= 4 * window.kernel[1] {
            return Err(wrong());
        }
        Ok(KernelWindow {
            kernel: pair(window.kernel)?,
            stride: pair(window.stride)?,
            pad: pair([top, left])?,
            dilation: pair(window.dilation)?,
        })
    }

    fn pool(&self, window: &Window) -> Result<Pool2d, LowerError> {
        Ok(Pool2d { input: self.input, output: self.output, window: self.window(window)? })
    }

    fn average(&self, window: &Window) -> Result<Kernel, LowerError> {
        self.mean_of(self.pool(window)?)
    }

    /// The mean over a pool's windows.
    pub(super) fn mean_of(&self, geometry: Pool2d) -> Result<Kernel, LowerError> {
        let [rows, columns] = geometry.window.kernel.map(f64::from);
        let taps = rows * columns;
        let factor = f64::from(self.from[0].scale) / (f64::from(self.unit.quant.scale) * taps);
        let Factor { multiplier, shift } = Factor::from_real(factor).ok_or_else(|| self.scale_error())?;
        Ok(Kernel::AvgPool {
            geometry,
            input_zero_point: self.from[0].zero_point,
            multiplier,
            shift,
            landing: landing(self.unit.quant, self.unit.clip.0, self.unit.clip.1),
        })
    }

    fn softmax(&self) -> Result<Kernel, LowerError> {
        let channels = usize::from(self.input.c);
        if channels >= 1 << 15 {
            return Err(LowerError::Softmax { node: self.node.name.clone(), channels });
        }
        let scale = f64::from(self.from[0].scale);
        let exponential = |steps: u32| (65536.0 * (-f64::from(steps) * scale).exp()).round() as i32;
        Ok(Kernel::Softmax { shape: self.input, table: (0..256).map(exponential).collect() })
    }

    /// A pointwise function of the real value, then the unit's clip.
    fn lut(&self, function: impl Fn(f64) -> f64) -> Kernel {
        let (lo, hi) = (f64::from(self.unit.clip.0), f64::from(self.unit.clip.1));
        let entry = |byte: usize| {
            let real = to_real(self.from[0], byte as u8 as i8);
            to_int8(self.unit.quant, function(real).max(lo).min(hi))
        };
        Kernel::Lut { shape: self.output, table: Box::new(std::array::from_fn(entry)) }
    }
}

/// `[channels][taps]` to `[taps][channels]`.
fn channels_last(weights: &[i8], channels: usize) -> Vec<i8> {
    let taps = weights.len() / channels.max(1);
    (0..taps).flat_map(|tap| (0..channels).map(move |c| weights[c * taps + tap])).collect()
}

#[cfg(test)]
#[path = "lower_tests.rs"]
mod tests;
