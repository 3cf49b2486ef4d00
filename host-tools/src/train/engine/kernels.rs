//! The inner loops of the engine, free of graphs and parameters. The only unsafe code of the engine is here.

pub mod correlate;
pub mod depthwise;
pub mod geometry;
pub mod math;
pub mod norm;
pub mod padded;
pub mod product;
pub mod rows;
pub mod simd;
#[cfg(test)]
mod tests;
pub mod unary;
pub mod weight_gradient;
