//! The rules a bundle must obey before anything runs from it.

use core::ops::Range;

use super::layout::SectionId;
use super::operators::built;
use super::records::{Block, ChannelTables, InPlace, Op, Plan, Quant, Step};
use super::{Bundle, BundleError, Clearance, Footprint, PlacedStep, PlanFault, Route, StepFault};
use crate::kernels::{
    Add, Attention, Conv2d, LAYER_NORM_MAX_CHANNELS, Landing, Pool2d, Requant, Shape, Window, is_inside,
};

/// Largest tensor, in bytes: offsets and lengths stay inside 31 bits.
const MAX_TENSOR_BYTES: u64 = 1 << 31;
/// Multipliers are normalised to 31 bits.
const MULTIPLIERS: Range<i32> = 1 << 30..i32::MAX;
/// Shifts that leave a 64-bit product meaningful.
const SHIFTS: Range<u8> = 1..63;
/// Shifts of a layer norm: below 16 its offsets would be fractions.
const NORM_SHIFTS: Range<u8> = 16..63;
/// What a layer norm adds to its variance stays below this, so that their sum fits 64 bits.
const EPSILONS: u64 = 1 << 62;
/// Largest entry of a softmax table.
const SOFTMAX_ONE: i32 = 1 << 16;

/// Checks every record of the bundle.
pub(super) fn check(bundle: &Bundle<'_>) -> Result<(), BundleError> {
    let meta = bundle.meta();
    if !is_tensor(meta.input) || !is_tensor(meta.output) || !is_quant(meta.input_quant) {
        return Err(BundleError::Record { section: SectionId::Meta, index: 0 });
    }
    if !bundle.input_lut.is_empty() && bundle.input_lut.len() != usize::from(meta.input.c) * 256 {
        return Err(BundleError::Optional(SectionId::InputLut));
    }
    if cfg!(feature = "two-memories")
        && bundle.fast.is_some_and(|fast| fast.len() != usize::from(bundle.plan_count()) * 4)
    {
        return Err(BundleError::Optional(SectionId::Fast));
    }
    #[cfg(feature = "woven")]
    if !bundle.woven.is_empty() && bundle.woven.len() != usize::from(bundle.step_count()).div_ceil(8) {
        return Err(BundleError::Record { section: SectionId::Woven, index: 0 });
    }
    let mut step = Step::default();
    for index in 0..bundle.step_count() {
        if !bundle.read_step(Some(index), &mut step) {
            return Err(undecoded(bundle, index));
        }
        check_step(bundle, &step).map_err(|fault| BundleError::Step { index, fault })?;
        if bundle.is_woven(index) {
            check_woven(&step.op).map_err(|fault| BundleError::Step { index, fault })?;
        }
    }
    for index in 0..bundle.block_count() {
        // Not moved out of the options here and below: copies of records take code.
        let Some(block) = &bundle.block(index) else {
            return Err(BundleError::Record { section: SectionId::Blocks, index });
        };
        check_block(bundle, index, block)?;
    }
    if bundle.plan_count() == 0 {
        return Err(BundleError::Record { section: SectionId::Plans, index: 0 });
    }
    for index in 0..bundle.plan_count() {
        let Some(plan) = &bundle.plan(index) else {
            return Err(BundleError::Record { section: SectionId::Plans, index });
        };
        check_plan(bundle, plan).map_err(|fault| BundleError::Plan { index, fault })?;
    }
    Ok(())
}

/// Why the record of a step does not decode.
fn undecoded(bundle: &Bundle<'_>, index: u16) -> BundleError {
    match bundle.operator_of(index) {
        Some(number) if !built::has(number) => BundleError::Operator { index, number },
        _ => BundleError::Record { section: SectionId::Steps, index },
    }
}

#[inline(never)]
fn is_tensor(shape: Shape) -> bool {
    (1..MAX_TENSOR_BYTES).contains(&shape.elements())
}

fn is_quant(quant: Quant) -> bool {
    // Positive and finite, by its bits: small processors compare floats in software.
    (1..f32::INFINITY.to_bits()).contains(&quant.scale.to_bits())
}

fn ensure(holds: bool, fault: StepFault) -> Result<(), StepFault> {
    if holds { Ok(()) } else { Err(fault) }
}

