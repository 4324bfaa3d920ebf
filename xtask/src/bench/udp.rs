//! The UDP rows: clients and backends that exchange datagrams through a proxy, in one loop.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::Error;
use super::load::{Counted, Reuse};
use super::measure::{Cores, Sample};
use super::proxies::{Kind, Paths, Proxy};
use super::rows::Row;

/// A client waits so long for an answer, then it has failed.
const PATIENCE: Duration = Duration::from_millis(500);

/// Tokens from here on are those of backends.
const BACKENDS: u64 = 1 << 32;

/// What an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// Clients at the same time.
    pub(crate) clients: usize,
    /// Datagrams of the client.
    pub(crate) asks: usize,
    /// Datagrams of the backend for each of the client's.
    pub(crate) answers: usize,
    /// Whether a client goes on from the same port.
    pub(crate) reuse: Reuse,
}

impl Exchange {
    /// Datagrams that the proxy receives and sends on in one exchange.
    pub(crate) fn datagrams(&self) -> usize {
        self.asks + self.asks * self.answers
    }
}

struct Client {
    socket: UdpSocket,
    since: Instant,
    /// Datagrams yet to come.
    left: usize,
}

/// A proxy with its clients and backends.
pub(crate) struct Lane {
    /// Which proxy.
    pub(crate) kind: Kind,
    proxy: Proxy,
    exchange: Exchange,
    epoll: OwnedFd,
    backends: Vec<UdpSocket>,
    clients: Vec<Option<Client>>,
    bytes: usize,
    buffer: Vec<u8>,
    counted: Counted,
    /// The rounds that are done, per datagram.
    pub(crate) rounds: Vec<Sample>,
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error::Io(what, error)
}

