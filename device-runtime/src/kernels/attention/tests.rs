use proptest::prelude::*;

use super::*;

const WIDE: Landing = Landing { zero_point: 0, lo: -128, hi: 127 };

/// Queries, keys and values in this order, each with all heads side by side.
fn packed(tokens: u16, heads: u16, key_features: u16, value_features: u16) -> Attention {
    let (keys, values) = (heads * key_features, heads * value_features);
    Attention {
        input: Shape::new(1, tokens, 2 * keys + values),
        heads,
        key_features,
        value_features,
        first: [0, keys, 2 * keys],
        pitch: [key_features, key_features, value_features],
        score_multiplier: 1 << 20,
        multiplier: 1 << 30,
        shift: 30,
        landing: WIDE,
    }
}

fn run(isa: Isa, p: &Attention, input: &[i8]) -> Vec<i8> {
    let mut words = vec![0x5a5a_5a5a_u32; p.scratch_bytes() / 4];
    let mut output = vec![99; p.output().len()];
    let scratch = bytemuck::cast_slice_mut(&mut words);
    assert_eq!(attention_s8(isa, p, input, scratch, &mut output), Ok(()), "{p:?}");
    output
}

#[test]
fn the_octave_is_the_rounded_power() {
    for (i, &entry) in OCTAVE.iter().enumerate() {
        assert_eq!(u32::from(entry), (32768.0 * (-(i as f64) / 256.0).exp2()).round() as u32, "{i}");
    }
}

#[test]
fn weights_halve_per_octave_and_end_at_zero() {
    // One unit per octave.
    let weight = Weight::new(1 << 28);
    let weights: Vec<u32> = (0..16).map(|below| weight.of(below)).collect();
    assert_eq!(weights[..4], [4096, 2048, 1024, 512]);
    assert_eq!(weights[12..], [1, 1, 0, 0]);
    assert_eq!(weight.of(u32::MAX), 0);
    assert_eq!(Weight::new(0).of(u32::MAX), 4096);
    assert_eq!(Weight::new(Attention::MAX_SCORE_MULTIPLIER).of(7), 0);
}

#[test]
fn a_single_token_attends_to_itself() {
    let p = packed(1, 2, 2, 3);
    for &isa in Isa::available() {
        assert_eq!(run(isa, &p, &[1, 2, 3, 4, 5, 6, 7, 8, 10, -20, 30, -128, 127, 0]), [10, -20, 30, -128, 127, 0]);
    }
}

#[test]
fn without_scores_every_value_counts_the_same() {
    let p = Attention { score_multiplier: 0, ..packed(3, 1, 1, 2) };
    let input = [127, 127, 3, 30, -128, 5, 6, -60, 0, -128, 0, 33];
    for &isa in Isa::available() {
        // (3 + 6 + 0) / 3 and (30 - 60 + 33) / 3.
        assert_eq!(run(isa, &p, &input), [3, 1, 3, 1, 3, 1], "{}", isa.name());
    }
}

#[test]
fn the_largest_sums_stay_inside_32_bits() {
    let p = Attention { score_multiplier: 0, ..packed(Attention::MAX_TOKENS as u16, 1, 1, 1) };
    let input = vec![-128; p.input.len()];
    assert!(run(Isa::best(), &p, &input).iter().all(|&y| y == -128));
}

#[test]
fn impossible_geometries_are_refused() {
    let p = packed(3, 2, 2, 3);
    let many = packed(Attention::MAX_TOKENS as u16 + 1, 1, 1, 1);
    let cases = [
        Attention { heads: 0, ..p },
        Attention { heads: 3, ..p },
        Attention { heads: u16::MAX, pitch: [0; 3], ..p },
        Attention { key_features: 0, ..p },
        Attention { value_features: 4, ..p },
        Attention { first: [0, 4, 9], ..p },
        Attention { pitch: [u16::MAX; 3], ..p },
        many,
    ];
    for p in cases {
        let mut words = vec![0u32; 1 << 15];
        let scratch = bytemuck::cast_slice_mut(&mut words);
        let done = attention_s8(Isa::best(), &p, &vec![0; p.input.len()], scratch, &mut [0; 18]);
        assert_eq!(done, Err(ShapeError::Geometry), "{p:?}");
    }
    let mut words = [0u32; 16];
    let scratch: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
    let call = |input: &[i8], scratch: &mut [u8], len: usize| {
        attention_s8(Isa::best(), &p, input, scratch, &mut [0; 32][..len])
    };
    assert_eq!(call(&[0; 42], scratch, 18), Ok(()));
    assert_eq!(call(&[0; 41], scratch, 18), Err(ShapeError::Input));
    assert_eq!(call(&[0; 42], scratch, 17), Err(ShapeError::Output));
    assert_eq!(call(&[0; 42], &mut scratch[4..], 18), Err(ShapeError::Scratch));
}

