//! A configuration as text: every key, or short forms and nothing that is a default.

use std::fmt::Write;

use plimsoll_config::{
    AccessLogSettings, Config, Daemon, Docker, LogFormat, Packets, format_duration,
};
use plimsoll_model::*;

/// A table being written: `key = value` parts.
#[derive(Default)]
pub(crate) struct Parts(Vec<String>);

impl Parts {
    pub(crate) fn add(&mut self, said: bool, key: &str, value: impl Into<String>) {
        if said {
            self.0.push(format!("{key} = {}", value.into()));
        }
    }

    pub(crate) fn inline(&self) -> String {
        format!("{{ {} }}", self.0.join(", "))
    }

    fn table(&self, header: &str) -> String {
        format!("{header}\n{}\n\n", self.0.join("\n"))
    }
}

/// A basic string.
pub(crate) fn text(value: impl ToString) -> String {
    let escaped = value.to_string().replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

pub(crate) fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

/// One as it is, several as a list.
fn one_or_many(items: Vec<String>, short: bool) -> String {
    match items.as_slice() {
        [one] if short => one.clone(),
        _ => list(items),
    }
}

pub(crate) fn config(config: &Config, short: bool) -> String {
    let mut parts = Parts::default();
    crate::http::write_pages(&config.error_pages, &mut parts);
    let mut out = parts.table("");
    // Routes first: the order of the tables says nothing.
    for item in &config.routes {
        out.push_str(&route(item, short));
    }
    for item in &config.services {
        out.push_str(&service(item, short));
    }
    out.push_str(&config.docker.as_ref().map(docker).unwrap_or_default());
    out.push_str(&daemon(&config.daemon));
    out.push_str(&packets(&config.packets, short));
    out
}

fn packets(packets: &Packets, short: bool) -> String {
    let mut out = String::from("[ebpf]\n");
    for (key, names) in [("interfaces", &packets.interfaces), ("xdp", &packets.xdp)] {
        if !names.is_empty() {
            let names = names.iter().map(text).collect();
            out.push_str(&format!("{key} = {}\n", one_or_many(names, short)));
        }
    }
    if let Some(flows) = packets.flows {
        out.push_str(&format!("flows = {flows}\n"));
    }
    let v4 = packets.tunnel_source_v4.iter().map(text);
    let networks: Vec<String> = v4
        .chain(packets.tunnel_source_v6.iter().map(text))
        .collect();
    if !networks.is_empty() {
        out.push_str(&format!(
            "tunnel-source = {}\n",
            one_or_many(networks, short)
        ));
    }
    out
}

fn docker(docker: &Docker) -> String {
    let mut parts = Parts::default();
    if let Some(host) = &docker.host {
        parts.add(true, "host", text(host));
    }
    if let Some(listen) = &docker.listen {
        parts.add(true, "listen", text(listen));
    }
    if let Some(tls) = &docker.tls {
        parts.add(true, "tls", text(tls.display()));
    }
    parts.table("[docker]")
}

fn daemon(daemon: &Daemon) -> String {
    let mut parts = Parts::default();
    if let Some(workers) = daemon.workers {
        parts.add(true, "workers", workers.to_string());
    }
    if let Some(admin) = &daemon.admin {
        parts.add(true, "admin", text(admin.display()));
    }
    if let Some(stats) = &daemon.stats {
        parts.add(true, "stats", text(stats.display()));
    }
    if let Some(metrics) = daemon.metrics {
        parts.add(true, "metrics", text(metrics));
    }
    parts.add(true, "drain", text(format_duration(daemon.drain)));
    match daemon.log {
        Some(LogFormat::Text) => parts.add(true, "log", text("text")),
        Some(LogFormat::Json) => parts.add(true, "log", text("json")),
        None => {}
    }
    parts.add(true, "compress-memory", daemon.compress_memory.to_string());
    let access = &daemon.access_log;
    if *access != AccessLogSettings::default() {
        let to = match &access.to {
            LogTo::Stdout => "stdout".to_owned(),
            LogTo::File(path) => path.display().to_string(),
            LogTo::Syslog(path) => format!("syslog:{}", path.display()),
        };
        let (format, to) = (text(access_format(access.format)), text(to));
        let table = format!(
            "{{ format = {format}, to = {to}, query = {} }}",
            access.query
        );
        parts.add(true, "access-log", table);
    }
    parts.table("[daemon]")
}

fn access_format(format: AccessLog) -> &'static str {
    match format {
        AccessLog::Off => "off",
        AccessLog::Combined => "combined",
        AccessLog::Json => "json",
        AccessLog::Httplog => "httplog",
    }
}

