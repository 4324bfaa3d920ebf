//! The connections: their number, their lines and their patience are bounded.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::desk::Desk;
use super::line::{Request, read_line};
use crate::Ask;
use crate::asking::ANSWER;

/// Connections at once.
const CONNECTIONS: usize = 32;
/// Bytes of a line at most: HAProxy's `tune.bufsize`.
const MAX_LINE: usize = 16 << 10;
/// A connection without a command is closed after this, if it asks for nothing else: HAProxy's
/// `stats timeout`.
const IDLE: Duration = Duration::from_secs(10);
/// How long an answer may take to be read.
const SEND: Duration = Duration::from_secs(30);
/// After the system refused a connection (no descriptors left), this long until the next try.
const RETRY: Duration = Duration::from_millis(100);

/// Answers HAProxy's commands on a Unix socket, for ever.
pub async fn serve_stats(listener: UnixListener, asks: mpsc::Sender<Ask>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let office = Arc::new(Office {
        desk: Desk::new(asks),
        idle: Idle::default(),
    });
    for id in 0.. {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                sleep(RETRY).await;
                continue;
            }
        };
        if places.available_permits() == 0 {
            office.idle.drop_oldest();
        }
        // It is never closed.
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        // Held, so that the task cannot ask for its handle before it is there.
        let mut idle = office.idle.lock();
        let task = tokio::spawn(connection(id, stream, office.clone(), place));
        idle.handles.insert(id, task.abort_handle());
    }
}

struct Office {
    desk: Desk,
    idle: Idle,
}

/// Connections that wait for a command: who has waited longest gives way when all places are taken.
#[derive(Default)]
struct Idle(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    handles: BTreeMap<u64, AbortHandle>,
    /// In the order in which they began to wait.
    since: BTreeMap<u64, u64>,
    turn: u64,
}

impl Idle {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_oldest(&self) {
        let mut waiting = self.lock();
        if let Some((_, id)) = waiting.since.pop_first()
            && let Some(handle) = waiting.handles.get(&id)
        {
            handle.abort();
        }
    }

    /// Begins to wait; the turn is for [`Idle::end`].
    fn begin(&self, id: u64) -> u64 {
        let mut waiting = self.lock();
        waiting.turn += 1;
        let turn = waiting.turn;
        waiting.since.insert(turn, id);
        turn
    }

    fn end(&self, turn: u64) {
        self.lock().since.remove(&turn);
    }

    fn leave(&self, id: u64) {
        let mut waiting = self.lock();
        waiting.handles.remove(&id);
        waiting.since.retain(|_, other| *other != id);
    }
}

/// Leaves the list however the connection ends.
struct Leaving(Arc<Office>, u64);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.idle.leave(self.1);
    }
}

async fn connection(
    id: u64,
    stream: UnixStream,
    office: Arc<Office>,
    _place: OwnedSemaphorePermit,
) {
    let _leaving = Leaving(office.clone(), id);
    let session = Session {
        id,
        stream,
        office: &office,
        buffer: Vec::new(),
        prompt: false,
        patience: IDLE,
    };
    // Who goes away early, or is too slow, has no more to do with us.
    let _ = session.run().await;
}

/// One connection.
struct Session<'a> {
    id: u64,
    stream: UnixStream,
    office: &'a Office,
    /// What was read and is no whole line yet.
    buffer: Vec<u8>,
    /// Whether it stays for more commands.
    prompt: bool,
    patience: Duration,
}

impl Session<'_> {
    async fn run(mut self) -> io::Result<()> {
        while let Some(line) = self.line().await? {
            for request in read_line(&line) {
                match request {
                    Ok(Request::Quit) => return Ok(()),
                    Ok(Request::Prompt) => {
                        self.prompt = !self.prompt;
                        self.send("").await?;
                    }
                    Ok(Request::Timeout(patience)) => {
                        self.patience = patience;
                        self.send("").await?;
                    }
                    Ok(request) => self.answer(request).await?,
                    Err(why) => self.send(&format!("{why}\n")).await?,
                }
            }
            // Lines that came together are answered together, as HAProxy does.
            if !self.prompt && !self.buffer.contains(&b'\n') {
                break;
            }
        }
        Ok(())
    }

    async fn answer(&mut self, request: Request) -> io::Result<()> {
        let desk = &self.office.desk;
        // Kept until the answer is sent: so few of them can be held by who does not read.
        let place = timeout(ANSWER, desk.places.acquire()).await;
        let text = match &place {
            Ok(_) => match desk.answer(request).await {
                Ok(text) => text,
                Err(why) => format!("{why}\n"),
            },
            Err(_) => "Too many answers are waiting to be read: try again.\n".into(),
        };
        self.send(&text).await
    }

    /// Sends an answer, and the empty line, or the prompt, that ends it.
    async fn send(&mut self, text: &str) -> io::Result<()> {
        let end = if self.prompt { "\n> " } else { "\n" };
        let stream = &mut self.stream;
        let sending = async {
            stream.write_all(text.as_bytes()).await?;
            stream.write_all(end.as_bytes()).await
        };
        timeout(SEND, sending)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// The next line, without its end; none if no whole one comes any more.
    async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let turn = self.office.idle.begin(self.id);
        let read = timeout(self.patience, self.fill()).await;
        self.office.idle.end(turn);
        let Ok(end) = read else {
            return Ok(None);
        };
        match end? {
            Some(end) => {
                let rest = self.buffer.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.truncate(end);
                Ok(Some(line))
            }
            // What a client did not finish it may not have meant.
            None if self.buffer.len() < MAX_LINE => Ok(None),
            None => {
                let text = format!("The line is longer than {MAX_LINE} bytes.\n");
                self.send(&text).await?;
                Ok(None)
            }
        }
    }

    /// Reads until there is the end of a line: where; none if the line is cut off or too long.
    async fn fill(&mut self) -> io::Result<Option<usize>> {
        let mut seen = 0;
        loop {
            let fresh = self.buffer.get(seen..).unwrap_or_default();
            if let Some(end) = fresh.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(seen + end));
            }
            seen = self.buffer.len();
            let room = MAX_LINE.saturating_sub(seen);
            if room == 0 {
                return Ok(None);
            }
            let mut part = (&mut self.stream).take(room as u64);
            if part.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}
