//! How sure an answer is, in integers.

/// The best class of an answer and its lead over the second best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Top {
    /// Index of the largest logit, the first of equal ones.
    pub class: u16,
    /// Largest logit less the second largest, in steps of the output's quantization; 255 if there is only one logit.
    pub lead: u8,
}

/// Finds the best class of int8 logits. `None` if there are none.
#[must_use]
pub fn top(logits: &[i8]) -> Option<Top> {
    let (&first, rest) = logits.split_first()?;
    let (mut best, mut class) = (first, 0);
    let mut second: Option<i8> = None;
    for (index, &logit) in (1..).zip(rest) {
        if logit > best {
            (second, best, class) = (Some(best), logit, index);
        } else if second.is_none_or(|second| logit > second) {
            second = Some(logit);
        }
    }
    let lead = second.map_or(u8::MAX, |second| best.abs_diff(second));
    Some(Top { class, lead })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_logits_have_no_lead_and_one_logit_is_certain() {
        assert_eq!(top(&[]), None);
        assert_eq!(top(&[-5]), Some(Top { class: 0, lead: 255 }));
        assert_eq!(top(&[1, 7, 7]), Some(Top { class: 1, lead: 0 }));
        assert_eq!(top(&[-128, 127]), Some(Top { class: 1, lead: 255 }));
    }

    proptest! {
        #[test]
        fn the_lead_is_the_gap_in_the_sorted_logits(logits in prop::collection::vec(any::<i8>(), 2..20)) {
            let found = top(&logits).unwrap();
            let mut sorted = logits.clone();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            prop_assert_eq!(logits.iter().position(|&l| l == sorted[0]), Some(usize::from(found.class)));
            prop_assert_eq!(i16::from(found.lead), i16::from(sorted[0]) - i16::from(sorted[1]));
        }
    }
}
