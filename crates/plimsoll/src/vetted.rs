//! A configuration file, looked at as `run` does: what the file says, and what of it control would
//! put aside because no plane of this build can carry it.

use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Instant;

use plimsoll_config::{Config, Diagnostic, MAX_BYTES};
use plimsoll_control::{Available, Catalog};
use plimsoll_discover::file::read_named;
use plimsoll_model::{
    BackendAddr, Entry, EntryKey, Interface, Item, Listen, Ports, Precedence, Proto, Service,
    SourceId, SourceUpdate, Update,
};
use plimsoll_plane::Plane;
use plimsoll_plane_ebpf::OnDemand;
use plimsoll_plane_proxy::{Options, ProxyPlane};
use toml::de::{DeTable, DeValue};

use crate::error::Error;
use crate::watched;

/// A file and what is wrong with it.
pub(crate) struct Vetted {
    file: String,
    text: String,
    config: Config,
    faults: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl Vetted {
    /// Reads a file that will be watched, and looks at it: only a regular one can be read again.
    pub(crate) fn watched(path: &Path) -> Result<Self, Error> {
        let file = path.display();
        let cannot = |why| Error::Usage(format!("{file}: cannot be read: {why}"));
        match std::fs::metadata(path).map_err(cannot)?.is_file() {
            true => Self::read(path),
            false => Err(Error::Usage(format!(
                "{file}: is not a regular file, and could not be watched: write it to one"
            ))),
        }
    }

    /// Reads a file and looks at it. A pipe is read, too, if somebody writes to it.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let file = path.display().to_string();
        let text = read(path).map_err(|why| Error::Usage(format!("{file}: {why}")))?;
        let source = format!("file:{file}");
        let (config, faults) =
            match plimsoll_config::parse_with(&source, &text, &read_named(path, &text)) {
                Ok(config) => {
                    let fault = engine(&config, &text);
                    (config, fault.into_iter().collect())
                }
                Err(faults) => (Config::default(), faults),
            };
        let warnings = warnings(&source, &config, &text)?;
        Ok(Self {
            file,
            text,
            config,
            faults,
            warnings,
        })
    }

    /// What it says.
    ///
    /// # Errors
    /// Something is wrong with it, rendered for people.
    pub(crate) fn config(&self) -> Result<&Config, Error> {
        match self.faults.is_empty() {
            true => Ok(&self.config),
            false => {
                let text = plimsoll_config::render(&self.file, &self.text, &self.faults);
                Err(Error::Invalid(text))
            }
        }
    }

    /// What is wrong with it.
    pub(crate) fn faults(&self) -> &[Diagnostic] {
        &self.faults
    }

    /// What is valid and would be put aside, or cannot be meant.
    pub(crate) fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// The warnings, for people.
    pub(crate) fn warned(&self) -> String {
        plimsoll_config::render_warnings(&self.file, &self.text, &self.warnings)
    }

    /// The name of the file.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }
}

