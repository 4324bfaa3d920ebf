//! One epoll loop for the load and the backends: they share a core, and a loop that serves both
//! switches no context between them.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use super::Error;
use super::backend::Backend;
use super::load::Load;

/// Set in the tokens of the backends.
const BACKEND: u64 = 1 << 63;

/// A proxy that answers nothing for so long is stuck.
const STUCK: Duration = Duration::from_secs(10);

/// Events taken at once.
const BATCH: usize = 256;

/// Registers sockets of one side.
pub(crate) struct Poll<'a> {
    epoll: &'a OwnedFd,
    side: u64,
}

impl Poll<'_> {
    /// Watches a socket, for room to write as well where `write` is set.
    pub(crate) fn add(&self, fd: impl AsFd, token: usize, write: bool) -> Result<(), Errno> {
        epoll::add(self.epoll, fd, self.data(token), flags(write))
    }

    /// Changes what a socket is watched for.
    pub(crate) fn modify(&self, fd: impl AsFd, token: usize, write: bool) -> Result<(), Errno> {
        epoll::modify(self.epoll, fd, self.data(token), flags(write))
    }

    fn data(&self, token: usize) -> EventData {
        EventData::new_u64(self.side | token as u64)
    }
}

fn flags(write: bool) -> EventFlags {
    if write {
        EventFlags::IN | EventFlags::OUT
    } else {
        EventFlags::IN
    }
}

/// The loop and what it serves.
pub(crate) struct Engine {
    epoll: OwnedFd,
    events: Vec<Event>,
    backend: Backend,
    /// The clients.
    pub(crate) load: Load,
}

impl Engine {
    /// A loop over a load and the backends that will answer it.
    pub(crate) fn new(backend: Backend, load: Load) -> Result<Self, Error> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)
            .map_err(|errno| Error::Io("epoll", errno.into()))?;
        backend
            .register(&Poll {
                epoll: &epoll,
                side: BACKEND,
            })
            .map_err(|errno| Error::Io("epoll", errno.into()))?;
        Ok(Self {
            epoll,
            events: Vec::with_capacity(BATCH),
            backend,
            load,
        })
    }

    /// Serves until the time has come or `done` says so, which is asked after each batch.
    ///
    /// # Errors
    /// Nothing was answered for ten seconds, or too much went wrong.
    pub(crate) fn run(
        &mut self,
        name: &str,
        until: Instant,
        done: impl Fn(&Load) -> bool,
    ) -> Result<(), Error> {
        let mut progress = (self.load.answered(), Instant::now());
        loop {
            self.load.open_wanted(&Poll {
                epoll: &self.epoll,
                side: 0,
            });
            self.turn(until)?;
            if let Some(why) = self.load.hopeless() {
                return Err(Error::Run(format!("{name}: {why}")));
            }
            let now = Instant::now();
            if now >= until || done(&self.load) {
                return Ok(());
            }
            let answered = self.load.answered();
            if answered != progress.0 {
                progress = (answered, now);
            } else if now - progress.1 > STUCK {
                return Err(Error::Run(format!(
                    "{name} answered nothing for {} s: {}",
                    STUCK.as_secs(),
                    self.load.first_failure()
                )));
            }
        }
    }

    /// Serves what is on its way, opening nothing new.
    pub(crate) fn drain(&mut self, until: Instant) -> Result<(), Error> {
        while Instant::now() < until {
            self.turn(until)?;
        }
        Ok(())
    }

    fn turn(&mut self, until: Instant) -> Result<(), Error> {
        let wait = until
            .saturating_duration_since(Instant::now())
            .clamp(Duration::from_millis(1), Duration::from_millis(50));
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: wait.subsec_nanos().into(),
        };
        self.events.clear();
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, spare, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::Io("epoll", errno.into())),
        }
        for event in &self.events {
            let token = event.data.u64();
            if token & BACKEND == 0 {
                let poll = Poll {
                    epoll: &self.epoll,
                    side: 0,
                };
                self.load.ready(&poll, token as usize);
            } else {
                let poll = Poll {
                    epoll: &self.epoll,
                    side: BACKEND,
                };
                self.backend.ready(&poll, (token & !BACKEND) as usize);
            }
        }
        Ok(())
    }
}
