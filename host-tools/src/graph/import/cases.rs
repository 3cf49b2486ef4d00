//! Runs the test cases of the ONNX standard against the import and the float executor.
//!
//! A case is a model file whose inputs have their values as initializers and whose expected outputs are further
//! initializers named `expected/OUTPUT` (`tests/onnx_cases.py` writes such files from the onnx package). Most cases feed
//! everything, weights included, as inputs, where a network has constants. Each case is therefore run in several forms:
//! with every one of its inputs as the only activation, and with all of them as activations.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use prost::Message;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Extent};
use tract_onnx::pb::type_proto::{Tensor as TensorType, Value as TypeValue};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
};

use super::super::{Batch, forward};
use super::operators::operator;
use super::{ImportError, import_structure};

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This many forms give the expected numbers, and no form gives others.
    Passed(usize),
    /// Every form is refused; the reasons.
    Refused(Vec<String>),
    /// Some form gives wrong numbers or fails in a way that names no reason.
    Failed(Vec<String>),
    /// Not about float networks, or about an operator that is not claimed.
    NotClaimed,
}

/// A case and its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Name in the onnx package.
    pub name: String,
    /// Operators of the case.
    pub operators: Vec<String>,
    /// What became of it.
    pub verdict: Verdict,
}

/// Prefix of the initializers that hold expected outputs.
const EXPECTED: &str = "expected/";
const FLOAT: i32 = 1;
const INT64: i32 = 7;
/// As the onnx package compares, with room for sums in another order.
const RELATIVE: f32 = 1e-3;
const ABSOLUTE: f32 = 2e-6;

/// Runs one case.
///
/// # Errors
/// A sentence when `bytes` are no ONNX file.
pub fn run(name: &str, bytes: &[u8]) -> Result<Outcome, String> {
    let model = ModelProto::decode(bytes).map_err(|error| format!("{name}: {error}"))?;
    let Some(case) = Case::new(&model) else {
        return Ok(Outcome { name: name.to_owned(), operators: Vec::new(), verdict: Verdict::NotClaimed });
    };
    let operators = case.operators();
    let claimed = case.graph.node.iter().all(|node| operator(node).is_some() || node.op_type == "Constant");
    if !claimed || case.floats().is_empty() || case.outputs.is_empty() {
        return Ok(Outcome { name: name.to_owned(), operators, verdict: Verdict::NotClaimed });
    }
    let (mut passed, mut refused, mut failed) = (0, Vec::new(), Vec::new());
    for activations in case.forms() {
        for output in case.outputs.keys() {
            match case.check(&activations, output) {
                Form::Passed => passed += 1,
                Form::Refused(reason) if refused.contains(&reason) => {}
                Form::Refused(reason) => refused.push(reason),
                Form::Failed(detail) => failed.push(format!("activations {}: {detail}", activations.join(", "))),
            }
        }
    }
    let verdict = match (failed.is_empty(), passed) {
        (false, _) => Verdict::Failed(failed),
        (true, 0) => Verdict::Refused(refused),
        (true, forms) => Verdict::Passed(forms),
    };
    Ok(Outcome { name: name.to_owned(), operators, verdict })
}

enum Form {
    Passed,
    Refused(String),
    Failed(String),
}

struct Case<'m> {
    model: &'m ModelProto,
    graph: &'m GraphProto,
    /// Values of the graph's inputs.
    inputs: BTreeMap<&'m str, &'m TensorProto>,
    /// Expected float outputs.
    outputs: BTreeMap<&'m str, Vec<f32>>,
}

impl<'m> Case<'m> {
    fn new(model: &'m ModelProto) -> Option<Self> {
        let graph = model.graph.as_ref()?;
        let (mut inputs, mut outputs) = (BTreeMap::new(), BTreeMap::new());
        for tensor in &graph.initializer {
            match tensor.name.strip_prefix(EXPECTED) {
                Some(output) if tensor.data_type == FLOAT => {
                    outputs.insert(output, floats_of(tensor));
                }
                Some(_) => {}
                None => {
                    inputs.insert(tensor.name.as_str(), tensor);
                }
            }
        }
        (!inputs.is_empty()).then_some(Self { model, graph, inputs, outputs })
    }

