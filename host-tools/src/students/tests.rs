use std::path::{Path, PathBuf};

use tract_onnx::pb::tensor_shape_proto::Dimension;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Extent;
use tract_onnx::pb::type_proto::{Tensor as TensorType, Value as TypeValue};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto,
};

use super::*;
use crate::graph::{Batch, Op, forward};

fn family(name: &str) -> Family {
    Family::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(name)).unwrap()
}

fn shape(width: f64, blocks: Option<&[usize]>) -> StudentShape {
    StudentShape { width, blocks: blocks.map(<[usize]>::to_vec) }
}

fn images(graph: &Graph) -> Batch {
    let elements = graph.input_shape.iter().product::<usize>();
    let data = (0..3 * elements).map(|i| (i as f32 * 0.61).sin()).collect();
    Batch { n: 3, shape: graph.input_shape.clone(), data }
}

fn close(a: &Batch, b: &Batch) -> bool {
    let span = a.data.iter().fold(0.0f32, |span, value| span.max(value.abs()));
    a.shape == b.shape && a.data.iter().zip(&b.data).all(|(a, b)| (a - b).abs() < 1e-4 * span)
}

#[test]
fn a_student_with_everything_is_the_network_itself() {
    let family = family("digits");
    let anchor = &family.anchors[2];
    let student = student(&family, anchor, &shape(1.0, None), None).unwrap();
    assert_eq!((student.name.as_str(), student.macs, student.params), ("digits-l-w100", anchor.macs, anchor.params));
    let images = images(&anchor.graph);
    assert_eq!(forward(&student.graph, &images), forward(&anchor.graph, &images));
}

#[test]
fn without_a_block_its_input_goes_where_its_output_went() {
    let family = family("digits");
    let anchor = &family.anchors[2];
    let student = student(&family, anchor, &shape(1.0, Some(&[1, 1])), None).unwrap();
    assert_eq!(student.name, "digits-l-w100-b1.1");
    let tensors: Vec<&String> = anchor.cuts.iter().map(|cut| &cut.tensor).collect();
    assert_eq!(student.cuts.iter().collect::<Vec<_>>(), tensors[..2]);
    let front = anchor.graph.segment(None, Some(anchor.cuts[1].value)).unwrap();
    let end = anchor.graph.segment(Some(anchor.cuts[3].value), None).unwrap();
    let images = images(&anchor.graph);
    assert_eq!(forward(&student.graph, &images), forward(&end, &forward(&front, &images)));
    assert!(student.params < anchor.params / 4);
}

/// Channels of a layer that a narrower one still has, by their biases.
fn kept_rows(whole: &[f32], kept: &[f32]) -> Vec<usize> {
    let found = |bias: &f32| whole.iter().position(|other| other == bias);
    kept.iter().map(|bias| found(bias).expect("a bias of the whole layer")).collect()
}

/// The network with all channels that a narrower one lacks set to zero.
fn masked(whole: &Graph, narrow: &Graph) -> Graph {
    let mut masked = whole.clone();
    for (node, other) in masked.nodes.iter_mut().zip(&narrow.nodes) {
        assert_eq!(node.name, other.name);
        let kept = match (node.op.constants().get(1), other.op.constants().get(1)) {
            (Some(whole), Some(kept)) if kept.len() < whole.len() => kept_rows(whole, kept),
            _ => continue,
        };
        let rows = node.op.constants()[1].len();
        for constant in node.op.constants_mut() {
            let length = constant.len() / rows;
            let is_kept = |i: usize| kept.contains(&(i / length));
            *constant = constant.iter().enumerate().map(|(i, &v)| if is_kept(i) { v } else { 0.0 }).collect();
        }
    }
    masked
}

