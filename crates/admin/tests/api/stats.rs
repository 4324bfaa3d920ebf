//! What the socket that speaks as HAProxy's shows.

use plimsoll_admin::Report;
use plimsoll_admin::haproxy::{Book, COLUMNS, Filter, Hidden, Request, read_line, render_csv};
use plimsoll_control::Halt;
use plimsoll_control::status::{BackendStatus, Rates, ServiceStatus};
use proptest::prelude::*;

use crate::report;

/// The lines of `show stat` by column, without the header.
fn stat(report: &Report, filter: &Filter) -> Vec<Vec<String>> {
    let mut book = Book::default();
    book.update(&report.status);
    let text = render_csv(report, &book, filter).unwrap();
    let mut lines = text.lines();
    let header = format!("# {},", COLUMNS.join(","));
    assert_eq!(lines.next(), Some(header.as_str()));
    lines.map(cells).collect()
}

/// The cells of a line; quotes may hold commas.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            c => cells.last_mut().unwrap().push(c),
        }
    }
    assert!(!quoted, "{line}");
    assert_eq!(cells.len(), COLUMNS.len() + 1, "{line}");
    assert_eq!(cells.pop().unwrap(), "", "{line}");
    cells
}

fn cell<'a>(line: &'a [String], column: &str) -> &'a str {
    let at = COLUMNS.iter().position(|name| *name == column).unwrap();
    &line[at]
}

/// The line of a server, the frontend or the backend with this name.
fn line<'a>(lines: &'a [Vec<String>], pxname: &str, svname: &str) -> &'a [String] {
    let found = lines
        .iter()
        .find(|l| cell(l, "pxname") == pxname && cell(l, "svname") == svname);
    found.unwrap_or_else(|| panic!("no {pxname}/{svname} in {lines:?}"))
}

#[test]
fn the_counts_are_in_their_columns_and_nothing_else_is() {
    let mut report = report();
    for service in &mut report.status.services {
        service.listens[0].refused.push((401, 2));
    }
    let web = &mut report.status.services[1];
    web.checked = true;
    web.denied = 7;
    web.rates = Some(Rates {
        requests: 32.6,
        ..Rates::default()
    });
    let backend = &mut web.backends[0];
    backend.maxconn = 20;
    backend.since = 7.9;
    backend.counters.queued = 5;
    backend.counters.bytes_in = 11;
    backend.counters.bytes_out = 12;
    backend.counters.connections = 13;
    backend.counters.connect_failures = 14;
    backend.counters.failures = 15;
    backend.counters.retries = 16;
    let lines = stat(&report, &Filter::default());
    let check = |line: &[String], right: &[(&str, &str)]| {
        for (column, value) in COLUMNS.iter().zip(line) {
            let right = right.iter().find(|(name, _)| name == column);
            assert_eq!(value, right.map_or("", |(_, value)| value), "{column}");
        }
    };
    check(
        line(&lines, "any:80-http", "FRONTEND"),
        &[
            ("pxname", "any:80-http"),
            ("svname", "FRONTEND"),
            ("scur", "7"),
            ("stot", "9"),
            ("dreq", "2"),
            ("ereq", "6"),
            ("status", "OPEN"),
            ("pid", "1"),
            ("iid", "3"),
            ("sid", "0"),
            ("type", "0"),
            ("req_tot", "16"),
            ("mode", "http"),
            ("conn_tot", "9"),
        ],
    );
    check(
        line(&lines, "web", "10.0.0.1:80"),
        &[
            ("pxname", "web"),
            ("svname", "10.0.0.1:80"),
            ("qcur", "5"),
            ("scur", "4"),
            ("slim", "20"),
            ("stot", "100"),
            ("bin", "11"),
            ("bout", "12"),
            ("econ", "14"),
            ("eresp", "15"),
            ("wredis", "16"),
            ("status", "UP"),
            ("weight", "3"),
            ("act", "1"),
            ("bck", "0"),
            ("lastchg", "7"),
            ("pid", "1"),
            ("iid", "2"),
            ("sid", "1"),
            ("lbtot", "100"),
            ("type", "2"),
            ("hrsp_1xx", "1"),
            ("hrsp_2xx", "90"),
            ("hrsp_3xx", "2"),
            ("hrsp_4xx", "3"),
            ("hrsp_5xx", "4"),
            ("req_tot", "100"),
            ("addr", "10.0.0.1:80"),
            ("mode", "http"),
            ("connect", "13"),
            ("uweight", "3"),
        ],
    );
    let sum = line(&lines, "web", "BACKEND");
    for (column, value) in [
        ("scur", "8"),
        ("stot", "200"),
        ("dreq", "7"),
        ("econ", "14"),
        ("status", "UP"),
        ("weight", "3"),
        ("act", "1"),
        ("rate", "33"),
        ("hrsp_2xx", "180"),
        ("type", "1"),
    ] {
        assert_eq!(cell(sum, column), value, "{column}");
    }
    let empty = line(&lines, "api", "BACKEND");
    assert_eq!((cell(empty, "status"), cell(empty, "act")), ("DOWN", "0"));
}