    fn operators(&self) -> Vec<String> {
        let mut names: Vec<String> = self.graph.node.iter().map(|node| node.op_type.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Inputs that can be activations.
    fn floats(&self) -> Vec<&'m str> {
        let order = self.graph.input.iter().map(|info| info.name.as_str());
        order
            .filter(|name| self.inputs.get(name).is_some_and(|t| t.data_type == FLOAT && !floats_of(t).is_empty()))
            .collect()
    }

    fn forms(&self) -> Vec<Vec<&'m str>> {
        let floats = self.floats();
        let mut forms: Vec<Vec<&str>> = floats.iter().map(|&name| vec![name]).collect();
        if floats.len() > 1 {
            forms.push(floats);
        }
        forms
    }

    fn check(&self, activations: &[&str], output: &str) -> Form {
        let (bytes, input) = self.file(activations, output);
        match catch_unwind(AssertUnwindSafe(|| computed(&bytes, input))) {
            Err(_) => Form::Failed("a panic".to_owned()),
            Ok(Err(reason)) => Form::Refused(reason),
            Ok(Ok(values)) => match difference(&values, &self.outputs[output]) {
                None => Form::Passed,
                Some(detail) => Form::Failed(format!("output `{output}`: {detail}")),
            },
        }
    }

    /// A model of one input, whose other inputs are constants and whose one output is a vector, with that input.
    fn file(&self, activations: &[&str], output: &str) -> (Vec<u8>, Vec<f32>) {
        let mut graph = GraphProto { name: "case".into(), ..GraphProto::default() };
        let mut input = Vec::new();
        let constants = self.inputs.iter().filter(|(name, _)| !activations.contains(name));
        graph.initializer.extend(constants.map(|(_, tensor)| (*tensor).clone()));
        for name in activations {
            input.extend(floats_of(self.inputs[name]));
        }
        let dims = |name: &str| self.inputs[name].dims.clone();
        match activations {
            [name] if dims(name).len() > 1 && dims(name)[0] == 1 => graph.input.push(info(name, &dims(name))),
            _ => {
                graph.input.push(info("case.x", &[1, input.len() as i64]));
                let mut start = 0;
                for name in activations {
                    let count = dims(name).iter().product::<i64>();
                    unpack(&mut graph, name, &dims(name), start..start + count);
                    start += count;
                }
            }
        }
        graph.node.extend(self.graph.node.iter().cloned());
        let count = self.outputs[output].len() as i64;
        graph.initializer.push(integers("case.y.shape", &[1, count]));
        graph.node.push(node("Reshape", &[output, "case.y.shape"], "case.y"));
        graph.output.push(ValueInfoProto { name: "case.y".into(), ..ValueInfoProto::default() });
        let model = ModelProto { graph: Some(graph), ..self.model.clone() };
        (model.encode_to_vec(), input)
    }
}

/// Cuts a range out of the input and gives it its shape.
fn unpack(graph: &mut GraphProto, name: &str, dims: &[i64], range: std::ops::Range<i64>) {
    let constant = |part: &str, values: &[i64]| integers(&format!("case.{name}.{part}"), values);
    let named = |part: &str| format!("case.{name}.{part}");
    graph.initializer.extend([
        constant("start", &[range.start]),
        constant("end", &[range.end]),
        constant("axis", &[1]),
        constant("shape", dims),
    ]);
    let operands = [named("start"), named("end"), named("axis")];
    let slice = ["case.x", &operands[0], &operands[1], &operands[2]];
    graph.node.push(node("Slice", &slice, &named("flat")));
    graph.node.push(node("Reshape", &[&named("flat"), &named("shape")], name));
}

/// What the imported model gives, or why it is refused.
fn computed(bytes: &[u8], input: Vec<f32>) -> Result<Vec<f32>, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = folder.path().join("case.onnx");
    std::fs::write(&path, bytes).map_err(|error| error.to_string())?;
    let graph = import_structure(&path).map_err(|error| reason(&path, &error))?;
    // The stored order of an image is not that of the file.
    let data = match graph.input_shape.as_slice() {
        &[rows, columns, channels] if is_map(&path) => hwc(&input, rows, columns, channels),
        _ => input,
    };
    let batch = Batch { n: 1, shape: graph.input_shape.clone(), data };
    Ok(forward(&graph, &batch).data)
}