/// Real attention over the quantized operands.
fn real(p: &Attention, score_scale: f64, value_scale: f64, input: &[i8]) -> Vec<f64> {
    let channels = usize::from(p.input.c);
    let part = |part: usize, head: usize, token: usize, feature: usize| {
        f64::from(input[token * channels + p.channel(part, head) + feature])
    };
    let mut output = Vec::new();
    for query in 0..p.tokens() {
        for head in 0..usize::from(p.heads) {
            let score = |key: usize| -> f64 {
                (0..usize::from(p.key_features)).map(|f| part(0, head, query, f) * part(1, head, key, f)).sum()
            };
            let scores: Vec<f64> = (0..p.tokens()).map(|key| score(key) * score_scale).collect();
            let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - highest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for feature in 0..usize::from(p.value_features) {
                let mixed: f64 = weights.iter().enumerate().map(|(key, w)| w * part(2, head, key, feature)).sum();
                output.push((mixed / sum * value_scale).clamp(-128.0, 127.0));
            }
        }
    }
    output
}

/// Geometries with heads in either order, and their operands.
fn attentions() -> impl Strategy<Value = (Attention, Vec<i8>)> {
    let sizes = (1u16..40, 1u16..4, 1u16..40, 1u16..40, any::<bool>());
    sizes.prop_flat_map(|(tokens, heads, key_features, value_features, by_head)| {
        let mut p = packed(tokens, heads, key_features, value_features);
        if by_head {
            p.first = [0, key_features, 2 * key_features];
            p.pitch = [2 * key_features + value_features; 3];
        }
        let len = p.input.len();
        (Just(p), prop::collection::vec(any::<i8>(), len))
    })
}

/// Heads as networks have them, which fast variants rearrange.
fn whole_vectors() -> impl Strategy<Value = (Attention, Vec<i8>)> {
    (1u16..100, 1u16..=4, 1u16..=8).prop_flat_map(|(tokens, keys, values)| {
        let p = packed(tokens, 1, 16 * keys, 8 * values);
        let values = prop_oneof![3 => any::<i8>(), 1 => Just(-128)];
        (Just(p), prop::collection::vec(values, p.input.len()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_variant_equals_the_reference_in_whole_vectors(
        (p, input) in whole_vectors(),
        score_multiplier in 0u32..1 << 18,
        shift in 1..=Attention::MAX_SHIFT,
    ) {
        let p = Attention { score_multiplier, shift, ..p };
        let want = run(Isa::Reference, &p, &input);
        for &isa in Isa::available() {
            prop_assert_eq!(&run(isa, &p, &input), &want, "{}", isa.name());
        }
    }
}

#[test]
fn more_tokens_than_have_room_give_the_same() {
    for tokens in [255, 256, 257] {
        let p = Attention { score_multiplier: 1 << 14, ..packed(tokens, 1, 16, 8) };
        let input: Vec<i8> = (0..p.input.len()).map(|i| (i * i % 251) as u8 as i8).collect();
        let want = run(Isa::Reference, &p, &input);
        for &isa in Isa::available() {
            assert_eq!(run(isa, &p, &input), want, "{}, {tokens} tokens", isa.name());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn every_variant_equals_the_reference((p, input) in attentions(), score_multiplier in 0u32..1 << 24) {
        let p = Attention { score_multiplier, ..p };
        let want = run(Isa::Reference, &p, &input);
        for &isa in Isa::available() {
            prop_assert_eq!(&run(isa, &p, &input), &want, "{}", isa.name());
        }
    }

    #[test]
    fn the_result_is_within_two_quanta_of_real_attention(
        (p, input) in attentions(),
        score_scale in 1e-6f64..1e-3,
        value_scale in 0.6f64..1.4,
    ) {
        let score_multiplier = (score_scale * std::f64::consts::LOG2_E * f64::from(1 << 28)).round() as u32;
        let multiplier = (value_scale / 2.0 * f64::from(1u32 << 31)) as i32;
        let p = Attention { score_multiplier, multiplier, shift: 30, ..p };
        let want = real(&p, score_scale, value_scale, &input);
        for (got, want) in run(Isa::Reference, &p, &input).iter().zip(&want) {
            prop_assert!((f64::from(*got) - want).abs() <= 2.0, "{} for {}", got, want);
        }
    }
}
