//! A Docker Engine that is none: an HTTP server with containers that only exist in memory.

mod answers;
mod behaviour;
mod container;
mod world;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub use behaviour::{Ask, EngineBehaviour, Fault, Telling};
pub use container::FakeContainer;
pub use world::World;

use crate::server::lock;
use crate::wire::{Head, Wire};
use crate::{Error, TempDir};

/// An engine remembers so many events.
const REMEMBERED: usize = 256;

/// An engine on a Unix socket of its own. It stops when it is dropped.
pub struct FakeEngine {
    folder: TempDir,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    behaviour: Mutex<EngineBehaviour>,
    /// How many events there ever were.
    told: watch::Sender<u64>,
    /// Counts up when streams of events are to end.
    streams: watch::Sender<u64>,
    seen: Mutex<Vec<(Ask, String)>>,
    connections: AtomicUsize,
    tasks: Mutex<Vec<AbortHandle>>,
}

#[derive(Default)]
struct State {
    world: World,
    /// The last events: when, and the line.
    events: Vec<(i64, String)>,
    told: u64,
}

impl FakeEngine {
    /// Starts one without containers.
    ///
    /// # Errors
    /// It cannot listen.
    pub fn start() -> Result<Self, Error> {
        let engine = Self {
            folder: TempDir::new()?,
            shared: Arc::new(Shared {
                state: Mutex::default(),
                behaviour: Mutex::default(),
                told: watch::Sender::new(0),
                streams: watch::Sender::new(0),
                seen: Mutex::default(),
                connections: AtomicUsize::default(),
                tasks: Mutex::default(),
            }),
        };
        engine.listen().map_err(Error::io("listening"))?;
        Ok(engine)
    }

    fn listen(&self) -> io::Result<()> {
        let listener = UnixListener::bind(self.socket())?;
        let shared = Arc::clone(&self.shared);
        self.shared.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = Arc::clone(&shared);
                shared.spawn(async move { drop(served.serve(stream).await) });
            }
        });
        Ok(())
    }

    /// Listens on a free port of 127.0.0.1, too; where.
    ///
    /// # Errors
    /// It cannot listen.
    pub async fn listen_tcp(&self) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::clone(&self.shared);
        self.shared.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = Arc::clone(&shared);
                shared.spawn(async move { drop(served.serve(stream).await) });
            }
        });
        Ok(address)
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// The folder of its socket.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Looks at its containers, or changes them; what happens is told as one.
    pub fn world<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut state = lock(&self.shared.state);
        let result = change(&mut state.world);
        for (time, event) in state.world.take_events() {
            state.events.push((time, format!("{event}\n")));
            state.told += 1;
        }
        let forgotten = state.events.len().saturating_sub(REMEMBERED);
        state.events.drain(..forgotten);
        self.shared.told.send_replace(state.told);
        result
    }

    /// Behaves otherwise from now on; streams of events that are open, too.
    pub fn behave(&self, behaviour: EngineBehaviour) {
        *lock(&self.shared.behaviour) = behaviour;
    }

    /// Changes how it behaves.
    pub fn adjust(&self, change: impl FnOnce(&mut EngineBehaviour)) {
        change(&mut lock(&self.shared.behaviour));
    }

    /// What was asked so far, with the request line.
    pub fn seen(&self) -> Vec<(Ask, String)> {
        lock(&self.shared.seen).clone()
    }

    /// How often each thing was asked.
    pub fn counts(&self) -> BTreeMap<Ask, usize> {
        let mut counts = BTreeMap::new();
        for (ask, _) in lock(&self.shared.seen).iter() {
            *counts.entry(*ask).or_default() += 1;
        }
        counts
    }

    /// How often this was asked.
    pub fn count(&self, ask: Ask) -> usize {
        self.counts().get(&ask).copied().unwrap_or_default()
    }

    /// How many connections were ever made to it.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Ends all streams of events.
    pub fn end_streams(&self) {
        self.shared.streams.send_modify(|count| *count += 1);
    }

    /// Stops, as an engine that is being restarted: nobody listens, and what happened is
    /// forgotten. The containers stay.
    pub fn stop(&self) {
        self.shared.abort();
        // It is made anew.
        let _gone = std::fs::remove_file(self.socket());
        lock(&self.shared.state).events.clear();
    }

    /// Starts again.
    ///
    /// # Errors
    /// It cannot listen.
    pub fn start_again(&self) -> io::Result<()> {
        self.listen()
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.shared.abort();
    }
}

