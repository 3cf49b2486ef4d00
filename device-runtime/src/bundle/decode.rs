//! Reads records as postcard stores them, faster and in less code than its deserializer: an inference decodes every step.
//!
//! `host-tools/docs/format.md` specifies the encoding. What postcard's own deserializer refuses is refused here too, and the
//! tests compare the two.

use super::operators::built;
use super::records::{Block, ChannelTables, Meta, Op, Plan, Quant, Step};
use crate::kernels::{Add, Attention, Conv2d, Landing, Pool2d, Shape, Window};

/// A record of a bundle.
pub(super) trait Record<'a>: Sized {
    /// Reads the fields in order; [`Reader::finish`] tells whether they were all there.
    fn read(reader: &mut Reader<'a>) -> Self;
}

/// Decodes the record at the start of `bytes`; what follows it is ignored. `None` if it is cut off or a field is out of range.
pub(super) fn decode<'a, T: Record<'a>>(bytes: &'a [u8]) -> Option<T> {
    let mut reader = Reader::new(bytes);
    let record = T::read(&mut reader);
    reader.finish(record)
}

/// [`decode`] of a step to a place that exists. Returns false, with anything in `step`, where that gives `None`.
#[inline(always)]
pub(super) fn decode_into(bytes: &[u8], step: &mut Step) -> bool {
    let mut reader = Reader::new(bytes);
    reader.step(step);
    !reader.is_faulty
}

/// Reads fields one after the other. After a fault it reads zeros; the fault shows at the end.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    is_faulty: bool,
}

