//! The first setting in which two entries differ, to say it to people. Origins do not count.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::{
    AccessLog, Backend, Check, CheckHost, CheckKind, ClientRules, Cookie, CookieMode, HashKey,
    MidStream, Mss, Origin, PacketRules, Persistence, PlaneChoice, ProxyHeaders, ProxyVersion,
    Route, Scheduler, ServiceSpec, Sessions, Timeouts,
};

use super::words::{self, time};

mod http;
mod limits;
mod options;

/// A setting with two values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    setting: &'static str,
    first: String,
    second: String,
}

/// Why the first of two comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// By the order of sources and keys.
    ByOrder,
    /// It has a ready backend.
    Ready,
    /// Its services have backends that are not draining.
    Staffed,
}

impl Difference {
    /// Why what `second` says is put aside for what `first` says, in the words of the second.
    pub(super) fn reason(
        &self,
        first: &Origin,
        second: &Origin,
        why: First,
        labels: bool,
    ) -> String {
        match labels {
            true => self.of_labels(first, second, why),
            false => self.of_keys(first, why),
        }
    }

    fn of_keys(&self, first: &Origin, why: First) -> String {
        let because = match why {
            First::ByOrder => "",
            First::Ready => " because it has a ready backend",
            First::Staffed => " because its services have backends that are not draining",
        };
        format!(
            "`{}` is {} here but {} in {first}, which comes first{because}: make them equal or \
             rename one",
            self.setting, self.second, self.first
        )
    }

    fn of_labels(&self, first: &Origin, second: &Origin, why: First) -> String {
        let because = match why {
            First::ByOrder if first.source == second.source => " because it is older",
            First::ByOrder => "",
            First::Ready => " because it can serve",
            First::Staffed => " because its backends are not draining",
        };
        format!(
            "{} is {} here but {} in {}, which decides{because}: make them equal, or give one of \
             them another plimsoll.service",
            words::label(self.setting),
            quoted(&self.second),
            quoted(&self.first),
            words::who(first, second),
        )
    }
}

/// What is shown of a setting that is not there.
const NONE: &str = "none";
/// What is shown of a setting of a check that each backend has.
const OF_BACKEND: &str = "that of the backend";

fn quoted(value: &str) -> String {
    match value {
        NONE | OF_BACKEND => value.into(),
        value => format!("`{value}`"),
    }
}

fn differ<T: PartialEq>(
    setting: &'static str,
    first: &T,
    second: &T,
    show: impl Fn(&T) -> String,
) -> Option<Difference> {
    (first != second).then(|| Difference {
        setting,
        first: show(first),
        second: show(second),
    })
}

fn list<T: Display>(values: &[T]) -> String {
    let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
    match texts.is_empty() {
        true => NONE.into(),
        false => texts.join(", "),
    }
}

