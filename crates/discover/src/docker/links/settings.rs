//! The settings of a linked container.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_config::nearest;
use plimsoll_model::{HostPattern, PathPrefix, Scheduler, SchedulerKind};

use crate::docker::labels::value::{Faults, cut, told};

/// Hosts, and ports in a list, at most.
const MAX_ITEMS: usize = 1024;

/// Settings that mean nothing here.
const NOT_READ: [&str; 13] = [
    "COOKIE",
    "DEFAULT_SSL_CERT",
    "EXCLUDE_BASIC_AUTH",
    "EXTRA_ROUTE_SETTINGS",
    "EXTRA_SETTINGS",
    "FAILOVER",
    "FORCE_SSL",
    "GZIP_COMPRESSION_TYPE",
    "HEALTH_CHECK",
    "HSTS_MAX_AGE",
    "HTTP_CHECK",
    "OPTION",
    "SSL_CERT",
];

/// The words of `BALANCE`, and what is the same here.
const BALANCES: [(&str, SchedulerKind); 4] = [
    ("roundrobin", SchedulerKind::Wrr),
    ("static-rr", SchedulerKind::Wrr),
    ("leastconn", SchedulerKind::Wlc),
    ("source", SchedulerKind::Sh),
];

/// What a linked container wants.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The hosts that can be read; none if it names none at all.
    pub(super) hosts: Option<BTreeSet<Host>>,
    /// The port for HTTP, if it is said.
    pub(super) port: Option<u16>,
    /// Ports that are TCP services of their own.
    pub(super) tcp: BTreeSet<u16>,
    /// Ports that are not for HTTP.
    pub(super) excluded: BTreeSet<u16>,
    pub(super) scheduler: Scheduler,
    pub(super) priority: i32,
}

impl Wanted {
    pub(super) fn read(env: &BTreeMap<&str, &str>, faults: &mut Faults) -> Self {
        let get = |key: &str| {
            let value = env.get(key).map(|value| value.trim());
            value.filter(|value| !value.is_empty())
        };
        let unread: Vec<&str> = NOT_READ
            .into_iter()
            .filter(|key| get(key).is_some())
            .collect();
        if !unread.is_empty() {
            let unread = unread.join(", ");
            faults.push(format!("not read, and done without: {unread}"));
        }
        let mut scheduler = Scheduler::default();
        if let Some(text) = get("BALANCE") {
            match BALANCES.iter().find(|(name, _)| *name == text) {
                Some((_, kind)) => scheduler.kind = *kind,
                None => {
                    let names = BALANCES.map(|(name, _)| name);
                    let meant = nearest(text, names).map(|m| format!(": did you mean `{m}`?"));
                    faults.push(format!(
                        "BALANCE={}: expected one of {}{}",
                        cut(text),
                        names.join(", "),
                        meant.unwrap_or_default()
                    ));
                }
            }
        }
        let mut number = |key: &'static str, what: &str| {
            let text = get(key)?;
            let number = text.parse::<i32>().ok();
            if number.is_none() {
                faults.push(format!("{key}={}: expected {what}", cut(text)));
            }
            number
        };
        let priority = number("VIRTUAL_HOST_WEIGHT", "a whole number").unwrap_or_default();
        let port = get("VIRTUAL_PORT").and_then(|text| port("VIRTUAL_PORT", text, faults));
        let excluded = get("EXCLUDE_PORTS").map(|text| ports("EXCLUDE_PORTS", text, faults));
        let tcp = get("TCP_PORTS").map(|text| ports("TCP_PORTS", text, faults));
        Self {
            hosts: get("VIRTUAL_HOST").map(|text| hosts(text, faults)),
            port,
            tcp: tcp.unwrap_or_default(),
            excluded: excluded.unwrap_or_default(),
            scheduler,
            priority,
        }
    }
}

fn port(key: &str, text: &str, faults: &mut Faults) -> Option<u16> {
    if text.ends_with("/ssl") {
        faults.push(format!("{key}={}: TLS is not served", cut(text)));
        return None;
    }
    let port = text.parse().ok().filter(|port| *port > 0);
    if port.is_none() {
        let text = cut(text);
        faults.push(format!("{key}={text}: expected ports from 1 to 65535"));
    }
    port
}

fn ports(key: &str, text: &str, faults: &mut Faults) -> BTreeSet<u16> {
    let items = text.split(',').map(str::trim).take(MAX_ITEMS);
    let items = items.filter(|item| !item.is_empty());
    items.filter_map(|item| port(key, item, faults)).collect()
}

/// An item of `VIRTUAL_HOST`: `[SCHEME://]HOST[:PORT][/PATH]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Host {
    pub(super) host: HostPattern,
    /// 80 if it says none.
    pub(super) port: u16,
    pub(super) path: PathPrefix,
}

fn hosts(text: &str, faults: &mut Faults) -> BTreeSet<Host> {
    let items = text.split(',').map(str::trim).take(MAX_ITEMS);
    let items = items.filter(|item| !item.is_empty());
    let read = items.filter_map(|item| match host(item) {
        Ok(host) => Some(host),
        Err(why) => {
            faults.push(format!("VIRTUAL_HOST={}: {why}", cut(item)));
            None
        }
    });
    read.collect()
}

fn host(item: &str) -> Result<Host, String> {
    let rest = match item.split_once("://") {
        None => item,
        Some(("http" | "ws", rest)) => rest,
        Some(("https" | "wss", _)) => return Err("TLS is not served".into()),
        Some((scheme, _)) => return Err(format!("unknown scheme `{}`", cut(scheme))),
    };
    let (place, path) = match rest.split_once('/') {
        Some((place, path)) => (place, format!("/{path}")),
        None => (rest, String::from("/")),
    };
    let (host, port) = match place.split_once(':') {
        Some((host, port)) => {
            let number = port.parse().ok().filter(|port| *port > 0);
            (host, number.ok_or("the port is not one from 1 to 65535")?)
        }
        None => (place, 80),
    };
    // Everything below a path is all that can be said of paths here.
    let path = path.strip_suffix("/*").unwrap_or(&path);
    if path.contains('*') {
        return Err("a star in a path stands for all below it only: /path/*".into());
    }
    let path = match path {
        "" => "/",
        path => path,
    };
    Ok(Host {
        host: host.parse().map_err(|error| told(&error, host))?,
        port,
        path: path.parse().map_err(|error| told(&error, path))?,
    })
}
