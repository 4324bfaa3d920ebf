//! The first setting in which two entries differ, to say it to people. Origins do not count.

use std::fmt::{Debug, Display};

use plimsoll_model::{Backend, Check, CheckHost, CheckKind, Origin, Route, ServiceSpec, Timeouts};

/// A setting with two values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    setting: &'static str,
    first: String,
    second: String,
}

impl Difference {
    /// Why the second is put aside. `because` says why `first` comes first, from its blank on;
    /// empty where that needs no word.
    pub(super) fn reason(&self, first: &Origin, because: &str) -> String {
        format!(
            "`{}` is {} here but {} in {first}, which comes first{because}: make them equal or \
             rename one",
            self.setting, self.second, self.first
        )
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

fn debug<T: Debug>(value: &T) -> String {
    format!("{value:?}")
}

fn list<T: Display>(values: &[T]) -> String {
    let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
    format!("[{}]", texts.join(", "))
}

/// The first setting in which two services of one name differ.
pub(super) fn of_specs(first: &ServiceSpec, second: &ServiceSpec) -> Option<Difference> {
    let ServiceSpec {
        name: _,
        origin: _,
        listens,
        plane,
        scheduler,
        persistence,
        check,
        timeouts,
        queue,
        retries,
        trusted,
        sorry,
        max_body,
    } = first;
    None.or_else(|| differ("listen", listens, &second.listens, |v| list(v)))
        .or_else(|| differ("plane", plane, &second.plane, debug))
        .or_else(|| {
            let (a, b) = (&scheduler.kind, &second.scheduler.kind);
            differ("scheduler", a, b, ToString::to_string)
        })
        .or_else(|| differ("scheduler settings", scheduler, &second.scheduler, debug))
        .or_else(|| differ("persistence", persistence, &second.persistence, debug))
        .or_else(|| of_checks(check.as_ref(), second.check.as_ref()))
        .or_else(|| of_timeouts(timeouts, &second.timeouts))
        .or_else(|| differ("queue", queue, &second.queue, debug))
        .or_else(|| differ("retries", retries, &second.retries, debug))
        .or_else(|| differ("body-limit", max_body, &second.max_body, debug))
        .or_else(|| differ("trusted", trusted, &second.trusted, |v| list(v)))
        .or_else(|| {
            let show = |sorry: &Option<Backend>| match sorry {
                Some(backend) => backend.addr.to_string(),
                None => "none".into(),
            };
            differ("sorry", &bare(sorry), &bare(&second.sorry), show)
        })
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
        let show = |check: &Option<&Check>| check.map_or("none".into(), ToString::to_string);
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
    .or_else(|| differ("check.interval", interval, &b.interval, debug))
    .or_else(|| differ("check.timeout", timeout, &b.timeout, debug))
    .or_else(|| differ("check.rise", rise, &b.rise, debug))
    .or_else(|| differ("check.fall", fall, &b.fall, debug))
    .or_else(|| {
        let show = |port: &Option<u16>| match port {
            Some(port) => port.to_string(),
            None => "that of the backend".into(),
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
        None => "that of the backend".into(),
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
        idle,
        drain,
    } = first;
    None.or_else(|| differ("timeouts.connect", connect, &second.connect, debug))
        .or_else(|| differ("timeouts.header", header, &second.header, debug))
        .or_else(|| differ("timeouts.keepalive", keepalive, &second.keepalive, debug))
        .or_else(|| differ("timeouts.queue", queue, &second.queue, debug))
        .or_else(|| differ("timeouts.response", response, &second.response, debug))
        .or_else(|| differ("timeouts.idle", idle, &second.idle, debug))
        .or_else(|| differ("timeouts.drain", drain, &second.drain, debug))
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
    } = first;
    None.or_else(|| differ("host", hosts, &second.hosts, |v| list(v)))
        .or_else(|| differ("path", path, &second.path, ToString::to_string))
        .or_else(|| differ("listen", listens, &second.listens, |v| list(v)))
        .or_else(|| differ("priority", priority, &second.priority, debug))
        .or_else(|| {
            differ("service", services, &second.services, |services| {
                let texts: Vec<String> = services
                    .iter()
                    .map(|s| format!("{} ({})", s.service, s.weight))
                    .collect();
                texts.join(", ")
            })
        })
}
