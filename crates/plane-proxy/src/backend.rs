//! A backend at run time: what all workers share about it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use plimsoll_balance::PeakEwma;
use plimsoll_model::{Backend, BackendAddr, Name, Outlier};
use plimsoll_plane::{BackendCounters, Event};
use tokio::sync::mpsc;

use crate::admission::Admission;
use crate::counts::{BackendCounts, per_worker};
use crate::itself::Whereabouts;
use crate::limits::Permit;
use crate::sticky::Staying;

/// Never, as a time in milliseconds of the plane's clock.
pub(crate) const NEVER: u64 = u64::MAX;

/// For [`LiveBackend::cut_at`]: nothing is cut, but it gets nothing new, of weight 0.
const RESTING: u64 = NEVER - 1;

/// The same: draining or gone, but there is no limit to that.
pub(crate) const UNLIMITED: u64 = NEVER - 2;

/// What is shared about a backend. Lives as long as anything is in flight to it, over all changes
/// of its settings, so that its limit and its counts stay exact.
pub(crate) struct LiveBackend {
    /// Unique in this plane.
    pub(crate) id: u64,
    pub(crate) service: Name,
    pub(crate) addr: BackendAddr,
    ports: BTreeMap<u16, u16>,
    pub(crate) admission: Admission,
    /// Connections open to it, idle ones included.
    pub(crate) open: AtomicU32,
    /// When what it has is cut, in milliseconds of the plane's clock, if it is draining or gone;
    /// [`RESTING`]; or [`NEVER`].
    cut_at: AtomicU64,
    /// Since when the scheduler may give it something, in milliseconds of the plane's clock.
    ready_since: AtomicU64,
    /// How long it takes to answer; only where the scheduler wants to know.
    pub(crate) latency: PeakEwma,
    /// Removed or down: UDP sessions leave it at once.
    gone: AtomicBool,
    /// It failed, and has not served since.
    suspect: AtomicBool,
    /// Answers in a row that were errors; counted where the service puts outliers out.
    errors: AtomicU32,
    pub(crate) whereabouts: Whereabouts,
    counts: Box<[BackendCounts]>,
    /// Of a worker that is not there; always 0.
    nobody: BackendCounts,
    events: mpsc::Sender<Event>,
}

impl LiveBackend {
    pub(crate) fn new(
        id: u64,
        service: Name,
        backend: &Backend,
        workers: usize,
        now: u64,
        events: mpsc::Sender<Event>,
    ) -> Self {
        Self {
            id,
            service,
            addr: backend.addr.clone(),
            ports: backend.ports.clone(),
            admission: Admission::new(backend.maxconn),
            open: AtomicU32::new(0),
            cut_at: AtomicU64::new(NEVER),
            ready_since: AtomicU64::new(now),
            latency: PeakEwma::default(),
            gone: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            errors: AtomicU32::new(0),
            whereabouts: Whereabouts::default(),
            counts: per_worker(workers),
            nobody: BackendCounts::default(),
            events,
        }
    }

    /// Whether this is still what `backend` describes; settings that may change are left out.
    pub(crate) fn is(&self, backend: &Backend) -> bool {
        self.addr == backend.addr && self.ports == backend.ports
    }

    /// The socket address to connect to for a client that connected to `listen_port`.
    pub(crate) fn socket_addr(&self, listen_port: u16) -> Option<SocketAddr> {
        self.addr
            .socket_addr(self.ports.get(&listen_port).copied().unwrap_or(listen_port))
    }

    /// The counters of one worker.
    pub(crate) fn count(&self, worker: usize) -> &BackendCounts {
        self.counts.get(worker).unwrap_or(&self.nobody)
    }

    pub(crate) fn counters(&self) -> BackendCounters {
        let mut sum = BackendCounters {
            active: self.admission.active().into(),
            queued: self.admission.waiting().into(),
            overloaded: self.admission.is_overloaded(),
            ..BackendCounters::default()
        };
        self.counts
            .iter()
            .for_each(|counts| counts.sum_into(&mut sum));
        sum
    }

    /// Takes it out of use: what it has goes on until `cut_at`; who waits for it is sent away.
    pub(crate) fn retire(&self, cut_at: u64) {
        self.cut_at.store(cut_at, Ordering::Release);
        self.admission.dissolve_queue();
    }

    /// Says whether it is removed or down, and not merely draining.
    pub(crate) fn set_gone(&self, gone: bool) {
        self.gone.store(gone, Ordering::Release);
    }

    /// Whether it is removed or down.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Gives it nothing new any more, and leaves what it has alone.
    pub(crate) fn rest(&self) {
        self.cut_at.store(RESTING, Ordering::Release);
    }

