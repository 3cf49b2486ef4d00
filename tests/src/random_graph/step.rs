//! Drawing one step after the other, each from a seed of its own and the shape it meets.

use stitchkit_runtime::bundle::Op;
use stitchkit_runtime::kernels::{Add, Attention, Conv2d, Landing, Pool2d, Shape, Window};

use crate::Rng;
use crate::builder::Builder;
use crate::style::Style;

/// Most multiply-accumulates of a step, so that a thousand graphs take seconds.
const MOST_MACS: u64 = 60_000;

/// Whether steps may change the shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extents {
    /// They keep it.
    Kept,
    /// They may.
    Free,
}

/// Channel counts around the widths of vectors, and small ones.
pub fn channels(rng: &mut Rng) -> u16 {
    const WIDTHS: [u16; 12] = [4, 8, 12, 15, 16, 17, 20, 24, 31, 32, 33, 40];
    match rng.up_to(2) {
        1 => rng.up_to(9),
        _ => WIDTHS[usize::from(rng.up_to(12)) - 1],
    }
}

/// A block under construction.
pub struct Drawing<'a> {
    builder: &'a mut Builder,
    extents: Extents,
    steps: Vec<([u8; 2], Op)>,
    /// Shape of every value, the block's input first; `None` once a residual has overwritten it.
    values: Vec<Option<Shape>>,
}

impl<'a> Drawing<'a> {
    pub fn new(builder: &'a mut Builder, input: Shape, extents: Extents) -> Self {
        Self { builder, extents, steps: Vec::new(), values: vec![Some(input)] }
    }

    /// The steps, and the shape of the last output.
    pub fn finish(self) -> (Vec<([u8; 2], Op)>, Shape) {
        let shape = self.shape();
        (self.steps, shape)
    }

    fn now(&self) -> u8 {
        (self.values.len() - 1) as u8
    }

    /// Shape of the latest value, which nothing has overwritten.
    fn shape(&self) -> Shape {
        self.values.last().copied().flatten().unwrap_or(Shape::new(1, 1, 1))
    }

    fn push(&mut self, inputs: [u8; 2], op: Op) {
        self.values.push(Some(op.output()));
        self.steps.push((inputs, op));
    }