impl Lane {
    /// Starts a proxy with two backends behind it.
    pub(crate) fn start(
        kind: Kind,
        row: &Row,
        exchange: Exchange,
        paths: &Paths,
        cores: Cores,
    ) -> Result<Self, Error> {
        let epoll =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| Error::Io("epoll", e.into()))?;
        let mut backends = Vec::new();
        let mut ports = Vec::new();
        for _ in 0..2u64 {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed("a backend"))?;
            socket.set_nonblocking(true).map_err(failed("a backend"))?;
            ports.push(socket.local_addr().map_err(failed("a backend"))?.port());
            watch(&epoll, &socket, BACKENDS + backends.len() as u64)?;
            backends.push(socket);
        }
        let proxy = Proxy::start(kind, paths, row.mode, &ports, cores, exchange.reuse)?;
        Ok(Self {
            kind,
            proxy,
            exchange,
            epoll,
            backends,
            clients: Vec::new(),
            bytes: row.bytes,
            buffer: vec![b'd'; 65_536],
            counted: Counted::default(),
            rounds: Vec::new(),
        })
    }

    /// One round: warm up, measure, hang up.
    pub(crate) fn round(&mut self, window: Duration) -> Result<Sample, Error> {
        for at in 0..self.exchange.clients {
            self.open(at)?;
        }
        let warm = window.mul_f64(0.15).max(Duration::from_millis(50));
        self.run(Instant::now() + warm)?;
        self.counted = Counted::default();
        let cpu = self.proxy.cpu()?;
        let start = Instant::now();
        self.run(start + window)?;
        let wall = start.elapsed();
        let cpu = self.proxy.cpu()?.saturating_sub(cpu);
        self.clients.clear();
        let counted = std::mem::take(&mut self.counted);
        let mut sample = Sample::new(wall, cpu, counted).ok_or_else(|| {
            let (name, log) = (self.kind.name(), self.proxy.log());
            Error::Run(format!("{name} answered nothing; its log: {log}"))
        })?;
        let datagrams = self.exchange.datagrams() as f64;
        sample.cpu_us /= datagrams;
        sample.rate *= datagrams;
        Ok(sample)
    }

    /// Begins an exchange from a new port.
    fn open(&mut self, at: usize) -> Result<(), Error> {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, self.proxy.port()));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed("a client"))?;
        socket.connect(to).map_err(failed("a client"))?;
        socket.set_nonblocking(true).map_err(failed("a client"))?;
        watch(&self.epoll, &socket, at as u64)?;
        if self.clients.len() <= at {
            self.clients.resize_with(at + 1, || None);
        }
        if let Some(place) = self.clients.get_mut(at) {
            *place = Some(Client {
                socket,
                since: Instant::now(),
                left: 0,
            });
        }
        self.ask(at);
        Ok(())
    }

    fn ask(&mut self, at: usize) {
        let Some(Some(client)) = self.clients.get_mut(at) else {
            return;
        };
        client.since = Instant::now();
        client.left = self.exchange.asks * self.exchange.answers;
        let bytes = self.buffer.get(..self.bytes).unwrap_or_default();
        for _ in 0..self.exchange.asks {
            // What is not sent is not answered, and so a failure.
            let _sent = client.socket.send(bytes);
        }
    }

    fn run(&mut self, until: Instant) -> Result<(), Error> {
        let mut events = Vec::with_capacity(256);
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: 20_000_000,
        };
        let mut look = Instant::now() + PATIENCE;
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::Io("epoll", errno.into())),
            }
            for event in &events {
                match event.data.u64().checked_sub(BACKENDS) {
                    Some(backend) => self.serve(usize::try_from(backend).unwrap_or(0)),
                    None => self.hear(usize::try_from(event.data.u64()).unwrap_or(0))?,
                }
            }
            let now = Instant::now();
            if now >= look {
                look = now + PATIENCE;
                self.give_up(now)?;
            }
            if now >= until {
                return Ok(());
            }
        }
    }

    /// Answers what a backend was asked.
    fn serve(&mut self, at: usize) {
        let Some(socket) = self.backends.get(at) else {
            return;
        };
        for _ in 0..64 {
            let Ok((n, from)) = socket.recv_from(&mut self.buffer) else {
                return;
            };
            let bytes = self.buffer.get(..n).unwrap_or_default();
            for _ in 0..self.exchange.answers {
                let _sent = socket.send_to(bytes, from);
            }
        }
    }

    /// Takes a client's answers.
    fn hear(&mut self, at: usize) -> Result<(), Error> {
        loop {
            let Some(Some(client)) = self.clients.get_mut(at) else {
                return Ok(());
            };
            match client.socket.recv(&mut self.buffer) {
                Ok(n) if n == self.bytes => client.left = client.left.saturating_sub(1),
                Ok(n) => self.fail(format!("{n} bytes instead of {}", self.bytes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => {
                    self.fail(error.to_string());
                    return self.open(at);
                }
            }
            let Some(Some(client)) = self.clients.get(at) else {
                return Ok(());
            };
            if client.left == 0 {
                let nanos = client.since.elapsed().as_nanos();
                let nanos = u32::try_from(nanos).unwrap_or(u32::MAX);
                self.counted.latencies.push(nanos);
                if self.exchange.reuse == Reuse::Never {
                    return self.open(at);
                }
                self.ask(at);
            }
        }
    }

    fn fail(&mut self, why: String) {
        self.counted.failures += 1;
        self.counted.first_failure.get_or_insert(why);
    }

    /// Has clients that have waited for too long begin anew.
    fn give_up(&mut self, now: Instant) -> Result<(), Error> {
        for at in 0..self.clients.len() {
            let late = |client: &Client| now.duration_since(client.since) > PATIENCE;
            if self
                .clients
                .get(at)
                .and_then(Option::as_ref)
                .is_some_and(late)
            {
                self.fail("an answer did not come".to_owned());
                self.open(at)?;
            }
        }
        Ok(())
    }
}

fn watch(epoll: &OwnedFd, socket: &UdpSocket, token: u64) -> Result<(), Error> {
    let data = epoll::EventData::new_u64(token);
    epoll::add(epoll, socket, data, epoll::EventFlags::IN).map_err(|e| Error::Io("epoll", e.into()))
}