/// Whether the file's input has rank 4 and is stored HWC.
fn is_map(path: &Path) -> bool {
    super::source::Source::read(path).is_ok_and(|source| super::lower::input_axes(&source) == super::lower::HWC)
}

fn hwc(values: &[f32], rows: usize, columns: usize, channels: usize) -> Vec<f32> {
    let places = rows * columns;
    (0..places).flat_map(|place| (0..channels).map(move |channel| values[channel * places + place])).collect()
}

fn reason(path: &Path, error: &ImportError) -> String {
    match error {
        ImportError::Unsupported { problems, .. } => {
            problems.iter().map(|problem| format!("{}: {}", problem.op, problem.reason)).collect::<Vec<_>>().join("; ")
        }
        other => other.to_string().replace(&format!("{}: ", path.display()), ""),
    }
}

fn difference(ours: &[f32], expected: &[f32]) -> Option<String> {
    if ours.len() != expected.len() {
        return Some(format!("{} numbers, expected {}", ours.len(), expected.len()));
    }
    let differs = |(a, b): &(&f32, &f32)| {
        let near = b.is_finite() && (*a - *b).abs() <= ABSOLUTE + RELATIVE * b.abs();
        !(near || a == b || (a.is_nan() && b.is_nan()))
    };
    let (index, (a, b)) = ours.iter().zip(expected).enumerate().find(|(_, pair)| differs(pair))?;
    Some(format!("element {index} is {a}, expected {b}"))
}

fn floats_of(tensor: &TensorProto) -> Vec<f32> {
    if !tensor.float_data.is_empty() {
        return tensor.float_data.clone();
    }
    tensor.raw_data.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect()
}

fn integers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: INT64,
        dims: vec![values.len() as i64],
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    let attribute: Vec<AttributeProto> = Vec::new();
    let input = inputs.iter().map(|&name| name.to_owned()).collect();
    NodeProto {
        op_type: op.into(),
        name: output.into(),
        input,
        output: vec![output.into()],
        attribute,
        ..NodeProto::default()
    }
}

fn info(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = dims.iter().map(|&extent| Dimension { value: Some(Extent::DimValue(extent)), ..Dimension::default() });
    let tensor = TensorType { elem_type: FLOAT, shape: Some(TensorShapeProto { dim: dim.collect() }) };
    let r#type = Some(TypeProto { value: Some(TypeValue::TensorType(tensor)), ..TypeProto::default() });
    ValueInfoProto { name: name.into(), r#type, ..ValueInfoProto::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small cases of the onnx package, stored (`tests/onnx_cases.py --small`).
    #[test]
    fn stored_cases_of_the_standard_pass_or_are_refused_by_name() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/onnx-cases.tar");
        let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
        let (mut passed, mut wrong) = (0, Vec::new());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            match run(&name, &bytes).unwrap().verdict {
                Verdict::Passed(_) => passed += 1,
                Verdict::Failed(details) => wrong.push((name, details)),
                Verdict::Refused(reasons) => assert!(reasons.iter().all(|reason| !reason.is_empty()), "{name}"),
                Verdict::NotClaimed => {}
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(passed >= PASSED_OF_STORED, "{passed} of the stored cases pass");
    }

    /// Stored cases that must pass; the others are refused.
    const PASSED_OF_STORED: usize = 149;

    #[test]
    fn wrong_numbers_are_noticed() {
        assert_eq!(difference(&[1.0, f32::NAN], &[1.0005, f32::NAN]), None);
        assert!(difference(&[1.0, 2.0], &[1.0, 2.1]).is_some() && difference(&[1.0], &[1.0, 1.0]).is_some());
        assert!(difference(&[f32::NAN], &[1.0]).is_some() && difference(&[1.0], &[f32::INFINITY]).is_some());
    }
}
