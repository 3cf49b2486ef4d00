//! Operators that move or rename axes, and those that do nothing at inference.

use tract_onnx::pb::NodeProto;

use super::super::Op;
use super::attributes::{Attributes, axis};
use super::draft::DraftOp;
use super::lower::{Fault, Held, Lowerer, plain};
use super::source::elements;

impl Lowerer<'_> {
    /// Identity, and dropout at inference.
    pub fn identity(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let held = self.held(node, 0)?;
        if node.op_type == "Dropout" && self.integers(node, 2)?.is_some_and(|mode| mode != [0]) {
            return Err("a dropout in training mode; export the model after eval()".into());
        }
        Ok(self.alias(node, held))
    }

    pub fn cast(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        match Attributes(node).int("to", 1) {
            1 => self.identity(node),
            other => Err(format!("a cast of activations to ONNX type {other}; only float32 is supported").into()),
        }
    }

    /// Renames axes; no element moves.
    pub fn transpose(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let held = self.held(node, 0)?;
        let held = self.unpadded(held)?;
        let rank = held.dims.len();
        let perm = match Attributes(node).ints("perm") {
            Some(perm) => perm.iter().map(|&value| axis(value, rank)).collect::<Result<Vec<_>, _>>()?,
            None => (0..rank).rev().collect(),
        };
        let mut sorted = perm.clone();
        sorted.sort_unstable();
        if sorted != (0..rank).collect::<Vec<_>>() {
            return Err(format!("{perm:?} is not a permutation of {rank} axes").into());
        }
        let renamed = |old: &usize| perm.iter().position(|from| from == old).unwrap_or_default();
        let axes = held.axes.iter().map(renamed).collect();
        let dims = perm.iter().map(|&from| held.dims[from]).collect();
        Ok(self.alias(node, Held { axes, dims, ..held }))
    }

    pub fn reshape(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let held = self.held(node, 0)?;
        let target = self.integers(node, 1)?.ok_or("it has no target shape")?;
        let keep_zero = Attributes(node).int("allowzero", 0) != 0;
        let mut dims = Vec::with_capacity(target.len());
        for (i, &extent) in target.iter().enumerate() {
            dims.push(match extent {
                0 if !keep_zero => *held.dims.get(i).ok_or("a zero in its shape copies an axis that is not there")?,
                -1 => 0,
                _ => usize::try_from(extent).map_err(|_| format!("its target shape is {target:?}"))?,
            });
        }
        if let Some(free) = target.iter().position(|&extent| extent == -1) {
            let others: Vec<usize> = (0..dims.len()).filter(|&i| i != free).map(|i| dims[i]).collect();
            let fixed = elements(&others).filter(|&fixed| fixed > 0).ok_or("its target shape is empty")?;
            dims[free] = elements(&held.dims).unwrap_or(0) / fixed;
        }
        self.reshaped(node, held, dims)
    }

    pub fn flatten(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let held = self.held(node, 0)?;
        let rank = held.dims.len();
        let value = Attributes(node).int("axis", 1);
        let split = if value == rank as i64 { rank } else { axis(value, rank)? };
        let (front, back) = held.dims.split_at(split);
        let dims = vec![front.iter().product(), back.iter().product()];
        self.reshaped(node, held, dims)
    }

    pub fn squeeze(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let held = self.held(node, 0)?;
        let rank = held.dims.len();
        let removed = match self.listed_axes(node)? {
            Some(axes) => axes.iter().map(|&value| axis(value, rank)).collect::<Result<Vec<_>, _>>()?,
            None => (0..rank).filter(|&axis| held.dims[axis] == 1).collect(),
        };
        let dims = (0..rank).filter(|axis| !removed.contains(axis)).map(|axis| held.dims[axis]).collect();
        self.reshaped(node, held, dims)
    }

    pub fn unsqueeze(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let held = self.held(node, 0)?;
        let listed = self.listed_axes(node)?.ok_or("it has no axes")?;
        let rank = held.dims.len() + listed.len();
        let added = listed.iter().map(|&value| axis(value, rank)).collect::<Result<Vec<_>, _>>()?;
        let mut old = held.dims.iter().copied();
        let dims = (0..rank).map(|axis| if added.contains(&axis) { 1 } else { old.next().unwrap_or(1) }).collect();
        self.reshaped(node, held, dims)
    }

    fn listed_axes(&self, node: &NodeProto) -> Result<Option<Vec<i64>>, Fault> {
        match Attributes(node).ints("axes") {
            Some(axes) => Ok(Some(axes.to_vec())),
            None => self.integers(node, 1),
        }
    }

    /// Same elements in ONNX order under new extents. Elements move only if the storage order differs from ONNX order.
    pub fn reshaped(&mut self, node: &NodeProto, held: Held, dims: Vec<usize>) -> Result<Held, Fault> {
        let held = self.unpadded(held)?;
        if elements(&dims) != elements(&held.dims) || dims.is_empty() {
            return Err(format!("it turns the shape {:?} into {dims:?}", held.dims).into());
        }
        if dims == held.dims {
            return Ok(self.alias(node, held));
        }
        if let Some(axes) = merged_axes(&held, &dims) {
            let shape: Vec<usize> = axes.iter().map(|&axis| dims[axis]).collect();
            if self.draft.shape(held.id) == shape {
                return Ok(self.alias(node, Held { dims, axes, ..held }));
            }
            return self.emit(node, DraftOp::Op(Op::Reshape), vec![held.id], dims, axes);
        }
        let moving: Vec<usize> = held.axes.iter().copied().filter(|&axis| held.dims[axis] > 1).collect();
        let held = if moving.is_sorted() {
            held
        } else {
            let plain = plain(&held.dims);
            self.arranged(node, held, &plain)
        };
        let axes = plain(&dims);
        if axes.iter().map(|&axis| dims[axis]).eq(self.draft.shape(held.id).iter().copied()) {
            return Ok(self.alias(node, Held { dims, axes, ..held }));
        }
        self.emit(node, DraftOp::Op(Op::Reshape), vec![held.id], dims, axes)
    }
}

