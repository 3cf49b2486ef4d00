//! Attributes of an ONNX node.

use tract_onnx::pb::{AttributeProto, NodeProto};

/// Attribute access by name with the standard's defaults.
pub struct Attributes<'a>(pub &'a NodeProto);

impl<'a> Attributes<'a> {
    fn get(&self, name: &str) -> Option<&'a AttributeProto> {
        self.0.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// An integer, or the default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.get(name).map_or(default, |attribute| attribute.i)
    }

    /// A float, or the default.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.get(name).map_or(default, |attribute| attribute.f)
    }

    /// Integers; `None` where the attribute is absent.
    pub fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.get(name).map(|attribute| attribute.ints.as_slice())
    }

    /// Text, or the default.
    pub fn text(&self, name: &str, default: &'static str) -> String {
        self.get(name).map_or(default.into(), |attribute| String::from_utf8_lossy(&attribute.s).into_owned())
    }

    /// A tensor.
    pub fn tensor(&self, name: &str) -> Option<&'a tract_onnx::pb::TensorProto> {
        self.get(name).and_then(|attribute| attribute.t.as_ref())
    }

    /// Rows and columns, each between `least` and 2^16.
    pub fn pair(&self, name: &str, default: [usize; 2], least: usize) -> Result<[usize; 2], String> {
        let Some(values) = self.ints(name) else { return Ok(default) };
        let extents: Option<Vec<usize>> = values.iter().map(|&value| bounded(value, least)).collect();
        let pair: Option<[usize; 2]> = extents.and_then(|extents| extents.try_into().ok());
        pair.ok_or_else(|| format!("{name} is {values:?}; two extents of at least {least} are expected (2-D only)"))
    }

    /// ONNX padding (top, left, bottom, right), zeros where absent.
    pub fn pads(&self) -> Result<[usize; 4], String> {
        let Some(values) = self.ints("pads") else { return Ok([0; 4]) };
        let extents: Option<Vec<usize>> = values.iter().map(|&value| bounded(value, 0)).collect();
        let pads: Option<[usize; 4]> = extents.and_then(|extents| extents.try_into().ok());
        pads.ok_or_else(|| format!("pads is {values:?}; four non-negative numbers are expected (2-D only)"))
    }
}

/// An extent inside the limits that no real network exceeds.
pub fn bounded(value: i64, least: usize) -> Option<usize> {
    usize::try_from(value).ok().filter(|&value| (least..=1 << 16).contains(&value))
}

/// Resolves a possibly negative axis.
pub fn axis(axis: i64, rank: usize) -> Result<usize, String> {
    let resolved = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(resolved)
        .ok()
        .filter(|&axis| axis < rank)
        .ok_or_else(|| format!("axis {axis} of a rank-{rank} tensor"))
}
