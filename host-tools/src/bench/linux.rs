//! The runtime on Linux beside ONNX Runtime and LiteRT: what `tests/peers.sh` measures, as tables.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::report::table::grouped;

/// Opens a block of a document that holds [`arm_table`].
pub const ARM: &str = "<!-- bench:linux-arm -->";
/// Opens a block of a document that holds [`host_table`].
pub const HOST: &str = "<!-- bench:linux-host -->";

/// What the script calls this machine; others are emulated processors.
const THIS_MACHINE: &str = "host, us";

/// What one inference takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// Emulated processor, or `host, us`: this machine, in microseconds of processor time.
    pub machine: String,
    /// Network.
    pub network: String,
    /// `stitchkit`, `with tract`, `onnxruntime` or `litert`.
    pub runtime: String,
    /// Instructions, or microseconds.
    pub per_run: u64,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinuxError {
    /// The repository is not where it was looked for.
    #[error("there is no {}; run this from the root of the repository, or name its folder examples/qemu-cortex-m with --firmware", .script.display())]
    NoScript {
        /// The script.
        script: PathBuf,
    },
    /// The script cannot be started or read.
    #[error("cannot run {}", .script.display())]
    Run {
        /// The script.
        script: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The script gave up; it has said why.
    #[error("{} ended with status {status:?}", .script.display())]
    Failed {
        /// The script.
        script: PathBuf,
        /// Exit status; `None` if it was killed.
        status: Option<i32>,
    },
}

/// Runs the script with this program as `stitchkit` and calls `watch` with every figure as it comes.
///
/// # Errors
/// [`LinuxError`].
pub fn measure(script: &Path, program: &Path, mut watch: impl FnMut(&Figure)) -> Result<Vec<Figure>, LinuxError> {
    if !script.is_file() {
        return Err(LinuxError::NoScript { script: script.to_owned() });
    }
    let failed = |source| LinuxError::Run { script: script.to_owned(), source };
    let mut child = Command::new("bash")
        .arg(script)
        .env("STITCHKIT", program)
        .env("STITCHKIT_PEERS_TABS", "1")
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut figures = Vec::new();
    for line in child.stdout.take().into_iter().flat_map(|pipe| BufReader::new(pipe).lines()) {
        if let Some(figure) = figure(&line.map_err(failed)?) {
            watch(&figure);
            figures.push(figure);
        }
    }
    let status = child.wait().map_err(failed)?;
    match status.success() {
        true => Ok(figures),
        false => Err(LinuxError::Failed { script: script.to_owned(), status: status.code() }),
    }
}

/// Machine, network, runtime and figure, with tabs between them; `None` for a heading.
fn figure(line: &str) -> Option<Figure> {
    let mut words = line.split('\t').map(str::trim);
    let mut word = || words.next().map(str::to_owned);
    let (machine, network, runtime) = (word()?, word()?, word()?);
    Some(Figure { machine, network, runtime, per_run: word()?.parse().ok()? })
}

/// Instructions on emulated processors, a row per network and processor; in brackets ours over theirs.
#[must_use]
pub fn arm_table(figures: &[Figure]) -> String {
    let mut text = "| network | processor | step loop | tract executor | LiteRT | ONNX Runtime |\n\
                    |---|---|---:|---:|---:|---:|\n"
        .to_owned();
    let ours = figures.iter().filter(|f| f.machine != THIS_MACHINE && f.runtime == "stitchkit");
    let mut ours: Vec<&Figure> = ours.collect();
    // The script goes through the networks of a processor; the sort keeps the order of processors.
    ours.sort_by_key(|f| figures.iter().position(|other| other.network == f.network));
    let mut before = "";
    for f in ours {
        let network = if before == f.network { "" } else { title(&f.network) };
        before = &f.network;
        let tract = peer(figures, f, "with tract").map_or(String::new(), |n| {
            format!("{} ({:+.1} %)", grouped(n), (n as f64 / f.per_run.max(1) as f64 - 1.0) * 100.0)
        });
        let [litert, ort] = ["litert", "onnxruntime"].map(|runtime| with_ratio(figures, f, runtime));
        let own = grouped(f.per_run);
        let _ = writeln!(text, "| {network} | `{}` | {own} | {tract} | {litert} | {ort} |", f.machine);
    }
    text
}

/// Microseconds on this machine, a row per network; in brackets ours over theirs.
#[must_use]
pub fn host_table(figures: &[Figure]) -> String {
    let mut text = "| network | stitchkit | LiteRT | ONNX Runtime |\n|---|---:|---:|---:|\n".to_owned();
    for f in figures.iter().filter(|f| f.machine == THIS_MACHINE && f.runtime == "stitchkit") {
        let [litert, ort] = ["litert", "onnxruntime"].map(|runtime| with_ratio(figures, f, runtime));
        let _ = writeln!(text, "| {} | {} | {litert} | {ort} |", title(&f.network), grouped(f.per_run));
    }
    text
}

fn peer(figures: &[Figure], ours: &Figure, runtime: &str) -> Option<u64> {
    let is_beside = |f: &&Figure| f.machine == ours.machine && f.network == ours.network && f.runtime == runtime;
    figures.iter().find(is_beside).map(|f| f.per_run)
}

fn with_ratio(figures: &[Figure], ours: &Figure, runtime: &str) -> String {
    peer(figures, ours, runtime)
        .map_or(String::new(), |n| format!("{} ({:.2})", grouped(n), ours.per_run as f64 / n.max(1) as f64))
}

/// Name for people.
fn title(network: &str) -> &str {
    match network {
        "resnet8" => "ResNet-8, 32x32",
        "mobilenetv2" => "MobileNetV2 0.35, 96x96",
        "deit-ti" => "DeiT-Ti, 224x224",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "machine\tnetwork\truntime\tper run\tours/it\n\
        host, us\tresnet8\tstitchkit\t43\t\nhost, us\tresnet8\tonnxruntime\t185\t0.23\nhost, us\tresnet8\tlitert\t39\t1.10\n\
        max\tresnet8\tstitchkit\t1000\t\nmax\tresnet8\twith tract\t1020\t0.98\nmax\tresnet8\tlitert\t2000\t0.50\n\
        max\tother\tstitchkit\t7000\t\nbig\tresnet8\tstitchkit\t1500\t\n";

    #[test]
    fn figures_are_read_and_headings_are_none() {
        let figures: Vec<Figure> = SAID.lines().filter_map(figure).collect();
        assert_eq!(figures.len(), 8);
        assert_eq!((figures[0].machine.as_str(), figures[4].runtime.as_str()), (THIS_MACHINE, "with tract"));
    }

    #[test]
    fn tables_have_a_row_per_network_and_machine() {
        let figures: Vec<Figure> = SAID.lines().filter_map(figure).collect();
        assert!(host_table(&figures).ends_with("| ResNet-8, 32x32 | 43 | 39 (1.10) | 185 (0.23) |\n"));
        let arm = arm_table(&figures);
        let rows: Vec<&str> = arm.lines().skip(2).collect();
        assert_eq!(rows[0], "| ResNet-8, 32x32 | `max` | 1,000 | 1,020 (+2.0 %) | 2,000 (0.50) |  |");
        assert_eq!(rows[1], "|  | `big` | 1,500 |  |  |  |");
        assert_eq!(rows[2], "| other | `max` | 7,000 |  |  |  |");
    }

    #[test]
    fn a_missing_script_is_named_and_a_failing_one_has_its_status() {
        let folder = std::env::temp_dir().join(format!("stitchkit-linux-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let script = folder.join("peers.sh");
        let run = || measure(&script, Path::new("stitchkit"), |_| ()).unwrap_err().to_string();
        assert!(run().contains("peers.sh; run this from the root"));
        std::fs::write(&script, "printf 'max\\ta\\tlitert\\t5\\t\\n'; exit 4").unwrap();
        assert!(run().ends_with("ended with status Some(4)"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
