//! Early answers: a cheap plan first, a costly one only where the cheap one is unsure.
//!
//! Two plans that start with the same blocks compute the same values there, because a block is stored once with its scales.
//! Between two blocks exactly one value is alive, so the costly plan can go on from it: the value that leaves the last shared
//! block is kept while the cheap plan finishes, then moved to where the costly plan's own layout expects it. Without a shared
//! block that value is the input itself.
//!
//! ```text
//! arena   | shared blocks ... value |                       cheap plan, from the front
//!         |                         | copy of the value |   above everything the rest of the cheap plan touches
//!         | rest of cheap plan      | copy of the value |   answer; sure enough? done
//!         | value | rest of costly plan                 |   no: the value goes where the costly plan wants it
//! ```

use core::fmt;
use core::ops::Range;

use super::{ExecError, NoObserver, Regions, Top, check_alignment, check_in_place, input_of, run_steps, top};
use crate::bundle::{Bundle, Footprint, Route};
use crate::kernels::Isa;

/// Why two plans cannot be cascaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum CascadeError {
    /// The bundle has no plan of this index.
    NoSuchPlan {
        /// Index asked for.
        plan: u16,
    },
    /// Even without sharing work, both plans and the kept input need more memory.
    ArenaTooSmall {
        /// Bytes needed.
        need_bytes: u32,
        /// Bytes given.
        have_bytes: u32,
    },
}

impl fmt::Display for CascadeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchPlan { plan } => write!(f, "no plan {plan}"),
            Self::ArenaTooSmall { need_bytes, have_bytes } => {
                write!(f, "the cascade needs an arena of {need_bytes} bytes, {have_bytes} given")
            }
        }
    }
}

impl core::error::Error for CascadeError {}

/// Two plans and what is kept between them. Made once, used for any number of inferences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cascade<'b> {
    cheap: Half<'b>,
    costly: Half<'b>,
    shared_blocks: u16,
    /// Where the value is kept while the cheap plan finishes.
    kept: Range<usize>,
    arena_bytes: u32,
}

/// A plan, and where the value after the shared blocks lies in its layout.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Half<'b> {
    plan: u16,
    route: Route<'b>,
    value: Range<usize>,
}

impl<'b> Half<'b> {
    fn new(bundle: &Bundle<'b>, plan: u16, route: Route<'b>, shared_blocks: u16) -> Option<Self> {
        let value = bundle.steps_on(&route).skip_to(shared_blocks)?.entering()?;
        Some(Self { plan, route, value })
    }
}

impl<'b> Cascade<'b> {
    /// Joins plan `cheap` to plan `costly` in an arena of `arena_bytes`. Shares as many leading blocks as the plans have in
    /// common and the arena has room to keep the value of.
    ///
    /// # Errors
    /// [`CascadeError`] if a plan does not exist, or nothing fits.
    pub fn new(bundle: &Bundle<'b>, cheap: u16, costly: u16, arena_bytes: u32) -> Result<Self, CascadeError> {
        let route = |plan| bundle.route(plan).ok_or(CascadeError::NoSuchPlan { plan });
        let (first, second) = (route(cheap)?, route(costly)?);
        // Each plan keeps at least one block of its own, which gives its answer.
        let own = first.block_count().min(second.block_count()).saturating_sub(1);
        let mut need_bytes = u32::MAX;
        for shared_blocks in (0..=first.shared_blocks(&second).min(own)).rev() {
            let Some(cascade) = Self::sharing(bundle, (cheap, first), (costly, second), shared_blocks) else {
                continue;
            };
            if cascade.arena_bytes <= arena_bytes {
                return Ok(cascade);
            }
            need_bytes = need_bytes.min(cascade.arena_bytes);
        }
        Err(CascadeError::ArenaTooSmall { need_bytes, have_bytes: arena_bytes })
    }

