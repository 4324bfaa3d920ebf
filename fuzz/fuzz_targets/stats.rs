//! The stats socket: a line is always answered, and whatever things are called, each has a line of
//! as many columns as the header, and a name of its own that is printable.
//!
//! On stable: `cargo fuzz run -s none stats -- -max_total_time=60`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll_admin::Report;
use plimsoll_admin::haproxy::{Book, COLUMNS, Filter, Request, read_line, render_csv};
use plimsoll_control::status::{BackendStatus, ListenStatus, ServiceStatus};

fuzz_target!(|bytes: &[u8]| {
    let mut filters = vec![Filter::default()];
    for line in bytes.split(|byte| *byte == b'\n') {
        let answers = read_line(line);
        assert!(!answers.is_empty());
        for answer in answers {
            match answer {
                Ok(Request::Stat(filter)) => filters.push(filter),
                Ok(_) => {}
                Err(why) => assert!(!why.is_empty() && !why.ends_with('\n')),
            }
        }
    }
    let report = report(&String::from_utf8_lossy(bytes));
    let mut book = Book::default();
    book.update(&report.status);
    for filter in filters {
        let Ok(text) = render_csv(&report, &book, &filter) else {
            continue;
        };
        let mut names = Vec::new();
        for line in text.lines().skip(1) {
            let (columns, name) = look(line);
            assert_eq!(columns, COLUMNS.len() + 1, "{line}");
            names.push(name);
        }
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all, "{text}");
    }
});

/// How many columns a line has, and what it is about.
fn look(line: &str) -> (usize, String) {
    let mut quoted = false;
    let mut commas = 0;
    let mut name = String::new();
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => commas += 1,
            _ => {}
        }
        if commas < 2 {
            assert!(c.is_ascii_alphanumeric() || "_-.:,".contains(c), "{line}");
            name.push(c);
        }
    }
    assert!(!quoted, "{line}");
    (commas + 1, name)
}

/// Services, listens and backends that are called like the lines of a text.
fn report(text: &str) -> Report {
    let mut report = Report::default();
    let services = &mut report.status.services;
    for name in text.lines().take(32) {
        let (first, rest) = name.split_once(' ').unwrap_or((name, ""));
        if services.iter().all(|service| service.name != first) {
            services.push(ServiceStatus {
                name: first.into(),
                listens: vec![ListenStatus {
                    listen: rest.into(),
                    ..ListenStatus::default()
                }],
                ..ServiceStatus::default()
            });
        }
        if let Some(service) = services.last_mut()
            && service.backends.iter().all(|backend| backend.addr != name)
        {
            service.backends.push(BackendStatus {
                addr: name.into(),
                name: rest.into(),
                reason: name.into(),
                state: "down".into(),
                ..BackendStatus::default()
            });
        }
    }
    report
}
