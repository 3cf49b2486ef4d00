//! Weights packed for the kernels of this processor.

use std::borrow::Cow;
use std::sync::Arc;
use std::vec::Vec;

use super::Regions;
use super::dispatch::{Constants, StepRunner, run_in};
use super::{ExecError, Executor};
use crate::bundle::{Bundle, Op, PlacedStep};
use crate::kernels::{Filters, Isa, PackedConv, Panels, ShapeError, unwoven};

/// A bundle with the convolution weights of plans in the order in which this processor's kernels read them fastest.
///
/// A plan is packed when the first executor for it is made, which takes as much memory as its weights again. Steps that plans share
/// are packed once, and so are weights that steps share, so changing between packed plans copies nothing. Results are those of any
/// [`Executor`], to the byte. A clone shares what is packed so far: threads that run the same plans need one each.
///
/// ```no_run
/// use stitchkit_runtime::{bundle::{AlignedBytes, Bundle}, exec::Prepared, kernels::Isa};
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// let file = AlignedBytes::copy_of(&std::fs::read("family.stk")?);
/// let bundle = Bundle::parse(file.as_slice())?;
/// let mut arena = AlignedBytes::new(bundle.plan(0).ok_or("no plans")?.arena_bytes as usize);
/// let mut prepared = Prepared::new(&bundle, Isa::best());
/// let mut executor = prepared.executor(0, arena.as_mut_slice())?;
/// executor.input()?.fill(0);
/// let logits: &[i8] = executor.run()?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Prepared<'b> {
    bundle: Bundle<'b>,
    store: Store,
}

impl<'b> Prepared<'b> {
    /// Nothing is packed yet. Kernels will be those of `isa`.
    #[must_use]
    pub fn new(bundle: &Bundle<'b>, isa: Isa) -> Self {
        Self { bundle: *bundle, store: Store::new(bundle, isa) }
    }

    /// Packs `plan`, unless it is packed.
    ///
    /// # Errors
    /// [`ExecError::NoSuchPlan`], [`ExecError::NotInPlace`] if the bundle is streamed, or [`ExecError::Kernel`] if it was modified
    /// after it was checked.
    pub fn add(&mut self, plan: u16) -> Result<(), ExecError> {
        self.store.add(&self.bundle, plan)
    }

    /// An executor for `plan`, which is packed if it is not.
    ///
    /// # Errors
    /// As [`add`](Self::add) and [`Executor::new`].
    pub fn executor<'a>(&'a mut self, plan: u16, arena: &'a mut [u8]) -> Result<Executor<'a, 'b>, ExecError> {
        let Self { bundle, store } = self;
        store.add(bundle, plan)?;
        let executor = Executor::with_isa(bundle, plan, arena, store.isa)?;
        Ok(Executor { store: Some(store), ..executor })
    }

    /// The bundle.
    #[must_use]
    pub const fn bundle(&self) -> &Bundle<'b> {
        &self.bundle
    }

    /// Bytes of packed weights.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.store.panels.iter().map(|(_, panels)| panels.bytes()).sum()
    }
}

/// What is packed.
#[derive(Debug, Clone)]
pub(super) struct Store {
    isa: Isa,
    /// By index in the bundle.
    steps: Vec<Slot>,
    /// Packed weights by offset in the bundle, and whether they are woven there.
    panels: Vec<((u32, bool), Arc<Panels>)>,
    /// Plans whose steps are packed.
    plans: Vec<u16>,
    /// Room for the largest image of a step.
    image: Vec<i8>,
    /// A copy of the input of a step that writes over it.
    aside: Vec<i8>,
}

#[derive(Debug, Clone)]
enum Slot {
    /// Not looked at.
    New,
    /// Runs with its constants where they are.
    InPlace,
    Packed(Arc<PackedConv>),
}

/// A packed convolution and what it works on.
pub(super) struct Call<'x> {
    pub conv: &'x PackedConv,
    pub image: &'x mut [i8],
    pub input: &'x [i8],
    pub output: &'x mut [i8],
}

impl Store {
    /// Nothing is packed yet.
    pub(super) fn new(bundle: &Bundle<'_>, isa: Isa) -> Self {
        let steps = vec![Slot::New; usize::from(bundle.step_count())];
        Self { isa, steps, panels: Vec::new(), plans: Vec::new(), image: Vec::new(), aside: Vec::new() }
    }

