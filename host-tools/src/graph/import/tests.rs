//! Import of hand-made files. Every successful import also passed the self check against tract.

use super::super::{Op, ValueId, Window, cost, find_cuts, resolve_cut};
use super::*;
use model::{Model, Value, import_bytes, tensor_type};

mod model;
mod structures;
mod transformer;

type Given<'a> = &'a [(&'a str, Value<'a>)];
/// Operator, input extents, operands, attributes, words of the reason.
type Refused<'a> = (&'a str, &'a [i64], &'a [&'a str], Given<'a>, &'a str);

fn names(graph: &Graph) -> Vec<&'static str> {
    graph.nodes.iter().map(|node| node.op.name()).collect()
}

/// Convolution, batch norm and ReLU, twice; the first block has a shortcut from its own middle.
fn conv_bn(model: &mut Model) {
    model.weights("w1", &[6, 3, 3, 3]).weights("b1", &[6]).weights("g", &[6]).weights("o", &[6]).weights("m", &[6]);
    model.floats("v", &[6], &[0.5, 1.0, 1.5, 2.0, 0.25, 0.75]);
    model.node("Conv", &["x", "w1", "b1"], "c1", &[("pads", Value::Ints(&[1, 1, 1, 1]))]);
    model.node("BatchNormalization", &["c1", "g", "o", "m", "v"], "n1", &[("epsilon", Value::Float(1e-3))]);
    model.node("Relu", &["n1"], "r1", &[]);
}

#[test]
fn a_batch_norm_folds_into_its_convolution_and_leaves_an_alias() {
    let mut model = Model::new(&[1, 3, 8, 7]);
    conv_bn(&mut model);
    let graph = model.node("Identity", &["r1"], "y", &[]).import().unwrap();
    assert_eq!(names(&graph), ["conv", "clip"]);
    assert_eq!((graph.input_shape.as_slice(), graph.shape(graph.output)), ([8, 7, 3].as_slice(), [8, 7, 6].as_slice()));
    assert_eq!((graph.tensor(ValueId(1)), graph.nodes[0].name.as_str()), ("n1", "Conv_1"));
    assert!(graph.aliases.contains(&("c1".into(), ValueId(1))));
}

#[test]
fn a_batch_norm_behind_a_shared_value_becomes_a_depthwise_convolution() {
    let mut model = Model::new(&[1, 3, 8, 7]);
    conv_bn(&mut model);
    let graph = model.node("Add", &["r1", "c1"], "y", &[]).import().unwrap();
    assert_eq!(names(&graph), ["conv", "conv", "clip", "add"]);
    let Op::Conv(conv) = &graph.nodes[1].op else { panic!() };
    assert_eq!((conv.groups, conv.out_channels, conv.window.kernel), (6, 6, [1, 1]));
    assert!(find_cuts(&graph).iter().all(|&cut| graph.tensor(cut) == "c1"));
    assert_eq!(resolve_cut(&graph, "c1"), Ok(ValueId(1)));
}

#[test]
fn chains_of_constant_arithmetic_fold_into_the_layer_before_them() {
    let mut model = Model::new(&[-1, 3, 5, 5]);
    model.weights("w", &[4, 3, 1, 1]).weights("s", &[4, 1, 1]).weights("t", &[1, 4, 1, 1]).floats("two", &[], &[2.0]);
    model.node("Conv", &["x", "w"], "c", &[]);
    model.node("Mul", &["s", "c"], "p", &[]).node("Sub", &["t", "p"], "q", &[]).node("Div", &["q", "two"], "y", &[]);
    let graph = model.import().unwrap();
    assert_eq!(names(&graph), ["conv"]);
    assert_eq!(graph.aliases.len(), 3);
}

