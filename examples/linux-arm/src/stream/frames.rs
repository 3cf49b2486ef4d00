//! Cutting a byte stream into frames.

use std::io::{self, ErrorKind, Read};

use crate::args::Framing;

/// Length and deadline before a frame.
const HEAD_BYTES: usize = 8;

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its bytes, or how many there were if they were too many.
    pub body: Result<Vec<u8>, u32>,
    /// Deadline of its answer, if it states one.
    pub deadline_us: Option<u64>,
}

/// Frames of a reader.
pub struct Frames<R> {
    source: R,
    max_bytes: u64,
}

impl<R: Read> Frames<R> {
    /// Frames of at most `max_bytes`.
    pub const fn new(source: R, max_bytes: u64) -> Self {
        Self { source, max_bytes }
    }

    /// The next frame; `None` at the end of the input. `input_bytes` is the length of a raw frame.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`] if the input ends inside a frame; errors of the reader.
    pub fn next(&mut self, framing: Framing, input_bytes: usize) -> io::Result<Option<Frame>> {
        match framing {
            Framing::Raw => {
                let body = self.up_to(input_bytes as u64)?;
                match body.len() {
                    0 => Ok(None),
                    len if len == input_bytes => Ok(Some(Frame { body: Ok(body), deadline_us: None })),
                    _ => Err(cut()),
                }
            }
            Framing::Length => self.with_length(),
        }
    }

    fn with_length(&mut self) -> io::Result<Option<Frame>> {
        let head = self.up_to(HEAD_BYTES as u64)?;
        if head.is_empty() {
            return Ok(None);
        }
        let Some((len, deadline)) = head
            .split_first_chunk::<4>()
            .and_then(|(len, rest)| Some((u32::from_le_bytes(*len), u32::from_le_bytes(*rest.first_chunk()?))))
        else {
            return Err(cut());
        };
        let deadline_us = (deadline > 0).then_some(u64::from(deadline));
        if u64::from(len) > self.max_bytes {
            let skipped = io::copy(&mut self.source.by_ref().take(len.into()), &mut io::sink())?;
            return if skipped == u64::from(len) {
                Ok(Some(Frame { body: Err(len), deadline_us }))
            } else {
                Err(cut())
            };
        }
        let body = self.up_to(len.into())?;
        if body.len() as u64 == u64::from(len) { Ok(Some(Frame { body: Ok(body), deadline_us })) } else { Err(cut()) }
    }

    /// That many bytes, or what is left.
    fn up_to(&mut self, bytes: u64) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        self.source.by_ref().take(bytes).read_to_end(&mut body).map(|_| body)
    }
}

fn cut() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "it ends inside a frame")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(len: u32, deadline: u32, body: &[u8]) -> Vec<u8> {
        [&len.to_le_bytes()[..], &deadline.to_le_bytes(), body].concat()
    }

    #[test]
    fn raw_frames_are_cut_at_the_input_length() {
        let mut frames = Frames::new(&[1u8, 2, 3, 4][..], 100);
        for body in [[1, 2], [3, 4]] {
            let found = frames.next(Framing::Raw, 2).unwrap();
            assert_eq!(found, Some(Frame { body: Ok(body.to_vec()), deadline_us: None }));
        }
        assert_eq!(frames.next(Framing::Raw, 2).unwrap(), None);
        assert!(Frames::new(&[1u8, 2, 3][..], 100).next(Framing::Raw, 4).is_err());
    }

    #[test]
    fn a_frame_that_is_too_long_is_skipped_and_the_next_one_read() {
        let stream = [frame(5, 0, b"large"), frame(2, 30, b"ok"), frame(0, 0, b"")].concat();
        let mut frames = Frames::new(&stream[..], 3);
        let mut next = || frames.next(Framing::Length, 1).unwrap();
        assert_eq!(next(), Some(Frame { body: Err(5), deadline_us: None }));
        assert_eq!(next(), Some(Frame { body: Ok(b"ok".to_vec()), deadline_us: Some(30) }));
        assert_eq!(next(), Some(Frame { body: Ok(Vec::new()), deadline_us: None }));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_stream_cut_inside_a_frame_is_an_error() {
        let whole = frame(9, 0, b"too large");
        for (end, max) in (1..whole.len()).flat_map(|end| [(end, 3), (end, 100)]) {
            assert!(Frames::new(&whole[..end], max).next(Framing::Length, 1).is_err(), "cut at {end}");
        }
    }
}
