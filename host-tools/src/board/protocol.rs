//! Reads the lines that a board prints about itself ([`Record`](stitchkit_runtime::profile::Record)).

use std::collections::BTreeMap;
use std::io::BufRead;

use stitchkit_runtime::profile::{BoardProfile, RECORD_VERSION, TickUnit};

/// Everything one run of a board said.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// What the board calls itself.
    pub board: String,
    /// Kernel variant that ran.
    pub kernels: String,
    /// Ticks per second.
    pub clock_hz: u32,
    /// What ticks count.
    pub unit: TickUnit,
    /// Bytes free for an arena and for a bundle.
    pub memory: Option<(u32, u32)>,
    /// Length and CRC-32 of the bundle that ran.
    pub bundle: (u32, u32),
    /// Ticks by plan and ordinal, one entry per repetition.
    pub steps: BTreeMap<(u16, u16), Vec<u64>>,
    /// Ticks by plan, one entry per repetition.
    pub plans: BTreeMap<u16, Vec<u64>>,
    /// What the board found out by itself, and the ticks it took for that.
    pub own: Option<(BoardProfile, u64)>,
}

/// Why the lines cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The source cannot be read.
    #[error("the board's report cannot be read")]
    Read(#[source] std::io::Error),
    /// A line that starts with `@` is not one of the protocol.
    #[error("line {line} of the board's report is damaged: `{text}`")]
    Damaged {
        /// Counted from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// The board speaks another version.
    #[error("the board reports in version {found}, this program reads {RECORD_VERSION}; build both from one release")]
    Version {
        /// What the board said.
        found: u16,
    },
    /// The lines ended early, or some never came.
    #[error("the board's report has no `{missing}` line; it said last: {said}")]
    Incomplete {
        /// Keyword of the line.
        missing: &'static str,
        /// The last lines that are not part of the report, where a program says what went wrong.
        said: String,
    },
}

impl Session {
    /// Reads lines up to `@end`. Lines that do not start with `@`, and everything before the first line of a report, are
    /// skipped, so that a log may run in between.
    ///
    /// # Errors
    /// [`ProtocolError`].
    pub fn read(source: impl BufRead) -> Result<Self, ProtocolError> {
        let mut reader = Reader::default();
        for (index, line) in source.split(b'\n').enumerate() {
            let line = String::from_utf8_lossy(&line.map_err(ProtocolError::Read)?).trim().to_owned();
            let Some(words) = line.strip_prefix('@') else {
                reader.note(line);
                continue;
            };
            let words: Vec<&str> = words.split_whitespace().collect();
            if !reader.started && words.first() != Some(&"stitchkit") {
                continue;
            }
            match reader.line(&words) {
                Some(Next::More) => {}
                Some(Next::End) => return reader.finish(true),
                Some(Next::Version(found)) => return Err(ProtocolError::Version { found }),
                None => return Err(ProtocolError::Damaged { line: index + 1, text: line }),
            }
        }
        reader.finish(false)
    }
}

enum Next {
    More,
    End,
    Version(u16),
}

/// Lines kept for an error message.
const NOTES: usize = 3;

#[derive(Default)]
struct Reader {
    started: bool,
    notes: Vec<String>,
    board: Option<String>,
    kernels: Option<String>,
    clock: Option<(u32, TickUnit)>,
    memory: Option<(u32, u32)>,
    bundle: Option<(u32, u32)>,
    steps: BTreeMap<(u16, u16), Vec<u64>>,
    plans: BTreeMap<u16, Vec<u64>>,
    own: Option<(BoardProfile, u64)>,
}

impl Reader {
    fn note(&mut self, line: String) {
        if line.is_empty() {
            return;
        }
        if self.notes.len() == NOTES {
            self.notes.remove(0);
        }
        self.notes.push(line);
    }

    /// Takes one line; `None` if it is damaged.
    fn line(&mut self, words: &[&str]) -> Option<Next> {
        match *words {
            ["stitchkit", version] => {
                let version = version.parse().ok()?;
                if version != RECORD_VERSION {
                    return Some(Next::Version(version));
                }
                // A board that was reset starts over.
                *self = Self { started: true, ..Self::default() };
            }
            ["board", name] => self.board = Some(name.to_owned()),
            ["kernels", name] => self.kernels = Some(name.to_owned()),
            ["clock", hz, unit] => {
                let unit = [TickUnit::Time, TickUnit::Instructions].into_iter().find(|u| u.name() == unit)?;
                self.clock = Some((hz.parse().ok().filter(|&hz| hz > 0)?, unit));
            }
            ["memory", ram, flash] => self.memory = Some((ram.parse().ok()?, flash.parse().ok()?)),
            ["bundle", bytes, crc, _plans] => self.bundle = Some((bytes.parse().ok()?, crc.parse().ok()?)),
            ["step", plan, ordinal, ticks] => {
                let key = (plan.parse().ok()?, ordinal.parse().ok()?);
                self.steps.entry(key).or_default().push(ticks.parse().ok()?);
            }
            ["plan", plan, ticks] => {
                self.plans.entry(plan.parse().ok()?).or_default().push(ticks.parse().ok()?);
            }
            ["profile", ticks, hex] => {
                self.own = Some((BoardProfile::from_bytes(&bytes_of(hex)?)?, ticks.parse().ok()?));
            }
            ["end"] => return Some(Next::End),
            _ => return None,
        }
        Some(Next::More)
    }

    fn finish(self, ended: bool) -> Result<Session, ProtocolError> {
        let said = if self.notes.is_empty() { "nothing".to_owned() } else { self.notes.join(" | ") };
        let missing = |missing: &'static str| ProtocolError::Incomplete { missing, said: said.clone() };
        if !self.started {
            return Err(missing("@stitchkit"));
        }
        if !ended {
            return Err(missing("@end"));
        }
        let (clock_hz, unit) = self.clock.ok_or_else(|| missing("@clock"))?;
        Ok(Session {
            board: self.board.ok_or_else(|| missing("@board"))?,
            kernels: self.kernels.ok_or_else(|| missing("@kernels"))?,
            clock_hz,
            unit,
            memory: self.memory,
            bundle: self.bundle.ok_or_else(|| missing("@bundle"))?,
            steps: self.steps,
            plans: self.plans,
            own: self.own,
        })
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = hex.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|d| d.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stitchkit_runtime::profile::{LatencyModel, Record};

    use super::*;

    fn report() -> String {
        let profile = BoardProfile { ram_bytes: 10, flash_bytes: 20, model: LatencyModel::CORTEX_M4 };
        let mut buffer = [0; BoardProfile::MAX_BYTES];
        let postcard = &*profile.to_bytes(&mut buffer).unwrap();
        let records = [
            Record::Start { version: RECORD_VERSION },
            Record::Board("b"),
            Record::Kernels("reference"),
            Record::Clock { hz: 1000, unit: TickUnit::Time },
            Record::Bundle { bytes: 7, crc: 8, plans: 1 },
            Record::Plan { plan: 0, ticks: 30 },
            Record::Step { plan: 0, ordinal: 0, ticks: 10 },
            Record::Step { plan: 0, ordinal: 0, ticks: 12 },
            Record::Profile { ticks: 99, postcard },
            Record::Memory { ram_bytes: 1, flash_bytes: 2 },
            Record::End,
        ];
        let lines: Vec<String> = records.iter().map(|record| format!("{record}\r\n")).collect();
        lines.concat()
    }

    #[test]
    fn what_a_board_writes_is_read_back() {
        let text = format!("boot\n@noise\n{}trailing", report().replace("@plan", "log line\n@plan"));
        let session = Session::read(text.as_bytes()).unwrap();
        assert_eq!((session.board.as_str(), session.clock_hz, session.unit), ("b", 1000, TickUnit::Time));
        assert_eq!((session.bundle, session.memory), ((7, 8), Some((1, 2))));
        assert_eq!(session.steps[&(0, 0)], [10, 12]);
        assert_eq!(session.plans[&0], [30]);
        let (own, ticks) = session.own.unwrap();
        assert_eq!((own.model, ticks), (LatencyModel::CORTEX_M4, 99));
    }

    #[test]
    fn a_report_that_is_cut_or_damaged_says_where() {
        let text = report();
        let cut = Session::read(&text.as_bytes()[..text.len() - 8]).unwrap_err();
        assert!(matches!(cut, ProtocolError::Incomplete { missing: "@end", .. }), "{cut}");
        let damaged = Session::read(text.replace("@plan 0 30", "@plan 0 3O").as_bytes()).unwrap_err();
        assert!(damaged.to_string().contains("line 6") && damaged.to_string().contains("3O"), "{damaged}");
        let later = Session::read(text.replace("@stitchkit 2", "@stitchkit 9").as_bytes()).unwrap_err();
        assert!(matches!(later, ProtocolError::Version { found: 9 }));
        let silent = Session::read(&b"profile: no clock\n"[..]).unwrap_err();
        assert!(silent.to_string().contains("no clock"), "{silent}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..400usize) {
            let mut text = report().into_bytes();
            let at = at.min(text.len());
            text.splice(at..at, bytes);
            let _ = Session::read(text.as_slice());
        }
    }
}