#[test]
fn an_affine_map_of_the_input_stands_alone() {
    let mut model = Model::new(&[1, 3, 4, 4]);
    model.floats("mean", &[1, 3, 1, 1], &[0.4, 0.5, 0.6]).floats("std", &[3, 1, 1], &[0.2, 0.3, 0.25]);
    model.weights("w", &[2, 3, 3, 3]);
    model.node("Sub", &["x", "mean"], "a", &[]).node("Div", &["a", "std"], "b", &[]);
    model.node("Conv", &["b", "w"], "y", &[("pads", Value::Ints(&[1, 1, 1, 1]))]);
    assert_eq!(names(&model.import().unwrap()), ["conv", "conv"]);
}

#[test]
fn convolution_geometries_match_tract() {
    use Value::{Int, Ints, Text};
    let cases: &[(&str, [i64; 4], Given)] = &[
        ("strided", [4, 6, 3, 3], &[("strides", Ints(&[2, 3]))]),
        ("asymmetric", [4, 6, 2, 3], &[("pads", Ints(&[0, 2, 1, 1]))]),
        ("dilated", [4, 6, 3, 2], &[("dilations", Ints(&[2, 3])), ("pads", Ints(&[1, 0, 0, 1]))]),
        ("same upper", [4, 6, 3, 2], &[("auto_pad", Text("SAME_UPPER")), ("strides", Ints(&[2, 2]))]),
        ("same lower", [4, 6, 4, 2], &[("auto_pad", Text("SAME_LOWER")), ("strides", Ints(&[2, 1]))]),
        ("valid", [4, 6, 3, 3], &[("auto_pad", Text("VALID"))]),
        ("grouped", [4, 3, 3, 3], &[("group", Int(2))]),
        ("depthwise", [6, 1, 3, 3], &[("group", Int(6)), ("pads", Ints(&[1, 1, 1, 1]))]),
        ("depthwise with multiplier", [12, 1, 3, 3], &[("group", Int(6)), ("strides", Ints(&[2, 2]))]),
    ];
    for (name, weights, attributes) in cases {
        let mut model = Model::new(&[1, 6, 11, 9]);
        model.weights("w", weights).weights("b", &weights[..1]).node("Conv", &["x", "w", "b"], "y", attributes);
        assert_eq!(names(&model.import().unwrap_or_else(|error| panic!("{name}: {error}"))), ["conv"]);
    }
}

