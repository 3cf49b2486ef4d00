//! Tensors as strided parts of another tensor.

use super::super::{ChannelMap, Graph, Op, ValueId};

/// A tensor whose element `i, j, ..` is `scale` times element `offset + i * strides[0] + j * strides[1] + ..` of `root`.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    pub root: ValueId,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
    pub scale: f32,
}

/// The view of every value, the input first; a value that is computed is a view of itself.
pub fn views(graph: &Graph) -> Vec<View> {
    let mut views = vec![View::whole(ValueId::INPUT, &graph.input_shape)];
    for (index, node) in graph.nodes.iter().enumerate() {
        let whole = View::whole(ValueId(index + 1), &node.shape);
        let before = node.inputs.first().and_then(|input| views.get(input.0));
        let view = before.and_then(|before| before.after(&node.op, &node.shape));
        views.push(view.unwrap_or(whole));
    }
    views
}

/// The factor of an affine map that multiplies all channels by one positive number.
pub fn common_factor(map: &ChannelMap) -> Option<f32> {
    let (scale, shift) = (map.scale.load().ok()?, map.shift.load().ok()?);
    let first = scale.first().copied().filter(|&factor| factor > 0.0)?;
    let is_common = scale.iter().all(|&factor| factor == first) && shift.iter().all(|&shift| shift == 0.0);
    is_common.then_some(first)
}

impl View {
    fn whole(root: ValueId, shape: &[usize]) -> Self {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        Self { root, offset: 0, shape: shape.to_vec(), strides, scale: 1.0 }
    }

    /// The view after an operator that only moves or scales; `None` for others.
    fn after(&self, op: &Op, shape: &[usize]) -> Option<Self> {
        let mut view = self.clone();
        match op {
            Op::Reshape => return self.reshaped(shape),
            Op::Transpose { perm } => {
                view.shape = perm.iter().map(|&axis| self.shape[axis]).collect();
                view.strides = perm.iter().map(|&axis| self.strides[axis]).collect();
            }
            Op::Slice { axis, start, step } => {
                view.offset += start * self.strides[*axis];
                view.strides[*axis] *= usize::try_from(*step).ok()?;
                view.shape = shape.to_vec();
            }
            Op::Affine(map) => view.scale *= common_factor(map)?,
            _ => return None,
        }
        Some(view)
    }

    /// The same elements in the same order under another shape, if strides can tell.
    fn reshaped(&self, shape: &[usize]) -> Option<Self> {
        let old: Vec<(usize, usize)> =
            self.shape.iter().copied().zip(self.strides.iter().copied()).filter(|&(extent, _)| extent != 1).collect();
        let mut strides = vec![0; shape.len()];
        let (mut at, mut axis) = (0, 0);
        while at < old.len() {
            // The shortest run of old axes and run of new axes with equally many elements.
            let (first, first_axis) = (at, axis);
            let (mut have, mut want) = (old[at].0, 1);
            at += 1;
            while have != want || axis == first_axis {
                if want < have {
                    want *= shape.get(axis)?;
                    axis += 1;
                } else if want > have {
                    have *= old.get(at)?.0;
                    at += 1;
                } else {
                    break;
                }
            }
            let is_dense = old[first..at].windows(2).all(|pair| pair[0].1 == pair[1].1 * pair[1].0);
            if !is_dense {
                return None;
            }
            let mut stride = old[at - 1].1;
            for axis in (first_axis..axis).rev() {
                strides[axis] = stride;
                stride *= shape[axis];
            }
        }
        Some(Self { shape: shape.to_vec(), strides, ..self.clone() })
    }

    /// The last two axes exchanged.
    pub fn swapped(mut self) -> Option<Self> {
        let last = self.shape.len().checked_sub(1).filter(|&last| last > 0)?;
        self.shape.swap(last - 1, last);
        self.strides.swap(last - 1, last);
        Some(self)
    }

    /// As `[heads, tokens, features]`: a matrix is a single head.
    pub fn with_heads(mut self) -> Option<Self> {
        if self.shape.len() == 2 {
            self.shape.insert(0, 1);
            self.strides.insert(0, 0);
        }
        (self.shape.len() == 3).then_some(self)
    }

    /// The extents of three axes.
    pub fn extents(&self) -> Option<[usize; 3]> {
        self.shape.as_slice().try_into().ok()
    }
}
