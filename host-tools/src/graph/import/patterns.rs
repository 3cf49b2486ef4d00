//! Operators that exporters write as several nodes, put together again before lowering: GELU, SiLU, hard swish, layer norm.
//!
//! A group is replaced by one node with the name and output of its last one; the others stay behind unread.

use std::collections::HashMap;

use tract_onnx::pb::{AttributeProto, NodeProto};

use super::source::Source;

/// Nodes of a file with who writes and who reads each tensor.
struct Web<'s> {
    source: &'s Source,
    nodes: &'s [NodeProto],
    writer: HashMap<&'s str, usize>,
    readers: HashMap<&'s str, Vec<usize>>,
}

/// Replaces every group that is found.
pub fn join(source: &mut Source) {
    let found: Vec<(usize, NodeProto)> = {
        let web = Web::new(source);
        (0..web.nodes.len()).filter_map(|index| web.group(index)).collect()
    };
    for (index, node) in found {
        source.graph.node[index] = node;
    }
}

impl<'s> Web<'s> {
    fn new(source: &'s Source) -> Self {
        let nodes = source.graph.node.as_slice();
        let (mut writer, mut readers) = (HashMap::new(), HashMap::<&str, Vec<usize>>::new());
        for (index, node) in nodes.iter().enumerate() {
            writer.extend(node.output.iter().map(|name| (name.as_str(), index)));
            node.input.iter().for_each(|name| readers.entry(name.as_str()).or_default().push(index));
        }
        Self { source, nodes, writer, readers }
    }

    /// The group around a tell-tale node: the index of its last node and what replaces that.
    fn group(&self, index: usize) -> Option<(usize, NodeProto)> {
        let node = &self.nodes[index];
        match node.op_type.as_str() {
            "Erf" => self.gelu(node, self.scaled(node.input.first()?, std::f32::consts::FRAC_1_SQRT_2)?, "none"),
            "Tanh" => self.gelu(node, self.tanh_argument(node.input.first()?)?, "tanh"),
            "Sigmoid" => self.gated(node, "Silu"),
            "HardSigmoid" => self.gated(node, "HardSwish"),
            "ReduceMean" => self.layer_norm(node),
            _ => None,
        }
    }

