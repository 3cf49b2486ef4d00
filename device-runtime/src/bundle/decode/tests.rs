//! The decoder beside postcard's own.

use std::format;
use std::vec::Vec;

use proptest::prelude::*;
use serde::Serialize;

use super::*;

/// Of one, two and three bytes each.
fn shapes() -> impl Strategy<Value = Shape> {
    let extents = prop_oneof![0..0x80u16, 0x80..0x4000u16, any::<u16>()];
    prop::array::uniform3(extents).prop_map(|[h, w, c]| Shape::new(h, w, c))
}

fn windows() -> impl Strategy<Value = Window> {
    any::<[[u8; 2]; 4]>().prop_map(|[kernel, stride, pad, dilation]| Window { kernel, stride, pad, dilation })
}

fn convolutions() -> impl Strategy<Value = Conv2d> {
    (shapes(), shapes(), windows(), any::<(u16, i8)>())
        .prop_map(|(input, output, window, (groups, pad_value))| Conv2d { input, output, window, groups, pad_value })
}

fn landings() -> impl Strategy<Value = Landing> {
    any::<[i8; 3]>().prop_map(|[zero_point, lo, hi]| Landing { zero_point, lo, hi })
}

fn additions() -> impl Strategy<Value = Add> {
    any::<([i32; 3], u8, [i8; 2])>().prop_map(|([a_multiplier, b_multiplier, offset], shift, [lo, hi])| Add {
        a_multiplier,
        b_multiplier,
        offset,
        shift,
        lo,
        hi,
    })
}