#[test]
fn the_words_for_states_are_those_of_haproxy() {
    let mut report = report();
    let states = [
        ("ready", None, true, "UP"),
        ("ready", None, false, "no check"),
        ("starting", None, true, "DOWN"),
        ("down", None, false, "DOWN"),
        ("draining", None, true, "NOLB"),
        ("draining", Some(Halt::Drain), true, "DRAIN"),
        ("draining", Some(Halt::Maintenance), false, "MAINT"),
    ];
    for (state, halted, checked, word) in states {
        let web = &mut report.status.services[1];
        web.checked = checked;
        web.backends[0].state = state.into();
        web.backends[0].halted = halted;
        let lines = stat(&report, &Filter::default());
        let status = cell(line(&lines, "web", "10.0.0.1:80"), "status").to_owned();
        assert_eq!(status, word, "{state} {halted:?}");
        let shown = |hidden| {
            let filter = Filter {
                kinds: 4,
                server: 1,
                hidden,
                ..Filter::default()
            };
            stat(&report, &filter).len()
        };
        assert_eq!(shown(Hidden::None), 1);
        assert_eq!(shown(Hidden::Down) == 1, state == "ready", "{state}");
        assert_eq!(shown(Hidden::Maintenance) == 1, word != "MAINT");
    }
    report.status.services[1].listens[0].error = Some("in use".into());
    let lines = stat(&report, &Filter::default());
    assert_eq!(
        cell(line(&lines, "any:80-http", "FRONTEND"), "status"),
        "STOP"
    );
}

