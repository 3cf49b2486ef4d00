//! From sums of products to stored values.

use core::arch::aarch64::*;
use core::arch::asm;

use crate::kernels::params::{Add, Landing, Requant};
use crate::kernels::scales::FRACTION;

/// Those of the fraction bits that are left when a sum's upper half is taken.
const LAST: i32 = FRACTION - 16;

/// Biases, multipliers and shifts of four channels.
#[derive(Clone, Copy)]
pub struct Tables {
    bias: int32x4_t,
    multiplier: int32x4_t,
    /// Left shift after the doubling multiplication, to [`FRACTION`].
    shift: int32x4_t,
}

impl Tables {
    /// Four entries of each of the three tables, with the left shifts of the doubled product.
    ///
    /// # Safety
    /// There are as many.
    #[cfg(any(test, feature = "std"))]
    #[inline(always)]
    pub unsafe fn of([bias, multiplier, shift]: [*const i32; 3]) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self { bias: vld1q_s32(bias), multiplier: vld1q_s32(multiplier), shift: vld1q_s32(shift) } }
    }

    /// Eight entries of each of the three tables.
    ///
    /// # Safety
    /// There are as many.
    #[cfg(any(test, feature = "std"))]
    #[inline(always)]
    pub unsafe fn of_eight(tables: [*const i32; 3]) -> [Self; 2] {
        // SAFETY: the caller's promise.
        [0, 4].map(|at| unsafe { Self::of(tables.map(|table| table.wrapping_add(at))) })
    }

    /// Sixteen entries of each of the three tables, which move on.
    ///
    /// # Safety
    /// There are as many.
    #[cfg(any(test, feature = "std"))]
    #[inline(always)]
    pub unsafe fn of_sixteen([bias, multiplier, shift]: &mut [*const i32; 3]) -> [Self; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            let biases = [0, 4, 8, 12].map(|at| vld1q_s32(bias.wrapping_add(at)));
            *bias = bias.wrapping_add(16);
            let (multiplier, shift) = (load_four::<0>(multiplier), load_four::<1>(shift));
            core::array::from_fn(|i| Self { bias: biases[i], multiplier: multiplier[i], shift: shift[i] })
        }
    }

    /// The biases, which sums start with.
    #[inline(always)]
    pub fn bias(&self) -> int32x4_t {
        self.bias
    }
}

/// From scaled sums to int8: zero point, then clamp.
pub struct Bytes {
    zero_point: int16x8_t,
    lo: int8x16_t,
    hi: int8x16_t,
}

impl Bytes {
    /// Those of `landing`.
    #[inline(always)]
    pub fn new(Landing { zero_point, lo, hi }: Landing) -> Self {
        // SAFETY: vectors are part of this architecture.
        unsafe {
            Self { zero_point: vdupq_n_s16(i16::from(zero_point) << LAST), lo: vdupq_n_s8(lo), hi: vdupq_n_s8(hi) }
        }
    }

    /// Whether nothing is clamped to less than int8.
    #[inline(always)]
    pub fn is_whole(Landing { lo, hi, .. }: Landing) -> bool {
        (lo, hi) == (i8::MIN, i8::MAX)
    }

    /// Sixteen values, rounded half up from [`FRACTION`] bits. Nothing but bits behind the half is cut off before, and saturation
    /// to 32 bits, or to 16 when the zero point is added, changes nothing that the clamp would not.
    #[inline(always)]
    pub fn of(&self, scaled: [int32x4_t; 4]) -> int8x16_t {
        let values = self.saturated(scaled);
        // SAFETY: vectors are part of this architecture.
        unsafe { vminq_s8(vmaxq_s8(values, self.lo), self.hi) }
    }

