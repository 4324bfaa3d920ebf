//! Makes the snapshot for people and programs outside.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use plimsoll_model::{
    BackendAddr, Listen, Name, Origin, PlaneChoice, Precedence, Service, Subject,
};
use plimsoll_plane::{
    AccessLogCounters, BackendCounters, Counters, ListenState, PacketCounters, PlaneError,
    ServiceCounters,
};

use crate::control::{Control, Live};
use crate::lane::Lane;
use crate::status::{
    AsideStatus, BackendStatus, FailureStatus, ListenStatus, OriginStatus, PlaneStatus,
    RouteStatus, ServiceStatus, SourceStatus, Status,
};
use crate::{Aside, Freshness, Reconciler};

/// What a plane counted, to be found by name.
#[derive(Default)]
struct Counted {
    access_log: AccessLogCounters,
    compress_memory: u64,
    workers: Vec<u64>,
    packets: Option<PacketCounters>,
    services: HashMap<String, ServiceCounters>,
    listens: BTreeMap<Listen, ListenState>,
}

impl From<Counters> for Counted {
    fn from(counters: Counters) -> Self {
        let services = counters.services.into_iter();
        let listens = counters.listens.into_iter();
        Self {
            access_log: counters.access_log,
            compress_memory: counters.compress_memory,
            workers: counters.workers,
            packets: counters.packets,
            services: services.map(|s| (s.name.clone(), s)).collect(),
            listens: listens.map(|l| (l.listen, l)).collect(),
        }
    }
}

impl Control {
    /// All there is to see, as of the last step; counters are those of now.
    pub fn status(&self, now: Instant) -> Status {
        let counted: HashMap<&str, (&Lane, Counted)> = (self.lanes.iter())
            .map(|lane| (lane.plane.name(), (lane, lane.plane.counters().into())))
            .collect();
        let services = self.desired.services.values().filter_map(|service| {
            let live = self.live.get(service.name())?;
            let (lane, counted) = counted.get(live.plane)?;
            Some(self.service_status(now, service, live, &lane.reconciler, counted))
        });
        Status {
            services: services.collect(),
            routes: self.route_statuses(),
            quarantine: self.quarantine_statuses(now),
            sources: self.source_statuses(now),
            planes: (self.lanes.iter())
                .filter_map(|lane| counted.get(lane.plane.name()))
                .map(|(lane, counted)| plane_status(now, lane, counted))
                .collect(),
            vips: self
                .vips
                .as_ref()
                .map_or_else(Vec::new, |v| v.statuses(now)),
        }
    }

    fn service_status(
        &self,
        now: Instant,
        service: &Service,
        live: &Live,
        reconciler: &Reconciler,
        counted: &Counted,
    ) -> ServiceStatus {
        let spec = &service.spec;
        let failed = reconciler.failure(&Subject::Service(spec.name.clone()));
        let listen_status = |listen: &Listen| {
            let state = counted.listens.get(listen);
            let error = failed.and_then(|failed| match &failed.error {
                PlaneError::Listen { listen: l, reason } if l == listen => Some(reason.clone()),
                _ => None,
            });
            ListenStatus {
                listen: listen.to_string(),
                error,
                connections: state.map_or(0, |s| s.connections),
                accepted: state.map_or(0, |s| s.accepted),
                panicked: state.map_or(0, |s| s.panicked),
                requests: state.map_or(0, |s| s.requests),
                refused: state.map_or(Vec::new(), |s| s.refused.clone()),
                unsent: state.map_or(0, |s| s.unsent),
                lost: state.map_or(Vec::new(), |s| owned(&s.lost)),
            }
        };
        let counters = counted.services.get(spec.name.as_str());
        let by_addr: HashMap<&BackendAddr, &BackendCounters> = counters
            .map(|c| c.backends.iter().map(|(a, c)| (a, c)).collect())
            .unwrap_or_default();
        let configured = self.catalog.service(&spec.name);
        let backends = service.backends.values().map(|backend| {
            let addr = &backend.addr;
            let since = live.since.get(addr).copied().unwrap_or(now);
            let source = configured.and_then(|(_, service)| service.backends.get(addr));
            let counts = self.overlay.counts(&spec.name, addr);
            let subject = Subject::Backend(spec.name.clone(), addr.clone());
            BackendStatus {
                addr: addr.to_string(),
                name: backend.name.to_string(),
                origin: origin(&backend.origin),
                state: backend.status.state.to_string(),
                reason: backend.status.reason.to_string(),
                since: ago(now, since),
                halted: self.overlay.halted(&spec.name, addr),
                weight: backend.weight,
                weight_configured: source.map_or(backend.weight, |b| b.weight),
                maxconn: backend.maxconn,
                upper: backend.upper,
                lower: backend.lower,
                node: backend.node.to_string(),
                zone: backend.zone.to_string(),
                ejections: counts.ejections,
                spared: counts.spared,
                error: reconciler.failure(&subject).map(|f| f.error.to_string()),
                counters: by_addr.get(addr).map_or_else(Default::default, |c| **c),
                rates: None,
            }
        });
        ServiceStatus {
            name: spec.name.to_string(),
            origin: origin(&spec.origin),
            plane: live.plane.into(),
            plane_reason: plane_reason(service).into(),
            scheduler: spec.scheduler.kind.to_string(),
            checked: spec.check.is_some(),
            listens: spec.listens.iter().map(listen_status).collect(),
            error: failed.map(|failed| failed.error.to_string()),
            total: counters.map_or(0, |c| c.total),
            unserved: counters.map_or(0, |c| c.unserved),
            failed: counters.map_or(0, |c| c.failed),
            denied: counters.map_or(0, |c| c.denied),
            unretried: counters.map_or(0, |c| c.unretried),
            limits: counters.and_then(|c| c.limits),
            does: (spec.http.as_ref()).map_or_else(Vec::new, |http| http.summary()),
            maintenance: (spec.http.as_ref())
                .and_then(|http| http.maintenance.as_ref())
                .is_some_and(|maintenance| maintenance.on),
            maintained: counters.map_or(0, |c| c.maintained),
            compression: counters.map(|c| c.compression).unwrap_or_default(),
            latency: counters.map_or_else(Default::default, |c| (&c.latency).into()),
            persistence: counters.and_then(|c| c.persistence),
            cookie: counters.and_then(|c| c.cookie),
            udp: counters.map_or_else(Default::default, |c| c.udp),
            rates: None,
            sorry: spec.sorry.as_ref().map(|sorry| sorry.addr.to_string()),
            accept_proxy: texts(&spec.proxy_headers.accept),
            send_proxy: spec.proxy_headers.send.map(|v| v.as_str().to_owned()),
            backends: backends.collect(),
        }
    }

