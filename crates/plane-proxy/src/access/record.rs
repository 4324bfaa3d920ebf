//! What is noted of a request or connection while it goes on.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, Version, header};
use hyper::Request;
use plimsoll_model::{AccessLog, BackendAddr};

use super::entry::{Asked, End, Entry, Load, NoTime};
use super::format;
use crate::backend::LiveBackend;
use crate::conn::Conn;
use crate::snapshot::{LiveService, Table};
use crate::worker::Worker;

/// Bytes of a target that are kept at most, and of any other text of a client.
const TARGET: usize = 4096;
const TEXT: usize = 1024;

/// The text of a request.
#[derive(Debug)]
struct Ask {
    bad: bool,
    method: Method,
    target: Vec<u8>,
    version: Version,
    host: Vec<u8>,
    referer: Vec<u8>,
    agent: Vec<u8>,
    status: u16,
}

/// A request or connection that will be a line.
#[derive(Debug)]
pub(crate) struct Record {
    since: SystemTime,
    ask: Option<Ask>,
    /// How long its head took to come.
    head: Duration,
    service: Option<Arc<LiveService>>,
    backend: Option<Arc<LiveBackend>>,
    placed: NoTime,
    connected: NoTime,
    answered: NoTime,
    retries: u32,
    elsewhere: bool,
    /// A backend failed it, and it has no other place yet.
    failed: bool,
    end: Option<End>,
}

impl Record {
    /// Of a TCP connection.
    pub(crate) fn tcp(service: Arc<LiveService>) -> Box<Self> {
        Box::new(Self::new(None, Some(service)))
    }

    /// Of a request whose head has come, in this time. `bad` is one that was refused for its form, of
    /// which nothing is known.
    pub(crate) fn http<B>(
        request: &Request<B>,
        bad: bool,
        with_query: bool,
        head: Duration,
    ) -> Box<Self> {
        let headers = request.headers();
        let target = request.uri().path_and_query().map(|both| match with_query {
            true => both.as_str(),
            false => both.path(),
        });
        let ask = Ask {
            bad,
            method: request.method().clone(),
            target: kept(target.unwrap_or("*").as_bytes(), TARGET),
            version: request.version(),
            host: match request.uri().authority() {
                Some(authority) => kept(authority.as_str().as_bytes(), TEXT),
                None => field(headers, header::HOST),
            },
            referer: match with_query {
                true => field(headers, header::REFERER),
                false => path_of(field(headers, header::REFERER)),
            },
            agent: field(headers, header::USER_AGENT),
            status: 0,
        };
        let mut record = Self::new(Some(ask), None);
        record.head = head;
        if let Some(since) = record.since.checked_sub(head) {
            record.since = since;
        }
        Box::new(record)
    }

    /// Of a request of which nothing could be read, after this time.
    pub(crate) fn unread(head: Duration) -> Box<Self> {
        Self::http(&Request::new(()), true, false, head)
    }

    fn new(ask: Option<Ask>, service: Option<Arc<LiveService>>) -> Self {
        Self {
            since: SystemTime::now(),
            ask,
            head: Duration::ZERO,
            service,
            backend: None,
            placed: None,
            connected: None,
            answered: None,
            retries: 0,
            elsewhere: false,
            failed: false,
            end: None,
        }
    }

    /// The service that is to serve it.
    pub(crate) fn route(&mut self, service: &Arc<LiveService>) {
        self.service = Some(service.clone());
    }

    /// It got a place at a backend, so long after it began.
    pub(crate) fn place(&mut self, backend: &Arc<LiveBackend>, at: Duration) {
        if std::mem::take(&mut self.failed) {
            self.retries += 1;
            let before = self.backend.as_ref();
            self.elsewhere = !before.is_some_and(|before| Arc::ptr_eq(before, backend));
        }
        self.backend = Some(backend.clone());
        self.placed.get_or_insert(at);
        self.connected = None;
    }

    /// After all it is this backend, at which it has been before, that answers.
    pub(crate) fn back_to(&mut self, backend: &Arc<LiveBackend>) {
        self.failed = false;
        self.backend = Some(backend.clone());
    }

    /// It has a connection to the backend.
    pub(crate) fn connect(&mut self, at: Duration) {
        self.connected = Some(at);
    }

    /// The head of the answer is there.
    pub(crate) fn answer(&mut self, status: u16, at: Duration) {
        self.answered = Some(at);
        self.status(status);
    }

