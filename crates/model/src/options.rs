//! What the sockets of a service are told beside where they listen or connect to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

use crate::{Backend, BackendAddr, Invalid, Listen, PlaneChoice, Service, ServiceSpec};

/// The name of a network device: 1 to 15 bytes, none of which is a slash, a colon or white space
/// (`dev_valid_name` of Linux).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Interface(Arc<str>);

impl Interface {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Interface {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |why| {
            let expected = "expected the name of a device as `ip link` shows it, e.g. eth0";
            Err(Invalid(format!("interface {text:?}: {why}; {expected}")))
        };
        match text {
            "" => bad("it is empty"),
            "." | ".." => bad("no device can have that name"),
            _ if text.len() > 15 => bad("it is longer than 15 bytes"),
            _ if text
                .contains(|c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace()) =>
            {
                bad("no device can have that name")
            }
            _ => Ok(Self(text.into())),
        }
    }
}

/// What the sockets are told that a service listens on. Services that share an `http` listen share
/// these, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct ListenOptions {
    /// Clients that may be sending data along with their first packet at once (RFC 7413), per worker,
    /// at most [`ListenOptions::MAX_FAST_OPEN`]; 0 lets none.
    pub fast_open: u32,
    /// Only what comes in by this device.
    pub interface: Option<Interface>,
    /// Also addresses that are not of this host, but led to it (`IP_TRANSPARENT` in ip(7)).
    pub transparent: bool,
}

impl ListenOptions {
    /// The greatest queue for TCP Fast Open; the kernel caps it at `somaxconn` besides.
    pub const MAX_FAST_OPEN: u32 = 65_535;
}

/// From which address backends are connected to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// As the kernel's routes say.
    #[default]
    Routed,
    /// From one of this host, by the family of the backend.
    Own {
        /// To IPv4 backends.
        v4: Option<Ipv4Addr>,
        /// To IPv6 backends.
        v6: Option<Ipv6Addr>,
    },
    /// From that of the client: the backend sees it as if there were no balancer.
    Client {
        /// From the client's port, too.
        port: bool,
    },
}

impl fmt::Display for Source {
    /// As the file has it, but for one address of each family, which are joined by a comma.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Routed => f.write_str("as routed"),
            Source::Client { port: false } => f.write_str("client"),
            Source::Client { port: true } => f.write_str("client:port"),
            Source::Own { v4, v6 } => {
                let own = v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6));
                let own: Vec<String> = own.map(|ip| ip.to_string()).collect();
                f.write_str(&own.join(", "))
            }
        }
    }
}

impl Source {
    /// Whether backends see the address of a client, and which one depends on the client.
    pub fn is_client(&self) -> bool {
        matches!(self, Source::Client { .. })
    }

    /// What to bind a socket to that will be connected to `backend` for `client`; none if there is
    /// nothing to bind to, as for what is done for no client, such as a check. Port 0 is any.
    ///
    /// # Errors
    /// There is no address of the family of the backend.
    pub fn address(
        &self,
        backend: IpAddr,
        client: Option<SocketAddr>,
    ) -> Result<Option<SocketAddr>, Invalid> {
        let backend = backend.to_canonical();
        let (found, whose) = match *self {
            Source::Routed => return Ok(None),
            Source::Own { v4, v6 } => {
                let own = match backend {
                    IpAddr::V4(_) => v4.map(IpAddr::V4),
                    IpAddr::V6(_) => v6.map(IpAddr::V6),
                };
                (own.map(|ip| SocketAddr::new(ip, 0)), "`source`")
            }
            Source::Client { port } => {
                let Some(client) = client else {
                    return Ok(None);
                };
                let ip = client.ip().to_canonical();
                let port = if port { client.port() } else { 0 };
                let same = ip.is_ipv4() == backend.is_ipv4();
                (same.then_some(SocketAddr::new(ip, port)), "the client")
            }
        };
        match found {
            Some(found) => Ok(Some(found)),
            None => Err(Invalid(format!(
                "{whose} has no {} address for backend {backend}",
                family(backend)
            ))),
        }
    }
}

/// How connections to backends, and sessions, leave this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct ToBackends {
    /// What there is to say goes along with the first packet, where the backend has allowed it (RFC
    /// 7413).
    pub fast_open: bool,
    /// The mark of all packets, by which rules of the host's routes and firewall tell them.
    pub mark: Option<NonZeroU32>,
    /// By this device alone.
    pub interface: Option<Interface>,
    /// From which address.
    pub source: Source,
}

