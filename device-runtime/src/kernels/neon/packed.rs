//! Convolution with packed weights, eight filters side by side.
//!
//! Windows come in blocks of twelve, four or one, whose taps [`draw`] has laid together. Each kind of instructions has kernels for
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
/// `weights`, which moves on to the next one, as many. Sums start with the biases of the panel.
trait Kernel {
    /// Taps of a unit.
    const UNIT: usize;
    /// The tables of every four sums; those of the panel move on to the next one's.
    unsafe fn tables(panel: &mut [*const i32; 3]) -> [Tables; 4];
    unsafe fn twelve(taps: Taps, bias: *const i32, x: *const i8, weights: &mut *const i8) -> [Sums; 6];
    unsafe fn four(taps: Taps, bias: *const i32, x: *const i8, weights: &mut *const i8) -> [Sums; 2];
    unsafe fn one(taps: Taps, bias: *const i32, x: *const i8, weights: &mut *const i8) -> Sums;
    /// Puts the values of two pairs of windows in the order of windows and filters.
    #[inline(always)]
    fn order(values: [int8x16_t; 2]) -> [int8x16_t; 2] {
        values
    }
    /// The values of eight windows, as [`store_eight`](Self::store_eight) takes them.
    #[inline(always)]
    fn values_of_eight<const PLAIN: bool>(
        finish: &Finish<'_>,
        sums: [Sums; 4],
        tables: &[Tables; 4],
    ) -> [int8x16_t; 4] {
        sums.map(|sums| finish.values_of::<PLAIN>(sums, tables))
    }
    /// Stores the values of eight windows to places `step` bytes apart; returns the place behind them.
    #[inline(always)]
    unsafe fn store_eight<const PLAIN: bool, const ADDS: bool>(
        finish: &Finish<'_>,
        values: [int8x16_t; 4],
        place: *mut i8,
        step: usize,
    ) -> *mut i8 {
        // SAFETY: the caller grants eight bytes of every place.
        unsafe { finish.store_windows::<4, PLAIN, ADDS>(values, place, step) }
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
    match (finish.is_plain(), &finish.residual) {
        (true, None) => blocks::<K, true, false>(operands, &finish, source, output),
        (true, Some(_)) => blocks::<K, true, true>(operands, &finish, source, output),
        (false, _) => blocks::<K, false, true>(operands, &finish, source, output),
    }
}

/// Clamp and residual; the tables are taken panel by panel.
fn finish<'a, L>(operands: &Operands<'a, L>) -> Finish<'a> {
    let q = Requant { bias: &[], multiplier: &[], shift: &[], landing: operands.tables.landing };
    Finish::new(&q, operands.residual, operands.tables.bits)
}

