//! Names of functions for people.

/// Rust's older mangled names as paths without their hash; other names as they are.
#[must_use]
pub fn readable(name: &str) -> String {
    path_of(name).unwrap_or_else(|| name.to_owned())
}

/// Reads `_ZN`, lengths with names, `E`.
fn path_of(name: &str) -> Option<String> {
    let mut rest = name.strip_prefix("_ZN")?;
    let mut parts = Vec::new();
    while !rest.starts_with('E') {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let length: usize = rest.get(..digits)?.parse().ok()?;
        let part = rest.get(digits..digits.checked_add(length)?)?;
        parts.push(part.replace("$u7b$$u7b$closure$u7d$$u7d$", "closure"));
        rest = rest.get(digits + length..)?;
    }
    let is_hash = |part: &String| part.len() == 17 && part.starts_with('h');
    if parts.last().is_some_and(is_hash) {
        parts.pop();
    }
    Some(parts.join("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_their_hash_and_other_names_stay() {
        let mangled = "_ZN5count5print17hb47a7fe9822c8b2eE";
        assert_eq!(readable(mangled), "count::print");
        for name in ["Reset", "_ZN5count", "_ZN9999999countE", "_RNvNtC4core3str"] {
            assert_eq!(readable(name), name);
        }
    }
}