#[test]
fn filters_by_proxy_kind_and_server() {
    let report = report();
    let names = |text: &str| {
        let Ok(Request::Stat(filter)) = read_line(text.as_bytes()).remove(0) else {
            panic!("{text}");
        };
        let lines = stat(&report, &filter);
        let names = lines.iter().map(|l| cell(l, "svname").to_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    let other = "unix:-run-a_b_c_d.sock";
    assert_eq!(names("show stat web 4 -1"), format!("10.0.0.1:80 {other}"));
    assert_eq!(
        names("show stat 2 -1 -1"),
        format!("10.0.0.1:80 {other} BACKEND")
    );
    assert_eq!(names("show stat 2 4 2"), other);
    assert_eq!(names("show stat -1 1 -1"), "FRONTEND");
    assert_eq!(names("show stat -1 3 -1"), "FRONTEND BACKEND BACKEND");
    assert_eq!(names("show stat -1 8 -1"), "");
    let book = Book::default();
    let none = Filter {
        proxy: Some("nope".into()),
        ..Filter::default()
    };
    assert_eq!(
        render_csv(&report, &book, &none),
        Err("No such proxy.".into())
    );
}

#[test]
fn slow_starts_and_schedulers_are_called_as_in_haproxy() {
    let mut report = report();
    let algorithms = [
        ("rr", "roundrobin"),
        ("wrr", "roundrobin"),
        ("lc", "leastconn"),
        ("wlc", "leastconn"),
        ("sh", "source"),
        ("mh", "source"),
        ("ring", "source"),
        ("first", "first"),
        ("random", "random"),
        ("twos", "random"),
        ("nq", "nq"),
    ];
    for (ours, theirs) in algorithms {
        report.status.services[1].scheduler = ours.into();
        let lines = stat(&report, &Filter::default());
        assert_eq!(cell(line(&lines, "web", "BACKEND"), "algo"), theirs);
    }
    for (percent, shown) in [(None, ""), (Some(0), "0"), (Some(99), "99")] {
        let web = &mut report.status.services[1];
        web.backends[0].counters.slow_start = percent;
        let lines = stat(&report, &Filter::default());
        let throttle = cell(line(&lines, "web", "10.0.0.1:80"), "throttle");
        assert_eq!(throttle, shown);
    }
}

/// A report of one service with these backends: addresses and names.
pub(crate) fn service_of(backends: &[(String, String)]) -> Report {
    let backends = backends.iter().map(|(addr, name)| BackendStatus {
        addr: addr.clone(),
        name: name.clone(),
        state: "ready".into(),
        reason: name.clone(),
        ..BackendStatus::default()
    });
    let mut report = Report::default();
    report.status.services = vec![ServiceStatus {
        name: "web".into(),
        backends: backends.collect(),
        ..ServiceStatus::default()
    }];
    report
}

proptest! {
    #[test]
    fn names_and_numbers_are_unique_and_stay(
        steps in proptest::collection::vec(
            proptest::collection::btree_map(
                0u8..12,
                prop_oneof![
                    Just(String::new()), Just("a".into()), Just("BACKEND".into()),
                    Just("a,\"\n".into()), Just("10.0.0.1:80".into()), ".{0,6}",
                ],
                0..8,
            ),
            1..8,
        )
    ) {
        let mut book = Book::default();
        let mut before: Vec<(String, String, String, String)> = Vec::new();
        let mut given: Vec<(String, String)> = Vec::new();
        for step in steps {
            let backends: Vec<(String, String)> = (step.into_iter())
                .map(|(n, name)| (format!("10.0.0.{n}:80"), name))
                .collect();
            let report = service_of(&backends);
            book.update(&report.status);
            let filter = Filter { kinds: 4, ..Filter::default() };
            let text = render_csv(&report, &book, &filter).unwrap();
            let lines: Vec<Vec<String>> = text.lines().skip(1).map(cells).collect();
            prop_assert_eq!(lines.len(), backends.len());
            let mut now = Vec::new();
            for (line, (addr, source)) in lines.iter().zip(&backends) {
                let (name, sid) = (cell(line, "svname").to_owned(), cell(line, "sid").to_owned());
                prop_assert!(!name.is_empty() && name != "BACKEND" && name != "FRONTEND");
                let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
                prop_assert!(name.chars().all(plain), "{}", name);
                prop_assert_eq!(cell(line, "addr"), addr.as_str());
                let old = given.iter().find(|(known, _)| *known == sid);
                prop_assert!(old.is_none_or(|(_, known)| known == addr), "{} is given twice", sid);
                given.push((sid.clone(), addr.clone()));
                let kept = before.iter().find(|(a, s, ..)| (a, s) == (addr, source));
                if let Some((_, _, old, number)) = kept {
                    prop_assert_eq!((old, number), (&name, &sid), "{} has changed", addr);
                }
                now.push((addr.clone(), source.clone(), name, sid));
            }
            let mut names: Vec<&String> = now.iter().map(|(_, _, name, _)| name).collect();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), now.len());
            before = now;
        }
    }
}