impl<'a> Reader<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, is_faulty: false }
    }

    /// `record`, if nothing that was read for it was missing or out of range.
    pub fn finish<T>(&self, record: T) -> Option<T> {
        if self.is_faulty { None } else { Some(record) }
    }

    #[inline(never)]
    pub fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.rest.split_first() else { return self.fault() };
        self.rest = rest;
        byte
    }

    #[inline(always)]
    fn signed_byte(&mut self) -> i8 {
        self.byte() as i8
    }

    /// An unsigned number of at most 16 bits.
    #[inline(always)]
    pub fn short(&mut self) -> u16 {
        self.number(16) as u16
    }

    /// An unsigned number of at most 32 bits.
    #[inline(always)]
    pub fn word(&mut self) -> u32 {
        self.number(32)
    }

    /// An unsigned number of at most `bits` bits, 16 or 32: seven bits per byte, the lowest first.
    #[inline(never)]
    fn number(&mut self, bits: u32) -> u32 {
        // Most numbers have a byte or two, which always fit.
        let (number, rest) = match *self.rest {
            [low @ 0..0x80, ref rest @ ..] => (low.into(), rest),
            [low, high @ 0..0x80, ref rest @ ..] => (two_bytes(low, high), rest),
            _ => return self.long_number(bits),
        };
        self.rest = rest;
        number
    }

    /// [`number`](Self::number) of any length.
    #[inline(never)]
    fn long_number(&mut self, bits: u32) -> u32 {
        let mut bytes = self.rest.iter();
        let (mut value, mut shift) = (0, 0);
        while let Some(&byte) = bytes.next() {
            value |= u32::from(byte & 0x7F) << (shift & 31);
            if byte < 0x80 && (shift + 7 <= bits || byte >> ((bits - shift) & 7) == 0) {
                self.rest = bytes.as_slice();
                return value;
            }
            shift += 7;
            if byte < 0x80 || shift > bits {
                break;
            }
        }
        self.fault().into()
    }

    /// An unsigned number of at most 64 bits.
    #[inline(never)]
    fn long(&mut self) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte();
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return if shift == 63 && byte > 1 { self.fault().into() } else { value };
            }
        }
        self.fault().into()
    }

    /// A signed number of at most 32 bits: the sign in the lowest bit.
    #[inline(never)]
    fn signed(&mut self) -> i32 {
        let value = self.word();
        (value >> 1) as i32 ^ -((value & 1) as i32)
    }

    fn float(&mut self) -> f32 {
        let Some((&bytes, rest)) = self.rest.split_first_chunk() else { return self.fault().into() };
        self.rest = rest;
        f32::from_le_bytes(bytes)
    }

    /// Bytes behind their count.
    #[inline(never)]
    pub fn bytes(&mut self) -> &'a [u8] {
        let len = self.word() as usize;
        let Some((bytes, rest)) = self.rest.split_at_checked(len) else {
            self.fault();
            return &[];
        };
        self.rest = rest;
        bytes
    }

    fn text(&mut self) -> &'a str {
        core::str::from_utf8(self.bytes()).unwrap_or_else(|_| {
            self.fault();
            ""
        })
    }

    #[inline(always)]
    fn pair(&mut self) -> [u8; 2] {
        let Some((&pair, rest)) = self.rest.split_first_chunk() else { return [self.fault(); 2] };
        self.rest = rest;
        pair
    }

    /// True if a value follows.
    fn option(&mut self) -> bool {
        match self.byte() {
            0 => false,
            1 => true,
            _ => self.fault() != 0,
        }
    }

    #[cold]
    #[inline(never)]
    fn fault(&mut self) -> u8 {
        self.rest = &[];
        self.is_faulty = true;
        0
    }

    #[inline(never)]
    fn shape(&mut self) -> Shape {
        // Most images have fewer than 128 rows and columns, and channels of a byte or two.
        let (shape, rest) = match *self.rest {
            [h @ 0..0x80, w @ 0..0x80, c @ 0..0x80, ref rest @ ..] => (Shape::new(h.into(), w.into(), c.into()), rest),
            [h @ 0..0x80, w @ 0..0x80, low, high @ 0..0x80, ref rest @ ..] => {
                (Shape::new(h.into(), w.into(), two_bytes(low, high) as u16), rest)
            }
            _ => return Shape::new(self.short(), self.short(), self.short()),
        };
        self.rest = rest;
        shape
    }

    #[inline(never)]
    fn window(&mut self) -> Window {
        let Some((&[a, b, c, d, e, f, g, h], rest)) = self.rest.split_first_chunk() else {
            self.fault();
            return Window::POINT;
        };
        self.rest = rest;
        Window { kernel: [a, b], stride: [c, d], pad: [e, f], dilation: [g, h] }
    }

    fn quant(&mut self) -> Quant {
        Quant { scale: self.float(), zero_point: self.signed_byte() }
    }

    #[inline(never)]
    fn landing(&mut self) -> Landing {
        let Some((bytes, rest)) = self.rest.split_first_chunk() else {
            self.fault();
            return Landing { zero_point: 0, lo: 0, hi: 0 };
        };
        self.rest = rest;
        let [zero_point, lo, hi] = bytes.map(|byte| byte as i8);
        Landing { zero_point, lo, hi }
    }

    #[inline(always)]
    fn conv(&mut self) -> Conv2d {
        Conv2d {
            input: self.shape(),
            output: self.shape(),
            window: self.window(),
            groups: self.short(),
            pad_value: self.signed_byte(),
        }
    }

    #[inline(never)]
    fn pool(&mut self) -> Pool2d {
        Pool2d { input: self.shape(), output: self.shape(), window: self.window() }
    }

    #[inline(always)]
    fn tables(&mut self) -> ChannelTables {
        ChannelTables { bias: self.word(), multiplier: self.word(), shift: self.word(), landing: self.landing() }
    }

    #[inline(never)]
    fn add(&mut self) -> Add {
        Add {
            a_multiplier: self.signed(),
            b_multiplier: self.signed(),
            offset: self.signed(),
            shift: self.byte(),
            lo: self.signed_byte(),
            hi: self.signed_byte(),
        }
    }

    fn triple(&mut self) -> [u16; 3] {
        [self.short(), self.short(), self.short()]
    }

    #[inline(never)]
    fn attention(&mut self) -> Attention {
        Attention {
            input: self.shape(),
            heads: self.short(),
            key_features: self.short(),
            value_features: self.short(),
            first: self.triple(),
            pitch: self.triple(),
            score_multiplier: self.word(),
            multiplier: self.signed(),
            shift: self.byte(),
            landing: self.landing(),
        }
    }

    #[inline(always)]
    fn step(&mut self, step: &mut Step) {
        step.inputs = self.pair();
        self.op(&mut step.op);
    }

    #[inline(never)]
    fn op(&mut self, op: &mut Op) {
        *op = match self.word() {
            kind @ 0..=1 if (kind == 0 && built::CONV2D) || (kind == 1 && built::DEPTHWISE) => {
                let (geometry, weights, tables) = (self.conv(), self.word(), self.tables());
                let residual = if self.option() { Some(self.add()) } else { None };
                match kind {
                    0 if built::CONV2D => Op::Conv2d { geometry, weights, tables, residual },
                    _ => Op::Depthwise { geometry, weights, tables, residual },
                }
            }
            2 if built::ADD => Op::Add { shape: self.shape(), add: self.add() },
            3 if built::MAXPOOL => Op::MaxPool(self.pool()),
            4 if built::AVGPOOL => Op::AvgPool {
                geometry: self.pool(),
                input_zero_point: self.signed_byte(),
                multiplier: self.signed(),
                shift: self.byte(),
                landing: self.landing(),
            },
            5 if built::LUT => Op::Lut { shape: self.shape(), table: self.word() },
            6 if built::SOFTMAX => Op::Softmax { shape: self.shape(), table: self.word() },
            7 if built::TRANSPOSE => {
                Op::Transpose { input: self.shape(), perm: [self.byte(), self.byte(), self.byte()] }
            }
            8 if built::LAYERNORM => Op::LayerNorm {
                shape: self.shape(),
                table: self.word(),
                epsilon: self.long(),
                shift: self.byte(),
                landing: self.landing(),
            },
            9 if built::ATTENTION => Op::Attention(self.attention()),
            10 if built::ADDCONSTANT => {
                Op::AddConstant { shape: self.shape(), add: self.add(), constants: self.word() }
            }
            11 if built::CONCAT => {
                Op::Concat { input: self.shape(), before: self.short(), after: self.short(), constants: self.word() }
            }
            12 if built::SLICE => Op::Slice { input: self.shape(), first: self.triple(), output: self.shape() },
            _ => {
                self.fault();
                Op::default()
            }
        };
    }
}