#[test]
fn a_narrow_student_computes_what_the_network_computes_without_the_other_channels() {
    for (name, anchor) in [("digits", 1), ("digits", 2), ("cifar10-resnet/start", 3)] {
        let family = family(name);
        let anchor = &family.anchors[anchor];
        let student = student(&family, anchor, &shape(0.5, None), None).unwrap();
        assert!(student.macs < anchor.macs * 6 / 10, "{} {}", student.macs, anchor.macs);
        assert_eq!(student.graph.input_shape, anchor.graph.input_shape);
        let images = images(&anchor.graph);
        let (narrow, wanted) =
            (forward(&student.graph, &images), forward(&masked(&anchor.graph, &student.graph), &images));
        assert!(close(&narrow, &wanted), "{name} {:?} {:?}", narrow.data, wanted.data);
        assert!(!close(&narrow, &forward(&anchor.graph, &images)), "nothing was taken away");
    }
}

fn tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    TensorProto { name: name.into(), dims: dims.to_vec(), data_type: 1, raw_data, ..Default::default() }
}

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&extent: &i64| Dimension { value: Some(Extent::DimValue(extent)), ..Default::default() };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let kind = TypeValue::TensorType(TensorType { elem_type: 1, shape });
    let r#type = Some(TypeProto { value: Some(kind), ..Default::default() });
    ValueInfoProto { name: name.into(), r#type, ..Default::default() }
}

fn node(op_type: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op_type.into(),
        name: output.into(),
        input: inputs.iter().map(|&input| input.into()).collect(),
        output: vec![output.into()],
        ..Default::default()
    }
}

/// A 1x1 convolution from 1 to 3 channels of a 2x2 map, whose flattened result a matrix turns into 2 numbers.
fn flattened(folder: &Path) -> PathBuf {
    let transposed = AttributeProto { name: "transB".into(), i: 1, r#type: 2, ..Default::default() };
    let rows: Vec<f32> = (0..24).map(|i| (i as f32 + 1.0) * if i / 4 % 3 == 1 { 0.001 } else { 0.1 }).collect();
    let graph = GraphProto {
        name: "g".into(),
        node: vec![
            node("Conv", &["x", "w", "b"], "maps"),
            node("Relu", &["maps"], "active"),
            node("Flatten", &["active"], "vector"),
            NodeProto { attribute: vec![transposed], ..node("Gemm", &["vector", "m", "c"], "y") },
        ],
        initializer: vec![
            tensor("w", &[3, 1, 1, 1], &[1.0, 2.0, 3.0]),
            tensor("b", &[3], &[0.5, 0.25, -0.125]),
            tensor("m", &[2, 12], &rows),
            tensor("c", &[2], &[1.0, -1.0]),
        ],
        input: vec![value("x", &[1, 1, 2, 2])],
        output: vec![value("y", &[1, 2])],
        ..Default::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 13 }];
    let model = ModelProto { ir_version: 7, opset_import, graph: Some(graph), ..Default::default() };
    let path = folder.join("flat.onnx");
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    path
}

#[test]
fn every_feature_of_a_flattened_channel_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = flattened(folder.path());
    let mut model = own_tensors(&path).unwrap();
    narrow::narrow(&mut model, &path, 0.67).unwrap();
    let narrowed = folder.path().join("narrow.onnx");
    std::fs::write(&narrowed, model.encode_to_vec()).unwrap();
    let (whole, narrow) = (import(&path).unwrap(), import(&narrowed).unwrap());
    let dense = |graph: &Graph| {
        graph.nodes.iter().find_map(|node| match &node.op {
            Op::Dense(dense) => Some(dense.weights.len()),
            _ => None,
        })
    };
    assert_eq!((dense(&whole), dense(&narrow)), (Some(24), Some(16)));
    // The middle channel has the small weights behind it.
    let images = images(&whole);
    assert!(close(&forward(&narrow, &images), &forward(&masked(&whole, &narrow), &images)));
}

#[test]
fn a_transformer_loses_blocks_but_no_channels_and_is_told_at_which_node() {
    let family = family("cifar10-vit");
    let anchor = &family.anchors[0];
    let three = student(&family, anchor, &shape(1.0, Some(&[3])), None).unwrap();
    assert_eq!(three.cuts.len(), 4);
    assert!(three.macs < anchor.macs * 55 / 100);
    let error = student(&family, anchor, &shape(0.5, None), None).unwrap_err().to_string();
    assert!(error.contains("vit-48.onnx: node `") && error.contains("--widths 1"), "{error}");
}

