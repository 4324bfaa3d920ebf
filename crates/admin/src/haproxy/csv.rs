//! `show stat`: the counts as CSV. What plimsoll does not count stays empty.

use std::fmt::{Display, Write};

use plimsoll_control::Halt;
use plimsoll_control::status::{BackendStatus, ListenStatus, ServiceStatus};
use plimsoll_plane::BackendCounters;

use super::book::{Book, Proxy};
use super::line::{Filter, Hidden};
use crate::Report;

/// The columns of HAProxy 2.6 in their order, without those of its modules.
pub const COLUMNS: [&str; 103] = [
    "pxname",
    "svname",
    "qcur",
    "qmax",
    "scur",
    "smax",
    "slim",
    "stot",
    "bin",
    "bout",
    "dreq",
    "dresp",
    "ereq",
    "econ",
    "eresp",
    "wretr",
    "wredis",
    "status",
    "weight",
    "act",
    "bck",
    "chkfail",
    "chkdown",
    "lastchg",
    "downtime",
    "qlimit",
    "pid",
    "iid",
    "sid",
    "throttle",
    "lbtot",
    "tracked",
    "type",
    "rate",
    "rate_lim",
    "rate_max",
    "check_status",
    "check_code",
    "check_duration",
    "hrsp_1xx",
    "hrsp_2xx",
    "hrsp_3xx",
    "hrsp_4xx",
    "hrsp_5xx",
    "hrsp_other",
    "hanafail",
    "req_rate",
    "req_rate_max",
    "req_tot",
    "cli_abrt",
    "srv_abrt",
    "comp_in",
    "comp_out",
    "comp_byp",
    "comp_rsp",
    "lastsess",
    "last_chk",
    "last_agt",
    "qtime",
    "ctime",
    "rtime",
    "ttime",
    "agent_status",
    "agent_code",
    "agent_duration",
    "check_desc",
    "agent_desc",
    "check_rise",
    "check_fall",
    "check_health",
    "agent_rise",
    "agent_fall",
    "agent_health",
    "addr",
    "cookie",
    "mode",
    "algo",
    "conn_rate",
    "conn_rate_max",
    "conn_tot",
    "intercepted",
    "dcon",
    "dses",
    "wrew",
    "connect",
    "reuse",
    "cache_lookups",
    "cache_hits",
    "srv_icur",
    "src_ilim",
    "qtime_max",
    "ctime_max",
    "rtime_max",
    "ttime_max",
    "eint",
    "idle_conn_cur",
    "safe_conn_cur",
    "used_conn_cur",
    "need_conn_est",
    "uweight",
    "agg_server_status",
    "agg_server_check_status",
    "agg_check_status",
];

/// Bits of [`Filter::kinds`].
const FRONTENDS: i64 = 1;
const BACKENDS: i64 = 2;
const SERVERS: i64 = 4;

/// A line that is written from left to right.
struct Line<'a> {
    text: &'a mut String,
    at: usize,
}

impl<'a> Line<'a> {
    fn new(text: &'a mut String) -> Self {
        Self { text, at: 0 }
    }

    /// Fills in a column, which lies behind the last one.
    fn put(&mut self, column: &str, value: impl Display) -> &mut Self {
        let behind = COLUMNS.get(self.at..).unwrap_or_default();
        let Some(skipped) = behind.iter().position(|name| *name == column) else {
            debug_assert!(false, "{column} is not behind column {}", self.at);
            return self;
        };
        self.skip(skipped);
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{value}");
        self.skip(1);
        self
    }

    fn skip(&mut self, columns: usize) {
        self.text.extend(std::iter::repeat_n(',', columns));
        self.at += columns;
    }

    fn end(&mut self) {
        self.skip(COLUMNS.len().saturating_sub(self.at));
        self.text.push('\n');
    }
}

/// Text that may hold anything, as RFC 4180 has it, on one line; in quotes if it needs them.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let quote = if self.0.contains([',', '"']) {
            "\""
        } else {
            ""
        };
        f.write_str(quote)?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\"\"")?,
                c if c.is_control() => f.write_char(' ')?,
                c => f.write_char(c)?,
            }
        }
        f.write_str(quote)
    }
}

