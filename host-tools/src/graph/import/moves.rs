//! Operators that pick, join and repeat parts of tensors.

use tract_onnx::pb::NodeProto;

use super::super::Op;
use super::attributes::{Attributes, axis};
use super::draft::DraftOp;
use super::lower::{Fault, Held, Lowerer, plain};

impl Lowerer<'_> {
    pub fn slice(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let mut held = self.unpadded(self.held(node, 0)?)?;
        let rank = held.dims.len();
        let attributes = Attributes(node);
        let list = |name: &str, given: Option<Vec<i64>>| attributes.ints(name).map(<[i64]>::to_vec).or(given);
        let starts = list("starts", self.integers(node, 1)?).ok_or("it has no starts")?;
        let ends = list("ends", self.integers(node, 2)?).ok_or("it has no ends")?;
        let axes = list("axes", self.integers(node, 3)?).unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = self.integers(node, 4)?.unwrap_or_else(|| vec![1; starts.len()]);
        if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
            return Err("its starts, ends, axes and steps differ in number".into());
        }
        for i in 0..starts.len() {
            let at = axis(axes[i], rank)?;
            let (start, count) = indices(held.dims[at], starts[i], ends[i], steps[i])?;
            held = self.part(node, held, at, start, count, steps[i] as isize)?;
        }
        Ok(self.alias(node, held))
    }

    /// `count` indices of an ONNX axis from `start`, `step` apart.
    fn part(
        &mut self,
        node: &NodeProto,
        held: Held,
        at: usize,
        start: usize,
        count: usize,
        step: isize,
    ) -> Result<Held, Fault> {
        if count == 0 {
            return Err("its result is empty".into());
        }
        let whole = start == 0 && count == held.dims[at] && step == 1;
        let Some(stored) = held.axes.iter().position(|&other| other == at).filter(|_| !whole) else { return Ok(held) };
        let mut dims = held.dims;
        dims[at] = count;
        self.emit(node, DraftOp::Op(Op::Slice { axis: stored, start, step }), vec![held.id], dims, held.axes)
    }

    /// Parts of an axis; all but the first are handed over by name.
    pub fn split(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let held = self.unpadded(self.held(node, 0)?)?;
        let at = axis(Attributes(node).int("axis", 0), held.dims.len())?;
        let extent = held.dims[at];
        let listed = match Attributes(node).ints("split") {
            Some(sizes) => Some(sizes.to_vec()),
            None => self.integers(node, 1)?,
        };
        let each = extent.div_ceil(node.output.len().max(1));
        let sizes: Vec<usize> = match listed {
            Some(sizes) => sizes.iter().map(|&size| usize::try_from(size).unwrap_or(usize::MAX)).collect(),
            None => (0..node.output.len()).map(|i| each.min(extent.saturating_sub(i * each))).collect(),
        };
        if sizes.len() != node.output.len() || sizes.iter().try_fold(0_usize, |a, &b| a.checked_add(b)) != Some(extent)
        {
            return Err(format!("it splits an extent of {extent} into {sizes:?}").into());
        }
        let (mut start, mut first) = (0, None);
        for (size, name) in sizes.into_iter().zip(&node.output) {
            let named = NodeProto { output: vec![name.clone()], name: name.clone(), ..node.clone() };
            let part = self.part(&named, held.clone(), at, start, size, 1)?;
            start += size;
            match first {
                None => first = Some(part),
                Some(_) => self.hand_over(name, part),
            }
        }
        Ok(first.ok_or("it has no outputs")?)
    }

    /// Constant indices of an axis, which the axes of the indices replace; a single number removes the axis.
    pub fn gather(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let held = self.unpadded(self.held(node, 0)?)?;
        let rank = held.dims.len();
        let at = axis(Attributes(node).int("axis", 0), rank)?;
        let shape = self.constant(node, 1)?.ok_or("it has no indices")?.shape().to_vec();
        let listed = self.integers(node, 1)?.unwrap_or_default();
        let extent = held.dims[at];
        let resolve = |&index: &i64| {
            let index = if index < 0 { index + extent as i64 } else { index };
            usize::try_from(index).ok().filter(|&index| index < extent)
        };
        let indices: Vec<usize> =
            listed.iter().map(resolve).collect::<Option<_>>().ok_or("an index is out of range")?;
        if indices.is_empty() {
            return Err("its list of indices is empty".into());
        }
        let contiguous = indices.windows(2).all(|pair| pair[1] == pair[0] + 1);
        let held = if contiguous {
            self.part(node, held, at, indices[0], indices.len(), 1)?
        } else {
            let stored = held.axes.iter().position(|&other| other == at).ok_or("it repeats the batch axis")?;
            let mut dims = held.dims;
            dims[at] = indices.len();
            self.emit(node, DraftOp::Op(Op::Gather { axis: stored, indices }), vec![held.id], dims, held.axes)?
        };
        if shape.len() > 1 {
            let dims = [&held.dims[..at], &shape, &held.dims[at + 1..]].concat();
            return self.reshaped(node, held, dims);
        }
        if !shape.is_empty() {
            return Ok(self.alias(node, held));
        }
        let dims = (0..rank).filter(|&axis| axis != at).map(|axis| held.dims[axis]).collect();
        self.without_axis(node, held, at, dims)
    }

    /// Removes an axis of extent 1 without moving what is stored.
    fn without_axis(&mut self, node: &NodeProto, held: Held, at: usize, dims: Vec<usize>) -> Result<Held, Fault> {
        let renamed: Vec<usize> =
            held.axes.iter().filter(|&&axis| axis != at).map(|&axis| axis - usize::from(axis > at)).collect();
        if !held.axes.contains(&at) {
            return Ok(self.alias(node, Held { dims, axes: renamed, ..held }));
        }
        self.emit(node, DraftOp::Op(Op::Reshape), vec![held.id], dims, renamed)
    }

    pub fn concat(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let mut parts = Vec::with_capacity(node.input.len());
        for operand in 0..node.input.len() {
            parts.push(self.tensor(node, operand)?);
        }
        let rank = parts[0].dims.len();
        let at = axis(Attributes(node).int("axis", 0), rank)?;
        let mut dims = parts[0].dims.clone();
        dims[at] = 0;
        for part in &parts {
            let fits = part.dims.len() == rank && (0..rank).all(|axis| axis == at || part.dims[axis] == dims[axis]);
            if !fits {
                return Err(format!("it joins shapes that differ beside axis {at}, one of them {:?}", part.dims).into());
            }
            dims[at] += part.dims[at];
        }
        // The order of the largest part, which is not a class token.
        let model =
            parts.iter().max_by_key(|part| part.dims[at]).map_or_else(|| plain(&dims), |part| part.axes.clone());
        let axes: Vec<usize> = if model.contains(&at) { model } else { [vec![at], model].concat() };
        let parts: Vec<Held> = parts.into_iter().map(|part| self.arranged(node, part, &axes)).collect();
        let stored = axes.iter().position(|&axis| axis == at).unwrap_or_default();
        let inputs = parts.iter().map(|part| part.id).collect();
        self.emit(node, DraftOp::Op(Op::Concat { axis: stored }), inputs, dims, axes)
    }

    /// Repeats axes of extent 1.
    pub fn expand(&mut self, node: &NodeProto) -> Result<Held, Fault> {
        let target = self.integers(node, 1)?.ok_or("it has no target shape")?;
        let held = self.unpadded(self.held(node, 0)?)?;
        let rank = held.dims.len().max(target.len());
        let mut held = held.with_rank(rank);
        for (i, &extent) in target.iter().enumerate() {
            let at = rank - target.len() + i;
            let extent = usize::try_from(extent).map_err(|_| format!("its target shape is {target:?}"))?;
            if extent == held.dims[at] || extent == 1 {
                continue;
            }
            if held.dims[at] != 1 {
                return Err(format!("it expands {:?} to {target:?}", held.dims).into());
            }
            let axes = if held.axes.contains(&at) { held.axes.clone() } else { [vec![at], held.axes.clone()].concat() };
            let full = self.arranged(node, held, &axes);
            let stored = axes.iter().position(|&axis| axis == at).unwrap_or_default();
            let mut dims = full.dims;
            dims[at] = extent;
            let op = Op::Gather { axis: stored, indices: vec![0; extent] };
            held = self.emit(node, DraftOp::Op(op), vec![full.id], dims, axes)?;
        }
        Ok(self.alias(node, held))
    }
}

/// First index and count of a slice under the standard's clamping rules.
fn indices(extent: usize, start: i64, end: i64, step: i64) -> Result<(usize, usize), Fault> {
    let size = extent as i64;
    let resolve = |index: i64| if index < 0 { index.saturating_add(size) } else { index };
    let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
    let first = resolve(start).clamp(low.max(0), high);
    let last = if step < 0 && end < -size { -1 } else { resolve(end).clamp(low, high) };
    let span = if step > 0 { last - first } else { first - last };
    if step == 0 || extent == 0 || step.unsigned_abs() > 1 << 30 {
        return Err(format!("a slice with step {step}").into());
    }
    let count = if span <= 0 { 0 } else { (span as u64).div_ceil(step.unsigned_abs()) as usize };
    Ok((first as usize, count))
}
