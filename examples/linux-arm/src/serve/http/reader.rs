//! Reading requests from a socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{HttpError, Request};

/// Most bytes of unread request thrown away before a connection is closed.
const MOST_DISCARDED: usize = 1 << 20;
/// Time for it.
const DISCARD_TIME: Duration = Duration::from_millis(500);

/// What comes next on a connection.
pub enum Next {
    /// A whole request, and when it had arrived.
    Request(Request, Instant),
    /// The client is done or has been idle too long, or the server drains.
    End,
    /// Something that is no request.
    Refused(HttpError),
}

/// Reads requests one after another.
pub struct Reader<'s> {
    stream: &'s TcpStream,
    /// Readable once the server drains.
    drained: &'s UnixStream,
    /// Bytes received and not used yet.
    buffer: Vec<u8>,
    max_body_bytes: u64,
    timeout: Duration,
}

impl<'s> Reader<'s> {
    /// A reader that waits at most `timeout` for a request to begin, and as long for it to arrive.
    pub const fn new(stream: &'s TcpStream, drained: &'s UnixStream, max_body_bytes: u64, timeout: Duration) -> Self {
        Self { stream, drained, buffer: Vec::new(), max_body_bytes, timeout }
    }

    /// Waits for the next request.
    pub fn next(&mut self) -> Next {
        if self.buffer.is_empty() && !self.wait_for_bytes() {
            return Next::End;
        }
        let end = Instant::now() + self.timeout;
        match self.request(end) {
            Ok(Some(request)) => Next::Request(request, Instant::now()),
            Ok(None) => Next::End,
            Err(error) => Next::Refused(error),
        }
    }

    /// Whether bytes came before the client closed, time ran out or the server drained. What has arrived when it drains is
    /// still served.
    fn wait_for_bytes(&self) -> bool {
        let end = Instant::now() + self.timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(left) = Timespec::try_from(left) else { return false };
            let mut files = [
                PollFd::from_borrowed_fd(self.stream.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.drained.as_fd(), PollFlags::IN),
            ];
            match poll(&mut files, Some(&left)) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return !files[0].revents().is_empty(),
                Err(_) => return false,
            }
        }
    }

    /// The next request; `None` if the client closes before its first byte.
    fn request(&mut self, end: Instant) -> Result<Option<Request>, HttpError> {
        let (mut request, head_bytes) = loop {
            if let Some(found) = Request::parse(&self.buffer)? {
                break found;
            }
            if !self.fill(end)? {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(HttpError::Malformed("it ends inside its head")),
                };
            }
        };
        if request.body_bytes > self.max_body_bytes {
            return Err(HttpError::BodyTooLarge { most: self.max_body_bytes });
        }
        let body_bytes = request.body_bytes as usize;
        self.buffer.drain(..head_bytes);
        if request.expects_continue && self.buffer.len() < body_bytes {
            // A client that does not take it will not get its answer either.
            let _ = self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        while self.buffer.len() < body_bytes {
            if !self.fill(end)? {
                return Err(HttpError::Malformed("it ends inside its body"));
            }
        }
        let rest = self.buffer.split_off(body_bytes);
        request.body = std::mem::replace(&mut self.buffer, rest);
        Ok(Some(request))
    }

    /// Receives more; false at the end of the connection.
    fn fill(&mut self, end: Instant) -> Result<bool, HttpError> {
        let mut chunk = [0; 16 * 1024];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
                return Err(HttpError::Timeout);
            }
            match self.stream.read(&mut chunk) {
                Ok(count) => {
                    self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(HttpError::Timeout);
                }
                Err(_) => return Ok(false),
            }
        }
    }
}

/// Closes a connection on which more may be coming. Closing with bytes unread would reset it, and the client might lose the
/// answer before reading it; so some are read first.
pub fn close(mut stream: &TcpStream) {
    if stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let end = Instant::now() + DISCARD_TIME;
    let mut discarded = 0;
    let mut chunk = [0; 16 * 1024];
    while discarded < MOST_DISCARDED {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(count) => discarded += count,
        }
    }
}
