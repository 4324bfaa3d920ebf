//! `--links`: the environment that legacy links (`docker run --link web_1:web_1`) leave in this
//! process, with the settings that tutum/haproxy and dockercloud-haproxy 1.6 read from it.
//!
//! A link `ALIAS` is there by `ALIAS_PORT_80_TCP=tcp://ADDR:PORT`; its settings are
//! `ALIAS_ENV_VIRTUAL_HOST=…` and the like. Aliases that differ in a number at their end (`WEB_1`,
//! `WEB_2`) are one service. All of it is read once: a link never changes.

mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use plimsoll_model::{
    Backend, Listen, Name, Origin, PathPrefix, Proto, Scheduler, Service, ServiceSpec,
};
use tokio::sync::mpsc::Sender;

use self::settings::{Host, Wanted};
use super::labels::value::{Faults, cut, told};
use super::share::routes;
use super::view::Settings;
use crate::{Entry, EntryKey, Item, Precedence, SourceId, SourceUpdate, Update};

/// The name of the source, and of the service of links that have nothing else in common.
const LINKS: &str = "links";
/// Links at most.
const MAX_LINKS: usize = 1024;

/// A source that says what links say, once.
#[derive(Debug)]
pub struct LinksSource {
    id: SourceId,
    entries: Vec<Entry>,
}

impl LinksSource {
    /// The links in these variables, such as those of [`std::env::vars_os`] that are text. `http`
    /// is where services listen whose `VIRTUAL_HOST` says no port, or port 80.
    pub fn new(vars: impl Iterator<Item = (String, String)>, http: Listen) -> Self {
        let settings = Settings {
            source: LINKS.into(),
            http,
        };
        Self {
            id: SourceId::new(Precedence::Engine, LINKS),
            entries: links(vars, &settings),
        }
    }

    /// The source; its name is `links`.
    pub fn id(&self) -> &SourceId {
        &self.id
    }

    /// Sends one [`Update::Reset`].
    pub async fn run(self, updates: Sender<SourceUpdate>) {
        let source = self.id;
        let update = Update::Reset(self.entries);
        // Without a receiver nobody wants to know.
        let _ = updates.send(SourceUpdate { source, update }).await;
    }
}

/// What the links in these variables say. Keys are `link ALIAS service NAME`, `link ALIAS route
/// NAME`, and `link ALIAS` for what is wrong with one.
pub fn links(vars: impl Iterator<Item = (String, String)>, settings: &Settings) -> Vec<Entry> {
    let vars: BTreeMap<String, String> = vars.collect();
    let links = Link::all(&vars);
    let origin = |entry: String| Origin::new(settings.source.clone(), entry);
    if links.is_empty() || links.len() > MAX_LINKS {
        let reason = match links.len() {
            0 => {
                "there are none: no variable such as WEB_PORT_80_TCP=tcp://ADDR:PORT is set; start \
                  this container with --link, or leave --links out"
                    .into()
            }
            count => format!("there are {count}: at most {MAX_LINKS}"),
        };
        return vec![invalid(LINKS, origin(LINKS.into()), reason)];
    }
    let groups: BTreeSet<&str> = links.keys().map(|alias| group(alias)).collect();
    let common = match (groups.first(), groups.len()) {
        (Some(only), 1) => only.to_lowercase(),
        _ => LINKS.into(),
    };
    let mut entries = Vec::new();
    for (alias, link) in &links {
        let mut faults = Faults::default();
        let maker = Maker {
            alias,
            link,
            origin: origin(format!("link {}", alias.to_lowercase())),
            settings,
            common: &common,
        };
        entries.extend(maker.entries(&mut faults));
        if let Some(reason) = faults.reason() {
            entries.push(invalid(&format!("link {alias}"), maker.origin, reason));
        }
    }
    entries
}

fn invalid(what: &str, origin: Origin, reason: String) -> Entry {
    Entry {
        key: EntryKey::new(what),
        item: Item::Invalid {
            subject: cut(&what.to_lowercase()).into(),
            origin,
            reason: reason.into(),
        },
    }
}

/// An alias without the number at its end.
fn group(alias: &str) -> &str {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match alias.rsplit_once('_') {
        Some((group, n)) if number(n) && !group.is_empty() => group,
        _ => alias,
    }
}

/// A container that is linked.
#[derive(Debug, Default)]
struct Link<'a> {
    /// Where its TCP ports are.
    ports: BTreeMap<u16, SocketAddr>,
    /// Variables that could not be read.
    bad: Vec<&'a str>,
    /// Its environment.
    env: BTreeMap<&'a str, &'a str>,
}

impl<'a> Link<'a> {
    /// All links by their aliases.
    fn all(vars: &'a BTreeMap<String, String>) -> BTreeMap<&'a str, Self> {
        let mut links: BTreeMap<&str, Self> = BTreeMap::new();
        for (key, value) in vars {
            let Some((alias, port)) = port_of(key) else {
                continue;
            };
            let link = links.entry(alias).or_default();
            let addr = value.strip_prefix("tcp://").and_then(|a| a.parse().ok());
            match addr.filter(|addr: &SocketAddr| addr.port() > 0) {
                Some(addr) => drop(link.ports.insert(port, addr)),
                None => link.bad.push(key),
            }
        }
        for (alias, link) in &mut links {
            let prefix = format!("{alias}_ENV_");
            let from = vars.range(prefix.clone()..);
            let own = from.map_while(|(key, value)| Some((key.strip_prefix(&prefix)?, &**value)));
            link.env = own.collect();
        }
        links
    }
}

/// `WEB_1_PORT_80_TCP` is port 80 of the link `WEB_1`.
fn port_of(key: &str) -> Option<(&str, u16)> {
    let (alias, port) = key.strip_suffix("_TCP")?.rsplit_once("_PORT_")?;
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|port| digits && *port > 0)?;
    (!alias.is_empty()).then_some((alias, port))
}