    /// As [`of`](Self::of), clamped to int8 alone.
    #[inline(always)]
    pub fn saturated(&self, [a, b, c, d]: [int32x4_t; 4]) -> int8x16_t {
        // SAFETY: vectors are part of this architecture.
        unsafe {
            let upper = |a, b| vuzp2q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
            let (low, high) = (vqaddq_s16(upper(a, b), self.zero_point), vqaddq_s16(upper(c, d), self.zero_point));
            vqrshrn_high_n_s16::<LAST>(vqrshrn_n_s16::<LAST>(low), high)
        }
    }
}

/// Requantization, clamp and residual addition of one operator.
pub struct Finish<'a> {
    q: Requant<'a>,
    /// Bits by which accumulators are shifted left; see [`pre_shift`](crate::kernels::scales::pre_shift).
    bits: i32,
    bytes: Bytes,
    /// The fused addition.
    pub residual: Option<Addition>,
}

impl<'a> Finish<'a> {
    /// `bits` as [`pre_shift`](crate::kernels::scales::pre_shift) says.
    pub fn new(q: &Requant<'a>, residual: Option<&Add>, bits: u32) -> Self {
        Self { q: *q, bits: bits as i32, bytes: Bytes::new(q.landing), residual: residual.map(Addition::new) }
    }

    /// Tables of four channels from `o` on.
    ///
    /// # Safety
    /// There are as many: every table has at least `o + 4` entries.
    #[inline(always)]
    pub unsafe fn tables_of_four(&self, o: usize) -> Tables {
        // SAFETY: the caller's promise.
        unsafe {
            let bias = self.q.bias.as_ptr().wrapping_add(o).cast::<[i32; 4]>();
            let multiplier = self.q.multiplier.as_ptr().wrapping_add(o).cast::<[i32; 4]>();
            self.load(&*bias, &*multiplier, *self.q.shift.as_ptr().wrapping_add(o).cast::<[u8; 4]>())
        }
    }

    /// Tables of four channels from `o` on; zero where there are no more.
    #[inline(always)]
    pub fn tables(&self, o: usize) -> Tables {
        let bias = self.q.bias.get(o..).unwrap_or(&[]);
        let multiplier = self.q.multiplier.get(o..).unwrap_or(&[]);
        let shift = self.q.shift.get(o..).unwrap_or(&[]);
        if let (Some(bias), Some(multiplier), Some(shift)) =
            (bias.first_chunk::<4>(), multiplier.first_chunk::<4>(), shift.first_chunk::<4>())
        {
            return self.load(bias, multiplier, *shift);
        }
        self.last(bias, multiplier, shift)
    }

    #[inline(never)]
    fn last(&self, bias: &[i32], multiplier: &[i32], shift: &[u8]) -> Tables {
        let (mut biases, mut multipliers, mut shifts) = ([0; 4], [0; 4], [33; 4]);
        biases.iter_mut().zip(bias).for_each(|(to, &from)| *to = from);
        multipliers.iter_mut().zip(multiplier).for_each(|(to, &from)| *to = from);
        shifts.iter_mut().zip(shift).for_each(|(to, &from)| *to = from);
        self.load(&biases, &multipliers, shifts)
    }

