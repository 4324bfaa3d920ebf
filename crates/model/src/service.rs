//! Services: what clients connect to, and how it is shared out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    AccessLog, Backend, BackendAddr, Check, ClientRules, Cookie, Forward, Invalid, Limits, Listen,
    ListenOptions, Name, Origin, Outlier, OutlierErrors, PacketRules, Ports, ProxyHeaders, Retry,
    Scheduler, ServiceHttp, Sessions, Timeouts, ToBackends, Vip,
};

/// Keep a client on the backend it had first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Persistence {
    /// How long a client that is not seen is remembered.
    pub timeout: Duration,
    /// Clients that share this many leading bits of their IPv4 address are one, 1..=32.
    pub prefix_v4: u8,
    /// The same for IPv6, 1..=128.
    pub prefix_v6: u8,
}

impl Persistence {
    /// Clients are told apart by their IPv4 address, and by the first 64 bits of their IPv6 one: the
    /// network of a host, in which it can take what address it likes (RFC 4291 §2.5.4, RFC 8981).
    pub const fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            prefix_v4: 32,
            prefix_v6: 64,
        }
    }
}

/// Which plane carries a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PlaneChoice {
    /// The best that can: see the architecture document.
    #[default]
    Auto,
    /// User space.
    Proxy,
    /// eBPF in the kernel.
    Ebpf,
    /// The kernel's IPVS.
    Ipvs,
}

impl PlaneChoice {
    /// Every choice by its name.
    pub const NAMES: [(&'static str, PlaneChoice); 4] = [
        ("auto", PlaneChoice::Auto),
        ("proxy", PlaneChoice::Proxy),
        ("ebpf", PlaneChoice::Ebpf),
        ("ipvs", PlaneChoice::Ipvs),
    ];
}

/// Everything about a service but its backends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ServiceSpec {
    /// Its name, unique over all sources.
    pub name: Name,
    /// Who said so.
    pub origin: Origin,
    /// What clients connect to; they share backends and persistence. Empty for a service that
    /// only routes lead to.
    pub listens: Vec<Listen>,
    /// Addresses that this host is to have while the service is there, each once.
    pub vips: Vec<Vip>,
    /// Which plane carries it.
    pub plane: PlaneChoice,
    /// How the next backend is chosen.
    pub scheduler: Scheduler,
    /// In what time a backend that becomes ready beside others comes to its full share; zero: at
    /// once.
    pub slow_start: Duration,
    /// Whether clients stay on their backend.
    pub persistence: Option<Persistence>,
    /// Whether HTTP clients stay on their backend by a cookie, which goes before `persistence`.
    pub cookie: Option<Cookie>,
    /// How it is found out whether backends can serve; none: what their source says counts.
    pub check: Option<Check>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// What is remembered of the clients of UDP listens.
    pub sessions: Sessions,
    /// Requests or connections waiting per backend at most, once it is at its `maxconn`.
    pub queue: u32,
    /// Other backends tried at most for one request or connection.
    pub retries: u32,
    /// After what, and how often over all.
    pub retry: Retry,
    /// When backends are put out after errors in traffic; none: as [`Outlier`] says.
    pub outlier: Option<Outlier>,
    /// Bytes of a request's body at most, else 413; 0 is no limit.
    pub max_body: u64,
    /// Clients from these networks may say in `X-Forwarded-*` and `Forwarded` whom they speak for.
    pub trusted: Vec<IpNet>,
    /// Which clients are served.
    pub clients: ClientRules,
    /// How much of it clients may have; none: as much as they like.
    pub limits: Option<Limits>,
    /// Which clients begin with a PROXY header, and whether backends get one.
    pub proxy_headers: ProxyHeaders,
    /// What its listening sockets are told; none where that is nothing, as for most.
    pub listen_options: Option<Arc<ListenOptions>>,
    /// How connections to its backends leave this host; none where that is as the routes say.
    pub to_backends: Option<Arc<ToBackends>>,
    /// What is written about each request or connection; none: what the process says for all.
    pub access_log: Option<AccessLog>,
    /// What planes that forward packets go by.
    pub packets: PacketRules,
    /// Used when no backend can serve.
    pub sorry: Option<Backend>,
    /// What it does with its HTTP requests; none where that is nothing, as for most.
    pub http: Option<Arc<ServiceHttp>>,
}

impl ServiceSpec {
    /// Waiting requests per backend where nothing else is said.
    pub const DEFAULT_QUEUE: u32 = 1024;
    /// Retries where nothing else is said.
    pub const DEFAULT_RETRIES: u32 = 3;