fn read(path: &Path) -> Result<String, String> {
    let cannot = |why: std::io::Error| format!("cannot be read: {why}");
    let kind = std::fs::metadata(path).map_err(cannot)?.file_type();
    // A shell's `<(…)` is a link to a pipe with a writer; for one with a name there may never be.
    let inherited = ["/dev/fd", "/dev/stdin", "/proc/self/fd"];
    if kind.is_fifo() && !inherited.iter().any(|start| path.starts_with(start)) {
        return Err("is a pipe, and nobody may ever write to it: use a regular file".into());
    }
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    let limit = MAX_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > MAX_BYTES {
        return Err(format!("is longer than {MAX_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|why| {
        let at = why.utf8_error().valid_up_to();
        format!("is not UTF-8 text: byte {at} cannot be part of it")
    })
}

/// What is wrong with the engine of `[docker]`, whose address is not the file's business.
fn engine(config: &Config, text: &str) -> Option<Diagnostic> {
    let table = config
        .docker
        .as_ref()
        .filter(|table| table.host.is_some())?;
    let error = watched::of_table(table, |_| None).err()?;
    let host = || {
        let root = DeTable::parse(text).ok()?;
        let table = root.get_ref().get("docker")?.get_ref().as_table()?;
        Some(table.get("host")?.span())
    };
    let span = host().unwrap_or(0..0);
    let (line, column) = position(text, span.start);
    Some(Diagnostic {
        line,
        column,
        key: "docker.host".into(),
        message: error.to_string(),
        expected: "unix:///PATH or tcp://HOST:PORT".into(),
        nearest: None,
        span,
    })
}

/// What control would put aside, and what cannot be meant.
fn warnings(source: &str, config: &Config, text: &str) -> Result<Vec<Diagnostic>, Error> {
    let plane = ProxyPlane::start(Options {
        workers: 1,
        ..Options::default()
    })
    .map_err(|why| Error::Failed(format!("a worker cannot be started: {why}")))?;
    let services = config.services.iter().map(|service| Entry {
        key: EntryKey::new(format!("service {}", service.name())),
        item: Item::Service(service.clone().into()),
    });
    let routes = config.routes.iter().map(|route| Entry {
        key: EntryKey::new(format!("route {}", route.name)),
        item: Item::Route(route.clone().into()),
    });
    let update = Update::Reset(services.chain(routes).collect());
    let source = SourceId::new(Precedence::File, source);
    let now = Instant::now();
    let mut catalog = Catalog::default();
    catalog.update(now, SourceUpdate { source, update });
    let packets = OnDemand::on_paper();
    let planes: [&dyn Plane; 2] = [&plane, &packets];
    catalog.resolve(now, &Available(&planes));
    let asides = catalog.quarantine().iter();
    let mut warnings: Vec<Diagnostic> = asides
        .map(|(aside, _)| {
            let message = format!("is put aside: {}", aside.reason);
            warning(text, &aside.origin.entry, aside.subject.clone(), message)
        })
        .collect();
    for service in &config.services {
        let mut warn = |message: String| {
            let entry = format!("service {}", service.name());
            let key = format!("service `{}`", service.name());
            warnings.push(warning(text, &entry, key, message));
        };
        for addr in service.backends.keys().filter(|a| is_own(service, a)) {
            warn(format!(
                "has itself as backend {addr}: what is sent there comes back until all \
                 connections are used up; name the server that is meant"
            ));
        }
        if let Some((deny, key, net)) = service.spec.denied_speakers() {
            warn(format!(
                "denies {deny}, where `{key}` has {net} speak for others: from there it is the client that \
                 is named who is judged, and not who connects; refuse those connections elsewhere, or \
                 leave them out of `{key}`"
            ));
        }
        for vip in (service.spec.vips.iter()).filter(|vip| !is_here(&vip.interface)) {
            let (address, interface) = (vip.address.ip, &vip.interface);
            warn(format!(
                "VIP {address}: there is no interface {interface} here; the address is added once there is one"
            ));
        }
        if service.spec.opens_fast_in_vain() {
            warn(
                "`to-backends.tcp-fast-open` has no effect over HTTP without `send-proxy`: a request is \
                 sent once the connection stands"
                    .into(),
            );
        }
        for (keys, why) in [
            (
                service.spec.idle_for_datagrams(),
                "for datagrams, which have no connections, requests or queue",
            ),
            (
                service.spec.idle_without_datagrams(),
                "where no listen is /udp",
            ),
        ] {
            let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
            if keys.is_empty() {
                continue;
            }
            let has = if keys.len() == 1 { "has" } else { "have" };
            warn(format!("{} {has} no effect {why}", keys.join(", ")));
        }
    }
    warnings.sort_by_key(|warning| warning.span.start);
    Ok(warnings)
}

/// Whether there is such an interface in this network namespace; also where that cannot be seen.
fn is_here(interface: &Interface) -> bool {
    let Ok(devices) = std::fs::read_to_string("/proc/self/net/dev") else {
        return true;
    };
    let mut names = devices.lines().filter_map(|line| line.split_once(':'));
    names.any(|(name, _)| name.trim() == interface.as_str())
}

/// Something about an entry.
fn warning(text: &str, entry: &str, key: String, message: String) -> Diagnostic {
    let span = locate(text, entry);
    let (line, column) = position(text, span.start);
    Diagnostic {
        line,
        column,
        key,
        message,
        expected: String::new(),
        nearest: None,
        span,
    }
}

/// Whether a backend is a listen of its own service, as far as addresses alone can tell: of those
/// of this host only the loopback ones are known. What is led here may well go on to where it was
/// meant for.
fn is_own(service: &Service, addr: &BackendAddr) -> bool {
    let transparent = (service.spec.listen_options.as_ref()).is_some_and(|o| o.transparent);
    !transparent
        && service.spec.listens.iter().any(|listen| {
            let Listen::Socket {
                ip,
                ports: Ports::One(port),
                proto,
            } = listen
            else {
                return false;
            };
            let Some(to) = addr.socket_addr(*port) else {
                return false;
            };
            let any = ip.is_none_or(|ip| ip.is_unspecified());
            let here = ip.is_some_and(|ip| ip == to.ip())
                || any && (to.ip().is_loopback() || to.ip().is_unspecified());
            here && to.port() == *port && *proto != Proto::Sctp
        })
}

/// Where an entry such as `service web, backend 10.0.0.1:80` has its name; the beginning of the
/// file if it has none there.
fn locate(text: &str, entry: &str) -> std::ops::Range<usize> {
    let entry = entry.split_once(", ").map_or(entry, |(entry, _)| entry);
    let find = || {
        let (kind, name) = entry.split_once(' ')?;
        let root = DeTable::parse(text).ok()?;
        let tables = root.get_ref().get(kind)?.get_ref().as_array()?;
        let names = tables.iter().filter_map(|table| match table.get_ref() {
            DeValue::Table(table) => table.get("name"),
            _ => None,
        });
        let mut names = names.filter(|n| n.get_ref().as_str() == Some(name));
        Some(names.next()?.span())
    };
    find().unwrap_or(0..0)
}

/// Line and column of a byte, from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or("");
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    let column = before.get(start..).map_or(0, |line| line.chars().count()) + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_their_names() {
        let text = "[[service]]\nname = \"é\"\n[[service]]\nname = \"web\"\n";
        let span = locate(text, "service web, backend 10.0.0.1:80");
        assert_eq!(text.get(span.clone()), Some("\"web\""));
        assert_eq!(position(text, span.start), (4, 8));
        assert_eq!(locate(text, "service other"), 0..0);
        assert_eq!(locate(text, "route web"), 0..0);
        assert_eq!(position("", 0), (1, 1));
    }
}
