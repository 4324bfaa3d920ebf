//! Configurations as text, made of values that a test changes step by step.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

/// Two workers, whatever the host has.
pub(crate) const DAEMON: &str = "[daemon]\nworkers = 2\n\n";

/// How a service has a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) weight: u32,
    pub(crate) drain: bool,
}

impl Default for Member {
    fn default() -> Self {
        Self {
            weight: 1,
            drain: false,
        }
    }
}

/// A service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Service {
    pub(crate) name: String,
    /// None is a service that routes lead to.
    pub(crate) listen: Option<String>,
    /// More keys, one a line.
    pub(crate) more: String,
    pub(crate) backends: BTreeMap<SocketAddr, Member>,
}

impl Service {
    /// One of these backends, all of weight 1, in turn.
    pub(crate) fn new(
        name: &str,
        listen: Option<String>,
        backends: impl IntoIterator<Item = SocketAddr>,
    ) -> Self {
        let backends = backends.into_iter();
        Self {
            name: name.to_owned(),
            listen,
            more: "scheduler = \"wrr\"\n".to_owned(),
            backends: backends.map(|addr| (addr, Member::default())).collect(),
        }
    }

    /// With more keys, one a line.
    pub(crate) fn with(mut self, more: &str) -> Self {
        self.more.push_str(more);
        self.more.push('\n');
        self
    }

    /// The service as a table of the file.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("[[service]]\nname = \"{}\"\n{}", self.name, self.more);
        if let Some(listen) = &self.listen {
            writeln!(text, "listen = \"{listen}\"").unwrap();
        }
        text.push_str("backends = [\n");
        for (address, member) in &self.backends {
            let Member { weight, drain } = member;
            writeln!(
                text,
                "  {{ address = \"{address}\", weight = {weight}, drain = {drain} }},"
            )
            .unwrap();
        }
        text.push_str("]\n\n");
        text
    }
}

/// A service `web` that listens for HTTP on this address and takes all requests.
pub(crate) fn web(listen: SocketAddr, backends: &[SocketAddr]) -> Service {
    let listen = format!("{listen}/http");
    Service::new("web", Some(listen), backends.iter().copied())
}

/// A service `tcp` that listens for TCP on this address.
pub(crate) fn tcp(listen: SocketAddr, backends: &[SocketAddr]) -> Service {
    let listen = format!("{listen}/tcp");
    Service::new("tcp", Some(listen), backends.iter().copied())
}

/// A route of a host and path to services with their weights.
pub(crate) fn route(host: &str, path: &str, services: &[(&str, u32)]) -> String {
    let services: Vec<String> = services
        .iter()
        .map(|(name, weight)| format!("{{ service = \"{name}\", weight = {weight} }}"))
        .collect();
    let services = services.join(", ");
    format!("[[route]]\nhost = \"{host}\"\npath = \"{path}\"\nservice = [{services}]\n\n")
}
