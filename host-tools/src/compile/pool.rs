//! Constants of a bundle: equal runs are stored once.

use std::collections::HashMap;

use stitchkit_runtime::bundle::Op;

use crate::quantize::integer::{ConvKernel, Kernel, Offsets};

/// Alignment of each run of weights in its section, in bytes: what word-wise loads need.
const WEIGHT_ALIGN: usize = 4;

/// The sections `WGHT`, `TABL` and `SHFT` while they grow.
#[derive(Debug, Clone, Default)]
pub struct Pool {
    /// Section `WGHT`.
    pub weights: Vec<i8>,
    /// Section `TABL`.
    pub tables: Vec<i32>,
    /// Section `SHFT`.
    pub shifts: Vec<u8>,
    weights_at: HashMap<Vec<i8>, u32>,
    tables_at: HashMap<Vec<i32>, u32>,
}

impl Pool {
    /// Stores a kernel's constants and returns its record. The weights of a convolution are stored as `weights` has them, if given.
    pub fn record(&mut self, kernel: &Kernel, weights: Option<&[i8]>) -> Op {
        let offsets = match kernel {
            Kernel::Conv(conv) | Kernel::Depthwise(conv) => self.convolution(conv, weights),
            Kernel::Lut { table, .. } => Offsets { weights: self.weights(table.as_slice()), ..Offsets::default() },
            Kernel::Softmax { table, .. } | Kernel::LayerNorm { table, .. } => {
                Offsets { bias: self.table(table), ..Offsets::default() }
            }
            Kernel::AddConstant { constants, .. } | Kernel::Concat { constants, .. } => {
                Offsets { weights: self.weights(constants), ..Offsets::default() }
            }
            _ => Offsets::default(),
        };
        kernel.record(offsets)
    }

    fn convolution(&mut self, conv: &ConvKernel, weights: Option<&[i8]>) -> Offsets {
        Offsets {
            weights: self.weights(weights.unwrap_or(&conv.weights)),
            bias: self.table(&conv.bias),
            multiplier: self.table(&conv.multiplier),
            shift: self.shift(&conv.shift),
        }
    }

    fn weights(&mut self, run: &[i8]) -> u32 {
        if let Some(&at) = self.weights_at.get(run) {
            return at;
        }
        self.weights.resize(self.weights.len().next_multiple_of(WEIGHT_ALIGN), 0);
        let at = self.weights.len() as u32;
        self.weights.extend(run);
        self.weights_at.insert(run.to_vec(), at);
        at
    }

    fn table(&mut self, run: &[i32]) -> u32 {
        if let Some(&at) = self.tables_at.get(run) {
            return at;
        }
        let at = self.tables.len() as u32;
        self.tables.extend(run);
        self.tables_at.insert(run.to_vec(), at);
        at
    }

    /// Shifts are short and alike, so a run may lie anywhere inside what is stored.
    fn shift(&mut self, run: &[u8]) -> u32 {
        let found = self.shifts.windows(run.len().max(1)).position(|window| window == run);
        let at = found.unwrap_or(self.shifts.len());
        if found.is_none() {
            self.shifts.extend(run);
        }
        at as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_runs_are_stored_once_and_weights_are_aligned() {
        let mut pool = Pool::default();
        let first = pool.weights(&[1, 2, 3]);
        let second = pool.weights(&[4, 5]);
        assert_eq!((first, second, pool.weights(&[1, 2, 3])), (0, 4, 0));
        assert_eq!(pool.weights, [1, 2, 3, 0, 4, 5]);
        assert_eq!((pool.table(&[7, 8]), pool.table(&[9]), pool.table(&[7, 8])), (0, 2, 0));
        assert_eq!((pool.shift(&[30, 31, 32]), pool.shift(&[31, 32]), pool.shift(&[33])), (0, 1, 3));
    }
}
