//! Which stitches are likely to be good, told from the least squares alone: no stitched network runs.

use super::init::CrossingFit;
use super::{Candidate, Crossing};

/// What the least squares say about a stitch. Several crossings multiply.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Promise {
    /// Share of the replaced features' variance that the stitching layers explain, 0 to 1.
    pub explained: f64,
    /// Similarity of the features left and those replaced, 0 to 1.
    pub similarity: f64,
    /// What stitches are ranked by: `explained` times the natural logarithm of the stitched network's MACs, as of two
    /// equally good layers the one in the costlier network is likely to lead to the more accurate answer.
    pub score: f64,
}

/// The promise of a candidate; `None` for anchors.
#[must_use]
pub fn promise(candidate: &Candidate, fits: &[CrossingFit]) -> Option<Promise> {
    let mut crossed = false;
    let (mut explained, mut similarity) = (1.0, 1.0);
    for (legs, &layer) in candidate.legs.windows(2).zip(&candidate.layers) {
        let crossing = Crossing { from: (legs[0].anchor, legs[0].to?), to: (legs[1].anchor, legs[1].from?) };
        let fit = fits.iter().find(|fit| fit.layer == layer && fit.crossing == crossing)?;
        explained *= (1.0 - fit.layer_residual.powi(2)).clamp(0.0, 1.0);
        similarity *= fit.similarity.clamp(0.0, 1.0);
        crossed = true;
    }
    crossed.then(|| Promise { explained, similarity, score: explained * (candidate.macs.max(1) as f64).ln() })
}

/// How well one order predicts another, -1 to 1.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Agreement {
    /// Spearman's rank correlation; equal values share the mean of their ranks.
    pub spearman: f64,
    /// Kendall's tau-b: share of pairs in the same order less that of pairs in the other, corrected for equal values.
    pub kendall: f64,
}

/// Agreement of two lists of equal length; `None` for fewer than three pairs or where one list is constant.
#[must_use]
pub fn agreement(a: &[f64], b: &[f64]) -> Option<Agreement> {
    if a.len() != b.len() || a.len() < 3 {
        return None;
    }
    Some(Agreement { spearman: correlation(&ranks(a), &ranks(b))?, kendall: tau_b(a, b)? })
}

/// Ranks from 1; equal values get the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        below as f64 + (equal as f64 + 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let product: f64 = a.iter().zip(b).map(|(x, y)| (x - ma) * (y - mb)).sum();
    let square = |values: &[f64], mean: f64| values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    let norm = (square(a, ma) * square(b, mb)).sqrt();
    (norm > 0.0).then(|| product / norm)
}

fn tau_b(a: &[f64], b: &[f64]) -> Option<f64> {
    let (mut difference, mut in_a, mut in_b) = (0.0, 0.0, 0.0);
    for i in 0..a.len() {
        for j in 0..i {
            let sign = |x: f64, y: f64| if x == y { 0.0 } else { (x - y).signum() };
            let (x, y) = (sign(a[i], a[j]), sign(b[i], b[j]));
            difference += x * y;
            in_a += x * x;
            in_b += y * y;
        }
    }
    let norm = f64::sqrt(in_a * in_b);
    (norm > 0.0).then(|| difference / norm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stitch::Leg;

    #[test]
    fn agreement_has_its_known_values() {
        // scipy.stats.spearmanr and kendalltau of the same lists.
        let a = [1.0, 2.0, 3.0, 4.0, 5.0];
        let found = agreement(&a, &[5.0, 6.0, 7.0, 8.0, 7.0]).unwrap();
        assert!((found.spearman - 0.820_782_681_668_123_3).abs() < 1e-12, "{found:?}");
        assert!((found.kendall - 0.737_864_787_372_621_8).abs() < 1e-12, "{found:?}");
        let reversed = agreement(&a, &[5.0, 4.0, 3.0, 2.0, 1.0]).unwrap();
        assert!((reversed.spearman + 1.0).abs() < 1e-12 && (reversed.kendall + 1.0).abs() < 1e-12);
        assert_eq!(agreement(&a, &[1.0; 5]), None);
        assert_eq!(agreement(&a[..2], &[1.0, 2.0]), None);
    }

    #[test]
    fn crossings_multiply_and_anchors_promise_nothing() {
        let leg = |anchor, from, to| Leg { anchor, from, to };
        let legs = vec![leg(0, None, Some(1)), leg(1, Some(0), Some(3)), leg(2, Some(2), None)];
        let candidate = |legs, layers| Candidate { id: 0, path: String::new(), legs, layers, macs: 1000, params: 0 };
        let fit = |layer, from, to, layer_residual, similarity| {
            let crossing = Crossing { from, to };
            CrossingFit { layer, crossing, relative_residual: 0.0, layer_residual, similarity }
        };
        let fits = [fit(0, (0, 1), (1, 0), 0.6, 0.5), fit(1, (1, 3), (2, 2), 0.8, 0.9)];
        let found = promise(&candidate(legs, vec![0, 1]), &fits).unwrap();
        assert!((found.explained - 0.64 * 0.36).abs() < 1e-12 && (found.similarity - 0.45).abs() < 1e-12);
        assert!((found.score - found.explained * 1000_f64.ln()).abs() < 1e-12);
        assert_eq!(promise(&candidate(vec![leg(0, None, None)], Vec::new()), &fits), None);
    }
}
