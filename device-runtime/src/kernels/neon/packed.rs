//! Convolution with packed weights, eight filters side by side.
//!
//! A lane of a vector is a filter: nothing is added up across lanes. Each kind of instructions has kernels for eight, four and
//! one window, which take all taps in one go.

#[macro_use]
mod walk;

mod base;
mod depthwise;
mod dot;
mod matrix;

pub use depthwise::depthwise_packed;

use core::arch::aarch64::{int32x4_t, vld1q_s32};

use super::Level;
use super::finish::{Finish, Tables};
use crate::kernels::packed::{Layout, Operands};
use crate::kernels::params::Requant;

/// Filters of a panel, and windows of the largest tile.
const PANEL: usize = 8;

/// Sums of eight filters: the first four, the others.
type Sums = [int32x4_t; 2];

/// The taps of a tile's windows.
#[derive(Clone, Copy)]
struct Taps {
    /// Kernel rows, at least 1.
    rows: usize,
    /// Taps of a row, a multiple of 4.
    row_taps: usize,
    /// Bytes from a row's last tap to the next row's first.
    jump: usize,
}

/// Sums of a panel, which start with `bias`.
///
/// Each function is unsafe: the processor has the instructions, the windows from `x` on have the taps that `taps` says, and the
/// panel at `weights` as many.
trait Kernel {
    unsafe fn eight(taps: Taps, bias: Sums, x: [*const i8; 8], weights: *const i8) -> [Sums; 8];
    unsafe fn four(taps: Taps, bias: Sums, x: [*const i8; 4], weights: *const i8) -> [Sums; 4];
    unsafe fn one(taps: Taps, bias: Sums, x: *const i8, weights: *const i8) -> Sums;
}

/// Convolution of the windows that `operands` describes in `source`. The processor has the instructions of `level`.
pub fn conv2d_packed(level: Level, operands: &Operands<'_>, source: *const i8, output: &mut [i8]) {
    match level {
        Level::Base => all::<base::Base>(operands, source, output),
        Level::Dot => all::<dot::Dot>(operands, source, output),
        Level::Matrix => all::<matrix::Matrix>(operands, source, output),
    }
}

fn all<K: Kernel>(operands: &Operands<'_>, source: *const i8, output: &mut [i8]) {
    let finish = finish(operands);
    if finish.is_plain() {
        tiles::<K, true>(operands, &finish, source, output);
    } else {
        tiles::<K, false>(operands, &finish, source, output);
    }
}

/// Clamp and residual; the tables are taken panel by panel.
fn finish<'a>(operands: &Operands<'a>) -> Finish<'a> {
    let q = Requant { bias: &[], multiplier: &[], shift: &[], landing: operands.tables.landing };
    Finish::new(&q, operands.residual, operands.tables.bits)
}

#[inline(never)]
fn tiles<K: Kernel, const PLAIN: bool>(
    operands: &Operands<'_>,
    finish: &Finish<'_>,
    source: *const i8,
    output: &mut [i8],
) {
    let Operands { layout, tables, channels, .. } = *operands;
    let Layout { rows, row_taps, row_step, .. } = *layout;
    let taps = Taps { rows, row_taps, jump: row_step.wrapping_sub(row_taps) };
    let (biases, multipliers) = (tables.bias.as_chunks().0, tables.multiplier.as_chunks().0);
    let mut walk = layout.walk(operands.first);
    for pixels in output.chunks_mut(PANEL * channels.max(1)) {
        let windows = pixels.len() / channels.max(1);
        let x = walk.next::<PANEL>(windows).map(|start| source.wrapping_add(start));
        let (mut place, mut weights, mut left) = (pixels.as_mut_ptr(), operands.panels.as_ptr(), channels);
        let turn = Turn::<PLAIN> { finish, taps, x, step: channels, windows };
        for ((bias, multiplier), shift) in biases.iter().zip(multipliers).zip(tables.shift.as_chunks().0) {
            let panel = Panel { bias, multiplier, shift, weights, place, channels: left };
            // SAFETY: the processor has the instructions, windows lie in the source, and the pixels are `windows` whole ones.
            unsafe {
                match windows {
                    1 => turn.one::<K>(&panel),
                    2..=4 => turn.four::<K>(&panel),
                    _ => turn.eight::<K>(&panel),
                }
            }
            weights = weights.wrapping_add(PANEL * rows * row_taps);
            (place, left) = (place.wrapping_add(PANEL), left.saturating_sub(PANEL));
        }
    }
}

