//! Pages: `error-pages` and `intercept`, and the page of a maintenance.

use plimsoll_model::{ErrorPages, ErrorStatus, Intercept, Page};

use crate::diagnostic::quote;
use crate::fields::{Faults, Node, Place, Table};
use crate::files::Files;

const STATUS: &str = "a status from 400 to 599, or 4xx or 5xx for all of a class";
const PAGE: &str = "a file that ends in .html, .htm, .xhtml, .txt, .json or .xml";

/// A page by the name of its file; none if files are not read, either.
pub(crate) fn page(node: &Node<'_>, faults: &mut Faults) -> Option<Page> {
    let file = node.label(faults)?;
    if !faults.name_file(file) {
        let fault = node.fault(format!("more than {} files", Files::MAX));
        faults.push(fault.expected(format!("at most {}", Files::MAX)));
        return None;
    }
    let text = faults.file(file);
    let is_read = text.is_some();
    // What it is called can be judged without it.
    let page = match text.unwrap_or_else(|| Ok("-".into())) {
        Ok(text) => Page::new(file, text),
        Err(why) => {
            faults.push(node.fault(why).expected(PAGE));
            return None;
        }
    };
    match page {
        Ok(page) => is_read.then_some(page),
        Err(error) => {
            faults.push(node.invalid(&error, PAGE));
            None
        }
    }
}

/// `error-pages`: a table of statuses and files.
pub(crate) fn error_pages(table: &Table<'_>, faults: &mut Faults) -> ErrorPages {
    let mut pages = ErrorPages::default();
    let expected = "a table such as { 503 = \"sorry.html\", 5xx = \"error.html\" }";
    let Some(table) = table
        .get("error-pages")
        .and_then(|node| node.table(expected, faults))
    else {
        return pages;
    };
    let mut entries: Vec<_> = table.entries().collect();
    entries.sort_by_key(|(_, span, _)| span.start);
    for (key, span, node) in entries {
        let place = Place {
            span,
            path: node.place.path.clone(),
        };
        let status: Result<ErrorStatus, _> = key.parse();
        let Ok(status) = status else {
            let fault = place.fault(format!("`{}` is no status of an error", quote(key)));
            faults.push(fault.expected(STATUS));
            continue;
        };
        if let Some(page) = page(&node, faults)
            && pages.0.insert(status, page).is_some()
        {
            let fault = place.fault(format!("a page for {status} is there twice"));
            faults.push(fault.expected("every status once"));
        }
    }
    pages
}

/// `intercept`: true, or statuses.
pub(crate) fn intercept(table: &Table<'_>, faults: &mut Faults) -> Intercept {
    let mut intercept = Intercept::default();
    let Some(node) = table.get("intercept") else {
        return intercept;
    };
    if node.is_boolean() {
        if node.boolean(faults) == Some(true) {
            intercept.0.extend(ErrorStatus::ALL);
        }
        return intercept;
    }
    let expected = "true, or statuses such as [404, \"5xx\"]";
    for node in node.one_or_many(ErrorStatus::MOST, faults) {
        let status = match node.is_integer() {
            true => node.integer(400, 599, faults).map(ErrorStatus::One),
            false if node.is_string() => node.parsed(STATUS, faults),
            false => {
                faults.push(node.wrong_type(expected));
                None
            }
        };
        let Some(status) = status else {
            continue;
        };
        if !intercept.0.insert(status) {
            let fault = node.fault(format!("{status} is there twice"));
            faults.push(fault.expected("every status once"));
        }
    }
    intercept
}
