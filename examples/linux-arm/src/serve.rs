//! Inference over HTTP/1.1.
//!
//! Everything is bounded: connections, each with one request at a time and a timeout on every phase; requests waiting for a
//! worker; bytes of head and body. What exceeds a bound is answered with an error and closed.
//!
//! ```text
//! main: accepts, until SIGTERM      watch: SIGHUP, memory pressure
//!   |                                  |  new version
//! connection threads --- Queue ---> worker threads, one Engine each
//! ```

mod connection;
mod http;
mod notify;
mod queue;
mod routes;
mod worker;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::args::ServeArgs;
use crate::failure::Failure;
use crate::log;
use crate::service::{Service, Watcher, signal_pipe};
use queue::Queue;

/// Stack of a thread that holds a connection or runs plans.
const STACK_BYTES: usize = 256 * 1024;

/// What all threads share.
struct Server {
    args: ServeArgs,
    service: Arc<Service>,
    queue: Queue,
    /// Set by SIGTERM: finish what was begun, begin nothing new.
    is_draining: AtomicBool,
    /// Readable, at its end, once draining; connections poll it while idle.
    drained: UnixStream,
}

impl Server {
    fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }
}

/// Serves until SIGTERM or SIGINT. Prints one line with the address to `output` when ready.
///
/// # Errors
/// [`Failure`] if the bundle cannot be used, the address cannot be listened on, or requests were not finished in time.
pub fn run(args: ServeArgs, output: &mut impl Write) -> Result<(), Failure> {
    let service = Arc::new(Service::new(args.service.clone())?);
    let mut ends = signal_pipe(&[SIGTERM, SIGINT])?;
    let watcher = Watcher::new(service.clone())?;
    let listener = TcpListener::bind(args.listen).map_err(|e| Failure::Failed(format!("{}: {e}", args.listen)))?;
    listener.set_nonblocking(true).map_err(Failure::because)?;
    let address = listener.local_addr().map_err(Failure::because)?;
    let (drained, drain) = UnixStream::pair().map_err(Failure::because)?;
    let queue = Queue::new(args.queue as usize);
    let server = Arc::new(Server { args, service, queue, is_draining: AtomicBool::new(false), drained });

    for _ in 0..server.args.service.workers {
        let server = server.clone();
        spawn("worker", move || worker::run(&server.service, &server.queue)).map_err(Failure::because)?;
    }
    let waker = server.clone();
    watcher.spawn(move || waker.queue.wake())?;
    writeln!(output, "listening on http://{address}")?;
    output.flush()?;
    notify::tell("READY=1");

    accept_until_told(&server, &listener, &mut ends)?;
    notify::tell("STOPPING=1");
    server.is_draining.store(true, Ordering::Release);
    drop(drain);
    // The kernel has completed these connections; their clients may have sent requests already.
    while let Ok((stream, _)) = listener.accept() {
        welcome(&server, stream);
    }
    drop(listener);
    wait_for_connections(&server)
}

/// Accepts until a signal ends it.
fn accept_until_told(server: &Arc<Server>, listener: &TcpListener, ends: &mut UnixStream) -> Result<(), Failure> {
    loop {
        let is_told = {
            let mut files = [
                PollFd::from_borrowed_fd(ends.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
            ];
            match poll(&mut files, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Failure::because(error)),
            }
            !files[0].revents().is_empty()
        };
        if is_told {
            return Ok(());
        }
        match listener.accept() {
            Ok((stream, _)) => welcome(server, stream),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => {
                // Out of descriptors, or a connection that is gone already.
                log!("cannot accept a connection: {error}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Gives a connection to a thread of its own, or says that there are too many.
fn welcome(server: &Arc<Server>, stream: TcpStream) {
    let guard = Place::take(server);
    let is_full = guard.taken > u64::from(server.args.connections);
    let held = stream.try_clone();
    let thread = match is_full {
        true => Err(std::io::ErrorKind::QuotaExceeded.into()),
        false => spawn("connection", move || connection::serve(&guard.server, stream)),
    };
    if let (Err(_), Ok(stream)) = (thread, held) {
        server.service.metrics.count_error("connections");
        connection::turn_away(&stream);
    }
}

/// A connection's place, given back when dropped.
struct Place {
    server: Arc<Server>,
    taken: u64,
}

impl Place {
    fn take(server: &Arc<Server>) -> Self {
        let taken = server.service.metrics.connections.fetch_add(1, Ordering::AcqRel) + 1;
        Self { server: server.clone(), taken }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.server.service.metrics.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

fn wait_for_connections(server: &Server) -> Result<(), Failure> {
    let open = || server.service.metrics.connections.load(Ordering::Acquire);
    log!("finishing {} connections", open());
    let end = Instant::now() + server.args.drain;
    while open() > 0 {
        if Instant::now() >= end {
            let within = server.args.drain.as_millis();
            return Err(Failure::Failed(format!("{} connections did not finish within {within} ms", open())));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.into()).stack_size(STACK_BYTES).spawn(work).map(drop)
}