    /// A service with listens and defaults for all the rest.
    pub fn new(name: Name, origin: Origin, listens: Vec<Listen>) -> Self {
        Self {
            name,
            origin,
            listens,
            vips: Vec::new(),
            plane: PlaneChoice::default(),
            scheduler: Scheduler::default(),
            slow_start: Duration::ZERO,
            persistence: None,
            cookie: None,
            check: None,
            timeouts: Timeouts::default(),
            sessions: Sessions::default(),
            queue: Self::DEFAULT_QUEUE,
            retries: Self::DEFAULT_RETRIES,
            retry: Retry::default(),
            outlier: None,
            max_body: 0,
            trusted: Vec::new(),
            clients: ClientRules::default(),
            limits: None,
            listen_options: None,
            to_backends: None,
            access_log: None,
            proxy_headers: ProxyHeaders::default(),
            packets: PacketRules::default(),
            sorry: None,
            http: None,
        }
    }

    /// Whether every value is in its range and the values fit each other.
    ///
    /// # Errors
    /// The first that does not, by its name.
    pub fn validate(&self) -> Result<(), Invalid> {
        let bad = |why: String| Err(Invalid(format!("service `{}`: {why}", self.name)));
        for (i, listen) in self.listens.iter().enumerate() {
            if let Some(twin) = self
                .listens
                .iter()
                .skip(i + 1)
                .find(|other| listen.conflicts(other))
            {
                return bad(format!(
                    "listens {listen} and {twin} are the same socket: remove one"
                ));
            }
            if listen.is_http() && matches!(self.plane, PlaneChoice::Ebpf | PlaneChoice::Ipvs) {
                return bad(format!(
                    "listen {listen} is layer 7, which needs plane = \"proxy\""
                ));
            }
        }
        if self.timeouts.connect < Duration::from_millis(1) {
            return bad("the connect timeout is at least 1ms".into());
        }
        if let Some((_, why)) = self.fault_of_vips() {
            return bad(why);
        }
        if let Some(why) = self.fault_for_datagrams() {
            return bad(why);
        }
        if let Some(why) = self.fault_of_options() {
            return bad(why);
        }
        if let Err(error) = self.scheduler.validate() {
            return bad(error.0);
        }
        if let Some(p) = self.persistence
            && (!(1..=32).contains(&p.prefix_v4) || !(1..=128).contains(&p.prefix_v6))
        {
            return bad("persistence prefixes are 1 to 32 (IPv4) and 1 to 128 (IPv6)".into());
        }
        if let Some(cookie) = &self.cookie {
            if let Err(error) = cookie.validate() {
                return bad(format!("cookie: {}", error.0));
            }
            if let Some(listen) = self.listens.iter().find(|listen| !listen.is_http()) {
                return bad(format!("a cookie is for http, and listen {listen} is not"));
            }
        }
        let limits = self.limits.as_ref();
        let limited = limits.map_or(Ok(()), |limits| limits.validate(&self.listens));
        if let Err(error) = self.clients.validate().and(limited) {
            return bad(error.0);
        }
        if let Err(error) = self.retry.validate() {
            return bad(error.0);
        }
        if let Some(outlier) = &self.outlier {
            if let Err(error) = outlier.validate() {
                return bad(error.0);
            }
            let mut listens = self.listens.iter();
            if let Some(listen) = listens.find(|listen| !listen.is_http())
                && outlier.errors != OutlierErrors::Connect
            {
                return bad(format!(
                    "outlier = \"{}\" is for http, and listen {listen} is not: say \"connect\"",
                    outlier.errors
                ));
            }
        }
        if let Some(check) = &self.check
            && let Err(error) = check.validate()
        {
            return bad(error.0);
        }
        if let Some(http) = &self.http
            && let Err(error) = http.validate()
        {
            return bad(error.0);
        }
        match &self.sorry {
            Some(sorry) => sorry.validate(),
            None => Ok(()),
        }
    }
}

/// A service with its backends. Immutable and shared.
#[derive(Clone, Debug, Serialize)]
pub struct Service {
    /// Everything but the backends.
    pub spec: Arc<ServiceSpec>,
    /// The backends by address.
    pub backends: BTreeMap<BackendAddr, Arc<Backend>>,
}

impl PartialEq for Service {
    fn eq(&self, other: &Self) -> bool {
        (Arc::ptr_eq(&self.spec, &other.spec) || self.spec == other.spec)
            && self.backends.len() == other.backends.len()
            && self
                .backends
                .iter()
                .zip(&other.backends)
                .all(|((a, x), (b, y))| a == b && (Arc::ptr_eq(x, y) || x == y))
    }
}

impl Eq for Service {}

