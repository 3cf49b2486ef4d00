//! `stitchkit eval --cascade`.

use anyhow::Context;
use serde::Serialize;
use stitchkit::infer::cascade::{Point, Survey};
use stitchkit::report::table::{Align, Table, percent};
use stitchkit_runtime::bundle::Bundle;
use stitchkit_runtime::exec::Cascade;

/// Thresholds reported where none are given.
const THRESHOLDS: [u8; 11] = [0, 4, 8, 16, 24, 32, 48, 64, 96, 128, 255];

/// Two plans and the thresholds to report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CascadeOption {
    /// The plan that runs first.
    pub cheap: u16,
    /// The plan that runs where the first is unsure.
    pub costly: u16,
    thresholds: Vec<u8>,
}

/// Reads `CHEAP,COSTLY[,THRESHOLD...]`.
pub fn parse(text: &str) -> Result<CascadeOption, String> {
    let mut parts = text.split(',');
    let mut plan = |what| {
        let part = parts.next().ok_or(format!("the {what} plan is missing; give CHEAP,COSTLY, as in 0,2"))?;
        part.trim().parse::<u16>().map_err(|_| format!("the {what} plan `{part}` is no plan id"))
    };
    let (cheap, costly) = (plan("cheap")?, plan("costly")?);
    let threshold = |part: &str| part.trim().parse().map_err(|_| format!("threshold `{part}` is not within 0 to 255"));
    let mut thresholds = parts.map(threshold).collect::<Result<Vec<u8>, _>>()?;
    if thresholds.is_empty() {
        thresholds = THRESHOLDS.to_vec();
    }
    Ok(CascadeOption { cheap, costly, thresholds })
}

/// What the cascade costs and gains.
#[derive(Serialize)]
pub struct Report {
    cheap: u16,
    costly: u16,
    /// Leading blocks that run once for both plans.
    shared_blocks: u16,
    shared_macs: u64,
    arena_bytes: u32,
    images: usize,
    points: Vec<Point>,
}

/// Measures the cascade on quantized `inputs`.
pub fn measure(
    bundle: &Bundle<'_>,
    option: &CascadeOption,
    inputs: &[i8],
    labels: &[u16],
    progress: &(dyn Fn(u64) + Sync),
) -> anyhow::Result<Report> {
    let cascade = Cascade::new(bundle, option.cheap, option.costly, u32::MAX).context("--cascade")?;
    let survey = Survey::run(bundle, &cascade, inputs, labels, progress)?;
    Ok(Report {
        cheap: option.cheap,
        costly: option.costly,
        shared_blocks: cascade.shared_blocks(),
        shared_macs: cascade.shared_macs(bundle),
        arena_bytes: cascade.arena_bytes(),
        images: labels.len(),
        points: option.thresholds.iter().map(|&threshold| survey.at(threshold)).collect(),
    })
}

/// The report for people.
pub fn text(report: &Report) -> String {
    let mut table = Table::new(&[
        ("threshold", Align::Right),
        ("int8", Align::Right),
        ("escalated", Align::Right),
        ("average MACs", Align::Right),
    ]);
    for point in &report.points {
        table.row([
            point.threshold.to_string(),
            percent(point.accuracy),
            percent(point.escalated),
            format!("{:.0}", point.average_macs),
        ]);
    }
    format!(
        "plan {}, then plan {} where the lead of the best logit is below the threshold; {} images\n\
         {} blocks ({} MACs) are shared, {} bytes of arena\n{table}",
        report.cheap, report.costly, report.images, report.shared_blocks, report.shared_macs, report.arena_bytes
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_come_first_and_thresholds_may_follow() {
        let option = CascadeOption { cheap: 0, costly: 2, thresholds: vec![8, 255] };
        assert_eq!(parse("0, 2,8,255"), Ok(option));
        assert_eq!(parse("1,0").map(|option| option.thresholds), Ok(THRESHOLDS.to_vec()));
        for wrong in ["", "1", "a,1", "1,2,256", "1,2,"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