    /// The status that the client gets.
    pub(crate) fn status(&mut self, status: u16) {
        if let Some(ask) = &mut self.ask {
            ask.status = status;
        }
    }

    /// It is tried again at the same backend.
    pub(crate) fn retry(&mut self) {
        self.retries += 1;
        self.elsewhere = false;
    }

    /// The backend failed it: the next place it gets, if it gets one, is a retry.
    pub(crate) fn fail(&mut self) {
        self.failed = true;
    }

    /// Why it ends. What was said first counts.
    pub(crate) fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// How far it has come, as the second letter of the termination code.
    pub(crate) fn stage(&self) -> u8 {
        match (self.answered, self.connected, self.placed, &self.service) {
            (Some(_), ..) => b'D',
            // Bytes go both ways as soon as there is a connection.
            (None, Some(_), ..) if self.ask.is_none() => b'D',
            (None, Some(_), ..) => b'H',
            (None, None, Some(_), _) => b'C',
            (None, None, None, Some(_)) => b'Q',
            (None, None, None, None) => b'R',
        }
    }

    /// Makes it a line of the worker's journal, if it is to be one. Where nobody said why it ended,
    /// the client left.
    pub(crate) fn write(&self, worker: &Worker, conn: &Conn) {
        let Some(format) = self.format(worker, conn) else {
            return;
        };
        let backend = self.backend.as_deref();
        let before =
            |later: NoTime, earlier: NoTime| later.zip(earlier).map(|(l, e)| l.saturating_sub(e));
        let (received, sent) = conn.moved();
        let entry = Entry {
            client: conn.client(),
            listen: &conn.port.listen,
            service: self.service.as_deref().map(|s| s.spec.name.as_str()),
            backend: backend.map(|b| -> &BackendAddr { &b.addr }),
            since: (self.since.duration_since(SystemTime::UNIX_EPOCH)).unwrap_or_default(),
            asked: self.ask.as_ref().map(Ask::shown),
            datagrams: None,
            bytes_in: received,
            bytes_out: sent,
            head: self.head,
            queue: self.placed,
            connect: before(self.connected, self.placed),
            response: before(self.answered, self.connected),
            total: self.head + conn.taken(),
            retries: self.retries,
            elsewhere: self.elsewhere,
            end: self.end.unwrap_or(End::new([b'C', self.stage()])),
            load: match format {
                AccessLog::Httplog => self.load(worker, conn),
                _ => Load::default(),
            },
        };
        worker.journal.add(|out| format::line(format, &entry, out));
    }

    /// For the format that says it only.
    fn load(&self, worker: &Worker, conn: &Conn) -> Load {
        let place = self.backend.as_deref().map(|backend| &backend.admission);
        let place = place.map_or((0, 0), |p| (p.active(), p.waiting()));
        Load::new(worker, &conn.port, self.service.as_deref(), place)
    }

    /// The format of the service; of what was not routed, that of the listen's first.
    fn format(&self, worker: &Worker, conn: &Conn) -> Option<AccessLog> {
        if let Some(service) = &self.service {
            return service.log;
        }
        let snapshot = worker.shared.snapshot.load();
        match snapshot.tables.get(&conn.port.index).map(|t| &**t) {
            Some(Table::Http(http)) => http.first.log,
            Some(Table::Tcp(service)) => service.log,
            _ => None,
        }
    }
}

impl Ask {
    fn shown(&self) -> Asked<'_> {
        Asked {
            bad: self.bad,
            method: self.method.as_str().as_bytes(),
            target: &self.target,
            version: match self.version {
                Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            },
            host: if self.bad { b"" } else { &self.host },
            referer: &self.referer,
            agent: &self.agent,
            status: self.status,
        }
    }
}

fn field(headers: &HeaderMap, name: header::HeaderName) -> Vec<u8> {
    let value = headers.get(name);
    value.map_or_else(Vec::new, |value| kept(value.as_bytes(), TEXT))
}

/// A reference without what is behind the `?`.
fn path_of(mut reference: Vec<u8>) -> Vec<u8> {
    let end = reference.iter().position(|byte| *byte == b'?');
    reference.truncate(end.unwrap_or(reference.len()));
    reference
}

fn kept(text: &[u8], most: usize) -> Vec<u8> {
    text.get(..most).unwrap_or(text).to_vec()
}
