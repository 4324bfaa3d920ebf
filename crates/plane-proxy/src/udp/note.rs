//! What the access log says of a session when it has ended.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use plimsoll_model::{AccessLog, BackendAddr};

use super::session::{Key, Session};
use crate::access::{End, Entry, Load, line};
use crate::backend::LiveBackend;
use crate::snapshot::LiveService;
use crate::worker::Worker;

/// What is noted of a session that will be a line.
#[derive(Debug)]
pub(crate) struct Note {
    format: AccessLog,
    service: Arc<LiveService>,
    since: SystemTime,
    /// In µs of the plane's clock.
    begun: u64,
    /// From the first datagram to the first answer.
    answered: Option<Duration>,
    /// The last one.
    backend: Option<Arc<LiveBackend>>,
    moves: u32,
    bytes_in: u64,
    bytes_out: u64,
}

impl Note {
    /// None if the service is not logged.
    pub(super) fn new(worker: &Worker, service: &Arc<LiveService>) -> Option<Box<Self>> {
        let format = service.log?;
        Some(Box::new(Self {
            format,
            service: service.clone(),
            since: SystemTime::now(),
            begun: worker.shared.micros(),
            answered: None,
            backend: None,
            moves: 0,
            bytes_in: 0,
            bytes_out: 0,
        }))
    }

    /// It has a backend, or another one.
    pub(super) fn bind(&mut self, backend: &Arc<LiveBackend>) {
        self.moves += u32::from(self.backend.is_some());
        self.backend = Some(backend.clone());
    }

    pub(super) fn hear_client(&mut self, bytes: usize) {
        self.bytes_in += bytes as u64;
    }

    pub(super) fn hear_backend(&mut self, worker: &Worker, bytes: usize) {
        self.bytes_out += bytes as u64;
        if self.answered.is_none() {
            self.answered = Some(self.taken(worker));
        }
    }

    fn taken(&self, worker: &Worker) -> Duration {
        Duration::from_micros(worker.shared.micros().saturating_sub(self.begun))
    }

    /// Makes it a line of the worker's journal.
    pub(super) fn write(&self, worker: &Worker, key: &Key, session: &Session, end: End) {
        let backend = self.backend.as_deref();
        let at_once = backend.map(|_| Duration::ZERO);
        let entry = Entry {
            client: key.client(),
            listen: &session.port.listen,
            service: Some(self.service.spec.name.as_str()),
            backend: backend.map(|b| -> &BackendAddr { &b.addr }),
            since: (self.since.duration_since(SystemTime::UNIX_EPOCH)).unwrap_or_default(),
            asked: None,
            datagrams: Some(session.datagrams()),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            head: Duration::ZERO,
            queue: at_once,
            connect: at_once,
            response: self.answered,
            total: self.taken(worker),
            retries: self.moves,
            elsewhere: self.moves > 0,
            end,
            load: match self.format {
                AccessLog::Httplog => self.load(worker, session),
                _ => Load::default(),
            },
        };
        worker.journal.add(|out| line(self.format, &entry, out));
    }

    fn load(&self, worker: &Worker, session: &Session) -> Load {
        let place = self.backend.as_deref().map(|backend| &backend.admission);
        let place = place.map_or((0, 0), |p| (p.active(), p.waiting()));
        Load::new(worker, &session.port, Some(&self.service), place)
    }
}