    #[inline(always)]
    fn load(&self, bias: &[i32; 4], multiplier: &[i32; 4], shift: [u8; 4]) -> Tables {
        // SAFETY: reads the four words of each array.
        unsafe {
            let shift = vmovl_u8(vcreate_u8(u32::from_le_bytes(shift).into()));
            let shift = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(shift)));
            Tables {
                bias: vld1q_s32(bias.as_ptr()),
                multiplier: vld1q_s32(multiplier.as_ptr()),
                shift: vsubq_s32(vdupq_n_s32(FRACTION + 31 - self.bits), shift),
            }
        }
    }

    /// Sixteen sums, bias included, to int8; every four with tables of their own.
    ///
    /// The doubling multiplication keeps the product without its lowest 31 bits, where shifts plus `bits` have no half.
    #[inline(always)]
    fn values(&self, mut sums: [int32x4_t; 4], tables: [Tables; 4]) -> int8x16_t {
        if self.bits != 0 {
            // SAFETY: vectors are part of this architecture.
            sums = sums.map(|sum| unsafe { vshlq_s32(sum, vdupq_n_s32(self.bits)) });
        }
        self.bytes.of(scale(sums, &tables))
    }

    /// As [`values`](Self::values); with `PLAIN`, [`is_plain`](Self::is_plain) holds.
    #[cfg(any(test, feature = "std"))]
    #[inline(always)]
    pub fn values_of<const PLAIN: bool>(&self, sums: [int32x4_t; 4], tables: &[Tables; 4]) -> int8x16_t {
        if PLAIN { self.bytes.saturated(scale(sums, tables)) } else { self.values(sums, *tables) }
    }

    /// Sums, bias excluded, of four channels at four places; stores the first `windows` and of each the first `count`.
    ///
    /// # Safety
    /// Every place has `count` readable and writable bytes.
    #[inline(always)]
    pub unsafe fn store_tile(
        &self,
        sums: [int32x4_t; 4],
        tables: Tables,
        place: *mut i8,
        step: usize,
        (windows, count): (usize, usize),
    ) {
        // SAFETY: vectors are part of this architecture.
        let sums = sums.map(|sum| unsafe { vaddq_s32(sum, tables.bias) });
        let values = self.values(sums, [tables; 4]);
        if windows == 4 && count == 4 {
            // SAFETY: four bytes at four places.
            unsafe { self.store_whole(values, place, step) }
        } else {
            // SAFETY: `count` bytes at `windows` places.
            unsafe { self.store_part(values, place, step, (windows, count)) }
        }
    }

    #[inline(always)]
    unsafe fn store_whole(&self, mut values: int8x16_t, place: *mut i8, step: usize) {
        let places: [*mut i32; 4] = core::array::from_fn(|i| place.wrapping_add(i * step).cast());
        // SAFETY: as above.
        unsafe {
            if let Some(addition) = &self.residual {
                let mut held = vdupq_n_s32(0);
                held = vsetq_lane_s32::<0>(places[0].read_unaligned(), held);
                held = vsetq_lane_s32::<1>(places[1].read_unaligned(), held);
                held = vsetq_lane_s32::<2>(places[2].read_unaligned(), held);
                held = vsetq_lane_s32::<3>(places[3].read_unaligned(), held);
                values = addition.of::<false>(values, vreinterpretq_s8_s32(held));
            }
            let words = vreinterpretq_s32_s8(values);
            places[0].write_unaligned(vgetq_lane_s32::<0>(words));
            places[1].write_unaligned(vgetq_lane_s32::<1>(words));
            places[2].write_unaligned(vgetq_lane_s32::<2>(words));
            places[3].write_unaligned(vgetq_lane_s32::<3>(words));
        }
    }

    #[inline(never)]
    unsafe fn store_part(&self, values: int8x16_t, place: *mut i8, step: usize, (windows, count): (usize, usize)) {
        // SAFETY: `count` bytes at `windows` places, which are at most four each.
        unsafe {
            let each = |bytes: &mut [[i8; 4]; 4], visit: fn(&mut i8, *mut i8)| {
                for (window, bytes) in bytes.iter_mut().enumerate().take(windows) {
                    for (channel, byte) in bytes.iter_mut().enumerate().take(count) {
                        visit(byte, place.wrapping_add(window * step + channel));
                    }
                }
            };
            let mut bytes = [[0i8; 4]; 4];
            let mut values = values;
            if let Some(addition) = &self.residual {
                each(&mut bytes, |byte, place| *byte = place.read());
                values = addition.of::<false>(values, vld1q_s8(bytes.as_ptr().cast()));
            }
            vst1q_s8(bytes.as_mut_ptr().cast(), values);
            each(&mut bytes, |byte, place| place.write(*byte));
        }
    }

    /// Sums, bias included, of eight channels at two places.
    ///
    /// # Safety
    /// Both places have eight readable and writable bytes.
    #[inline(always)]
    pub unsafe fn store_two(&self, [a, b]: [[int32x4_t; 2]; 2], tables: &[Tables; 2], places: [*mut i8; 2]) {
        let [low, high] = *tables;
        let mut values = self.values([a[0], a[1], b[0], b[1]], [low, high, low, high]);
        // SAFETY: as above.
        unsafe {
            if let Some(addition) = &self.residual {
                values = addition.of::<false>(values, vcombine_s8(vld1_s8(places[0]), vld1_s8(places[1])));
            }
            vst1_s8(places[0], vget_low_s8(values));
            vst1_s8(places[1], vget_high_s8(values));
        }
    }

    /// True if sums are not shifted left first, and nothing is clamped to less than int8, a residual addition included.
    #[cfg(any(test, feature = "std"))]
    pub fn is_plain(&self) -> bool {
        self.bits == 0
            && Bytes::is_whole(self.q.landing)
            && self.residual.as_ref().is_none_or(|addition| addition.is_plain)
    }

    /// Sums, bias included, of sixteen adjacent channels, or of the first eight, to their place.
    ///
    /// # Safety
    /// The place has as many readable and writable bytes.
    #[inline(always)]
    pub unsafe fn store_row<const LANES: usize>(&self, sums: [int32x4_t; 4], tables: &[Tables; 4], place: *mut i8) {
        let mut values = self.values(sums, *tables);
        // SAFETY: as above.
        unsafe {
            if let Some(addition) = &self.residual {
                values = addition.of::<false>(values, load::<LANES>(place));
            }
            if LANES == 16 { vst1q_s8(place, values) } else { vst1_s8(place, vget_low_s8(values)) }
        }
    }
}

