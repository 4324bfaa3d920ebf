//! The native configuration file: text in, model or spanned errors out.
//!
//! A file is TOML 1.1 with `[[service]]`, `[[route]]`, `[docker]`, `[daemon]` and `[ebpf]` tables; `docs/configuration.md`
//! describes every key. [`parse`] reads the whole text and reports everything that is wrong with
//! it, each [`Diagnostic`] at the exact place. [`render`] shows diagnostics beside their source
//! lines. This room is pure: the caller reads files, also those that a text names ([`named_files`]).

mod access;
mod backend;
mod check;
mod compress;
mod cookie;
mod daemon;
mod diagnostic;
mod docker;
mod duration;
mod fields;
mod files;
mod health;
mod http;
mod limits;
mod maintenance;
mod nearest;
mod networks;
mod options;
mod outlier;
mod overlap;
mod packets;
mod pages;
mod retry;
mod route;
pub mod schema;
mod service;
mod sockets;
mod source;
mod syntax;
mod vip;

pub use access::AccessLogSettings;
pub use daemon::{Daemon, LogFormat};
pub use diagnostic::{Diagnostic, render, render_warnings};
pub use docker::{Docker, parse_http_listen};
pub use duration::{format_duration, parse_duration};
pub use files::Files;
pub use nearest::nearest;
pub use packets::Packets;

use std::sync::Arc;

use plimsoll_model::{ErrorPages, Route, Service};

use crate::fields::{Faults, Table};
use crate::source::Source;

/// The longest file that is read, in bytes: 16 MiB.
pub const MAX_BYTES: usize = 16 << 20;

/// The most diagnostics that are reported of one file.
pub const MAX_DIAGNOSTICS: usize = 50;

/// What one file says. Services and routes are in the order of the file and fit each other:
/// names are unique, no two listens conflict, every route leads to services that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The services. Their origins have the source given to [`parse`] and an entry such as
    /// `service web` or `service web, backend 10.0.0.1:80`.
    pub services: Vec<Service>,
    /// The routes. Their origins have an entry such as `route NAME`.
    pub routes: Vec<Route>,
    /// An engine to watch; none if there is no `[docker]`.
    pub docker: Option<Docker>,
    /// Settings of the process.
    pub daemon: Daemon,
    /// Settings of the packet plane.
    pub packets: Packets,
    /// Pages for all services, and for answers that belong to none.
    pub error_pages: ErrorPages,
}

/// Reads a file. `source` becomes the source of every origin, e.g. `file:/etc/plimsoll.toml`. An
/// empty text is valid and says nothing. What the files say that it names is left out: see
/// [`parse_with`].
///
/// # Errors
/// All that is wrong, in the order of the file, [`MAX_DIAGNOSTICS`] at most. Syntax errors hide
/// all others.
pub fn parse(source: &str, text: &str) -> Result<Config, Vec<Diagnostic>> {
    parse_with(source, text, &Files::default())
}

/// The files that a text names, each once, as it names them: [`Files::MAX`] at most. What is wrong
/// with the text is left to [`parse_with`].
pub fn named_files(text: &str) -> Vec<String> {
    let mut faults = Faults::default();
    read("", &Source::new(text), &mut faults);
    faults.into_named()
}

/// As [`parse`], with what the files say that the text names.
///
/// # Errors
/// As [`parse`]; and files that could not be read or are of no use, each where it is named.
pub fn parse_with(source: &str, text: &str, files: &Files) -> Result<Config, Vec<Diagnostic>> {
    let lines = Source::new(text);
    let mut faults = Faults::with_files(files.clone());
    let config = read(source, &lines, &mut faults);
    let faults = faults.into_sorted();
    if faults.is_empty() {
        return Ok(config);
    }
    Err(faults
        .into_iter()
        .map(|fault| fault.at(&lines))
        .collect::<Vec<_>>())
}

fn read(source: &str, text: &Source<'_>, faults: &mut Faults) -> Config {
    let mut config = Config::default();
    let Some(root) = syntax::parse(text, faults) else {
        return config;
    };
    let root = Table::root(root.get_ref());
    root.check_keys(schema::FILE, faults);
    let source: Arc<str> = source.into();
    let daemon = root
        .get("daemon")
        .map(|node| daemon::read(&node, faults))
        .unwrap_or_default();
    config.packets = root
        .get("ebpf")
        .map(|node| packets::read(&node, faults))
        .unwrap_or_default();
    config.docker = root.get("docker").map(|node| docker::read(&node, faults));
    let services = tables(&root, "service", faults, |table, faults| {
        service::read(&source, table, faults)
    });
    let routes = tables(&root, "route", faults, |table, faults| {
        route::read(&source, table, faults)
    });
    check::check(text, &services, &routes, &daemon, faults);
    config.daemon = daemon.daemon;
    config.error_pages = pages::error_pages(&root, faults);
    config.services = services.into_iter().filter_map(|s| s.service).collect();
    config.routes = routes.into_iter().filter_map(|r| r.route).collect();
    config
}

/// Reads the tables of `[[key]]`, as long as faults are kept.
fn tables<'a, T>(
    root: &Table<'a>,
    key: &str,
    faults: &mut Faults,
    read: impl Fn(&Table<'a>, &mut Faults) -> T,
) -> Vec<T> {
    let Some(node) = root.get(key) else {
        return Vec::new();
    };
    let expected = format!("[[{key}]] with two brackets: there can be several");
    let items = node.items(&expected, faults).unwrap_or_default();
    let mut all = Vec::new();
    for item in items {
        if faults.is_full() {
            break;
        }
        if let Some(table) = item.table(&format!("a table: [[{key}]]"), faults) {
            all.push(read(&table, faults));
        }
    }
    all
}
