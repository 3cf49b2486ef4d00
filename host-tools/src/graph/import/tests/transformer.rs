//! Operators of transformers and gated networks: every import is checked against tract, so a test that imports has
//! compared the results.

use super::model::{Model, Value};
use super::{cost, names};
use crate::graph::attention;

fn attention(model: &mut Model) {
    model.weights("qkv", &[12, 36]).weights("b", &[36]).weights("p", &[12, 12]);
    model.integers("s5", &[1, 7, 3, 2, 6]).integers("s3", &[1, 7, 12]).floats("f", &[], &[0.4]);
    model.integers("flat", &[1, 7, 12]);
    for (name, index) in [("zero", 0), ("one", 1), ("two", 2)] {
        model.scalar(name, index);
    }
    model.node("MatMul", &["n", "qkv"], "m", &[]).node("Add", &["b", "m"], "mb", &[]);
    model.node("Reshape", &["mb", "s5"], "r", &[]);
    model.node("Transpose", &["r"], "t", &[("perm", Value::Ints(&[2, 0, 3, 1, 4]))]);
    for (name, index) in [("q", "zero"), ("k", "one"), ("v", "two")] {
        model.node("Gather", &["t", index], name, &[("axis", Value::Int(0))]);
    }
    model.node("Mul", &["q", "f"], "qs", &[]);
    model.node("Transpose", &["k"], "kt", &[("perm", Value::Ints(&[0, 1, 3, 2]))]);
    model.node("Mul", &["kt", "f"], "ks", &[]);
    model.node("MatMul", &["qs", "ks"], "a", &[]).node("Softmax", &["a"], "soft", &[("axis", Value::Int(-1))]);
    model.node("MatMul", &["soft", "v"], "o", &[]);
    model.node("Transpose", &["o"], "ot", &[("perm", Value::Ints(&[0, 2, 1, 3]))]);
    model.node("Reshape", &["ot", "flat"], "of", &[]).node("MatMul", &["of", "p"], "pr", &[]);
}

#[test]
fn an_attention_block_matches_tract() {
    let mut model = Model::new(&[-1, 7, 12]);
    model.weights("g", &[12]).weights("h", &[12]);
    model.node(
        "LayerNormalization",
        &["x", "g", "h"],
        "n",
        &[("axis", Value::Int(-1)), ("epsilon", Value::Float(1e-6))],
    );
    attention(&mut model);
    model.node("Add", &["x", "pr"], "y", &[]);
    let graph = model.import().unwrap();
    assert_eq!(names(&graph).iter().filter(|name| **name == "matmul").count(), 2);
    // Projections 7 * 12 * (36 + 12), two products of 2 heads x 7 x 7 x 6.
    assert_eq!(cost::macs(&graph), 7 * 12 * 48 + 2 * 2 * 7 * 7 * 6);
    assert_eq!(names(&attention::join(&graph)), ["layernorm", "dense", "attention", "dense", "add"]);
}

#[test]
fn an_embedding_with_class_token_and_positions_matches_tract() {
    let mut model = Model::new(&[1, 3, 8, 8]);
    model.weights("w", &[6, 3, 4, 4]).weights("cls", &[1, 1, 6]).weights("pos", &[1, 5, 6]).integers("s", &[1, 6, 4]);
    model.node("Conv", &["x", "w"], "c", &[("strides", Value::Ints(&[4, 4]))]).node("Reshape", &["c", "s"], "r", &[]);
    model.node("Transpose", &["r"], "t", &[("perm", Value::Ints(&[0, 2, 1]))]);
    model.node("Concat", &["cls", "t"], "j", &[("axis", Value::Int(1))]).node("Add", &["j", "pos"], "y", &[]);
    let graph = model.import().unwrap();
    assert_eq!(graph.shape(graph.output), [5, 6]);
    assert!(!names(&graph).contains(&"transpose"), "{:?}", names(&graph));
}

#[test]
fn gelu_silu_and_norms_written_as_several_nodes_become_one() {
    let mut model = Model::new(&[1, 5, 8]);
    model.floats("root", &[], &[std::f32::consts::SQRT_2]).floats("1", &[], &[1.0]).floats("half", &[], &[0.5]);
    model.floats("2", &[], &[2.0]).floats("eps", &[], &[1e-5]).weights("g", &[8]).weights("h", &[8]);
    let mean = [("axes", Value::Ints(&[-1]))];
    model.node("ReduceMean", &["x"], "m", &mean).node("Sub", &["x", "m"], "d", &[]).node("Pow", &["d", "2"], "p", &[]);
    model.node("ReduceMean", &["p"], "v", &mean).node("Add", &["v", "eps"], "ve", &[]).node("Sqrt", &["ve"], "s", &[]);
    model.node("Div", &["d", "s"], "n", &[]).node("Mul", &["n", "g"], "ng", &[]).node("Add", &["ng", "h"], "ln", &[]);
    model.node("Div", &["ln", "root"], "e0", &[]).node("Erf", &["e0"], "e1", &[]).node("Add", &["e1", "1"], "e2", &[]);
    model.node("Mul", &["ln", "e2"], "e3", &[]).node("Mul", &["e3", "half"], "e4", &[]);
    model.node("Sigmoid", &["e4"], "g0", &[]).node("Mul", &["e4", "g0"], "y", &[]);
    assert_eq!(names(&model.import().unwrap()), ["layernorm", "unary", "unary"]);
}

