//! Sizes, times and frequencies as people write them.

use std::time::Duration;

fn split(text: &str) -> Result<(f64, &str), String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| format!("`{text}` does not start with a number"))?;
    Ok((number, unit.trim()))
}

/// `65536`, `64KiB`, `64K`, `1.5MiB`, `64kB` (1000) to bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" | "B" => 1.0,
        "K" | "k" | "KiB" => 1024.0,
        "kB" | "KB" => 1000.0,
        "M" | "MiB" => 1024.0 * 1024.0,
        "MB" => 1e6,
        _ => return Err(format!("unknown size unit `{unit}`; use B, KiB, kB, MiB or MB")),
    };
    Ok((number * factor) as u64)
}

/// `30ms`, `500us`, `2s` to a duration.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "us" => 1e-6,
        _ => return Err(format!("a time needs a unit, as in `30ms`; found `{unit}`, use s, ms or us")),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|e| e.to_string())
}

/// `64MHz`, `32768Hz` to hertz.
pub fn frequency(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "Hz" => 1.0,
        "kHz" => 1e3,
        "MHz" => 1e6,
        "GHz" => 1e9,
        _ => return Err(format!("a clock needs a unit, as in `64MHz`; found `{unit}`")),
    };
    Ok((number * factor) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_as_written() {
        assert_eq!(bytes("64KiB"), Ok(65536));
        assert_eq!(bytes("64kB"), Ok(64000));
        assert_eq!(bytes("1.5 MiB"), Ok(1_572_864));
        assert_eq!(duration("30ms"), Ok(Duration::from_millis(30)));
        assert_eq!(frequency("64MHz"), Ok(64_000_000));
        for wrong in ["", "ms", "64 parsecs"] {
            assert!(bytes(wrong).is_err() && duration(wrong).is_err() && frequency(wrong).is_err(), "{wrong}");
        }
    }
}