/// The first setting in which two services of one name differ.
pub(super) fn of_specs(first: &ServiceSpec, second: &ServiceSpec) -> Option<Difference> {
    let ServiceSpec {
        name: _,
        origin: _,
        listens,
        vips,
        plane,
        scheduler,
        slow_start,
        persistence,
        cookie,
        check,
        timeouts,
        queue,
        retries,
        retry,
        outlier,
        trusted,
        clients,
        limits,
        proxy_headers,
        listen_options,
        to_backends,
        access_log,
        packets,
        sorry,
        max_body,
        http,
        sessions,
    } = first;
    None.or_else(|| differ("listen", listens, &second.listens, |v| list(v)))
        .or_else(|| differ("vip", vips, &second.vips, |v| list(v)))
        .or_else(|| differ("plane", plane, &second.plane, plane_name))
        .or_else(|| of_schedulers(scheduler, &second.scheduler))
        .or_else(|| differ("slow-start", slow_start, &second.slow_start, time))
        .or_else(|| of_persistences(persistence.as_ref(), second.persistence.as_ref()))
        .or_else(|| of_cookies(cookie.as_ref(), second.cookie.as_ref()))
        .or_else(|| of_checks(check.as_ref(), second.check.as_ref()))
        .or_else(|| of_timeouts(timeouts, &second.timeouts))
        .or_else(|| of_packets(packets, &second.packets))
        .or_else(|| of_sessions(sessions, &second.sessions))
        .or_else(|| differ("queue", queue, &second.queue, ToString::to_string))
        .or_else(|| differ("retries", retries, &second.retries, ToString::to_string))
        .or_else(|| http::of_retries(retry, &second.retry))
        .or_else(|| http::of_outliers(outlier.as_ref(), second.outlier.as_ref()))
        .or_else(|| {
            differ(
                "body-limit",
                max_body,
                &second.max_body,
                ToString::to_string,
            )
        })
        .or_else(|| differ("trusted", trusted, &second.trusted, |v| list(v)))
        .or_else(|| of_clients(clients, &second.clients))
        .or_else(|| limits::of_limits(limits.as_ref(), second.limits.as_ref()))
        .or_else(|| of_proxy_headers(proxy_headers, &second.proxy_headers))
        .or_else(|| {
            options::of_listens(listen_options.as_deref(), second.listen_options.as_deref())
        })
        .or_else(|| options::of_ways(to_backends.as_deref(), second.to_backends.as_deref()))
        .or_else(|| {
            let show = |log: &Option<AccessLog>| log.map_or(NONE, AccessLog::as_str).to_owned();
            differ("access-log", access_log, &second.access_log, show)
        })
        .or_else(|| {
            let show = |sorry: &Option<Backend>| match sorry {
                Some(backend) => backend.addr.to_string(),
                None => NONE.into(),
            };
            differ("sorry", &bare(sorry), &bare(&second.sorry), show)
        })
        .or_else(|| http::of_services(http.as_deref(), second.http.as_deref()))
}

fn plane_name(plane: &PlaneChoice) -> String {
    let name = match plane {
        PlaneChoice::Auto => "auto",
        PlaneChoice::Proxy => "proxy",
        PlaneChoice::Ebpf => "ebpf",
        PlaneChoice::Ipvs => "ipvs",
    };
    name.into()
}

fn of_clients(first: &ClientRules, second: &ClientRules) -> Option<Difference> {
    let ClientRules { allow, deny } = first;
    differ("allow", allow, &second.allow, |v| list(v))
        .or_else(|| differ("deny", deny, &second.deny, |v| list(v)))
}

fn of_proxy_headers(first: &ProxyHeaders, second: &ProxyHeaders) -> Option<Difference> {
    let ProxyHeaders { accept, send } = first;
    let show = |send: &Option<ProxyVersion>| send.map_or(NONE, ProxyVersion::as_str).to_owned();
    differ("accept-proxy", accept, &second.accept, |v| list(v))
        .or_else(|| differ("send-proxy", send, &second.send, show))
}

fn of_schedulers(first: &Scheduler, second: &Scheduler) -> Option<Difference> {
    let Scheduler {
        kind,
        hash,
        table,
        seed,
        bound,
        decay,
    } = first;
    let hash_name = |hash: &HashKey| match hash {
        HashKey::Source => "source".into(),
        HashKey::SourcePort => "source-port".into(),
    };
    None.or_else(|| differ("scheduler", kind, &second.kind, ToString::to_string))
        .or_else(|| differ("scheduler.hash", hash, &second.hash, hash_name))
        .or_else(|| differ("scheduler.table", table, &second.table, ToString::to_string))
        .or_else(|| differ("scheduler.seed", seed, &second.seed, ToString::to_string))
        .or_else(|| differ("scheduler.bound", bound, &second.bound, ToString::to_string))
        .or_else(|| differ("scheduler.decay", decay, &second.decay, time))
}

