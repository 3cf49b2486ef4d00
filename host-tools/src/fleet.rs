//! Planning for many boards: which plan of a bundle each of them runs, what it costs there, and why a board gets none.

pub mod limits;

use std::fmt;

use serde::Serialize;
use stitchkit_runtime::bundle::{AlignedBytes, Bundle};
use stitchkit_runtime::profile::LatencyModel;

use self::limits::{Excess, Figures, Limits};
use crate::board::Board;
use crate::compile::filters::FilterOrder;
use crate::compile::memory::Memories;
use crate::compile::{CompileError, Compiled};
use crate::export::ExportError;
use crate::report::sizes;
use crate::report::table::ppm_share;

/// What one board asks of a bundle.
#[derive(Debug, Clone, PartialEq)]
pub struct Need {
    /// The board's name.
    pub board: String,
    /// Its limits; those on memory hold for the main memory.
    pub limits: Limits,
    /// Bytes of a faster memory beside the main one; 0 where there is none.
    pub fast_ram_bytes: u32,
    /// The order of weights that suits it.
    pub filters: FilterOrder,
    /// How long steps take on it.
    pub model: LatencyModel,
    /// The clock that instruction counts stand for; `None` where it varies.
    pub clock_hz: Option<u64>,
}

impl Need {
    /// All of a board's memory, and no deadline.
    #[must_use]
    pub fn of(board: &Board) -> Self {
        let limits = Limits {
            ram_bytes: Some(board.profile.ram_bytes.into()),
            flash_bytes: Some(board.profile.flash_bytes.into()),
            ..Limits::NONE
        };
        Self {
            board: board.name.clone(),
            limits,
            fast_ram_bytes: board.fast_ram_bytes,
            filters: FilterOrder::of_kernels(&board.origin.kernels),
            model: board.profile.model,
            clock_hz: board.clock_hz,
        }
    }

    /// Its memories, as far as its limits allow.
    #[must_use]
    pub fn memories(&self) -> Memories {
        let main_bytes = self.limits.ram_bytes.map_or(u32::MAX, |bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
        Memories { fast_bytes: self.fast_ram_bytes, main_bytes: vec![main_bytes] }
    }
}

/// The plan that a board runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pick {
    /// Index in the bundle.
    pub plan: u16,
    /// Id in the family's enumeration.
    pub stitch: u32,
    /// Path through the anchors.
    pub path: String,
    /// Predicted time of one inference.
    pub predicted_us: u64,
    /// Arena.
    pub arena_bytes: u32,
    /// How many of its bytes lie in the board's fast memory.
    pub in_fast_bytes: u32,
    /// int8 accuracy stored in the bundle, 0 to 1.
    pub accuracy: f64,
}

/// Why a board gets no plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Miss {
    /// Path of the plan that comes nearest.
    pub nearest: String,
    /// The limits it exceeds, at least one.
    pub excesses: Vec<Excess>,
}

/// What becomes of one board.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assignment {
    /// The board.
    pub board: String,
    /// Its limits.
    pub limits: Limits,
    /// Its plan.
    pub pick: Option<Pick>,
    /// Why it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub miss: Option<Miss>,
}

/// Boards that no plan serves.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{} of {boards} boards cannot be served:{}", unserved.len(), lines(unserved))]
pub struct FleetError {
    /// Boards in all.
    pub boards: usize,
    /// Board and nearest miss of each that gets nothing.
    pub unserved: Vec<(String, Miss)>,
}

fn lines(unserved: &[(String, Miss)]) -> String {
    unserved.iter().map(|(board, miss)| format!("\n  {board}: {miss}")).collect()
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let excesses: Vec<String> = self.excesses.iter().map(Excess::to_string).collect();
        write!(f, "`{}` comes nearest, but {}", self.nearest, excesses.join(", and "))
    }
}

