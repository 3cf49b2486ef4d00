//! Depthwise 3x3 convolution, row by row: four channels of a strip of three input rows are widened to 16 bits on the stack,
//! padding included, and rows are kept while windows move down.

use core::arch::naked_asm;

use super::finish::Finish;
use super::instructions::{Halves, even_bytes, odd_bytes, widen_column};
use super::pack;
use crate::kernels::params::{Conv2d, Requant};

/// Input columns of a strip.
const STRIP: usize = 26;

/// Strips of one input row each; row `r` lies in strip `r % 3`.
type Strips = [[Halves; STRIP]; 3];

/// 3x3, undilated, stride 1 or 2 in both directions, at least four channels.
pub fn suits(p: &Conv2d) -> bool {
    let w = &p.window;
    w.kernel == [3, 3] && w.dilation == [1, 1] && (w.stride == [1, 1] || w.stride == [2, 2]) && p.input.c >= 4
}

/// Every whole group of four channels of a convolution that [`suits`]. `bits` is its [`pre_shift`](super::scales::pre_shift).
pub fn depthwise(
    p: &Conv2d,
    q: &Requant<'_>,
    finish: &Finish<'_>,
    bits: u32,
    input: &[i8],
    weights: &[i8],
    output: &mut [i8],
) {
    let channels = usize::from(p.input.c);
    let stride = usize::from(p.window.stride[0]);
    let width = usize::from(p.output.w);
    let tile = (STRIP - 3) / stride + 1;
    let mut strips: Strips = [[[0; 2]; STRIP]; 3];
    for first in (0..channels & !3).step_by(4) {
        let Some(group) = Group::new(q, bits, weights, channels, first) else { return };
        for left in (0..width).step_by(tile) {
            let strip = Strip { p, input, channels, first, left: left * stride, stride, group: &group };
            strip.run(left, tile.min(width - left), finish, &mut strips, output);
        }
    }
}

/// Constants of four channels, in the order in which [`row`] reads them.
#[repr(C)]
struct Group {
    /// Per kernel column: rows 0 and 1 of each channel, then row 2 of channels 0 and 2, 1 and 3.
    weights: [[u32; 6]; 3],
    /// Two channels each: multipliers, shifts less 32, zero point.
    scales: [[i32; 5]; 2],
    bias: [i32; 4],
}

impl Group {
    /// Weights and biases are shifted left by `bits`, at most 8, so that weights still fit 16 bits.
    fn new(q: &Requant<'_>, bits: u32, weights: &[i8], channels: usize, first: usize) -> Option<Self> {
        let mut taps = [[0i32; 4]; 9];
        for (tap, values) in taps.iter_mut().enumerate() {
            let four = weights.get(tap * channels + first..)?.first_chunk::<4>()?;
            *values = four.map(|w| i32::from(w) << bits);
        }
        let pair = |low: i32, high: i32| (low & 0xFFFF | high << 16) as u32;
        let column = |x: usize| {
            let [a, b, c] = [taps[x % 9], taps[(x + 3) % 9], taps[(x + 6) % 9]];
            let rows = [pair(a[0], b[0]), pair(a[1], b[1]), pair(a[2], b[2]), pair(a[3], b[3])];
            [rows[0], rows[1], rows[2], rows[3], pair(c[0], c[2]), pair(c[1], c[3])]
        };
        let multiplier = q.multiplier.get(first..)?.first_chunk::<4>()?;
        let shift = q.shift.get(first..)?.first_chunk::<4>()?.map(|shift| i32::from(shift) + bits as i32 - 32);
        let zero_point = i32::from(q.landing.zero_point);
        let scales = |at: usize| {
            [multiplier[at], multiplier[at + 1], shift[at], shift[at + 1], zero_point]
        };
        Some(Self {
            weights: [column(0), column(1), column(2)],
            scales: [scales(0), scales(2)],
            bias: q.bias.get(first..)?.first_chunk::<4>()?.map(|bias| bias.wrapping_shl(bits)),
        })
    }
}

/// Output columns whose windows fit a strip.
struct Strip<'a> {
    p: &'a Conv2d,
    input: &'a [i8],
    channels: usize,
    /// First of the four channels.
    first: usize,
    /// Input column of the strip's first, padding counted.
    left: usize,
    stride: usize,
    group: &'a Group,
}