impl ServiceSpec {
    /// Why its socket options do not fit its other settings, if they do not.
    pub(crate) fn fault_of_options(&self) -> Option<String> {
        let said = match (&self.listen_options, &self.to_backends) {
            (Some(_), _) => "listen-options",
            (_, Some(_)) => "to-backends",
            _ => return None,
        };
        if matches!(self.plane, PlaneChoice::Ebpf | PlaneChoice::Ipvs) {
            return Some(format!(
                "`{said}` is for the sockets of plane = \"proxy\"; the others have none"
            ));
        }
        if let Some(options) = &self.listen_options {
            if options.fast_open > ListenOptions::MAX_FAST_OPEN {
                return Some(format!(
                    "a queue of {} for TCP Fast Open is above the greatest, {}",
                    options.fast_open,
                    ListenOptions::MAX_FAST_OPEN
                ));
            }
            if self.listens.is_empty() {
                return Some("`listen-options` is for listens, and it has none: remove it".into());
            }
        }
        let sorry = self.sorry.as_ref()?;
        self.fault_of_source(sorry)
    }

    /// Whether fast open towards backends does nothing here: over HTTP a request is sent once the
    /// connection stands, so that only a PROXY header could go along with the first packet.
    pub fn opens_fast_in_vain(&self) -> bool {
        let says_nothing =
            self.proxy_headers.send.is_none() && self.listens.iter().all(Listen::is_http);
        says_nothing && self.to_backends.as_ref().is_some_and(|to| to.fast_open)
    }

    /// Why a backend cannot be connected to from the address that is to be the source, if it cannot.
    fn fault_of_source(&self, backend: &Backend) -> Option<String> {
        let source = &self.to_backends.as_ref()?.source;
        let addr = &backend.addr;
        let BackendAddr::Ip(ip, _) = addr else {
            let said = source.is_client();
            return said.then(|| {
                format!("backend {addr}: a Unix socket cannot show the client's address: `source` is in vain")
            });
        };
        match source {
            Source::Routed => None,
            Source::Own { .. } => source
                .address(*ip, None)
                .err()
                .map(|error| format!("backend {addr}: {}: add one to `source`", error.0)),
            Source::Client { .. } => {
                let v4 = ip.to_canonical().is_ipv4();
                let other = |listen: &&Listen| {
                    matches!(listen, Listen::Socket { ip: Some(ip), .. }
                        if ip.to_canonical().is_ipv4() != v4)
                };
                let listen = self.listens.iter().find(other)?;
                Some(format!(
                    "backend {addr}: clients of listen {listen} have no {} address to be its source: \
                     give them backends of their own family",
                    family(*ip)
                ))
            }
        }
    }
}

impl Service {
    /// Why a backend cannot be connected to from the address that is to be the source, if one cannot.
    pub(crate) fn fault_of_sources(&self) -> Option<String> {
        self.spec.to_backends.as_ref()?;
        let mut backends = self.backends.values();
        backends.find_map(|backend| self.spec.fault_of_source(backend))
    }
}

