//! One interface to both executors.

use std::sync::Arc;

use memmap2::Mmap;
use stitchkit_runtime::bundle::Bundle;
use stitchkit_runtime::exec::Executor;
use stitchkit_runtime::kernels::Isa;
#[cfg(feature = "tract")]
use stitchkit_runtime::tract::{TractFamily, TractPlan};

use crate::args::{Args, Backend};
use crate::failure::Failure;

/// A plan ready to run, and the means to change it.
pub enum Runner<'a, 'b> {
    /// The step loop.
    Kernels(Executor<'a, 'b>),
    /// A tract model and the family to build others from.
    #[cfg(feature = "tract")]
    Tract(TractFamily, Box<TractPlan>),
}

impl<'a, 'b> Runner<'a, 'b> {
    /// Prepares `plan`. `arena` serves the step loop; tract allocates for itself.
    ///
    /// # Errors
    /// [`Failure::Failed`] if the plan cannot be prepared.
    #[cfg_attr(not(feature = "tract"), allow(unused_variables))]
    pub fn new(
        args: &Args,
        bytes: &Arc<Mmap>,
        bundle: &'a Bundle<'b>,
        plan: u16,
        arena: &'a mut [u8],
    ) -> Result<Self, Failure> {
        let isa = isa(args)?;
        match args.backend {
            Backend::Kernels => {
                Executor::with_isa(bundle, plan, arena, isa).map(Self::Kernels).map_err(Failure::because)
            }
            #[cfg(feature = "tract")]
            Backend::Tract => {
                let family = TractFamily::with_isa(bytes.clone(), isa).map_err(Failure::because)?;
                let plan = family.plan(plan).map_err(Failure::because)?;
                Ok(Self::Tract(family, Box::new(plan)))
            }
            #[cfg(not(feature = "tract"))]
            Backend::Tract => Err(Failure::Usage("this binary was built without feature `tract`".into())),
        }
    }

    /// Makes `plan` the current one.
    ///
    /// # Errors
    /// [`Failure::Failed`] if there is no such plan or the arena is too small for it.
    pub fn switch(&mut self, plan: u16) -> Result<(), Failure> {
        match self {
            Self::Kernels(executor) => executor.switch(plan).map_err(Failure::because),
            #[cfg(feature = "tract")]
            Self::Tract(family, current) => {
                **current = family.plan(plan).map_err(Failure::because)?;
                Ok(())
            }
        }
    }

    /// Runs the current plan; `output` receives the logits.
    ///
    /// # Errors
    /// [`Failure::Failed`] if the bundle changed while it is in use.
    pub fn run(&mut self, input: &[i8], output: &mut Vec<i8>) -> Result<(), Failure> {
        output.clear();
        match self {
            Self::Kernels(executor) => {
                executor.input().map_err(Failure::because)?.copy_from_slice(input);
                output.extend_from_slice(executor.run().map_err(Failure::because)?);
            }
            #[cfg(feature = "tract")]
            Self::Tract(_, plan) => output.extend(plan.run(input).map_err(Failure::because)?),
        }
        Ok(())
    }

    /// Most bytes of activations held at once: the arena, or what tract's order of evaluation needs.
    pub fn activation_bytes(&self) -> Result<u64, Failure> {
        match self {
            Self::Kernels(executor) => Ok(u64::from(executor.plan().arena_bytes)),
            #[cfg(feature = "tract")]
            Self::Tract(_, plan) => plan.peak_activation_bytes().map_err(Failure::because),
        }
    }
}

/// The kernel variant asked for, or the fastest.
///
/// # Errors
/// [`Failure::Usage`] names the variants of this processor.
pub fn isa(args: &Args) -> Result<Isa, Failure> {
    let Some(name) = &args.isa else { return Ok(Isa::best()) };
    let known = || Isa::available().iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ");
    let found = Isa::available().iter().find(|isa| isa.name() == name.as_str());
    found.copied().ok_or_else(|| Failure::Usage(format!("--isa: this processor has {}", known())))
}
