//! Responses.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::json;

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    content_type: &'static str,
    /// Further fields, each with its line end.
    fields: &'static str,
    body: String,
}

impl Response {
    /// A JSON document.
    pub const fn json(status: u16, body: String) -> Self {
        Self { status, content_type: "application/json", fields: "", body }
    }

    /// Prometheus text.
    pub const fn metrics(body: String) -> Self {
        Self { status: 200, content_type: "text/plain; version=0.0.4; charset=utf-8", fields: "", body }
    }

    /// An error, as JSON.
    pub fn error(status: u16, kind: &str, text: &str) -> Self {
        let body = json::object([
            ("schema_version", "1".into()),
            ("error", json::string(kind)),
            ("message", json::string(text)),
        ]);
        let fields = match status {
            503 => "Retry-After: 1\r\n",
            _ => "",
        };
        Self { fields, ..Self::json(status, body) }
    }

    /// The error for a method that a resource does not take.
    pub fn method_not_allowed(allowed: &'static str) -> Self {
        Self { fields: allowed, ..Self::error(405, "method", "this resource does not take that method") }
    }

    /// Sends it; `keeps_alive` tells the client whether more may follow.
    ///
    /// # Errors
    /// If the client does not take it within `timeout`.
    pub fn send(&self, mut stream: &TcpStream, keeps_alive: Persistence, timeout: Duration) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: {}\r\n{}\r\n",
            self.status,
            reason(self.status),
            self.content_type,
            self.body.len(),
            match keeps_alive {
                Persistence::KeepAlive => "keep-alive",
                Persistence::Close => "close",
            },
            self.fields,
        );
        let bytes = [head.as_bytes(), self.body.as_bytes()].concat();
        let end = Instant::now() + timeout;
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            let time = end.saturating_duration_since(Instant::now());
            if time.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            stream.set_write_timeout(Some(time))?;
            match stream.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => left = left.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What becomes of a connection after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    KeepAlive,
    Close,
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}