/// The header, and a line for each listen, backend and service that is wanted. `book` has taken in
/// the report.
///
/// # Errors
/// There is no proxy that the filter asks for.
pub fn render(report: &Report, book: &Book, filter: &Filter) -> Result<String, String> {
    let only = match &filter.proxy {
        Some(proxy) => Some(book.iid(proxy).ok_or("No such proxy.")?),
        None => None,
    };
    let wanted =
        |proxy: &Proxy, kind| only.is_none_or(|iid| iid == proxy.iid) && filter.kinds & kind != 0;
    let mut text = format!("# {},\n", COLUMNS.join(","));
    for listen in super::lists::listens(report) {
        if let Some(proxy) = book.listen(&listen.listen)
            && wanted(proxy, FRONTENDS)
        {
            frontend(&mut text, proxy, listen);
        }
    }
    for service in &report.status.services {
        let Some(proxy) = book.service(&service.name) else {
            continue;
        };
        if wanted(proxy, SERVERS) {
            for server in service
                .backends
                .iter()
                .filter(|b| !is_hidden(b, filter.hidden))
            {
                server_line(&mut text, proxy, service, server, filter.server);
            }
        }
        if wanted(proxy, BACKENDS) {
            backend(&mut text, proxy, service);
        }
    }
    Ok(text)
}

fn is_hidden(server: &BackendStatus, hidden: Hidden) -> bool {
    match hidden {
        Hidden::None => false,
        Hidden::Maintenance => server.halted == Some(Halt::Maintenance),
        Hidden::Down => server.state != "ready",
    }
}

fn frontend(text: &mut String, proxy: &Proxy, listen: &ListenStatus) {
    let refused = |denied: bool| {
        let refused = listen.refused.iter();
        let those = refused.filter(|(status, _)| matches!(status, 401 | 403 | 429) == denied);
        those.map(|(_, count)| count).sum::<u64>()
    };
    let mode = mode(&listen.listen);
    let mut line = Line::new(text);
    line.put("pxname", &proxy.name)
        .put("svname", "FRONTEND")
        .put("scur", listen.connections)
        .put("stot", listen.accepted)
        .put("dreq", refused(true))
        .put("ereq", refused(false))
        .put(
            "status",
            if listen.error.is_some() {
                "STOP"
            } else {
                "OPEN"
            },
        )
        .put("pid", 1)
        .put("iid", proxy.iid)
        .put("sid", 0)
        .put("type", 0);
    if mode == "http" {
        line.put("req_tot", listen.requests);
    }
    line.put("mode", Quoted(mode))
        .put("conn_tot", listen.accepted)
        .end();
}

/// The protocol of a listen.
pub(super) fn mode(listen: &str) -> &str {
    listen.rsplit_once('/').map_or("", |(_, mode)| mode)
}

/// The protocol of a service: routes, which are HTTP, lead to one without a listen.
pub(super) fn mode_of(service: &ServiceStatus) -> &str {
    service
        .listens
        .first()
        .map_or("http", |listen| mode(&listen.listen))
}

/// The word of HAProxy for the state: `MAINT` and `DRAIN` are an admin's doing, `NOLB` the server's own.
fn status(service: &ServiceStatus, server: &BackendStatus) -> &'static str {
    match (server.halted, server.state.as_str()) {
        (Some(Halt::Maintenance), _) => "MAINT",
        (Some(Halt::Drain), _) => "DRAIN",
        (None, "draining") => "NOLB",
        (None, "ready") if service.checked => "UP",
        (None, "ready") => "no check",
        _ => "DOWN",
    }
}

