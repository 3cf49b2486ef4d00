//! Convolutions and fully connected layers of every geometry, with and without what is fused into them.

use super::{Draft, Random, check_graph, weights};
use crate::graph::{Conv, Dense, Graph, Op, ValueId, Window};

fn random_window(random: &mut Random) -> Window {
    let mut pair = |n: usize| [1 + random.below(n), 1 + random.below(n)];
    let (kernel, stride, dilation) = (pair(3), pair(3), pair(2));
    let mut pads = || random.below(3);
    Window { kernel, stride, dilation, pad: [pads(), pads(), pads(), pads()] }
}

fn extents(window: &Window, input: [usize; 2]) -> Option<[usize; 2]> {
    let extent = |axis: usize| {
        let reach = (window.kernel[axis] - 1) * window.dilation[axis] + 1;
        let padded = input[axis] + window.pad[axis] + window.pad[axis + 2];
        Some(padded.checked_sub(reach)? / window.stride[axis] + 1)
    };
    Some([extent(0)?, extent(1)?])
}

/// A convolution of a random geometry; `with_tail` adds a shortcut around it and a clamp far from the values' usual range.
fn conv_graph(random: &mut Random, with_tail: bool) -> (Graph, String) {
    loop {
        let window = random_window(random);
        let map = [1 + random.below(9), 1 + random.below(19)];
        let Some(out) = extents(&window, map) else { continue };
        let (groups, part, out_part) =
            [(1, 5, 4), (1, 1, 1), (2, 3, 5), (6, 1, 1), (4, 1, 2), (1, 17, 33), (1, 3, 16), (19, 1, 1)]
                [random.below(8)];
        let (depth, width) = (groups * part, groups * out_part);
        let shape = [map[0], map[1], depth];
        let (mut draft, x) = Draft::new(&shape);
        let taps = window.kernel[0] * window.kernel[1];
        let scale = 1.0 / ((taps * part) as f32).sqrt();
        let conv = |random: &mut Random| {
            Op::Conv(Conv {
                window,
                groups,
                out_channels: width,
                weights: weights(random, width * taps * part, scale),
                bias: weights(random, width, 1.0),
            })
        };
        let shape = [out[0], out[1], width];
        let y = draft.push(conv(random), &[x], &shape);
        if with_tail {
            let other = draft.push(conv(random), &[x], &shape);
            let sum = draft.push(Op::Add, &[y, other], &shape);
            draft.push(Op::Clip { lo: -100.0, hi: 90.0 }, &[sum], &shape);
        }
        return (draft.graph, format!("{window:?} {map:?} {depth}->{width} groups {groups}"));
    }
}

#[test]
fn convolutions_of_any_geometry_have_the_gradients_of_their_differences() {
    let mut random = Random(7);
    for case in 0..120 {
        let (graph, what) = conv_graph(&mut random, case % 3 == 0);
        let count = (1 + random.below(4)) * graph.elements(ValueId::INPUT);
        let input = random.values(count);
        check_graph(&what, &graph, input, 0.25);
    }
}

#[test]
fn usual_convolutions_fill_whole_tiles() {
    for (map, depth, width, kernel, stride) in [
        (32, 16, 16, 3, 1),
        (16, 32, 32, 3, 2),
        (8, 64, 64, 3, 1),
        (16, 3, 48, 4, 4),
        (16, 16, 32, 1, 2),
        (9, 24, 40, 1, 1),
    ] {
        let mut random = Random(kernel as u64);
        let (mut draft, x) = Draft::new(&[map, map, depth]);
        let window =
            Window { kernel: [kernel; 2], stride: [stride; 2], pad: [kernel % 2 * (kernel / 2); 4], dilation: [1, 1] };
        let [rows, columns] = extents(&window, [map, map]).unwrap();
        let scale = 1.0 / ((kernel * kernel * depth) as f32).sqrt();
        let conv = Conv {
            window,
            groups: 1,
            out_channels: width,
            weights: weights(&mut random, width * kernel * kernel * depth, scale),
            bias: weights(&mut random, width, 1.0),
        };
        draft.push(Op::Conv(conv), &[x], &[rows, columns, width]);
        let input = random.values(3 * map * map * depth);
        check_graph(&format!("{map} {depth}->{width} k{kernel} s{stride}"), &draft.graph, input, 0.25);
    }
}

#[test]
fn a_fused_clamp_stops_gradients_at_its_bounds() {
    // Outputs are 1, -1, 3 and 9 for one channel each: below, inside and above 0 ..= 6.
    let (mut draft, x) = Draft::new(&[1]);
    let dense = Dense { out_features: 4, weights: vec![1.0, -1.0, 3.0, 9.0].into(), bias: vec![0.0; 4].into() };
    let y = draft.push(Op::Dense(dense), &[x], &[4]);
    draft.push(Op::Clip { lo: 0.0, hi: 6.0 }, &[y], &[4]);
    check_graph("clamp", &draft.graph, vec![1.0], 0.01);
}

#[test]
fn dense_layers_take_in_sums_and_clamps() {
    let mut random = Random(5);
    for (rows, depth, width) in [(1, 7, 5), (9, 33, 17), (4, 16, 16)] {
        let (mut draft, x) = Draft::new(&[rows, depth]);
        let mut dense = |draft: &mut Draft, from: ValueId, depth: usize, width: usize| {
            let scale = 1.0 / (depth as f32).sqrt();
            let op = Dense {
                out_features: width,
                weights: weights(&mut random, width * depth, scale),
                bias: weights(&mut random, width, 1.0),
            };
            draft.push(Op::Dense(op), &[from], &[rows, width])
        };
        let hidden = dense(&mut draft, x, depth, width);
        let back = dense(&mut draft, hidden, width, depth);
        let sum = draft.push(Op::Add, &[x, back], &[rows, depth]);
        let sum = draft.push(Op::Clip { lo: -50.0, hi: 50.0 }, &[sum], &[rows, depth]);
        let twice = draft.push(Op::Add, &[sum, sum], &[rows, depth]);
        draft.push(Op::Reshape, &[twice], &[depth * rows]);
        let input = random.values(5 * rows * depth);
        check_graph(&format!("{rows} {depth} {width}"), &draft.graph, input, 0.25);
    }
}