/// Four vectors by one instruction; `from` moves on. There are three sets of registers that it may use, so that what was loaded need
/// not be moved before more is.
///
/// # Safety
/// There are 64 readable bytes.
#[inline(always)]
pub unsafe fn load_four<const SET: u8>(from: &mut *const i32) -> [int32x4_t; 4] {
    let [a, b, c, d]: [int32x4_t; 4];
    macro_rules! load {
        ($a:tt, $b:tt, $c:tt, $d:tt) => {
            asm!(
                concat!("ld1 {{", $a, ".4s-", $d, ".4s}}, [{from}], #64"),
                from = inout(reg) *from,
                out($a) a, out($b) b, out($c) c, out($d) d,
                options(readonly, nostack, preserves_flags)
            )
        };
    }
    // SAFETY: the caller's promise.
    unsafe {
        match SET {
            0 => load!("v0", "v1", "v2", "v3"),
            1 => load!("v4", "v5", "v6", "v7"),
            _ => load!("v16", "v17", "v18", "v19"),
        }
    }
    [a, b, c, d]
}

/// Sums times multipliers, shifted to [`FRACTION`]; every four with tables of their own.
#[inline(always)]
fn scale(mut sums: [int32x4_t; 4], tables: &[Tables; 4]) -> [int32x4_t; 4] {
    for (sum, tables) in sums.iter_mut().zip(tables) {
        // SAFETY: vectors are part of this architecture.
        *sum = unsafe { vqshlq_s32(vqdmulhq_s32(*sum, tables.multiplier), tables.shift) };
    }
    sums
}

/// Sixteen values, or eight and zeros.
///
/// # Safety
/// `from` has `LANES` readable bytes; `LANES` is 8 or 16.
#[inline(always)]
pub unsafe fn load<const LANES: usize>(from: *const i8) -> int8x16_t {
    // SAFETY: as above.
    unsafe { if LANES == 16 { vld1q_s8(from) } else { vcombine_s8(vld1_s8(from), vcreate_s8(0)) } }
}