pub(crate) fn clients(rules: &ClientRules, short: bool, parts: &mut Parts) {
    for (key, list) in [("allow", &rules.allow), ("deny", &rules.deny)] {
        let networks = one_or_many(list.iter().map(text).collect(), short);
        // An empty `allow` is an error.
        let said = !list.is_empty() || (!short && key == "deny");
        parts.add(said, key, networks);
    }
}

fn retries(spec: &ServiceSpec, short: bool) -> String {
    if short && spec.retry == Retry::default() {
        return spec.retries.to_string();
    }
    let mut table = Parts::default();
    table.add(true, "attempts", spec.retries.to_string());
    let causes = spec.retry.on.names().map(text).collect();
    table.add(true, "on", one_or_many(causes, short));
    table.add(true, "budget", text(format!("{}%", spec.retry.budget)));
    table.add(true, "floor", spec.retry.floor.to_string());
    table.inline()
}

fn service(service: &Service, short: bool) -> String {
    let spec = &service.spec;
    let plain = ServiceSpec::new(spec.name.clone(), spec.origin.clone(), vec![]);
    let mut parts = Parts::default();
    parts.add(true, "name", text(&spec.name));
    let listens = spec.listens.iter().map(text).collect();
    let listen = one_or_many(listens, short);
    parts.add(!short || !spec.listens.is_empty(), "listen", listen);
    let plane = match spec.plane {
        PlaneChoice::Auto => "auto",
        PlaneChoice::Proxy => "proxy",
        PlaneChoice::Ebpf => "ebpf",
        PlaneChoice::Ipvs => "ipvs",
    };
    parts.add(!short || spec.plane != plain.plane, "plane", text(plane));
    let differs = spec.scheduler != plain.scheduler;
    parts.add(
        !short || differs,
        "scheduler",
        scheduler(&spec.scheduler, short),
    );
    let slow = text(format_duration(spec.slow_start));
    parts.add(!short || !spec.slow_start.is_zero(), "slow-start", slow);
    if let Some(p) = spec.persistence {
        parts.add(true, "persistence", persistence(&p, short));
    }
    if let Some(c) = &spec.cookie {
        parts.add(true, "cookie", cookie(c, short));
    }
    if let Some(c) = &spec.check {
        parts.add(true, "check", check(c, short));
    }
    let differs = spec.timeouts != plain.timeouts;
    parts.add(!short || differs, "timeouts", timeouts(&spec.timeouts));
    let mids = MidStream::NAMES.iter();
    for (name, _) in mids.filter(|(_, mid)| spec.packets.mid_stream == Some(*mid)) {
        parts.add(true, "mid-stream", text(name));
    }
    match spec.packets.mss {
        Some(Mss::Bytes(bytes)) => parts.add(true, "mss", bytes.to_string()),
        Some(mss) => parts.add(true, "mss", text(mss)),
        None => {}
    }
    let differs = spec.sessions != plain.sessions;
    parts.add(
        !short || differs,
        "sessions",
        sessions(&spec.sessions, short),
    );
    parts.add(
        !short || spec.queue != plain.queue,
        "queue",
        spec.queue.to_string(),
    );
    let differs = (spec.retries, spec.retry) != (plain.retries, plain.retry);
    parts.add(!short || differs, "retries", retries(spec, short));
    if let Some(o) = &spec.outlier {
        let mut table = Parts::default();
        table.add(true, "errors", text(o.errors));
        table.add(true, "consecutive", o.consecutive.to_string());
        table.add(true, "time", text(format_duration(o.time)));
        table.add(true, "max-percent", o.max_percent.to_string());
        let value = match short && *o == Outlier::new(o.errors) {
            true => text(o.errors),
            false => table.inline(),
        };
        parts.add(true, "outlier", value);
    }
    let differs = spec.max_body != plain.max_body;
    parts.add(!short || differs, "body-limit", spec.max_body.to_string());
    if let Some(format) = spec.access_log {
        parts.add(true, "access-log", text(access_format(format)));
    }
    let trusted = one_or_many(spec.trusted.iter().map(text).collect(), short);
    parts.add(!short || !spec.trusted.is_empty(), "trusted", trusted);
    clients(&spec.clients, short, &mut parts);
    if let Some(limits) = &spec.limits {
        crate::limits::write(limits, short, &mut parts);
    }
    let accept = &spec.proxy_headers.accept;
    let networks = one_or_many(accept.iter().map(text).collect(), short);
    parts.add(!short || !accept.is_empty(), "accept-proxy", networks);
    crate::options::write(spec, short, &mut parts);
    if let Some(version) = spec.proxy_headers.send {
        parts.add(true, "send-proxy", text(version.as_str()));
    }
    crate::http::write_service(spec.http.as_deref(), &mut parts);
    if let Some(sorry) = &spec.sorry {
        parts.add(true, "sorry", backend(sorry, short));
    }
    if short || service.backends.is_empty() {
        let backends = list(service.backends.values().map(|b| backend(b, short)));
        parts.add(true, "backends", backends);
        return parts.table("[[service]]");
    }
    let mut out = parts.table("[[service]]");
    for b in service.backends.values() {
        out.push_str(&backend_parts(b, short).table("[[service.backends]]"));
    }
    out
}

