//! Pages in place of answers that say no: our own, and those of backends where that is wanted.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;
use plimsoll_model::ErrorStatus;

use super::Client;
use super::ruled::Ruled;

/// What is put into a page where it says so.
const MARKS: [(&str, Mark); 3] = [
    ("{{status}}", Mark::Status),
    ("{{reason}}", Mark::Reason),
    ("{{request-id}}", Mark::Id),
];

/// What a header says of a body that is not sent.
const OF_BODIES: [HeaderName; 14] = [
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_DISPOSITION,
    header::ACCEPT_RANGES,
    header::ETAG,
    header::LAST_MODIFIED,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

/// A page, ready.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    media_type: HeaderValue,
    /// Whether what is put in needs no escapes.
    plain: bool,
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Bytes),
    Mark(Mark),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Status,
    /// In words.
    Reason,
    /// Of the request; nothing if it has none.
    Id,
}

/// A page as one client gets it.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) media_type: HeaderValue,
    pub(super) body: Bytes,
}

/// The text of a page, shared with the model.
struct Text(Arc<str>);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Page {
    pub(crate) fn new(page: &plimsoll_model::Page) -> Self {
        let media_type = page.media_type();
        Self {
            media_type: HeaderValue::from_static(media_type),
            plain: media_type.starts_with("text/plain"),
            parts: parts(&Bytes::from_owner(Text(page.text().clone()))),
        }
    }

    fn show(&self, status: StatusCode, id: Option<&HeaderValue>) -> Shown {
        let body = match self.parts.as_slice() {
            [Part::Text(text)] => text.clone(),
            parts => {
                let mut body = BytesMut::new();
                for part in parts {
                    match part {
                        Part::Text(text) => body.put_slice(text),
                        Part::Mark(Mark::Status) => body.put_slice(status.as_str().as_bytes()),
                        Part::Mark(Mark::Reason) => {
                            let reason = status.canonical_reason().unwrap_or_default();
                            self.put(reason.as_bytes(), &mut body);
                        }
                        Part::Mark(Mark::Id) => {
                            self.put(id.map_or(b"", HeaderValue::as_bytes), &mut body);
                        }
                    }
                }
                body.freeze()
            }
        };
        Shown {
            media_type: self.media_type.clone(),
            body,
        }
    }

    /// Writes visible ASCII, which may be a client's, so that it is nothing but text: what means
    /// something in HTML, XML or JSON becomes an underscore. Ids have none of that.
    fn put(&self, text: &[u8], body: &mut BytesMut) {
        let special = |b: u8| b"<>&\"'\\".contains(&b);
        body.extend(text.iter().map(|b| match special(*b) && !self.plain {
            true => b'_',
            false => *b,
        }));
    }
}

/// The parts of a text, by what is to be put in.
fn parts(text: &Bytes) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = text.clone();
    loop {
        let found = MARKS.iter().filter_map(|(word, mark)| {
            let at = memmem::find(&rest, word.as_bytes())?;
            Some((at, word.len(), *mark))
        });
        let Some((at, length, mark)) = found.min_by_key(|(at, ..)| *at) else {
            break;
        };
        let before = rest.split_to(at);
        if !before.is_empty() {
            parts.push(Part::Text(before));
        }
        parts.push(Part::Mark(mark));
        drop(rest.split_to(length));
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(Part::Text(rest));
    }
    parts
}

/// [`plimsoll_model::ErrorPages`], ready.
#[derive(Debug, Default)]
pub(crate) struct ErrorPages(BTreeMap<ErrorStatus, Page>);

impl ErrorPages {
    pub(crate) fn new(pages: &plimsoll_model::ErrorPages) -> Self {
        let pages = pages.0.iter();
        Self(pages.map(|(of, page)| (*of, Page::new(page))).collect())
    }

    pub(super) fn get(&self, status: StatusCode) -> Option<&Page> {
        let status = status.as_u16();
        let one = self.0.get(&ErrorStatus::One(status));
        one.or_else(|| self.0.get(&ErrorStatus::Class(status / 100)))
    }
}

/// Pages for all services, and for answers that belong to none. Whoever holds it can change them
/// while the plane runs: each answer is by what it holds then.
#[derive(Clone, Debug, Default)]
pub struct CommonPages(Arc<ArcSwap<ErrorPages>>);

impl CommonPages {
    /// From now on it is these.
    pub fn set(&self, pages: &plimsoll_model::ErrorPages) {
        self.0.store(Arc::new(ErrorPages::new(pages)));
    }
}

/// The page for an answer of this status, if there is one: its `own`, one of the service, or one that
/// is for all.
pub(super) fn page_for(
    client: &Client,
    own: Option<&Page>,
    ruled: Option<&Ruled>,
    status: StatusCode,
) -> Option<Shown> {
    if !status.is_client_error() && !status.is_server_error() {
        return None;
    }
    let id = ruled.and_then(Ruled::id);
    let of_service = || ruled?.error_page(status);
    if let Some(page) = own.or_else(of_service) {
        return Some(page.show(status, id));
    }
    let common = client.worker.shared.pages.0.load();
    common.get(status).map(|page| page.show(status, id))
}

/// Makes the header of a backend's response that of a page.
pub(super) fn replace(headers: &mut HeaderMap, media_type: HeaderValue) {
    for name in &OF_BODIES {
        headers.remove(name);
    }
    headers.insert(header::CONTENT_TYPE, media_type);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(file: &str, text: &str, id: &'static str) -> String {
        let page = plimsoll_model::Page::new(file, text.into()).unwrap();
        let id = HeaderValue::from_static(id);
        let shown = Page::new(&page).show(StatusCode::NOT_FOUND, Some(&id));
        String::from_utf8(shown.body.to_vec()).unwrap()
    }

    #[test]
    fn marks_are_filled_in() {
        for (text, wanted) in [
            (
                "plain {status} {{ status }} {{",
                "plain {status} {{ status }} {{",
            ),
            ("{{status}}", "404"),
            ("a{{reason}}b{{status}}{{status}}", "aNot Foundb404404"),
            ("{{{status}}} {{request-id}}", "{404} abc"),
        ] {
            assert_eq!(shown("x.html", text, "abc"), wanted);
        }
    }

    #[test]
    fn ids_of_clients_stay_text() {
        let text = "\"{{request-id}}\"";
        for file in ["x.html", "x.json", "x.xml"] {
            assert_eq!(shown(file, text, "a<b>&'\"\\-1"), "\"a_b_____-1\"");
        }
        assert_eq!(shown("x.txt", text, "<a>"), "\"<a>\"");
    }
}