/// The storage order of a reshape that needs no move: every new extent is a product of neighbouring old ones (rows and
/// columns of a map become tokens), or every old one of neighbouring new ones, that lie together as stored.
fn merged_axes(held: &Held, dims: &[usize]) -> Option<Vec<usize>> {
    let (old, new) = (&held.dims, dims);
    let (mut i, mut j, mut groups) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        let (first_old, first_new) = (i, j);
        let (mut a, mut b) = (1, 1);
        loop {
            if a == b && (i > first_old || j > first_new) {
                break;
            }
            if a <= b && i < old.len() {
                a *= old[i];
                i += 1;
            } else if j < new.len() {
                b *= new[j];
                j += 1;
            } else {
                return None;
            }
        }
        groups.push((first_old..i, first_new..j));
    }
    let mut axes = Vec::new();
    let moving: Vec<usize> = held.axes.iter().copied().filter(|&axis| old[axis] > 1).collect();
    let mut at = 0;
    while at < moving.len() {
        let (from, to) = groups.iter().find(|(from, _)| from.contains(&moving[at]))?;
        let wanted: Vec<usize> = from.clone().filter(|&axis| old[axis] > 1).collect();
        if moving[at..].get(..wanted.len())? != wanted {
            return None;
        }
        axes.extend(to.clone().filter(|&axis| new[axis] > 1));
        at += wanted.len();
    }
    // Axes of extent 1 go in front, but for the batch.
    let skipped = usize::from(new.len() > 1 && new[0] == 1);
    let ones: Vec<usize> = (skipped..new.len()).filter(|axis| !axes.contains(axis)).collect();
    let last_is_one = new.last() == Some(&1) && new.len() > 1;
    (!last_is_one).then(|| ones.into_iter().chain(axes).collect())
}