fn scheduler(scheduler: &Scheduler, short: bool) -> String {
    let kind = text(scheduler.kind);
    let plain = Scheduler {
        kind: scheduler.kind,
        ..Scheduler::default()
    };
    if short && *scheduler == plain {
        return kind;
    }
    let mut parts = Parts::default();
    parts.add(true, "kind", kind);
    let hash = match scheduler.hash {
        HashKey::Source => "source",
        HashKey::SourcePort => "source-port",
    };
    parts.add(true, "hash", text(hash));
    parts.add(true, "table", scheduler.table.to_string());
    parts.add(true, "seed", format!("{:#x}", scheduler.seed));
    parts.add(true, "bound", scheduler.bound.to_string());
    parts.add(true, "decay", text(format_duration(scheduler.decay)));
    parts.inline()
}

fn persistence(persistence: &Persistence, short: bool) -> String {
    let timeout = text(format_duration(persistence.timeout));
    if short && *persistence == Persistence::new(persistence.timeout) {
        return timeout;
    }
    let mut parts = Parts::default();
    parts.add(true, "timeout", timeout);
    parts.add(true, "prefix-v4", persistence.prefix_v4.to_string());
    parts.add(true, "prefix-v6", persistence.prefix_v6.to_string());
    parts.inline()
}

fn cookie(cookie: &Cookie, short: bool) -> String {
    if short && *cookie == Cookie::new(cookie.name.clone(), CookieMode::Insert) {
        return text(&cookie.name);
    }
    let plain = Cookie::new(cookie.name.clone(), cookie.mode);
    let mode = CookieMode::NAMES.iter().find(|(_, m)| *m == cookie.mode);
    let mut parts = Parts::default();
    parts.add(true, "name", text(&cookie.name));
    parts.add(
        !short || cookie.mode != CookieMode::Insert,
        "mode",
        text(mode.unwrap().0),
    );
    for (key, value, usual) in [
        ("indirect", cookie.indirect, plain.indirect),
        ("nocache", cookie.nocache, plain.nocache),
        ("httponly", cookie.httponly, plain.httponly),
        ("secure", cookie.secure, plain.secure),
    ] {
        parts.add(!short || value != usual, key, value.to_string());
    }
    for (key, value) in [("maxidle", cookie.maxidle), ("maxlife", cookie.maxlife)] {
        if let Some(time) = value {
            parts.add(true, key, text(format_duration(time)));
        }
    }
    if let Some(domain) = &cookie.domain {
        parts.add(true, "domain", text(domain));
    }
    parts.add(!short || !cookie.key.is_empty(), "key", text(&cookie.key));
    parts.inline()
}

fn sessions(sessions: &Sessions, short: bool) -> String {
    let limit = sessions.limit;
    let plain = Sessions {
        limit,
        ..Sessions::default()
    };
    if short && *sessions == plain {
        return limit.to_string();
    }
    let mut parts = Parts::default();
    parts.add(true, "limit", limit.to_string());
    parts.add(true, "per-source", sessions.per_source.to_string());
    parts.add(true, "responses", sessions.responses.to_string());
    parts.inline()
}