/// [`Add`] in vectors.
pub struct Addition {
    a: int32x4_t,
    b: int32x4_t,
    offset: int32x4_t,
    /// Left shift to [`SUM_FRACTION`]; 0 if multipliers and offset are shifted.
    shift: int32x4_t,
    lo: int8x16_t,
    hi: int8x16_t,
    /// Whether multipliers are shifted and nothing is clamped to less than int8.
    #[cfg(any(test, feature = "std"))]
    is_plain: bool,
}

/// Fraction bits of sums before they are narrowed, at least as many as are shifted out.
const SUM_FRACTION: i32 = Add::MAX_SHIFT as i32;
/// Those that are left when the upper half is taken.
const LAST_OF_SUM: i32 = SUM_FRACTION - 16;

impl Addition {
    /// The parameters, in every lane.
    pub fn new(add: &Add) -> Self {
        let Add { a_multiplier, b_multiplier, offset, shift, lo, hi } = *add;
        let up = SUM_FRACTION - i32::from(shift & 31);
        let most = 128 * (i64::from(a_multiplier).abs() + i64::from(b_multiplier).abs()) + i64::from(offset).abs();
        let has_room = up >= 0 && most << up <= i64::from(i32::MAX);
        let (before, after) = if has_room { (up, 0) } else { (0, up) };
        // SAFETY: vectors are part of this architecture.
        unsafe {
            Self {
                a: vdupq_n_s32(a_multiplier << before),
                b: vdupq_n_s32(b_multiplier << before),
                offset: vdupq_n_s32(offset << before),
                shift: vdupq_n_s32(after),
                lo: vdupq_n_s8(lo),
                hi: vdupq_n_s8(hi),
                #[cfg(any(test, feature = "std"))]
                is_plain: has_room && (lo, hi) == (i8::MIN, i8::MAX),
            }
        }
    }

    /// Sixteen sums.
    #[inline(always)]
    pub fn of_bytes(&self, a: &[i8; 16], b: &[i8; 16]) -> [i8; 16] {
        // SAFETY: reads and writes the sixteen bytes of each array.
        unsafe {
            let mut output = [0; 16];
            vst1q_s8(output.as_mut_ptr(), self.of::<false>(vld1q_s8(a.as_ptr()), vld1q_s8(b.as_ptr())));
            output
        }
    }

    /// Sixteen sums; with `PLAIN`, multipliers are shifted and nothing is clamped to less than int8.
    #[inline(always)]
    pub fn of<const PLAIN: bool>(&self, a: int8x16_t, b: int8x16_t) -> int8x16_t {
        // SAFETY: vectors are part of this architecture.
        unsafe {
            let low = self.eight::<PLAIN>(vmovl_s8(vget_low_s8(a)), vmovl_s8(vget_low_s8(b)));
            let high = self.eight::<PLAIN>(vmovl_high_s8(a), vmovl_high_s8(b));
            let sums = vqshrn_high_n_s16::<LAST_OF_SUM>(vqshrn_n_s16::<LAST_OF_SUM>(low), high);
            if PLAIN { sums } else { vminq_s8(vmaxq_s8(sums, self.lo), self.hi) }
        }
    }

    #[inline(always)]
    fn eight<const PLAIN: bool>(&self, a: int16x8_t, b: int16x8_t) -> int16x8_t {
        // SAFETY: vectors are part of this architecture.
        unsafe {
            let low = self.four::<PLAIN>(vmovl_s16(vget_low_s16(a)), vmovl_s16(vget_low_s16(b)));
            let high = self.four::<PLAIN>(vmovl_high_s16(a), vmovl_high_s16(b));
            vuzp2q_s16(vreinterpretq_s16_s32(low), vreinterpretq_s16_s32(high))
        }
    }

    #[inline(always)]
    fn four<const PLAIN: bool>(&self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: vectors are part of this architecture.
        unsafe {
            let sum = vmlaq_s32(vmlaq_s32(self.offset, a, self.a), b, self.b);
            if PLAIN { sum } else { vqshlq_s32(sum, self.shift) }
        }
    }
}
