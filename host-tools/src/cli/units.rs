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

/// Microseconds as people write them: `850us`, `30ms`, `1.5s`.
pub fn time_text(us: u64) -> String {
    let short = |value: f64| format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned();
    match us {
        0..1000 => format!("{us}us"),
        1000..1_000_000 => format!("{}ms", short(us as f64 / 1e3)),
        _ => format!("{}s", short(us as f64 / 1e6)),
    }
}

/// Bytes as people write them: whole KiB and MiB by their unit, others as bytes.
pub fn size_text(bytes: u64) -> String {
    const KIB: u64 = 1024;
    match bytes {
        0 => "0B".to_owned(),
        _ if bytes.is_multiple_of(KIB * KIB) => format!("{}MiB", bytes / KIB / KIB),
        _ if bytes.is_multiple_of(KIB) => format!("{}KiB", bytes / KIB),
        _ => format!("{bytes}B"),
    }
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
        assert_eq!(
            (size_text(65536), size_text(1 << 21), size_text(1000)),
            ("64KiB".into(), "2MiB".into(), "1000B".into())
        );
        assert_eq!(
            (time_text(850), time_text(30_000), time_text(1_500_000)),
            ("850us".into(), "30ms".into(), "1.5s".into())
        );
        for wrong in ["", "ms", "64 parsecs"] {
            assert!(bytes(wrong).is_err() && duration(wrong).is_err() && frequency(wrong).is_err(), "{wrong}");
        }
    }
}