fn ops() -> impl Strategy<Value = Op> {
    let tables = (any::<[u32; 3]>(), landings()).prop_map(|([bias, multiplier, shift], landing)| ChannelTables {
        bias,
        multiplier,
        shift,
        landing,
    });
    let layers = (any::<(bool, u32)>(), convolutions(), tables, prop::option::of(additions())).prop_map(
        |((is_depthwise, weights), geometry, tables, residual)| match is_depthwise {
            true => Op::Depthwise { geometry, weights, tables, residual },
            false => Op::Conv2d { geometry, weights, tables, residual },
        },
    );
    let pools = || (shapes(), shapes(), windows()).prop_map(|(input, output, window)| Pool2d { input, output, window });
    let means = (pools(), any::<(i8, i32, u8)>(), landings()).prop_map(
        |(geometry, (input_zero_point, multiplier, shift), landing)| Op::AvgPool {
            geometry,
            input_zero_point,
            multiplier,
            shift,
            landing,
        },
    );
    let norms = (shapes(), any::<(u32, u64, u8)>(), landings())
        .prop_map(|(shape, (table, epsilon, shift), landing)| Op::LayerNorm { shape, table, epsilon, shift, landing });
    let attentions = (shapes(), any::<[[u16; 3]; 3]>(), any::<(u32, i32, u8)>(), landings()).prop_map(
        |(
            input,
            [[heads, key_features, value_features], first, pitch],
            (score_multiplier, multiplier, shift),
            landing,
        )| {
            Op::Attention(Attention {
                input,
                heads,
                key_features,
                value_features,
                first,
                pitch,
                score_multiplier,
                multiplier,
                shift,
                landing,
            })
        },
    );
    let joins = (shapes(), any::<(u16, u16, u32)>());
    let joins = joins.prop_map(|(input, (before, after, constants))| Op::Concat { input, before, after, constants });
    prop_oneof![
        layers,
        norms,
        attentions,
        joins,
        (shapes(), additions(), any::<u32>()).prop_map(|(shape, add, constants)| Op::AddConstant {
            shape,
            add,
            constants
        }),
        (shapes(), any::<[u16; 3]>(), shapes()).prop_map(|(input, first, output)| Op::Slice { input, first, output }),
        means,
        pools().prop_map(Op::MaxPool),
        (shapes(), additions()).prop_map(|(shape, add)| Op::Add { shape, add }),
        (shapes(), any::<u32>()).prop_map(|(shape, table)| Op::Lut { shape, table }),
        (shapes(), any::<u32>()).prop_map(|(shape, table)| Op::Softmax { shape, table }),
        (shapes(), any::<[u8; 3]>()).prop_map(|(input, perm)| Op::Transpose { input, perm }),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    (any::<[u8; 2]>(), ops()).prop_map(|(inputs, op)| Step { inputs, op })
}

fn bytes_of<T: Serialize>(record: &T) -> Vec<u8> {
    postcard::to_stdvec(record).expect("serializes")
}

/// Both decoders say the same about `bytes`, as text so that values that are not numbers compare.
fn agree<'a, T: Record<'a> + serde::Deserialize<'a> + std::fmt::Debug>(bytes: &'a [u8]) -> bool {
    format!("{:?}", decode::<T>(bytes)) == format!("{:?}", postcard::from_bytes::<T>(bytes).ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn steps_come_back(step in steps()) {
        prop_assert_eq!(decode(&bytes_of(&step)), Some(step));
    }

    #[test]
    fn blocks_and_plans_come_back(
        name in ".{0,20}", numbers in any::<([u16; 2], [u32; 6], [u64; 3], f32)>(), shape in shapes(),
        bytes in prop::collection::vec(any::<u8>(), 0..200)
    ) {
        let (shorts, words, longs, scale) = numbers;
        let name = name.as_str();
        let [first_step, steps] = shorts;
        let block = Block { name, first_step, steps, input: shape, output: shape };
        let stored = bytes_of(&block);
        prop_assert_eq!(decode(&stored), Some(block));
        let [stitch, input_offset, arena_bytes, arena_lower_bound_bytes, accuracy_ppm, float_accuracy_ppm] = words;
        let [macs, params, cost] = longs;
        let output_quant = Quant { scale: if scale.is_nan() { 1.0 } else { scale }, zero_point: -3 };
        let plan = Plan {
            stitch, path: name, blocks: &bytes, layout: &bytes, input_offset, arena_bytes,
            arena_lower_bound_bytes, macs, params, cost, accuracy_ppm, float_accuracy_ppm, output_quant,
            fast_bytes: 0,
        };
        let stored = bytes_of(&plan);
        prop_assert_eq!(decode(&stored), Some(plan));
        let meta = Meta { name, labels: name, input: shape, input_quant: output_quant, output: shape };
        let stored = bytes_of(&meta);
        prop_assert_eq!(decode(&stored), Some(meta));
    }

    #[test]
    fn damaged_records_are_read_as_postcard_reads_them(
        step in steps(), changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..4),
        end in any::<prop::sample::Index>(), cut in any::<bool>()
    ) {
        let mut bytes = bytes_of(&step);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        prop_assert!(agree::<Step>(&bytes), "{bytes:?}");
    }

    #[test]
    fn any_bytes_are_read_as_postcard_reads_them(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        prop_assert!(agree::<Step>(&bytes) && agree::<Block<'_>>(&bytes));
        prop_assert!(agree::<Plan<'_>>(&bytes) && agree::<Meta<'_>>(&bytes));
    }

    #[test]
    fn shapes_of_any_bytes_are_read_as_postcard_reads_them(bytes in prop::collection::vec(any::<u8>(), 0..8)) {
        let mut reader = Reader::new(&bytes);
        let shape = reader.shape();
        let left = reader.finish(shape).map(|shape| (shape, reader.rest));
        prop_assert_eq!(left, postcard::take_from_bytes(&bytes).ok());
    }

    #[test]
    fn numbers_of_every_length_are_read_as_postcard_reads_them(bytes in prop::collection::vec(127u8..=255, 0..14)) {
        let word = |bytes: &[u8]| { let mut r = Reader::new(bytes); let word = r.word(); r.finish(word) };
        let long = |bytes: &[u8]| { let mut r = Reader::new(bytes); let long = r.long(); r.finish(long) };
        let short = |bytes: &[u8]| { let mut r = Reader::new(bytes); let short = r.short(); r.finish(short) };
        for last in 0..=127 {
            let bytes: Vec<u8> = bytes.iter().copied().chain([last]).collect();
            prop_assert_eq!(word(&bytes), postcard::from_bytes(&bytes).ok());
            prop_assert_eq!(long(&bytes), postcard::from_bytes(&bytes).ok());
            prop_assert_eq!(short(&bytes), postcard::from_bytes(&bytes).ok());
        }
    }
}