fn check(check: &Check, short: bool) -> String {
    if short && check.to_string().parse() == Ok(check.clone()) {
        return text(check);
    }
    let mut parts = Parts::default();
    match &check.kind {
        CheckKind::Tcp => parts.add(true, "kind", text("tcp")),
        CheckKind::Http { path, host, status } => {
            parts.add(true, "kind", text("http"));
            parts.add(!short || path.as_str() != "/", "path", text(path));
            if let Some(host) = host {
                parts.add(true, "host", text(host));
            }
            let code = status.to_string();
            match code.parse::<u16>() {
                Ok(_) if short => parts.add(true, "status", code),
                _ => parts.add(true, "status", text(code)),
            }
        }
    }
    parts.add(true, "interval", text(format_duration(check.interval)));
    parts.add(true, "timeout", text(format_duration(check.timeout)));
    parts.add(true, "rise", check.rise.to_string());
    parts.add(true, "fall", check.fall.to_string());
    if let Some(port) = check.port {
        parts.add(true, "port", port.to_string());
    }
    parts.inline()
}

fn timeouts(timeouts: &Timeouts) -> String {
    let mut parts = Parts::default();
    for (key, value) in [
        ("connect", timeouts.connect),
        ("header", timeouts.header),
        ("keepalive", timeouts.keepalive),
        ("queue", timeouts.queue),
        ("response", timeouts.response),
        ("stall", timeouts.stall),
        ("peer", timeouts.peer),
        ("udp", timeouts.udp),
        ("drain", timeouts.drain),
    ] {
        parts.add(true, key, text(format_duration(value)));
    }
    if let Some(idle) = timeouts.idle {
        parts.add(true, "idle", text(format_duration(idle)));
    }
    parts.inline()
}

fn backend(backend: &Backend, short: bool) -> String {
    let plain = Backend::new(backend.addr.clone(), backend.origin.clone());
    match short && *backend == plain {
        true => text(&backend.addr),
        false => backend_parts(backend, short).inline(),
    }
}

fn backend_parts(backend: &Backend, short: bool) -> Parts {
    let mut parts = Parts::default();
    parts.add(true, "address", text(&backend.addr));
    for (key, value) in [
        ("name", &backend.name),
        ("node", &backend.node),
        ("zone", &backend.zone),
    ] {
        parts.add(!short || !value.is_empty(), key, text(value));
    }
    for (key, value, default) in [
        ("weight", backend.weight, 1),
        ("maxconn", backend.maxconn, 0),
        ("upper", backend.upper, 0),
        ("lower", backend.lower, 0),
    ] {
        parts.add(!short || value != default, key, value.to_string());
    }
    parts.add(true, "forward", forward(backend.forward, short));
    if !backend.ports.is_empty() {
        let mut ports = Parts::default();
        for (listen, port) in &backend.ports {
            ports.add(true, &listen.to_string(), port.to_string());
        }
        parts.add(true, "ports", ports.inline());
    }
    let drain = backend.status.state == State::Draining;
    parts.add(!short || drain, "drain", drain.to_string());
    parts
}

fn forward(forward: Forward, short: bool) -> String {
    match forward {
        Forward::Proxy => text("proxy"),
        Forward::Nat => text("nat"),
        Forward::Dr => text("dr"),
        Forward::Tunnel(Tunnel::Ipip) if short => text("tunnel"),
        Forward::Tunnel(Tunnel::Ipip) => "{ tunnel = \"ipip\" }".into(),
        Forward::Tunnel(Tunnel::Gre) => "{ tunnel = \"gre\" }".into(),
        Forward::Tunnel(Tunnel::Gue { port }) => format!("{{ tunnel = \"gue\", port = {port} }}"),
    }
}

fn route(route: &Route, short: bool) -> String {
    let mut parts = Parts::default();
    // A name that holds the path was made from it.
    let made = route.name.as_str().contains(route.path.as_str());
    parts.add(!made, "name", text(&route.name));
    let hosts = route.hosts.iter().map(text).collect();
    parts.add(true, "host", one_or_many(hosts, short));
    parts.add(true, "path", text(&route.path));
    let listens = route.listens.iter().map(text).collect();
    let listen = one_or_many(listens, short);
    parts.add(!short || !route.listens.is_empty(), "listen", listen);
    let priority = route.priority.to_string();
    parts.add(!short || route.priority != 0, "priority", priority);
    let services = route.services.iter().map(|s| weighted(s, short)).collect();
    parts.add(true, "service", one_or_many(services, short));
    crate::http::write_route(route, short, &mut parts);
    parts.table("[[route]]")
}

fn weighted(service: &WeightedService, short: bool) -> String {
    if short && service.weight == 1 {
        return text(&service.service);
    }
    let mut out = String::new();
    let name = text(&service.service);
    write!(out, "{{ service = {name}, weight = {} }}", service.weight).unwrap();
    out
}