    /// The packed convolution of a step, room for its image, and its input and output in `memory`; `None` if the step runs with
    /// its constants where they are.
    ///
    /// # Errors
    /// [`ShapeError::Output`] if they overlap in another way than a step may write over its input, or are not in the memory.
    pub(super) fn packed<'x>(
        &'x mut self,
        placed: &PlacedStep,
        memory: &'x mut Regions<'_>,
    ) -> Result<Option<Call<'x>>, ShapeError> {
        let Some(Slot::Packed(conv)) = self.steps.get(usize::from(placed.index)) else { return Ok(None) };
        let image = &mut self.image[..];
        if !placed.is_over_input() {
            let [input, _, output] = memory.three([&placed.inputs[0], &(0..0), &placed.output])?;
            return Ok(Some(Call { conv, image, input, output }));
        }
        self.aside.clear();
        self.aside.extend_from_slice(memory.get(&placed.inputs[0]).ok_or(ShapeError::Input)?);
        let output = memory.get_mut(&placed.output).ok_or(ShapeError::Output)?;
        Ok(Some(Call { conv, image, input: &self.aside, output }))
    }

    /// See [`Prepared::add`].
    pub(super) fn add(&mut self, bundle: &Bundle<'_>, plan: u16) -> Result<(), ExecError> {
        if self.plans.contains(&plan) {
            return Ok(());
        }
        super::check_in_place(bundle)?;
        let plans = bundle.plan_count();
        let record = bundle.plan(plan).ok_or(ExecError::NoSuchPlan { plan, plans })?;
        for placed in bundle.steps_of(&record) {
            let index = usize::from(placed.index);
            if matches!(self.steps.get(index), Some(Slot::New)) {
                let slot = self.pack(bundle, &placed);
                self.steps[index] = slot.map_err(|error| ExecError::Kernel { step: placed.index, error })?;
            }
            if let Some(Slot::Packed(packed)) = self.steps.get(index) {
                let len = self.image.len().max(packed.image_bytes());
                self.image.resize(len, 0);
            }
        }
        self.plans.push(plan);
        Ok(())
    }

    fn pack(&mut self, bundle: &Bundle<'_>, placed: &PlacedStep) -> Result<Slot, ShapeError> {
        let op = &placed.step.op;
        let (filters, geometry, offset, residual) = match op {
            Op::Conv2d { geometry, weights, residual, .. } => (Filters::Dense, geometry, weights, residual),
            Op::Depthwise { geometry, weights, residual, .. } => (Filters::Depthwise, geometry, weights, residual),
            _ => return Ok(Slot::InPlace),
        };
        let (weights, requant, is_woven) = match Constants::in_place(bundle, placed.index, op)? {
            Constants::Channels { weights, requant } => (Cow::from(weights), requant, false),
            Constants::Woven { weights, requant } => match unwoven(weights, geometry.taps()) {
                Some(filters) => (filters.into(), requant, true),
                None => return Ok(Slot::InPlace),
            },
            _ => return Ok(Slot::InPlace),
        };
        let (residual, stored) = (residual.as_ref(), (*offset, is_woven));
        let mut same = self.panels.iter().filter(|(at, _)| *at == stored).map(|(_, panels)| panels.clone());
        let shared =
            same.find_map(|panels| PackedConv::with_panels(self.isa, filters, geometry, &requant, residual, panels));
        if let Some(packed) = shared {
            return Ok(Slot::Packed(Arc::new(packed)));
        }
        let Some(packed) = PackedConv::new(self.isa, filters, geometry, &requant, residual, &weights)? else {
            return Ok(Slot::InPlace);
        };
        self.panels.push((stored, packed.panels().clone()));
        Ok(Slot::Packed(Arc::new(packed)))
    }
}

impl StepRunner for &mut Store {
    fn run(&mut self, bundle: &Bundle<'_>, placed: &PlacedStep, memory: &mut Regions<'_>) -> Result<(), ShapeError> {
        let isa = self.isa;
        match self.packed(placed, memory)? {
            Some(Call { conv, image, input, output }) => conv.run(input, image, output),
            None => run_in(isa, bundle, placed, memory),
        }
    }
}
