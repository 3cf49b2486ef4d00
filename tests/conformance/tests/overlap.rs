//! Outputs over inputs: at every distance between both that a bundle may have, every kernel set gives the bytes of tensors apart,
//! and a distance that would overwrite what is still read is refused.

use stitchkit_runtime::bundle::{AlignedBytes, Bundle, BundleError, Clearance, Op, PlanFault};
use stitchkit_runtime::kernels::{Conv2d, Isa, Pool2d, Shape, Window};
use stitchkit_tests::builder::{Builder, RECTIFIED, SIGNED, infer, window};

type Make = fn(&mut Builder) -> Op;

const IMAGE: Shape = Shape::new(7, 5, 4);

fn conv(b: &mut Builder, output: Shape, window: Window) -> Op {
    b.conv(Conv2d { input: IMAGE, output, window, groups: 1, pad_value: 3 }, SIGNED, None)
}

const OPERATORS: [(&str, Make); 9] = [
    ("3x3", |b| conv(b, IMAGE, window(3, 1, 1))),
    ("3x3 to more channels, stride 2", |b| conv(b, Shape::new(4, 3, 9), window(3, 2, 1))),
    ("1x1 to more channels", |b| conv(b, Shape { c: 11, ..IMAGE }, Window::POINT)),
    ("1x1 to fewer channels", |b| conv(b, Shape { c: 3, ..IMAGE }, Window::POINT)),
    ("5x1 without padding", |b| conv(b, Shape::new(3, 5, 4), Window { kernel: [5, 1], ..Window::POINT })),
    ("depthwise 3x3", |b| {
        let geometry = Conv2d { input: IMAGE, output: IMAGE, window: window(3, 1, 1), groups: 4, pad_value: -128 };
        b.depthwise(geometry, RECTIFIED, None)
    }),
    ("pool of 2x2", |_| Op::MaxPool(Pool2d { input: IMAGE, output: Shape::new(6, 4, 4), window: window(2, 1, 0) })),
    ("layer norm", |b| b.layer_norm(IMAGE, SIGNED)),
    ("softmax", |b| Op::Softmax { shape: IMAGE, table: b.softmax_table(0.98) }),
];

/// A bundle of one step whose output starts `behind` bytes behind its input, or before it.
fn bundle(make: Make, behind: Option<isize>) -> Result<Vec<u8>, BundleError> {
    let mut b = Builder::new("overlap", IMAGE, IMAGE, 9);
    let op = make(&mut b);
    b.parts_mut().output = op.output();
    let block = b.block("one", IMAGE, vec![([0, 0], op)]);
    b.plan("one", &[block]);
    if let Some(behind) = behind {
        let plan = &mut b.parts_mut().plans[0];
        let (input, scratch) = (1024usize, 2048usize);
        plan.input_offset = input as u32;
        plan.layout[0].output = input.saturating_add_signed(behind) as u32;
        plan.layout[0].scratch = scratch as u32;
        plan.arena_bytes = (scratch + op.scratch_bytes()) as u32;
        plan.arena_lower_bound_bytes = 0;
    }
    b.finish(0)
}

fn run(file: &[u8], isa: Isa, input: &[i8]) -> Vec<i8> {
    let bytes = AlignedBytes::copy_of(file);
    infer(&Bundle::parse(bytes.as_slice()).expect("the writer checked it"), 0, isa, input)
}

#[test]
fn a_distance_is_refused_or_gives_the_bytes_of_tensors_apart() {
    let input = stitchkit_tests::Rng::new(2).vector(IMAGE.len());
    for (name, make) in OPERATORS {
        let op = make(&mut Builder::new("", IMAGE, IMAGE, 9));
        let Clearance { before_bytes, after_bytes } = op.least_clearance().expect("it may overlap");
        let want = run(&bundle(make, None).expect("apart"), Isa::Reference, &input);
        let (written, read) = (op.output().len() as isize, IMAGE.len() as isize);
        for behind in -written..=read {
            let is_clear = -behind >= before_bytes as isize || behind >= after_bytes as isize;
            match bundle(make, Some(behind)) {
                Ok(file) => {
                    assert!(is_clear, "{name}, {behind} bytes behind its input");
                    for &isa in Isa::available() {
                        assert_eq!(run(&file, isa, &input), want, "{name}, {behind} behind, {}", isa.name());
                    }
                }
                Err(error) => {
                    assert!(!is_clear, "{name}, {behind} bytes behind its input: {error}");
                    assert_eq!(error, BundleError::Plan { index: 0, fault: PlanFault::Overlap });
                }
            }
        }
        assert!(before_bytes < written as usize || after_bytes < read as usize, "{name} never overlaps");
    }
}