/// A number of two bytes, of which the first has the bit that more follow.
const fn two_bytes(low: u8, high: u8) -> u32 {
    (low & 0x7F) as u32 | (high as u32) << 7
}

impl<'a> Record<'a> for Meta<'a> {
    fn read(reader: &mut Reader<'a>) -> Self {
        Self {
            name: reader.text(),
            labels: reader.text(),
            input: reader.shape(),
            input_quant: reader.quant(),
            output: reader.shape(),
        }
    }
}

impl<'a> Record<'a> for Block<'a> {
    fn read(reader: &mut Reader<'a>) -> Self {
        Self {
            name: reader.text(),
            first_step: reader.short(),
            steps: reader.short(),
            input: reader.shape(),
            output: reader.shape(),
        }
    }
}

impl Record<'_> for Step {
    #[inline(always)]
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut step = Self::default();
        reader.step(&mut step);
        step
    }
}

impl<'a> Record<'a> for Plan<'a> {
    fn read(reader: &mut Reader<'a>) -> Self {
        Self {
            stitch: reader.word(),
            path: reader.text(),
            blocks: reader.bytes(),
            layout: reader.bytes(),
            input_offset: reader.word(),
            arena_bytes: reader.word(),
            arena_lower_bound_bytes: reader.word(),
            macs: reader.long(),
            params: reader.long(),
            cost: reader.long(),
            accuracy_ppm: reader.word(),
            float_accuracy_ppm: reader.word(),
            output_quant: reader.quant(),
            fast_bytes: 0,
        }
    }
}

#[cfg(test)]
mod tests;
