//! From the workers' buffers to the one thread that writes.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use plimsoll_model::{AccessLog as Format, LogTo};

use super::sink::Sink;

/// Bytes that a worker collects before it hands them over; a tick hands over what there is.
const BATCH: usize = 32 * 1024;

/// Bytes that wait to be written at most, with the room that they take.
const WAITING: usize = 8 << 20;

/// Between two looks at whether the file was moved away.
const LOOK: Duration = Duration::from_secs(1);

/// Between two log lines about a file that nobody has asked to open anew.
const SELDOM: Duration = Duration::from_secs(300);

/// Between two log lines about lines that were dropped.
const QUIET: Duration = Duration::from_secs(10);

/// Settings of the access log.
#[derive(Clone, Debug)]
pub struct AccessOptions {
    /// For services that do not say it themselves.
    pub format: Format,
    /// Where lines go.
    pub to: LogTo,
    /// Whether lines hold the query of a request's target.
    pub query: bool,
}

impl Default for AccessOptions {
    fn default() -> Self {
        Self {
            format: Format::Off,
            to: LogTo::Stdout,
            query: true,
        }
    }
}

/// What goes to the writing thread.
enum Message {
    /// Whole lines, and how many.
    Lines(Vec<u8>, u64),
    End,
}

/// The access log of a process: its settings, its queue, and its writing thread, which is started
/// once there is a service that wants to be logged.
#[derive(Clone, Default)]
pub struct AccessLog(Arc<Inner>);

#[derive(Default)]
struct Inner {
    options: AccessOptions,
    /// Until the thread has it.
    sink: Mutex<Option<Sink>>,
    queue: OnceLock<Sender<Message>>,
    /// Bytes in the queue.
    waiting: AtomicUsize,
    ended: Mutex<Option<Receiver<()>>>,
    reopen: AtomicBool,
    lines: AtomicU64,
    dropped: AtomicU64,
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AccessLog").field(&self.0.options).finish()
    }
}

impl AccessLog {
    /// An access log with these settings.
    ///
    /// # Errors
    /// The file, or a socket, could not be opened.
    pub fn open(options: AccessOptions) -> io::Result<Self> {
        let sink = Mutex::new(Some(Sink::open(&options.to)?));
        Ok(Self(Arc::new(Inner {
            options,
            sink,
            ..Inner::default()
        })))
    }

    /// Has a file opened anew, before the next lines are written or within a second.
    pub fn reopen(&self) {
        self.0.reopen.store(true, Ordering::Relaxed);
    }

    /// Lines written so far.
    pub fn lines(&self) -> u64 {
        self.0.lines.load(Ordering::Relaxed)
    }

    /// Lines dropped so far: they came faster than they could be written.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all that was handed over is written, at most for `limit`. Nothing is written
    /// after it.
    pub fn finish(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let Some(queue) = self.0.queue.get() else {
            return;
        };
        // If the thread has gone already, there is nobody to wait for.
        let _ = queue.send(Message::End);
        let left = until.saturating_duration_since(Instant::now());
        if let Some(ended) = &*lock(&self.0.ended) {
            // It ends by the end of the thread, or by the limit.
            let _ = ended.recv_timeout(left);
        }
    }

    /// The format for services that do not say it themselves.
    pub(crate) fn format(&self) -> Format {
        self.0.options.format
    }

    /// Whether lines hold queries.
    pub(crate) fn has_query(&self) -> bool {
        self.0.options.query
    }

