//! Convolution with packed weights, eight filters side by side.
//!
//! Windows come in blocks of eight, four or one, whose taps [`draw`] has laid together. Each kind of instructions has kernels for
//! every size of block, which take all taps in one go.

#[macro_use]
mod walk;

mod base;
mod depthwise;
mod dot;
mod draw;
mod matrix;
mod store;

pub use depthwise::depthwise_packed;
pub use draw::draw;

use core::arch::aarch64::{int8x16_t, int32x4_t};

use super::Level;
use super::finish::{Finish, Tables};
use crate::kernels::packed::{Block, Blocks, LARGEST, Operands};
use crate::kernels::params::Requant;

/// Filters of a panel.
const PANEL: usize = 8;

/// Sums of sixteen values: of two windows and eight filters, or of one window in the first half of the values.
type Sums = [int32x4_t; 4];

/// The taps of a block.
#[derive(Clone, Copy)]
struct Taps {
    /// Kernel rows, at least 1.
    rows: usize,
    /// Units of a row, at least 1: adjacent taps that the kernel takes at a time, [`UNIT`](Kernel::UNIT) of each window.
    units: usize,
    /// Bytes from a row's last unit to the next row's first.
    jump: usize,
}

/// Sums of a panel.
///
/// Each function is unsafe: the processor has the instructions, the block at `x` has the taps that `taps` says, and the panel at
/// `weights` as many. Sums are added to those given.
trait Kernel {
    /// Taps of a unit.
    const UNIT: usize;
    /// Entries that a panel has in each table.
    const ENTRIES: usize;
    /// The tables of every four sums.
    unsafe fn tables(panel: [*const i32; 3]) -> [Tables; 4];
    unsafe fn eight(taps: Taps, sums: [Sums; 4], x: *const i8, weights: *const i8) -> [Sums; 4];
    unsafe fn four(taps: Taps, sums: [Sums; 2], x: *const i8, weights: *const i8) -> [Sums; 2];
    unsafe fn one(taps: Taps, sums: Sums, x: *const i8, weights: *const i8) -> Sums;
    /// Puts the values of two pairs of windows in the order of windows and filters.
    #[inline(always)]
    fn order(values: [int8x16_t; 2]) -> [int8x16_t; 2] {
        values
    }
    /// Puts the values of one window in the order of filters.
    #[inline(always)]
    fn order_one(values: int8x16_t) -> int8x16_t {
        let [values, _] = Self::order([values; 2]);
        values
    }
}

/// Convolution of the windows that `operands` describes in the image at `source`. The processor has the instructions of `level`.
pub fn conv2d_packed(level: Level, operands: &Operands<'_, Blocks>, source: *const i8, output: &mut [i8]) {
    match level {
        Level::Base => all::<base::Base>(operands, source, output),
        Level::Dot => all::<dot::Dot>(operands, source, output),
        Level::Matrix => all::<matrix::Matrix>(operands, source, output),
    }
}

fn all<K: Kernel>(operands: &Operands<'_, Blocks>, source: *const i8, output: &mut [i8]) {
    let finish = finish(operands);
    if finish.is_plain() {
        blocks::<K, true>(operands, &finish, source, output);
    } else {
        blocks::<K, false>(operands, &finish, source, output);
    }
}

/// Clamp and residual; the tables are taken panel by panel.
fn finish<'a, L>(operands: &Operands<'a, L>) -> Finish<'a> {
    let q = Requant { bias: &[], multiplier: &[], shift: &[], landing: operands.tables.landing };
    Finish::new(&q, operands.residual, operands.tables.bits)
}

#[inline(never)]
fn blocks<K: Kernel, const PLAIN: bool>(
    operands: &Operands<'_, Blocks>,
    finish: &Finish<'_>,
    source: *const i8,
    output: &mut [i8],
) {
    let windows = output.len() / operands.channels.max(1);
    let mut place = output.as_mut_ptr();
    for block in operands.layout.walk(operands.first, windows) {
        let turn = Turn::<K, PLAIN>::new(operands, finish, source, &block, place);
        // SAFETY: the processor has the instructions, the image has the block, and the output its windows.
        unsafe {
            match block.size {
                LARGEST => turn.panels(Turn::eight),
                4 => turn.panels(Turn::four),
                _ => turn.panels(Turn::one),
            }
        }
        place = place.wrapping_add(block.windows * operands.channels);
    }
}

/// Eight filters.
#[derive(Clone, Copy)]
struct Panel {
    /// Biases, multipliers and shifts.
    tables: [*const i32; 3],
    weights: *const i8,
    /// First output channel of the block's first window.
    place: *mut i8,
    /// Output channels from there on.
    channels: usize,
}

