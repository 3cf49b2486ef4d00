//! One interface to both executors.

use std::num::NonZeroUsize;
use std::sync::Arc;

use stitchkit_runtime::bundle::{Bundle, Plan};
use stitchkit_runtime::exec::{ThreadedExecutor, Threads};
use stitchkit_runtime::kernels::Isa;
#[cfg(feature = "tract")]
use stitchkit_runtime::tract::{TractFamily, TractPlan};

use crate::args::Backend;
use crate::bundle_file::BundleFile;
use crate::failure::Failure;

/// How plans are run.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Executor.
    pub backend: Backend,
    /// Kernel variant.
    pub isa: Isa,
    /// Threads that share an inference.
    pub threads: NonZeroUsize,
}

impl How {
    /// The executor, the kernel variant of that name or the fastest, and threads.
    ///
    /// # Errors
    /// [`Failure::Usage`] names the variants of this processor.
    pub fn new(backend: Backend, isa: Option<&str>, threads: NonZeroUsize) -> Result<Self, Failure> {
        let Some(name) = isa else { return Ok(Self { backend, isa: Isa::best(), threads }) };
        let known = || Isa::available().iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ");
        let found = Isa::available().iter().find(|isa| isa.name() == name);
        let isa = found.copied().ok_or_else(|| Failure::Usage(format!("--isa: this processor has {}", known())))?;
        Ok(Self { backend, isa, threads })
    }
}

/// A plan ready to run, and the means to change it.
pub struct Runner<'b> {
    bundle: &'b Bundle<'b>,
    plan: u16,
    engine: Engine<'b>,
}

enum Engine<'b> {
    /// The step loop, with packed weights of the plans that were current.
    Kernels(Box<ThreadedExecutor<'b, 'b>>),
    /// The family to build models from, and the current one.
    #[cfg(feature = "tract")]
    Tract { family: TractFamily, model: Box<TractPlan> },
}

impl<'b> Runner<'b> {
    /// Prepares `plan`.
    ///
    /// # Errors
    /// [`Failure::Failed`] if the plan cannot be prepared.
    #[cfg_attr(not(feature = "tract"), allow(unused_variables))]
    pub fn new(how: How, file: &Arc<BundleFile>, bundle: &'b Bundle<'b>, plan: u16) -> Result<Self, Failure> {
        let engine = match how.backend {
            Backend::Kernels => {
                find(bundle, plan)?;
                let threads = Threads::new(how.threads).map_err(Failure::because)?;
                let executor = ThreadedExecutor::with_isa(bundle, plan, &threads, how.isa);
                Engine::Kernels(Box::new(executor.map_err(Failure::because)?))
            }
            #[cfg(feature = "tract")]
            Backend::Tract => {
                let family = TractFamily::with_isa(file.clone(), how.isa).map_err(Failure::because)?;
                let model = Box::new(family.plan(plan).map_err(Failure::because)?);
                Engine::Tract { family, model }
            }
            #[cfg(not(feature = "tract"))]
            Backend::Tract => return Err(Failure::Usage("this binary was built without feature `tract`".into())),
        };
        Ok(Self { bundle, plan, engine })
    }

    /// Makes `plan` the current one. The arena grows if it must and never shrinks by itself.
    ///
    /// # Errors
    /// [`Failure::Failed`] if there is no such plan.
    pub fn switch(&mut self, plan: u16) -> Result<(), Failure> {
        if plan == self.plan {
            return Ok(());
        }
        match &mut self.engine {
            Engine::Kernels(executor) => {
                find(self.bundle, plan)?;
                executor.switch(plan).map_err(Failure::because)?;
            }
            #[cfg(feature = "tract")]
            Engine::Tract { family, model } => **model = family.plan(plan).map_err(Failure::because)?,
        }
        self.plan = plan;
        Ok(())
    }

    /// Runs the current plan; `output` receives the logits.
    ///
    /// # Errors
    /// [`Failure::Failed`] if the bundle changed while it is in use.
    pub fn run(&mut self, input: &[i8], output: &mut Vec<i8>) -> Result<(), Failure> {
        output.clear();
        match &mut self.engine {
            Engine::Kernels(executor) => {
                let target = executor.input().map_err(Failure::because)?;
                if target.len() != input.len() {
                    let (need, have) = (target.len(), input.len());
                    return Err(Failure::Failed(format!("the input needs {need} bytes, {have} given")));
                }
                target.copy_from_slice(input);
                output.extend_from_slice(executor.run().map_err(Failure::because)?);
            }
            #[cfg(feature = "tract")]
            Engine::Tract { model, .. } => output.extend(model.run(input).map_err(Failure::because)?),
        }
        Ok(())
    }

    /// Most bytes of activations that the current plan holds at once: its arena, or what tract's order of evaluation needs.
    pub fn activation_bytes(&self) -> Result<u64, Failure> {
        match &self.engine {
            Engine::Kernels(_) => Ok(u64::from(find(self.bundle, self.plan)?.arena_bytes)),
            #[cfg(feature = "tract")]
            Engine::Tract { model, .. } => model.peak_activation_bytes().map_err(Failure::because),
        }
    }

    /// Bytes of scratch beside the arena that threads after the first take.
    pub fn thread_scratch_bytes(&self) -> usize {
        match &self.engine {
            Engine::Kernels(executor) => executor.scratch_bytes(),
            #[cfg(feature = "tract")]
            Engine::Tract { .. } => 0,
        }
    }
}

/// The plan of that index, or what the bundle holds instead.
///
/// # Errors
/// [`Failure::Failed`].
pub fn find<'b>(bundle: &Bundle<'b>, index: u16) -> Result<Plan<'b>, Failure> {
    let last = bundle.plan_count().saturating_sub(1);
    bundle.plan(index).ok_or_else(|| Failure::Failed(format!("no plan {index}: the bundle holds plans 0 to {last}")))
}