    fn written_by(&self, name: &str, op: &str) -> Option<&'s NodeProto> {
        self.writer.get(name).map(|&index| &self.nodes[index]).filter(|node| node.op_type == op)
    }

    fn only_reader(&self, name: &str) -> Option<(usize, &'s NodeProto)> {
        match self.readers.get(name)?.as_slice() {
            &[index] if name != self.source.output => Some((index, &self.nodes[index])),
            _ => None,
        }
    }

    fn number(&self, name: &str) -> Option<f32> {
        let tensor = self.source.constant(name).filter(|tensor| tensor.len() == 1)?;
        tensor.cast_to_scalar::<f32>().ok()
    }

    fn is_number(&self, name: &str, value: f32) -> bool {
        self.number(name).is_some_and(|number| (number - value).abs() <= 1e-3 * value.abs())
    }

    /// The other operand of a two-operand node.
    fn beside(&self, node: &'s NodeProto, name: &str) -> Option<&'s str> {
        let [a, b] = node.input.as_slice() else { return None };
        if a == name { Some(b) } else { Some(a).filter(|_| b == name) }.map(String::as_str)
    }

    /// `x` where `name` is `x * factor`, written as a product or a quotient.
    fn scaled(&self, name: &str, factor: f32) -> Option<&'s str> {
        if let Some(product) = self.written_by(name, "Mul") {
            let [a, b] = product.input.as_slice() else { return None };
            return if self.is_number(b, factor) { Some(a) } else { Some(b).filter(|_| self.is_number(a, factor)) }
                .map(String::as_str);
        }
        let quotient = self.written_by(name, "Div")?;
        let [a, b] = quotient.input.as_slice() else { return None };
        Some(a.as_str()).filter(|_| self.is_number(b, 1.0 / factor))
    }

    /// `x` where `name` is `sqrt(2 / pi) * (x + 0.044715 x^3)`.
    fn tanh_argument(&self, name: &str) -> Option<&'s str> {
        let sum = self.written_by(self.scaled(name, (2.0 / std::f32::consts::PI).sqrt())?, "Add")?;
        let [a, b] = sum.input.as_slice() else { return None };
        if self.scaled(b, 0.044_715).is_some() {
            Some(a)
        } else {
            Some(b).filter(|_| self.scaled(a, 0.044_715).is_some())
        }
        .map(String::as_str)
    }

    /// `(f + 1) * x * 0.5` in any order, where `f` is the output of `inner`.
    fn gelu(&self, inner: &'s NodeProto, x: &'s str, approximate: &str) -> Option<(usize, NodeProto)> {
        let (_, sum) = self.only_reader(&inner.output[0])?;
        let one = self.beside(sum, &inner.output[0])?;
        if sum.op_type != "Add" || !self.is_number(one, 1.0) {
            return None;
        }
        let (mut at, mut has_x, mut has_half) = (sum, false, false);
        loop {
            let (index, product) = self.only_reader(&at.output[0])?;
            let other = self.beside(product, &at.output[0])?;
            if product.op_type != "Mul" {
                return None;
            }
            if self.is_number(other, 0.5) && !has_half {
                has_half = true;
            } else if other == x && !has_x {
                has_x = true;
            } else if self.scaled(other, 0.5) == Some(x) && !has_x && !has_half {
                (has_x, has_half) = (true, true);
            } else {
                return None;
            }
            if has_x && has_half {
                let attribute = AttributeProto {
                    name: "approximate".into(),
                    s: approximate.as_bytes().to_vec(),
                    ..AttributeProto::default()
                };
                return Some((index, joined(product, "Gelu", &[x], vec![attribute])));
            }
            at = product;
        }
    }

    /// `x * f(x)`, where `f(x)` is the output of `inner`.
    fn gated(&self, inner: &'s NodeProto, op: &str) -> Option<(usize, NodeProto)> {
        let attributes = super::attributes::Attributes(inner);
        let slope = attributes.float("alpha", 0.2);
        if op == "HardSwish" && ((slope - 1.0 / 6.0).abs() > 1e-4 || attributes.float("beta", 0.5) != 0.5) {
            return None;
        }
        let (index, product) = self.only_reader(&inner.output[0])?;
        let x = inner.input.first()?;
        let applies = product.op_type == "Mul" && self.beside(product, &inner.output[0]) == Some(x);
        applies.then(|| (index, joined(product, op, &[x], Vec::new())))
    }

    /// `(x - mean) / sqrt(mean((x - mean)^2) + epsilon)`, then optionally `* scale`, then optionally `+ offset`.
    fn layer_norm(&self, mean: &'s NodeProto) -> Option<(usize, NodeProto)> {
        if !self.over_last(mean) {
            return None;
        }
        let x = mean.input.first()?;
        let (_, difference) = self.all_readers(&mean.output[0]).find(|(_, node)| node.op_type == "Sub")?;
        if difference.input.first() != Some(x) {
            return None;
        }
        let d = difference.output[0].as_str();
        let (_, square) = self.all_readers(d).find(|(_, node)| match node.op_type.as_str() {
            "Pow" => node.input.get(1).is_some_and(|power| self.is_number(power, 2.0)),
            "Mul" => node.input.iter().all(|name| name == d),
            _ => false,
        })?;
        let (_, variance) = self.only_reader(&square.output[0])?;
        let (_, sum) = self.only_reader(&variance.output[0])?;
        let epsilon = self.number(self.beside(sum, &variance.output[0])?)?;
        let (_, root) = self.only_reader(&sum.output[0])?;
        let (mut index, mut last) = self.only_reader(&root.output[0])?;
        let shaped = variance.op_type == "ReduceMean" && self.over_last(variance) && sum.op_type == "Add";
        if !shaped
            || root.op_type != "Sqrt"
            || last.op_type != "Div"
            || last.input.first().map(String::as_str) != Some(d)
        {
            return None;
        }
        let mut inputs = vec![x.as_str(), "", ""];
        for (operand, op) in [(1, "Mul"), (2, "Add")] {
            let Some((next, node)) = self.only_reader(&last.output[0]).filter(|(_, node)| node.op_type == op) else {
                continue;
            };
            let other = self.beside(node, &last.output[0])?;
            if self.source.extents(other).is_some_and(|dims| dims.len() == 1) {
                inputs[operand] = other;
                (index, last) = (next, node);
            }
        }
        let attribute = AttributeProto { name: "epsilon".into(), f: epsilon, ..AttributeProto::default() };
        Some((index, joined(last, "LayerNormalization", &inputs, vec![attribute])))
    }

    fn all_readers(&self, name: &str) -> impl Iterator<Item = (usize, &'s NodeProto)> + '_ {
        self.readers.get(name).into_iter().flatten().map(|&index| (index, &self.nodes[index]))
    }

    fn over_last(&self, mean: &NodeProto) -> bool {
        let attributes = super::attributes::Attributes(mean);
        let listed = attributes.ints("axes").map(<[i64]>::to_vec).or_else(|| {
            let tensor = self.source.constant(mean.input.get(1)?)?.cast_to::<i64>().ok()?.into_owned();
            Some(tensor.to_plain_array_view::<i64>().ok()?.iter().copied().collect())
        });
        listed.is_some_and(|axes| axes == [-1]) && attributes.int("keepdims", 1) == 1
    }
}

fn joined(last: &NodeProto, op: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        domain: String::new(),
        attribute,
        ..last.clone()
    }
}
