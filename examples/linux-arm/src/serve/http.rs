//! HTTP/1.1 on one connection: requests in, responses out, each phase bounded in bytes and time.

mod reader;
mod request;
mod response;

pub use reader::{Next, Reader, close};
pub use request::{Method, Request};
pub use response::{Persistence, Response};

use std::fmt;

/// Why a request cannot be read. The connection ends with its answer: what follows cannot be told from its rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpError {
    /// Not HTTP/1, or contradictory.
    Malformed(&'static str),
    /// The head is longer than [`request::MAX_HEAD_BYTES`] or has too many fields.
    HeadTooLarge,
    /// The body is longer than allowed.
    BodyTooLarge {
        /// Bytes allowed.
        most: u64,
    },
    /// A body of unstated length.
    LengthRequired,
    /// An expectation other than `100-continue`.
    Expectation,
    /// The request took too long to arrive.
    Timeout,
}

impl HttpError {
    /// Its name in metrics and answers.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Expectation => "malformed",
            Self::HeadTooLarge | Self::BodyTooLarge { .. } => "too_large",
            Self::LengthRequired => "length_required",
            Self::Timeout => "timeout",
        }
    }

    /// The status that answers it.
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::HeadTooLarge => 431,
            Self::BodyTooLarge { .. } => 413,
            Self::LengthRequired => 411,
            Self::Expectation => 417,
            Self::Timeout => 408,
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "malformed request: {what}"),
            Self::HeadTooLarge => f.write_str("the request's head is too large"),
            Self::BodyTooLarge { most } => write!(f, "the body may have at most {most} bytes"),
            Self::LengthRequired => f.write_str("send a Content-Length; chunked bodies are not taken"),
            Self::Expectation => f.write_str("the only expectation known is 100-continue"),
            Self::Timeout => f.write_str("the request took too long to arrive"),
        }
    }
}