    /// Starts the thread, if it is not there yet.
    pub(crate) fn start(&self) {
        if self.0.queue.get().is_some() {
            return;
        }
        let sink = lock(&self.0.sink).take().unwrap_or(Sink::Stdout);
        let (queue, messages) = channel();
        let (done, ended) = sync_channel::<()>(0);
        let log = self.clone();
        let spawned = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                log.write_all(&messages, sink);
                // Whoever waits for the end sees that it is gone.
                drop(done);
            });
        match spawned {
            Ok(_) => {
                *lock(&self.0.ended) = Some(ended);
                let _ = self.0.queue.set(queue);
            }
            Err(error) => tracing::error!(%error, "the access log cannot be written: no thread"),
        }
    }

    /// Hands lines over, or drops them.
    fn send(&self, mut lines: Vec<u8>, count: u64) {
        // A few lines of a quiet second must not take the room of a batch.
        if lines.len() < BATCH / 2 {
            lines.shrink_to_fit();
        }
        let room = lines.capacity();
        let before = self.0.waiting.fetch_add(room, Ordering::Relaxed);
        let fits = before.saturating_add(room) <= WAITING;
        let queue = self.0.queue.get().filter(|_| fits);
        if queue.is_none_or(|queue| queue.send(Message::Lines(lines, count)).is_err()) {
            self.0.waiting.fetch_sub(room, Ordering::Relaxed);
            self.0.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn write(&self, sink: &mut Sink, lines: &Vec<u8>) -> Result<(), (u64, io::Error)> {
        let written = sink.write(lines);
        self.0
            .waiting
            .fetch_sub(lines.capacity(), Ordering::Relaxed);
        written
    }

    fn write_all(&self, messages: &Receiver<Message>, mut sink: Sink) {
        let mut looked = Instant::now();
        let mut quiet_until = looked;
        let mut reopen_quiet_until = looked;
        let mut told = 0;
        loop {
            let message = messages.recv_timeout(LOOK);
            let due = looked.elapsed() >= LOOK;
            let asked = self.0.reopen.swap(false, Ordering::Relaxed);
            if (asked || (due && sink.has_moved()))
                && let Err(error) = sink.reopen()
                && (asked || Instant::now() >= reopen_quiet_until)
            {
                reopen_quiet_until = Instant::now() + SELDOM;
                tracing::error!(%error, "the access log cannot be opened anew: the old file stays");
            }
            if due {
                looked = Instant::now();
            }
            match message {
                Ok(Message::Lines(lines, count)) => match self.write(&mut sink, &lines) {
                    Ok(()) => {
                        self.0.lines.fetch_add(count, Ordering::Relaxed);
                    }
                    Err((sent, error)) => {
                        self.0.lines.fetch_add(sent, Ordering::Relaxed);
                        let lost = count.saturating_sub(sent);
                        self.0.dropped.fetch_add(lost, Ordering::Relaxed);
                        if Instant::now() >= quiet_until {
                            tracing::error!(%error, "the access log cannot be written");
                        }
                    }
                },
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
            let dropped = self.dropped();
            if dropped > told && Instant::now() >= quiet_until {
                let lost = dropped - told;
                tracing::warn!(dropped = lost, "lines of the access log were dropped");
                quiet_until = Instant::now() + QUIET;
                told = dropped;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lines of one worker that are still with it.
#[derive(Debug)]
pub(crate) struct Journal {
    log: AccessLog,
    buffer: RefCell<(Vec<u8>, u64)>,
}

impl Journal {
    pub(crate) fn new(log: AccessLog) -> Self {
        Self {
            log,
            buffer: RefCell::default(),
        }
    }

    /// Whether lines hold queries.
    pub(crate) fn has_query(&self) -> bool {
        self.log.has_query()
    }

    /// Adds a line, by a function that writes it with its end.
    pub(crate) fn add(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut buffer = self.buffer.borrow_mut();
        let (lines, count) = &mut *buffer;
        if lines.capacity() == 0 {
            lines.reserve(BATCH);
        }
        write(lines);
        *count += 1;
        let full = lines.len() >= BATCH;
        drop(buffer);
        if full {
            self.flush();
        }
    }

    /// Hands over what there is.
    pub(crate) fn flush(&self) {
        let (lines, count) = self.buffer.take();
        if count > 0 {
            self.log.send(lines, count);
        }
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
