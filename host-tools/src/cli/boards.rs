//! Boards named on the command line, each with limits of its own.

use std::path::PathBuf;

use anyhow::bail;
use stitchkit::board::Board;
use stitchkit::fleet::Need;

use super::units;

/// `FILE[,latency=TIME][,memory=SIZE or PERCENT]`.
#[derive(Debug, Clone, PartialEq)]
pub struct BoardOption {
    file: PathBuf,
    deadline_us: Option<u64>,
    memory: Option<Memory>,
}

/// How much of a board's memory the arena gets.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Memory {
    Bytes(u64),
    Percent(f64),
}

impl std::str::FromStr for BoardOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let file = parts.next().filter(|file| !file.is_empty()).ok_or("the name of a board file is missing")?;
        let mut option = Self { file: file.into(), deadline_us: None, memory: None };
        for part in parts {
            match part.split_once('=') {
                Some(("latency", time)) => option.deadline_us = Some(units::duration(time)?.as_micros() as u64),
                Some(("memory", size)) => option.memory = Some(memory(size)?),
                _ => {
                    return Err(format!(
                        "`{part}` is no limit of a board; use latency=30ms, memory=64KiB or memory=50%"
                    ));
                }
            }
        }
        Ok(option)
    }
}

fn memory(text: &str) -> Result<Memory, String> {
    let Some(percent) = text.strip_suffix('%') else { return units::bytes(text).map(Memory::Bytes) };
    match percent.trim().parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Memory::Percent(percent)),
        _ => Err(format!("a share of memory lies above 0 and up to 100 %, `{text}` does not")),
    }
}

/// Reads all boards; `margin_percent` is the reserve kept below every deadline.
///
/// # Errors
/// One message with the problems of all files, and boards named twice.
pub fn read_all(options: &[BoardOption], margin_percent: u8) -> anyhow::Result<Vec<Need>> {
    let (mut needs, mut problems) = (Vec::<Need>::new(), Vec::new());
    for option in options {
        let board = match Board::read(&option.file) {
            Ok(board) => board,
            Err(error) => {
                let cause = std::error::Error::source(&error).map_or(String::new(), |cause| format!(": {cause}"));
                problems.push(format!("{error}{cause}"));
                continue;
            }
        };
        let mut need = Need::of(&board);
        let has_limits = option.deadline_us.is_some() || option.memory.is_some();
        if has_limits {
            need.board = described(&board.name, option);
        }
        need.limits.margin_percent = margin_percent;
        need.limits.deadline_us = option.deadline_us.or(board.limits.deadline_us);
        let all = u64::from(board.profile.ram_bytes);
        need.limits.ram_bytes = Some(match option.memory {
            None => board.limits.ram_bytes.map_or(all, |bytes| all.min(bytes.into())),
            Some(Memory::Bytes(bytes)) => bytes.min(all),
            Some(Memory::Percent(percent)) => (all as f64 * percent / 100.0) as u64,
        });
        if needs.iter().any(|other| other.board == need.board) {
            problems.push(format!("board `{}` is given twice", need.board));
        }
        needs.push(need);
    }
    match problems.as_slice() {
        [] => Ok(needs),
        problems => bail!("{}", problems.join("\n")),
    }
}

/// The name of a board with limits of its own, so that one board can be planned under several.
fn described(name: &str, option: &BoardOption) -> String {
    let mut text = name.to_owned();
    if let Some(us) = option.deadline_us {
        text += &format!(" {}", units::time_text(us));
    }
    match option.memory {
        None => {}
        Some(Memory::Bytes(bytes)) => text += &format!(" {}", units::size_text(bytes)),
        Some(Memory::Percent(percent)) => text += &format!(" {percent}% RAM"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_follow_the_file() {
        let option: BoardOption = "a.toml,latency=30ms,memory=50%".parse().unwrap();
        assert_eq!((option.deadline_us, option.memory), (Some(30_000), Some(Memory::Percent(50.0))));
        assert_eq!("b.toml,memory=64KiB".parse::<BoardOption>().unwrap().memory, Some(Memory::Bytes(65536)));
        for wrong in ["", "a.toml,fast", "a.toml,latency=30", "a.toml,memory=0%", "a.toml,memory=101%"] {
            assert!(wrong.parse::<BoardOption>().is_err(), "{wrong}");
        }
    }
}
