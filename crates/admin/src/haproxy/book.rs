//! Names and numbers that stay while what they stand for is there.
//!
//! HAProxy knows frontends and backends together as proxies, each with a number (`iid`), and the
//! servers of each with a number of their own (`sid`). Names are of letters, digits, `_`, `-`, `.`
//! and `:`.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_control::status::{ServiceStatus, Status};

/// Which number and name everything has. A number is never given to another.
#[derive(Debug, Default)]
pub struct Book {
    listens: BTreeMap<String, Proxy>,
    services: BTreeMap<String, Proxy>,
    last: u32,
}

/// A listen or a service.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) iid: u32,
    pub(super) name: String,
    /// By address.
    servers: BTreeMap<String, Server>,
    last: u32,
}

/// A backend.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) sid: u32,
    pub(super) name: String,
    /// The name that the first one was made from.
    source: String,
}

/// What HAProxy shows in the place of a server; no server is called so.
const RESERVED: [&str; 2] = ["FRONTEND", "BACKEND"];

impl Book {
    /// Takes in what is new, and forgets what is gone.
    pub fn update(&mut self, status: &Status) {
        let listens: BTreeSet<&str> = (status.services.iter())
            .flat_map(|service| &service.listens)
            .map(|listen| listen.listen.as_str())
            .collect();
        let services: BTreeSet<&str> = status.services.iter().map(|s| s.name.as_str()).collect();
        self.listens.retain(|key, _| listens.contains(key.as_str()));
        self.services
            .retain(|key, _| services.contains(key.as_str()));
        let known = self.listens.values().chain(self.services.values());
        let mut taken: BTreeSet<String> = known.map(|proxy| proxy.name.clone()).collect();
        let mut last = self.last;
        let mut proxy = |text: &str| {
            last = last.saturating_add(1);
            let name = free(printable(text), last, |name| taken.contains(name));
            taken.insert(name.clone());
            Proxy {
                iid: last,
                name,
                servers: BTreeMap::new(),
                last: 0,
            }
        };
        // Services first: theirs are the names that people type.
        for service in &status.services {
            let known = self.services.entry(service.name.clone());
            known
                .or_insert_with(|| proxy(&service.name))
                .update(service);
        }
        for listen in listens {
            let known = self.listens.entry(listen.to_owned());
            known.or_insert_with(|| proxy(listen));
        }
        self.last = last;
    }

    /// A listen, as of the last update.
    pub(super) fn listen(&self, listen: &str) -> Option<&Proxy> {
        self.listens.get(listen)
    }

    /// A service, as of the last update.
    pub(super) fn service(&self, name: &str) -> Option<&Proxy> {
        self.services.get(name)
    }

    /// The number of the proxy that has this name, else this number.
    pub(super) fn iid(&self, text: &str) -> Option<u32> {
        let all = || self.listens.values().chain(self.services.values());
        let named = all().find(|proxy| proxy.name == text);
        let number = text.parse().ok();
        let found = named.or_else(|| all().find(|proxy| Some(proxy.iid) == number));
        found.map(|proxy| proxy.iid)
    }

    /// The service that is called so here or where it comes from, or has this number behind `#`.
    pub(super) fn find_service(&self, text: &str) -> Option<(&str, &Proxy)> {
        let number = number(text);
        let mut all = self.services.iter();
        let found = self
            .services
            .get_key_value(text)
            .or_else(|| all.find(|(_, proxy)| proxy.name == text || Some(proxy.iid) == number));
        found.map(|(key, proxy)| (key.as_str(), proxy))
    }
}

impl Proxy {
    fn update(&mut self, service: &ServiceStatus) {
        let backends = service.backends.iter();
        let there: BTreeMap<&str, &str> = backends
            .map(|b| (b.addr.as_str(), b.name.as_str()))
            .collect();
        // A name that is another by now is read anew.
        self.servers
            .retain(|addr, server| there.get(addr.as_str()) == Some(&server.source.as_str()));
        let mut taken: BTreeSet<String> = self.servers.values().map(|s| s.name.clone()).collect();
        for (addr, source) in there {
            if self.servers.contains_key(addr) {
                continue;
            }
            self.last = self.last.saturating_add(1);
            let named = printable(source);
            let is_taken = |name: &str| taken.contains(name) || RESERVED.contains(&name);
            let first = match named.is_empty() || is_taken(&named) {
                true => printable(addr),
                false => named,
            };
            let name = free(first, self.last, is_taken);
            taken.insert(name.clone());
            let server = Server {
                sid: self.last,
                name,
                source: source.into(),
            };
            self.servers.insert(addr.into(), server);
        }
    }

    /// The server at this address.
    pub(super) fn server(&self, addr: &str) -> Option<&Server> {
        self.servers.get(addr)
    }

    /// The address of the server that is called so, is there, or has this number behind `#`.
    pub(super) fn find_server(&self, text: &str) -> Option<&str> {
        let number = number(text);
        let mut all = self.servers.iter();
        let found = (self.servers.get_key_value(text))
            .or_else(|| all.find(|(_, server)| server.name == text || Some(server.sid) == number));
        found.map(|(addr, _)| addr.as_str())
    }

    /// The names of the first few servers.
    pub(super) fn known(&self) -> String {
        const SHOWN: usize = 8;
        let names = self.servers.values().take(SHOWN).map(|s| s.name.as_str());
        let names: Vec<&str> = names.collect();
        match self.servers.len() {
            0 => "none".into(),
            n if n > SHOWN => format!("{} and {} more", names.join(", "), n - SHOWN),
            _ => names.join(", "),
        }
    }
}

fn number(text: &str) -> Option<u32> {
    text.strip_prefix('#')?.parse().ok()
}

/// A text in the letters that names are made of.
fn printable(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-' | '.' | ':' => name.push(c),
            '*' => name.push_str("any"),
            '/' => name.push('-'),
            '[' | ']' => {}
            _ => name.push('_'),
        }
    }
    name
}

/// This name, or one like it that nobody has.
fn free(name: String, number: u32, is_taken: impl Fn(&str) -> bool) -> String {
    if !name.is_empty() && !is_taken(&name) {
        return name;
    }
    let mut other = format!("{name}-{number}");
    while is_taken(&other) {
        other.push('_');
    }
    other
}
