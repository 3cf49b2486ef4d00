//! `stitchkit init`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;
use stitchkit::family::draft::{Draft, DraftAnchor, draft, seen_from};
use stitchkit::family::{FILE_NAME, Family};
use stitchkit::graph::{self, Graph, ImportError};
use stitchkit::stitch::space;

use super::Ui;

/// Arguments of `stitchkit init`.
#[derive(Debug, clap::Args)]
pub struct Command {
    /// ONNX files of the anchors, in any order.
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Folder of the family; its family.toml must not exist yet.
    #[arg(long)]
    out: PathBuf,
    /// Also read all weights and compare each anchor's float results with tract's.
    #[arg(long)]
    check: bool,
}

#[derive(Serialize)]
struct Report {
    family: PathBuf,
    anchors: usize,
    stitches: usize,
    remarks: Vec<String>,
}

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        let file = self.out.join(FILE_NAME);
        if file.exists() {
            bail!("{} exists; remove it or choose another folder", file.display());
        }
        std::fs::create_dir_all(&self.out).with_context(|| format!("cannot create {}", self.out.display()))?;
        let folder = self.out.canonicalize().with_context(|| format!("cannot find {}", self.out.display()))?;
        let import: Import = if self.check { graph::import } else { graph::import_structure };
        let anchors = anchors(&self.models, &folder, import, ui)?;
        let name = folder.file_name().map_or_else(|| "family".to_owned(), |name| name.to_string_lossy().into_owned());
        let Draft { text, mut remarks } = draft(&name, anchors);
        write(&folder, &text)?;
        let family = Family::load_structure(&folder);
        let (anchors, stitches) = match &family {
            Ok(family) => match space::enumerate(family) {
                Ok(space) => {
                    remarks.extend(space.warnings);
                    (family.anchors.len(), space.candidates.len() - family.anchors.len())
                }
                Err(error) => {
                    remarks.push(error.to_string());
                    (family.anchors.len(), 0)
                }
            },
            Err(error) => {
                remarks.push(error.to_string());
                (0, 0)
            }
        };
        let report = Report { family: file, anchors, stitches, remarks };
        ui.print(&report, || text_of(&report))
    }
}

type Import = fn(&Path) -> Result<Graph, ImportError>;

fn anchors(models: &[PathBuf], folder: &Path, import: Import, ui: &Ui) -> anyhow::Result<Vec<DraftAnchor>> {
    let (mut anchors, mut problems, mut names) = (Vec::new(), Vec::new(), HashSet::new());
    let bar = ui.bar(models.len() as u64, "reading anchors");
    for model in models {
        let stem = model.file_stem().map_or_else(|| "anchor".into(), |stem| stem.to_string_lossy().into_owned());
        let name = if names.insert(stem.clone()) { stem } else { format!("{stem}-{}", names.len() + 1) };
        let path = model.canonicalize().unwrap_or_else(|_| model.clone());
        match import(&path) {
            Ok(graph) => anchors.push(DraftAnchor { name, model: seen_from(folder, &path), graph }),
            Err(error) => problems.push(error.to_string()),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if problems.is_empty() { Ok(anchors) } else { bail!(problems.join("\n")) }
}

/// Writes under a temporary name first.
fn write(folder: &Path, text: &str) -> anyhow::Result<()> {
    let (part, file) = (folder.join(format!("{FILE_NAME}.part")), folder.join(FILE_NAME));
    std::fs::write(&part, text).with_context(|| format!("cannot write {}", part.display()))?;
    std::fs::rename(&part, &file).with_context(|| format!("cannot write {}", file.display()))
}

fn text_of(report: &Report) -> String {
    let mut text = format!(
        "{}: {} anchors, {} stitches; `stitchkit stitches` lists them\n",
        report.family.display(),
        report.anchors,
        report.stitches
    );
    for remark in &report.remarks {
        text += &format!("remark: {remark}\n");
    }
    text
}
