//! How deep a stack has grown: its unused part is painted once and looked at later.
//!
//! The board knows where its stack lies; it passes the words between the stack's limit and the current stack pointer, in
//! rising order of addresses, of a stack that grows down. Interrupts use the same stack, so measure after the work that
//! shall be covered, and keep a reserve.

/// The pattern.
const PAINT: u32 = 0xC5C5_C5C5;

/// Paints words of the stack that are not in use.
pub fn paint(unused: &mut [u32]) {
    unused.fill(PAINT);
}

/// Bytes at the low end that still hold the paint: what the stack never reached.
#[must_use]
pub fn untouched_bytes(words: &[u32]) -> usize {
    words.iter().take_while(|&&word| word == PAINT).count() * size_of::<u32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_word_written_ends_what_is_untouched() {
        let mut stack = [0; 64];
        assert_eq!(untouched_bytes(&stack), 0);
        paint(&mut stack);
        assert_eq!(untouched_bytes(&stack), 256);
        stack[60] = 7;
        stack[20] = 0;
        stack[40] = PAINT;
        assert_eq!(untouched_bytes(&stack), 80);
        assert_eq!(untouched_bytes(&[]), 0);
    }
}