    /// Takes it back into use, if it is not.
    pub(crate) fn restore(&self, now: u64) {
        self.set_gone(false);
        if self.cut_at.swap(NEVER, Ordering::AcqRel) != NEVER {
            // What it answered meanwhile was begun before.
            self.errors.store(0, Ordering::Relaxed);
            self.ready_since.store(now, Ordering::Relaxed);
        }
    }

    /// Since when the scheduler may give it something, in milliseconds of the plane's clock.
    pub(crate) fn ready_since(&self) -> u64 {
        self.ready_since.load(Ordering::Relaxed)
    }

    /// Whether it is draining or gone: connections to it are not kept.
    pub(crate) fn is_retired(&self) -> bool {
        self.cut_at() < RESTING
    }

    /// Whether a scheduler may choose it: neither draining nor gone, nor of weight 0.
    pub(crate) fn takes_new(&self) -> bool {
        self.cut_at() == NEVER
    }

    pub(crate) fn cut_at(&self) -> u64 {
        self.cut_at.load(Ordering::Acquire)
    }

    /// It refused or could not be reached.
    pub(crate) fn connect_failed(&self, reason: String) {
        self.suspect.store(true, Ordering::Relaxed);
        let (service, backend) = (self.service.clone(), self.addr.clone());
        // Events may be lost when nobody reads them: the next failure says it again.
        let _ = self.events.try_send(Event::ConnectFailed {
            service,
            backend,
            reason,
        });
    }

    /// It closed or reset before it answered.
    pub(crate) fn was_reset(&self, reason: String) {
        self.suspect.store(true, Ordering::Relaxed);
        let (service, backend) = (self.service.clone(), self.addr.clone());
        let _ = self.events.try_send(Event::Reset {
            service,
            backend,
            reason,
        });
    }

    /// It answered, for a service that puts outliers out.
    pub(crate) fn answered(&self, outlier: &Outlier, status: u16) {
        if !outlier.errors.has(status) {
            if self.errors.load(Ordering::Relaxed) != 0 {
                self.errors.store(0, Ordering::Relaxed);
            }
            return;
        }
        let count = self.errors.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if count.is_multiple_of(outlier.consecutive) {
            self.suspect.store(true, Ordering::Relaxed);
            let (service, backend) = (self.service.clone(), self.addr.clone());
            let reason = format!("{count} answers in a row with errors, the last with {status}");
            // Lost if nobody reads them: as many errors again say it again.
            let _ = self.events.try_send(Event::Errors {
                service,
                backend,
                reason,
            });
        }
    }

    /// It served. Costs a load where there is no news.
    pub(crate) fn served(&self) {
        if self.suspect.load(Ordering::Relaxed) && self.suspect.swap(false, Ordering::Relaxed) {
            let (service, backend) = (self.service.clone(), self.addr.clone());
            if self
                .events
                .try_send(Event::Served { service, backend })
                .is_err()
            {
                // Nobody heard: say it again with the next.
                self.suspect.store(true, Ordering::Relaxed);
            }
        }
    }

    fn leave(&self) {
        self.admission.leave_place();
        if self.is_retired() && self.admission.active() == 0 {
            let (service, backend) = (self.service.clone(), self.addr.clone());
            let _ = self.events.try_send(Event::Drained { service, backend });
        }
    }
}

impl fmt::Debug for LiveBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.addr, self.service)
    }
}

/// A place at a backend, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    backend: Arc<LiveBackend>,
    /// The client that stays there, if clients do; boxed, for most do not.
    _staying: Option<Box<Staying>>,
    /// What a request holds of limits.
    _permit: Option<Box<Permit>>,
}

impl Place {
    /// A place that [`Admission`] has admitted.
    pub(crate) fn admitted(backend: Arc<LiveBackend>) -> Self {
        Self {
            backend,
            _staying: None,
            _permit: None,
        }
    }

    /// The same for a client that stays there.
    pub(crate) fn staying(mut self, staying: Staying) -> Self {
        self._staying = Some(Box::new(staying));
        self
    }

    /// The same with what is given back along with it.
    pub(crate) fn holding(mut self, permit: Option<Box<Permit>>) -> Self {
        self._permit = permit;
        self
    }

    pub(crate) fn backend(&self) -> &Arc<LiveBackend> {
        &self.backend
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.backend.leave();
    }
}

/// A connection to a backend, counted while it is open.
#[derive(Debug)]
pub(crate) struct Open(Arc<LiveBackend>);

impl Open {
    pub(crate) fn new(backend: Arc<LiveBackend>) -> Self {
        backend.open.fetch_add(1, Ordering::Relaxed);
        Self(backend)
    }

    pub(crate) fn backend(&self) -> &Arc<LiveBackend> {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