fn family(ip: IpAddr) -> &'static str {
    match ip.to_canonical() {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Origin;

    fn service(listen: &str, backend: &str, source: Source) -> Service {
        let origin = || Origin::new("test", "web");
        let listens = vec![listen.parse().unwrap()];
        let mut spec = ServiceSpec::new("web".parse().unwrap(), origin(), listens);
        spec.to_backends = Some(Arc::new(ToBackends {
            source,
            ..ToBackends::default()
        }));
        Service::new(spec, [Backend::new(backend.parse().unwrap(), origin())])
    }

    const V4: Source = Source::Own {
        v4: Some(Ipv4Addr::LOCALHOST),
        v6: None,
    };
    const CLIENT: Source = Source::Client { port: false };

    #[test]
    fn a_source_is_of_the_family_of_the_backend() {
        for (listen, backend, source, wanted) in [
            ("*:80/tcp", "10.0.0.1:80", V4, ""),
            ("*:80/tcp", "[::ffff:10.0.0.1]:80", V4, ""),
            ("*:80/tcp", "unix:/run/x", V4, ""),
            (
                "*:80/tcp",
                "[fd00::1]:80",
                V4,
                "`source` has no IPv6 address",
            ),
            ("*:80/tcp", "[fd00::1]:80", Source::Routed, ""),
            ("*:80/tcp", "[fd00::1]:80", CLIENT, ""),
            ("0.0.0.0:80/tcp", "10.0.0.1:80", CLIENT, ""),
            (
                "0.0.0.0:80/tcp",
                "[fd00::1]:80",
                CLIENT,
                "clients of listen 0.0.0.0:80/tcp have no IPv6 address",
            ),
            (
                "[::1]:80/udp",
                "10.0.0.1:80",
                CLIENT,
                "clients of listen [::1]:80/udp have no IPv4 address",
            ),
            ("*:80/tcp", "unix:/run/x", CLIENT, "cannot show the client"),
        ] {
            let found = service(listen, backend, source).validate();
            match wanted {
                "" => assert_eq!(found, Ok(()), "{listen} {backend}"),
                wanted => {
                    let error = found.unwrap_err().0;
                    assert!(error.contains(wanted), "{error}");
                }
            }
        }
    }

    #[test]
    fn the_sorry_server_counts_too() {
        let mut service = service("*:80/tcp", "10.0.0.1:80", V4);
        let spec = Arc::make_mut(&mut service.spec);
        let sorry = "[fd00::1]:80".parse().unwrap();
        spec.sorry = Some(Backend::new(sorry, Origin::new("test", "sorry")));
        let error = service.validate().unwrap_err().0;
        assert!(error.contains("backend [fd00::1]:80"), "{error}");
    }

    #[test]
    fn what_a_socket_is_bound_to() {
        let client = Some("192.0.2.1:999".parse().unwrap());
        let mapped = Some("[::ffff:192.0.2.1]:999".parse().unwrap());
        let (v4, v6): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        let with_port = Source::Client { port: true };
        let bound = |text: &str| Ok(Some(text.parse::<SocketAddr>().unwrap()));
        assert_eq!(Source::Routed.address(v4, client), Ok(None));
        assert_eq!(V4.address(v4, client), bound("127.0.0.1:0"));
        assert!(V4.address(v6, client).is_err());
        assert_eq!(CLIENT.address(v4, client), bound("192.0.2.1:0"));
        assert_eq!(CLIENT.address(v4, mapped), bound("192.0.2.1:0"));
        assert_eq!(with_port.address(v4, client), bound("192.0.2.1:999"));
        assert_eq!(CLIENT.address(v4, None), Ok(None), "for no client");
        let error = CLIENT.address(v6, client).unwrap_err().0;
        assert_eq!(error, "the client has no IPv6 address for backend fd00::1");
    }

    #[test]
    fn options_are_for_listens_and_for_the_proxy() {
        let mut service = service("*:80/tcp", "10.0.0.1:80", Source::Routed);
        let spec = Arc::make_mut(&mut service.spec);
        let options = |fast_open| {
            Some(Arc::new(ListenOptions {
                fast_open,
                ..ListenOptions::default()
            }))
        };
        spec.plane = PlaneChoice::Ipvs;
        let error = spec.validate().unwrap_err().0;
        assert!(error.contains("`to-backends` is for"), "{error}");
        spec.plane = PlaneChoice::Auto;
        spec.listen_options = options(ListenOptions::MAX_FAST_OPEN);
        assert_eq!(spec.validate(), Ok(()));
        spec.listen_options = options(ListenOptions::MAX_FAST_OPEN + 1);
        assert!(spec.validate().unwrap_err().0.contains("65536"));
        spec.listen_options = options(1);
        spec.listens.clear();
        assert!(spec.validate().unwrap_err().0.contains("it has none"));
    }

    #[test]
    fn over_http_only_a_header_could_open_fast() {
        let mut spec = (*service("*:80/http", "10.0.0.1:80", Source::Routed).spec).clone();
        let vain = |spec: &ServiceSpec| spec.opens_fast_in_vain();
        assert!(!vain(&spec), "it is not switched on");
        spec.to_backends = Some(Arc::new(ToBackends {
            fast_open: true,
            ..ToBackends::default()
        }));
        assert!(vain(&spec));
        spec.proxy_headers.send = Some(crate::ProxyVersion::V2);
        assert!(!vain(&spec));
        spec.proxy_headers.send = None;
        spec.listens.push("*:81/tcp".parse().unwrap());
        assert!(!vain(&spec));
    }

    #[test]
    fn names_of_devices() {
        for name in ["eth0", "br-0123456789ab", "wlp3s0.100", "lo"] {
            assert_eq!(name.parse::<Interface>().unwrap().as_str(), name);
        }
        for (name, why) in [
            ("", "empty"),
            ("..", "no device"),
            ("a/b", "no device"),
            ("eth0:1", "no device"),
            ("eth 0", "no device"),
            ("0123456789abcdef", "longer than 15"),
        ] {
            let error = name.parse::<Interface>().unwrap_err().0;
            assert!(error.contains(why), "{error}");
        }
    }
}
