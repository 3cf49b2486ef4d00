//! Small ONNX files, written through the protobuf types.

use std::path::PathBuf;

use prost::Message;
use tempfile::TempDir;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};

use super::super::super::Graph;
use super::super::{ImportError, import};

/// An attribute value.
pub enum Value<'a> {
    Int(i64),
    Float(f32),
    Ints(&'a [i64]),
    Text(&'a str),
}

/// A model file in the making: one input `x`, and the tensor `y` as output.
pub struct Model {
    pub graph: GraphProto,
    pub opset: i64,
    next: usize,
}

/// Extent of an axis; a negative one is dynamic.
pub fn tensor_type(name: &str, dims: &[i64]) -> ValueInfoProto {
    let extent = |&extent: &i64| match extent {
        ..0 => dimension::Value::DimParam(format!("N{}", -extent)),
        _ => dimension::Value::DimValue(extent),
    };
    let dim = dims.iter().map(|dim| Dimension { value: Some(extent(dim)), ..Default::default() }).collect();
    let tensor = type_proto::Tensor { elem_type: 1, shape: Some(TensorShapeProto { dim }) };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { value, ..Default::default() }), ..Default::default() }
}

impl Model {
    pub fn new(input: &[i64]) -> Self {
        let output = ValueInfoProto { name: "y".into(), ..Default::default() };
        let input = vec![tensor_type("x", input)];
        let graph = GraphProto { name: "test".into(), input, output: vec![output], ..Default::default() };
        Self { graph, opset: 17, next: 1 }
    }

    /// A float constant with reproducible values between -1 and 1.
    pub fn weights(&mut self, name: &str, dims: &[i64]) -> &mut Self {
        let count = dims.iter().product::<i64>();
        let seed = self.graph.initializer.len() as i64 * 131;
        let values: Vec<f32> = (0..count).map(|i| ((i * 7919 + seed) % 997) as f32 / 498.5 - 1.0).collect();
        self.floats(name, dims, &values)
    }

    pub fn floats(&mut self, name: &str, dims: &[i64], values: &[f32]) -> &mut Self {
        let (dims, float_data) = (dims.to_vec(), values.to_vec());
        self.graph.initializer.push(TensorProto {
            name: name.into(),
            data_type: 1,
            dims,
            float_data,
            ..Default::default()
        });
        self
    }

    pub fn integers(&mut self, name: &str, values: &[i64]) -> &mut Self {
        let (dims, int64_data) = (vec![values.len() as i64], values.to_vec());
        self.graph.initializer.push(TensorProto {
            name: name.into(),
            data_type: 7,
            dims,
            int64_data,
            ..Default::default()
        });
        self
    }

    /// An integer without axes.
    pub fn scalar(&mut self, name: &str, value: i64) -> &mut Self {
        self.integers(name, &[value]);
        self.graph.initializer.last_mut().unwrap().dims.clear();
        self
    }

    pub fn node(&mut self, op: &str, inputs: &[&str], output: &str, attributes: &[(&str, Value)]) -> &mut Self {
        self.many(op, inputs, &[output], attributes)
    }

    /// A node with several outputs.
    pub fn many(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attributes: &[(&str, Value)]) -> &mut Self {
        let attribute = attributes
            .iter()
            .map(|(name, value)| {
                let mut attribute = AttributeProto { name: (*name).into(), ..Default::default() };
                match value {
                    Value::Int(i) => (attribute.r#type, attribute.i) = (2, *i),
                    Value::Float(f) => (attribute.r#type, attribute.f) = (1, *f),
                    Value::Ints(ints) => (attribute.r#type, attribute.ints) = (7, ints.to_vec()),
                    Value::Text(text) => (attribute.r#type, attribute.s) = (3, text.as_bytes().to_vec()),
                }
                attribute
            })
            .collect();
        self.graph.node.push(NodeProto {
            name: format!("{op}_{}", self.next),
            op_type: op.into(),
            input: inputs.iter().map(|&name| name.into()).collect(),
            output: outputs.iter().map(|&name| name.into()).collect(),
            attribute,
            ..Default::default()
        });
        self.next += 1;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: self.opset }];
        let graph = Some(self.graph.clone());
        ModelProto { ir_version: 8, opset_import, graph, ..Default::default() }.encode_to_vec()
    }

    pub fn import(&self) -> Result<Graph, ImportError> {
        import_bytes(&self.bytes())
    }
}

pub fn import_bytes(bytes: &[u8]) -> Result<Graph, ImportError> {
    let (_folder, path) = written(bytes);
    import(&path)
}

fn written(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}