fn check_step(bundle: &Bundle<'_>, step: &Step) -> Result<(), StepFault> {
    ensure(is_tensor(step.op.input()) && is_tensor(step.op.output()), StepFault::Geometry)?;
    match &step.op {
        Op::Conv2d { geometry, weights, tables, residual } if built::CONV2D => {
            check_conv(geometry)?;
            let len = geometry.taps().checked_mul(usize::from(geometry.output.c)).ok_or(StepFault::Geometry)?;
            ensure(bundle.extents.have_weights(*weights, len), StepFault::Constants)?;
            check_channels(bundle, geometry, tables, residual.as_ref())
        }
        Op::Depthwise { geometry, weights, tables, residual } if built::DEPTHWISE => {
            check_conv(geometry)?;
            let channels = geometry.input.c;
            ensure(geometry.groups == channels && geometry.output.c == channels, StepFault::Geometry)?;
            let [rows, columns] = geometry.window.kernel;
            let len = usize::from(rows) * usize::from(columns) * usize::from(channels);
            ensure(bundle.extents.have_weights(*weights, len), StepFault::Constants)?;
            check_channels(bundle, geometry, tables, residual.as_ref())
        }
        Op::Add { add, .. } if built::ADD => check_add(add),
        Op::MaxPool(pool) if built::MAXPOOL => check_pool(pool),
        Op::AvgPool { geometry, multiplier, shift, landing, .. } if built::AVGPOOL => {
            check_pool(geometry)?;
            check_landing(landing)?;
            ensure(is_multiplier(*multiplier) && SHIFTS.contains(shift), StepFault::Arithmetic)
        }
        Op::Lut { table, .. } if built::LUT => ensure(bundle.extents.have_weights(*table, 256), StepFault::Constants),
        Op::Softmax { shape, table } if built::SOFTMAX => {
            ensure(bundle.extents.have_table(*table, 256), StepFault::Constants)?;
            ensure(shape.c < 1 << 15, StepFault::Arithmetic)?;
            bundle.table_at(*table, 256).map_or(Ok(()), check_exponentials)
        }
        Op::Transpose { perm, .. } if built::TRANSPOSE => {
            let all_axes = (0..3).all(|axis| perm.contains(&axis));
            ensure(all_axes, StepFault::Geometry)
        }
        Op::LayerNorm { shape, table, epsilon, shift, landing } if built::LAYERNORM => {
            ensure(shape.c <= LAYER_NORM_MAX_CHANNELS, StepFault::Geometry)?;
            ensure(bundle.extents.have_table(*table, 2 * usize::from(shape.c)), StepFault::Constants)?;
            ensure(*epsilon < EPSILONS && NORM_SHIFTS.contains(shift), StepFault::Arithmetic)?;
            check_landing(landing)
        }
        Op::Attention(attention) if built::ATTENTION => check_attention(attention),
        Op::AddConstant { shape, add, constants } if built::ADDCONSTANT => {
            ensure(bundle.extents.have_weights(*constants, shape.len()), StepFault::Constants)?;
            check_add(add)
        }
        Op::Concat { input, before, after, constants } if built::CONCAT => {
            ensure(input.h == 1, StepFault::Geometry)?;
            let tokens = usize::from(*before) + usize::from(*after);
            ensure(bundle.extents.have_weights(*constants, tokens * usize::from(input.c)), StepFault::Constants)
        }
        Op::Slice { input, first, output } if built::SLICE => {
            ensure(is_inside(*input, *first, *output), StepFault::Geometry)
        }
        // Operators that are not built in do not decode.
        _ => Err(StepFault::Geometry),
    }
}

fn check_woven(op: &Op) -> Result<(), StepFault> {
    match op {
        Op::Conv2d { geometry, weights, residual: None, .. } if built::CONV2D => {
            ensure(geometry.can_be_woven(), StepFault::Geometry)?;
            ensure(weights.is_multiple_of(4), StepFault::Constants)
        }
        _ => Err(StepFault::Geometry),
    }
}