    fn sharing(
        bundle: &Bundle<'b>,
        cheap: (u16, Route<'b>),
        costly: (u16, Route<'b>),
        shared_blocks: u16,
    ) -> Option<Self> {
        let cheap = Half::new(bundle, cheap.0, cheap.1, shared_blocks)?;
        let costly = Half::new(bundle, costly.0, costly.1, shared_blocks)?;
        let rest = bundle.steps_on(&cheap.route).skip_to(shared_blocks)?;
        let ends = rest.flat_map(|step| [step.inputs[0].end, step.inputs[1].end, step.output.end, step.scratch.end]);
        let start = ends.fold(cheap.value.end, usize::max);
        let kept = start..start.checked_add(cheap.value.len())?;
        let most = cheap.route.arena_bytes().max(costly.route.arena_bytes());
        let arena_bytes = most.max(u32::try_from(kept.end).ok()?);
        Some(Self { cheap, costly, shared_blocks, kept, arena_bytes })
    }

    /// The plan that runs first.
    #[must_use]
    pub const fn cheap(&self) -> u16 {
        self.cheap.plan
    }

    /// The plan that runs if the first is unsure.
    #[must_use]
    pub const fn costly(&self) -> u16 {
        self.costly.plan
    }

    /// Leading blocks that run once for both plans.
    #[must_use]
    pub const fn shared_blocks(&self) -> u16 {
        self.shared_blocks
    }

    /// Where the input goes.
    pub(crate) const fn input_route(&self) -> &Route<'b> {
        &self.cheap.route
    }

    /// Bytes of arena both plans and the kept value need together.
    #[must_use]
    pub const fn arena_bytes(&self) -> u32 {
        self.arena_bytes
    }

    /// The memory it takes: always in one piece.
    pub(crate) const fn footprint(&self) -> Footprint {
        Footprint { arena_bytes: self.arena_bytes, fast_bytes: 0 }
    }

    /// Multiply-accumulates of the shared blocks: what an escalation saves.
    #[must_use]
    pub fn shared_macs(&self, bundle: &Bundle<'b>) -> u64 {
        bundle.steps_on(&self.cheap.route).stop_at(self.shared_blocks).map(|placed| placed.step.op.macs()).sum()
    }
}

/// What a cascade answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlyAnswer<'m> {
    /// The plan that gave the logits.
    pub plan: u16,
    /// Logits of that plan, the same bytes as if it had run alone.
    pub logits: &'m [i8],
    /// Best class and lead of these logits.
    pub top: Top,
}

/// Runs cascades of one bundle in one arena.
#[derive(Debug)]
pub struct CascadeExecutor<'a, 'b> {
    bundle: &'a Bundle<'b>,
    cascade: Cascade<'b>,
    arena: &'a mut [u8],
    isa: Isa,
}

impl<'a, 'b> CascadeExecutor<'a, 'b> {
    /// Prepares `cascade` with the kernels of `isa`.
    ///
    /// # Errors
    /// [`ExecError::ArenaTooSmall`] or [`ExecError::ArenaMisaligned`].
    pub fn with_isa(
        bundle: &'a Bundle<'b>,
        cascade: Cascade<'b>,
        arena: &'a mut [u8],
        isa: Isa,
    ) -> Result<Self, ExecError> {
        check_alignment(arena)?;
        check_in_place(bundle)?;
        check_size(&cascade, arena)?;
        Ok(Self { bundle, cascade, arena, isa })
    }

    /// Where the int8 input goes, HWC. Running overwrites it.
    ///
    /// # Errors
    /// [`ExecError::Changed`] if the bundle was modified after it was checked.
    pub fn input(&mut self) -> Result<&mut [i8], ExecError> {
        input_of(self.bundle, &self.cascade.cheap.route, Regions::whole(self.arena))
    }

    /// Runs the cheap plan and, if its lead is below `least_lead`, the rest of the costly one.
    ///
    /// # Errors
    /// [`ExecError::Kernel`] or [`ExecError::Changed`], only if the bundle was modified after it was checked.
    pub fn run(&mut self, least_lead: u8) -> Result<EarlyAnswer<'_>, ExecError> {
        let (plan, output) = run_cascade(self.isa, self.bundle, &self.cascade, self.arena, least_lead)?;
        answer(plan, self.arena, output)
    }
}

