//! The thread that reloads on SIGHUP and moves between plans under memory pressure.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::SIGHUP;

use super::Service;
use super::pressure::{Level, Source};
use crate::failure::Failure;
use crate::log;

/// A socket that becomes readable when one of the signals arrives. Many arrivals may be read as one.
///
/// # Errors
/// [`Failure::Failed`] if the signals cannot be caught.
pub fn signal_pipe(signals: &[i32]) -> Result<UnixStream, Failure> {
    let (reader, writer) = UnixStream::pair().map_err(Failure::because)?;
    reader.set_nonblocking(true).map_err(Failure::because)?;
    for &signal in signals {
        let writer = writer.try_clone().map_err(Failure::because)?;
        signal_hook::low_level::pipe::register(signal, writer).map_err(Failure::because)?;
    }
    Ok(reader)
}

/// What the thread watches.
pub struct Watcher {
    service: Arc<Service>,
    hang_ups: UnixStream,
    source: Source,
    level: Level,
    start: Instant,
}

impl Watcher {
    /// Catches SIGHUP and opens the source of pressure. Signals from now on are seen once the watcher runs.
    ///
    /// # Errors
    /// [`Failure::Failed`] if the signal cannot be caught.
    pub fn new(service: Arc<Service>) -> Result<Self, Failure> {
        let args = service.args();
        let source = Source::open(args.pressure, args.low_memory_bytes, args.calm);
        let level = Level::new(args.calm);
        Ok(Self { hang_ups: signal_pipe(&[SIGHUP])?, source, level, start: Instant::now(), service })
    }

    /// Watches for the life of the process, in a thread of its own; calls `on_change` after every change of the service.
    ///
    /// # Errors
    /// [`Failure::Failed`] if there can be no more threads.
    pub fn spawn(mut self, on_change: impl Fn() + Send + 'static) -> Result<(), Failure> {
        let watch = move || loop {
            let before = self.service.version();
            match self.wait() {
                Ok(Event::HangUp) => self.reload(),
                Ok(Event::Pressure) => self.press(),
                Ok(Event::Quiet) => self.relax(),
                Err(error) => {
                    log!("the watch on signals and memory failed: {error}");
                    std::thread::sleep(Duration::from_secs(1));
                    continue;
                }
            }
            if self.service.version() != before {
                on_change();
            }
        };
        std::thread::Builder::new().name("watch".into()).spawn(watch).map(drop).map_err(Failure::because)
    }

    fn wait(&mut self) -> io::Result<Event> {
        let mut events = [PollFlags::empty(); 2];
        {
            let mut files = vec![PollFd::from_borrowed_fd(self.hang_ups.as_fd(), PollFlags::IN)];
            files.extend(self.source.file().map(|file| PollFd::from_borrowed_fd(file, PollFlags::PRI)));
            match poll(&mut files, self.timeout().as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for (event, file) in events.iter_mut().zip(&files) {
                *event = file.revents();
            }
        }
        let [signals, stalls] = events;
        if signals.contains(PollFlags::IN) {
            drain(&mut self.hang_ups);
            return Ok(Event::HangUp);
        }
        if stalls.contains(PollFlags::ERR) {
            log!("memory pressure: the kernel withdrew the source");
            self.source.close_file();
        }
        let is_pressed = stalls.contains(PollFlags::PRI) || self.source.is_low();
        Ok(if is_pressed { Event::Pressure } else { Event::Quiet })
    }

    /// Time to the next look at free memory or step back, whichever is sooner; `None`: wait for an event.
    fn timeout(&self) -> Option<Timespec> {
        let to_relax = self.level.next_relax().map(|due| due.saturating_sub(self.start.elapsed()));
        let soonest = [to_relax, self.source.poll()].into_iter().flatten().min()?;
        // A millisecond more than asked for, so that what is due is due when poll returns.
        Timespec::try_from(soonest + Duration::from_millis(1)).ok()
    }

    fn reload(&self) {
        let path = self.service.args().bundle.display();
        match self.service.reload() {
            Ok(()) => log!("reloaded {path}: {}", describe(&self.service)),
            Err(failure) => {
                log!("refused to reload, the bundle in use stays: {}", failure.message().unwrap_or_default());
            }
        }
    }

    fn press(&mut self) {
        self.service.metrics.pressures.fetch_add(1, Ordering::Relaxed);
        let (before, lowest) = self.service.level();
        let steps = self.level.press(self.start.elapsed(), lowest);
        if steps != before {
            self.service.set_level(steps);
            log!("memory pressure: down to {}", describe(&self.service));
        }
    }

    fn relax(&mut self) {
        let (before, lowest) = self.service.level();
        let steps = self.level.relax(self.start.elapsed(), lowest);
        if steps != before {
            self.service.set_level(steps);
            log!("memory pressure is over: back to {}", describe(&self.service));
        }
    }
}

/// What ended a wait.
enum Event {
    HangUp,
    Pressure,
    Quiet,
}

fn drain(signals: &mut UnixStream) {
    let mut bytes = [0; 64];
    while signals.read(&mut bytes).is_ok_and(|count| count == bytes.len()) {}
}

/// The plan in use, for the log.
fn describe(service: &Service) -> String {
    let view = service.view();
    let path = view.generation.plans.get(usize::from(view.plan)).map_or("", |plan| &plan.path);
    format!("plan {} ({path}) of {}, load {}", view.plan, view.generation.name, view.generation.number)
}
