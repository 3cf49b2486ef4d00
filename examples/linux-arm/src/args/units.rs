//! Sizes, times and counts on the command line.

use std::num::NonZeroUsize;

/// `number` and `unit` of texts such as `64KiB` or `1.5ms`.
fn split_unit(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim()))
}

/// Bytes of a text such as `64KiB`, at most 4 GiB.
///
/// # Errors
/// What a size looks like.
pub fn parse_size(text: &str) -> Result<u32, String> {
    parse_large_size(text).map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX))
}

/// Bytes of a text such as `64KiB`, without that limit.
///
/// # Errors
/// What a size looks like.
pub fn parse_large_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text).ok_or("a size is a number with a unit, such as 64KiB")?;
    let scale = match unit {
        "" | "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "K" | "k" | "KiB" => 1024.0,
        "M" | "MiB" => 1024.0 * 1024.0,
        "G" | "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(format!("unknown unit {unit}: use B, kB, MB, GB, KiB, MiB or GiB")),
    };
    Ok((number * scale) as u64)
}

/// Microseconds of a text such as `30ms`.
///
/// # Errors
/// What a time looks like.
pub fn parse_time(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text).ok_or("a time is a number with a unit, such as 30ms")?;
    let scale = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "" => return Err("a time needs its unit: us, ms or s".into()),
        _ => return Err(format!("unknown unit {unit}: use us, ms or s")),
    };
    Ok((number * scale) as u64)
}

/// A share in percent below 100.
///
/// # Errors
/// What a margin looks like.
pub fn parse_margin(text: &str) -> Result<u8, String> {
    let percent = text.trim_end_matches('%').parse().ok().filter(|percent| *percent < 100);
    percent.ok_or_else(|| "a margin is a whole number of percent, 0 to 99".into())
}

/// A whole number from 1.
///
/// # Errors
/// Says so.
pub fn parse_count(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "takes a whole number from 1".into())
}

/// Processors that this process may use.
pub fn processors() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Threads of one inference, or `auto` for as many as there are processors.
pub fn parse_threads(text: &str) -> Result<NonZeroUsize, String> {
    let known = || text.parse().ok().filter(|count: &NonZeroUsize| count.get() <= 64);
    let threads = if text == "auto" { Some(processors()) } else { known() };
    threads.ok_or_else(|| "takes a whole number from 1 to 64, or auto".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_carry_their_units() {
        let sizes = [("65536", 65_536), ("64KiB", 65_536), ("64k", 65_536), ("1.5MiB", 1_572_864), ("2MB", 2_000_000)];
        for (text, bytes) in sizes {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse_size("100GiB"), Ok(u32::MAX));
        for (text, us) in [("30ms", 30_000), ("1.5ms", 1500), ("800us", 800), ("2s", 2_000_000)] {
            assert_eq!(parse_time(text), Ok(us), "{text}");
        }
        for wrong in ["", "ms", "30", "30min", "-3ms", "1.2.3ms"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
        for wrong in ["KiB", "64 parsecs", "-1"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