impl Service {
    /// A service of this spec and these backends.
    pub fn new(spec: ServiceSpec, backends: impl IntoIterator<Item = Backend>) -> Self {
        Self {
            spec: Arc::new(spec),
            backends: backends
                .into_iter()
                .map(|b| (b.addr.clone(), Arc::new(b)))
                .collect(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.spec.name
    }

    /// Where a backend of this service is checked: at the port that the check says, its own, or
    /// that to which the first listen with a single port leads; or at its Unix socket. None if the
    /// service has no check, or none of these is there.
    pub fn check_addr(&self, backend: &Backend) -> Option<BackendAddr> {
        let said = self.spec.check.as_ref()?.port;
        let BackendAddr::Ip(ip, own) = &backend.addr else {
            return Some(backend.addr.clone());
        };
        let of_listen = || {
            let mut listens = self.spec.listens.iter();
            let port = listens.find_map(|listen| match listen {
                Listen::Socket {
                    ports: Ports::One(port),
                    ..
                } => Some(*port),
                _ => None,
            })?;
            Some(backend.ports.get(&port).copied().unwrap_or(port))
        };
        let port = said.or(*own).or_else(of_listen)?;
        Some(BackendAddr::Ip(*ip, Some(port)))
    }

    /// Whether every value is in its range and the values fit each other.
    ///
    /// # Errors
    /// The first that does not, by its name.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.spec.validate()?;
        let http = self.spec.listens.iter().any(Listen::is_http);
        for backend in self.backends.values() {
            backend
                .validate()
                .map_err(|e| Invalid(format!("service `{}`: {e}", self.spec.name)))?;
            if let Some(why) = self.spec.beyond_datagrams(backend) {
                return Err(Invalid(format!("service `{}`: {why}", self.spec.name)));
            }
            if http && backend.forward != Forward::Proxy {
                return Err(Invalid(format!(
                    "service `{}`: backend {}: an http listen needs forward = \"proxy\"",
                    self.spec.name, backend.addr
                )));
            }
            if self.spec.check.is_some() && self.check_addr(backend).is_none() {
                return Err(Invalid(format!(
                    "service `{}`: backend {} has no port to check, and no listen has a single \
                     one: give `port` in `check`",
                    self.spec.name, backend.addr
                )));
            }
        }
        if let Some(why) = self.fault_of_sources() {
            return Err(Invalid(format!("service `{}`: {why}", self.spec.name)));
        }
        let table = self.spec.scheduler.table;
        if table != 0 && (table as usize) < self.backends.len().saturating_mul(100) {
            return Err(Invalid(format!(
                "service `{}`: table {table} is too small for {} backends: at least 100 slots each",
                self.spec.name,
                self.backends.len()
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CheckKind;

    fn checked(listens: &[&str], port: Option<u16>, backend: &str) -> (Service, Backend) {
        let origin = Origin::new("test", "web");
        let listens = listens.iter().map(|l| l.parse().unwrap()).collect();
        let mut spec = ServiceSpec::new("web".parse().unwrap(), origin.clone(), listens);
        spec.check = Some(Check {
            port,
            ..Check::new(CheckKind::Tcp)
        });
        let mut backend = Backend::new(backend.parse().unwrap(), origin);
        if let BackendAddr::Ip(_, None) = backend.addr {
            backend.ports.insert(80, 8080);
        }
        (Service::new(spec, [backend.clone()]), backend)
    }

    #[test]
    fn where_a_backend_is_checked() {
        let cases: [(&[&str], _, _, _); 6] = [
            (&["*:80/http"], None, "10.0.0.1:99", "10.0.0.1:99"),
            (&["*:80/http"], Some(7), "10.0.0.1:99", "10.0.0.1:7"),
            (&["*:80/http"], None, "10.0.0.1", "10.0.0.1:8080"),
            (
                &["mark:1", "*:1-9/tcp", "*:81/tcp"],
                None,
                "10.0.0.1",
                "10.0.0.1:81",
            ),
            (&[], Some(7), "fd00::1", "[fd00::1]:7"),
            (&[], Some(7), "unix:/run/x.sock", "unix:/run/x.sock"),
        ];
        for (listens, port, backend, wanted) in cases {
            let (service, backend) = checked(listens, port, backend);
            assert_eq!(service.check_addr(&backend), wanted.parse().ok());
            assert_eq!(service.validate(), Ok(()));
        }
    }

    #[test]
    fn a_backend_that_cannot_be_checked_is_invalid() {
        for listens in [&[][..], &["mark:1"], &["*:1-9/tcp", "10.0.0.9:*/tcp"]] {
            let (mut service, backend) = checked(listens, None, "10.0.0.1");
            assert_eq!(service.check_addr(&backend), None);
            let error = service.validate().unwrap_err().0;
            assert!(error.contains("10.0.0.1 has no port to check"), "{error}");
            Arc::make_mut(&mut service.spec).check = None;
            assert_eq!(service.validate(), Ok(()));
        }
    }

    #[test]
    fn a_wrong_check_is_named_with_its_service() {
        let (mut service, _) = checked(&["*:80/http"], None, "10.0.0.1:80");
        let check = &mut Arc::make_mut(&mut service.spec).check;
        check.as_mut().unwrap().rise = 0;
        let error = service.validate().unwrap_err().0;
        assert!(error.contains("`web`") && error.contains("rise"), "{error}");
    }
}