/// Makes the entries of one link.
struct Maker<'a> {
    alias: &'a str,
    link: &'a Link<'a>,
    origin: Origin,
    settings: &'a Settings,
    /// The service of links without hosts.
    common: &'a str,
}

impl Maker<'_> {
    fn entries(&self, faults: &mut Faults) -> Vec<Entry> {
        for key in &self.link.bad {
            faults.push(format!("{}: expected tcp://ADDR:PORT", cut(key)));
        }
        let wanted = Wanted::read(&self.link.env, faults);
        let mut entries = Vec::new();
        for port in &wanted.tcp {
            match self.link.ports.get(port) {
                Some(addr) => {
                    let listen = Listen::socket(None, *port, Proto::Tcp);
                    let name = format!("tcp-{port}");
                    let spec = self.spec(&name, listen, wanted.scheduler, faults);
                    entries.extend(spec.map(|spec| self.service(spec, *addr)));
                }
                None => faults.push(format!("TCP_PORTS: it has no link to tcp port {port}")),
            }
        }
        let Some(addr) = self.http(&wanted, faults) else {
            return entries;
        };
        if wanted.hosts.is_none() {
            let listen = self.settings.http;
            let spec = self.spec(self.common, listen, wanted.scheduler, faults);
            entries.extend(spec.map(|spec| self.service(spec, addr)));
        }
        for host in wanted.hosts.iter().flatten() {
            entries.extend(self.hosted(host, &wanted, addr, faults));
        }
        entries
    }

    /// Where HTTP goes: to the port said, the only one left, or 80.
    fn http(&self, wanted: &Wanted, faults: &mut Faults) -> Option<SocketAddr> {
        let left = self
            .link
            .ports
            .iter()
            .filter(|(port, _)| !wanted.excluded.contains(port) && !wanted.tcp.contains(port));
        let left: BTreeMap<u16, SocketAddr> = left.map(|(port, addr)| (*port, *addr)).collect();
        if let Some(port) = wanted.port {
            let addr = self.link.ports.get(&port).copied();
            if addr.is_none() {
                faults.push(format!("VIRTUAL_PORT: it has no link to tcp port {port}"));
            }
            return addr;
        }
        match (left.first_key_value(), left.len()) {
            (Some((_, only)), 1) => Some(*only),
            (None, _) if !wanted.tcp.is_empty() => None,
            (None, _) => {
                faults.push("it has no tcp port that is not in EXCLUDE_PORTS");
                None
            }
            _ => {
                let http = left.get(&80).copied();
                if http.is_none() {
                    let ports: Vec<String> = left.keys().take(8).map(u16::to_string).collect();
                    faults.push(format!(
                        "it has the ports {}: say which one with VIRTUAL_PORT, or the others with \
                         EXCLUDE_PORTS",
                        ports.join(", ")
                    ));
                }
                http
            }
        }
    }

    /// The service and the route of a host.
    fn hosted(
        &self,
        host: &Host,
        wanted: &Wanted,
        addr: SocketAddr,
        faults: &mut Faults,
    ) -> Vec<Entry> {
        let listen = match host.port {
            80 => self.settings.http,
            port => Listen::socket(None, port, Proto::Http),
        };
        let place = match host.port {
            80 => host.host.to_string(),
            port => format!("{}:{port}", host.host),
        };
        let name = match host.path == PathPrefix::root() {
            true => place,
            false => format!("{place}{}", host.path),
        };
        let Some(spec) = self.spec(&name, listen, wanted.scheduler, faults) else {
            return Vec::new();
        };
        let hosts = std::slice::from_ref(&host.host);
        let routes = match routes(&spec, hosts, &host.path, wanted.priority, None) {
            Ok(routes) => routes,
            Err(why) => {
                faults.push(why);
                return Vec::new();
            }
        };
        let routes = routes.into_iter().map(|route| Entry {
            key: self.key("route", &route.name),
            item: Item::Route(route.into()),
        });
        let service = self.service(spec, addr);
        std::iter::once(service).chain(routes).collect()
    }

    fn spec(
        &self,
        name: &str,
        listen: Listen,
        scheduler: Scheduler,
        faults: &mut Faults,
    ) -> Option<ServiceSpec> {
        match name.parse() {
            Ok(name) => {
                let spec = ServiceSpec::new(name, self.origin.clone(), vec![listen]);
                Some(ServiceSpec { scheduler, ..spec })
            }
            Err(error) => {
                faults.push(told(&error, name));
                None
            }
        }
    }

    fn key(&self, kind: &str, name: &Name) -> EntryKey {
        EntryKey::new(format!("link {} {kind} {name}", self.alias))
    }

    fn service(&self, spec: ServiceSpec, addr: SocketAddr) -> Entry {
        let backend = Backend {
            name: self.alias.to_lowercase().into(),
            ..Backend::new(addr.into(), self.origin.clone())
        };
        Entry {
            key: self.key("service", &spec.name),
            item: Item::Service(Service::new(spec, [backend]).into()),
        }
    }
}
