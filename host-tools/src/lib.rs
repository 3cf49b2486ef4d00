//! stitchkit, the host side: ONNX anchors are cut at block boundaries, joined by stitching layers, quantized to int8, and
//! written as one bundle that [`stitchkit_runtime`] runs on anything from a Cortex-M0 up.
//!
//! | module | purpose |
//! |---|---|
//! | [`bench`] | instructions, memory and code size on emulated boards, beside other engines |
//! | [`board`] | board files: memory and latencies of one kind of board |
//! | [`study`] | what is known of every candidate before any is chosen |
//! | [`fleet`] | which plan each of many boards runs |
//! | [`assemble`] | from limits to a bundle: search over stitches, classes and input sizes |
//! | [`export`] | the main job, from family to bundle |
//! | [`family`] | `family.toml`: anchors, cuts, input, stitching space, data |
//! | [`graph`] | ONNX to a checked float graph, segments between cuts, float execution, MACs and parameters |
//! | [`shard`] | measurements divided among machines |
//! | [`stack`] | an upper bound of the stack that a linked firmware needs |
//! | [`stitch`] | enumeration, least-squares initialisation, evaluation, Pareto front |
//! | [`students`] | narrower and shorter copies of one large network |
//! | [`infer`] | running bundles on the host |
//! | [`quantize`] | calibration and the float-to-integer translation |
//! | [`compile`] | arena planner, cost figures, bundle writer |
//! | [`train`] | training of stitched families: reverse mode over the float graph |
//! | [`report`] | tables, and the page with plots |
//! | [`safetensors`] | files of named tensors |
#![warn(missing_docs)]

pub mod assemble;
pub mod bench;
pub mod board;
pub mod compile;
pub mod export;
pub mod family;
pub mod files;
pub mod fleet;
pub mod graph;
pub mod infer;
pub mod quantize;
pub mod report;
pub mod safetensors;
pub mod shard;
pub mod stack;
pub mod stitch;
pub mod students;
pub mod study;
#[cfg(feature = "train")]
pub mod train;
