//! What of a service has no meaning for datagrams.

use crate::{Backend, BackendAddr, Listen, ServiceSpec, Sessions, Timeouts};

impl ServiceSpec {
    /// Settings, by their keys in the file, that say something but not to its UDP listens: they are
    /// about connections, requests, or waiting in a queue. Where other listens share the service,
    /// only those count that a client or backend would expect of datagrams, too.
    pub fn idle_for_datagrams(&self) -> Vec<&'static str> {
        if !self.listens.iter().any(Listen::is_udp) {
            return Vec::new();
        }
        let alone = self.listens.iter().all(Listen::is_udp);
        let (proxy, http) = (&self.proxy_headers, self.http.as_deref());
        let said = [
            ("accept-proxy", !proxy.accept.is_empty()),
            ("send-proxy", proxy.send.is_some()),
            (
                "listen-options.tcp-fast-open",
                alone
                    && self
                        .listen_options
                        .as_ref()
                        .is_some_and(|o| o.fast_open > 0),
            ),
            (
                "to-backends.tcp-fast-open",
                alone && self.to_backends.as_ref().is_some_and(|to| to.fast_open),
            ),
            ("queue", alone && self.queue != Self::DEFAULT_QUEUE),
            ("body-limit", alone && self.max_body != 0),
            ("trusted", alone && !self.trusted.is_empty()),
            (
                "request-headers",
                alone && http.is_some_and(|http| !http.request_headers.is_empty()),
            ),
            (
                "response-headers",
                alone && http.is_some_and(|http| !http.response_headers.is_empty()),
            ),
            (
                "request-id",
                alone && http.is_some_and(|http| http.request_id.is_some()),
            ),
        ];
        let said = said.into_iter().filter(|(_, said)| *said);
        said.map(|(key, _)| key).collect()
    }

    /// Settings for UDP listens that say something where there is no such listen.
    pub fn idle_without_datagrams(&self) -> Vec<&'static str> {
        if self.listens.iter().any(Listen::is_udp) {
            return Vec::new();
        }
        let said = [
            ("timeouts.udp", self.timeouts.udp != Timeouts::default().udp),
            ("sessions", self.sessions != Sessions::default()),
        ];
        let said = said.into_iter().filter(|(_, said)| *said);
        said.map(|(key, _)| key).collect()
    }

    /// Why its UDP listens could not work with its other settings, if they could not.
    pub(crate) fn fault_for_datagrams(&self) -> Option<String> {
        if self.sessions.limit == 0 {
            return Some("the limit of sessions is at least 1".into());
        }
        let accepts = !self.proxy_headers.accept.is_empty();
        if accepts && !self.listens.is_empty() && self.listens.iter().all(Listen::is_udp) {
            let listen = self.listens.first()?;
            return Some(format!(
                "accept-proxy is for connections, and listen {listen} has none: datagrams carry no \
                 PROXY header; remove it"
            ));
        }
        let sorry = self.sorry.as_ref()?;
        self.beyond_datagrams(sorry)
    }

    /// Why a backend cannot get what comes by the UDP listens, if it cannot.
    pub(crate) fn beyond_datagrams(&self, backend: &Backend) -> Option<String> {
        let BackendAddr::Unix(_) = backend.addr else {
            return None;
        };
        let listen = self.listens.iter().find(|listen| listen.is_udp())?;
        Some(format!(
            "backend {}: datagrams of listen {listen} cannot go to a Unix socket: give an address \
             and port, or another service for it",
            backend.addr
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origin, ProxyVersion, Service};

    fn spec(listens: &[&str]) -> ServiceSpec {
        let listens = listens.iter().map(|l| l.parse().unwrap()).collect();
        ServiceSpec::new("dns".parse().unwrap(), Origin::new("test", "dns"), listens)
    }

    fn backend(addr: &str) -> Backend {
        Backend::new(addr.parse().unwrap(), Origin::new("test", addr))
    }

    #[test]
    fn a_unix_socket_gets_no_datagrams() {
        let why = |spec: ServiceSpec, addr| Service::new(spec, [backend(addr)]).validate();
        let error = why(spec(&["*:53/tcp", "*:53/udp"]), "unix:/run/dns").unwrap_err();
        assert_eq!(
            error.0,
            "service `dns`: backend unix:/run/dns: datagrams of listen *:53/udp cannot go to a \
             Unix socket: give an address and port, or another service for it"
        );
        assert_eq!(why(spec(&["*:53/tcp"]), "unix:/run/dns"), Ok(()));
        assert_eq!(why(spec(&["*:53/udp"]), "10.0.0.1:53"), Ok(()));
        let mut sorry = spec(&["*:53/udp"]);
        sorry.sorry = Some(backend("unix:/run/dns"));
        assert!(sorry.validate().is_err());
    }

    #[test]
    fn what_is_for_connections_is_told_from_what_is_for_datagrams() {
        let set = |listens: &[&str]| {
            let mut spec = spec(listens);
            spec.proxy_headers.accept = vec!["10.0.0.0/8".parse().unwrap()];
            spec.proxy_headers.send = Some(ProxyVersion::V2);
            spec.max_body = 1;
            spec.sessions.limit = 9;
            spec
        };
        let (tcp, udp, both) = (
            set(&["*:1/tcp"]),
            set(&["*:1/udp"]),
            set(&["*:1/tcp", "*:1/udp"]),
        );
        assert!(udp.validate().unwrap_err().0.contains("*:1/udp has none"));
        assert_eq!((tcp.validate(), both.validate()), (Ok(()), Ok(())));
        let proxy = ["accept-proxy", "send-proxy"];
        assert_eq!(
            udp.idle_for_datagrams(),
            ["accept-proxy", "send-proxy", "body-limit"]
        );
        assert_eq!(both.idle_for_datagrams(), proxy);
        assert!(tcp.idle_for_datagrams().is_empty());
        assert_eq!(tcp.idle_without_datagrams(), ["sessions"]);
        assert!(udp.idle_without_datagrams().is_empty());
        assert!(spec(&["*:1/udp"]).idle_for_datagrams().is_empty());
    }
}