    /// Draws one operator, or two that belong together.
    pub fn step(&mut self, seed: u32) {
        let mut rng = Rng::new(seed);
        for _ in 0..4 {
            rng.next_u32();
        }
        let style = Style::any(&mut rng);
        self.builder.restyle(rng.next_u32(), style);
        let (now, shape) = (self.now(), self.shape());
        let kinds = if self.extents == Extents::Kept { 11 } else { 19 };
        let op = match rng.up_to(kinds) {
            1 | 2 => self.conv(&mut rng, shape, None),
            3 => self.depthwise(&mut rng, shape, None),
            4 => Op::Lut { shape, table: self.builder.lut_table() },
            5 => {
                let ratio = [0.0, 0.5, 0.9, 0.99, 1.0][usize::from(rng.up_to(5)) - 1];
                Op::Softmax { shape, table: self.builder.softmax_table(ratio) }
            }
            6 => return self.residual(&mut rng, Form::Conv),
            7 => return self.residual(&mut rng, Form::Depthwise),
            8 | 9 => return self.add(&mut rng),
            10 => self.builder.layer_norm(shape, landing(&mut rng)),
            11 => Op::AddConstant { shape, add: sum(&mut rng), constants: self.builder.values(shape.len()) },
            12 => {
                const PERMUTATIONS: [[u8; 3]; 5] = [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
                Op::Transpose { input: shape, perm: PERMUTATIONS[usize::from(rng.up_to(5)) - 1] }
            }
            13 => Op::MaxPool(pool(&mut rng, shape)),
            14 => Op::AvgPool {
                geometry: pool(&mut rng, shape),
                input_zero_point: edge(&mut rng),
                multiplier: (1 << 30) | (rng.next_u32() >> 2) as i32,
                shift: 29 + rng.up_to(6) as u8,
                landing: landing(&mut rng),
            },
            15 => {
                let output = Shape::new(rng.up_to(shape.h), rng.up_to(shape.w), shape.c);
                self.depthwise(&mut rng, output, None)
            }
            16 => attention(&mut rng, shape),
            17 => self.concat(&mut rng, shape),
            18 => {
                let output = Shape::new(rng.up_to(shape.h), rng.up_to(shape.w), rng.up_to(shape.c));
                let first = [shape.h - output.h, shape.w - output.w, shape.c - output.c];
                Op::Slice { input: shape, first: first.map(|most| rng.up_to(most + 1) - 1), output }
            }
            _ => {
                let (h, w) = (rng.up_to(shape.h), rng.up_to(shape.w));
                let most = (MOST_MACS / (u64::from(shape.c) * u64::from(h) * u64::from(w))).clamp(1, 64) as u16;
                let output = Shape::new(h, w, channels(&mut rng).min(most));
                self.conv(&mut rng, output, None)
            }
        };
        self.push([now, 0], op);
    }

    /// A sum with the latest older value of the same shape that is left, or with a convolution of this one.
    fn add(&mut self, rng: &mut Rng) {
        let (now, shape) = (self.now(), self.shape());
        let older = (0..now).rev().find(|&value| self.values[usize::from(value)] == Some(shape));
        let other = older.unwrap_or_else(|| {
            let conv = self.conv(rng, shape, None);
            self.push([now, 0], conv);
            self.now()
        });
        let inputs = if rng.up_to(2) == 1 { [now, other] } else { [other, now] };
        self.push(inputs, Op::Add { shape, add: sum(rng) });
    }

    /// Two convolutions, the second of which adds to the value before both, and overwrites it.
    fn residual(&mut self, rng: &mut Rng, form: Form) {
        let (now, shape) = (self.now(), self.shape());
        let first = self.conv(rng, shape, None);
        self.push([now, 0], first);
        let add = Some(sum(rng));
        let second = match form {
            Form::Conv => self.conv(rng, shape, add),
            Form::Depthwise => self.depthwise(rng, shape, add),
        };
        self.push([now + 1, now], second);
        self.values[usize::from(now)] = None;
    }

    /// A convolution of the latest value, of a single tap where it would take too long.
    fn conv(&mut self, rng: &mut Rng, output: Shape, residual: Option<Add>) -> Op {
        let input = self.shape();
        let groups: Vec<u16> =
            (1..=input.c).filter(|&g| input.c.is_multiple_of(g) && output.c.is_multiple_of(g)).collect();
        let groups = if rng.up_to(3) == 1 { groups[usize::from(rng.up_to(groups.len() as u16)) - 1] } else { 1 };
        let window = if rng.up_to(3) == 1 { Window::POINT } else { window(rng, input, output) };
        let conv = |window| Conv2d { input, output, window, groups, pad_value: 0 };
        let is_large = conv(window).taps() as u64 * output.elements() > MOST_MACS;
        let window = if is_large { Window { kernel: [1, 1], pad: [0, 0], ..window } } else { window };
        let window = reachable(window, input, output);
        let geometry = Conv2d { pad_value: edge(rng), ..conv(window) };
        self.builder.conv(geometry, landing(rng), residual)
    }

    /// Constant tokens around the positions, taken for tokens of a sequence.
    fn concat(&mut self, rng: &mut Rng, shape: Shape) -> Op {
        let input = Shape::new(1, shape.h * shape.w, shape.c);
        let (before, after) = (rng.up_to(3) - 1, rng.up_to(3) - 1);
        let constants = self.builder.values(usize::from(before + after) * usize::from(shape.c));
        Op::Concat { input, before, after, constants }
    }

    fn depthwise(&mut self, rng: &mut Rng, output: Shape, residual: Option<Add>) -> Op {
        let input = self.shape();
        let window = reachable(window(rng, input, output), input, output);
        let geometry = Conv2d { input, output, window, groups: input.c, pad_value: edge(rng) };
        self.builder.depthwise(geometry, landing(rng), residual)
    }
}

/// Attention whose queries, keys and values may lie anywhere in the channels, also over each other.
fn attention(rng: &mut Rng, input: Shape) -> Op {
    let features = [rng.up_to(input.c.min(24)), rng.up_to(input.c.min(24))];
    let heads = if input.positions() > 40 { 1 } else { rng.up_to(3) };
    let mut place = |features: u16| {
        let room = input.c - features;
        let pitch = if heads == 1 { 0 } else { rng.up_to(room / (heads - 1) + 1) - 1 };
        (rng.up_to(room - pitch * (heads - 1) + 1) - 1, pitch)
    };
    let parts = [place(features[0]), place(features[0]), place(features[1])];
    Op::Attention(Attention {
        input,
        heads,
        key_features: features[0],
        value_features: features[1],
        first: parts.map(|(first, _)| first),
        pitch: parts.map(|(_, pitch)| pitch),
        score_multiplier: rng.next_u32() >> 14,
        multiplier: 1 << 30,
        shift: 30,
        landing: landing(rng),
    })
}

enum Form {
    Conv,
    Depthwise,
}

/// Any value; both ends of int8 and zero are frequent.
fn edge(rng: &mut Rng) -> i8 {
    let random = rng.next_i8();
    match rng.up_to(6) {
        1 => -128,
        2 => 127,
        3 => 0,
        4 => -127,
        _ => random,
    }
}

fn landing(rng: &mut Rng) -> Landing {
    let zero_point = edge(rng);
    let (a, b) = (edge(rng), edge(rng));
    match rng.up_to(6) {
        1 => Landing { zero_point, lo: a.min(b), hi: a.max(b) },
        2 | 3 => Landing { zero_point, lo: zero_point, hi: 127 },
        _ => Landing { zero_point, lo: -128, hi: 127 },
    }
}

fn sum(rng: &mut Rng) -> Add {
    let Landing { lo, hi, .. } = landing(rng);
    let multiplier = |rng: &mut Rng| (1 << 13) + (rng.next_u32() >> 18) as i32;
    let (a, b) = (multiplier(rng), multiplier(rng));
    let typical = Add { a_multiplier: a, b_multiplier: b, offset: 1 << 14, shift: 15, lo, hi };
    match rng.up_to(6) {
        1 => Add { a_multiplier: -a, ..typical },
        2 => Add { a_multiplier: Add::MAX_MULTIPLIER, b_multiplier: -Add::MAX_MULTIPLIER, ..typical },
        3 => Add { shift: 1 + rng.up_to(u16::from(Add::MAX_SHIFT) - 1) as u8, ..typical },
        4 => Add { offset: [Add::MAX_OFFSET, -Add::MAX_OFFSET][usize::from(rng.up_to(2)) - 1], ..typical },
        5 => Add { a_multiplier: 1, b_multiplier: 1, offset: 1, shift: 1, lo, hi },
        _ => typical,
    }
}

fn pool(rng: &mut Rng, input: Shape) -> Pool2d {
    if rng.up_to(4) == 1 {
        let window = Window { kernel: [input.h as u8, input.w as u8], ..Window::POINT };
        return Pool2d { input, output: Shape::new(1, 1, input.c), window };
    }
    let output = Shape::new(rng.up_to(input.h), rng.up_to(input.w), input.c);
    let window = Window { dilation: [1, 1], ..window(rng, input, output) };
    Pool2d { input, output, window }
}

/// A window over any part of the padded input.
fn window(rng: &mut Rng, input: Shape, output: Shape) -> Window {
    let kernel = [rng.up_to(5) as u8, rng.up_to(5) as u8];
    let kernel = if rng.up_to(3) == 1 { [3, 3] } else { kernel };
    let pad = kernel.map(|k| (rng.next_u32() >> 16) as u8 % (k + 1));
    let stride = [rng.up_to(3) as u8, rng.up_to(3) as u8];
    let dilation = if rng.up_to(3) == 1 { [rng.up_to(3) as u8, rng.up_to(3) as u8] } else { [1, 1] };
    reachable(Window { kernel, stride, pad, dilation }, input, output)
}

/// The window with strides that keep the first tap of the last output inside the padded input, as the format asks.
fn reachable(window: Window, input: Shape, output: Shape) -> Window {
    let most = |input: u16, output: u16, pad: u8| match output {
        0 | 1 => 3,
        _ => (input + u16::from(pad) - 1) / (output - 1),
    };
    let [rows, columns] = [most(input.h, output.h, window.pad[0]), most(input.w, output.w, window.pad[1])];
    let fit = |stride: u8, most: u16| u16::from(stride).min(most).max(1) as u8;
    Window { stride: [fit(window.stride[0], rows), fit(window.stride[1], columns)], ..window }
}
