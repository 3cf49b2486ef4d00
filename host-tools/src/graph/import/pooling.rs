//! Pools and means over maps.

use tract_onnx::pb::NodeProto;

use super::super::{Op, Window};
use super::attributes::{Attributes, axis};
use super::draft::DraftOp;
use super::lower::{Fault, HWC, Held, Lowerer};
use super::window::{Rounding, counted_padding, window};
use crate::graph::cost::GLOBAL_AVERAGE_POOL;

impl Lowerer<'_> {
    pub fn max_pool(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        if node.output.iter().skip(1).any(|name| !name.is_empty()) {
            return Err("its second output (indices) is not supported".into());
        }
        let held = self.map(node)?;
        if held.pad != [0; 4] && !self.draft.is_non_negative(held.id) {
            return Err("a zero Pad before it on values that may be negative; use the pool's own padding".into());
        }
        let (window, extents) = pool_window(node, &held)?;
        for side in 0..2 {
            let span = (window.kernel[side] - 1) * window.dilation[side] + 1;
            if window.pad[side] >= span || window.pad[2 + side] >= span {
                return Err("its padding is as large as its window, so that a window may lie outside the map".into());
            }
        }
        self.pooled(node, &held, Op::MaxPool(window), extents)
    }

    pub fn average_pool(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let held = self.map(node)?;
        let (pool, extents) = pool_window(node, &held)?;
        let own: [usize; 4] = std::array::from_fn(|i| pool.pad[i] - held.pad[i]);
        if own != [0; 4] {
            counted_padding(node)?;
        }
        let kernel = pool.kernel;
        if window(node, &held, kernel, Rounding::Floor)?.1 != extents {
            return Err("ceil_mode with partial windows at the border; pool without ceil_mode".into());
        }
        self.pooled(node, &held, Op::AvgPool(pool), extents)
    }

    pub fn global_average_pool(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let held = self.map(node)?;
        let held = self.unpadded(held)?;
        let op = Op::AvgPool(whole(held.dims[2], held.dims[3]));
        self.pooled(node, &held, op, [1, 1])
    }

    pub fn global_max_pool(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let held = self.map(node)?;
        let held = self.unpadded(held)?;
        let op = Op::MaxPool(whole(held.dims[2], held.dims[3]));
        self.pooled(node, &held, op, [1, 1])
    }

    fn pooled(&mut self, node: &NodeProto, held: &Held, op: Op, [height, width]: [usize; 2]) -> Result<Held, Fault> {
        let dims = vec![1, held.dims[1], height, width];
        self.emit(node, DraftOp::Op(op), vec![held.id], dims, HWC.to_vec())
    }

    /// Mean over two axes of a map, whichever they are in the file.
    pub fn reduce_mean(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let held = self.held(node, 0)?;
        let held = self.unpadded(held)?;
        let rank = held.dims.len();
        let listed = match Attributes(node).ints("axes") {
            Some(axes) => Some(axes.to_vec()),
            None => self.integers(node, 1)?,
        };
        let listed = listed.unwrap_or_default();
        let mut reduced = Vec::new();
        for &value in &listed {
            reduced.push(axis(value, rank)?);
        }
        reduced.sort_unstable();
        let (&[first, second], 4, 1) = (reduced.as_slice(), rank, held.dims[0]) else {
            return self.mean(node, held, &reduced);
        };
        if first == 0 {
            return Err("a mean over the batch".into());
        }
        // The second exporter of torch writes adaptive pools as means over these axes.
        let renamed = NodeProto { op_type: GLOBAL_AVERAGE_POOL.into(), ..node.clone() };
        let node = if listed == [-1, -2] { &renamed } else { node };
        let channel = 6 - first - second;
        let held = self.arranged(node, held, &[first, second, channel]);
        let op = DraftOp::Op(Op::AvgPool(whole(held.dims[first], held.dims[second])));
        let mut dims = held.dims.clone();
        (dims[first], dims[second]) = (1, 1);
        if Attributes(node).int("keepdims", 1) != 0 {
            return self.emit(node, op, vec![held.id], dims, held.axes);
        }
        let channels = held.dims[channel];
        let name = format!("{}.pooled", super::lower::label(node));
        let inner = NodeProto { name: name.clone(), output: vec![name], ..node.clone() };
        let pooled = self.emit(&inner, op, vec![held.id], dims, held.axes)?;
        debug_assert_eq!(self.draft.shape(pooled.id), [1, 1, channels]);
        self.emit(node, DraftOp::Op(Op::Reshape), vec![pooled.id], vec![1, channels], vec![1])
    }
}

impl Lowerer<'_> {
    /// Means over axes, one after the other.
    fn mean(&mut self, node: &NodeProto, held: Held, axes: &[usize]) -> Result<Held, Fault> {
        if axes.is_empty() {
            return Err("a mean over all axes".into());
        }
        let mut held = held;
        for &over in axes {
            let Some(stored) = held.axes.iter().position(|&other| other == over) else { continue };
            let mut dims = held.dims;
            dims[over] = 1;
            held = self.emit(node, DraftOp::Op(Op::Mean { axis: stored }), vec![held.id], dims, held.axes)?;
        }
        if Attributes(node).int("keepdims", 1) != 0 {
            return Ok(self.alias(node, held));
        }
        let dims = (0..held.dims.len()).filter(|axis| !axes.contains(axis)).map(|axis| held.dims[axis]).collect();
        self.reshaped(node, held, dims)
    }
}

fn pool_window(node: &NodeProto, held: &Held) -> Result<(Window, [usize; 2]), Fault> {
    let attributes = Attributes(node);
    if attributes.ints("kernel_shape").is_none() {
        return Err("it has no kernel_shape".into());
    }
    let kernel = attributes.pair("kernel_shape", [1, 1], 1)?;
    let rounding = if attributes.int("ceil_mode", 0) != 0 { Rounding::Ceil } else { Rounding::Floor };
    window(node, held, kernel, rounding)
}

fn whole(height: usize, width: usize) -> Window {
    Window { kernel: [height, width], stride: [1, 1], pad: [0; 4], dilation: [1, 1] }
}
