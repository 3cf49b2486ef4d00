//! Convolutions, zero padding, and the window arithmetic shared with pools.

use tract_onnx::pb::NodeProto;

use super::super::{Conv, Op, Weights, Window};
use super::attributes::{Attributes, axis, bounded};
use super::draft::DraftOp;
use super::lower::{Fault, HWC, Held, Lowerer};

/// How far a pool's last windows may reach beyond the padded map.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Not at all.
    Floor,
    /// Until the map is covered; the end padding grows.
    Ceil,
}

/// Checks the attributes of a node whose input shape is not known.
pub fn check_attributes(node: &NodeProto) -> Result<(), Fault> {
    let attributes = Attributes(node);
    match node.op_type.as_str() {
        "Conv" | "MaxPool" | "AveragePool" => {
            attributes.pair("kernel_shape", [1, 1], 1)?;
            attributes.pair("strides", [1, 1], 1)?;
            attributes.pair("dilations", [1, 1], 1)?;
            let pads = attributes.pads()?;
            if node.op_type == "AveragePool" && pads != [0; 4] { counted_padding(node) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

/// Refuses a mean over a padded map that leaves the padding out.
pub fn counted_padding(node: &NodeProto) -> Result<(), Fault> {
    if Attributes(node).int("count_include_pad", 0) != 0 {
        return Ok(());
    }
    Err("padding that is left out of the mean; set count_include_pad (count_include_pad=True in PyTorch) or pool \
         without padding"
        .into())
}

/// The window of a convolution or pool over a map, and the extents of its result. Zeros around the map become part of
/// the window's padding.
pub fn window(
    node: &NodeProto,
    held: &Held,
    kernel: [usize; 2],
    rounding: Rounding,
) -> Result<(Window, [usize; 2]), Fault> {
    let attributes = Attributes(node);
    let stride = attributes.pair("strides", [1, 1], 1)?;
    let dilation = attributes.pair("dilations", [1, 1], 1)?;
    let mut pad = attributes.pads()?;
    let mut extents = [0; 2];
    let auto = attributes.text("auto_pad", "NOTSET");
    for side in 0..2 {
        let extent = held.dims[2 + side];
        let span = (kernel[side] - 1) * dilation[side] + 1;
        (pad[side], pad[2 + side]) = match auto.as_str() {
            "NOTSET" | "" => (pad[side], pad[2 + side]),
            "VALID" => (0, 0),
            "SAME_UPPER" => same_padding(extent, stride[side], span),
            "SAME_LOWER" => {
                let (less, more) = same_padding(extent, stride[side], span);
                (more, less)
            }
            other => return Err(format!("auto_pad `{other}` is unknown").into()),
        };
        let padded = extent + pad[side] + pad[2 + side];
        let Some(slack) = padded.checked_sub(span) else {
            return Err(format!("its window spans {span} but the padded map only {padded}").into());
        };
        let mut positions = slack / stride[side] + 1;
        // A further, partial window counts only if it starts inside the map or its leading padding.
        if rounding == Rounding::Ceil && !slack.is_multiple_of(stride[side]) {
            let start = positions * stride[side];
            if start < extent + pad[side] {
                positions += 1;
                pad[2 + side] += start + span - padded;
            }
        }
        extents[side] = positions;
    }
    let pad = std::array::from_fn(|i| pad[i] + held.pad[i]);
    Ok((Window { kernel, stride, pad, dilation }, extents))
}

/// Leading and trailing padding that gives `ceil(extent / stride)` positions, the larger part at the end.
fn same_padding(extent: usize, stride: usize, span: usize) -> (usize, usize) {
    let total = ((extent.div_ceil(stride) - 1) * stride + span).saturating_sub(extent);
    (total / 2, total - total / 2)
}

/// `[out][in][rows][columns]` to `[out][rows][columns][in]`.
fn ohwi(weights: &[f32], inputs: usize, taps: usize) -> Vec<f32> {
    let kernel = inputs * taps;
    (0..weights.len())
        .map(|i| {
            let (out, tap, input) = (i / kernel, i % kernel / inputs, i % inputs);
            weights[out * kernel + input * taps + tap]
        })
        .collect()
}

impl Lowerer<'_> {
    /// A map stored HWC, rank checked.
    pub fn map(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let held = self.held(node, 0)?;
        if held.dims.len() != 4 {
            return Err(format!("its input has rank {}; only 2-D maps (NCHW) are supported", held.dims.len()).into());
        }
        if held.dims[0] != 1 {
            return Err(format!("its input of shape {:?} has other axes merged into the batch", held.dims).into());
        }
        Ok(self.arranged(node, held, &HWC))
    }

    pub fn conv(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let held = self.map(node)?;
        let (shape, weights) = self.weights(node, 1)?.ok_or("it has no weights")?;
        let &[outputs, inputs, rows, columns] = shape.as_slice() else {
            return Err(format!("its weights have the shape {shape:?}; only 2-D convolutions are supported").into());
        };
        let attributes = Attributes(node);
        let kernel = attributes.pair("kernel_shape", [rows, columns], 1)?;
        let groups = bounded(attributes.int("group", 1), 1).ok_or("its group count is out of range")?;
        if kernel != [rows, columns] || weights.is_empty() {
            return Err(format!("kernel_shape {kernel:?} does not fit weights of shape {shape:?}").into());
        }
        if inputs * groups != held.dims[1] || !outputs.is_multiple_of(groups) {
            let channels = held.dims[1];
            return Err(format!("weights {shape:?} in {groups} group(s) do not fit {channels} input channels").into());
        }
        let bias = self.weights(node, 2)?.map_or_else(|| Weights::filler(outputs, 0.0), |(_, bias)| bias);
        if bias.len() != outputs {
            return Err(format!("{} biases for {outputs} output channels", bias.len()).into());
        }
        let (window, [height, width]) = window(node, &held, kernel, Rounding::Floor)?;
        let weights = weights.map(move |weights| ohwi(weights, inputs, rows * columns));
        let op = Op::Conv(Conv { window, groups, out_channels: outputs, weights, bias });
        self.emit(node, DraftOp::Op(op), vec![held.id], vec![1, outputs, height, width], HWC.to_vec())
    }

    /// Constant zero padding of rows and columns; kept aside for the window that follows.
    pub fn pad(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let mode = Attributes(node).text("mode", "constant");
        if mode != "constant" {
            return Err(format!("padding mode `{mode}`; only zero padding is supported").into());
        }
        let value = self.floats(node, 2)?.and_then(|(_, values)| values.first().copied());
        if value.unwrap_or_else(|| Attributes(node).float("value", 0.0)) != 0.0 {
            return Err("it pads with a value other than zero".into());
        }
        let held = self.held(node, 0)?;
        let rank = held.dims.len();
        let pads = match Attributes(node).ints("pads") {
            Some(pads) => pads.to_vec(),
            None => self.integers(node, 1)?.ok_or("it has no pads")?,
        };
        let axes = match self.integers(node, 3)? {
            Some(axes) => axes.into_iter().map(|value| axis(value, rank)).collect::<Result<Vec<_>, _>>()?,
            None => (0..rank).collect(),
        };
        if pads.len() != 2 * axes.len() {
            return Err(format!("{} pads for {} axes", pads.len(), axes.len()).into());
        }
        if pads.iter().all(|&pad| pad == 0) {
            return Ok(self.alias(node, held));
        }
        let held = self.map(node)?;
        let mut padded = held.clone();
        for (i, &axis) in axes.iter().enumerate() {
            let ends = [pads[i], pads[i + axes.len()]].map(|pad| bounded(pad, 0));
            let [Some(before), Some(after)] = ends else {
                return Err("negative padding (cropping) is not supported".into());
            };
            if axis >= 2 {
                padded.pad[axis - 2] += before;
                padded.pad[axis] += after;
            } else if before + after > 0 {
                return Err("it pads the batch or channel axis; only rows and columns can be padded".into());
            }
            padded.dims[axis] += before + after;
        }
        Ok(padded)
    }
}