/// Assigns a plan of `bundle` to every board: the most accurate one inside the limits, of equally accurate ones the fastest.
/// A board's flash has to hold the constants of its own plan; that it holds the whole bundle is for [`assign_whole`].
#[must_use]
pub fn assign(bundle: &Bundle<'_>, boards: &[Need]) -> Vec<Assignment> {
    let sizes = sizes::measure(bundle);
    let own: Vec<u64> = sizes.plans.iter().map(|p| p.weight_bytes + p.table_bytes).collect();
    boards.iter().map(|need| assignment(bundle, need, &own)).collect()
}

/// As [`assign`], with the whole bundle in every board's flash.
#[must_use]
pub fn assign_whole(bundle: &Bundle<'_>, boards: &[Need]) -> Vec<Assignment> {
    let whole = vec![bundle.len_bytes() as u64; usize::from(bundle.plan_count())];
    boards.iter().map(|need| assignment(bundle, need, &whole)).collect()
}

/// [`assign`] over the plans of a compiled family with the accuracies set so far.
///
/// # Errors
/// [`ExportError::Compile`] if the bundle cannot be written.
pub fn assign_compiled(compiled: &Compiled, boards: &[Need]) -> Result<Vec<Assignment>, ExportError> {
    let bytes = AlignedBytes::copy_of(&compiled.write().map_err(CompileError::from)?);
    let bundle = Bundle::parse(bytes.as_slice()).map_err(CompileError::from)?;
    Ok(assign(&bundle, boards))
}

/// The stitches that some board runs, ascending.
///
/// # Errors
/// [`FleetError`] with every board that gets none.
pub fn picks(assignments: &[Assignment]) -> Result<Vec<u32>, FleetError> {
    let missed = |a: &Assignment| a.miss.as_ref().map(|miss| (a.board.clone(), miss.clone()));
    let unserved: Vec<(String, Miss)> = assignments.iter().filter_map(missed).collect();
    if !unserved.is_empty() {
        return Err(FleetError { boards: assignments.len(), unserved });
    }
    let mut stitches: Vec<u32> = assignments.iter().filter_map(|a| a.pick.as_ref()).map(|p| p.stitch).collect();
    stitches.sort_unstable();
    stitches.dedup();
    Ok(stitches)
}

/// Figures of every plan of a bundle on a board, with the given flash bytes by plan.
#[must_use]
pub fn figures(bundle: &Bundle<'_>, need: &Need, flash_bytes: &[u64]) -> Vec<Figures> {
    let plans = bundle.plans().zip(flash_bytes);
    let figures = plans.map(|(plan, &flash_bytes)| Figures {
        ram_bytes: plan.footprint().in_main(need.fast_ram_bytes).into(),
        flash_bytes,
        latency_us: need.model.plan_ns(bundle, &plan).div_ceil(1000),
        accuracy: ppm_share(plan.accuracy_ppm),
    });
    figures.collect()
}

fn assignment(bundle: &Bundle<'_>, need: &Need, flash_bytes: &[u64]) -> Assignment {
    let options = figures(bundle, need, flash_bytes);
    let path = |index: usize| bundle.plan(index as u16).map_or(String::new(), |plan| plan.path.to_owned());
    let (board, limits) = (need.board.clone(), need.limits);
    if let Some(index) = limits::most_accurate(&options, &limits) {
        let footprint = bundle.plan(index as u16).map(|plan| plan.footprint());
        let pick = Pick {
            plan: index as u16,
            stitch: bundle.plan(index as u16).map_or(0, |plan| plan.stitch),
            path: path(index),
            predicted_us: options[index].latency_us,
            arena_bytes: footprint.map_or(0, |footprint| footprint.arena_bytes),
            in_fast_bytes: footprint.map_or(0, |footprint| footprint.in_fast(need.fast_ram_bytes)),
            accuracy: options[index].accuracy,
        };
        return Assignment { board, limits, pick: Some(pick), miss: None };
    }
    let (index, excesses) = limits::nearest(&options, &limits).unwrap_or_default();
    Assignment { board, limits, pick: None, miss: Some(Miss { nearest: path(index), excesses }) }
}