fn server_line(
    text: &mut String,
    proxy: &Proxy,
    service: &ServiceStatus,
    server: &BackendStatus,
    only: i64,
) {
    let Some(known) = proxy.server(&server.addr) else {
        return;
    };
    if only >= 0 && only != i64::from(known.sid) {
        return;
    }
    let counters = &server.counters;
    let mut line = Line::new(text);
    line.put("pxname", &proxy.name)
        .put("svname", &known.name)
        .put("qcur", counters.queued)
        .put("scur", counters.active);
    if server.maxconn > 0 {
        line.put("slim", server.maxconn);
    }
    line.put("stot", counters.requests);
    traffic(&mut line, counters, None);
    line.put("status", status(service, server))
        .put("weight", server.weight)
        .put("act", 1)
        .put("bck", 0)
        .put("lastchg", server.since as u64)
        .put("pid", 1)
        .put("iid", proxy.iid)
        .put("sid", known.sid);
    if let Some(percent) = counters.slow_start {
        line.put("throttle", percent);
    }
    line.put("lbtot", counters.requests).put("type", 2);
    if let Some(rates) = &server.rates {
        line.put("rate", rates.requests.round());
    }
    if mode_of(service) == "http" {
        responses(&mut line, counters);
        line.put("req_tot", counters.requests);
    }
    if !server.reason.is_empty() {
        line.put("last_chk", Quoted(&server.reason));
    }
    line.put("addr", Quoted(&server.addr))
        .put("mode", Quoted(mode_of(service)))
        .put("connect", counters.connections)
        .put("uweight", server.weight)
        .end();
}

/// The word of HAProxy for a scheduler, where it has one that does the same or nearly so.
fn algorithm(scheduler: &str) -> &str {
    match scheduler {
        "rr" | "wrr" => "roundrobin",
        "lc" | "wlc" => "leastconn",
        "sh" | "mh" | "ring" => "source",
        "twos" => "random",
        same => same,
    }
}

fn traffic(line: &mut Line<'_>, counters: &BackendCounters, denied: Option<u64>) {
    line.put("bin", counters.bytes_in)
        .put("bout", counters.bytes_out);
    if let Some(denied) = denied {
        line.put("dreq", denied);
    }
    line.put("econ", counters.connect_failures)
        .put("eresp", counters.failures)
        .put("wredis", counters.retries);
}

fn responses(line: &mut Line<'_>, counters: &BackendCounters) {
    const CLASSES: [&str; 5] = ["hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx"];
    for (class, count) in CLASSES.iter().zip(counters.responses) {
        line.put(class, count);
    }
}

fn backend(text: &mut String, proxy: &Proxy, service: &ServiceStatus) {
    let mut sum = BackendCounters::default();
    let (mut weight, mut usable) = (0u64, 0u64);
    for server in &service.backends {
        add(&mut sum, &server.counters);
        if server.state == "ready" && server.weight > 0 {
            weight += u64::from(server.weight);
            usable += 1;
        }
    }
    let spare = u64::from(service.sorry.is_some());
    let mut line = Line::new(text);
    line.put("pxname", &proxy.name)
        .put("svname", "BACKEND")
        .put("qcur", sum.queued)
        .put("scur", sum.active)
        .put("stot", service.total);
    traffic(&mut line, &sum, Some(service.denied));
    line.put("status", if usable + spare > 0 { "UP" } else { "DOWN" })
        .put("weight", weight)
        .put("act", usable)
        .put("bck", spare)
        .put("pid", 1)
        .put("iid", proxy.iid)
        .put("sid", 0)
        .put("lbtot", sum.requests)
        .put("type", 1);
    if let Some(rates) = &service.rates {
        line.put("rate", rates.requests.round());
    }
    if mode_of(service) == "http" {
        responses(&mut line, &sum);
        line.put("req_tot", service.total);
    }
    line.put("mode", Quoted(mode_of(service)))
        .put("algo", Quoted(algorithm(&service.scheduler)))
        .put("connect", sum.connections)
        .put("uweight", weight)
        .end();
}

fn add(sum: &mut BackendCounters, one: &BackendCounters) {
    sum.active += one.active;
    sum.queued += one.queued;
    sum.connections += one.connections;
    sum.requests += one.requests;
    sum.bytes_in += one.bytes_in;
    sum.bytes_out += one.bytes_out;
    sum.connect_failures += one.connect_failures;
    sum.failures += one.failures;
    sum.retries += one.retries;
    for (all, more) in sum.responses.iter_mut().zip(one.responses) {
        *all += more;
    }
}