impl Shared {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        tasks.retain(|task| !task.is_finished());
        tasks.push(tokio::spawn(task).abort_handle());
    }

    fn abort(&self) {
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<()> {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let mut wire = Wire::new(stream);
        while let Ok(head) = wire.head().await {
            let (version, path) = split(head.target());
            let (ask, id) = kind(path);
            lock(&self.seen).push((ask, head.start.clone()));
            let behaviour = lock(&self.behaviour).clone();
            let fault = behaviour.inspections.get(id).or(behaviour.faults.get(&ask));
            let (status, body) = match fault {
                Some(Fault::Nothing) => return Ok(()),
                Some(Fault::Hang) => return std::future::pending().await,
                Some(Fault::Garbage) => {
                    return wire.stream.write_all(b"220 mail.example ESMTP\r\n").await;
                }
                Some(Fault::Status(status, body)) => (*status, body.clone()),
                Some(Fault::Body(body)) => (200, body.clone()),
                Some(Fault::Half) | None => self.answer(&head, version, (ask, id), &behaviour),
            };
            if ask == Ask::Events && status == 200 && fault.is_none() {
                return self.tell(&mut wire.stream, since(path)).await;
            }
            let date = lock(&self.state).world.http_date();
            let mut answer = preface(status, &body, &date, &behaviour);
            if head.method() != "HEAD" {
                answer.push_str(&body);
            }
            if fault == Some(&Fault::Half) {
                let half = answer.len() - body.len() / 2 - 1;
                return wire
                    .stream
                    .write_all(answer.get(..half).unwrap_or_default().as_bytes())
                    .await;
            }
            wire.stream.write_all(answer.as_bytes()).await?;
        }
        Ok(())
    }

    /// Status and body of an answer.
    fn answer(
        &self,
        head: &Head,
        version: Option<(u16, u16)>,
        (ask, id): (Ask, &str),
        behaviour: &EngineBehaviour,
    ) -> (u16, String) {
        let message = |status: u16, text: String| (status, json!({"message": text}).to_string());
        if head.method() != "GET"
            && !(head.method() == "HEAD" && behaviour.knows_head && ask == Ask::Ping)
        {
            return message(405, "method not allowed".into());
        }
        let [newest, oldest] = [&behaviour.api, &behaviour.min_api].map(|text| number(text));
        if let Some((major, minor)) = version {
            let asked = (major, minor);
            if newest.is_some_and(|newest| asked > newest) {
                let text = format!(
                    "client version {major}.{minor} is too new. Maximum supported API version is {}",
                    behaviour.api
                );
                return message(400, text);
            }
            if oldest.is_some_and(|oldest| asked < oldest) {
                let text = format!(
                    "client version {major}.{minor} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
                    behaviour.min_api
                );
                return message(400, text);
            }
        }
        let state = lock(&self.state);
        let body: Value = match ask {
            Ask::Ping => return (200, "OK".into()),
            Ask::Version => {
                json!({"Platform": {"Name": ""}, "Version": "20.10.24", "ApiVersion": behaviour.api,
                "MinAPIVersion": behaviour.min_api, "Os": behaviour.os, "Arch": "amd64"})
            }
            Ask::Info => json!({"ID": "FAKE", "OSType": behaviour.os}),
            Ask::Events => Value::Null,
            Ask::List => state.world.list(),
            Ask::Networks => state.world.networks(),
            Ask::Inspect => match state.world.inspect(id) {
                Some(found) => found,
                None => return message(404, format!("No such container: {id}")),
            },
            Ask::Other => return message(404, "page not found".into()),
        };
        (200, format!("{body}\n"))
    }

    /// A stream of events, from now on or since a time in nanoseconds after 1970.
    async fn tell<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        since: Option<i64>,
    ) -> io::Result<()> {
        let mut told = self.told.subscribe();
        let mut ends = self.streams.subscribe();
        ends.mark_unchanged();
        let mut next = {
            let state = lock(&self.state);
            told.mark_unchanged();
            let old = state
                .events
                .iter()
                .filter(|(time, _)| since.is_some_and(|since| *time >= since));
            state.told - old.count() as u64
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        loop {
            let mut lines: Vec<String> = {
                let state = lock(&self.state);
                let new = usize::try_from(state.told - next)
                    .unwrap_or(usize::MAX)
                    .min(state.events.len());
                next = state.told;
                let new = state.events.len() - new;
                state
                    .events
                    .get(new..)
                    .unwrap_or_default()
                    .iter()
                    .map(|(_, line)| line.clone())
                    .collect()
            };
            let telling = lock(&self.behaviour).telling.clone();
            match telling {
                Telling::Well => {}
                Telling::Nothing => lines.clear(),
                Telling::Twice => {
                    lines = lines
                        .into_iter()
                        .flat_map(|line| [line.clone(), line])
                        .collect()
                }
                Telling::Backwards => lines.reverse(),
                Telling::Late(time) => tokio::time::sleep(time).await,
                Telling::Garbage => lines
                    .iter_mut()
                    .for_each(|line| *line = "{\"Action\":[7]}\n".into()),
            }
            for line in lines {
                let chunk = format!("{:x}\r\n{line}\r\n", line.len());
                stream.write_all(chunk.as_bytes()).await?;
            }
            tokio::select! {
                more = told.changed() => if more.is_err() { return Ok(()) },
                _ = ends.changed() => return stream.write_all(b"0\r\n\r\n").await,
            }
        }
    }
}

