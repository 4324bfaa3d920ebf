//! What people are shown.

use super::*;
use plimsoll_control::status::{AsideStatus, ListenStatus, OriginStatus};

#[test]
fn what_is_put_aside_names_the_container_that_said_it() {
    let aside = |subject: &str, source: &str, entry: &str| AsideStatus {
        subject: subject.into(),
        origin: OriginStatus {
            source: source.into(),
            entry: entry.into(),
        },
        reason: "why".into(),
        since: 10.0,
    };
    let status = Status {
        quarantine: vec![
            aside("service `web`", "file:x.toml", "service web"),
            aside("service `web`", "docker:unix:///x", "container web-1"),
            aside("container web-1", "docker:unix:///x", "container web-1"),
        ],
        ..Status::default()
    };
    let mut text = String::new();
    tail(&mut text, &status, Paint(false));
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(" of ")).collect();
    assert_eq!(
        lines,
        [
            "  container web-1 of docker:unix:///x, 10s",
            "  service `web` of docker:unix:///x (container web-1), 10s",
            "  service `web` of file:x.toml, 10s",
        ]
    );
}

#[test]
fn who_is_overloaded_is_shown() {
    let mut backend = BackendStatus {
        upper: 10,
        ..BackendStatus::default()
    };
    let reason = |backend: &BackendStatus| cells(backend).pop().unwrap().0;
    assert_eq!(reason(&backend), "");
    backend.counters.overloaded = true;
    assert_eq!(reason(&backend), "nothing new until below ¾ of 10");
    backend.lower = 4;
    assert_eq!(reason(&backend), "nothing new until below 4");
}

#[test]
fn who_starts_slowly_is_shown() {
    let mut backend = BackendStatus::default();
    let reason = |backend: &BackendStatus| cells(backend).pop().unwrap().0;
    assert_eq!(reason(&backend), "");
    backend.counters.slow_start = Some(7);
    assert_eq!(reason(&backend), "slow start: 7 % of its share");
    backend.reason = "check passed".into();
    assert_eq!(
        reason(&backend),
        "check passed, slow start: 7 % of its share"
    );
}

fn shown(service: &ServiceStatus) -> String {
    let mut text = String::new();
    show_service(&mut text, service, Paint(false));
    text
}

#[test]
fn who_speaks_the_proxy_protocol_is_shown() {
    let mut service = ServiceStatus::default();
    assert!(!shown(&service).contains("PROXY"));
    service.accept_proxy = vec!["10.0.0.0/24".into(), "fd00::/8".into()];
    service.send_proxy = Some("v2".into());
    let text = shown(&service);
    let words =
        "  PROXY header expected from 10.0.0.0/24, fd00::/8\n  PROXY header v2 to backends\n";
    assert!(text.contains(words), "{text}");
}

#[test]
fn datagrams_that_were_lost_are_shown() {
    let listen = ListenStatus {
        listen: "*:53/udp".into(),
        unsent: 1,
        lost: vec![("backend-gone".into(), 2), ("ending".into(), 3)],
        ..ListenStatus::default()
    };
    let service = ServiceStatus {
        listens: vec![listen],
        ..ServiceStatus::default()
    };
    let text = shown(&service);
    let words = "0 sessions, 1 not sent on, 2 lost (backend-gone), 3 lost (ending)\n";
    assert!(text.contains(words), "{text}");
}

#[test]
fn requests_that_failed_are_shown() {
    let mut service = ServiceStatus {
        total: 10,
        ..ServiceStatus::default()
    };
    assert!(!shown(&service).contains("failed"));
    (service.unserved, service.failed, service.denied) = (1, 2, 3);
    let text = shown(&service);
    let words = "10 in all, 1 that no backend could serve, 2 that failed (502 or 504), 3 denied;";
    assert!(text.contains(words), "{text}");
}