#[test]
fn impossible_students_are_refused_with_what_is_possible() {
    let family = family("digits");
    let anchor = &family.anchors[2];
    let said = |width, blocks| student(&family, anchor, &shape(width, blocks), None).unwrap_err().to_string();
    assert!(said(1.5, None).contains("1.5"));
    assert!(said(f64::NAN, None).contains("NaN"));
    let error = said(1.0, Some(&[1, 2, 3]));
    assert!(error.contains("digits-l") && error.contains("2 stages of 1,3 blocks"), "{error}");
    let error = said(1.0, Some(&[1, 0]));
    assert!(error.contains("stage 2 has 3 blocks, 1 of which change the shape"), "{error}");
}

#[test]
fn kept_channels_stay_multiples_of_four_where_they_were() {
    assert_eq!(
        [(24, 0.5), (24, 0.25), (16, 0.01), (6, 0.5), (6, 0.1), (32, 1.0)].map(|(c, w)| narrow::kept(c, w)),
        [12, 8, 4, 3, 1, 32]
    );
}

#[test]
fn the_description_has_the_students_the_teacher_and_the_data_and_no_layers() {
    let family = family("cifar10-resnet");
    let folder = tempfile::tempdir().unwrap();
    let anchor = &family.anchors[3];
    let student = student(&family, anchor, &shape(0.25, Some(&[1, 1, 1])), None).unwrap();
    let text = description::text(&family, anchor, &[student], folder.path()).unwrap();
    let config = crate::family::parse::parse(&text).unwrap();
    assert_eq!(config.anchors.iter().map(|anchor| anchor.name.as_str()).collect::<Vec<_>>(), ["resnet-12w-w25-b1.1.1"]);
    assert_eq!((config.labels.len(), config.stitching.layers), (10, None));
    let model = folder.path().join(&config.teacher.unwrap().model);
    assert_eq!(model.canonicalize().unwrap(), anchor.path.canonicalize().unwrap());
    assert!(text.starts_with("schema = 1\nname = "), "{text}");
}

#[test]
fn calibrated_layers_have_the_mean_and_spread_of_the_large_networks() {
    let family = family("digits");
    let anchor = &family.anchors[2];
    let calibration = family.training_images().unwrap().calibration;
    let images = calibration.batch(0..calibrate::IMAGES, &family.config.input);
    let wanted = shape(0.5, Some(&[1, 2]));
    let plain = student(&family, anchor, &wanted, None).unwrap();
    let brought_back = student(&family, anchor, &wanted, Some(&calibration)).unwrap();
    let deviation = |student: &Student| {
        let (mut sum, mut channels) = (0.0, 0);
        for (index, node) in student.graph.nodes.iter().enumerate() {
            let (Op::Conv(_), Some(other)) =
                (&node.op, anchor.graph.nodes.iter().position(|other| other.name == node.name))
            else {
                continue;
            };
            let spreads = |graph: &Graph, index: usize| {
                calibrate::spreads(&crate::graph::forward_keep(graph, &images, &[crate::graph::ValueId(index + 1)])[0])
            };
            let (all, ours) = (spreads(&anchor.graph, other), spreads(&student.graph, index));
            // Some channel of the layer has what the student's has.
            for own in ours {
                let distance = |wanted: &calibrate::Spread| {
                    ((own.mean - wanted.mean).abs() + (own.deviation - wanted.deviation).abs())
                        / wanted.deviation.max(1e-3)
                };
                sum += all.iter().map(distance).fold(f64::INFINITY, f64::min);
                channels += 1;
            }
        }
        sum / f64::from(channels)
    };
    assert!(deviation(&plain) > 0.02, "{}", deviation(&plain));
    assert!(deviation(&brought_back) < 0.002, "{}", deviation(&brought_back));
}