#[test]
fn the_same_groups_are_computed_piece_by_piece_where_an_inner_tensor_is_read_elsewhere() {
    let mut model = Model::new(&[1, 5, 8]);
    model.floats("2", &[], &[2.0]).floats("eps", &[], &[1e-5]);
    let mean = [("axes", Value::Ints(&[-1]))];
    model.node("ReduceMean", &["x"], "m", &mean).node("Sub", &["x", "m"], "d", &[]).node("Pow", &["d", "2"], "p", &[]);
    model.node("ReduceMean", &["p"], "v", &mean).node("Add", &["v", "eps"], "ve", &[]).node("Sqrt", &["ve"], "s", &[]);
    model.node("Div", &["d", "s"], "n", &[]).node("Mul", &["n", "s"], "y", &[]);
    assert!(!names(&model.import().unwrap()).contains(&"layernorm"));
}

#[test]
fn functions_match_tract() {
    for op in ["Abs", "Erf", "Exp", "HardSwish", "HardSigmoid", "LeakyRelu", "Sigmoid", "Tanh"] {
        let mut model = Model::new(&[1, 4, 6]);
        model.node(op, &["x"], "y", &[]);
        model.import().unwrap_or_else(|error| panic!("{op}: {error}"));
    }
}

#[test]
fn arithmetic_with_repetition_matches_tract() {
    let mut gate = Model::new(&[1, 6, 5, 4]);
    gate.node("GlobalAveragePool", &["x"], "p", &[]).node("Sigmoid", &["p"], "s", &[]).node(
        "Mul",
        &["x", "s"],
        "y",
        &[],
    );
    assert_eq!(names(&gate.import().unwrap()), ["avgpool", "unary", "binary"]);
    for op in ["Add", "Sub", "Mul", "Max", "Min"] {
        let mut model = Model::new(&[1, 6, 5, 4]);
        model.weights("c", &[6, 1, 4]).node(op, &["x", "c"], "a", &[]).node("Sub", &["a", "x"], "y", &[]);
        model.import().unwrap_or_else(|error| panic!("{op}: {error}"));
    }
}

#[test]
fn windows_and_rolls_match_tract() {
    let mut model = Model::new(&[1, 4, 4, 6]);
    model
        .integers("w6", &[1, 2, 2, 2, 2, 6])
        .integers("w3", &[4, 4, 6])
        .weights("f", &[6, 6])
        .integers("back", &[1, 2, 2, 2, 2, 6]);
    model.integers("map", &[1, 4, 4, 6]);
    model.integers("1", &[1]).integers("end", &[9]).integers("zero", &[0]);
    model.node("Slice", &["x", "1", "end", "1"], "a", &[]).node("Slice", &["x", "zero", "1", "1"], "b", &[]);
    model.node("Concat", &["a", "b"], "roll", &[("axis", Value::Int(1))]);
    model.node("Reshape", &["roll", "w6"], "r", &[]);
    model.node("Transpose", &["r"], "t", &[("perm", Value::Ints(&[0, 1, 3, 2, 4, 5]))]);
    model.node("Reshape", &["t", "w3"], "w", &[]).node("MatMul", &["w", "f"], "m", &[]);
    model.node("Reshape", &["m", "back"], "u", &[]);
    model.node("Transpose", &["u"], "v", &[("perm", Value::Ints(&[0, 1, 3, 2, 4, 5]))]);
    model.node("Reshape", &["v", "map"], "z", &[]).node("Add", &["z", "x"], "y", &[]);
    model.import().unwrap();
}

#[test]
fn splits_hand_over_every_part() {
    let mut model = Model::new(&[1, 7, 6]);
    model.integers("sizes", &[1, 2, 3]);
    model.many("Split", &["x", "sizes"], &["a", "b", "c"], &[("axis", Value::Int(2))]);
    model.node("Concat", &["c", "a", "b"], "y", &[("axis", Value::Int(-1))]);
    assert_eq!(names(&model.import().unwrap()), ["slice", "slice", "slice", "concat"]);
}

#[test]
fn large_constants_are_read_when_they_are_needed() {
    let mut model = Model::new(&[1, 200]);
    model.weights("f", &[300, 200]).weights("g", &[300, 200]);
    model.node("Transpose", &["f"], "t", &[]).node("MatMul", &["x", "t"], "m", &[]);
    model.node("Gemm", &["m", "g"], "y", &[]);
    assert_eq!(names(&model.import().unwrap()), ["dense", "dense"]);
}
