//! `stitchkit students`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::Serialize;
use stitchkit::family::{Anchor, FILE_NAME, Family};
use stitchkit::files;
use stitchkit::report::table::{Align, Table, grouped};
use stitchkit::students::{Student, StudentShape, blocks, description, student};

use super::Ui;

/// Arguments of `stitchkit students`.
///
/// A student is a large network's ONNX file with fewer channels and fewer blocks, and what remains of the weights: of every
/// layer the strongest channels, scaled on calibration images to what the layer gave before. The folder gets the students and a family.toml that has them as anchors and the large
/// network as teacher. Training distils it into all students at once and joins them; the large network is in no bundle.
///
/// Fewer blocks are possible for any network, fewer channels for networks of convolutions (batch norm, ReLU, sums, pools) with
/// a fully connected head. Other students, with weights of any kind, can be written into family.toml by hand.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stitchkit students models/digits --out students                              digits-l, whole and at half its width
  stitchkit students F --anchor big --widths 1,0.5 --blocks 1,2,1 --out S      two widths, fewer blocks in each stage
  stitchkit students F --widths 1 --blocks 6 --blocks 9 --out S                a transformer of 12 blocks, cut to 6 and 9
  stitchkit train S --out POOL --train anchors --learngene all --epochs 30     distil the large network
  stitchkit train POOL --out FINAL --epochs 30                                 train the stitches between the students
  stitchkit export FINAL --out final.stk")]
pub struct Command {
    /// The family with the large network: its folder, or its family.toml. `stitchkit init` makes one of an ONNX file.
    family: PathBuf,
    /// The anchor that is the large network. Default: the largest.
    #[arg(long, value_name = "NAME")]
    anchor: Option<String>,
    /// Shares of the channels, one student for each; 1 keeps all.
    #[arg(long, value_name = "SHARES", value_delimiter = ',', default_values_t = [1.0, 0.5])]
    widths: Vec<f64>,
    /// Blocks left in each stage, front to end; given several times, every width comes in every depth. Default: all blocks.
    #[arg(long, value_name = "N,N,...")]
    blocks: Vec<Counts>,
    /// Folder of the new family.
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
}

/// Blocks of each stage.
#[derive(Debug, Clone)]
struct Counts(Vec<usize>);

impl std::str::FromStr for Counts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            part.trim()
                .parse()
                .map_err(|_| format!("`{part}` is no number of blocks; write one per stage, as in 1,2,1"))
        };
        text.split(',').map(number).collect::<Result<_, _>>().map(Self)
    }
}

#[derive(Serialize)]
struct Report {
    family: PathBuf,
    teacher: Row,
    students: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    macs: u64,
    params: u64,
    /// Blocks of each stage.
    blocks: Vec<usize>,
}

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        let family = Family::load(&self.family)?;
        let anchor = self.large(&family)?;
        let file = self.out.join(FILE_NAME);
        if file.exists() {
            bail!("{} exists; remove it or choose another folder", file.display());
        }
        let students = self.students(&family, anchor, ui)?;
        std::fs::create_dir_all(&self.out).with_context(|| format!("cannot create {}", self.out.display()))?;
        let text = description::text(&family, anchor, &students, &self.out)?;
        for student in &students {
            let path = self.out.join(format!("{}.onnx", student.name));
            files::replace(&path, &student.bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        files::replace(&file, text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))?;
        let made = Family::load_structure(&self.out)?;
        let depths = |anchor: &Anchor, family: &Family| {
            blocks::by_stage(family, anchor).iter().map(Vec::len).collect::<Vec<_>>()
        };
        let row = |anchor: &Anchor, family: &Family| Row {
            name: anchor.name.clone(),
            macs: anchor.macs,
            params: anchor.params,
            blocks: depths(anchor, family),
        };
        let report = Report {
            family: file,
            teacher: row(anchor, &family),
            students: made.anchors.iter().map(|student| row(student, &made)).collect(),
        };
        ui.print(&report, || text_of(&report))
    }

    fn large<'a>(&self, family: &'a Family) -> anyhow::Result<&'a Anchor> {
        let Some(name) = &self.anchor else { return family.anchors.last().context("the family has no anchors") };
        let known = || family.anchors.iter().map(|anchor| anchor.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = family.anchors.iter().find(|anchor| anchor.name == *name);
        found.with_context(|| format!("the family has no anchor `{name}`; it has {}", known()))
    }

    /// All students, cheapest first.
    fn students(&self, family: &Family, anchor: &Anchor, ui: &Ui) -> anyhow::Result<Vec<Student>> {
        let depths: Vec<Option<Vec<usize>>> = match self.blocks.is_empty() {
            true => vec![None],
            false => self.blocks.iter().map(|counts| Some(counts.0.clone())).collect(),
        };
        let shapes = depths
            .iter()
            .flat_map(|blocks| self.widths.iter().map(|&width| StudentShape { width, blocks: blocks.clone() }));
        let images = match &family.config.calibration {
            Some(_) => Some(family.training_images()?.calibration),
            None => {
                ui.warn("the family has no [calibration]; students start with weights that no image was seen through");
                None
            }
        };
        let mut students: Vec<Student> = Vec::new();
        let bar = ui.bar((depths.len() * self.widths.len()) as u64, "making students");
        for shape in shapes {
            let student = student(family, anchor, &shape, images.as_ref())?;
            if students.iter().any(|other| other.name == student.name) {
                bail!("two students would be `{}`; give every width and depth once", student.name);
            }
            students.push(student);
            bar.inc(1);
        }
        bar.finish_and_clear();
        students.sort_by_key(|student| student.macs);
        Ok(students)
    }
}

fn text_of(report: &Report) -> String {
    let columns = [("", Align::Left), ("MACs", Align::Right), ("parameters", Align::Right), ("blocks", Align::Left)];
    let mut table = Table::new(&columns);
    let large = (format!("{} (teacher)", report.teacher.name), &report.teacher);
    for (name, row) in report.students.iter().map(|row| (row.name.clone(), row)).chain([large]) {
        let blocks = row.blocks.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        table.row([name, grouped(row.macs), grouped(row.params), blocks]);
    }
    format!("{}\n\n{table}", report.family.display())
}