fn check_attention(attention: &Attention) -> Result<(), StepFault> {
    ensure(attention.is_possible(), StepFault::Geometry)?;
    ensure(
        attention.score_multiplier <= Attention::MAX_SCORE_MULTIPLIER
            && is_multiplier(attention.multiplier)
            && (1..=Attention::MAX_SHIFT).contains(&attention.shift),
        StepFault::Arithmetic,
    )?;
    check_landing(&attention.landing)
}

fn check_conv(geometry: &Conv2d) -> Result<(), StepFault> {
    let groups = geometry.groups;
    let divides = groups > 0 && geometry.input.c.is_multiple_of(groups) && geometry.output.c.is_multiple_of(groups);
    ensure(divides && geometry.taps() > 0, StepFault::Geometry)?;
    check_window(&geometry.window, geometry.input, geometry.output)
}

fn check_pool(pool: &Pool2d) -> Result<(), StepFault> {
    ensure(pool.input.c == pool.output.c, StepFault::Geometry)?;
    check_window(&pool.window, pool.input, pool.output)
}

/// Extents are positive, and the first tap row and column of every window lie inside the padded input.
fn check_window(window: &Window, input: Shape, output: Shape) -> Result<(), StepFault> {
    let positive = [window.kernel, window.stride, window.dilation].iter().flatten().all(|&extent| extent > 0);
    ensure(positive, StepFault::Geometry)?;
    let fits = fits(window, 0, input.h, output.h) && fits(window, 1, input.w, output.w);
    ensure(fits, StepFault::Geometry)
}

#[inline(never)]
fn fits(window: &Window, axis: usize, input: u16, output: u16) -> bool {
    let extent = |extents: &[u8; 2]| u32::from(extents[axis & 1]);
    let (kernel, stride, pad) = (extent(&window.kernel), extent(&window.stride), extent(&window.pad));
    let last_start = (u32::from(output) - 1) * stride;
    pad < (4 * kernel).min(255) && last_start < u32::from(input) + pad
}

fn check_channels(
    bundle: &Bundle<'_>,
    geometry: &Conv2d,
    tables: &ChannelTables,
    residual: Option<&Add>,
) -> Result<(), StepFault> {
    let channels = usize::from(geometry.output.c);
    let extents = bundle.extents;
    let have_tables = extents.have_table(tables.bias, channels) && extents.have_table(tables.multiplier, channels);
    ensure(have_tables && extents.have_shifts(tables.shift, channels), StepFault::Constants)?;
    bundle.requant(geometry, tables).map_or(Ok(()), |requant| check_requant(&requant))?;
    check_landing(&tables.landing)?;
    residual.map_or(Ok(()), check_add)
}

/// Multipliers and shifts are in the range the format allows.
pub(crate) fn check_requant(requant: &Requant<'_>) -> Result<(), StepFault> {
    ensure(requant.multiplier.iter().all(|&m| is_multiplier(m)), StepFault::Arithmetic)?;
    ensure(requant.shift.iter().all(|s| SHIFTS.contains(s)), StepFault::Arithmetic)
}

/// The table of a softmax starts with one and stays between zero and one.
pub(crate) fn check_exponentials(table: &[i32]) -> Result<(), StepFault> {
    ensure(table.iter().all(|e| (0..=SOFTMAX_ONE).contains(e)), StepFault::Arithmetic)?;
    ensure(table.first() == Some(&SOFTMAX_ONE), StepFault::Arithmetic)
}

fn is_multiplier(multiplier: i32) -> bool {
    multiplier == 0 || multiplier == i32::MAX || MULTIPLIERS.contains(&multiplier)
}

fn check_landing(landing: &Landing) -> Result<(), StepFault> {
    ensure(landing.lo <= landing.hi, StepFault::Arithmetic)
}

fn check_add(add: &Add) -> Result<(), StepFault> {
    let small = |value: i32, limit: i32| (-limit..=limit).contains(&value);
    ensure(
        small(add.a_multiplier, Add::MAX_MULTIPLIER)
            && small(add.b_multiplier, Add::MAX_MULTIPLIER)
            && small(add.offset, Add::MAX_OFFSET)
            && (1..=Add::MAX_SHIFT).contains(&add.shift)
            && add.lo <= add.hi,
        StepFault::Arithmetic,
    )
}