/// Eight filters.
struct Panel<'a> {
    bias: &'a [i32; PANEL],
    multiplier: &'a [i32; PANEL],
    shift: &'a [i32; PANEL],
    weights: *const i8,
    /// First output channel of the turn's first window.
    place: *mut i8,
    /// Output channels from there on.
    channels: usize,
}

impl Panel<'_> {
    #[inline(always)]
    fn bias(&self) -> Sums {
        // SAFETY: reads the eight words.
        unsafe { [vld1q_s32(self.bias.as_ptr()), vld1q_s32(self.bias.as_ptr().wrapping_add(4))] }
    }

    #[inline(always)]
    fn tables(&self) -> [Tables; 2] {
        Tables::panel(self.bias, self.multiplier, self.shift)
    }
}

/// Some windows.
struct Turn<'a, const PLAIN: bool> {
    finish: &'a Finish<'a>,
    taps: Taps,
    /// First taps of the windows.
    x: [*const i8; PANEL],
    /// Bytes of the output from window to window.
    step: usize,
    windows: usize,
}

/// The functions are unsafe: the processor has the instructions of `K`, and all that is pointed to is there.
impl<const PLAIN: bool> Turn<'_, PLAIN> {
    #[inline(always)]
    unsafe fn eight<K: Kernel>(&self, panel: &Panel<'_>) {
        // SAFETY: the caller's promises.
        unsafe {
            let [a, b, c, d, e, f, g, h] = K::eight(self.taps, panel.bias(), self.x, panel.weights);
            if panel.channels < PANEL || self.windows < PANEL {
                return self.store_part([a, b, c, d, e, f, g, h], panel);
            }
            let tables = &panel.tables();
            let mut place = panel.place;
            self.finish.store_pair::<PLAIN>([a, b], tables, [place, place.wrapping_add(self.step)]);
            place = place.wrapping_add(2 * self.step);
            self.finish.store_pair::<PLAIN>([c, d], tables, [place, place.wrapping_add(self.step)]);
            place = place.wrapping_add(2 * self.step);
            self.finish.store_pair::<PLAIN>([e, f], tables, [place, place.wrapping_add(self.step)]);
            place = place.wrapping_add(2 * self.step);
            self.finish.store_pair::<PLAIN>([g, h], tables, [place, place.wrapping_add(self.step)]);
        }
    }

    #[inline(always)]
    unsafe fn four<K: Kernel>(&self, panel: &Panel<'_>) {
        let [x0, x1, x2, x3, ..] = self.x;
        // SAFETY: the caller's promises.
        unsafe {
            let [a, b, c, d] = K::four(self.taps, panel.bias(), [x0, x1, x2, x3], panel.weights);
            if panel.channels < PANEL || self.windows < 4 {
                return self.store_part([a, b, c, d], panel);
            }
            let tables = &panel.tables();
            let place = panel.place.wrapping_add(2 * self.step);
            self.finish.store_pair::<PLAIN>([a, b], tables, [panel.place, panel.place.wrapping_add(self.step)]);
            self.finish.store_pair::<PLAIN>([c, d], tables, [place, place.wrapping_add(self.step)]);
        }
    }

    #[inline(always)]
    unsafe fn one<K: Kernel>(&self, panel: &Panel<'_>) {
        // SAFETY: the caller's promises.
        unsafe {
            let sums = K::one(self.taps, panel.bias(), self.x[0], panel.weights);
            if panel.channels < PANEL {
                return self.store_part([sums], panel);
            }
            self.finish.store_eight(sums, &panel.tables(), panel.place);
        }
    }

    /// Stores as many windows and channels as there are.
    #[cold]
    #[inline(never)]
    unsafe fn store_part<const W: usize>(&self, sums: [Sums; W], panel: &Panel<'_>) {
        let count = panel.channels.min(PANEL);
        let (tables, mut place) = (panel.tables(), panel.place);
        for sums in sums.into_iter().take(self.windows) {
            // SAFETY: `count` bytes of the window.
            unsafe { store_channels(self.finish, sums, &tables, place, count) };
            place = place.wrapping_add(self.step);
        }
    }
}

/// Stores the first `count` of eight channels.
///
/// # Safety
/// The place has as many readable and writable bytes; `count` is at most eight.
unsafe fn store_channels(finish: &Finish<'_>, sums: Sums, tables: &[Tables; 2], place: *mut i8, count: usize) {
    let mut held = [0; PANEL];
    // SAFETY: the caller's promise, and eight bytes of the array.
    unsafe {
        core::ptr::copy_nonoverlapping(place, held.as_mut_ptr(), count);
        finish.store_eight(sums, tables, held.as_mut_ptr());
        core::ptr::copy_nonoverlapping(held.as_ptr(), place, count);
    }
}
