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

/// Every whole group of four channels of a convolution that [`suits`]. `bits` is its [`pre_shift`](crate::kernels::scales::pre_shift).
pub fn depthwise(
    p: &Conv2d,
    q: &Requant<'_>,
    finish: &Finish<'_>,
    bits: u32,
    input: &[i8],
    weights: &[i8],
    output: &mut [i8],
) {
    let channels = usize::from(p.input.c).max(1);
    let stride = if p.window.stride[0] == 2 { 2 } else { 1 };
    let width = usize::from(p.output.w);
    let tile = (STRIP - 3) / stride + 1;
    let pad = pack::word([p.pad_value; 4]);
    let pad = [even_bytes(pad), odd_bytes(pad)];
    let mut strips: Strips = [[pad; STRIP]; 3];
    let mut values = [0; 4 * STRIP];
    for left in (0..width).step_by(tile) {
        let count = tile.min(width - left);
        let columns = (count - 1) * stride + 3;
        let before = usize::from(p.window.pad[1]);
        // Columns of the strip that lie inside the input; the others keep the padding from here on.
        let from = before.saturating_sub(left * stride).min(columns);
        let to = (usize::from(p.input.w) + before).saturating_sub(left * stride).clamp(from, columns);
        strips.as_flattened_mut().fill(pad);
        let column = (left * stride + from).saturating_sub(before);
        let strip = Strip { p, input, finish, pad, left, count, from, inside: to - from, column };
        for first in (0..channels & !3).step_by(4) {
            let Some(group) = Group::new(q, bits, weights, channels, first) else { return };
            strip.run(&group, first, &mut strips, &mut values, output);
        }
    }
}

/// Constants of four channels, in the order in which [`row_of_windows`] reads them.
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
        let word = |tap: usize| weights.get(tap * channels + first..)?.first_chunk::<4>().map(|&word| pack::word(word));
        // Both halves of a word, shifted left.
        let up = |halves: u32| (halves & 0xFFFF) << bits & 0xFFFF | halves >> 16 << 16 << bits;
        let mut columns = [[0; 6]; 3];
        for (x, column) in columns.iter_mut().enumerate() {
            let [a, b, c] = [word(x)?, word(x + 3)?, word(x + 6)?];
            let [a0, b0, c0] = [a, b, c].map(|word| up(even_bytes(word)));
            let [a1, b1, c1] = [a, b, c].map(|word| up(odd_bytes(word)));
            let low = |a: u32, b: u32| a & 0xFFFF | b << 16;
            let high = |a: u32, b: u32| a >> 16 | b & 0xFFFF_0000;
            *column = [low(a0, b0), low(a1, b1), high(a0, b0), high(a1, b1), c0, c1];
        }
        let multiplier = q.multiplier.get(first..)?.first_chunk::<4>()?;
        let shift = q.shift.get(first..)?.first_chunk::<4>()?.map(|shift| i32::from(shift) + bits as i32 - 32);
        let zero_point = i32::from(q.landing.zero_point);
        let scales = |at: usize| [multiplier[at], multiplier[at + 1], shift[at], shift[at + 1], zero_point];
        Some(Self {
            weights: columns,
            scales: [scales(0), scales(2)],
            bias: q.bias.get(first..)?.first_chunk::<4>()?.map(|bias| bias.wrapping_shl(bits)),
        })
    }
}

/// Output columns whose windows fit a strip.
struct Strip<'a> {
    p: &'a Conv2d,
    input: &'a [i8],
    finish: &'a Finish<'a>,
    pad: Halves,
    /// First output column, and how many.
    left: usize,
    count: usize,
    /// First column of the strip that is inside the input, how many are, and the input column of the first.
    from: usize,
    inside: usize,
    column: usize,
}

impl Strip<'_> {
    /// Four channels from `first` on, in every row.
    #[inline(never)]
    fn run(&self, group: &Group, first: usize, strips: &mut Strips, values: &mut [i8; 4 * STRIP], output: &mut [i8]) {
        let channels = usize::from(self.p.input.c).max(1);
        let stride = if self.p.window.stride[0] == 2 { 2 } else { 1 };
        let direct = self.finish.is_nothing();
        let height = usize::from(self.p.input.h);
        let row_bytes = usize::from(self.p.input.w) * channels;
        let start = self.column * channels + first;
        let reach = self.inside.saturating_sub(1) * channels + 4;
        let places_start = self.left * channels + first;
        let places_end = places_start + (self.count - 1) * channels + 4;
        let row_places = usize::from(self.p.output.w) * channels;

        let base = strips.as_mut_ptr().cast::<Halves>();
        let mut slots = [base, base.wrapping_add(STRIP), base.wrapping_add(2 * STRIP)];
        let mut kept = 0;
        let mut row = 0usize.wrapping_sub(self.p.window.pad[0].into());
        for places in output.chunks_exact_mut(row_places.max(1)) {
            for slot in slots.iter().skip(kept) {
                let slot = slot.wrapping_add(self.from);
                let values = if row < height { self.input.get(row * row_bytes + start..) } else { None };
                row = row.wrapping_add(1);
                match values.filter(|values| values.len() >= reach) {
                    _ if self.inside == 0 => {}
                    // SAFETY: the values reach to the last column's four channels, the slot to its strip's end.
                    Some(values) => unsafe { widen_column(values.as_ptr(), channels, self.inside, slot) },
                    // SAFETY: the columns inside lie within the strip.
                    None => unsafe { core::slice::from_raw_parts_mut(slot, self.inside) }.fill(self.pad),
                }
            }
            let Some(places) = places.get_mut(places_start..places_end) else { return };
            let (to, step) = if direct { (places.as_mut_ptr(), channels) } else { (values.as_mut_ptr(), 4) };
            let end = slots[0].wrapping_add(self.count * stride);
            let walk = Walk { to, step, end, advance: stride * size_of::<Halves>() };
            // SAFETY: the strips hold the columns of `count` windows, and `to` leads over `count` places of four bytes.
            unsafe { row_of_windows(group, &slots, &walk) };
            if !direct {
                for (place, values) in places.chunks_mut(channels.max(1)).zip(values.as_chunks::<4>().0) {
                    self.finish.store(values, place);
                }
            }
            let [a, b, c] = slots;
            (slots, kept) = if stride == 1 { ([b, c, a], 2) } else { ([c, a, b], 1) };
        }
    }
}

/// Where [`row_of_windows`] goes.
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
unsafe extern "C" fn row_of_windows(group: *const Group, strips: &[*mut Halves; 3], walk: *const Walk) {
    naked_asm!(
        dsp_instructions!(),
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
