//! What the tests of errors share.
#![allow(clippy::panic, dead_code, reason = "tests; each uses a part")]

use plimsoll_config::{Diagnostic, parse, render};

/// The diagnostics of a text that is wrong.
pub(crate) fn errors(text: &str) -> Vec<Diagnostic> {
    match parse("file:x", text) {
        Ok(config) => panic!("no error in\n{text}\n{config:?}"),
        Err(errors) => errors,
    }
}

/// Checks all diagnostics of a text. Each is wanted as `LINE:COLUMN: KEY: MESSAGE`, and after a
/// ` … ` what was meant; what was expected goes in between and is not repeated here, but must be
/// said unless the message is a syntax error or has it.
#[track_caller]
pub(crate) fn check(text: &str, wanted: &[&str]) {
    let errors = errors(text);
    let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), wanted.len(), "{said:#?}\nof\n{text}");
    for (said, wanted) in said.iter().zip(wanted) {
        let (place, meant) = wanted.split_once(" … ").unwrap_or((wanted, ""));
        assert!(
            said.starts_with(&format!("{place};")) || said == place,
            "{said}\n{wanted}"
        );
        assert!(said.ends_with(meant), "{said}\n{wanted}");
        assert_eq!(
            said.contains("; did you mean"),
            !meant.is_empty(),
            "{said}\n{wanted}"
        );
    }
    for error in &errors {
        let syntax = error.message.starts_with("syntax error");
        assert!(syntax || !error.expected.is_empty(), "{error}");
        // The place is the one in the text, whichever way it is told.
        let before = text
            .get(..error.span.start)
            .unwrap_or_else(|| panic!("{error:?}"));
        assert_eq!(error.line, before.matches('\n').count() + 1, "{error}");
        assert!(error.span.end <= text.len(), "{error:?}");
    }
    let shown = render("f.toml", text, &errors);
    for error in &errors {
        let place = format!("f.toml:{}:{}: error: ", error.line, error.column);
        assert!(shown.contains(&place), "{shown}");
    }
}

/// A line of a service that has all it needs; it is line 5.
#[track_caller]
pub(crate) fn check_service(line: &str, wanted: &[&str]) {
    let service = "[[service]]\nname = \"a\"\nlisten = \"0.0.0.0:80/tcp\"\n";
    check(
        &format!("{service}backends = [\"10.0.0.1:80\"]\n{line}\n"),
        wanted,
    );
}

/// A listen, in line 4.
#[track_caller]
pub(crate) fn check_listen(listen: &str, wanted: &[&str]) {
    check(
        &format!("[[service]]\nname = \"a\"\nbackends = []\nlisten = {listen}\n"),
        wanted,
    );
}

/// A backend, in line 5 from column 3 on.
#[track_caller]
pub(crate) fn check_backend(backend: &str, wanted: &[&str]) {
    let service = "[[service]]\nname = \"a\"\nlisten = \"0.0.0.0:80/tcp\"\n";
    check(&format!("{service}backends = [\n  {backend},\n]\n"), wanted);
}

/// The keys of a route after a service `a` with a listen; the header is line 5.
#[track_caller]
pub(crate) fn check_route(keys: &str, wanted: &[&str]) {
    let service = "[[service]]\nname = \"a\"\nlisten = \"0.0.0.0:80/http\"\n";
    check(
        &format!("{service}backends = [\"10.0.0.1:80\"]\n[[route]]\n{keys}"),
        wanted,
    );
}