/// Runs the cheap plan and, if its lead is below `least_lead`, the rest of the costly one; returns the plan that answered and
/// where its logits lie. The arena is as large as [`Cascade::arena_bytes`] says.
pub(crate) fn run_cascade(
    isa: Isa,
    bundle: &Bundle<'_>,
    cascade: &Cascade<'_>,
    arena: &mut [u8],
    least_lead: u8,
) -> Result<(u16, Range<usize>), ExecError> {
    let (sure, output) = start(isa, bundle, cascade, arena)?;
    if sure.lead >= least_lead {
        return Ok((cascade.cheap.plan, output));
    }
    Ok((cascade.costly.plan, escalate(isa, bundle, cascade, arena)?))
}

fn check_size(cascade: &Cascade<'_>, arena: &[u8]) -> Result<(), ExecError> {
    let have_bytes = u32::try_from(arena.len()).unwrap_or(u32::MAX);
    let need_bytes = cascade.arena_bytes;
    if have_bytes < need_bytes { Err(ExecError::ArenaTooSmall { need_bytes, have_bytes }) } else { Ok(()) }
}

/// Runs the cheap plan with its value kept; returns how sure it is and where its logits lie.
fn start(
    isa: Isa,
    bundle: &Bundle<'_>,
    cascade: &Cascade<'_>,
    arena: &mut [u8],
) -> Result<(Top, Range<usize>), ExecError> {
    let steps = bundle.steps_on(&cascade.cheap.route);
    let rest = steps.clone().skip_to(cascade.shared_blocks).ok_or(ExecError::Changed)?;
    run_steps(isa, bundle, steps.stop_at(cascade.shared_blocks), &mut Regions::whole(arena), &mut NoObserver)?;
    move_value(arena, &cascade.cheap.value, &cascade.kept)?;
    let output = run_steps(isa, bundle, rest, &mut Regions::whole(arena), &mut NoObserver)?;
    let logits = arena.get(output.clone()).ok_or(ExecError::Changed)?;
    let sure = top(bytemuck::cast_slice(logits)).ok_or(ExecError::Changed)?;
    Ok((sure, output))
}

/// Runs the costly plan from the kept value; returns where its logits lie.
fn escalate(isa: Isa, bundle: &Bundle<'_>, cascade: &Cascade<'_>, arena: &mut [u8]) -> Result<Range<usize>, ExecError> {
    move_value(arena, &cascade.kept, &cascade.costly.value)?;
    let steps = bundle.steps_on(&cascade.costly.route).skip_to(cascade.shared_blocks).ok_or(ExecError::Changed)?;
    run_steps(isa, bundle, steps, &mut Regions::whole(arena), &mut NoObserver)
}

/// Copies `from` to the start of `to`; both may overlap.
fn move_value(arena: &mut [u8], from: &Range<usize>, to: &Range<usize>) -> Result<(), ExecError> {
    if let Ok([source, target]) = arena.get_disjoint_mut([from.clone(), to.clone()]) {
        target.iter_mut().zip(source).for_each(|(to, from)| *to = *from);
        return Ok(());
    }
    let mut copy = |at: usize| {
        let value = *arena.get(from.start + at).ok_or(ExecError::Changed)?;
        *arena.get_mut(to.start + at).ok_or(ExecError::Changed)? = value;
        Ok(())
    };
    // In the order in which no byte is overwritten before it is copied.
    if to.start <= from.start {
        (0..from.len()).try_for_each(&mut copy)
    } else {
        (0..from.len()).rev().try_for_each(copy)
    }
}

fn answer(plan: u16, arena: &[u8], output: Range<usize>) -> Result<EarlyAnswer<'_>, ExecError> {
    let logits: &[i8] = arena.get(output).map(bytemuck::cast_slice).ok_or(ExecError::Changed)?;
    let top = top(logits).ok_or(ExecError::Changed)?;
    Ok(EarlyAnswer { plan, logits, top })
}
