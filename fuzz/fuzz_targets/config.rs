//! Any text is read, or refused at places that are in it; what is read is valid.
//!
//! On stable: `cargo fuzz run -s none config -- -max_total_time=60`.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use plimsoll_config::{
    Config, Diagnostic, Files, MAX_DIAGNOSTICS, named_files, parse, parse_with, render,
};

fuzz_target!(|text: &str| {
    let names = named_files(text);
    assert!(names.len() <= Files::MAX);
    let are_unique = names.iter().collect::<BTreeSet<_>>().len() == names.len();
    assert!(are_unique, "{names:?}");
    let good = Files::read(names.clone(), |_| Ok("a page".into()));
    match parse("file:x", text) {
        Ok(config) => {
            valid(&config);
            valid(&parse_with("file:x", text, &good).expect("what is valid without its files"));
        }
        Err(errors) => placed(text, &errors),
    }
    if !names.is_empty() {
        let bad = Files::read(names, |name| Err(format!("{name}: is not there")));
        placed(text, &parse_with("file:x", text, &bad).unwrap_err());
    }
});

fn valid(config: &Config) {
    let mut names = BTreeSet::new();
    let mut reached = BTreeSet::new();
    let mut names_of_routes = BTreeSet::new();
    for route in &config.routes {
        route.validate().expect("a valid route");
        assert!(names_of_routes.insert(&route.name), "{}", route.name);
        reached.extend(route.services.iter().map(|s| &s.service));
    }
    for (i, service) in config.services.iter().enumerate() {
        service.validate().expect("a valid service");
        assert!(names.insert(service.name()), "{}", service.name());
        assert!(!service.spec.listens.is_empty() || reached.contains(service.name()));
        for other in config.services.iter().skip(i + 1) {
            for (a, b) in service
                .spec
                .listens
                .iter()
                .flat_map(|a| other.spec.listens.iter().map(move |b| (a, b)))
            {
                assert!(!a.conflicts(b) || (a == b && a.is_http()), "{a} {b}");
            }
        }
    }
    assert!(reached.is_subset(&names));
}

fn placed(text: &str, errors: &[Diagnostic]) {
    assert!(!errors.is_empty() && errors.len() <= MAX_DIAGNOSTICS);
    assert!(errors.is_sorted_by_key(|e| e.span.start));
    for error in errors {
        assert!(text.get(error.span.clone()).is_some(), "{error:?}");
        assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty());
        let line = error.to_string();
        assert!(!line.contains(['\n', '\r', '\u{1b}']), "{line:?}");
        assert!(line.len() < 4096, "{line:?}");
    }
    let shown = render("f", text, errors);
    assert!(!shown.contains(['\r', '\u{1b}']));
}