fn of_cookies(first: Option<&Cookie>, second: Option<&Cookie>) -> Option<Difference> {
    let (Some(a), Some(b)) = (first, second) else {
        let show = |c: &Option<&Cookie>| c.map_or(NONE.into(), |c| c.name.to_string());
        return differ("cookie", &first, &second, show);
    };
    let Cookie {
        name,
        mode,
        indirect,
        nocache,
        httponly,
        secure,
        domain,
        maxidle,
        maxlife,
        key,
    } = a;
    let mode_name = |mode: &CookieMode| {
        let mut names = CookieMode::NAMES.iter();
        let found = names.find(|(_, m)| m == mode);
        found.map_or(String::new(), |(name, _)| (*name).into())
    };
    let truth = |is: &bool| is.to_string();
    let text = |text: &Option<Arc<str>>| text.as_deref().unwrap_or(NONE).to_owned();
    let limit = |limit: &Option<Duration>| limit.as_ref().map_or(NONE.into(), time);
    // A key is not for others to see.
    let hidden = |key: &Arc<str>| if key.is_empty() { NONE } else { "another one" }.into();
    None.or_else(|| differ("cookie", name, &b.name, ToString::to_string))
        .or_else(|| differ("cookie.mode", mode, &b.mode, mode_name))
        .or_else(|| differ("cookie.indirect", indirect, &b.indirect, truth))
        .or_else(|| differ("cookie.nocache", nocache, &b.nocache, truth))
        .or_else(|| differ("cookie.httponly", httponly, &b.httponly, truth))
        .or_else(|| differ("cookie.secure", secure, &b.secure, truth))
        .or_else(|| differ("cookie.domain", domain, &b.domain, text))
        .or_else(|| differ("cookie.maxidle", maxidle, &b.maxidle, limit))
        .or_else(|| differ("cookie.maxlife", maxlife, &b.maxlife, limit))
        .or_else(|| differ("cookie.key", key, &b.key, hidden))
}

fn of_persistences(
    first: Option<&Persistence>,
    second: Option<&Persistence>,
) -> Option<Difference> {
    let (Some(a), Some(b)) = (first, second) else {
        let show = |p: &Option<&Persistence>| p.map_or(NONE.into(), |p| time(&p.timeout));
        return differ("persistence", &first, &second, show);
    };
    let Persistence {
        timeout,
        prefix_v4,
        prefix_v6,
    } = a;
    let number = |n: &u8| n.to_string();
    None.or_else(|| differ("persistence", timeout, &b.timeout, time))
        .or_else(|| differ("persistence.prefix-v4", prefix_v4, &b.prefix_v4, number))
        .or_else(|| differ("persistence.prefix-v6", prefix_v6, &b.prefix_v6, number))
}

/// A backend whose origin is that of no one.
fn bare(backend: &Option<Backend>) -> Option<Backend> {
    backend.clone().map(|backend| Backend {
        origin: Origin::new("", ""),
        ..backend
    })
}

fn of_checks(first: Option<&Check>, second: Option<&Check>) -> Option<Difference> {
    let (Some(a), Some(b)) = (first, second) else {
        let show = |check: &Option<&Check>| check.map_or(NONE.into(), ToString::to_string);
        return differ("check", &first, &second, show);
    };
    let Check {
        kind,
        interval,
        timeout,
        rise,
        fall,
        port,
    } = a;
    None.or_else(|| {
        let (a, b) = (kind.to_string(), b.kind.to_string());
        differ("check", &a, &b, String::clone)
    })
    .or_else(|| of_kinds(kind, &b.kind))
    .or_else(|| differ("check.interval", interval, &b.interval, time))
    .or_else(|| differ("check.timeout", timeout, &b.timeout, time))
    .or_else(|| differ("check.rise", rise, &b.rise, ToString::to_string))
    .or_else(|| differ("check.fall", fall, &b.fall, ToString::to_string))
    .or_else(|| {
        let show = |port: &Option<u16>| match port {
            Some(port) => port.to_string(),
            None => OF_BACKEND.into(),
        };
        differ("check.port", port, &b.port, show)
    })
}