#[test]
fn pool_geometries_match_tract() {
    use Value::{Int, Ints};
    let cases: &[(&str, &str, Given)] = &[
        (
            "max",
            "MaxPool",
            &[("kernel_shape", Ints(&[3, 3])), ("strides", Ints(&[2, 2])), ("pads", Ints(&[1, 1, 1, 1]))],
        ),
        ("max ceil", "MaxPool", &[("kernel_shape", Ints(&[3, 3])), ("strides", Ints(&[2, 2])), ("ceil_mode", Int(1))]),
        ("mean", "AveragePool", &[("kernel_shape", Ints(&[2, 3])), ("strides", Ints(&[2, 1]))]),
        (
            "padded mean",
            "AveragePool",
            &[("kernel_shape", Ints(&[3, 3])), ("pads", Ints(&[1, 0, 1, 1])), ("count_include_pad", Int(1))],
        ),
        ("global mean", "GlobalAveragePool", &[]),
        ("global max", "GlobalMaxPool", &[]),
        ("reduced", "ReduceMean", &[("axes", Ints(&[2, -1]))]),
        ("reduced, rank lost", "ReduceMean", &[("axes", Ints(&[3, 2])), ("keepdims", Int(0))]),
    ];
    for (name, op, attributes) in cases {
        let mut model = Model::new(&[1, 5, 10, 8]);
        model.node(op, &["x"], "y", attributes);
        model.import().unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn flattening_a_map_reorders_the_weights_behind_it_and_nothing_else() {
    for activation in ["Relu", "Identity"] {
        let mut model = Model::new(&[-1, 3, 6, 6]);
        model.weights("w", &[4, 3, 3, 3]).weights("f", &[10, 64]).weights("b", &[10]);
        model.node("Conv", &["x", "w"], "c", &[]).node("Flatten", &["c"], "f0", &[]);
        model.node(activation, &["f0"], "f1", &[]);
        model.node("Gemm", &["f1", "f", "b"], "y", &[("transB", Value::Int(1))]);
        let graph = model.import().unwrap();
        assert!(!names(&graph).contains(&"transpose"), "{:?}", names(&graph));
        assert_eq!(graph.shape(graph.output), [10]);
    }
}

#[test]
fn a_flattened_map_that_is_also_returned_keeps_its_order() {
    let mut model = Model::new(&[1, 3, 4, 4]);
    model.weights("w", &[4, 3, 3, 3]);
    model.node("Conv", &["x", "w"], "c", &[]).node("Flatten", &["c"], "y", &[]);
    assert_eq!(names(&model.import().unwrap()), ["conv", "transpose", "reshape"]);
}

#[test]
fn shape_arithmetic_over_a_dynamic_batch_is_evaluated() {
    let mut model = Model::new(&[-1, 4, 3, 3]);
    model.integers("zero", &[0]).integers("minus", &[-1]).weights("f", &[36, 5]);
    model.node("Relu", &["x"], "r", &[]).node("Shape", &["r"], "s", &[]).node("Gather", &["s", "zero"], "n", &[]);
    model.node("Concat", &["n", "minus"], "t", &[("axis", Value::Int(0))]);
    model.node("Reshape", &["r", "t"], "v", &[]).node("MatMul", &["v", "f"], "y", &[]);
    let graph = model.import().unwrap();
    assert_eq!(names(&graph), ["clip", "reshape", "dense"]);
}

#[test]
fn transposes_of_channels_last_models_cost_nothing() {
    let mut model = Model::new(&[1, 6, 6, 3]);
    model.weights("w", &[4, 3, 3, 3]).weights("b", &[4]).weights("f", &[4, 2]);
    model.node("Transpose", &["x"], "nchw", &[("perm", Value::Ints(&[0, 3, 1, 2]))]);
    model.node("Conv", &["nchw", "w"], "c", &[]);
    model.node("Transpose", &["c"], "nhwc", &[("perm", Value::Ints(&[0, 2, 3, 1]))]);
    model.node("Add", &["nhwc", "b"], "a", &[]).node("Clip", &["a"], "k", &[]);
    model.node("MatMul", &["k", "f"], "y", &[]);
    let graph = model.import().unwrap();
    assert_eq!(names(&graph), ["conv", "clip", "dense"]);
    assert_eq!((graph.input_shape.as_slice(), graph.shape(graph.output)), ([6, 6, 3].as_slice(), [4, 4, 2].as_slice()));
}

#[test]
fn clip_bounds_come_from_attributes_or_operands() {
    let mut old = Model::new(&[1, 4]);
    old.opset = 10;
    old.node("Clip", &["x"], "y", &[("min", Value::Float(-0.5)), ("max", Value::Float(0.25))]);
    let mut new = Model::new(&[1, 4]);
    new.floats("lo", &[], &[-0.5]).floats("hi", &[], &[0.25]).node("Clip", &["x", "lo", "hi"], "y", &[]);
    for model in [old, new] {
        assert!(matches!(model.import().unwrap().nodes[0].op, Op::Clip { lo: -0.5, hi: 0.25 }));
    }
}

#[test]
fn a_zero_pad_moves_into_the_window_behind_it() {
    let mut model = Model::new(&[1, 2, 5, 5]);
    model.integers("p", &[0, 0, 1, 2, 0, 0, 0, 1]).weights("w", &[3, 2, 3, 3]);
    model.node("Relu", &["x"], "r", &[]).node("Pad", &["r", "p"], "padded", &[]);
    model.node("Conv", &["padded", "w"], "c", &[("pads", Value::Ints(&[1, 0, 0, 0]))]);
    model.node("MaxPool", &["padded"], "m", &[("kernel_shape", Value::Ints(&[3, 3]))]);
    model.node("GlobalAveragePool", &["c"], "g", &[]).node("GlobalMaxPool", &["m"], "h", &[]);
    model.weights("w2", &[3, 2, 1, 1]).node("Conv", &["h", "w2"], "h2", &[]).node("Add", &["g", "h2"], "y", &[]);
    let graph = model.import().unwrap();
    let windows: Vec<&Window> = graph
        .nodes
        .iter()
        .filter_map(|node| match &node.op {
            Op::Conv(conv) if conv.window.kernel == [3, 3] => Some(&conv.window),
            Op::MaxPool(window) if window.kernel == [3, 3] => Some(window),
            _ => None,
        })
        .collect();
    assert_eq!(windows.iter().map(|window| window.pad).collect::<Vec<_>>(), [[2, 2, 0, 1], [1, 2, 0, 1]]);
}

#[test]
fn every_unsupported_node_is_reported_at_once() {
    let mut model = Model::new(&[1, 3, 8, 8]);
    model.weights("w", &[3, 3, 3, 3]).node("Softplus", &["x"], "a", &[]).node("Conv", &["a", "w"], "b", &[]);
    model.node("Shape", &["b"], "s", &[]).node("Reshape", &["b", "s"], "b2", &[]);
    model.node("AveragePool", &["x"], "c", &[("kernel_shape", Value::Ints(&[3, 3])), ("pads", Value::Ints(&[1; 4]))]);
    model.node("Relu", &["c"], "d", &[]).node("Sign", &["d"], "e", &[]).node("Ceil", &["x"], "f", &[]);
    model.node("Concat", &["b2", "e", "f"], "y", &[("axis", Value::Int(1))]);
    let error = model.import().unwrap_err();
    let text = error.to_string();
    let ImportError::Unsupported { problems, .. } = error else { panic!("{text}") };
    let ops: Vec<&str> = problems.iter().map(|problem| problem.op.as_str()).collect();
    assert_eq!(ops, ["Softplus", "AveragePool", "Sign", "Ceil"]);
    assert!(problems.iter().all(|problem| text.contains(&problem.node) && text.contains(&problem.reason)), "{text}");
}

#[test]
fn unsupported_attributes_are_refused_with_a_reason() {
    use Value::{Int, Ints, Text};
    let square: &[i64] = &[1, 4, 6, 6];
    let cases: &[Refused] = &[
        ("Softmax", square, &["x"], &[("axis", Int(1))], "last axis"),
        ("Pad", square, &["x", "pads"], &[("mode", Text("reflect"))], "reflect"),
        ("MaxPool", square, &["x"], &[("kernel_shape", Ints(&[2, 2])), ("pads", Ints(&[2; 4]))], "padding"),
        ("MaxPool", square, &["x"], &[("kernel_shape", Ints(&[7, 7]))], "window"),
        ("Conv", square, &["x", "x"], &[], "constant"),
        ("Conv", &[1, 3, 6, 6], &["x", "w"], &[], "channels"),
        ("Conv", &[1, 4, 9], &["x", "w1d"], &[], "2-D"),
        ("Gemm", &[1, 9], &["x", "f"], &[], "features"),
        ("Add", square, &["x", "odd"], &[], "shapes"),
        ("Cast", square, &["x"], &[("to", Int(10))], "float32"),
    ];
    for (op, input, operands, attributes, expected) in cases {
        let mut model = Model::new(input);
        model.weights("w", &[2, 4, 3, 3]).weights("w1d", &[2, 4, 3]).weights("f", &[8, 2]).weights("odd", &[5, 6, 6]);
        model.integers("pads", &[0, 0, 1, 1, 0, 0, 1, 1]).node(op, operands, "y", attributes);
        let error = model.import().unwrap_err();
        let ImportError::Unsupported { problems, .. } = &error else { panic!("{op}: {error}") };
        assert!(problems[0].reason.contains(expected), "{op}: {}", problems[0].reason);
    }
}

#[test]
fn bad_frames_have_errors_of_their_own() {
    let relu = |input: &[i64]| {
        let mut model = Model::new(input);
        model.node("Relu", &["x"], "y", &[]);
        model
    };
    let error = relu(&[1, 3, -2, -3]).import().unwrap_err();
    assert!(
        matches!(&error, ImportError::DynamicShape { tensor, dims, .. } if tensor == "x" && dims == "1, 3, N2, N3")
    );
    assert!(matches!(relu(&[8, 3, 4, 4]).import(), Err(ImportError::Input { .. })));
    assert!(matches!(relu(&[1]).import(), Err(ImportError::Input { .. })));
    assert!(matches!(relu(&[1, 0, 4]).import(), Err(ImportError::Input { .. })));
    assert!(matches!(relu(&[1, i64::MAX, 4]).import(), Err(ImportError::Input { .. })));

    let mut two_inputs = relu(&[1, 4]);
    two_inputs.graph.input.push(tensor_type("x2", &[1, 4]));
    assert!(matches!(two_inputs.import(), Err(ImportError::Inputs { names, .. }) if names == ["x", "x2"]));
    let mut two_outputs = relu(&[1, 4]);
    two_outputs.graph.output.push(tensor_type("x", &[1, 4]));
    assert!(matches!(two_outputs.import(), Err(ImportError::Outputs { names, .. }) if names == ["y", "x"]));
    let mut undefined = Model::new(&[1, 4]);
    undefined.node("Relu", &["nowhere"], "y", &[]);
    assert!(matches!(undefined.import(), Err(ImportError::Broken { detail, .. }) if detail.contains("nowhere")));
    let missing = import(Path::new("no/such/model.onnx")).unwrap_err();
    assert!(matches!(missing, ImportError::Read { .. }) && missing.to_string().contains("no/such/model.onnx"));
    assert!(matches!(import_bytes(b"not a protobuf"), Err(ImportError::Broken { .. })));
    assert!(matches!(import_bytes(b""), Err(ImportError::Broken { .. })));
}

#[test]
fn weights_that_are_not_finite_are_named() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut model = Model::new(&[1, 2]);
        model.floats("f", &[2, 2], &[0.0, bad, 0.0, 1.0]).node("MatMul", &["x", "f"], "y", &[]);
        let error = model.import().unwrap_err();
        assert!(
            matches!(&error, ImportError::NonFinite { node, tensor, .. } if node == "MatMul_1" && tensor == "f"),
            "{error}"
        );
    }
    let mut overflowing = Model::new(&[1, 2]);
    overflowing.floats("f", &[2, 1], &[1e30, 1.0]).floats("s", &[], &[1e30]);
    overflowing.node("MatMul", &["x", "f"], "a", &[]).node("Mul", &["a", "s"], "y", &[]);
    assert!(matches!(overflowing.import(), Err(ImportError::NonFinite { .. })));
}

#[test]
fn damaged_files_never_panic_the_importer() {
    let mut model = Model::new(&[-1, 3, 8, 8]);
    conv_bn(&mut model);
    model.weights("f", &[10, 384]).node("Flatten", &["r1"], "flat", &[]);
    model.node("Gemm", &["flat", "f"], "y", &[("transB", Value::Int(1))]);
    let bytes = model.bytes();
    import_bytes(&bytes).unwrap();
    for length in (0..bytes.len()).step_by(bytes.len() / 60) {
        assert!(import_bytes(&bytes[..length]).is_err(), "a file cut to {length} bytes");
    }
    // Structure lies at the ends of the file, weights between; results of flips are free, panics are not.
    let places = (0..400).chain(bytes.len() - 300..bytes.len()).chain((400..bytes.len()).step_by(997));
    for place in places.step_by(3) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        let _ = import_bytes(&damaged);
    }
}
