//! Log lines: made where something happens, written by a thread of their own. A reader of standard
//! error that is stuck costs lines, and holds nobody up.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use plimsoll_config::LogFormat;
use tracing::error;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::prelude::*;

use crate::error::Error;

/// Lines that wait to be written at most; more are dropped, and counted.
const WAITING: usize = 4096;
/// At the end, what waits is written within this time or not at all.
const FLUSH: Duration = Duration::from_secs(1);
/// Between two tries to say that it is the end.
const RETRY: Duration = Duration::from_millis(5);

/// What goes to the writing thread: a line, or nothing for the end.
type Message = Option<Vec<u8>>;

/// Takes lines from all threads; never waits.
#[derive(Clone)]
struct Lines {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    /// Lines that a thread writes to `sink`. `tell` is called there with the number of lines that
    /// were dropped, once there is room again.
    fn start(
        waiting: usize,
        sink: impl Write + Send + 'static,
        tell: impl Fn(u64) + Send + 'static,
    ) -> io::Result<(Self, Flush)> {
        let (queue, lines) = sync_channel(waiting);
        let (done, ended) = sync_channel(0);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = dropped.clone();
        thread::Builder::new().name("log".into()).spawn(move || {
            write_all(&lines, sink, &counter, tell);
            // Whoever waits for the end sees that it is gone.
            drop::<SyncSender<()>>(done);
        })?;
        let flush = Flush {
            queue: queue.clone(),
            ended,
        };
        Ok((Self { queue, dropped }, flush))
    }
}

fn write_all(
    lines: &Receiver<Message>,
    mut sink: impl Write,
    dropped: &AtomicU64,
    tell: impl Fn(u64),
) {
    while let Ok(Some(line)) = lines.recv() {
        // There is nobody to tell that nothing can be told.
        let _ = sink.write_all(&line).and_then(|()| sink.flush());
        match dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            lost => tell(lost),
        }
    }
}

/// One whole line at a time is written to it, as the layer does.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Some(line.to_vec())) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Waits, when dropped, until all lines are written, for a bounded time.
pub(crate) struct Flush {
    queue: SyncSender<Message>,
    ended: Receiver<()>,
}

impl Drop for Flush {
    fn drop(&mut self) {
        let until = Instant::now() + FLUSH;
        while let Err(TrySendError::Full(_)) = self.queue.try_send(None) {
            if Instant::now() >= until {
                return;
            }
            thread::sleep(RETRY);
        }
        let left = until.saturating_duration_since(Instant::now());
        let _ended = self.ended.recv_timeout(left);
    }
}

/// From now on log lines go to standard error.
pub(crate) fn start(format: LogFormat, level: &str) -> Result<Flush, Error> {
    let filter = targets(level).ok_or_else(|| {
        Error::Usage(format!(
            "--log {level}: expected off, error, warn, info, debug or trace, or by part such as \
             info,plimsoll_control=debug"
        ))
    })?;
    let tell = |dropped| {
        error!(
            dropped,
            "log lines were dropped: they were not read fast enough"
        )
    };
    let (writer, flush) = Lines::start(WAITING, io::stderr(), tell)
        .map_err(|why| Error::Failed(format!("the thread for the log cannot be started: {why}")))?;
    let lines = fmt::layer().with_writer(writer).with_target(false);
    let started = match format {
        LogFormat::Text => {
            let lines = lines.with_ansi(io::stderr().is_terminal());
            tracing_subscriber::registry()
                .with(lines.with_filter(filter))
                .try_init()
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false);
            tracing_subscriber::registry()
                .with(lines.with_filter(filter))
                .try_init()
        }
    };
    started.map_err(Error::failed)?;
    std::panic::set_hook(Box::new(report_panic));
    Ok(flush)
}

/// A panic is a line of the log like others, with its place. What was under way when it happened ends,
/// and nothing else.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let at = panic.location().map(ToString::to_string);
    let payload = panic.payload();
    let why = (payload.downcast_ref::<&str>().copied())
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason was given");
    error!(
        thread = thread::current().name(),
        at, "a defect of plimsoll's own, please report it: {why}"
    );
}

/// A single word that is no level would be a part whose lines are all wanted: a slip.
fn targets(text: &str) -> Option<Targets> {
    let level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let known = |word: &str| word.contains('=') || level(word);
    text.split(',').all(known).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use super::*;

    /// Takes nothing until the sender of its gate is gone.
    struct Gated {
        gate: Receiver<()>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _gone = self.gate.recv();
            self.taken.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (std::sync::mpsc::Sender<()>, Arc<Mutex<Vec<u8>>>, Gated) {
        let (open, gate) = channel();
        let taken = Arc::default();
        let sink = Gated {
            gate,
            taken: Arc::clone(&taken),
        };
        (open, taken, sink)
    }

    #[test]
    fn what_nobody_reads_is_dropped_and_counted() {
        let (open, taken, sink) = gated();
        let (told, dropped) = channel();
        let (mut lines, flush) = Lines::start(4, sink, move |n| told.send(n).unwrap()).unwrap();
        // At most one is with the thread and four wait.
        for _ in 0..100 {
            lines.write_all(b"line\n").unwrap();
        }
        drop(open);
        drop(flush);
        let dropped: u64 = dropped.iter().sum();
        let written = taken.lock().unwrap().len() as u64 / 5;
        assert!((4..=5).contains(&written), "{written} lines written");
        assert_eq!(written + dropped, 100);
    }

    #[test]
    fn the_end_does_not_wait_for_a_reader_that_is_stuck() {
        let (open, taken, sink) = gated();
        let (mut lines, flush) = Lines::start(1, sink, drop).unwrap();
        for _ in 0..3 {
            lines.write_all(b"line\n").unwrap();
        }
        let before = Instant::now();
        drop(flush);
        assert!(before.elapsed() < 5 * FLUSH);
        assert!(taken.lock().unwrap().is_empty());
        drop(open);
    }

    #[test]
    fn a_slip_is_refused() {
        for good in ["info", "debug,plimsoll_control=trace", "off"] {
            assert!(targets(good).is_some(), "{good}");
        }
        for bad in ["loud", "infoo,plimsoll=debug", "plimsoll=loud", ""] {
            assert!(targets(bad).is_none(), "{bad}");
        }
    }
}
