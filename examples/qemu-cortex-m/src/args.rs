//! Arguments on the semihosting command line: `name=value`, separated by spaces.

/// The command line.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a>(pub &'a str);

impl<'a> Args<'a> {
    /// The value of `name`.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'a str> {
        let value = |word: &'a str| word.strip_prefix(name)?.strip_prefix('=');
        self.0.split_ascii_whitespace().find_map(value)
    }

    /// The value of `name` as a number; `None` also if it is none.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u32> {
        self.text(name)?.parse().ok()
    }
}
