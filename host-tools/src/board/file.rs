//! The TOML of a board file.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Deserialize;
use stitchkit_runtime::profile::{BoardProfile, Coefficients, LatencyModel, OpClass};
use toml::{Table, Value};

use super::{Board, BoardLimits, HeldOut, Method, Origin};

/// Classes that board files may lack because they came later; they are estimated.
const LATER: [OpClass; 2] = [OpClass::LayerNorm, OpClass::Attention];
/// The only value of `schema` this version reads.
const SCHEMA: i64 = 1;

#[derive(Deserialize)]
struct Raw {
    schema: Option<i64>,
    name: Option<String>,
    #[serde(default)]
    description: String,
    ram_bytes: Option<i64>,
    fast_ram_bytes: Option<i64>,
    flash_bytes: Option<i64>,
    clock_hz: Option<i64>,
    #[serde(default)]
    limits: BoardLimits,
    origin: Option<RawOrigin>,
    latency: Option<Table>,
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct RawOrigin {
    method: Option<Method>,
    #[serde(default)]
    kernels: String,
    #[serde(default)]
    how: String,
    #[serde(default)]
    steps: u32,
    held_out: Option<HeldOut>,
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

pub fn parse(text: &str) -> Result<Board, Vec<String>> {
    let raw: Raw = toml::from_str(text).map_err(|error| vec![error.to_string().trim_end().to_owned()])?;
    let mut check = Check(Vec::new());
    let board = check.board(raw);
    if check.0.is_empty() { Ok(board) } else { Err(check.0) }
}

/// Collects problems; a value that is wrong is replaced by one that lets the check go on.
struct Check(Vec<String>);

impl Check {
    fn board(&mut self, raw: Raw) -> Board {
        if raw.schema != Some(SCHEMA) {
            self.0.push(format!("`schema` must be {SCHEMA}"));
        }
        self.unknown("", &raw.unknown);
        let name = raw.name.unwrap_or_default();
        if name.is_empty() || name.chars().any(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(c)) {
            self.0.push("`name` must be made of letters, digits, `-`, `_` and `.`".to_owned());
        }
        let clock_hz = raw.clock_hz.and_then(|hz| u64::try_from(hz).ok()).filter(|&hz| hz > 0);
        if raw.clock_hz.is_some() && clock_hz.is_none() {
            self.0.push("`clock_hz` must be at least 1".to_owned());
        }
        let ram_bytes = self.bytes("ram_bytes", raw.ram_bytes);
        let fast_ram_bytes = raw.fast_ram_bytes.map_or(0, |bytes| self.bytes("fast_ram_bytes", Some(bytes)));
        let flash_bytes = self.bytes("flash_bytes", raw.flash_bytes);
        let model = self.model(raw.latency);
        let profile = BoardProfile { ram_bytes, flash_bytes, model };
        let limits = self.limits(raw.limits);
        let (description, origin) = (raw.description, self.origin(raw.origin));
        Board { name, description, clock_hz, profile, fast_ram_bytes, limits, origin }
    }

    fn unknown(&mut self, within: &str, keys: &BTreeMap<String, Value>) {
        self.0.extend(keys.keys().map(|key| format!("unknown key `{within}{key}`")));
    }

    fn bytes(&mut self, key: &str, value: Option<i64>) -> u32 {
        let bytes = value.and_then(|bytes| u32::try_from(bytes).ok()).filter(|&bytes| bytes > 0);
        if bytes.is_none() {
            self.0.push(format!("`{key}` must be between 1 and {}", u32::MAX));
        }
        bytes.unwrap_or(1)
    }

    fn limits(&mut self, limits: BoardLimits) -> BoardLimits {
        let is_zero = [("deadline_us", limits.deadline_us), ("ram_bytes", limits.ram_bytes.map(u64::from))];
        for (key, _) in is_zero.iter().filter(|(_, value)| *value == Some(0)) {
            self.0.push(format!("`limits.{key}` must be at least 1; leave it out for no limit"));
        }
        limits
    }

    fn origin(&mut self, raw: Option<RawOrigin>) -> Origin {
        let Some(raw) = raw else {
            self.0.push("table `origin` is missing: it says where the latencies come from".to_owned());
            return Origin {
                method: Method::Estimated,
                kernels: String::new(),
                how: String::new(),
                steps: 0,
                held_out: None,
            };
        };
        self.unknown("origin.", &raw.unknown);
        if raw.method.is_none() {
            self.0.push("`origin.method` must be `timed`, `counted-instructions` or `estimated`".to_owned());
        }
        Origin {
            method: raw.method.unwrap_or(Method::Estimated),
            kernels: raw.kernels,
            how: raw.how,
            steps: raw.steps,
            held_out: raw.held_out,
        }
    }

    fn model(&mut self, latency: Option<Table>) -> LatencyModel {
        let mut latency = latency.unwrap_or_default();
        let mut model = LatencyModel::ZERO;
        let mut missing = Vec::new();
        for class in OpClass::ALL {
            match latency.remove(class.name()) {
                Some(Value::Table(table)) => *model.class_mut(class) = self.coefficients(class, table),
                None if LATER.contains(&class) => missing.push(class),
                _ => self.0.push(format!("table `latency.{}` is missing", class.name())),
            }
        }
        model.weight_byte_ps = self.ps("latency.weight_byte_ps", latency.remove("weight_byte_ps"));
        self.0.extend(latency.keys().map(|key| format!("unknown key `latency.{key}`")));
        missing.into_iter().for_each(|class| model.estimate(class));
        model
    }

    fn coefficients(&mut self, class: OpClass, mut table: Table) -> Coefficients {
        let key = |name: &str| format!("latency.{}.{name}", class.name());
        let ps = Coefficients::NAMES.map(|name| self.ps(&key(name), table.remove(name)));
        self.0.extend(table.keys().map(|name| format!("unknown key `{}`", key(name))));
        Coefficients::from_array(ps)
    }

    /// Picoseconds; 0 where the key is missing.
    fn ps(&mut self, key: &str, value: Option<Value>) -> u32 {
        let Some(value) = value else { return 0 };
        let ps = value.as_integer().and_then(|ps| u32::try_from(ps).ok());
        if ps.is_none() {
            self.0.push(format!("`{key}` must be whole picoseconds between 0 and {}", u32::MAX));
        }
        ps.unwrap_or(0)
    }
}

pub fn text(board: &Board) -> String {
    let mut text = String::from("# A board file of stitchkit. Latencies are in picoseconds.\n");
    // Writing to a string cannot fail.
    let _ = head(&mut text, board);
    let _ = latencies(&mut text, &board.profile.model);
    text
}

fn head(text: &mut String, board: &Board) -> std::fmt::Result {
    let quoted = |text: &str| Value::from(text).to_string();
    writeln!(text, "schema = {SCHEMA}\nname = {}", quoted(&board.name))?;
    if !board.description.is_empty() {
        writeln!(text, "description = {}", quoted(&board.description))?;
    }
    writeln!(text, "# Free for an arena, and for a bundle.")?;
    writeln!(text, "ram_bytes = {}\nflash_bytes = {}", board.profile.ram_bytes, board.profile.flash_bytes)?;
    if board.fast_ram_bytes > 0 {
        writeln!(
            text,
            "# Free for an arena in a faster memory beside that.\nfast_ram_bytes = {}",
            board.fast_ram_bytes
        )?;
    }
    if let Some(hz) = board.clock_hz {
        writeln!(text, "clock_hz = {hz}")?;
    }
    if board.limits != BoardLimits::default() {
        writeln!(text, "\n# What the application allows an inference.\n[limits]")?;
    }
    if let Some(us) = board.limits.deadline_us {
        writeln!(text, "deadline_us = {us}")?;
    }
    if let Some(bytes) = board.limits.ram_bytes {
        writeln!(text, "ram_bytes = {bytes}")?;
    }
    let origin = &board.origin;
    let method = match origin.method {
        Method::Timed => "timed",
        Method::CountedInstructions => "counted-instructions",
        Method::Estimated => "estimated",
    };
    writeln!(text, "\n[origin]\nmethod = \"{method}\"")?;
    writeln!(text, "kernels = {}\nhow = {}\nsteps = {}", quoted(&origin.kernels), quoted(&origin.how), origin.steps)?;
    let Some(held_out) = &origin.held_out else { return Ok(()) };
    writeln!(
        text,
        "\n# Predictions of plans that the fit did not see.\n[origin.held_out]\nplans = {}",
        held_out.plans
    )?;
    writeln!(text, "median_error_percent = {:?}", held_out.median_error_percent)?;
    writeln!(text, "worst_error_percent = {:?}", held_out.worst_error_percent)
}

fn latencies(text: &mut String, model: &LatencyModel) -> std::fmt::Result {
    writeln!(text, "\n[latency]\nweight_byte_ps = {}", model.weight_byte_ps)?;
    for class in OpClass::ALL {
        writeln!(text, "\n[latency.{}]", class.name())?;
        let named = Coefficients::NAMES.iter().zip(model.class(class).as_array());
        for (key, ps) in named.filter(|&(_, ps)| ps > 0) {
            writeln!(text, "{key} = {ps}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stitchkit_runtime::bundle::{AlignedBytes, Bundle};
    use stitchkit_runtime::profile::Work;

    use super::*;

    fn board() -> Board {
        Board {
            name: "qemu-m4".to_owned(),
            description: "an \"emulated\" board\nwith two lines".to_owned(),
            clock_hz: Some(168_000_000),
            profile: BoardProfile { ram_bytes: 100_000, flash_bytes: 900_000, model: LatencyModel::CORTEX_M4 },
            fast_ram_bytes: 65_536,
            limits: BoardLimits { deadline_us: Some(30_000), ram_bytes: Some(65_536) },
            origin: Origin {
                method: Method::CountedInstructions,
                kernels: "arm-dsp".to_owned(),
                how: "bench".to_owned(),
                steps: 12,
                held_out: Some(HeldOut { plans: 3, median_error_percent: 1.5, worst_error_percent: 4.0 }),
            },
        }
    }

    #[test]
    fn a_board_survives_its_file() {
        let board = board();
        assert_eq!(Board::parse(&board.to_text()), Ok(board.clone()));
        let limits = BoardLimits::default();
        let bare = Board { description: String::new(), clock_hz: None, fast_ram_bytes: 0, limits, ..board };
        assert_eq!(Board::parse(&bare.to_text()), Ok(bare));
    }

    #[test]
    fn the_shipped_boards_are_valid_and_named_as_their_files() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/boards");
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty());
        for file in files {
            let board = Board::read(&file).unwrap();
            assert_eq!(Some(board.name.as_str()), file.file_stem().and_then(|stem| stem.to_str()));
        }
    }

    #[test]
    fn the_priors_predict_as_the_boards_do_at_one_instruction_per_nanosecond() {
        let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/boards"));
        let bytes = AlignedBytes::copy_of(&crate::board::shapes::bundle().unwrap());
        let bundle = Bundle::parse(bytes.as_slice()).unwrap();
        let steps = |plan| bundle.steps_of(&plan).map(|placed| Work::of_placed(&bundle, &placed)).collect::<Vec<_>>();
        let works: Vec<Work> = bundle.plans().flat_map(steps).collect();
        for (name, prior) in [
            ("qemu-m4.toml", LatencyModel::CORTEX_M4),
            ("qemu-m3.toml", LatencyModel::SCALAR),
            ("qemu-m55.toml", LatencyModel::CORTEX_M55),
        ] {
            let board = Board::read(&folder.join(name)).unwrap();
            let counted = board.profile.model.scaled(board.clock_hz.unwrap(), 1_000_000_000);
            for work in &works {
                let (file, code) = (counted.step_ps(work), prior.step_ps(work));
                assert!(file.abs_diff(code) <= file / 25, "{name}: {work:?}: {file}, {code}");
            }
        }
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let text = board()
            .to_text()
            .replace("ram_bytes = 100000", "ram_bytes = -1\nram = 5")
            .replace("[latency.max-pool]", "[latency.pol]")
            .replace("deadline_us = 30000", "deadline_us = 0")
            .replace("weight_byte_ps = 0", "weight_byte_ps = 0.5");
        let problems = Board::parse(&text).unwrap_err().join("; ");
        for word in [
            "`limits.deadline_us`",
            "`ram_bytes`",
            "`ram`",
            "latency.max-pool`",
            "`latency.pol`",
            "`latency.weight_byte_ps`",
        ] {
            assert!(problems.contains(word), "{word} is missing in: {problems}");
        }
        assert!(Board::parse("").unwrap_err().len() > 5);
        assert!(Board::parse("name = 3").unwrap_err()[0].contains("name = 3"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(\\[?[a-z_.]{0,12}\\]? ?=? ?[0-9\"-]{0,12}\n){0,12}") {
            let _ = Board::parse(&text);
        }

        #[test]
        fn any_coefficient_survives(ps in any::<[u32; Coefficients::COUNT]>(), class in 0..OpClass::COUNT) {
            let mut board = board();
            *board.profile.model.class_mut(OpClass::ALL[class]) = Coefficients::from_array(ps);
            prop_assert_eq!(Board::parse(&board.to_text()), Ok(board));
        }
    }
}