impl Strip<'_> {
    /// The `count` output columns from `left` on, in every row.
    #[inline(never)]
    fn run(&self, left: usize, count: usize, finish: &Finish<'_>, strips: &mut Strips, output: &mut [i8]) {
        let columns = (count - 1) * self.stride + 3;
        let direct = finish.is_nothing();
        let inside = self.inside(columns);
        let pad = pack::word([self.p.pad_value; 4]);
        let pad = [even_bytes(pad), odd_bytes(pad)];
        strips.as_flattened_mut().fill(pad);
        let row_bytes = usize::from(self.p.input.w) * self.channels;
        let padded = usize::from(self.p.window.pad[0]);
        let column = (self.left + inside.start).saturating_sub(padded_left(self.p)) * self.channels + self.first;

        let base = strips.as_mut_ptr().cast::<Halves>();
        let mut slots = [base, base.wrapping_add(STRIP), base.wrapping_add(2 * STRIP)];
        // Rows still to be read for the next row of windows, and the first of them, padding counted.
        let (mut missing, mut next) = (3, 0usize);
        let row_places = usize::from(self.p.output.w) * self.channels;
        for places in output.chunks_exact_mut(row_places.max(1)) {
            for slot in slots.iter().skip(3 - missing) {
                let slot = slot.wrapping_add(inside.start);
                let row = next.wrapping_sub(padded);
                next += 1;
                if inside.is_empty() {
                    continue;
                }
                let from = if row < usize::from(self.p.input.h) { row * row_bytes + column } else { usize::MAX };
                let reach = (inside.len() - 1) * self.channels + 4;
                match self.input.get(from..).filter(|values| values.len() >= reach) {
                    // SAFETY: the values reach to the last column's four channels, the slot to its strip's end.
                    Some(values) => unsafe { widen_column(values.as_ptr(), self.channels, inside.len(), slot) },
                    // SAFETY: `inside` lies within the strip.
                    None => unsafe { core::slice::from_raw_parts_mut(slot, inside.len()) }.fill(pad),
                }
            }
            let Some(places) = places.get_mut(left * self.channels + self.first..) else { return };
            if places.len() < (count - 1) * self.channels + 4 {
                return;
            }
            let mut values = [0i8; 4 * STRIP];
            let (to, step) = if direct { (places.as_mut_ptr(), self.channels) } else { (values.as_mut_ptr(), 4) };
            let end = slots[0].wrapping_add(count * self.stride);
            let walk = Walk { to, step, end, advance: self.stride * size_of::<Halves>() };
            // SAFETY: the strips hold the columns of `count` windows, and `to` leads over `count` places of four bytes.
            unsafe { row(self.group, &slots, &walk) };
            if !direct {
                for (place, values) in places.chunks_mut(self.channels).zip(values.as_chunks::<4>().0).take(count) {
                    finish.store(values, place);
                }
            }
            slots.rotate_left(self.stride);
            missing = self.stride;
        }
    }

    /// Columns of the strip that lie inside the input, of its first `columns`.
    fn inside(&self, columns: usize) -> core::ops::Range<usize> {
        let before = padded_left(self.p);
        let from = before.saturating_sub(self.left).min(columns);
        from..(usize::from(self.p.input.w) + before).saturating_sub(self.left).clamp(from, columns)
    }
}

/// Columns of padding to the left.
fn padded_left(p: &Conv2d) -> usize {
    p.window.pad[1].into()
}

/// Where [`row`] goes.
#[repr(C)]
struct Walk {
    /// First output place.
    to: *mut i8,
    /// Bytes from place to place.
    step: usize,
    /// First strip's position at which to stop.
    end: *const Halves,
    /// Bytes by which windows move along the strips.
    advance: usize,
}

/// Four channels of a row of windows: int8 results at every place.
///
/// # Safety
/// The strips hold three columns for every window between the first strip's start and `end`, which is at least one
/// `advance` away; every place has four writable bytes.
#[unsafe(naked)]
unsafe extern "C" fn row(group: *const Group, strips: &[*mut Halves; 3], walk: *const Walk) {
    naked_asm!(
        ".macro stitchkit_column at",
        "ldrd r8, r9, [r4, #\\at]",
        "ldrd r10, r11, [r5, #\\at]",
        "pkhbt r7, r8, r10, lsl #16",
        "pkhtb r10, r10, r8, asr #16",
        "pkhbt r8, r9, r11, lsl #16",
        "pkhtb r11, r11, r9, asr #16",
        "ldm lr!, {{r9, r12}}",
        "smlad r0, r7, r9, r0",
        "smlad r1, r8, r12, r1",
        "ldm lr!, {{r9, r12}}",
        "smlad r2, r10, r9, r2",
        "smlad r3, r11, r12, r3",
        "ldrd r8, r9, [r6, #\\at]",
        "ldm lr!, {{r10, r11}}",
        "smlabb r0, r8, r10, r0",
        "smlabb r1, r9, r11, r1",
        "smlatt r2, r8, r10, r2",
        "smlatt r3, r9, r11, r3",
        ".endm",
        ".macro stitchkit_two a, b",
        "ldm lr!, {{r7, r8, r9, r10, r11}}",
        "smmul \\a, \\a, r7",
        "smmul \\b, \\b, r8",
        "asrs \\a, \\a, r9",
        "adc \\a, \\a, r11",
        "asrs \\b, \\b, r10",
        "adc \\b, \\b, r11",
        "ssat \\a, #8, \\a",
        "ssat \\b, #8, \\b",
        ".endm",
        "push {{r4, r5, r6, r7, r8, r9, r10, r11, lr}}",
        "ldm r1, {{r4, r5, r6}}",
        "ldm r2, {{r7, r8, r9, r10}}",
        "push {{r7, r8, r9, r10}}",
        "add lr, r0, #112",
        "1:",
        "ldm lr, {{r0, r1, r2, r3}}",
        "sub lr, lr, #112",
        "stitchkit_column 0",
        "stitchkit_column 8",
        "stitchkit_column 16",
        "stitchkit_two r0, r1",
        "stitchkit_two r2, r3",
        "ldm sp, {{r7, r8, r9, r10}}",
        "strb r0, [r7]",
        "strb r1, [r7, #1]",
        "strb r2, [r7, #2]",
        "strb r3, [r7, #3]",
        "add r7, r7, r8",
        "str r7, [sp]",
        "add r4, r4, r10",
        "add r5, r5, r10",
        "add r6, r6, r10",
        "cmp r4, r9",
        "bne 1b",
        "add sp, sp, #16",
        "pop {{r4, r5, r6, r7, r8, r9, r10, r11, pc}}",
        ".purgem stitchkit_column",
        ".purgem stitchkit_two",
    )
}