    fn route_statuses(&self) -> Vec<RouteStatus> {
        let error = |name: &Name, plane| {
            let lane = self.lanes.iter().find(|l| l.plane.name() == plane)?;
            let failed = lane.reconciler.failure(&Subject::Route(name.clone()))?;
            Some(failed.error.to_string())
        };
        let status = |(name, plane, route): (&Name, &'static str, &_)| {
            let route: &plimsoll_model::Route = route;
            let services = route.services.iter();
            RouteStatus {
                name: name.to_string(),
                origin: origin(&route.origin),
                plane: plane.into(),
                hosts: route.hosts.iter().map(ToString::to_string).collect(),
                path: route.path.to_string(),
                listens: route.listens.iter().map(ToString::to_string).collect(),
                priority: route.priority,
                services: services
                    .map(|s| (s.service.to_string(), s.weight))
                    .collect(),
                does: (route.http.as_ref()).map_or_else(Vec::new, |http| http.summary()),
                error: error(name, plane),
            }
        };
        let routes = self.catalog.routes();
        routes.map(|(n, p, r)| status((n, p, r.as_ref()))).collect()
    }

    fn quarantine_statuses(&self, now: Instant) -> Vec<AsideStatus> {
        let asides = self.catalog.quarantine().iter();
        asides
            .map(|(aside, since)| AsideStatus::new(now, aside, since))
            .collect()
    }

    fn source_statuses(&self, now: Instant) -> Vec<SourceStatus> {
        let sources = self.catalog.sources().map(|(id, source)| {
            let (state, reason) = match source.freshness() {
                Freshness::Waiting => ("waiting", ""),
                Freshness::Fresh => ("fresh", ""),
                Freshness::Stale { reason } => ("stale", &**reason),
            };
            let precedence = match id.precedence {
                Precedence::Hand => "hand",
                Precedence::File => "file",
                Precedence::Engine => "engine",
            };
            SourceStatus {
                name: id.to_string(),
                precedence: precedence.into(),
                state: state.into(),
                reason: reason.into(),
                since: ago(now, source.since()),
                entries: source.len(),
            }
        });
        sources.collect()
    }
}

impl AsideStatus {
    /// Something that has been put aside since then.
    pub(crate) fn new(now: Instant, aside: &Aside, since: Instant) -> Self {
        Self {
            subject: aside.subject.clone(),
            origin: origin(&aside.origin),
            reason: aside.reason.clone(),
            since: ago(now, since),
        }
    }
}

/// Counts by names, to be kept.
fn owned(counts: &[(&'static str, u64)]) -> Vec<(String, u64)> {
    let named = counts.iter().map(|(name, n)| ((*name).to_owned(), *n));
    named.collect()
}

fn texts(items: &[impl ToString]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn plane_reason(service: &Service) -> &'static str {
    let listens = &service.spec.listens;
    match service.spec.plane {
        PlaneChoice::Auto if listens.is_empty() => "auto: routes lead to it",
        PlaneChoice::Auto if listens.iter().any(Listen::is_http) => "auto: it speaks HTTP",
        PlaneChoice::Auto => "auto: the best that can carry it",
        _ => "its service names it",
    }
}

fn plane_status(now: Instant, lane: &Lane, counted: &Counted) -> PlaneStatus {
    let reconciler = &lane.reconciler;
    let failures = reconciler
        .failures()
        .map(|(subject, failed)| FailureStatus {
            subject: subject.to_string(),
            reason: failed.error.to_string(),
            since: ago(now, failed.since),
        });
    PlaneStatus {
        name: lane.plane.name().into(),
        services: lane.desired.services.len(),
        audits: reconciler.audits(),
        repairs: reconciler.repairs(),
        last_audit: reconciler.last_audit().map(|at| ago(now, at)),
        access_log: counted.access_log,
        compress_memory: counted.compress_memory,
        workers: counted.workers.clone(),
        packets: counted.packets.clone(),
        error: reconciler.read_error().map(ToString::to_string),
        failures: failures.collect(),
    }
}

fn origin(origin: &Origin) -> OriginStatus {
    OriginStatus {
        source: origin.source.to_string(),
        entry: origin.entry.to_string(),
    }
}

/// Seconds, to the millisecond.
fn ago(now: Instant, then: Instant) -> f64 {
    let millis = now.saturating_duration_since(then).as_millis();
    millis as f64 / 1000.0
}
