//! `stitchkit train`.

mod options;
mod view;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use stitchkit::family::{Cuts, FILE_NAME, Family, find_positions};
use stitchkit::graph;
use stitchkit::train::teacher::Teacher;
use stitchkit::train::{self, Job, Start};

use self::options::Options;
use self::view::View;
use super::Ui;

/// The teacher that needs no file.
const LARGEST: &str = "largest";
/// No teacher.
const NONE: &str = "none";

/// Arguments of `stitchkit train`.
///
/// Every step draws one network of the family, anchors included, and trains it; all networks share their weights, so one
/// short run lifts all of them. Stitching layers start from least squares. The folder gets a whole new family: the ONNX files
/// with trained weights, stitches.safetensors, and a family.toml that `stitchkit export` takes. A batch norm in the files
/// becomes the identity, its effect is in the layer before it.
///
/// The run can be stopped at any moment: Ctrl-C keeps every step done, kill -9 and a loss of power all up to the last
/// checkpoint. The same command with --resume goes on from there and ends with the same weights, bit for bit, on any
/// number of threads.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stitchkit train models/digits --dry-run                          what it would do, and the memory it needs
  stitchkit train models/digits --out better --epochs 10           train everything
  stitchkit export better --out better.stk                         the bundle of the new family
  stitchkit train F --out G --train lora --rank 8                  anchors as they are, low-rank stitches
  stitchkit train F --out G --sampler shift --teacher none         draws go where they help; labels alone teach
  stitchkit train STUDENTS --out POOL --train anchors --learngene all   distil the large network of `stitchkit students`
  stitchkit train POOL --out FINAL                                 then join its students")]
pub struct Command {
    /// The family: its folder, or its family.toml.
    family: PathBuf,
    /// Folder of the run and of the new family. Default: the family's name with `-trained`, in the current folder.
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on from the checkpoint in the folder; repeat the other options.
    #[arg(long)]
    resume: bool,
    /// Print the plan and the memory it needs, train nothing.
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,
    /// Threads. Default: all processors.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Longest time between two checkpoints.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    checkpoint_seconds: u64,
    /// Network to learn from: an ONNX file, `largest` for the family's largest anchor as it is before training, or `none`.
    /// Default: `[teacher]` of family.toml, `largest` without one.
    #[arg(long, value_name = "MODEL.onnx|largest|none")]
    teacher: Option<String>,
    #[command(flatten)]
    options: Options,
}

impl Command {
    fn has_teacher(&self) -> bool {
        self.teacher.as_deref() != Some(NONE)
    }

    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        let family = Family::load(&self.family)?;
        let settings = self.options.settings(&family, self.has_teacher());
        let out = self.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}-trained", family.config.name)));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build().context("cannot start threads")?;
        let source = || self.has_teacher().then(|| teacher(&family, self.teacher.as_deref())).transpose();
        if self.dry_run {
            let source = if settings.learngene.is_some() { source()? } else { None };
            let plan = pool.install(|| train::plan(&family, &settings, source.as_ref(), pool.current_num_threads()))?;
            return ui.print(&plan, || view::plan(&family.config.name, &plan));
        }
        refuse_source(&family, &out)?;
        let job = Job {
            family: &family,
            settings,
            out,
            start: if self.resume { Start::Resume } else { Start::New },
            teacher: source()?,
            checkpoint_every: Duration::from_secs(self.checkpoint_seconds),
            stop: stop_on_interrupt()?,
        };
        let view = View::new(ui, &family);
        let outcome = pool.install(|| train::train(&job, &view))?;
        view.finish();
        ui.print(&outcome, || view::outcome(&job.out.display().to_string(), &outcome))
    }
}

/// Becomes true at the first Ctrl-C; the second ends the process at once.
fn stop_on_interrupt() -> anyhow::Result<&'static AtomicBool> {
    static STOP: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .context("cannot wait for Ctrl-C")?;
    Ok(&STOP)
}

/// The family that is trained must not be overwritten by the one that comes out.
fn refuse_source(family: &Family, out: &Path) -> anyhow::Result<()> {
    let (Ok(source), Ok(target)) = (family.folder.canonicalize(), out.canonicalize()) else { return Ok(()) };
    if source == target {
        bail!("{} holds the family that is to be trained; name another folder", out.display());
    }
    if out.join(FILE_NAME).exists() && !out.join(train::log::FILE_NAME).exists() {
        bail!("{} holds a family that no training run wrote; name another folder", out.display());
    }
    Ok(())
}

fn teacher(family: &Family, name: Option<&str>) -> anyhow::Result<Teacher> {
    let (path, cuts) = match (name, &family.config.teacher) {
        (None, Some(teacher)) => (family.folder.join(&teacher.model), teacher.cuts.clone()),
        (None | Some(LARGEST), _) => {
            let largest = family.anchors.last().context("the family has no anchors")?;
            return Ok(Teacher { graph: largest.graph.clone(), cuts: largest.cuts.clone() });
        }
        (Some(name), _) => (PathBuf::from(name), Cuts::Blocks),
    };
    let graph = graph::import(&path).context("the teacher cannot be used")?;
    let found = find_positions(&graph, &cuts, family.config.stitching.space);
    let cuts = match (found, name) {
        (Ok(cuts), _) => cuts,
        // Only the answers of any network matter, unless students are to follow it inside.
        (Err(_), Some(_)) => Vec::new(),
        (Err(problems), None) => bail!("the teacher of family.toml: {}", problems.join("; ")),
    };
    Ok(Teacher { graph, cuts })
}
