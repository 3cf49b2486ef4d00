//! HWC maps copied into zero-padded rows of 16-channel blocks, which the convolution kernels read.

use super::simd::{LANES, Lanes, dispatch};

/// Geometry of a padded copy, `[row][block][column][16]`. Channels past the last one are zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Padded {
    /// Rows and columns of the map.
    pub map: [usize; 2],
    /// Channels copied.
    pub channels: usize,
    /// Rows above and columns left of the map.
    pub before: [usize; 2],
    /// Rows and columns with padding.
    pub extent: [usize; 2],
}

impl Padded {
    /// Blocks of 16 channels.
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(LANES)
    }

    /// Elements between neighbouring rows.
    pub fn row(&self) -> usize {
        self.blocks() * self.extent[1] * LANES
    }

    /// Elements between neighbouring blocks.
    pub fn block(&self) -> usize {
        self.extent[1] * LANES
    }

    /// Elements of the copy.
    pub fn len(&self) -> usize {
        self.extent[0] * self.row()
    }

    /// Channels of a block that are not filled up with zeros.
    pub fn valid(&self, block: usize) -> usize {
        (self.channels - block * LANES).min(LANES)
    }
}

dispatch! {
    /// Copies the channels `first ..` of one HWC sample whose pixels are `stride` elements apart.
    ///
    /// # Panics
    /// When a slice is too short.
    pub fn pad(shape: &Padded, sample: &[f32], stride: usize, first: usize, copy: &mut [f32]) = pad_lanes
}

#[inline(always)]
unsafe fn pad_lanes<L: Lanes>(shape: &Padded, sample: &[f32], stride: usize, first: usize, copy: &mut [f32]) {
    let [rows, columns] = shape.map;
    let [top, left] = shape.before;
    assert!(copy.len() >= shape.len() && top + rows <= shape.extent[0] && left + columns <= shape.extent[1]);
    assert!(rows * columns == 0 || (rows * columns - 1) * stride + first + shape.channels <= sample.len());
    copy[..top * shape.row()].fill(0.0);
    copy[(top + rows) * shape.row()..shape.len()].fill(0.0);
    for y in 0..rows {
        for block in 0..shape.blocks() {
            let at = (top + y) * shape.row() + block * shape.block();
            let line = &mut copy[at..at + shape.block()];
            line[..left * LANES].fill(0.0);
            line[(left + columns) * LANES..].fill(0.0);
            let valid = shape.valid(block);
            // SAFETY: the asserts above cover the last pixel read; `line` has `left + columns` pixels of 16 lanes at least.
            unsafe {
                let from = sample.as_ptr().add(y * columns * stride + first + block * LANES);
                let to = line.as_mut_ptr().add(left * LANES);
                if valid == LANES {
                    for x in 0..columns {
                        L::load(from.add(x * stride)).store(to.add(x * LANES));
                    }
                } else {
                    for x in 0..columns {
                        L::load_first(from.add(x * stride), valid).store(to.add(x * LANES));
                    }
                }
            }
        }
    }
}