/// The first setting in which two checks that look the same differ.
fn of_kinds(first: &CheckKind, second: &CheckKind) -> Option<Difference> {
    let (
        CheckKind::Http { host, status, .. },
        CheckKind::Http {
            host: h, status: s, ..
        },
    ) = (first, second)
    else {
        return None;
    };
    let show = |host: &Option<CheckHost>| match host {
        Some(host) => host.to_string(),
        None => OF_BACKEND.into(),
    };
    differ("check.host", host, h, show)
        .or_else(|| differ("check.status", status, s, ToString::to_string))
}

fn of_timeouts(first: &Timeouts, second: &Timeouts) -> Option<Difference> {
    let Timeouts {
        connect,
        header,
        keepalive,
        queue,
        response,
        stall,
        idle,
        peer,
        udp,
        drain,
    } = first;
    let or_default = |idle: &Option<Duration>| idle.as_ref().map_or_else(|| NONE.to_owned(), time);
    None.or_else(|| differ("timeouts.connect", connect, &second.connect, time))
        .or_else(|| differ("timeouts.header", header, &second.header, time))
        .or_else(|| differ("timeouts.keepalive", keepalive, &second.keepalive, time))
        .or_else(|| differ("timeouts.queue", queue, &second.queue, time))
        .or_else(|| differ("timeouts.response", response, &second.response, time))
        .or_else(|| differ("timeouts.stall", stall, &second.stall, time))
        .or_else(|| differ("timeouts.idle", idle, &second.idle, or_default))
        .or_else(|| differ("timeouts.peer", peer, &second.peer, time))
        .or_else(|| differ("timeouts.udp", udp, &second.udp, time))
        .or_else(|| differ("timeouts.drain", drain, &second.drain, time))
}

fn of_packets(first: &PacketRules, second: &PacketRules) -> Option<Difference> {
    let PacketRules { mid_stream, mss } = first;
    let mid = |m: &Option<MidStream>| {
        let named = MidStream::NAMES
            .iter()
            .find(|(_, named)| Some(named) == m.as_ref());
        named.map_or(NONE, |(name, _)| name).to_owned()
    };
    let size = |m: &Option<Mss>| m.map_or_else(|| NONE.to_owned(), |m| m.to_string());
    None.or_else(|| differ("mid-stream", mid_stream, &second.mid_stream, mid))
        .or_else(|| differ("mss", mss, &second.mss, size))
}

fn of_sessions(first: &Sessions, second: &Sessions) -> Option<Difference> {
    let Sessions {
        limit,
        per_source,
        responses,
    } = first;
    let number = |n: &u32| n.to_string();
    None.or_else(|| differ("sessions", limit, &second.limit, number))
        .or_else(|| {
            differ(
                "sessions.per-source",
                per_source,
                &second.per_source,
                number,
            )
        })
        .or_else(|| differ("sessions.responses", responses, &second.responses, number))
}

/// The first setting in which two routes of one name differ.
pub(super) fn of_routes(first: &Route, second: &Route) -> Option<Difference> {
    let Route {
        name: _,
        origin: _,
        hosts,
        path,
        listens,
        priority,
        services,
        http,
    } = first;
    None.or_else(|| differ("host", hosts, &second.hosts, |v| list(v)))
        .or_else(|| differ("path", path, &second.path, ToString::to_string))
        .or_else(|| differ("listen", listens, &second.listens, |v| list(v)))
        .or_else(|| differ("priority", priority, &second.priority, ToString::to_string))
        .or_else(|| {
            differ("service", services, &second.services, |services| {
                let texts: Vec<String> = services
                    .iter()
                    .map(|s| format!("{} ({})", s.service, s.weight))
                    .collect();
                texts.join(", ")
            })
        })
        .or_else(|| http::of_routes(http.as_deref(), second.http.as_deref()))
}