fn preface(status: u16, body: &str, date: &str, behaviour: &EngineBehaviour) -> String {
    let version = match behaviour.says_version {
        true => format!(
            "Api-Version: {}\r\nOstype: {}\r\n",
            behaviour.api, behaviour.os
        ),
        false => String::new(),
    };
    format!(
        "HTTP/1.1 {status} Something\r\n{version}Date: {date}\r\nServer: Docker/20.10.24 (linux)\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    )
}

/// The version in a path, and the path without it.
fn split(target: &str) -> (Option<(u16, u16)>, &str) {
    let versioned = target
        .strip_prefix("/v")
        .and_then(|rest| rest.split_once('/'));
    let Some((version, rest)) = versioned else {
        return (None, target);
    };
    let from = target.len() - rest.len() - 1;
    match number(version) {
        Some(version) => (Some(version), target.get(from..).unwrap_or(target)),
        None => (None, target),
    }
}

fn number(text: &str) -> Option<(u16, u16)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What a path asks for, and of which container.
fn kind(path: &str) -> (Ask, &str) {
    let path = path.split('?').next().unwrap_or_default();
    let ask = match path {
        "/_ping" => Ask::Ping,
        "/version" => Ask::Version,
        "/info" => Ask::Info,
        "/events" => Ask::Events,
        "/containers/json" => Ask::List,
        "/networks" => Ask::Networks,
        _ => {
            let rest = path.strip_prefix("/containers/");
            return match rest.and_then(|rest| rest.strip_suffix("/json")) {
                Some(id) => (Ask::Inspect, id),
                None => (Ask::Other, ""),
            };
        }
    };
    (ask, "")
}

/// The `since` of a query, in nanoseconds.
fn since(path: &str) -> Option<i64> {
    let query = path.split_once('?')?.1;
    let since = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("since="))?;
    let (seconds, nanos) = since.split_once('.')?;
    Some(seconds.parse::<i64>().ok()? * 1_000_000_000 + nanos.parse::<i64>().ok()?)
}