/// A block of windows.
struct Turn<'a, K, const PLAIN: bool> {
    operands: &'a Operands<'a, Blocks>,
    finish: &'a Finish<'a>,
    taps: Taps,
    x: *const i8,
    place: *mut i8,
    windows: usize,
    kernel: core::marker::PhantomData<K>,
}

/// The functions are unsafe: the processor has the instructions of `K`, and all that is pointed to is there.
impl<'a, K: Kernel, const PLAIN: bool> Turn<'a, K, PLAIN> {
    #[inline(always)]
    fn new(
        operands: &'a Operands<'a, Blocks>,
        finish: &'a Finish<'a>,
        source: *const i8,
        block: &Block,
        place: *mut i8,
    ) -> Self {
        let Blocks { filter, row_step, .. } = *operands.layout;
        let jump = row_step.wrapping_sub(block.size * filter.row_taps);
        let taps = Taps { rows: filter.rows, units: filter.row_taps / K::UNIT, jump };
        let x = source.wrapping_add(block.start);
        Self { operands, finish, taps, x, place, windows: block.windows, kernel: core::marker::PhantomData }
    }

    /// All panels, one after the other.
    #[inline(always)]
    unsafe fn panels(&self, one: impl Fn(&Self, &Panel)) {
        let Operands { tables, channels, layout, .. } = *self.operands;
        let tables = [&tables.bias, &tables.multiplier, &tables.shift].map(|table| table.as_ptr());
        let weights = self.operands.panels.as_ptr();
        let mut panel = Panel { tables, weights, place: self.place, channels };
        loop {
            one(self, &panel);
            if panel.channels <= PANEL {
                return;
            }
            panel = Panel {
                tables: panel.tables.map(|table| table.wrapping_add(K::ENTRIES)),
                weights: panel.weights.wrapping_add(PANEL * layout.filter.rows * layout.filter.row_taps),
                place: panel.place.wrapping_add(PANEL),
                channels: panel.channels - PANEL,
            };
        }
    }

    #[inline(always)]
    fn eight(&self, panel: &Panel) {
        // SAFETY: the promises of `panels`.
        unsafe {
            let tables = K::tables(panel.tables);
            let bias = tables.each_ref().map(Tables::bias);
            let [a, b, c, d] = K::eight(self.taps, [bias; 4], self.x, panel.weights);
            let value = |sums| self.finish.values_of::<PLAIN>(sums, &tables);
            let ([a, b], [c, d]) = (K::order([value(a), value(b)]), K::order([value(c), value(d)]));
            self.store([a, b, c, d], panel);
        }
    }

    #[inline(always)]
    fn four(&self, panel: &Panel) {
        // SAFETY: the promises of `panels`.
        unsafe {
            let tables = K::tables(panel.tables);
            let bias = tables.each_ref().map(Tables::bias);
            let [a, b] = K::four(self.taps, [bias; 2], self.x, panel.weights);
            let value = |sums| self.finish.values_of::<PLAIN>(sums, &tables);
            self.store(K::order([value(a), value(b)]), panel);
        }
    }

    #[inline(always)]
    fn one(&self, panel: &Panel) {
        // SAFETY: the promises of `panels`.
        unsafe {
            let tables = K::tables(panel.tables);
            let bias = tables.each_ref().map(Tables::bias);
            let sums = K::one(self.taps, bias, self.x, panel.weights);
            let values = K::order_one(self.finish.values_of::<PLAIN>(sums, &tables));
            if panel.channels >= PANEL {
                self.finish.store_window::<PLAIN>(values, panel.place);
            } else {
                self.store_part([values], panel);
            }
        }
    }

    /// Stores the values of two windows each.
    #[inline(always)]
    unsafe fn store<const PAIRS: usize>(&self, values: [int8x16_t; PAIRS], panel: &Panel) {
        let step = self.operands.channels;
        // SAFETY: eight channels of as many windows.
        unsafe {
            if panel.channels < PANEL || self.windows < 2 * PAIRS {
                return self.store_part(values, panel);
            }
            let mut place = panel.place;
            for values in values {
                place = self.finish.store_two_windows::<PLAIN>(values, place, step);
            }
        }
    }

    /// As [`store`](Self::store), as many windows and channels as there are.
    #[inline(never)]
    unsafe fn store_part<const PAIRS: usize>(&self, values: [int8x16_t; PAIRS], panel: &Panel) {
        let count = panel.channels.min(PANEL);
        let mut place = panel.place;
        for (pair, values) in values.into_iter().enumerate() {
            let windows = self.windows.saturating_sub(2 * pair).min(2);
            // SAFETY: `count` bytes of the windows.
            unsafe { self.finish.store_part_of_two(values, place, self.operands.channels, (windows, count)) };
            place = place.wrapping_add(2 * self.operands.channels);
        }
    }
}