#[inline(never)]
fn blocks<K: Kernel, const PLAIN: bool, const ADDS: bool>(
    operands: &Operands<'_, Blocks>,
    finish: &Finish<'_>,
    source: *const i8,
    output: &mut [i8],
) {
    let windows = output.len() / operands.channels.max(1);
    let mut place = output.as_mut_ptr();
    for block in operands.layout.walk(operands.first, windows) {
        let turn = Turn::<K, PLAIN, ADDS>::new(operands, finish, source, &block, place);
        // SAFETY: the processor has the instructions, the image has the block, and the output its windows.
        unsafe {
            match block.size {
                LARGEST => turn.panels(Turn::twelve),
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

/// A block of windows. With `PLAIN`, [`is_plain`](Finish::is_plain) holds; without `ADDS` there is no residual.
struct Turn<'a, K, const PLAIN: bool, const ADDS: bool> {
    operands: &'a Operands<'a, Blocks>,
    finish: &'a Finish<'a>,
    taps: Taps,
    x: *const i8,
    place: *mut i8,
    windows: usize,
    /// Channels without which a panel is stored in part: more than there are, if the block has places without a window.
    whole: usize,
    kernel: core::marker::PhantomData<K>,
}

/// The functions are unsafe: the processor has the instructions of `K`, and all that is pointed to is there.
impl<'a, K: Kernel, const PLAIN: bool, const ADDS: bool> Turn<'a, K, PLAIN, ADDS> {
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
        let windows = block.windows;
        let whole = if windows == block.size { PANEL } else { usize::MAX };
        Self { operands, finish, taps, x, place, windows, whole, kernel: core::marker::PhantomData }
    }

    /// All panels, one after the other; `one` moves on to the weights and tables of the next.
    #[inline(always)]
    unsafe fn panels(&self, one: impl Fn(&Self, &mut Panel)) {
        let Operands { tables, channels, .. } = *self.operands;
        let tables = [&tables.bias, &tables.multiplier, &tables.shift].map(|table| table.as_ptr());
        let weights = self.operands.panels.as_ptr();
        let mut panel = Panel { tables, weights, place: self.place, channels };
        loop {
            one(self, &mut panel);
            if panel.channels <= PANEL {
                return;
            }
            panel.place = panel.place.wrapping_add(PANEL);
            panel.channels -= PANEL;
        }
    }

    #[inline(always)]
    fn twelve(&self, panel: &mut Panel) {
        // SAFETY: the promises of `panels`.
        unsafe {
            let [a, b, c, d, e, f] = K::twelve(self.taps, panel.tables[0], self.x, &mut panel.weights);
            let tables = K::tables(&mut panel.tables);
            let first = K::values_of_eight::<PLAIN>(self.finish, [a, b, c, d], &tables);
            let last = K::order([e, f].map(|sums| self.finish.values_of::<PLAIN>(sums, &tables)));
            if panel.channels >= self.whole {
                let step = self.operands.channels;
                let place = K::store_eight::<PLAIN, ADDS>(self.finish, first, panel.place, step);
                self.finish.store_windows::<2, PLAIN, ADDS>(last, place, step);
            } else {
                self.store_part(panel, move |finish, rows| {
                    let rest = K::store_eight::<PLAIN, false>(finish, first, rows, PANEL);
                    finish.store_windows::<2, PLAIN, false>(last, rest, PANEL);
                });
            }
        }
    }

    #[inline(always)]
    fn four(&self, panel: &mut Panel) {
        // SAFETY: the promises of `panels`.
        unsafe {
            let sums = K::four(self.taps, panel.tables[0], self.x, &mut panel.weights);
            let tables = K::tables(&mut panel.tables);
            let values = K::order(sums.map(|sums| self.finish.values_of::<PLAIN>(sums, &tables)));
            if panel.channels >= self.whole {
                self.finish.store_windows::<2, PLAIN, ADDS>(values, panel.place, self.operands.channels);
            } else {
                self.store_part(panel, move |finish, rows| {
                    finish.store_windows::<2, PLAIN, false>(values, rows, PANEL);
                });
            }
        }
    }

    #[inline(always)]
    fn one(&self, panel: &mut Panel) {
        // SAFETY: the promises of `panels`.
        unsafe {
            let sums = K::one(self.taps, panel.tables[0], self.x, &mut panel.weights);
            let values = self.finish.values_of::<PLAIN>(sums, &K::tables(&mut panel.tables));
            let [values, _] = K::order([values; 2]);
            if panel.channels >= self.whole {
                self.finish.store_window::<PLAIN, ADDS>(values, panel.place);
            } else {
                self.store_part(panel, move |finish, rows| finish.store_window::<PLAIN, false>(values, rows));
            }
        }
    }

    /// Stores what the block and the panel have of a whole block, whose rows `store` gives, without what they are added to.
    #[inline(always)]
    unsafe fn store_part(&self, panel: &Panel, store: impl FnOnce(&Finish<'a>, *mut i8)) {
        let mut rows = [[0; PANEL]; LARGEST];
        store(self.finish, rows.as_mut_ptr().cast());
        let rows = rows.get(..self.windows).unwrap_or(&[]);
        // SAFETY: so many bytes of the windows.
        unsafe { self.finish.store_rows(rows, panel.place, self.operands.channels, panel.channels.min(PANEL)) };
    }
}
