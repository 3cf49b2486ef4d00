//! The head of a request.

use super::HttpError;

/// Longest head: request line and fields.
pub const MAX_HEAD_BYTES: usize = 8 * 1024;
/// Most fields of a head.
const MAX_FIELDS: usize = 48;

/// Methods that some resource takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    /// Any other.
    Other,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    /// Without the query.
    pub path: String,
    /// What follows the question mark.
    pub query: String,
    /// `X-Deadline-Ms`, unread.
    pub deadline: Option<String>,
    /// Whether the client means to send more on this connection.
    pub keeps_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    pub body_bytes: u64,
    pub body: Vec<u8>,
}

impl Request {
    /// Reads a head from the start of `bytes`; also returns the head's length. `None` if it is not complete yet.
    ///
    /// # Errors
    /// [`HttpError`], except those about time.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HttpError> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut head = httparse::Request::new(&mut fields);
        let len = match head.parse(bytes) {
            Ok(httparse::Status::Complete(len)) if len <= MAX_HEAD_BYTES => len,
            Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD_BYTES => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HttpError::HeadTooLarge),
            Err(httparse::Error::Version) => return Err(HttpError::Malformed("only HTTP/1.0 and HTTP/1.1 are known")),
            Err(_) => return Err(HttpError::Malformed("the head does not follow HTTP/1.1")),
        };
        let target = head.path.unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Self {
            method: match head.method {
                Some("GET") => Method::Get,
                Some("POST") => Method::Post,
                _ => Method::Other,
            },
            path: path.to_owned(),
            query: query.to_owned(),
            deadline: None,
            keeps_alive: head.version == Some(1),
            expects_continue: false,
            body_bytes: 0,
            body: Vec::new(),
        };
        request.read_fields(head.headers)?;
        Ok(Some((request, len)))
    }

    fn read_fields(&mut self, fields: &[httparse::Header<'_>]) -> Result<(), HttpError> {
        let mut length = None;
        for field in fields {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                let value = content_length(field.value)?;
                if length.is_some_and(|known| known != value) {
                    return Err(HttpError::Malformed("two different lengths"));
                }
                length = Some(value);
            } else if is("transfer-encoding") {
                return Err(HttpError::LengthRequired);
            } else if is("connection") {
                self.read_connection(field.value);
            } else if is("expect") {
                if !field.value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(HttpError::Expectation);
                }
                self.expects_continue = true;
            } else if is("x-deadline-ms") {
                self.deadline = Some(String::from_utf8_lossy(field.value).trim().to_owned());
            }
        }
        if length.is_none() && self.method == Method::Post {
            return Err(HttpError::LengthRequired);
        }
        self.body_bytes = length.unwrap_or(0);
        Ok(())
    }

    fn read_connection(&mut self, value: &[u8]) {
        for word in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if word.eq_ignore_ascii_case(b"close") {
                self.keeps_alive = false;
            } else if word.eq_ignore_ascii_case(b"keep-alive") {
                self.keeps_alive = true;
            }
        }
    }

    /// The value of a query parameter; the first if it is repeated. Nothing is decoded: no value needs it.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let pairs = self.query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// Digits and nothing else: a sign or space that another party reads differently would let a body pass for a request.
fn content_length(value: &[u8]) -> Result<u64, HttpError> {
    let wrong = HttpError::Malformed("the length is no number");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(wrong);
    }
    // More digits than fit are a body that is too large; the caller compares.
    Ok(str::from_utf8(value).map_err(|_| wrong)?.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<(Request, usize)>, HttpError> {
        Request::parse(text.as_bytes())
    }

    #[test]
    fn a_request_is_read_field_by_field() {
        let head = "POST /v1/infer?format=int8&deadline_ms=5 HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 12\r\n\
                    Expect: 100-Continue\r\nX-Deadline-Ms: 7\r\nConnection: foo, Close\r\n\r\n";
        let (request, len) = parse(&format!("{head}body")).unwrap().unwrap();
        assert_eq!(len, head.len());
        assert_eq!((request.method, &*request.path, request.body_bytes), (Method::Post, "/v1/infer", 12));
        assert_eq!(request.parameter("format"), Some("int8"));
        assert_eq!(request.parameter("deadline_ms"), Some("5"));
        assert_eq!(request.deadline.as_deref(), Some("7"));
        assert!(request.expects_continue && !request.keeps_alive);
        for cut in 0..head.len() {
            assert_eq!(Request::parse(&head.as_bytes()[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn only_newer_connections_stay_open_by_themselves() {
        let keeps = |text: &str| parse(text).unwrap().unwrap().0.keeps_alive;
        assert!(keeps("GET / HTTP/1.1\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn contradictions_and_nonsense_are_refused() {
        let post = |fields: &str| parse(&format!("POST / HTTP/1.1\r\n{fields}\r\n"));
        assert_eq!(
            post("Content-Length: 3\r\nContent-Length: 4\r\n"),
            Err(HttpError::Malformed("two different lengths"))
        );
        for wrong in ["+3", "-3", "3 4", "0x3", ""] {
            let refused = post(&format!("Content-Length: {wrong}\r\n"));
            assert_eq!(refused, Err(HttpError::Malformed("the length is no number")), "{wrong}");
        }
        assert_eq!(post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), Err(HttpError::LengthRequired));
        assert_eq!(post(""), Err(HttpError::LengthRequired));
        assert_eq!(post("Expect: miracles\r\nContent-Length: 1\r\n"), Err(HttpError::Expectation));
        assert!(matches!(parse("\u{1}\u{2}\r\n\r\n"), Err(HttpError::Malformed(_))));
        assert!(matches!(parse("GET / HTTP/2.0\r\n\r\n"), Err(HttpError::Malformed(_))));
        let huge = post("Content-Length: 99999999999999999999999\r\n").unwrap().unwrap().0;
        assert_eq!(huge.body_bytes, u64::MAX);
    }

    #[test]
    fn heads_are_bounded() {
        let fields = "a: b\r\n".repeat(MAX_FIELDS + 1);
        assert_eq!(parse(&format!("GET / HTTP/1.1\r\n{fields}\r\n")), Err(HttpError::HeadTooLarge));
        let long = "x".repeat(MAX_HEAD_BYTES);
        assert_eq!(parse(&format!("GET /{long}")), Err(HttpError::HeadTooLarge));
        assert_eq!(parse(&format!("GET /{long} HTTP/1.1\r\n\r\n")), Err(HttpError::HeadTooLarge));
    }
}
