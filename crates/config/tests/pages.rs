//! Pages: files that a text names, and what is wrong with them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use plimsoll_config::{Config, Diagnostic, Files, named_files, parse, parse_with};
use plimsoll_model::{Page, ServiceHttp};

/// What is read where these are the files that there are.
fn read(text: &str, files: &[(&str, &str)]) -> Result<Config, Vec<Diagnostic>> {
    let files = Files::read(named_files(text), |name| {
        let file = files.iter().find(|(known, _)| *known == name);
        let text = file.map(|(_, text)| (*text).to_owned());
        text.ok_or_else(|| format!("/etc/{name}: cannot be read: no such file"))
    });
    parse_with("file:x", text, &files)
}

fn said(text: &str, files: &[(&str, &str)]) -> Vec<String> {
    let faults = read(text, files).unwrap_err();
    faults.iter().map(ToString::to_string).collect()
}

const SERVICE: &str = "[[service]]\nname = \"a\"\nlisten = \"*:80/http\"\nbackends = []\n";

#[test]
fn each_file_is_named_once_whatever_else_is_wrong() {
    let text = format!(
        "{SERVICE}colour = 1\nerror-pages = {{ 503 = \"b.html\", 5xx = \"a.txt\" }}\n\
         maintenance = {{ page = \"b.html\" }}\n[error-pages]\n4xx = \"/c.json\"\n"
    );
    assert_eq!(named_files(&text), ["/c.json", "a.txt", "b.html"]);
    assert_eq!(named_files("no = toml = at all"), [""; 0]);
}

#[test]
fn pages_are_what_their_files_say() {
    let text = format!(
        "{SERVICE}error-pages = {{ 503 = \"b.html\", 5XX = \"a.txt\" }}\n\
         maintenance = {{ on = false, page = \"b.html\" }}\nintercept = [404, \"5xx\"]\n\
         [[service]]\nname = \"b\"\nlisten = \"*:81/http\"\nbackends = []\nintercept = true\n\
         [error-pages]\n4xx = \"c.json\"\n"
    );
    let files = [("a.txt", "A"), ("b.html", "B"), ("c.json", "{}")];
    let config = read(&text, &files).unwrap();
    let http = |at: usize| -> &ServiceHttp {
        let service = config.services.get(at).unwrap();
        service.spec.http.as_deref().unwrap()
    };
    let said = |page: Option<&Page>| page.map(|page| page.text().to_string());
    let pages = &http(0).error_pages;
    assert_eq!(said(pages.get(503)).as_deref(), Some("B"));
    assert_eq!(said(pages.get(500)).as_deref(), Some("A"));
    assert_eq!(said(pages.get(404)), None);
    let maintenance = http(0).maintenance.as_ref().unwrap();
    assert_eq!(said(maintenance.page.as_ref()).as_deref(), Some("B"));
    assert_eq!(http(0).intercept.to_string(), "404, 5xx");
    assert_eq!(http(1).intercept.to_string(), "4xx, 5xx");
    assert_eq!(said(config.error_pages.get(404)).as_deref(), Some("{}"));
    // Without files the rest is the same.
    let without = parse("file:x", &text).unwrap();
    assert!(without.error_pages.is_empty());
    assert_eq!(without.services.len(), 2);
}

#[test]
fn what_is_wrong_with_a_file_is_said_where_it_is_named() {
    let line = |line: &str| format!("{SERVICE}{line}\n");
    let long = "x".repeat(Page::MAX_BYTES + 1);
    let files = [("a.html", "A"), ("e.html", ""), ("l.html", &*long)];
    for (text, wanted) in [
        (
            "error-pages = { 503 = \"b.html\" }",
            "5:23: service[0].error-pages.503: /etc/b.html: cannot be read: no such file; expected \
             a file that ends in .html",
        ),
        (
            "error-pages = { 503 = \"503.http\" }",
            "5:23: service[0].error-pages.503: /etc/503.http: cannot be read",
        ),
        (
            "error-pages = { 503 = \"e.html\" }",
            "5:23: service[0].error-pages.503: e.html: is empty; expected a file that ends in .html",
        ),
        (
            "maintenance = { page = \"l.html\" }",
            "5:24: service[0].maintenance.page: l.html: is 262145 bytes long",
        ),
        (
            "error-pages = { 302 = \"a.html\" }",
            "5:17: service[0].error-pages.302: `302` is no status of an error; expected a status \
             from 400 to 599",
        ),
        (
            "error-pages = { 5xx = \"a.html\", 5XX = \"a.html\" }",
            "5:33: service[0].error-pages.5XX: a page for 5xx is there twice",
        ),
        (
            "error-pages = \"a.html\"",
            "5:15: service[0].error-pages: wrong type, a string; expected a table such as",
        ),
        (
            "intercept = [404, 404]",
            "5:19: service[0].intercept[1]: 404 is there twice",
        ),
        (
            "intercept = 200",
            "5:13: service[0].intercept: 200 is out of range; expected a whole number from 400",
        ),
        (
            "intercept = \"6xx\"",
            "5:13: service[0].intercept: \"6xx\" is no status of an error; expected a status",
        ),
        (
            "intercept = [{}]",
            "5:14: service[0].intercept[0]: wrong type, a table; expected true, or statuses",
        ),
    ] {
        let said = said(&line(text), &files);
        let [only] = said.as_slice() else {
            panic!("{text}: {said:#?}");
        };
        assert!(only.starts_with(wanted), "{only}\n{wanted}");
    }
    let known = said(
        &line("error-pages = { 503 = \"503.http\" }"),
        &[("503.http", "x")],
    );
    let wanted = "does not say what kind of text it is; expected a file that ends in .html";
    assert!(known.iter().any(|said| said.contains(wanted)), "{known:?}");
}

#[test]
fn files_have_a_limit() {
    let lines = (400..600).map(|status| format!("{status} = \"{status}.html\""));
    let lines: Vec<String> = lines.collect();
    let all = lines.join(", ");
    let more = all.replace(".html", ".txt");
    let text = format!(
        "{SERVICE}error-pages = {{ {all} }}\n[[service]]\nname = \"b\"\nlisten = \"*:81/http\"\nbackends = []\n\
         error-pages = {{ {more} }}\n"
    );
    assert_eq!(named_files(&text).len(), Files::MAX);
    let faults = parse("file:x", &text).unwrap_err();
    let first = faults.first().map(ToString::to_string).unwrap_or_default();
    assert!(first.contains("more than 256 files"), "{first}");
}