fn check_block(bundle: &Bundle<'_>, index: u16, block: &Block<'_>) -> Result<(), BundleError> {
    let wrong = BundleError::Block { index };
    if block.steps == 0 || block.steps > 255 || !is_tensor(block.input) {
        return Err(wrong);
    }
    let mut step = Step::default();
    for at in 0..block.steps {
        if !bundle.read_step(block.first_step.checked_add(at), &mut step) {
            return Err(wrong);
        }
        let [first, second] = step.inputs;
        let holds = |value: u8, shape: Shape| {
            u16::from(value) <= at && elements(bundle, block, value) == Some(shape.elements())
        };
        if !holds(first, step.op.input()) || (step.op.arity() == 2 && !holds(second, step.op.output())) {
            let index = block.first_step.saturating_add(at);
            return Err(BundleError::Step { index, fault: StepFault::Input });
        }
    }
    if step.op.output() == block.output { Ok(()) } else { Err(wrong) }
}

/// Elements of a value of a block.
#[inline(never)]
fn elements(bundle: &Bundle<'_>, block: &Block<'_>, value: u8) -> Option<u64> {
    let Some(at) = value.checked_sub(1) else { return Some(block.input.elements()) };
    let mut step = Step::default();
    let index = block.first_step.checked_add(at.into());
    bundle.read_step(index, &mut step).then(|| step.op.output().elements())
}

fn check_plan<'a>(bundle: &Bundle<'a>, plan: &Plan<'a>) -> Result<(), PlanFault> {
    if plan.blocks.is_empty() || !plan.blocks.len().is_multiple_of(2) || !plan.layout.len().is_multiple_of(8) {
        return Err(PlanFault::Blocks);
    }
    let mut shape = bundle.meta().input;
    let mut steps = 0;
    for pair in plan.blocks.chunks_exact(2) {
        let index = u16::from_le_bytes(*pair.first_chunk().ok_or(PlanFault::Blocks)?);
        let block = bundle.block(index).ok_or(PlanFault::Blocks)?;
        if block.input.elements() != shape.elements() {
            return Err(PlanFault::Chain);
        }
        shape = block.output;
        steps += usize::from(block.steps);
    }
    if shape.elements() != bundle.meta().output.elements() {
        return Err(PlanFault::Chain);
    }
    if steps * 8 != plan.layout.len() || !is_quant(plan.output_quant) {
        return Err(PlanFault::Layout);
    }
    let is_divided = cfg!(feature = "two-memories") && plan.fast_bytes > 0;
    if is_divided && (plan.fast_bytes > plan.arena_bytes || !plan.fast_bytes.is_multiple_of(Footprint::ALIGN)) {
        return Err(PlanFault::Split);
    }
    Route::from(plan).put(&mut (0..0), plan.input_offset, bundle.meta().input.len())?;
    let mut walk = bundle.steps_of(plan);
    let mut placed = PlacedStep::default();
    while walk.advance(&mut placed)? {
        check_overlap(&placed)?;
    }
    Ok(())
}

fn check_overlap(placed: &PlacedStep) -> Result<(), PlanFault> {
    let [first, second] = &placed.inputs;
    let output = &placed.output;
    let output_is_free = match placed.step.op.in_place() {
        InPlace::Never => apart(output, first) || (placed.is_over_input() && is_clear(placed)),
        InPlace::FirstInputIfWanted => (output == first || apart(output, first)) && apart(output, second),
        InPlace::SecondInput => output == second && apart(output, first),
    };
    let scratch = &placed.scratch;
    let scratch_is_free = apart(scratch, first) && apart(scratch, second) && apart(scratch, output);
    let scratch_is_aligned = scratch.start.is_multiple_of(4);
    if output_is_free && scratch_is_free && scratch_is_aligned && apart(first, second) {
        Ok(())
    } else {
        Err(PlanFault::Overlap)
    }
}

/// True if every row of the output is written where no row after it reads.
fn is_clear(placed: &PlacedStep) -> bool {
    let (input, output) = (placed.inputs[0].start, placed.output.start);
    let Some(Clearance { before_bytes, after_bytes }) = placed.step.op.least_clearance() else { return false };
    output.saturating_add(before_bytes) <= input || input.saturating_add(after_bytes) <= output
}

#[inline(never)]
fn apart(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.is_empty() || b.is_empty() || a.end <= b.start || b.end <= a.start
}
