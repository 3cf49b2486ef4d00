//! A running `stitchkit-device serve`, and a small HTTP client.
//!
//! `STITCHKIT_DEVICE_PROGRAM` names another program to test than the one built here, with arguments before its own: an
//! emulator and a binary for another processor.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for anything; long enough for an emulator on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
pub fn program() -> Command {
    let text = std::env::var("STITCHKIT_DEVICE_PROGRAM").unwrap_or_default();
    let mut words = text.split_whitespace();
    let Some(first) = words.next() else { return Command::new(env!("CARGO_BIN_EXE_stitchkit-device")) };
    let mut command = Command::new(first);
    command.args(words);
    command
}

/// Whether the program runs without an emulator.
pub fn is_native() -> bool {
    std::env::var_os("STITCHKIT_DEVICE_PROGRAM").is_none()
}

/// A server on a free port, killed when dropped.
pub struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub address: SocketAddr,
}

impl Server {
    /// Starts `serve BUNDLE` with further arguments and waits until it listens.
    pub fn start(bundle: &str, args: &[&str]) -> Self {
        let mut child = program()
            .args(["serve", bundle, "--listen", "127.0.0.1:0", "--timeout", "20s"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect("it says where it listens");
        let address = address.parse().unwrap();
        Self { child, stdout, address }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        // The shell's own kill: not every machine has a program of that name.
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.pid())]).status().unwrap();
        assert!(status.success());
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                let mut rest = String::new();
                self.stdout.read_to_string(&mut rest).unwrap();
                assert_eq!(rest, "", "nothing more on standard output");
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the server did not end");
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    pub fn get(&self, path: &str) -> Response {
        self.client().ask(&format!("GET {path} HTTP/1.1\r\n\r\n"), &[])
    }

    pub fn post(&self, path: &str, body: &[u8]) -> Response {
        self.client().post(path, "", body)
    }

    /// The value of a metric, with its labels as printed.
    pub fn metric(&self, name: &str) -> u64 {
        let page = self.get("/metrics").body;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
    }

    /// Waits until a metric has that value.
    pub fn wait_for(&self, name: &str, value: u64) {
        let end = Instant::now() + PATIENCE;
        while self.metric(name) != value {
            assert!(Instant::now() < end, "{name} is {}, not {value}", self.metric(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

/// A response.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    pub fn post(&mut self, path: &str, fields: &str, body: &[u8]) -> Response {
        self.ask(&format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\n{fields}\r\n", body.len()), body)
    }

    /// Sends a request and reads its response.
    pub fn ask(&mut self, head: &str, body: &[u8]) -> Response {
        self.stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        self.response().expect("a response")
    }

    /// The next response; `None` if the connection ends first.
    pub fn response(&mut self) -> Option<Response> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if !matches!(self.reader.read_line(&mut head), Ok(count) if count > 0) {
                return None;
            }
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut body = vec![0; length.map_or(0, |text| text.parse().unwrap())];
        self.reader.read_exact(&mut body).unwrap();
        Some(Response { status, head, body: String::from_utf8(body).unwrap() })
    }

    /// Whether the server has closed the connection, or does so soon.
    pub fn is_closed(&mut self) -> bool {
        !matches!(self.reader.read(&mut [0; 1]), Ok(count) if count > 0)
    }
}

impl Response {
    /// The text of a JSON field that holds no comma of its own.
    pub fn field(&self, name: &str) -> &str {
        let (_, rest) = self.body.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name}: {self:?}"));
        rest.split([',', '}']).next().unwrap()
    }

    /// The logits.
    pub fn logits(&self) -> Vec<i8> {
        let (_, rest) = self.body.split_once("\"logits\":[").unwrap_or_else(|| panic!("no logits in {self:?}"));
        rest.split(']').next().unwrap().split(',').map(|logit| logit.parse().unwrap()).collect()
    }
}
